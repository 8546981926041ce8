//! Files: what works, each way out of the directory, and quotas to the byte.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use muscle_abi::capability::call::{OPEN_CREATE, OPEN_EXCLUSIVE, OPEN_TRUNCATE, OPEN_WRITE};
use muscle_abi::frame::ErrorCode;
use proptest::prelude::*;
use referee_bundle::CapabilityRequest;
use tempfile::TempDir;

use super::rig::{READ, Rig, read_write};
use crate::{BrokerLimits, ConsoleStreams, HostError, Resources};

const NEW: u32 = OPEN_WRITE | OPEN_CREATE;

/// A directory to grant, beside one that is not.
struct Place {
    _folder: TempDir,
    inside: PathBuf,
    outside: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("real");
        let (inside, outside) = (root.join("inside"), root.join("outside"));
        fs::create_dir(&inside).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("secret"), b"secret").expect("written");
        Place {
            _folder: folder,
            inside,
            outside,
        }
    }

    fn rig(&self, request: CapabilityRequest) -> Rig {
        let rights = if matches!(request, READ) { "ro" } else { "rw" };
        Rig::new(
            &[("dir", request)],
            &[format!("dir=dir:{}:{rights}", self.inside.display())],
        )
    }
}

#[test]
fn a_file_is_made_written_read_listed_renamed_and_removed() {
    let place = Place::new();
    let mut rig = place.rig(read_write(1000, 10));
    assert!(rig.texts("files.mkdir", &["d"]).is_null());
    let file = rig.open("d/a.txt", NEW | OPEN_EXCLUSIVE).number();
    assert!(rig.write(file, 0, b"hello").is_null());
    assert!(rig.write(file, 7, b"!").is_null());
    assert_eq!(rig.read(file, 0, 100).bytes(), b"hello\0\0!");
    assert_eq!(rig.read(file, 6, 1).bytes(), b"\0");
    assert_eq!(rig.read(file, 8, 100).bytes(), b"");
    assert!(rig.truncate(file, 4).is_null());
    assert!(rig.close(file).is_null());
    assert_eq!(rig.read(file, 0, 1).code(), Some(ErrorCode::StaleHandle));
    assert_eq!(fs::read(place.inside.join("d/a.txt")).expect("there"), b"hell");
    assert!(rig.texts("files.rename", &["d/a.txt", "b.txt"]).is_null());
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let listed = encoder
        .array(2)
        .and_then(|out| out.array(2))
        .and_then(|out| out.str("b.txt"));
    let listed = listed.and_then(|out| out.u32(0)).and_then(|out| out.array(2));
    listed
        .and_then(|out| out.str("d"))
        .and_then(|out| out.u32(1))
        .expect("a vector");
    assert_eq!(rig.texts("files.list", &["."]).1, encoder.into_writer());
    assert_eq!(rig.texts("files.stat", &["b.txt"]).1, [0x82, 0, 4]);
    assert_eq!(rig.texts("files.stat", &["./d/"]).1[..2], [0x82, 1]);
    assert_eq!(rig.texts("files.stat", &["."]).1[..2], [0x82, 1]);
    assert!(rig.texts("files.remove", &["b.txt"]).is_null());
    assert!(rig.texts("files.remove", &["d"]).is_null());
    assert_eq!(fs::read_dir(&place.inside).expect("there").count(), 0);
    for record in rig.records() {
        assert_eq!(
            (&record["slot"], &record["capability"]),
            (&"dir".into(), &"files".into())
        );
    }
}

#[test]
fn every_way_out_of_the_directory_is_denied_and_recorded() {
    let place = Place::new();
    symlink(&place.outside, place.inside.join("link")).expect("linked");
    symlink("../outside/secret", place.inside.join("file-link")).expect("linked");
    symlink("/proc/self/root", place.inside.join("magic")).expect("linked");
    fs::create_dir(place.inside.join("d")).expect("made");
    symlink("../d", place.inside.join("d/inner")).expect("linked");
    let absolute = place.outside.join("secret").display().to_string();
    let mut rig = place.rig(read_write(1000, 10));
    let ways = [
        "..",
        "../outside/secret",
        "d/../../outside/secret",
        "d/..",
        "/etc/passwd",
        absolute.as_str(),
        "link/secret",
        "file-link",
        "magic/etc/passwd",
        "magic",
        "d/inner/x",
    ];
    for way in ways {
        for flags in [0, OPEN_WRITE, NEW] {
            assert_eq!(
                rig.open(way, flags).code(),
                Some(ErrorCode::Denied),
                "{way} {flags}"
            );
            let record = rig.last_record();
            assert_eq!(
                (&record["kind"], &record["op"]),
                (&"deny".into(), &"files.open".into())
            );
            assert_eq!(record["detail"]["path"]["text"], way);
        }
        assert_eq!(
            rig.texts("files.list", &[way]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
    }
    for way in ["../x", "link/x", "/x", "d/inner/x", "magic/tmp/x"] {
        assert_eq!(
            rig.texts("files.stat", &[way]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
        assert_eq!(
            rig.texts("files.remove", &[way]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
        assert_eq!(
            rig.texts("files.mkdir", &[way]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
        assert_eq!(
            rig.texts("files.rename", &["d", way]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
        assert_eq!(
            rig.texts("files.rename", &[way, "e"]).code(),
            Some(ErrorCode::Denied),
            "{way}"
        );
    }
    // The link itself may be looked at and removed; what it leads to stays.
    assert_eq!(rig.texts("files.stat", &["file-link"]).1[..2], [0x82, 2]);
    assert!(rig.texts("files.remove", &["file-link"]).is_null());
    assert_eq!(fs::read(place.outside.join("secret")).expect("there"), b"secret");
}

#[test]
fn a_hard_link_may_be_read_and_not_written() {
    let place = Place::new();
    fs::hard_link(place.outside.join("secret"), place.inside.join("twin")).expect("linked");
    let mut rig = place.rig(read_write(1000, 10));
    assert_eq!(rig.open("twin", OPEN_WRITE).code(), Some(ErrorCode::Denied));
    assert_eq!(
        rig.open("twin", OPEN_WRITE | OPEN_TRUNCATE).code(),
        Some(ErrorCode::Denied)
    );
    assert_eq!(rig.open("twin", NEW).code(), Some(ErrorCode::Denied));
    let file = rig.open("twin", 0).number();
    assert_eq!(rig.read(file, 0, 9).bytes(), b"secret");
    assert_eq!(rig.write(file, 0, b"x").code(), Some(ErrorCode::Denied));
    assert_eq!(rig.truncate(file, 0).code(), Some(ErrorCode::Denied));
    assert_eq!(fs::read(place.outside.join("secret")).expect("there"), b"secret");
}

#[test]
fn only_files_are_opened() {
    let place = Place::new();
    fs::create_dir(place.inside.join("d")).expect("made");
    rustix::fs::mkfifoat(rustix::fs::CWD, place.inside.join("pipe"), rustix::fs::Mode::RUSR).expect("made");
    let _socket = std::os::unix::net::UnixListener::bind(place.inside.join("sock")).expect("bound");
    let mut rig = place.rig(read_write(1000, 10));
    for path in ["d", ".", "pipe", "sock"] {
        assert_eq!(rig.open(path, 0).code(), Some(ErrorCode::Invalid), "{path}");
        assert_eq!(
            rig.open(path, OPEN_WRITE).code(),
            Some(ErrorCode::Invalid),
            "{path}"
        );
    }
    assert_eq!(
        rig.texts("files.list", &["pipe"]).code(),
        Some(ErrorCode::Invalid)
    );
    for flags in [
        OPEN_CREATE,
        OPEN_TRUNCATE,
        OPEN_WRITE | OPEN_EXCLUSIVE,
        16,
        u32::MAX,
    ] {
        assert_eq!(rig.open("new", flags).code(), Some(ErrorCode::Invalid), "{flags}");
    }
    assert_eq!(rig.open("missing", OPEN_WRITE).code(), Some(ErrorCode::NotFound));
    assert_eq!(rig.open("d/x/y", NEW).code(), Some(ErrorCode::NotFound));
    assert_eq!(rig.last_record()["kind"], "use", "allowed, and came to nothing");
}

#[test]
fn a_directory_for_reading_is_not_changed() {
    let place = Place::new();
    fs::write(place.inside.join("a"), b"a").expect("written");
    let mut rig = place.rig(READ);
    let file = rig.open("a", 0).number();
    for denied in [
        rig.open("a", OPEN_WRITE),
        rig.open("new", NEW),
        rig.write(file, 0, b"x"),
        rig.truncate(file, 0),
        rig.texts("files.remove", &["a"]),
        rig.texts("files.rename", &["a", "b"]),
        rig.texts("files.mkdir", &["d"]),
    ] {
        assert_eq!(denied.code(), Some(ErrorCode::Denied));
    }
    assert_eq!(rig.read(file, 0, 9).bytes(), b"a");
    assert_eq!(fs::read(place.inside.join("a")).expect("there"), b"a");
    assert_eq!(fs::read_dir(&place.inside).expect("there").count(), 1);
}

#[test]
fn byte_quotas_are_exact_and_what_is_taken_away_comes_back() {
    let place = Place::new();
    let mut rig = place.rig(read_write(10, 10));
    let file = rig.open("a", NEW).number();
    assert!(rig.write(file, 0, b"0123456789").is_null());
    assert_eq!(rig.write(file, 10, b"!").code(), Some(ErrorCode::Quota));
    assert_eq!(
        rig.write(file, 3, b"01234567").code(),
        Some(ErrorCode::Quota),
        "one byte past the end"
    );
    assert_eq!(rig.truncate(file, 11).code(), Some(ErrorCode::Quota));
    assert_eq!(rig.last_record()["kind"], "deny");
    assert!(
        rig.write(file, 0, b"9876543210").is_null(),
        "writing over costs nothing"
    );
    assert!(
        rig.write(file, 1000, b"").is_null(),
        "nothing written is nothing grown"
    );
    assert!(rig.truncate(file, 4).is_null());
    let other = rig.open("b", NEW).number();
    assert!(rig.write(other, 0, b"123456").is_null());
    assert_eq!(rig.write(other, 6, b"7").code(), Some(ErrorCode::Quota));
    assert_eq!(
        rig.texts("files.remove", &["a"]).code(),
        Some(ErrorCode::Invalid),
        "it is open"
    );
    assert_eq!(
        rig.texts("files.rename", &["b", "a"]).code(),
        Some(ErrorCode::Invalid),
        "it is open"
    );
    assert!(rig.close(file).is_null());
    assert!(rig.texts("files.remove", &["a"]).is_null());
    assert!(rig.write(other, 6, b"7890").is_null());
    assert_eq!(rig.write(other, u64::MAX, b"x").code(), Some(ErrorCode::Invalid));
    assert_eq!(
        rig.write(other, i64::MAX as u64, b"x").code(),
        Some(ErrorCode::Invalid)
    );
    assert_eq!(rig.truncate(other, u64::MAX).code(), Some(ErrorCode::Invalid));
    assert_eq!(rig.read(other, u64::MAX, 1).code(), Some(ErrorCode::Invalid));
}

#[test]
fn removing_what_was_there_before_does_not_raise_the_quota() {
    let place = Place::new();
    fs::write(place.inside.join("old"), [0; 1000]).expect("written");
    let mut rig = place.rig(read_write(10, 1));
    assert!(rig.texts("files.remove", &["old"]).is_null());
    let file = rig.open("new", NEW).number();
    assert_eq!(rig.write(file, 0, &[0; 11]).code(), Some(ErrorCode::Quota));
    assert!(rig.write(file, 0, &[0; 10]).is_null());
}

#[test]
fn replacing_by_rename_gives_back_what_it_replaced() {
    let place = Place::new();
    let mut rig = place.rig(read_write(10, 2));
    for name in ["a", "b"] {
        let file = rig.open(name, NEW).number();
        assert!(rig.write(file, 0, b"12345").is_null());
        assert!(rig.close(file).is_null());
    }
    assert_eq!(rig.open("c", NEW).code(), Some(ErrorCode::Quota));
    assert!(rig.texts("files.rename", &["a", "b"]).is_null());
    assert!(
        rig.texts("files.rename", &["b", "b"]).is_null(),
        "to itself: nothing changes"
    );
    let file = rig.open("c", NEW).number();
    assert_eq!(rig.write(file, 0, b"123456").code(), Some(ErrorCode::Quota));
    assert!(rig.write(file, 0, b"12345").is_null());
}

#[test]
fn file_quotas_are_exact_and_directories_count() {
    let place = Place::new();
    let mut rig = place.rig(read_write(0, 2));
    assert!(rig.texts("files.mkdir", &["d"]).is_null());
    let file = rig.open("d/a", NEW).number();
    assert_eq!(rig.write(file, 0, b"x").code(), Some(ErrorCode::Quota));
    assert_eq!(rig.open("b", NEW).code(), Some(ErrorCode::Quota));
    assert_eq!(rig.texts("files.mkdir", &["e"]).code(), Some(ErrorCode::Quota));
    assert_eq!(
        rig.texts("files.remove", &["d"]).code(),
        Some(ErrorCode::Invalid),
        "it is not empty"
    );
    assert!(rig.close(file).is_null());
    assert!(rig.texts("files.remove", &["d/a"]).is_null());
    rig.open("b", NEW | OPEN_EXCLUSIVE).number();
    assert_eq!(rig.open("b", NEW | OPEN_EXCLUSIVE).code(), Some(ErrorCode::Quota));
    // A name that is taken costs nothing.
    let again = rig.open("b", NEW).number();
    assert!(rig.close(again).is_null());
    assert_eq!(fs::read_dir(&place.inside).expect("there").count(), 2);
}

#[test]
fn open_files_are_counted() {
    let place = Place::new();
    fs::write(place.inside.join("a"), b"a").expect("written");
    let limits = BrokerLimits {
        open_files: 3,
        ..BrokerLimits::default()
    };
    let bind = format!("dir=dir:{}:ro", place.inside.display());
    let mut rig = Rig::with(&[("dir", READ)], &[bind], b"", limits);
    let files = [0; 3].map(|flags| rig.open("a", flags).number());
    assert_eq!(rig.open("a", 0).code(), Some(ErrorCode::Quota));
    assert!(rig.close(files[1]).is_null());
    let next = rig.open("a", 0).number();
    assert!(!files.contains(&next), "numbers are not used again at once");
    assert_eq!(rig.close(files[1]).code(), Some(ErrorCode::StaleHandle));
}

#[test]
fn a_directory_too_large_for_an_answer_is_refused_and_odd_names_are_left_out() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    for number in 0..100 {
        fs::write(place.inside.join(format!("file-{number:03}")), b"").expect("written");
    }
    fs::write(place.inside.join(std::ffi::OsStr::from_bytes(b"\xff")), b"").expect("written");
    let bind = || format!("dir=dir:{}:ro", place.inside.display());
    let with = |max_chunk| {
        let limits = BrokerLimits {
            max_chunk,
            ..BrokerLimits::default()
        };
        Rig::with(&[("dir", READ)], &[bind()], b"", limits).texts("files.list", &["."])
    };
    assert_eq!(with(100 * 13 - 1).code(), Some(ErrorCode::TooLarge));
    let reply = with(100 * 13);
    let mut decoder = minicbor::Decoder::new(&reply.1);
    assert_eq!(decoder.array().ok(), Some(Some(100)));
    assert!(reply.1.len() <= 100 * 13 + 5);
}

#[test]
fn a_directory_that_became_a_link_after_the_decision_is_not_opened() {
    let place = Place::new();
    let grants = super::rig::grants(
        &[("dir", READ)],
        &[format!("dir=dir:{}:ro", place.inside.display())],
    );
    fs::remove_dir(&place.inside).expect("removed");
    symlink(&place.outside, &place.inside).expect("linked");
    let (streams, ..) = ConsoleStreams::memory(Vec::new());
    assert!(matches!(
        Resources::acquire(&grants, streams),
        Err(HostError::OpenDirectory { slot, .. }) if slot == "dir"
    ));
}

#[derive(Debug, Clone)]
enum Step {
    Open(u8, u32),
    Write(u8, u64, usize),
    Truncate(u8, u64),
    Close(u8),
    Remove(u8),
    Rename(u8, u8),
    Mkdir(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let flags = prop_oneof![
        Just(0),
        Just(NEW),
        Just(NEW | OPEN_TRUNCATE),
        Just(NEW | OPEN_EXCLUSIVE)
    ];
    prop_oneof![
        4 => (0u8..4, flags).prop_map(|(name, flags)| Step::Open(name, flags)),
        4 => (0u8..8, 0u64..40, 0usize..40).prop_map(|(file, at, length)| Step::Write(file, at, length)),
        2 => (0u8..8, 0u64..60).prop_map(|(file, length)| Step::Truncate(file, length)),
        2 => (0u8..8).prop_map(Step::Close),
        2 => (0u8..4).prop_map(Step::Remove),
        2 => (0u8..4, 0u8..4).prop_map(|(from, to)| Step::Rename(from, to)),
        1 => (0u8..4).prop_map(Step::Mkdir),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever a muscle does, the directory never holds more than the quotas allow.
    #[test]
    fn the_directory_never_outgrows_its_quotas(steps in proptest::collection::vec(step(), 1..60)) {
        let place = Place::new();
        let mut rig = place.rig(read_write(50, 3));
        for step in steps {
            match step {
                Step::Open(name, flags) => rig.open(&format!("f{name}"), flags),
                Step::Write(file, at, length) => rig.write(u32::from(file), at, &vec![1; length]),
                Step::Truncate(file, length) => rig.truncate(u32::from(file), length),
                Step::Close(file) => rig.close(u32::from(file)),
                Step::Remove(name) => rig.texts("files.remove", &[&format!("f{name}")]),
                Step::Rename(from, to) => rig.texts("files.rename", &[&format!("f{from}"), &format!("f{to}")]),
                Step::Mkdir(name) => rig.texts("files.mkdir", &[&format!("f{name}")]),
            };
            let (mut bytes, mut count) = (0, 0);
            for entry in fs::read_dir(&place.inside).expect("there") {
                let status = entry.expect("an entry").metadata().expect("a status");
                count += 1;
                bytes += if status.is_file() { status.len() } else { 0 };
            }
            prop_assert!(bytes <= 50 && count <= 3, "{bytes} bytes in {count} files");
        }
    }
}

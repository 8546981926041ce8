//! Grants made smaller while files are open.

use muscle_abi::capability::{CapabilityKind, call};
use muscle_abi::frame::ErrorCode;
use referee_bundle::CapabilityRequest;
use referee_policy::{Loans, Narrowing, Standings};

use super::rig::{Rig, grants, read_write};

const WRITE: u32 = call::OPEN_WRITE;
const MAKE: u32 = call::OPEN_WRITE | call::OPEN_CREATE;

/// A directory with `a/x`, `a/b/y` and `c/z`.
struct Tree {
    folder: tempfile::TempDir,
    rig: Rig,
    slots: Vec<(&'static str, CapabilityRequest)>,
    binds: Vec<String>,
}

impl Tree {
    fn new() -> Tree {
        let folder = tempfile::tempdir().expect("a folder");
        for (path, text) in [("a/x", "ax"), ("a/b/y", "aby"), ("c/z", "cz")] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().expect("has one")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        let path = folder.path().canonicalize().expect("real");
        let slots = vec![("dir", read_write(100, 10))];
        let binds = vec![format!("dir=dir:{}:rw", path.display())];
        let rig = Rig::new(&slots, &binds);
        Tree {
            folder,
            rig,
            slots,
            binds,
        }
    }

    fn narrow(&mut self, narrowing: &Narrowing) {
        let mut standings = Standings::default();
        standings.narrow("dir", narrowing);
        let left = grants(&self.slots, &self.binds).left(&standings, &Loans::default());
        self.rig.broker.leave("dir", left.slot("dir"));
    }

    #[track_caller]
    fn denied(&mut self, name: &str, texts: &[&str]) {
        assert_eq!(
            self.rig.texts(name, texts).code(),
            Some(ErrorCode::Denied),
            "{name} {texts:?}"
        );
        let record = self.rig.last_record();
        assert_eq!(
            (&record["kind"], &record["slot"]),
            (&"deny".into(), &"dir".into())
        );
        let why = record["detail"]["why"].to_string();
        assert!(why.contains("narrowed") || why.contains("revoked"), "{why}");
    }
}

fn within(path: &str) -> Narrowing {
    Narrowing {
        within: Some(path.into()),
        ..Narrowing::default()
    }
}

#[test]
fn a_part_of_a_directory_is_all_that_is_left() {
    let mut tree = Tree::new();
    let inside = tree.rig.open("a/b/y", WRITE).number();
    let outside = tree.rig.open("c/z", 0).number();
    tree.narrow(&within("a"));
    assert_eq!(tree.rig.read(inside, 0, 9).bytes(), b"aby");
    assert_eq!(
        tree.rig.read(outside, 0, 9).code(),
        Some(ErrorCode::StaleHandle),
        "it is closed"
    );
    assert_eq!(tree.rig.open("a/x", 0).code(), None);
    assert_eq!(tree.rig.open("./a//x", 0).code(), None);
    for path in ["c/z", "ab", ".", "a/../c/z", "c"] {
        assert_eq!(tree.rig.open(path, 0).code(), Some(ErrorCode::Denied), "{path}");
    }
    for path in [".", "c", "c/z", "nothing"] {
        tree.denied("files.stat", &[path]);
        tree.denied("files.list", &[path]);
        tree.denied("files.remove", &[path]);
        tree.denied("files.mkdir", &[path]);
    }
    // The place itself can be looked at; its name is not the grant's to change.
    assert_eq!(tree.rig.texts("files.list", &["a"]).code(), None);
    tree.denied("files.rename", &["a", "a/d"]);
    tree.denied("files.rename", &["a/x", "c/x"]);
    tree.denied("files.rename", &["c/z", "a/z"]);
    tree.denied("files.remove", &["a"]);
    assert!(tree.rig.texts("files.rename", &["a/x", "a/w"]).is_null());
    // Smaller once more.
    tree.narrow(&within("a/b"));
    tree.denied("files.stat", &["a/w"]);
    assert_eq!(tree.rig.read(inside, 0, 9).bytes(), b"aby");
}

#[test]
fn a_file_that_was_renamed_into_the_part_or_out_of_it_is_closed() {
    let mut tree = Tree::new();
    let moved_out = tree.rig.open("a/x", 0).number();
    let moved_in = tree.rig.open("c/z", 0).number();
    assert!(tree.rig.texts("files.rename", &["a/x", "c/x"]).is_null());
    assert!(tree.rig.texts("files.rename", &["c/z", "a/x"]).is_null());
    tree.narrow(&within("a"));
    for file in [moved_out, moved_in] {
        assert_eq!(tree.rig.read(file, 0, 9).code(), Some(ErrorCode::StaleHandle));
    }
}

#[test]
fn without_the_right_to_write_nothing_changes_through_what_is_open() {
    let mut tree = Tree::new();
    let file = tree.rig.open("a/x", WRITE).number();
    assert!(tree.rig.write(file, 0, b"AX").is_null());
    tree.narrow(&Narrowing {
        read_only: true,
        ..Narrowing::default()
    });
    assert_eq!(tree.rig.write(file, 0, b"no").code(), Some(ErrorCode::Denied));
    assert_eq!(
        tree.rig.last_record()["detail"]["why"],
        "the right to write was revoked"
    );
    assert_eq!(tree.rig.truncate(file, 0).code(), Some(ErrorCode::Denied));
    assert_eq!(tree.rig.open("a/new", MAKE).code(), Some(ErrorCode::Denied));
    tree.denied("files.remove", &["a/x"]);
    tree.denied("files.mkdir", &["a/d"]);
    assert_eq!(tree.rig.read(file, 0, 9).bytes(), b"AX");
    let text = std::fs::read_to_string(tree.folder.path().join("a/x")).expect("is there");
    assert_eq!(text, "AX");
}

#[test]
fn what_was_written_before_counts_against_a_lower_quota() {
    let mut tree = Tree::new();
    let file = tree.rig.open("a/new", MAKE).number();
    assert!(tree.rig.write(file, 0, &[1; 40]).is_null());
    let narrowing = Narrowing {
        max_bytes: Some(50),
        max_files: Some(1),
        ..Narrowing::default()
    };
    tree.narrow(&narrowing);
    assert_eq!(tree.rig.write(file, 40, &[1; 11]).code(), Some(ErrorCode::Quota));
    assert!(tree.rig.write(file, 40, &[1; 10]).is_null());
    assert_eq!(tree.rig.open("a/newer", MAKE).code(), Some(ErrorCode::Quota));
}

#[test]
fn a_revoked_directory_is_closed_with_everything_in_it() {
    let mut tree = Tree::new();
    let open = || {
        std::fs::read_dir("/proc/self/fd")
            .expect("is there")
            .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok())
            .collect::<Vec<_>>()
    };
    let place = tree.folder.path().canonicalize().expect("real");
    let file = tree.rig.open("a/x", 0).number();
    let ours = |all: Vec<std::path::PathBuf>| all.iter().filter(|path| path.starts_with(&place)).count();
    assert_eq!(ours(open()), 2, "the directory and the file");
    let handle = tree.rig.handle(CapabilityKind::Files);
    tree.rig.broker.leave("dir", None);
    assert_eq!(ours(open()), 0);
    assert_eq!(tree.rig.read(file, 0, 1).code(), Some(ErrorCode::StaleHandle));
    let record = tree.rig.last_record();
    assert_eq!(record["detail"]["why"], "the grant was revoked");
    assert_eq!(
        (&record["slot"], &record["capability"]),
        (&"dir".into(), &"files".into())
    );
    // Its place in the table stays, with the handle that is stale.
    assert_eq!(tree.rig.handle(CapabilityKind::Files), handle);
    tree.narrow(&within("a"));
    assert_eq!(
        tree.rig.read(file, 0, 1).code(),
        Some(ErrorCode::StaleHandle),
        "for good"
    );
}

#[test]
fn what_was_revoked_before_a_life_began_is_in_its_table_and_dead() {
    let tree = Tree::new();
    let mut standings = Standings::default();
    standings.revoke("dir");
    let granted = grants(&tree.slots, &tree.binds);
    let left = granted.left(&standings, &Loans::default());
    assert!(left.slots().is_empty());
    let (streams, ..) = crate::ConsoleStreams::memory(Vec::new());
    let resources = crate::Resources::acquire(&left, streams).expect("nothing is opened");
    let slots = crate::Slots {
        granted: &granted,
        left: &left,
    };
    let (audit, clock) = (tree.rig.audit.clone(), crate::CellClock::start());
    let mut broker =
        crate::Broker::new(slots, resources, audit, clock, crate::BrokerLimits::default()).expect("a broker");
    let entries = broker.entries();
    assert_eq!(
        (entries.len(), entries[0].kind),
        (1, CapabilityKind::Files as u32)
    );
    let mut reply = Vec::new();
    let kind = broker.call(entries[0].handle, "files.stat", &[0x81, 0x61, b'a'], &mut reply);
    assert_eq!(kind.expect("a reply"), muscle_abi::frame::FrameKind::Error);
    assert_eq!(tree.rig.last_record()["detail"]["why"], "the grant was revoked");
}

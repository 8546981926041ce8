//! Crashes, other processes, full disks.

use std::fs;
use std::io::Read;
use std::os::unix::fs::FileExt;

use proptest::prelude::*;

use super::*;
use crate::sink::AuditSink;
use crate::verify::{verify, verify_bytes};

const SOLE: Options = Options {
    sharing: Sharing::Sole,
    sync_each: false,
    guest: GuestText::Redact,
};
const SHARED: Options = Options {
    sharing: Sharing::Shared,
    ..SOLE
};

fn a_use(bytes: u64) -> [(&'static str, Value<'static>); 1] {
    [("bytes", Value::Number(bytes))]
}

fn append(log: &mut AuditLog, count: u64) {
    for number in 0..count {
        let detail = a_use(number);
        let event = Event {
            kind: Kind::Use,
            capability: Some("console"),
            slot: Some("console"),
            op: Some("console.out"),
            detail: &detail,
        };
        log.append("cell-1", "demo 1.0.0", &event)
            .expect("the disk takes records");
    }
}

#[test]
fn records_survive_closing_and_opening_and_jq_style_reading() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut log = AuditLog::open(&path, SOLE).expect("a new log");
    append(&mut log, 3);
    let head = log.head();
    drop(log);
    let mut log = AuditLog::open(&path, SOLE).expect("an old log");
    assert_eq!(log.head(), head);
    append(&mut log, 2);
    log.sync().expect("the disk syncs");
    let summary = verify(&path).expect("a whole log");
    assert_eq!(summary.head, log.head());
    assert_eq!(summary.head.records, 5);
    for (number, line) in fs::read_to_string(&path).expect("text").lines().enumerate() {
        let value: serde_json::Value = serde_json::from_str(line).expect("JSON");
        assert_eq!(value["seq"], number);
        assert_eq!(value["op"], "console.out");
    }
}

#[test]
fn a_log_cut_at_any_byte_recovers_and_says_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    append(&mut AuditLog::open(&path, SOLE).expect("a new log"), 3);
    let whole = fs::read(&path).expect("bytes");
    for cut in 0..=whole.len() {
        fs::write(&path, &whole[..cut]).expect("a cut log");
        let mut log = AuditLog::open(&path, SOLE).expect("a cut log opens");
        let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        let is_torn = cut > 0 && whole[cut - 1] != b'\n';
        assert_eq!(log.head().records, lines + u64::from(is_torn), "cut at {cut}");
        append(&mut log, 1);
        let bytes = fs::read(&path).expect("bytes");
        let summary = verify_bytes(&bytes).expect("a whole log");
        assert_eq!(summary.head, log.head());
        assert_eq!(
            is_torn,
            String::from_utf8_lossy(&bytes).contains(r#""kind":"recover""#),
            "cut at {cut}"
        );
    }
}

#[test]
fn each_way_to_change_a_line_is_found_and_named() {
    let mut log = AuditLog::in_memory(SOLE);
    append(&mut log, 3);
    let bytes = log.memory().expect("in memory").to_vec();
    let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let defect = |bytes: &[u8]| match verify_bytes(bytes) {
        Err(AuditError::Broken { line, defect, .. }) => (line, defect),
        other => panic!("not found: {other:?}"),
    };
    assert_eq!(
        defect(&[lines[0], lines[2]].concat()),
        (
            2,
            Defect::WrongSequence {
                expected: 1,
                found: 2
            }
        )
    );
    assert_eq!(
        defect(&bytes[..bytes.len() - 1]),
        (
            3,
            Defect::Torn {
                bytes: lines[2].len() - 1
            }
        )
    );
    let mut changed = bytes.clone();
    changed[lines[0].len() + 8] ^= 1;
    assert_eq!(defect(&changed), (2, Defect::WrongHash));
    assert_eq!(defect(b"{}\n"), (1, Defect::NoHash));
    assert_eq!(
        defect(&[b' '; 20_000]),
        (
            1,
            Defect::TooLong {
                max: crate::MAX_RECORD
            }
        )
    );
    // A line that was made anew, hash and all, does not follow.
    let mut other = AuditLog::in_memory(SOLE);
    append(&mut other, 1);
    let detail = a_use(99);
    other
        .append("x", "y", &Event::of_cell(Kind::End, &detail))
        .expect("in memory");
    let forged = other
        .memory()
        .expect("in memory")
        .split_inclusive(|byte| *byte == b'\n')
        .nth(1);
    let forged = forged.expect("two lines").to_vec();
    assert_eq!(defect(&[lines[0], &forged].concat()), (2, Defect::WrongPrevious));
    // A right hash over something that is no record.
    let body = br#"{"seq":0"#;
    let line = [
        &body[..],
        br#","hash":""#,
        Hash::of(body).to_string().as_bytes(),
        b"\"}\n",
    ]
    .concat();
    assert!(matches!(defect(&line), (1, Defect::NotARecord { .. })));
}

#[test]
fn a_log_with_a_broken_end_is_not_opened() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    append(&mut AuditLog::open(&path, SOLE).expect("a new log"), 400);
    let whole = fs::read(&path).expect("bytes");
    let mut changed = whole.clone();
    let at = changed.len() - 200;
    changed[at] ^= 1;
    fs::write(&path, &changed).expect("written");
    assert!(matches!(
        AuditLog::open(&path, SOLE),
        Err(AuditError::Broken {
            defect: Defect::WrongHash,
            ..
        })
    ));
    // The last line but one removed: the last does not follow.
    let mut starts: Vec<usize> = whole
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'\n')
        .map(|(at, _)| at + 1)
        .collect();
    starts.pop();
    let last = starts.pop().expect("many lines");
    let before = starts.pop().expect("many lines");
    fs::write(&path, [&whole[..before], &whole[last..]].concat()).expect("written");
    assert!(matches!(
        AuditLog::open(&path, SOLE),
        Err(AuditError::Broken {
            defect: Defect::WrongSequence { .. },
            ..
        })
    ));
    fs::write(&path, vec![b'x'; 100_000]).expect("written");
    assert!(matches!(
        AuditLog::open(&path, SOLE),
        Err(AuditError::Broken {
            defect: Defect::TooLong { .. },
            ..
        })
    ));
    fs::write(&path, [vec![b'x'; 100_000], vec![b'\n']].concat()).expect("written");
    assert!(matches!(
        AuditLog::open(&path, SOLE),
        Err(AuditError::Broken {
            defect: Defect::TooLong { .. },
            ..
        })
    ));
}

#[test]
fn many_writers_share_one_chain() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    // A lock belongs to an open file, so a thread that opens its own stands for a process.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| append(&mut AuditLog::open(&path, SHARED).expect("a shared log"), 100));
        }
    });
    assert_eq!(verify(&path).expect("one chain").head.records, 400);
}

#[test]
fn a_sole_log_is_refused_to_others_until_it_is_closed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path, SOLE).expect("a new log");
    assert!(matches!(AuditLog::open(&path, SOLE), Err(AuditError::InUse)));
    drop(log);
    AuditLog::open(&path, SOLE).expect("free again");
}

#[test]
fn a_shared_log_that_shrank_or_was_torn_is_noticed_at_the_next_record() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut log = AuditLog::open(&path, SHARED).expect("a new log");
    append(&mut log, 2);
    // Another process dies in the middle of its write.
    let file = OpenOptions::new().append(true).open(&path).expect("opens");
    (&file).write_all(b"{\"seq\":2,\"ti").expect("written");
    append(&mut log, 1);
    assert_eq!(verify(&path).expect("repaired").head.records, 4);
    file.set_len(10).expect("cut");
    let result = log.append("c", "m", &Event::of_cell(Kind::End, &[]));
    assert!(matches!(
        result,
        Err(AuditError::Broken {
            defect: Defect::Shrunk { now: 10, .. },
            ..
        })
    ));
}

#[test]
fn a_file_that_could_be_overwritten_or_read_by_nobody_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let file = File::create(&path).expect("a file");
    assert!(matches!(
        AuditLog::from_file(file, SOLE),
        Err(AuditError::NotAppending)
    ));
    let device = OpenOptions::new()
        .read(true)
        .append(true)
        .open("/dev/full")
        .expect("the device");
    assert!(matches!(
        AuditLog::from_file(device, SOLE),
        Err(AuditError::NotAFile)
    ));
    std::os::unix::fs::symlink(&path, folder.path().join("link")).expect("a link");
    assert!(matches!(
        AuditLog::open(&folder.path().join("link"), SOLE),
        Err(AuditError::Open { .. })
    ));
}

#[test]
fn a_failed_write_leaves_the_log_as_it_was() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut log = AuditLog::open(&path, SOLE).expect("a new log");
    append(&mut log, 2);
    let head = log.head();
    // A log whose file takes no more: the same file, opened for reading only, in place of the real one.
    let Store::File(good) = std::mem::replace(
        &mut log.store,
        Store::File(Arc::new(File::open(&path).expect("opens"))),
    ) else {
        panic!("a log on a file")
    };
    let result = log.append("c", "m", &Event::of_cell(Kind::End, &[]));
    assert!(
        matches!(result, Err(AuditError::Truncate(_))),
        "neither written nor cut: {result:?}"
    );
    let result = log.append("c", "m", &Event::of_cell(Kind::End, &[]));
    assert!(matches!(result, Err(AuditError::Poisoned)));
    assert_eq!(log.head(), head);
    drop(good);
    let mut text = String::new();
    File::open(&path)
        .expect("opens")
        .read_to_string(&mut text)
        .expect("text");
    assert_eq!(verify(&path).expect("whole").head, head);
}

#[test]
fn a_forked_childs_records_are_found_by_a_refresh() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut parent = AuditLog::open(&path, SOLE).expect("a new log");
    append(&mut parent, 1);
    let Store::File(file) = &parent.store else {
        panic!("a log on a file")
    };
    // A fork shares the open file and with it the lock, as a duplicated descriptor does.
    let mut child = AuditLog::from_file(file.try_clone().expect("a duplicate"), SOLE).expect("same lock");
    append(&mut child, 2);
    parent.refresh().expect("reads");
    append(&mut parent, 1);
    assert_eq!(verify(&path).expect("one chain").head.records, 4);
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic_and_none_but_records_pass(bytes in proptest::collection::vec(any::<u8>(), 1..600)) {
        prop_assert!(verify_bytes(&bytes).is_err());
        let file = tempfile::tempfile().expect("a file");
        file.write_all_at(&bytes, 0).expect("written");
        let tail = read_tail(&file, bytes.len() as u64);
        prop_assert!(tail.is_err() || !bytes.contains(&b'\n'));
    }

    #[test]
    fn one_flipped_bit_anywhere_is_found(at in 0usize..100_000, bit in 0u8..8) {
        let mut log = AuditLog::in_memory(SOLE);
        append(&mut log, 3);
        let mut bytes = log.memory().expect("in memory").to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        prop_assert!(verify_bytes(&bytes).is_err());
    }
}

/// Threads that flush each record: all are there, in one chain, and no thread goes on before its own is on the disk.
#[test]
fn flushes_are_shared_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let options = Options {
        sync_each: true,
        ..SOLE
    };
    let sink = AuditSink::new(
        AuditLog::open(&path, options).expect("opens"),
        "cell-1",
        "demo 1.0.0",
    );
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let sink = sink.for_cell(&format!("cell-{thread}"), "demo 1.0.0");
            scope.spawn(move || {
                for number in 0..50 {
                    sink.record(&Event::of_cell(Kind::Use, &a_use(number)))
                        .expect("is recorded");
                }
            });
        }
    });
    assert_eq!(verify(&path).expect("is a log").head.records, 400);
}

/// A pipe takes records and cannot be flushed.
#[test]
fn after_a_flush_that_failed_nothing_more_is_recorded() {
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let mut log = AuditLog::in_memory(SOLE);
    log.store = Store::File(Arc::new(File::from(std::os::fd::OwnedFd::from(writer))));
    let sink = AuditSink::new(log, "cell-1", "demo 1.0.0");
    let event = Event::of_cell(Kind::Use, &[]);
    sink.record(&event).expect("the kernel has it");
    assert!(matches!(sink.sync(), Err(AuditError::Sync(_))));
    assert!(matches!(sink.record(&event), Err(AuditError::Poisoned)));
    assert!(
        matches!(sink.sync(), Err(AuditError::Sync(_))),
        "it is still not on the disk"
    );
}

fn whole(path: &std::path::Path, first: u64, records: u64) {
    let summary = verify(path).expect("a whole log");
    assert_eq!((summary.first, summary.head.records), (first, records));
}

/// Somebody has the log open while it is rotated, and goes on; nothing is lost, and the chain goes through all files.
#[test]
fn a_log_is_rotated_under_those_who_have_it_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut cell = AuditLog::open(&path, SHARED).expect("opens");
    let mut idle = AuditLog::open(&path, SHARED).expect("opens");
    let mut tool = AuditLog::open(&path, SHARED).expect("opens");
    assert_eq!(tool.rotate(&path).expect("has nothing to do"), None);
    append(&mut cell, 3);
    let first = tool.rotate(&path).expect("rotates").expect("moves");
    assert!(
        first
            .display()
            .to_string()
            .ends_with("audit.jsonl.00000000000000000000-00000000000000000002")
    );
    assert_eq!(tool.rotate(&path).expect("has nothing to do"), None);
    append(&mut cell, 2);
    append(&mut idle, 1);
    let second = tool.rotate(&path).expect("rotates").expect("moves");
    append(&mut idle, 1);
    append(&mut cell, 1);
    append(&mut tool, 1);
    // 3, a rotation, 3, a rotation, 3.
    whole(&path, 0, 11);
    assert_eq!(fs::read_to_string(&path).expect("text").lines().count(), 4);
    // Without the oldest file the log begins later and says so; with a hole in the middle it is broken.
    let away = folder.path().join("away");
    fs::rename(&first, &away).expect("is moved");
    whole(&path, 3, 11);
    fs::rename(&away, &first).expect("is moved");
    fs::remove_file(&second).expect("is there");
    assert!(matches!(verify(&path), Err(AuditError::Broken { .. })));
    // Opened anew, it goes on.
    let mut log = AuditLog::open(&path, SHARED).expect("opens");
    append(&mut log, 1);
    assert_eq!(log.head().records, 12);
}

/// Every state that a crash can leave of a rotation is finished by whoever opens the log next.
#[test]
fn a_rotation_that_a_crash_interrupted_is_finished() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let mut log = AuditLog::open(&path, SHARED).expect("opens");
    append(&mut log, 5);
    let before = fs::read(&path).expect("is there");
    log.rotate(&path).expect("rotates").expect("moves");
    let line = fs::read(&path).expect("is there");
    let sign = folder.path().join("audit.jsonl.rotating");
    for left in [&before[..], &[], &line] {
        fs::write(&path, left).expect("is written");
        fs::write(&sign, &line).expect("is written");
        let mut log = AuditLog::open(&path, SHARED).expect("opens");
        assert!(!sign.exists());
        assert_eq!(fs::read(&path).expect("is there"), line);
        append(&mut log, 1);
        whole(&path, 0, 7);
    }
    // A log that somebody began anew meanwhile is not thrown away.
    fs::write(&path, b"").expect("is written");
    let mut other = AuditLog::open(&path, SHARED).expect("opens");
    append(&mut other, 2);
    fs::write(&sign, &line).expect("is written");
    assert!(matches!(
        AuditLog::open(&path, SHARED),
        Err(AuditError::Rotate(_))
    ));
    assert_eq!(fs::read_to_string(&path).expect("text").lines().count(), 2);
}

/// A file that is shorter and does not go on from where this process was is refused, also when it claims a rotation.
#[test]
fn a_shorter_file_that_is_no_rotation_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (path, other) = (folder.path().join("a.jsonl"), folder.path().join("b.jsonl"));
    let mut log = AuditLog::open(&path, SHARED).expect("opens");
    append(&mut log, 9);
    let mut short = AuditLog::open(&other, SHARED).expect("opens");
    append(&mut short, 2);
    short.rotate(&other).expect("rotates").expect("moves");
    let forged = fs::read(&other).expect("is there");
    fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(&path)
        .expect("opens");
    fs::write(&path, forged).expect("is written");
    let result = log.append("c", "m", &Event::of_cell(Kind::End, &[]));
    assert!(
        matches!(
            result,
            Err(AuditError::Broken {
                defect: Defect::Shrunk { .. },
                ..
            })
        ),
        "{result:?}"
    );
}

/// Somebody who may make files beside the log, but not write it, gets neither the log emptied nor another file overwritten.
#[test]
fn files_that_others_put_beside_a_log_do_no_harm() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let (sign, victim) = (
        folder.path().join("audit.jsonl.rotating"),
        folder.path().join("victim"),
    );
    let mut log = AuditLog::open(&path, SHARED).expect("opens");
    append(&mut log, 5);
    let before = fs::read(&path).expect("is there");
    // A sound record that would follow the last one, while nothing was moved.
    let mut line = Vec::new();
    let event = Event::of_cell(Kind::Rotate, &[]);
    let subject = Subject { cell: "", muscle: "" };
    encode(&mut line, log.head(), 0, subject, &event, GuestText::Redact).expect("is encoded");
    fs::write(&sign, &line).expect("is written");
    assert!(matches!(
        AuditLog::open(&path, SHARED),
        Err(AuditError::Rotate(_))
    ));
    assert_eq!(fs::read(&path).expect("is there"), before);
    fs::remove_file(&sign).expect("is there");
    // As a link it is not ours, so nothing happens.
    fs::write(&victim, &line).expect("is written");
    std::os::unix::fs::symlink(&victim, &sign).expect("is made");
    AuditLog::open(&path, SHARED).expect("opens");
    assert_eq!(fs::read(&path).expect("is there"), before);
    fs::remove_file(&sign).expect("is there");
    // A link where the records go is replaced, not followed.
    let archive = folder
        .path()
        .join("audit.jsonl.00000000000000000000-00000000000000000004");
    std::os::unix::fs::symlink(&victim, &archive).expect("is made");
    assert_eq!(log.rotate(&path).expect("rotates"), Some(archive.clone()));
    assert_eq!(fs::read(&victim).expect("is there"), line);
    assert_eq!(fs::read(&archive).expect("is there"), before);
    whole(&path, 0, 6);
}

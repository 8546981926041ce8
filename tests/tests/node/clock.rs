//! The host's clock on the wall jumps while calls come: nothing that is under way goes by it, and what does goes by what it says now.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::chaos::{NAMES, deploy_all};
use crate::node::Node;
use crate::{REJECTED, acts, text, wait_for};

const DAY: i64 = 86_400;
const YEAR: i64 = 365 * DAY;
/// Beyond the life of every trust store.
const TWO_CENTURIES: i64 = 200 * YEAR;

/// A clock that programs can be started with, and set.
struct Clock {
    folder: tempfile::TempDir,
}

impl Clock {
    fn new() -> Clock {
        let folder = tempfile::tempdir().expect("a folder");
        let clock = Clock { folder };
        fs::write(clock.shift(), 0i64.to_le_bytes()).expect("is written");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("clock/shifted.c");
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"])
            .args([clock.library(), source.display().to_string()])
            .arg("-ldl")
            .status();
        assert!(made.expect("there is a C compiler").success());
        clock
    }

    fn shift(&self) -> String {
        self.folder.path().join("shift").display().to_string()
    }

    fn library(&self) -> String {
        self.folder.path().join("shifted.so").display().to_string()
    }

    /// A node that goes by it.
    fn node(&self) -> Node {
        let preload = format!("LD_PRELOAD={}", self.library());
        let shift = format!("CLOCK_SHIFT={}", self.shift());
        Node::through(&["env", &preload, &shift], "")
    }

    fn be_off_by(&self, seconds: i64) {
        let file = fs::OpenOptions::new()
            .write(true)
            .open(self.shift())
            .expect("is there");
        file.write_all_at(&seconds.to_le_bytes(), 0).expect("is written");
    }
}

/// Seconds since the epoch by which the log's last record was written.
fn last_time(node: &Node) -> i64 {
    let records = node.records();
    let time = records.last().expect("has some")["time"]
        .as_i64()
        .expect("is a number");
    time / 1_000_000_000
}

#[test]
fn a_clock_that_jumps_costs_no_call_and_breaks_no_log() {
    const CALLS: [(&str, &str); 3] = [("count", "[]"), ("arguments", "[1, 2]"), ("wait", "[1]")];
    let clock = Clock::new();
    let node = clock.node();
    deploy_all(&node);
    let (over, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..2 {
            let (over, answered, node) = (&over, &answered, &node);
            scope.spawn(move || {
                for turn in number.. {
                    if over.load(Ordering::Acquire) {
                        return;
                    }
                    let (function, arguments) = CALLS[turn % CALLS.len()];
                    node.call(NAMES[turn / 3 % NAMES.len()], function, arguments)
                        .good();
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for seconds in [DAY, -DAY, 3 * YEAR, -20 * YEAR, 3600, 3590, 0] {
            let before = answered.load(Ordering::Relaxed);
            clock.be_off_by(seconds);
            wait_for("calls go on", || answered.load(Ordering::Relaxed) >= before + 50);
            node.ask("GET", "/health/ready", b"").good();
        }
        over.store(true, Ordering::Release);
    });
    assert!(!node.words().contains("worker "), "{}", node.words());
}

#[test]
fn what_has_expired_by_the_clock_as_it_is_now_is_refused_and_good_again_when_it_is_set_right() {
    let clock = Clock::new();
    let node = clock.node();
    node.deploy(&acts(), "acts", &["--keep-memory"]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    let before = last_time(&node);
    clock.be_off_by(TWO_CENTURIES);
    let refused = node.cli(&["reload"]);
    assert_eq!(refused.code, REJECTED, "{}", refused.errors());
    assert!(
        refused.errors().contains("[store-expired]"),
        "{}",
        refused.errors()
    );
    assert_eq!(node.call("acts", "count", "[]").good(), b"1", "what runs goes on");
    assert!(
        last_time(&node) >= before + TWO_CENTURIES,
        "the log says what the clock said"
    );
    clock.be_off_by(0);
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    let again = node.cli(&["deploy", &text(&acts()), "--name", "again"]);
    assert_eq!(again.code, Some(0), "{}", again.errors());
    assert!(last_time(&node) < before + DAY);
}

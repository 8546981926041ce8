//! The host's clock on the wall jumps while calls come: nothing that is under way goes by it, and what does goes by what it says now.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::chaos::{Heard, call_until, deploy_all};
use crate::node::Node;
use crate::{REJECTED, acts, text};

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
    let clock = Clock::new();
    let node = clock.node();
    deploy_all(&node);
    let (over, heard, socket) = (AtomicBool::new(false), Heard::default(), node.socket());
    thread::scope(|scope| {
        for number in 0..2 {
            let (over, heard, socket) = (&over, &heard, &socket);
            scope.spawn(move || call_until(over, socket, number, heard));
        }
        let jumps = [DAY, -DAY, 3 * YEAR, -20 * YEAR, 3600, 3590, 0];
        for seconds in jumps {
            let before = heard.all();
            clock.be_off_by(seconds);
            let begun = Instant::now();
            while heard.all() < before + 50 {
                assert!(begun.elapsed() < crate::SOON, "calls stand still at {seconds}");
                thread::sleep(Duration::from_millis(5));
            }
            node.ask("GET", "/health/ready", b"").good();
        }
        over.store(true, Ordering::Release);
    });
    assert_eq!(heard.refused.load(Ordering::Relaxed), 0, "{}", node.words());
    assert_eq!(heard.cut_off.load(Ordering::Relaxed), 0, "{}", node.words());
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

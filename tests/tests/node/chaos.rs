//! Everything goes wrong while calls come: workers, nursery and supervisor are killed, files cannot grow, descriptors run out, clients stall.
//!
//! Whatever happens, each call has an answer or an error, what was acknowledged is there, and afterwards nothing is left over. (SIGKILL in the
//! middle of each kind of change is in `crashes.rs`, damaged state in `starting.rs`, a damaged log in `health.rs`.)

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};
use serde_json::json;

use crate::http::{self, connect};
use crate::node::{Node, call_path};
use crate::processes::send;
use crate::{acts, bundle, wait_for};

/// The deployments that are called.
pub const NAMES: [&str; 3] = ["fresh", "keeps", "ahead"];
/// What is called, and the statuses that an answer may have when nothing else is wrong.
const CALLS: [(&str, &str, u16); 7] = [
    ("count", "[]", 200),
    ("arguments", "[1, 2]", 200),
    ("refuse", "[]", 422),
    ("fault", "[]", 502),
    ("quit", "[]", 502),
    ("wait", "[0]", 200),
    ("log", "[]", 200),
];

/// What the callers heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// The answer that the function has.
    pub as_expected: AtomicU64,
    /// Another answer of the API's: something went wrong, and was said.
    pub refused: AtomicU64,
    /// The end of the connection.
    pub cut_off: AtomicU64,
}

impl Heard {
    pub fn all(&self) -> u64 {
        [&self.as_expected, &self.refused, &self.cut_off]
            .map(|count| count.load(Ordering::Relaxed))
            .iter()
            .sum()
    }
}

/// Deploys what is to be called.
pub fn deploy_all(node: &Node) {
    node.deploy(&acts(), "fresh", &["--cells", "3"]);
    node.deploy(&acts(), "keeps", &["--cells", "2", "--keep-memory"]);
    node.deploy(&acts(), "ahead", &["--cells", "2", "--ahead", "1"]);
}

/// Calls until it is over. Each call is answered, refused or cut off, and none is waited for in vain.
pub fn call_until(over: &AtomicBool, socket: &Path, number: usize, heard: &Heard) {
    let mut turn = number;
    while !over.load(Ordering::Acquire) {
        turn += 1;
        let name = NAMES[turn % NAMES.len()];
        let (function, arguments, status) = CALLS[turn * 5 % CALLS.len()];
        let count = match http::ask(
            socket,
            "POST",
            &call_path(name, function),
            &[],
            arguments.as_bytes(),
        ) {
            Ok(answer) if answer.status == status => &heard.as_expected,
            Ok(answer) => {
                let (status, kind, name) = answer.refusal();
                let known = matches!(status, 409 | 429 | 500 | 502 | 503 | 504);
                assert!(known, "{function}: {status} {kind} {name}: {}", answer.message());
                &heard.refused
            }
            Err(error) => {
                let timed_out = matches!(
                    error.kind(),
                    std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
                );
                assert!(!timed_out, "{function} was never answered");
                // Nobody listens between two lives.
                thread::sleep(Duration::from_millis(5));
                &heard.cut_off
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a node's processes hold.
#[derive(Debug)]
pub struct Holds {
    pub descriptors: usize,
    pub nursery_descriptors: usize,
    pub threads: usize,
    pub resident: u64,
    pub files: BTreeMap<String, u64>,
}

impl Holds {
    /// Of a node on which nothing is under way.
    pub fn of(node: &Node) -> Holds {
        let count =
            |pid: u32, what: &str| fs::read_dir(format!("/proc/{pid}/{what}")).map_or(0, Iterator::count);
        let statm = fs::read_to_string(format!("/proc/{}/statm", node.pid())).unwrap_or_default();
        let pages = statm
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok());
        Holds {
            descriptors: count(node.pid(), "fd"),
            nursery_descriptors: count(node.nursery(), "fd"),
            threads: count(node.pid(), "task"),
            resident: pages.unwrap_or(0) * 4096,
            files: files(&node.path("state")),
        }
    }
}

fn files(folder: &Path) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok) {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(meta) => {
                    found.insert(entry.path().display().to_string(), meta.len());
                }
                Err(_) => {}
            }
        }
    }
    found
}

/// Waits until nothing is under way, and has every worker end.
pub fn calm(node: &Node) {
    calm_all(node, &NAMES);
}

/// The same, of a node with these deployments.
pub fn calm_all(node: &Node, names: &[&str]) {
    for name in names {
        wait_for("nothing is under way", || {
            let shown = node.shown(name);
            (&shown["running"], &shown["waiting"]) == (&json!(0), &json!(0))
        });
        assert_eq!(node.cli(&["kill", name]).code, Some(0));
    }
    wait_for("no worker is there", || node.workers().is_empty());
}

/// Whether nothing is held that was not held before, but for what a runtime keeps for itself.
#[track_caller]
pub fn assert_nothing_leaks(node: &Node, before: &Holds) {
    wait_for("descriptors are given back", || {
        Holds::of(node).descriptors <= before.descriptors + SLACK
    });
    let after = Holds::of(node);
    assert!(
        after.nursery_descriptors <= before.nursery_descriptors + SLACK,
        "{before:?} {after:?}"
    );
    assert!(after.threads <= before.threads + THREADS, "{before:?} {after:?}");
    let names = |holds: &Holds| holds.files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&after), names(before));
}

/// Connections of the moment.
const SLACK: usize = 8;
/// Threads of the runtime that block, which it keeps for some seconds.
const THREADS: usize = 64;

fn kill_workers(node: &Node) {
    for worker in node.workers() {
        send(worker, Signal::KILL);
    }
}

/// A request that never goes on.
pub fn stall(node: &Node) -> Option<UnixStream> {
    let mut stream = connect(&node.socket()).ok()?;
    let head = http::head("POST", &call_path("fresh", "count"), &[], 100);
    stream.write_all(head.as_bytes()).ok()?;
    Some(stream)
}

#[test]
fn in_a_storm_each_call_is_answered_and_what_was_acknowledged_stays() {
    let mut node = Node::with("cells.slots = 2\ndrain_seconds = 2");
    deploy_all(&node);
    for name in NAMES {
        node.call(name, "count", "[]").good();
    }
    calm(&node);
    let before = Holds::of(&node);
    let bundles = [bundle("reactor", "echoes"), acts()];
    let (over, heard) = (AtomicBool::new(false), Heard::default());
    let socket = node.socket();
    let mut stalled = Vec::new();
    let mut acknowledged = BTreeMap::new();
    thread::scope(|scope| {
        for number in 0..4 {
            let (over, heard, socket) = (&over, &heard, socket.as_path());
            scope.spawn(move || call_until(over, socket, number, heard));
        }
        let done = Until(&over);
        for round in 0..6_u64 {
            let so_far = heard.all();
            stalled.extend(stall(&node));
            kill_workers(&node);
            let name = format!("extra-{round}");
            node.deploy(&bundles[usize::from(round % 2 == 1)], &name, &[]);
            node.deploy(&acts(), "keeps", &["--cells", "2", "--keep-memory"]);
            acknowledged.insert(name.clone(), node.shown(&name)["bundle"].clone());
            for worker in node.workers() {
                send(worker, Signal::STOP);
            }
            kill_workers(&node);
            match round {
                2 => {
                    node.crash();
                    node.again();
                }
                4 => {
                    send(node.nursery(), Signal::KILL);
                    assert_eq!(node.await_end().code(), Some(104));
                    node.again();
                }
                _ => {}
            }
            // It goes on after each.
            let as_expected = heard.as_expected.load(Ordering::Relaxed);
            wait_for("calls are well again", || {
                heard.as_expected.load(Ordering::Relaxed) > as_expected + 20 && heard.all() > so_far
            });
        }
        drop(done);
    });
    drop(stalled);
    for (name, bundle) in &acknowledged {
        assert_eq!(&node.shown(name)["bundle"], bundle, "{name}");
        assert_eq!(node.cli(&["remove", name]).code, Some(0));
    }
    let managed = node.managed();
    for name in acknowledged.keys() {
        assert!(
            managed.contains(&("deploy".into(), name.clone())),
            "{name}: {managed:?}"
        );
    }
    calm(&node);
    wait_for("bundles that nobody needs are gone", || {
        files(&node.path("state")).len() == before.files.len()
    });
    assert_nothing_leaks(&node, &before);
    println!("{heard:?}");
}

/// Says that it is over, also when something fails meanwhile.
pub struct Until<'a>(pub &'a AtomicBool);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn when_files_cannot_grow_nothing_runs_unrecorded_and_when_they_can_all_is_well() {
    // As on a full disk, but for this node alone; the signal that comes with it is one that a full disk does not send.
    let mut node = Node::through(
        &["sh", "-c", "trap '' XFSZ; ulimit -S -f 8192; exec \"$@\"", "sh"],
        "",
    );
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    // A thousand refusals are as many records.
    let mut calls = 0;
    wait_for("the log is full", || {
        calls += 1;
        let answer = node.call("acts", "deny", "[]");
        assert!(matches!(answer.status, 500 | 502), "{answer:?}");
        let health = node.ask("GET", "/health", b"").json();
        health["degraded"].to_string().contains("log-not-written")
    });
    // Neither a call nor a change is done that cannot be recorded.
    assert_eq!(node.call("acts", "count", "[]").status, 500);
    let shown = node.shown("acts");
    let refused = node.cli(&["remove", "acts"]);
    assert_ne!(refused.code, Some(0));
    assert_eq!(node.shown("acts")["generation"], shown["generation"]);
    referee_audit::verify(&node.path("audit.jsonl")).expect("holds together, and has no half record");
    node.log_was_full();
    // Room again, without a restart.
    lift_limit(&node);
    wait_for("a call is well", || {
        node.call("acts", "count", "[]").status == 200
    });
    wait_for("its health, too", || {
        node.ask("GET", "/health", b"").json()["degraded"] == json!([])
    });
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    node.again();
    lift_limit(&node);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert!(calls > 1);
}

/// Lets a node's files grow as far as there is room.
fn lift_limit(node: &Node) {
    let pid = i32::try_from(node.pid()).ok().and_then(Pid::from_raw);
    let any = Rlimit {
        current: None,
        maximum: None,
    };
    prlimit(pid, Resource::Fsize, any).expect("is ours");
}

#[test]
fn without_descriptors_it_says_so_and_with_some_again_it_goes_on() {
    let node = Node::through(&["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"], "");
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    node.call("acts", "count", "[]").good();
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    let held: Vec<UnixStream> = (0..80).filter_map(|_| connect(&node.socket()).ok()).collect();
    wait_for("all are taken", || {
        fs::read_dir(format!("/proc/{}/fd", node.pid())).map_or(0, Iterator::count) >= 60
    });
    // Whoever comes now may wait, and is not answered wrongly.
    let call = node.calling("acts", "count", "[]");
    thread::sleep(Duration::from_millis(200));
    drop(held);
    if let Ok(answer) = call.join().expect("ends") {
        assert!(matches!(answer.status, 200 | 500 | 503), "{answer:?}");
    }
    wait_for("a call is well", || {
        node.call("acts", "count", "[]").status == 200
    });
    assert_eq!(node.ask("GET", "/health/ready", b"").status, 204);
}

//! Deployments that have to do with each other, all at once: streams, a ring, a channel with delegations, plain calls; while workers are killed, the supervisor is killed
//! and started again, clients stall or go away, and grants are taken back and given again.

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::length;
use crate::chaos::{
    Heard, Holds, NAMES, Until, assert_nothing_leaks, call_until, calm_all, deploy_all, stall,
};
use crate::delegations::{self, delegates, folders, narrow, restore_desk, revoke, stat, whole};
use crate::http::{self, Answer, connect};
use crate::node::{Node, call_path};
use crate::processes::send;
use crate::streams::client::path as stream_path;
use crate::{acts, bundle, rings, wait_for};

/// What a client of a stream sends: less than what waits on the way may be, so that it may read afterwards.
const SENT: usize = 40_000;
/// No result of a call is waited for longer, so that a round sees some ends of each kind.
const SHORT: &[&str] = &["--cells", "1", "--deadline-ms", "2000"];

fn names() -> Vec<&'static str> {
    NAMES
        .into_iter()
        .chain(["a", "b", "desk", "index", "pipes"])
        .collect()
}

/// Notes what came of a request: an answer of the API's, or the end of a connection; and never nothing.
fn note(heard: &Heard, what: &str, result: io::Result<Answer>) -> Option<Answer> {
    let (count, answer) = match result {
        Ok(answer) if answer.status == 200 => (&heard.as_expected, Some(answer)),
        Ok(answer) => {
            let (status, kind, name) = answer.refusal();
            let known = matches!(status, 409 | 422 | 429 | 500 | 502 | 503 | 504);
            assert!(known, "{what}: {status} {kind} {name}: {}", answer.message());
            (&heard.refused, None)
        }
        Err(error) => {
            let timed_out = matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut);
            assert!(!timed_out, "{what} was never answered");
            thread::sleep(Duration::from_millis(5));
            (&heard.cut_off, None)
        }
    };
    count.fetch_add(1, Ordering::Relaxed);
    answer
}

fn call(heard: &Heard, socket: &Path, name: &str, function: &str, arguments: &str) -> Option<Answer> {
    let path = call_path(name, function);
    let answer = http::ask(socket, "POST", &path, &[], arguments.as_bytes());
    note(heard, function, answer)
}

/// Makes a stream: one that is whole, whose bytes must come back; or one whose client stops, or goes away, in the middle.
fn stream(heard: &Heard, socket: &Path, turn: u64, whole_ones: &AtomicU64) {
    let bytes = vec![turn.to_le_bytes()[0]; SENT];
    let sent = || {
        let mut line = connect(socket)?;
        let path = stream_path("pipes", "again");
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        line.write_all(head.as_bytes())?;
        for piece in bytes.chunks(10_000) {
            line.write_all(format!("{:x}\r\n", piece.len()).as_bytes())?;
            line.write_all(piece)?;
            line.write_all(b"\r\n")?;
            match turn % 4 {
                1 => return Ok(None),
                2 => thread::sleep(Duration::from_millis(50)),
                _ => {}
            }
        }
        line.write_all(b"0\r\n\r\n")?;
        http::answer(line).map(Some)
    };
    let Some(answer) = sent().transpose() else {
        return;
    };
    if let Some(answer) = note(heard, "a stream", answer) {
        assert!(answer.body == bytes, "{} bytes came back", answer.body.len());
        whole_ones.fetch_add(1, Ordering::Relaxed);
    }
}

/// What somebody does again and again until it is over.
fn until(over: &AtomicBool, mut act: impl FnMut(u64)) {
    let mut turn = 0;
    while !over.load(Ordering::Acquire) {
        turn += 1;
        act(turn);
    }
}

#[test]
fn deployments_that_have_to_do_with_each_other_survive_everything_at_once() {
    let more = format!(
        "{}\ncells.slots = 2\nmemory.idle_seconds = 1\ndrain_seconds = 2",
        delegations::onward()
    );
    let mut node = rings::node(&more);
    folders(&node);
    deploy_all(&node);
    rings::pair(&node, SHORT);
    delegations::pair(&node);
    node.deploy(
        &bundle("reactor", "pipes"),
        "pipes",
        &["--cells", "2", "--deadline-ms", "5000"],
    );
    let names = names();
    let (over, heard, whole_ones) = (AtomicBool::new(false), Heard::default(), AtomicU64::new(0));
    // What the first of each makes once is there before anything is counted.
    for name in NAMES {
        node.call(name, "count", "[]").good();
    }
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    stream(&heard, &node.socket(), 0, &whole_ones);
    assert_eq!(whole_ones.load(Ordering::Relaxed), 1, "{heard:?}");
    calm_all(&node, &names);
    let before = Holds::of(&node);
    let socket = node.socket();
    let mut acknowledged = BTreeMap::new();
    let mut stalled = Vec::new();
    let end = Instant::now() + length();
    thread::scope(|scope| {
        let done = Until(&over);
        let (over, heard, whole_ones, socket) = (&over, &heard, &whole_ones, socket.as_path());
        scope.spawn(move || call_until(over, socket, 0, heard));
        scope.spawn(move || until(over, |turn| stream(heard, socket, turn, whole_ones)));
        scope.spawn(move || until(over, |_| drop(call(heard, socket, "b", "digest", "[]"))));
        scope.spawn(move || {
            until(over, |_| {
                call(heard, socket, "a", "feed", "[300000, 4096]");
                call(heard, socket, "a", "finish", "[]");
            });
        });
        scope.spawn(move || {
            until(over, |_| {
                call(
                    heard,
                    socket,
                    "desk",
                    "delegate",
                    &whole("books", "lent").to_string(),
                );
                call(heard, socket, "index", "stat", "[\"inside\"]");
                call(heard, socket, "desk", "undelegate", "[\"books\", \"lent\"]");
            });
        });
        let bundles = [bundle("reactor", "echoes"), acts()];
        for round in 0.. {
            if Instant::now() >= end {
                break;
            }
            thread::sleep(Duration::from_millis(300));
            let name = format!("extra-{}", round % 8);
            node.deploy(&bundles[round % 2], &name, &[]);
            acknowledged.insert(name.clone(), node.shown(&name)["bundle"].clone());
            stalled.extend(stall(&node));
            stalled.truncate(16);
            let workers = node.workers();
            if let Some(worker) = workers.get(round % workers.len().max(1)) {
                send(*worker, Signal::KILL);
            }
            match round % 8 {
                2 => {
                    // When that is answered, nobody has anything of it, whatever is under way.
                    revoke(&node, "desk", "books");
                    let uses = uses(&node);
                    thread::sleep(Duration::from_millis(100));
                    assert_eq!(self::uses(&node), uses, "used after it was taken back");
                    restore_desk(&node);
                }
                5 => {
                    node.crash();
                    node.again();
                }
                _ => {}
            }
        }
        drop(done);
    });
    drop(stalled);
    for (name, bundle) in &acknowledged {
        assert_eq!(&node.shown(name)["bundle"], bundle, "{name}");
        assert_eq!(node.cli(&["remove", name]).code, Some(0));
    }
    // Whatever came of the last of them: what is delegated is no more than what is left to delegate.
    restore_desk(&node);
    for name in ["desk", "index"] {
        // The last worker that was killed may be noticed only now.
        wait_for("it is well", || {
            node.call(name, "stat", "[\"inside\"]").status == 200
        });
    }
    assert_eq!(delegates(&node, "desk", &whole("books", "lent")), None);
    assert_eq!(stat(&node, "index", "inside"), None);
    narrow(&node, "desk", "books", &json!({"within": "sub"}));
    assert_eq!(stat(&node, "index", "sub/below"), None);
    assert!(
        stat(&node, "index", "inside").is_some(),
        "it is not in what is left"
    );
    calm_all(&node, &names);
    wait_for("bundles that nobody needs are gone", || {
        Holds::of(&node).files.len() == before.files.len()
    });
    assert_nothing_leaks(&node, &before);
    assert!(whole_ones.load(Ordering::Relaxed) > 1, "{heard:?}");
    assert!(heard.as_expected.load(Ordering::Relaxed) > 100, "{heard:?}");
    println!("{heard:?}, {whole_ones:?} whole streams");
}

/// How often the log says that the directory was used.
fn uses(node: &Node) -> usize {
    let records = node.records_so_far();
    records
        .iter()
        .filter(|record| record["kind"] == "use" && record["op"] == "files.stat")
        .count()
}

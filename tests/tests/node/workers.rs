//! Processes that die, or do not: workers, the nursery, the supervisor.

use std::thread;
use std::time::{Duration, Instant};

use referee_tests::Ended;
use rustix::process::Signal;
use serde_json::json;

use crate::node::{Calling, Node, call_path};
use crate::processes::{is_alive, send, stop};
use crate::{REJECTED, acts, http, text, wait_for};

fn only_worker(node: &Node) -> u32 {
    let workers = node.workers();
    assert_eq!(workers.len(), 1, "{workers:?}");
    workers.first().copied().expect("has one")
}

#[test]
fn a_killed_worker_is_the_calls_error_and_the_next_has_another() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "3"]);
    node.deploy(&acts(), "other", &["--cells", "1", "--keep-memory"]);
    let calls = [
        node.calling("acts", "spin", "[]"),
        node.calling("acts", "wait", "[90]"),
    ];
    node.wait_until_running("acts", 2);
    let worker = only_worker(&node);
    assert_eq!(node.call("other", "count", "[]").good(), b"0");
    send(worker, Signal::KILL);
    for call in calls {
        let answer = call.join().expect("ends").expect("is answered");
        answer.is(502, "host-error", "worker-gone");
        assert!(
            answer.message().contains("killed by signal 9"),
            "{}",
            answer.message()
        );
        assert!(
            answer
                .message()
                .contains("whether the call had an effect is not known")
        );
    }
    assert!(
        node.words().contains("was killed by signal 9"),
        "{}",
        node.words()
    );
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(node.call("other", "count", "[]").good(), b"1");
    let closed = |record: &&serde_json::Value| {
        record.pointer("/detail/message") == Some(&json!("the worker process is gone"))
    };
    assert_eq!(node.records().iter().filter(closed).count(), 2);
    assert_eq!(node.counted("acts", "host_errors"), 2);
}

/// Calls with leave to be made again.
fn calling_again(node: &Node, retries: &'static str, tenths: u32) -> Calling {
    let (socket, path) = (node.socket(), call_path("acts", "wait"));
    let arguments = format!("[{tenths}]").into_bytes();
    thread::spawn(move || http::ask(&socket, "POST", &path, &[("referee-retry", retries)], &arguments))
}

fn kill_once_it_runs(node: &Node, times: u64) {
    wait_for("the call runs", || {
        node.counted("acts", "slices") >= times && node.workers().len() == 1
    });
    send(only_worker(node), Signal::KILL);
}

#[test]
fn a_call_that_may_be_made_again_is_when_its_worker_was_killed() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let call = calling_again(&node, "2", 20);
    node.wait_until_running("acts", 1);
    send(only_worker(&node), Signal::KILL);
    let answer = call.join().expect("ends").expect("is answered");
    assert_eq!(answer.header("referee-retried"), Some("1"), "{answer:?}");
    assert_eq!(answer.good(), b"null");
    assert_eq!(node.counted("acts", "calls"), 2);
    assert_eq!(node.counted("acts", "host_errors"), 1);
    // By the command line, whose worker an operator ends.
    let before = node.counted("acts", "slices");
    let command = node
        .command(&["call", "--retry", "1", "@acts", "wait", "[20]"])
        .spawn();
    wait_for("the call runs", || {
        node.shown("acts")["running"] == json!(1) && node.counted("acts", "slices") > before
    });
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    let ended = Ended::of(command.expect("starts")).expect("ends");
    assert_eq!(
        (ended.code, ended.output().as_str()),
        (Some(0), "null\n"),
        "{}",
        ended.errors()
    );
}

#[test]
fn a_call_is_made_again_as_often_as_its_caller_said_and_only_if_it_may_run() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    // Slices of the two calls that are killed: each has one, in which it went to sleep.
    let call = calling_again(&node, "1", 90);
    kill_once_it_runs(&node, 1);
    kill_once_it_runs(&node, 2);
    call.join()
        .expect("ends")
        .expect("is answered")
        .is(502, "host-error", "worker-gone");
    let none = calling_again(&node, "0", 90);
    kill_once_it_runs(&node, 3);
    none.join()
        .expect("ends")
        .expect("is answered")
        .is(502, "host-error", "worker-gone");
    // Paused first, it is not made again.
    let call = calling_again(&node, "9", 90);
    wait_for("the call runs", || node.counted("acts", "slices") >= 4);
    assert_eq!(node.cli(&["pause", "acts"]).code, Some(0));
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    call.join()
        .expect("ends")
        .expect("is answered")
        .is(409, "rejected", "paused");
    assert_eq!(node.cli(&["resume", "acts"]).code, Some(0));
    // Neither a fault nor an answer is a reason.
    let path = call_path("acts", "fault");
    let ask =
        |headers: &[(&str, &str)]| http::ask(&node.socket(), "POST", &path, headers, b"").expect("answers");
    let faults = node.counted("acts", "faults");
    assert_eq!(ask(&[("referee-retry", "3")]).status, 502);
    assert_eq!(node.counted("acts", "faults"), faults + 1);
    for bad in ["-1", "+1", "11", "", "1 2", "x", "4294967297"] {
        ask(&[("referee-retry", bad)]).is(400, "rejected", "header-invalid");
    }
    ask(&[("referee-retry", "1"), ("referee-retry", "1")]).is(400, "rejected", "header-invalid");
    assert_eq!(
        node.cli(&["call", "--retry", "11", "@acts", "count"]).code,
        Some(100)
    );
    let bundle = text(&acts());
    let without = node.cli(&["call", "--retry", "1", &bundle, "count"]);
    assert_eq!(without.code, REJECTED);
    assert!(
        without.errors().contains("[retry-without-node]"),
        "{}",
        without.errors()
    );
}

#[test]
fn a_worker_that_is_killed_again_and_again_is_replaced_later_each_time() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    let mut waits = Vec::new();
    for round in 1..=5 {
        let begun = Instant::now();
        let call = node.calling("acts", "spin", "[]");
        wait_for("a worker runs the call", || {
            node.counted("acts", "workers_started") == round && node.shown("acts")["state"] == "ready"
        });
        waits.push(begun.elapsed());
        send(only_worker(&node), Signal::KILL);
        call.join()
            .expect("ends")
            .expect("is answered")
            .is(502, "host-error", "worker-gone");
    }
    let least = [0, 100, 200, 400, 800].map(Duration::from_millis);
    assert!(
        waits.iter().zip(least).all(|(wait, least)| *wait >= least),
        "{waits:?}"
    );
    // One good call, and the next failure is the first in a row.
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    send(only_worker(&node), Signal::KILL);
    let begun = Instant::now();
    wait_for("the node knows", || node.shown("acts")["state"] == "idle");
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert!(
        begun.elapsed() < Duration::from_millis(3200),
        "{:?}",
        begun.elapsed()
    );
}

#[test]
fn a_worker_that_hears_nothing_is_killed_when_it_is_to_end() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let call = node.calling("acts", "spin", "[]");
    node.wait_until_running("acts", 1);
    let worker = only_worker(&node);
    stop(worker);
    // More than the line to the worker holds, so that somebody is writing to it when it is to end.
    let large = format!("[\"{}\"]", "x".repeat(1_000_000));
    let large = node.calling("acts", "arguments", &large);
    wait_for("the large call has a cell", || {
        node.shown("acts")["running"] == json!(2)
    });
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    assert!(!is_alive(worker));
    for call in [call, large] {
        call.join()
            .expect("ends")
            .expect("is answered")
            .is(502, "host-error", "worker-gone");
    }
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn workers_that_hear_nothing_do_not_keep_the_node_from_ending() {
    let mut node = Node::with("drain_seconds = 1");
    for name in ["one", "two", "three"] {
        node.deploy(&acts(), name, &[]);
        assert_eq!(node.call(name, "count", "[]").good(), b"0");
    }
    let workers = node.workers();
    for worker in &workers {
        stop(*worker);
    }
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    assert!(!workers.iter().any(|worker| is_alive(*worker)));
}

#[test]
fn without_its_nursery_the_node_says_so_and_ends() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let call = node.calling("acts", "wait", "[90]");
    node.wait_until_running("acts", 1);
    let workers = node.workers();
    send(node.nursery(), Signal::KILL);
    // Its worker went with it.
    call.join()
        .expect("ends")
        .expect("is answered")
        .is(502, "host-error", "worker-gone");
    assert_eq!(node.await_end().code(), Some(104));
    assert!(node.words().contains("the nursery"), "{}", node.words());
    assert!(!workers.iter().any(|worker| is_alive(*worker)));
    // A service manager starts it again, and all is well.
    node.again();
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn with_a_killed_supervisor_everything_goes_and_nothing_is_forgotten() {
    let mut node = Node::start();
    node.deploy(
        &acts(),
        "acts",
        &["--cells", "2", "--keep-memory", "--deadline-ms", "40000"],
    );
    node.deploy(&acts(), "paused", &[]);
    node.deploy(&acts(), "removed", &[]);
    assert_eq!(node.cli(&["pause", "paused"]).code, Some(0));
    assert_eq!(node.cli(&["remove", "removed"]).code, Some(0));
    let before: Vec<serde_json::Value> = ["acts", "paused"].map(|name| node.shown(name)).to_vec();
    let calls = [
        node.calling("acts", "spin", "[]"),
        node.calling("acts", "wait", "[90]"),
    ];
    node.wait_until_running("acts", 2);
    node.crash();
    for call in calls {
        // Nobody is left to answer, and nobody waits in vain.
        let answer = call.join().expect("ends");
        assert!(answer.is_err(), "{answer:?}");
    }
    node.again();
    let after: Vec<serde_json::Value> = ["acts", "paused"].map(|name| node.shown(name)).to_vec();
    for (before, after) in before.iter().zip(&after) {
        for part in [
            "name",
            "bundle",
            "generation",
            "deployed_at",
            "settings",
            "exports",
            "decision",
            "publisher",
        ] {
            assert_eq!(before[part], after[part], "{part}");
        }
    }
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    node.call("paused", "count", "[]").is(409, "rejected", "paused");
    node.call("removed", "count", "[]")
        .is(404, "rejected", "no-deployment");
}

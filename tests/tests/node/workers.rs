//! Processes that die, or do not: workers, the nursery, the supervisor.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::node::Node;
use crate::processes::{is_alive, send};
use crate::{acts, wait_for};

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
    send(worker, Signal::STOP);
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
        send(*worker, Signal::STOP);
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

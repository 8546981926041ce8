//! One side does not keep the rules.

use std::time::{Duration, Instant};

use super::{KEPT, ONE, deploy, digester, heard, next, node};
use crate::node::{Calling, Node};
use crate::processes::{cpu_ticks, switches};
use crate::{SOON, acts, bundle, http, wait_for};

#[test]
fn a_sender_that_scribbles_all_over_the_ring_harms_its_own_messages_alone() {
    let node = node("");
    deploy(
        &node,
        &bundle("ring", "scribbles-when-called"),
        "a",
        "ring=ring:desk.in",
        ONE,
    );
    digester(&node, KEPT);
    let scribbling = node.calling("a", "f", "[]");
    node.wait_until_running("a", 1);
    let (mut messages, mut errors) = (0, 0);
    while !scribbling.is_finished() {
        let answer = next(&node);
        match answer.status {
            200 => {
                let length: u64 = serde_json::from_slice(&answer.body).expect("is a number");
                assert!(length <= 256 << 10);
                messages += 1;
            }
            _ => {
                // The function's own error, or the end of its time: never the host's.
                let (_, kind, _) = answer.refusal();
                assert!(["function", "time"].contains(&kind.as_str()), "{answer:?}");
                errors += 1;
            }
        }
    }
    println!("{messages} messages, {errors} errors");
    assert!(errors > 0);
    assert_eq!(heard(scribbling).refusal().1, "time");
    assert_eq!(node.counted("b", "workers_out_of_order"), 0);
    assert_eq!(node.counted("b", "workers_started"), 1);
}

#[test]
fn ringing_without_end_costs_whoever_does_it_and_whoever_waits_for_it() {
    let node = node("");
    deploy(
        &node,
        &bundle("ring", "wakes-when-called"),
        "a",
        "ring=ring:desk.in",
        ONE,
    );
    digester(&node, &[KEPT, &["--deadline-ms", "1000"]].concat());
    let ringing = node.calling("a", "f", "[]");
    node.wait_until_running("a", 1);
    let waiting = node.calling("b", "digest", "[]");
    // Everybody else is served.
    while !ringing.is_finished() {
        let asked = Instant::now();
        let ready = http::ask(&node.socket(), "GET", "/health/ready", &[], b"").expect("is answered");
        assert_eq!(ready.status, 204);
        assert!(asked.elapsed() < SOON / 3, "{:?}", asked.elapsed());
    }
    assert_eq!(heard(ringing).refusal().1, "time");
    let (_, kind, _) = heard(waiting).refusal();
    assert!(["function", "time"].contains(&kind.as_str()), "{kind}");
    assert_eq!(node.counted("a", "workers_out_of_order"), 0);
}

#[test]
fn a_receiver_that_writes_what_the_sender_writes_faults() {
    let node = node("");
    let receiver = bundle("ring", "writes-as-receiver-when-called");
    deploy(&node, &receiver, "b", "ring=ring:x", ONE);
    deploy(
        &node,
        &bundle("ring", "both-ends"),
        "a",
        "out=ring:x",
        &["--cells", "1", "--bind", "in=ring:y"],
    );
    node.call("b", "f", "[]").is(502, "fault", "page-fault");
}

/// A node on which `a` can ring in a loop, at the end of a ring at which nobody hears it.
fn with_a_ringer() -> Node {
    let node = node("");
    let ringer = bundle("ring", "wakes-when-called");
    deploy(&node, &ringer, "a", "ring=ring:desk.in", ONE);
    digester(&node, KEPT);
    node
}

#[test]
fn a_bell_that_nobody_hears_is_said_once() {
    let node = with_a_ringer();
    let ringing = node.calling("a", "f", "[]");
    node.wait_until_running("a", 1);
    let workers = node.workers();
    let used = || workers.iter().map(|pid| cpu_ticks(*pid)).sum::<u64>();
    let (rung, woken, begun) = (node.counted("a", "exits"), switches(node.pid()), used());
    wait_for("it rings for a while", || {
        used() > begun + 25 || ringing.is_finished()
    });
    let woken = switches(node.pid()) - woken;
    let rung = node.counted("a", "exits") - rung;
    assert!(rung > 1000, "{rung}");
    // Whoever reads a message for each has a thread woken for almost each.
    assert!(woken * 10 <= rung, "woken {woken} times by {rung} rings");
    assert_eq!(heard(ringing).refusal().1, "time");
    assert_eq!(node.counted("a", "workers_out_of_order"), 0);
}

#[test]
fn calls_beside_a_muscle_that_rings_in_a_loop_are_as_fast_as_beside_one_that_computes() {
    let node = with_a_ringer();
    node.deploy(&acts(), "other", &[]);
    node.deploy(&acts(), "spins", &["--deadline-ms", "2000", "--cpu-ms", "2000"]);
    // The middle one of the times of calls that are made while this one runs.
    let beside = |begin: &dyn Fn() -> Calling, name: &str| -> Duration {
        let mut took = Vec::new();
        while took.len() < 50 {
            let busy = begin();
            wait_for("it runs", || {
                busy.is_finished() || node.shown(name)["running"] != 0
            });
            while !busy.is_finished() {
                let asked = Instant::now();
                node.call("other", "count", "[]").good();
                took.push(asked.elapsed());
            }
            assert_eq!(heard(busy).refusal().1, "time");
        }
        took.sort();
        took[took.len() / 2]
    };
    let computing = beside(&|| node.calling("spins", "spin", "[]"), "spins");
    let ringing = beside(&|| node.calling("a", "f", "[]"), "a");
    assert!(ringing < computing * 10, "{ringing:?} beside {computing:?}");
    assert_eq!(node.counted("a", "workers_out_of_order"), 0);
}

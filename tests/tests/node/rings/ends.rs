//! One side ends, is killed, replaced, removed, or has its grant taken back: the other one hears of it, and nothing is left.

use std::fs;

use serde_json::json;

use super::{
    KEPT, ONE, digester, feed, feeder, feeding, heard, hears, kill, next, node, pair, receiving, sending,
    worker_of,
};
use crate::node::Node;
use crate::wait_for;

/// Descriptors of a process that are of a ring.
fn ring_descriptors(pid: u32) -> usize {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("is there");
    let links = all
        .filter_map(Result::ok)
        .filter_map(|entry| fs::read_link(entry.path()).ok());
    links
        .filter(|link| link.to_string_lossy().starts_with("/memfd:ring"))
        .count()
}

#[test]
fn a_sender_that_is_killed_leaves_what_it_sent_and_its_end_is_heard() {
    let node = node("");
    pair(&node, KEPT);
    let sender = worker_of(&node, || drop(feed(&node, 5, 5).good()));
    // Before the other side has a worker: with this one it is nobody's any more.
    kill(&node, "a", sender);
    let waiting = receiving(&node, "next");
    let sender = worker_of(&node, || drop(feed(&node, 6, 6).good()));
    assert_eq!(heard(waiting).good(), b"6");
    feed(&node, 7, 7).good();
    kill(&node, "a", sender);
    assert_eq!(next(&node).good(), b"7", "it was sent");
    hears(&next(&node), "has ended");
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
    let waiting = receiving(&node, "digest");
    assert_eq!(node.cli(&["kill", "a"]).code, Some(0));
    hears(&heard(waiting), "has ended");
    // A new one begins in an empty ring.
    feed(&node, 8, 8).good();
    assert_eq!(next(&node).good(), b"8");
}

#[test]
fn a_receiver_that_is_killed_ends_the_wait_of_its_sender() {
    let node = node("");
    pair(&node, KEPT);
    feed(&node, 1, 1).good();
    let receiver = worker_of(&node, || drop(next(&node).good()));
    let waiting = sending(&node);
    kill(&node, "b", receiver);
    hears(&heard(waiting), "has ended");
    // Its next life finds nothing of what was sent to the one before.
    let digesting = receiving(&node, "next");
    feed(&node, 9, 9).good();
    assert_eq!(heard(digesting).good(), b"9");
}

#[test]
fn each_side_is_killed_while_both_are_busy() {
    let node = node("");
    pair(&node, KEPT);
    for round in 0..4 {
        let before = node.workers();
        let sending = feeding(&node, 1 << 40, 1000);
        wait_for("there is another worker", || node.workers().len() > before.len());
        let sender = node.workers().into_iter().find(|worker| !before.contains(worker));
        let sender = sender.expect("was made");
        let between = node.workers();
        let receiving = node.calling("b", "digest", "[]");
        wait_for("there is another worker", || node.workers().len() > between.len());
        let receiver = node
            .workers()
            .into_iter()
            .find(|worker| !between.contains(worker));
        let receiver = receiver.expect("was made");
        let pieces = node.counted("b", "slices");
        wait_for("messages pass", || node.counted("b", "slices") > pieces + 1);
        let (victim, witness) = match round % 2 {
            0 => (("a", sender), receiving),
            _ => (("b", receiver), sending),
        };
        kill(&node, victim.0, victim.1);
        let answer = heard(witness);
        hears(&answer, "has ended");
        // The next round has two new ones.
        for name in ["a", "b"] {
            assert_eq!(node.cli(&["kill", name]).code, Some(0));
        }
        wait_for("both are gone", || node.workers().is_empty());
        wait_for("no memory is left", || ring_descriptors(node.nursery()) == 0);
    }
}

#[test]
fn what_is_deployed_anew_has_the_end_when_the_old_one_has_left_it() {
    let node = node("");
    feeder(&node, &[KEPT, &["--deadline-ms", "3000"]].concat());
    digester(&node, KEPT);
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
    // An idle cell goes at once.
    let waiting = receiving(&node, "digest");
    feeder(&node, &[KEPT, &["--deadline-ms", "3000"]].concat());
    hears(&heard(waiting), "has ended");
    feed(&node, 2, 2).good();
    assert_eq!(next(&node).good(), b"2");
    // One with a call that is under way goes after it.
    let old = sending(&node);
    feeder(&node, KEPT);
    assert_eq!(node.shown("a")["generation"], json!(3));
    let new = feed(&node, 3, 3);
    new.clone().good();
    assert_eq!(heard(old).status, 504, "it had its time");
    assert_eq!(next(&node).good(), b"3");
    assert_eq!(
        ring_descriptors(node.nursery()),
        3,
        "one ring, whatever came and went"
    );
}

#[test]
fn a_removed_side_is_heard_and_then_missed() {
    let node = node("");
    pair(&node, KEPT);
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
    let waiting = sending(&node);
    assert_eq!(node.cli(&["remove", "b"]).code, Some(0));
    hears(&heard(waiting), "has ended");
    feed(&node, 1, 1).is(422, "rejected", "ring-not-joined");
    digester(&node, KEPT);
    // The sender's cell is the same, and is told of an end until somebody begins at the other one.
    hears(&feed(&node, 3, 3), "has ended");
    let waiting = receiving(&node, "next");
    feed(&node, 4, 4).good();
    assert_eq!(heard(waiting).good(), b"4");
}

#[test]
fn taking_a_ring_back_ends_the_worker_and_holds() {
    let mut node = node("");
    pair(&node, KEPT);
    let sender = worker_of(&node, || drop(feed(&node, 1, 1).good()));
    assert_eq!(next(&node).good(), b"1");
    let waiting = receiving(&node, "digest");
    let revoked = node.cli(&["grants", "a", "--revoke", "out"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.errors());
    assert!(!node.workers().contains(&sender), "it was answered, so it holds");
    hears(&heard(waiting), "has ended");
    feed(&node, 1, 1).is(422, "rejected", "ring-revoked");
    next(&node).is(422, "rejected", "ring-not-joined");
    node.crash();
    node.again();
    feed(&node, 1, 1).is(422, "rejected", "ring-revoked");
    feeder(&node, KEPT);
    feed(&node, 1, 1).is(422, "rejected", "ring-revoked");
    feeder(&node, &[KEPT, &["--reset-grants"]].concat());
    feed(&node, 2, 2).good();
    assert_eq!(next(&node).good(), b"2");
    assert_eq!(node.managed().iter().filter(|(op, _)| op == "revoke").count(), 1);
}

#[test]
fn an_idle_worker_goes_with_its_cell_and_a_paused_one_stays() {
    let node = node("cells.idle_seconds = 1");
    pair(&node, KEPT);
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
    wait_for("both are gone", || node.workers().is_empty());
    wait_for("no memory is left", || ring_descriptors(node.nursery()) == 0);
    // One that waits in a call is not idle, and hears that the other one was.
    feed(&node, 1, 1).good();
    hears(&node.call("b", "digest", "[]"), "has ended");
}

/// Memory that a process maps of rings: bytes, and whether they may be written.
fn maps(pid: u32) -> Vec<(u64, bool)> {
    let text = fs::read_to_string(format!("/proc/{pid}/maps")).expect("may be seen");
    let lines = text.lines().filter(|line| line.contains("/memfd:ring"));
    let map = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (from, to) = range.split_once('-')?;
        let bytes = u64::from_str_radix(to, 16).ok()? - u64::from_str_radix(from, 16).ok()?;
        Some((bytes, rest.starts_with("rw")))
    };
    let mut found: Vec<(u64, bool)> = lines.filter_map(map).collect();
    found.sort_unstable();
    found
}

/// Whether each of a worker's descriptors of rings is for writing.
fn writable(pid: u32) -> Vec<bool> {
    let all = fs::read_dir(format!("/proc/{pid}/fd")).expect("may be seen");
    let mut found: Vec<bool> = all
        .filter_map(Result::ok)
        .filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:ring"))
        })
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{name}")).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            Some(u32::from_str_radix(flags.trim(), 8).ok()? & 3 != 0)
        })
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn a_worker_has_nothing_by_which_it_could_write_what_the_other_one_or_the_host_does() {
    let node: Node = node("");
    pair(&node, KEPT);
    let sender = worker_of(&node, || drop(feed(&node, 1, 1).good()));
    let receiver = worker_of(&node, || drop(next(&node).good()));
    let page = 4096;
    assert_eq!(
        maps(sender),
        [(page, false), (page, false), (page + 262_144, true)]
    );
    assert_eq!(
        maps(receiver),
        [(page, false), (page, true), (page + 262_144, false)]
    );
    assert_eq!(writable(sender), [false, false, true]);
    assert_eq!(writable(receiver), [false, false, true]);
    assert_eq!(maps(node.pid()), [], "the supervisor has none of it");
    assert_eq!(ring_descriptors(node.pid()), 0);
    assert_eq!(maps(node.nursery()), [(page, true)], "the host's word");
    // Neither has a worker of somebody else.
    let other = worker_of(&node, || {
        node.deploy(&crate::acts(), "acts", ONE);
        node.call("acts", "count", "[]").good();
    });
    assert_eq!((maps(other).len(), ring_descriptors(other)), (0, 0));
}

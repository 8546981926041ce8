//! Rings between deployments: what passes, what the other side hears of an end, what is refused, and what a hostile side can do.
//!
//! The examples `feeder` and `digester` are the honest ones; the suite's guests have the other end where one is not.

mod ends;
mod hostile;
mod refused;

use std::fs;
use std::path::Path;
use std::time::Duration;

use cargo_muscle::{PrivateKey, trust};
use referee_bundle::{NameScope, PublisherKey, UnixTime};
use referee_tests::shop;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Answer;
use crate::node::{Calling, Node};
use crate::processes::{children, send};
use crate::{setup, wait_for};

/// A node that trusts the publishers of the examples and of the guests.
pub fn node(more: &str) -> Node {
    let shop = shop().expect("is furnished");
    let root = PrivateKey::read(&shop.join("root.key")).expect("is a key");
    let store = fs::read(shop.join("trust.store")).expect("is there");
    let suite = PublisherKey {
        public_key: setup().workshop.publisher().public_key().expect("has one"),
        // The year 2100.
        expires: UnixTime(4_102_444_800),
    };
    let scope = NameScope::parse("hostile.*").expect("is a scope");
    let draft = trust::add_publisher(&store, "suite", vec![suite], vec![scope]).expect("is added");
    let store = trust::sign(&draft, &root, &[]).expect("is signed");
    let node = Node::with(more);
    fs::write(node.path("trust.store"), store).expect("is written");
    assert_eq!(node.cli(&["reload"]).code, Some(0), "{}", node.words());
    node
}

/// The bundle of an example.
fn example(name: &str) -> std::path::PathBuf {
    shop().expect("is furnished").join(format!("{name}.muscle"))
}

const ONE: &[&str] = &["--cells", "1"];
/// A cell that keeps its memory, and its ends of rings, from call to call.
const KEPT: &[&str] = &["--cells", "1", "--keep-memory"];

#[track_caller]
fn deploy(node: &Node, bundle: &Path, name: &str, binding: &str, more: &[&str]) {
    let options = [&["--bind", binding], more].concat();
    node.deploy(bundle, name, &options);
}

/// `feeder` as `a` and `digester` as `b`, joined by the ring `desk.in`.
pub fn pair(node: &Node, more: &[&str]) {
    feeder(node, more);
    digester(node, more);
}

fn feeder(node: &Node, more: &[&str]) {
    deploy(node, &example("feeder"), "a", "out=ring:desk.in", more);
}

fn digester(node: &Node, more: &[&str]) {
    deploy(node, &example("digester"), "b", "in=ring:desk.in", more);
}

fn feed(node: &Node, total: u64, each: u32) -> Answer {
    node.call("a", "feed", &format!("[{total}, {each}]"))
}

fn feeding(node: &Node, total: u64, each: u32) -> Calling {
    node.calling("a", "feed", &format!("[{total}, {each}]"))
}

fn next(node: &Node) -> Answer {
    node.call("b", "next", "[]")
}

#[track_caller]
fn hears(answer: &Answer, words: &str) {
    assert!(answer.message().contains(words), "{answer:?}");
}

#[track_caller]
fn heard(call: Calling) -> Answer {
    call.join().expect("ends").expect("is answered")
}

/// The worker of a deployment that has been called: the one that is there no more once it was dismissed.
fn worker_of(node: &Node, call: impl FnOnce()) -> u32 {
    let before = node.workers();
    call();
    let new: Vec<u32> = node
        .workers()
        .into_iter()
        .filter(|worker| !before.contains(worker))
        .collect();
    assert_eq!(new.len(), 1, "{new:?}");
    new[0]
}

/// Kills a deployment's worker and waits until the node has seen it.
fn kill(node: &Node, name: &str, worker: u32) {
    send(worker, Signal::KILL);
    wait_for("the node sees it", || {
        !children(node.nursery()).contains(&worker) && node.shown(name)["state"] != "ready"
    });
}

/// Calls, and comes back when the call waits without a slot: it has run, and no further piece of it for a while.
fn waiting(node: &Node, name: &str, function: &str, arguments: &str) -> Calling {
    let begun = node.counted(name, "slices");
    let call = node.calling(name, function, arguments);
    let mut before = begun;
    wait_for("it waits", || {
        std::thread::sleep(Duration::from_millis(150));
        let slices = node.counted(name, "slices");
        let stands = std::mem::replace(&mut before, slices) == slices;
        slices > begun && stands && node.shown(name)["running"] == json!(1)
    });
    call
}

/// A sender that waits for room.
fn sending(node: &Node) -> Calling {
    waiting(node, "a", "feed", "[1099511627776, 4096]")
}

/// A receiver that waits for a message.
fn receiving(node: &Node, function: &str) -> Calling {
    waiting(node, "b", function, "[]")
}

fn joins(node: &Node) -> Vec<Value> {
    let mut records = node.records();
    records.retain(|record| record["op"] == "ring.join");
    records
}

#[test]
fn messages_pass_whole_and_in_order_and_without_an_exit_each() {
    const BYTES: u64 = 8 << 20;
    const MESSAGES: u64 = 40_000;
    let node = node("");
    pair(&node, KEPT);
    // What wraps around in the middle of words, messages and pages; then many small ones.
    for (total, each) in [(BYTES, 60_001), (MESSAGES * 16, 16)] {
        let before = ["a", "b"].map(|name| node.counted(name, "exits"));
        let digesting = node.calling("b", "digest", "[]");
        let sent: String = serde_json::from_slice(&feed(&node, total, each).good()).expect("is a text");
        node.call("a", "finish", "[]").good();
        let received: (u64, String) = serde_json::from_slice(&heard(digesting).good()).expect("is a pair");
        assert_eq!(received, (total, sent));
        let exits: Vec<u64> = ["a", "b"]
            .iter()
            .zip(before)
            .map(|(name, before)| node.counted(name, "exits") - before)
            .collect();
        println!("{total} bytes by {each}: {exits:?} exits");
        if each == 16 {
            // By calls that would be two of each side for each message.
            assert!(exits.iter().sum::<u64>() < MESSAGES / 4, "{exits:?}");
        }
    }
    // Both logs say by which ring, once for each cell; what passed is in none.
    let joins = joins(&node);
    let told: Vec<_> = joins
        .iter()
        .map(|record| (&record["slot"], &record["detail"]))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told.contains(&(&json!("out"), &json!({"ring": "desk.in", "role": "send"}))),
        "{told:?}"
    );
    assert!(
        told.contains(&(&json!("in"), &json!({"ring": "desk.in", "role": "receive"}))),
        "{told:?}"
    );
    let shown = node.shown("a")["rings"].clone();
    assert_eq!(
        shown,
        json!([{"slot": "out", "ring": "desk.in", "role": "send", "bytes": 262_144}])
    );
    let listed = node.cli(&["grants", "b"]);
    assert!(listed.output().contains("ring desk.in"), "{}", listed.output());
    let listed = node.cli(&["ps", "b"]);
    assert!(
        listed.output().contains("in is to receive by desk.in"),
        "{}",
        listed.output()
    );
}

#[test]
fn a_call_with_a_fresh_cell_is_one_life_and_leaves_what_it_sent_to_the_other_sides_next() {
    let node = node("");
    pair(&node, ONE);
    for _ in 0..3 {
        feed(&node, 10, 5).good();
        let digested = node.call("b", "digest", "[]");
        // It receives what there is, and then hears that nobody is there who could send more.
        hears(&digested, "has ended");
    }
    for length in [3, 4] {
        feed(&node, length, 5).good();
        assert_eq!(next(&node).good(), length.to_string().as_bytes());
    }
    // Twice what one side said before the other side came: it is the second life's alone.
    feed(&node, 1, 1).good();
    feed(&node, 2, 2).good();
    assert_eq!(next(&node).good(), b"2");
    // Each life of both was a cell of its own.
    assert_eq!(joins(&node).len(), 7 + 6);
}

#[test]
fn whoever_waits_has_no_slot() {
    let node = node("cells.slots = 1");
    pair(&node, KEPT);
    node.deploy(&crate::acts(), "acts", &[]);
    let digesting = receiving(&node, "digest");
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    // More than the ring holds, so that both wait, and neither while it has the slot.
    feed(&node, 1 << 20, 1000).good();
    node.call("a", "finish", "[]").good();
    let received: (u64, String) = serde_json::from_slice(&heard(digesting).good()).expect("is a pair");
    assert_eq!(received.0, 1 << 20);
    assert!(node.counted("a", "slices") >= 4 && node.counted("b", "slices") >= 4);
}

#[test]
fn a_wait_ends_with_the_calls_deadline_or_when_it_is_given_up() {
    let node = node("");
    feeder(&node, KEPT);
    digester(&node, &[KEPT, &["--deadline-ms", "700"]].concat());
    node.call("b", "digest", "[]").is(504, "time", "deadline");
    node.call("b", "next", "[]").is(504, "time", "deadline");
    feed(&node, 3, 3).good();
    assert_eq!(next(&node).good(), b"3");
}

//! What a node does against side channels: replies at fixed times, and what it asks of the kernel for its workers.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::acts;
use crate::node::Node;

const TICK: Duration = Duration::from_millis(200);

#[test]
fn replies_and_errors_leave_no_sooner_than_the_next_tick_and_headers_say_whole_ticks() {
    let node = Node::start();
    node.deploy(&acts(), "paced", &["--release-ms", "200"]);
    node.deploy(&acts(), "free", &[]);
    assert_eq!(node.shown("paced")["settings"]["release_ms"], json!(200));
    let tick_us = u64::try_from(TICK.as_micros()).expect("is small");
    for (function, status) in [("count", 200), ("fault", 502), ("refuse", 422), ("none", 404)] {
        let begun = Instant::now();
        let answer = node.call("paced", function, "[]");
        assert!(begun.elapsed() >= TICK, "{function}: {:?}", begun.elapsed());
        assert_eq!(answer.status, status, "{function}");
        if let Some(used) = answer.header("referee-used-us") {
            let used: u64 = used.parse().expect("is a number");
            assert!(used > 0 && used.is_multiple_of(tick_us), "{used}");
        }
    }
    // Bad arguments wait, too: what is looked at before the muscle runs takes time that depends on what was sent.
    let begun = Instant::now();
    node.call("paced", "count", "{")
        .is(400, "rejected", "arguments-invalid");
    assert!(begun.elapsed() >= TICK);
    // While a reply waits, its cell is free for others: with one cell, many calls wait together.
    node.deploy(&acts(), "one", &["--cells", "1", "--release-ms", "2000"]);
    let calls: Vec<_> = (0..4).map(|_| node.calling("one", "count", "[]")).collect();
    crate::wait_for("all have run before any has left", || {
        node.counted("one", "returned") == 4
    });
    assert!(!calls.iter().any(std::thread::JoinHandle::is_finished));
    for call in calls {
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"0");
    }
    for bad in ["0", "60001"] {
        let bundle = crate::text(&acts());
        let refused = node.cli(&["deploy", &bundle, "--name", "bad", "--release-ms", bad]);
        assert_eq!(refused.code, crate::REJECTED);
        assert!(
            refused.errors().contains("release_ms must be 1 to 60000"),
            "{}",
            refused.errors()
        );
    }
}

/// What this host has, as `doctor` says.
fn lines(node: &Node) -> Vec<Value> {
    let doctor = node.cli(&["doctor", "--json"]);
    let checks: Value = serde_json::from_slice(&doctor.stdout).expect("is JSON");
    checks.as_array().expect("is a list").clone()
}

const DEFENCES: [(&str, &str); 4] = [
    ("core-scheduling", "core_scheduling"),
    ("indirect-branches", "indirect_branches"),
    ("store-bypass", "store_bypass"),
    ("l1d-flush", "l1d_flush"),
];

#[test]
fn what_is_required_and_not_there_keeps_workers_from_starting_with_the_reason() {
    let node = Node::start();
    let checks = lines(&node);
    for name in ["cache-partition", "swap", "memory"] {
        assert!(
            checks.iter().any(|check| check["name"] == name),
            "{name}: {checks:?}"
        );
    }
    drop(node);
    for (name, key) in DEFENCES {
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .expect("is looked at");
        let node = Node::with(&format!("side_channels.{key} = 'require'"));
        node.deploy(&acts(), "acts", &[]);
        let answer = node.call("acts", "count", "[]");
        if check["state"] == "ok" {
            assert_eq!(answer.good(), b"0", "{name}");
            continue;
        }
        answer.is(500, "host-error", "host");
        let why = check["found"].as_str().expect("is said");
        for part in [name, why] {
            assert!(answer.message().contains(part), "{part}: {}", answer.message());
        }
        assert!(
            !node.records().iter().any(|record| record["kind"] == "start"),
            "{name}"
        );
    }
}

#[test]
fn what_is_preferred_and_not_there_is_named_in_the_record_of_each_cell() {
    let node = Node::start();
    let checks = lines(&node);
    drop(node);
    let wishes: String = DEFENCES
        .iter()
        .map(|(_, key)| format!("side_channels.{key} = 'prefer'\n"))
        .collect();
    let node = Node::with(&wishes);
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    let records = node.records();
    let start = records
        .iter()
        .find(|record| record["kind"] == "start")
        .expect("has begun");
    let missing = start["detail"]["not_confined_by"].as_str().expect("is said");
    for (name, _) in DEFENCES {
        let check = checks
            .iter()
            .find(|check| check["name"] == name)
            .expect("is looked at");
        let lacks = missing.split(' ').any(|word| word == name);
        assert_eq!(lacks, check["state"] != "ok", "{name}: {missing}");
    }
}

#[test]
fn a_part_of_the_cache_is_required_only_of_those_who_have_one() {
    let node = Node::with("side_channels.cache = 'require'");
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    let publisher = node.shown("acts")["publisher"]
        .as_str()
        .expect("has one")
        .to_owned();
    let has_it = lines(&node)
        .iter()
        .any(|check| check["name"] == "cache-partition" && check["state"] == "ok");
    drop(node);
    let node = Node::with(&format!(
        "side_channels.cache = 'require'\ntenants.{publisher}.cache = '50%'"
    ));
    node.deploy(&acts(), "acts", &[]);
    let answer = node.call("acts", "count", "[]");
    match has_it {
        true => assert_eq!(answer.good(), b"0"),
        false => {
            answer.is(500, "host-error", "host");
            assert!(
                answer.message().contains("cache-partition"),
                "{}",
                answer.message()
            );
        }
    }
}

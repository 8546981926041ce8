//! Muscles that break rules: the call says so, and nobody else notices.

use std::time::Duration;

use serde_json::json;

use crate::node::Node;
use crate::{FAULT, TIME_LIMIT, acts};

#[test]
fn each_fault_has_its_name_and_status_and_the_next_call_is_well() {
    let node = Node::with("cells.output_bytes = 65536");
    node.deploy(&acts(), "acts", &[]);
    node.deploy(&acts(), "hasty", &["--deadline-ms", "300"]);
    node.deploy(&acts(), "neighbour", &["--keep-memory", "--cells", "1"]);
    let faults = [
        ("fault", 502, "fault", "invalid-opcode"),
        ("quit", 502, "fault", "exited"),
        ("yell", 502, "fault", "output-limit"),
        ("deny", 502, "fault", "denial-limit"),
        ("spin", 504, "time", "deadline"),
        ("wait", 504, "time", "deadline"),
        ("refuse", 422, "function", "application"),
    ];
    for (round, (function, status, kind, name)) in faults.into_iter().enumerate() {
        let deployment = if kind == "time" { "hasty" } else { "acts" };
        let answer = node.call(deployment, function, "[9]");
        answer.is(status, kind, name);
        assert_eq!(
            answer.json().pointer("/error/report").is_some(),
            name != "exited" && kind != "function",
            "{function}"
        );
        assert_eq!(node.call(deployment, "count", "[]").good(), b"0");
        // Its memory is as it was left: nothing that the other did has reached its cell.
        assert_eq!(
            node.call("neighbour", "count", "[]").good(),
            round.to_string().as_bytes()
        );
    }
    for (name, expected) in [("acts", [10, 5, 4, 1, 0, 0, 0]), ("hasty", [4, 2, 2, 0, 0, 0, 0])] {
        let counted = node.shown(name)["counted"].clone();
        let parts = [
            "calls",
            "returned",
            "faults",
            "function_errors",
            "cancelled",
            "host_errors",
            "refused",
        ];
        let numbers: Vec<u64> = parts.iter().filter_map(|part| counted[*part].as_u64()).collect();
        assert_eq!(numbers, expected, "{name}: {counted}");
        assert_eq!(
            counted["workers_started"],
            json!(1),
            "a fault ends a cell and no worker"
        );
    }
    let faults: Vec<String> = node
        .records()
        .iter()
        .filter(|record| record["kind"] == "fault")
        .filter_map(|record| record.pointer("/detail/fault")?.as_str().map(str::to_owned))
        .collect();
    assert_eq!(
        faults,
        [
            "invalid-opcode",
            "output-limit",
            "denial-limit",
            "deadline",
            "deadline"
        ]
    );
}

#[test]
fn the_command_line_has_an_exit_code_for_whose_fault_it_was() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--deadline-ms", "200"]);
    for (function, code, words) in [
        ("fault", FAULT, "fault: "),
        ("quit", FAULT, "fault: the muscle exited with code 3"),
        ("spin", TIME_LIMIT, "fault: "),
        ("refuse", Some(1), "error: not me [application]\n"),
    ] {
        let ended = node.cli(&["call", "@acts", function]);
        assert_eq!(
            (ended.code, ended.output().as_str()),
            (code, ""),
            "{function}: {}",
            ended.errors()
        );
        assert!(
            ended.errors().starts_with(words),
            "{function}: {}",
            ended.errors()
        );
    }
}

#[test]
fn cpu_and_deadline_are_each_calls_own() {
    let node = Node::start();
    node.deploy(&acts(), "cpu", &["--cpu-ms", "100"]);
    node.call("cpu", "spin", "[]").is(504, "time", "cpu-limit");
    // To wait costs no processor time; three in a row last longer than one may.
    node.deploy(
        &acts(),
        "waits",
        &[
            "--deadline-ms",
            "500",
            "--cpu-ms",
            "200",
            "--cells",
            "1",
            "--keep-memory",
        ],
    );
    for _ in 0..3 {
        assert_eq!(node.call("waits", "wait", "[3]").good(), b"null");
    }
}

#[test]
fn calls_beside_a_fault_do_not_notice() {
    let node = Node::with("cells.slots = 2");
    node.deploy(&acts(), "acts", &["--cells", "8", "--deadline-ms", "20000"]);
    node.deploy(&acts(), "other", &[]);
    let waits: Vec<_> = (0..3).map(|_| node.calling("acts", "wait", "[8]")).collect();
    node.wait_until_running("acts", 3);
    let spin = node.calling("acts", "spin", "[]");
    for function in ["fault", "quit", "deny"].iter().cycle().take(9) {
        assert_eq!(node.call("acts", function, "[]").status, 502, "{function}");
        assert_eq!(node.call("other", "count", "[]").good(), b"0");
    }
    for wait in waits {
        assert_eq!(wait.join().expect("ends").expect("is answered").good(), b"null");
    }
    assert!(!spin.is_finished(), "it may spin for 20 seconds");
    assert_eq!(node.cli(&["kill", "acts"]).code, Some(0));
    spin.join()
        .expect("ends")
        .expect("is answered")
        .is(502, "host-error", "worker-gone");
}

#[test]
fn spinning_calls_share_the_slots_with_all_others() {
    let node = Node::with("cells.slots = 1");
    node.deploy(&acts(), "spins", &["--cells", "4", "--deadline-ms", "30000"]);
    node.deploy(&acts(), "other", &[]);
    let spins: Vec<_> = (0..4).map(|_| node.calling("spins", "spin", "[]")).collect();
    node.wait_until_running("spins", 4);
    let begun = std::time::Instant::now();
    for _ in 0..10 {
        assert_eq!(node.call("other", "count", "[]").good(), b"0");
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(!spins.iter().any(|spin| spin.is_finished()));
    assert_eq!(node.cli(&["kill", "spins"]).code, Some(0));
    for spin in spins {
        assert_eq!(spin.join().expect("ends").expect("is answered").status, 502);
    }
}

#[test]
fn a_flood_of_output_is_cut_and_the_last_of_it_is_kept() {
    let node = Node::with("cells.log_bytes = 10000\ncells.output_bytes = 1000000");
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "yell", "[]").is(502, "fault", "output-limit");
    let logs = node.cli(&["logs", "acts"]);
    let length = logs.stdout.len();
    assert!((4096..12_000).contains(&length), "{length} bytes");
}

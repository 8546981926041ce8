//! The audit log through the API: what somebody elsewhere needs to check it, and no more than they may see.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use referee_audit::{AuditLog, Options, verify_bytes};
use serde_json::Value;

use crate::node::Node;
use crate::{REJECTED, acts, http, text};

fn get(node: &Node, query: &str) -> http::Answer {
    node.ask("GET", &format!("/v1/audit{query}"), b"")
}

fn numbers(lines: &[u8]) -> Vec<u64> {
    let lines = lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let records = lines.map(|line| serde_json::from_slice::<Value>(line).expect("is JSON"));
    records
        .map(|record| record["seq"].as_u64().expect("has a number"))
        .collect()
}

#[test]
fn a_copy_of_the_log_can_be_checked_elsewhere() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    for _ in 0..8 {
        node.call("acts", "log", "[]").good();
    }
    let whole = get(&node, "");
    assert_eq!(whole.header("content-type"), Some("application/x-ndjson"));
    let copy = whole.body.clone();
    assert!(
        fs::read(node.path("audit.jsonl"))
            .expect("is there")
            .starts_with(&copy)
    );
    let checked = verify_bytes(&copy).expect("unbroken");
    let head = |name: &str| whole.header(name).expect("is said").to_owned();
    let records: u64 = head("referee-audit-records").parse().expect("a number");
    assert!(records <= checked.head.records && records > 10);
    if records == checked.head.records {
        assert_eq!(head("referee-audit-hash"), checked.head.hash.to_string());
    }
    // In pieces it is the same, each beginning where the one before ended.
    let mut pieces = Vec::new();
    while numbers(&pieces).len() < 10 {
        let after = numbers(&pieces).last().map(|last| format!("&after={last}"));
        let piece = get(&node, &format!("?limit=3{}", after.unwrap_or_default())).good();
        assert!(numbers(&piece).len() == 3);
        pieces.extend(piece);
    }
    assert!(copy.starts_with(&pieces));
    assert_eq!(get(&node, "?after=9223372036854775807").good(), b"");
    for bad in [
        "?limit=0",
        "?limit=10001",
        "?after=-1",
        "?after=x",
        "?after=9223372036854775808",
        "?other=1",
        "?follow=2",
    ] {
        get(&node, bad).is(400, "rejected", "query-invalid");
    }
}

#[test]
fn records_that_were_rotated_away_are_still_given() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "log", "[]").good();
    let log = node.path("audit.jsonl");
    let rotate = || {
        AuditLog::open(
            &log,
            Options {
                sharing: referee_audit::Sharing::Shared,
                ..Options::default()
            },
        )
        .expect("opens")
        .rotate(&log)
    };
    rotate().expect("is rotated");
    node.call("acts", "log", "[]").good();
    let copy = get(&node, "").good();
    let checked = verify_bytes(&copy).expect("unbroken");
    assert_eq!(checked.first, 0);
    assert!(node.stop().success());
    let now = referee_audit::verify(&log).expect("unbroken");
    assert!(checked.head.records <= now.head.records);
    // As one file again, for whoever looks at the log at the test's end.
    let archives = referee_audit::archives(&log).expect("are read");
    let mut whole = Vec::new();
    for file in archives.iter().chain([&log]) {
        whole.extend(fs::read(file).expect("is there"));
    }
    fs::write(&log, whole).expect("is written");
    for archive in archives {
        fs::remove_file(archive).expect("is removed");
    }
}

#[test]
fn the_command_line_prints_them_and_follows() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "log", "[]").good();
    let shown = node.cli(&["audit", "show", "--limit", "2"]);
    assert_eq!(
        (shown.code, numbers(&shown.stdout)),
        (Some(0), vec![0, 1]),
        "{}",
        shown.errors()
    );
    let whole = node.cli(&["audit", "show"]);
    verify_bytes(&whole.stdout).expect("unbroken");
    let last = numbers(&whole.stdout).pop().expect("there are");
    let mut following = node.command(&["audit", "show", "--follow", "--after", &last.to_string()]);
    let mut following = following.stdout(Stdio::piped()).spawn().expect("starts");
    node.call("acts", "log", "[]").good();
    let out = BufReader::new(following.stdout.take().expect("is piped"));
    let mut next = last;
    for line in out.lines() {
        let record: Value = serde_json::from_str(&line.expect("is text")).expect("is JSON");
        next += 1;
        assert_eq!(record["seq"], next, "none is missing");
        if record["op"] == "console.out" {
            break;
        }
    }
    assert!(next > last);
    following.kill().expect("is ours");
    following.wait().expect("is ours");
}

#[test]
fn whoever_may_not_read_the_log_reads_none_of_it_and_a_follower_hears_of_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let policies = folder.path().join("api.cedar");
    let write = |forbidden: &str| {
        let policy = format!(
            "@id(\"all\") permit (principal, action, resource);\n@id(\"not\") forbid (principal, action == Action::\"{forbidden}\", resource);"
        );
        fs::write(&policies, policy).expect("written");
    };
    write("stats");
    let node = Node::with(&format!("api.policies = ['{}']", text(&policies)));
    let mut following = node.command(&["audit", "show", "--follow"]);
    let following = following.stdout(Stdio::piped()).spawn().expect("starts");
    write("audit");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    // It ends by itself: policy does not permit it any more.
    let ended = referee_tests::Ended::of(following).expect("ends");
    if ended.code == Some(0) {
        verify_bytes(&ended.stdout).expect("unbroken as far as it goes");
    } else {
        // The reload came before it had asked.
        assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    }
    get(&node, "").is(403, "rejected", "not-permitted");
    let before = node.records().len();
    get(&node, "?follow=true").is(403, "rejected", "not-permitted");
    assert_eq!(
        node.records().len(),
        before,
        "a look that is refused leaves no record"
    );
}

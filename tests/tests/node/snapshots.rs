//! Snapshots of a node: made of a cell that keeps its memory, and what is deployed from them, after crashes too.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::node::Node;
use crate::processes::send;
use crate::{REJECTED, acts, bundle, text, wait_for};

const KEPT: &[&str] = &["--cells", "1", "--keep-memory"];

fn echoes() -> PathBuf {
    bundle("reactor", "echoes")
}

/// Calls so often that the deployment has counted up to this.
#[track_caller]
fn count_from(node: &Node, name: &str, first: u32, calls: u32) {
    for expected in first..first + calls {
        let answer = node.call(name, "count", "[]").good();
        assert_eq!(answer, expected.to_string().as_bytes());
    }
}

/// Makes one by the command line, which prints its name.
#[track_caller]
fn snapshot(node: &Node, name: &str) -> String {
    let made = node.cli(&["snapshot", name]);
    assert_eq!(made.code, Some(0), "{}", made.errors());
    let id = made.output().trim().to_owned();
    assert_eq!(id.len(), 64, "{id}");
    id
}

fn file(node: &Node, id: &str) -> PathBuf {
    node.path(&format!("state/snapshots/{id}.snapshot"))
}

/// Deploys by the API, with settings.
fn deploy(node: &Node, name: &str, settings: &Value) -> crate::http::Answer {
    let digest = node.shown("desk")["bundle"].clone();
    let body = json!({"bundle": digest, "settings": settings}).to_string();
    node.ask("PUT", &format!("/v1/deployments/{name}"), body.as_bytes())
}

/// The node has seen that its workers are gone, so that no call is lost with one.
fn wait_until_idle(node: &Node) {
    wait_for("the workers are gone", || {
        let all = node.ask("GET", "/v1/deployments", b"").json();
        let all = all.as_array().expect("is a list");
        node.workers().is_empty() && all.iter().all(|one| one["state"] != "ready")
    });
}

#[test]
fn a_count_goes_on_from_a_snapshot_after_any_crash() {
    let mut node = Node::start();
    node.deploy(&echoes(), "desk", KEPT);
    count_from(&node, "desk", 0, 3);
    let id = snapshot(&node, "desk");
    count_from(&node, "desk", 3, 2);
    let from = ["--cells", "1", "--snapshot", &id, "--keep-memory"];
    node.deploy(&echoes(), "keeps", &from);
    node.deploy(&echoes(), "fresh", &["--cells", "2", "--snapshot", &id]);
    count_from(&node, "keeps", 3, 4);
    for _ in 0..4 {
        count_from(&node, "fresh", 3, 1);
    }
    // Cells that are loaded ahead begin there, too.
    let ahead = json!({"cells": 2, "ahead": 2, "snapshot": id});
    assert_eq!(deploy(&node, "ahead", &ahead).status, 200);
    for _ in 0..4 {
        count_from(&node, "ahead", 3, 1);
    }
    // The worker dies, and its successor begins there again.
    for worker in node.workers() {
        send(worker, Signal::KILL);
    }
    wait_until_idle(&node);
    count_from(&node, "keeps", 3, 2);
    count_from(&node, "fresh", 3, 1);
    count_from(&node, "desk", 0, 1);
    node.crash();
    node.again();
    count_from(&node, "keeps", 3, 1);
    let shown = node.shown("keeps");
    assert_eq!(shown.pointer("/settings/snapshot"), Some(&json!(id)));
    // Of what began there, a snapshot in turn.
    let later = snapshot(&node, "keeps");
    assert_eq!(deploy(&node, "later", &json!({"snapshot": later})).status, 200);
    count_from(&node, "later", 4, 1);
    assert_eq!(node.stop().code(), Some(0));
    node.again();
    count_from(&node, "later", 4, 1);
    // The log has who made it, which deployment has it, and which cells began there.
    let records = node.records_so_far();
    let told = |kind: &str, op: &str| {
        let of = |record: &&Value| {
            record["kind"] == kind
                && (op.is_empty() || record["op"] == op)
                && record["detail"]["snapshot"] == json!(id)
        };
        records.iter().filter(of).count()
    };
    assert_eq!(told("manage", "snapshot"), 1);
    assert_eq!(told("manage", "deploy"), 3);
    assert!(told("start", "") >= 6, "{}", told("start", ""));
}

#[test]
fn a_snapshot_waits_for_the_call_that_has_the_cell_and_a_paused_deployment_is_kept() {
    let node = Node::start();
    node.deploy(&bundle("reactor", "remembers"), "desk", KEPT);
    count_from(&node, "desk", 0, 2);
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    let id = snapshot(&node, "desk");
    let other = deploy(
        &node,
        "other",
        &json!({"snapshot": id, "cells": 1, "fresh": false}),
    );
    assert_eq!(other.status, 200, "{other:?}");
    count_from(&node, "other", 2, 1);
    let time = |name: &str| -> u64 {
        let answer = node.call(name, "time", "[]").good();
        String::from_utf8(answer)
            .expect("is text")
            .parse()
            .expect("a number")
    };
    let first = time("other");
    for worker in node.workers() {
        send(worker, Signal::KILL);
    }
    wait_until_idle(&node);
    count_from(&node, "other", 2, 1);
    assert!(first > 0 && time("other") > 0, "its clock goes on");
}

#[test]
fn what_cannot_be_kept_is_refused_by_name() {
    let node = Node::start();
    let keep = |name: &str| node.ask("POST", &format!("/v1/deployments/{name}/snapshot"), b"");
    keep("nobody").is(404, "rejected", "no-deployment");
    node.deploy(&echoes(), "fresh", &["--cells", "1"]);
    keep("fresh").is(422, "rejected", "snapshot-needs-kept-memory");
    node.deploy(&echoes(), "many", &["--keep-memory", "--cells", "2"]);
    keep("many").is(422, "rejected", "snapshot-needs-one-cell");
    node.deploy(&echoes(), "desk", KEPT);
    keep("desk").is(422, "rejected", "snapshot-no-cell");
    count_from(&node, "desk", 0, 1);
    assert_eq!(node.cli(&["kill", "desk"]).code, Some(0));
    keep("desk").is(422, "rejected", "snapshot-no-cell");
    // It has handles of this life, and did not say that it reads them anew.
    node.deploy(&acts(), "acts", KEPT);
    count_from(&node, "acts", 0, 1);
    keep("acts").is(422, "rejected", "snapshot-unsound");
    count_from(&node, "acts", 1, 1);
    let refused = node.cli(&["snapshot", "acts"]);
    assert_eq!(refused.code, REJECTED);
    assert!(refused.errors().contains("READY"), "{}", refused.errors());
    assert_eq!(node.ask("GET", "/v1/snapshots", b"").json(), json!([]));
    assert_eq!(
        fs::read_dir(node.path("state/snapshots"))
            .expect("is there")
            .count(),
        0
    );
}

#[test]
fn what_cannot_begin_from_a_snapshot_is_refused_by_name() {
    let node = Node::start();
    node.deploy(&echoes(), "desk", KEPT);
    count_from(&node, "desk", 0, 1);
    let id = snapshot(&node, "desk");
    let nobody = "00".repeat(32);
    deploy(&node, "other", &json!({"snapshot": nobody})).is(422, "rejected", "no-snapshot");
    deploy(&node, "other", &json!({"snapshot": "../../x"})).is(422, "rejected", "settings-invalid");
    let another = node.cli(&["deploy", &text(&acts()), "--name", "other", "--snapshot", &id]);
    assert_eq!(another.code, REJECTED);
    assert!(
        another.errors().contains("[snapshot-of-another-bundle]"),
        "{}",
        another.errors()
    );
    assert_eq!(deploy(&node, "other", &json!({"snapshot": id})).status, 200);
    // In use, until what begins from it is gone.
    let forget = |id: &str| node.ask("DELETE", &format!("/v1/snapshots/{id}"), b"");
    forget(&id).is(422, "rejected", "snapshot-in-use");
    forget(&nobody).is(404, "rejected", "no-snapshot");
    let shown = node.ask("GET", "/v1/snapshots", b"").json();
    let one = &shown[0];
    assert_eq!(
        (&one["snapshot"], &one["deployment"]),
        (&json!(id), &json!("desk"))
    );
    assert_eq!(one["used_by"], json!(["other"]));
    assert_eq!(
        one["bytes"],
        json!(fs::metadata(file(&node, &id)).expect("is there").len())
    );
    let listed = node.cli(&["snapshots"]);
    assert!(
        listed.output().contains(&format!("{id}  ")),
        "{}",
        listed.output()
    );
    assert!(
        listed.output().contains("desk, used by other"),
        "{}",
        listed.output()
    );
    assert_eq!(node.cli(&["remove", "other"]).code, Some(0));
    wait_for("nothing begins from it", || {
        node.cli(&["snapshots", "--remove", &id]).code == Some(0)
    });
    assert!(!file(&node, &id).exists());
    assert_eq!(node.ask("GET", "/v1/snapshots", b"").json(), json!([]));
    let done: Vec<String> = node.managed().into_iter().map(|(op, _)| op).collect();
    assert_eq!(
        done,
        [
            "deploy",
            "snapshot",
            "refuse",
            "refuse",
            "deploy",
            "remove",
            "remove-snapshot"
        ]
    );
}

#[test]
fn a_damaged_file_is_refused_by_name_and_the_node_goes_on() {
    let node = Node::start();
    node.deploy(&echoes(), "desk", KEPT);
    count_from(&node, "desk", 0, 1);
    let id = snapshot(&node, "desk");
    let path = file(&node, &id);
    let mode = fs::metadata(&path).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for nobody else");
    let whole = fs::read(&path).expect("is there");
    assert_eq!(deploy(&node, "other", &json!({"snapshot": id})).status, 200);
    // One byte, in the middle of its memory.
    let middle = u64::try_from(whole.len() / 2).expect("small");
    let broken = OpenOptions::new().write(true).open(&path).expect("opens");
    let byte = whole[whole.len() / 2] ^ 1;
    broken.write_all_at(&[byte], middle).expect("is written");
    node.call("other", "count", "[]")
        .is(422, "rejected", "snapshot-damaged");
    // Longer than any.
    broken.set_len(1 << 40).expect("has holes");
    node.call("other", "count", "[]")
        .is(422, "rejected", "snapshot-damaged");
    broken.set_len(10).expect("is cut");
    node.call("other", "count", "[]")
        .is(422, "rejected", "snapshot-damaged");
    fs::remove_file(&path).expect("is there");
    node.call("other", "count", "[]")
        .is(422, "rejected", "no-snapshot");
    count_from(&node, "desk", 1, 1);
    fs::write(&path, &whole).expect("is written");
    count_from(&node, "other", 1, 1);
}

#[test]
fn policy_decides_who_keeps_a_memory_and_who_begins_with_it() {
    let mut node = Node::start();
    node.deploy(&echoes(), "desk", KEPT);
    count_from(&node, "desk", 0, 2);
    let id = snapshot(&node, "desk");
    let policies = node.path("api.cedar");
    crate::node::configure(node.folder(), &format!("api.policies = ['{}']", text(&policies)));
    fs::write(
        &policies,
        r#"@id("all") permit (principal, action, resource);
           @id("not-kept") forbid (principal, action == Action::"snapshot", resource == Deployment::"desk");
           @id("not-begun") forbid (principal, action == Action::"restore", resource == Deployment::"desk");
           @id("not-given-up") forbid (principal, action == Action::"remove", resource == Deployment::"desk");"#,
    )
    .expect("is written");
    assert_eq!(node.stop().code(), Some(0));
    node.again();
    node.ask("POST", "/v1/deployments/desk/snapshot", b"")
        .is(403, "rejected", "not-permitted");
    deploy(&node, "other", &json!({"snapshot": id})).is(403, "rejected", "not-permitted");
    node.ask("DELETE", &format!("/v1/snapshots/{id}"), b"")
        .is(403, "rejected", "not-permitted");
    let done: Vec<String> = node.managed().into_iter().map(|(op, _)| op).collect();
    assert_eq!(
        done,
        [
            "deploy",
            "snapshot",
            "deny-snapshot",
            "deny-restore",
            "deny-remove"
        ]
    );
    fs::write(
        &policies,
        r#"@id("all") permit (principal, action, resource);
           @id("hidden") forbid (principal, action == Action::"see", resource == Deployment::"desk");"#,
    )
    .expect("is written");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    assert_eq!(node.ask("GET", "/v1/snapshots", b"").json(), json!([]));
}

#[test]
fn a_memory_of_many_megabytes_is_kept_and_comes_back() {
    let node = Node::start();
    node.deploy(&bundle("reactor", "hoards"), "desk", KEPT);
    node.call("desk", "f", "[]").good();
    let made = node.cli(&["snapshot", "desk", "--json"]);
    let made: Value = serde_json::from_slice(&made.stdout).expect("is JSON");
    let bytes = made["bytes"].as_u64().expect("has bytes");
    assert!(bytes > 90 << 20, "{bytes}");
    let other = deploy(&node, "other", &json!({"snapshot": made["snapshot"], "cells": 1}));
    assert_eq!(other.status, 200, "{other:?}");
    // From the park after its answer it goes to its end, as the one that was kept would.
    node.call("other", "f", "[]").is(502, "fault", "exited");
    node.call("desk", "f", "[]").is(502, "fault", "exited");
}

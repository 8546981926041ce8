//! What a deployment leaves when it is replaced or removed: nothing on the disk, no worker, and a record of each cell's end.

use std::collections::BTreeSet;
use std::fs;

use crate::node::Node;
use crate::{acts, bundle, wait_for};

fn kept(node: &Node) -> BTreeSet<String> {
    let entries = fs::read_dir(node.path("state/bundles")).expect("is there");
    entries
        .filter_map(Result::ok)
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

/// The file of a deployment's bundle.
fn file(node: &Node, name: &str) -> String {
    format!("{}.muscle", node.shown(name)["bundle"].as_str().expect("has one"))
}

#[test]
fn a_bundle_goes_when_nobody_needs_it_and_not_before() {
    let node = Node::start();
    let (first, second) = (acts(), bundle("reactor", "echoes"));
    node.deploy(&first, "one", &[]);
    node.deploy(&first, "two", &[]);
    let old = file(&node, "one");
    let call = node.calling("one", "wait", "[30]");
    node.wait_until_running("one", 1);
    node.deploy(&second, "one", &[]);
    let new = file(&node, "one");
    node.deploy(&second, "two", &[]);
    // No deployment has it, but a call that is under way might need a worker again.
    assert_eq!(kept(&node), BTreeSet::from([old.clone(), new.clone()]));
    assert!(!call.is_finished(), "it waits for three seconds");
    assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    wait_for("the old bundle goes", || {
        kept(&node) == BTreeSet::from([new.clone()])
    });
    // It comes back, and what was removed last goes with its last deployment.
    node.deploy(&first, "two", &[]);
    assert_eq!(kept(&node), BTreeSet::from([old.clone(), new.clone()]));
    assert_eq!(node.cli(&["remove", "one"]).code, Some(0));
    wait_for("the other goes", || kept(&node) == BTreeSet::from([old.clone()]));
    assert_eq!(node.call("two", "count", "[]").good(), b"0");
    node.deploy(&first, "two", &[]);
    assert_eq!(node.call("two", "count", "[]").good(), b"0");
    assert_eq!(kept(&node), BTreeSet::from([old]));
}

#[test]
fn a_bundle_that_was_sent_to_be_deployed_does_not_go_with_another_deployment() {
    let node = Node::start();
    node.deploy(&acts(), "one", &[]);
    let digest = node.shown("one")["bundle"].as_str().expect("has one").to_owned();
    let bytes = fs::read(acts()).expect("is there");
    let sent = node.ask("PUT", &format!("/v1/bundles/{digest}"), &bytes);
    assert_eq!(sent.status, 201);
    assert_eq!(node.cli(&["remove", "one"]).code, Some(0));
    // Whoever removes bundles has looked at this one once another is gone that nobody needed later.
    node.deploy(&bundle("reactor", "echoes"), "other", &[]);
    let other = file(&node, "other");
    assert_eq!(node.cli(&["remove", "other"]).code, Some(0));
    wait_for("the later one goes", || !kept(&node).contains(&other));
    let body = format!("{{\"bundle\": \"{digest}\"}}");
    let deployed = node.ask("PUT", "/v1/deployments/two", body.as_bytes());
    assert_eq!(deployed.status, 200, "{deployed:?}");
    assert_eq!(node.call("two", "count", "[]").good(), b"0");
}

#[test]
fn cells_of_what_was_replaced_are_over_in_the_log_when_the_node_ends() {
    let mut node = Node::with("drain_seconds = 1");
    node.deploy(&acts(), "acts", &["--cells", "2"]);
    node.deploy(&acts(), "gone", &[]);
    let calls = [
        node.calling("acts", "wait", "[400]"),
        node.calling("gone", "wait", "[400]"),
    ];
    node.wait_until_running("acts", 1);
    node.wait_until_running("gone", 1);
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.cli(&["remove", "gone"]).code, Some(0));
    assert_eq!(node.workers().len(), 2);
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    for call in calls {
        // A client hears an error, or the end of its connection.
        let answer = call.join().expect("ends");
        assert!(answer.is_err() || answer.is_ok_and(|answer| answer.status >= 500));
    }
    let ends = node
        .records()
        .iter()
        .filter(|record| record["kind"] == "end")
        .count();
    assert_eq!(ends, 2);
}

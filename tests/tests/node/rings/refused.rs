//! What cannot be joined is refused by name, before anything runs.

use std::fs;

use serde_json::json;

use super::{KEPT, ONE, deploy, digester, example, feed, feeder, next, node, pair};
use crate::node::Node;
use crate::{REJECTED, bundle, text, wait_for};

/// Deploys what must be refused by this name, in words that say this.
#[track_caller]
fn refused(node: &Node, bundle: &std::path::Path, bindings: &[&str], more: &[&str], name: &str, words: &str) {
    let bundle = text(bundle);
    let mut arguments = vec!["deploy", &bundle, "--name", "new"];
    arguments.extend(bindings.iter().flat_map(|binding| ["--bind", binding]));
    arguments.extend(more);
    let ended = node.cli(&arguments);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert!(ended.errors().contains(name), "{name}: {}", ended.errors());
    assert!(ended.errors().contains(words), "{words}: {}", ended.errors());
}

#[test]
fn ends_that_do_not_go_together_are_refused_by_name() {
    let node = node("");
    let (feeder_file, reacts) = (example("feeder"), bundle("ring", "reacts"));
    let both = bundle("ring", "both-ends");
    refused(&node, &feeder_file, &[], ONE, "ring-not-joined", "out=ring:NAME");
    let bound: &[&str] = &["out=ring:desk.in"];
    refused(
        &node,
        &feeder_file,
        bound,
        &[],
        "ring-needs-one-cell",
        "cells = 1",
    );
    let ahead: &[&str] = &["--cells", "1", "--ahead", "1"];
    refused(
        &node,
        &feeder_file,
        bound,
        ahead,
        "ring-needs-one-cell",
        "ahead = 0",
    );
    let wrong: &[&str] = &["out=channel:desk.in"];
    refused(&node, &feeder_file, wrong, ONE, "wrong-thing", "out=ring:RING");
    refused(
        &node,
        &feeder_file,
        &["out=ring:Desk"],
        ONE,
        "binding-invalid",
        "ring's name",
    );
    let same: &[&str] = &["in=ring:x", "out=ring:x"];
    refused(&node, &both, same, ONE, "ring-to-itself", "`in` and `out`");
    feeder(&node, KEPT);
    refused(&node, &feeder_file, bound, ONE, "ring-end-taken", "`a`");
    let other: &[&str] = &["ring=ring:desk.in"];
    refused(&node, &reacts, other, ONE, "ring-sizes-differ", "262144");
    // Two of one role, of whichever size.
    deploy(&node, &reacts, "one", "ring=ring:y", ONE);
    refused(&node, &reacts, &["ring=ring:y"], ONE, "ring-end-taken", "`one`");
    // Each refusal of policy or rule is in the log; what is no binding is none of a bundle.
    assert!(node.managed().iter().filter(|(op, _)| op == "refuse").count() >= 8);
    assert_eq!(node.counted("a", "workers_started"), 0);
    // Under its own name it may be deployed again.
    feeder(&node, KEPT);
}

#[test]
fn with_nobody_at_the_other_end_nothing_runs() {
    let node = node("");
    feeder(&node, KEPT);
    feed(&node, 1, 1).is(422, "rejected", "ring-not-joined");
    assert!(node.workers().is_empty());
    // Another ring is another one.
    deploy(&node, &example("digester"), "b", "in=ring:desk.out", KEPT);
    feed(&node, 1, 1).is(422, "rejected", "ring-not-joined");
    digester(&node, KEPT);
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
}

/// All that the examples ask for; `more` is about rings.
fn policy(more: &str) -> String {
    format!(
        "@id(\"limits\") permit (principal, action in [Action::\"memory\", Action::\"cpu\", Action::\"deadline\"], resource);\n{more}\n"
    )
}

const BOTH: &str = "@id(\"desk\") permit (principal, action == Action::\"ring\", resource) when { context.ring == \"desk.in\" };";
const SENDERS: &str = "@id(\"desk\") permit (principal, action == Action::\"ring\", resource) when { context.ring == \"desk.in\" && context.role == \"send\" };";

#[test]
fn policy_is_asked_at_both_ends_and_hears_the_rings_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("own.cedar");
    fs::write(&file, policy(SENDERS)).expect("is written");
    let node = node(&format!("policies = ['{}']", text(&file)));
    feeder(&node, KEPT);
    let files = [example("feeder"), example("digester")];
    refused(
        &node,
        &files[0],
        &["out=ring:other"],
        ONE,
        "not-permitted",
        "other",
    );
    refused(&node, &files[1], &["in=ring:desk.in"], ONE, "not-permitted", "in");
    feed(&node, 1, 1).is(422, "rejected", "ring-not-joined");
    fs::write(&file, policy(BOTH)).expect("is written");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    digester(&node, KEPT);
    feed(&node, 1, 1).good();
    assert_eq!(next(&node).good(), b"1");
    // What policy takes back at one end is taken from its worker, and the other one hears of it.
    fs::write(&file, policy(SENDERS)).expect("is written");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    wait_for("its worker is renewed", || node.workers().is_empty());
    next(&node).is(422, "rejected", "not-permitted");
}

#[test]
fn a_circle_of_rings_waits_for_nobody_elses_cell_and_is_allowed() {
    let node = node("");
    let both = bundle("ring", "both-ends");
    for (name, from, to) in [("one", "x", "y"), ("two", "y", "x")] {
        let bound = [format!("in=ring:{from}"), format!("out=ring:{to}")];
        node.deploy(
            &both,
            name,
            &["--bind", &bound[0], "--bind", &bound[1], "--cells", "1"],
        );
    }
    for name in ["one", "two"] {
        let answer = node.call(name, "f", "[]");
        assert_eq!(
            answer.json().pointer("/error/name"),
            Some(&json!("exited")),
            "{answer:?}"
        );
    }
}

#[test]
fn a_ring_is_bound_in_a_deployment_file_as_anything_else() {
    let node = node("");
    let file = node.path("desk.toml");
    let lines = |name: &str, muscle: &str, binding: &str| {
        let path = text(&example(muscle));
        format!(
            "[deployments.{name}]\nbundle = '{path}'\nsettings = {{ cells = 1, fresh = false, bindings = ['{binding}'] }}\n"
        )
    };
    let written = lines("a", "feeder", "out=ring:desk.in") + &lines("b", "digester", "in=ring:desk.in");
    fs::write(&file, written).expect("is written");
    let ended = node.cli(&["deploy", "--file", &text(&file)]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    feed(&node, 5, 5).good();
    assert_eq!(next(&node).good(), b"5");
    pair(&node, KEPT);
}

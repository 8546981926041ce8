//! Trust store and policies change under a running node.

use std::fs;
use std::io::{BufRead as _, BufReader};

use referee_tests::Ended;
use rustix::process::Signal;
use serde_json::json;

use crate::node::Node;
use crate::processes::send;
use crate::{REJECTED, acts, setup, text, wait_for};

/// Revokes the suite's publisher in this node's trust store.
fn revoke(node: &Node) {
    let workshop = &setup().workshop;
    let store = node.path("trust.store");
    let key = workshop.publisher().public_key().expect("is one").key_id();
    let draft =
        cargo_muscle::trust::revoke_key(&fs::read(&store).expect("is there"), key).expect("is changed");
    fs::write(&store, workshop.signed(draft).expect("signs")).expect("is written");
}

fn restore(node: &Node) {
    fs::copy(setup().workshop.trust_store(), node.path("trust.store")).expect("is copied");
}

#[test]
fn a_revoked_key_ends_a_deployment_with_the_next_reload() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--keep-memory"]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    revoke(&node);
    assert_eq!(
        node.call("acts", "count", "[]").good(),
        b"1",
        "nobody has said yet that it is read again"
    );
    let reloaded = node.cli(&["reload"]);
    assert_eq!(reloaded.code, Some(0), "{}", reloaded.errors());
    let answer = node.call("acts", "count", "[]");
    answer.is(422, "rejected", "signer-revoked");
    let ended = node.cli(&["deploy", &text(&acts()), "--name", "again"]);
    assert_eq!(ended.code, REJECTED);
    assert!(ended.errors().contains("[signer-revoked]"), "{}", ended.errors());
    // Taken back, by the signal this time.
    restore(&node);
    send(node.pid(), Signal::HUP);
    wait_for("the node hears it", || node.words().contains("were read again"));
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    let ops: Vec<String> = node.managed().into_iter().map(|(op, _)| op).collect();
    assert_eq!(ops, ["deploy", "reload", "refuse", "reload"]);
}

#[test]
fn a_broken_trust_store_or_policy_leaves_the_old_one_in_force() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("policy.cedar");
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/default.cedar");
    fs::copy(shipped, &policy).expect("is copied");
    let node = Node::with(&format!("policies = ['{}']", text(&policy)));
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");

    fs::write(&policy, "permit (principal, action").expect("is written");
    let ended = node.cli(&["reload"]);
    assert_eq!(ended.code, REJECTED);
    assert!(
        ended.errors().contains("policy.cedar") && ended.errors().ends_with("[policy-invalid]\n"),
        "{}",
        ended.errors()
    );
    send(node.pid(), Signal::HUP);
    wait_for("the node hears it", || node.words().contains("stay as they were"));
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    fs::copy(shipped, &policy).expect("is copied");
    fs::write(node.path("trust.store"), "no trust").expect("is written");
    let answer = node.ask("POST", "/v1/reload", b"");
    assert_eq!(answer.status, 422);
    assert!(answer.message().contains("trust.store"), "{}", answer.message());
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");

    restore(&node);
    let memory_only =
        "@id(\"memory\")\n@reason(\"a test\")\npermit (principal, action == Action::\"memory\", resource);";
    fs::write(&policy, memory_only).expect("is written");
    let ended = node.cli(&["reload"]);
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    node.call("acts", "count", "[]")
        .is(422, "rejected", "not-permitted");
}

#[test]
fn whoever_follows_what_they_may_not_see_any_more_is_cut_off_by_the_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("api.cedar");
    let everything = "@id(\"own\") permit (principal is User, action, resource) when { principal.service };";
    fs::write(&policy, everything).expect("is written");
    let node = Node::with(&format!("api.policies = ['{}']", text(&policy)));
    node.deploy(&acts(), "acts", &[]);
    node.deploy(&acts(), "other", &[]);
    let follow = |name: &str| {
        let mut follower = node.command(&["logs", "-f", name]).spawn().expect("starts");
        let lines = BufReader::new(follower.stdout.take().expect("is a pipe")).lines();
        (follower, lines.map(|line| line.expect("is text")))
    };
    let (follower, mut lines) = follow("acts");
    let (mut still, mut other_lines) = follow("other");
    let say = |name: &str| node.call(name, "log", "[]").good();
    say("acts");
    say("other");
    assert!(lines.next().is_some() && other_lines.next().is_some());
    // A reload that takes nothing from them changes nothing for them.
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    say("acts");
    assert!(lines.next().is_some());
    let without = format!(
        "{everything}\n@id(\"not\") forbid (principal, action == Action::\"logs\", resource == Deployment::\"acts\");"
    );
    fs::write(&policy, without).expect("is written");
    say("acts");
    assert!(
        lines.next().is_some(),
        "nobody has said yet that it is read again"
    );
    fs::write(node.path("trust.store"), "no trust").expect("is written");
    assert_eq!(node.cli(&["reload"]).code, REJECTED);
    say("acts");
    assert!(lines.next().is_some(), "a reload that is refused changes nothing");
    restore(&node);
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    say("acts");
    assert_eq!(lines.next(), None);
    let ended = Ended::of(follower).expect("ends");
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    assert_eq!(node.cli(&["logs", "acts"]).code, REJECTED);
    say("other");
    assert!(other_lines.next().is_some());
    still.kill().expect("is ours");
    still.wait().expect("is ours");
}

#[test]
fn a_reload_waits_for_no_call_and_no_call_for_it() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "2"]);
    node.deploy(&acts(), "other", &[]);
    let call = node.calling("acts", "wait", "[23]");
    node.wait_until_running("acts", 1);
    revoke(&node);
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    assert!(!call.is_finished(), "it was to be under way");
    node.call("other", "count", "[]")
        .is(422, "rejected", "signer-revoked");
    // Other changes go on, and so does the call that began under the old trust store.
    assert_eq!(node.cli(&["pause", "other"]).code, Some(0));
    let next = node.calling("acts", "count", "[]");
    wait_for("the next call waits", || {
        node.shown("acts")["waiting"] == json!(1) || next.is_finished()
    });
    assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    next.join()
        .expect("ends")
        .expect("is answered")
        .is(422, "rejected", "signer-revoked");
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
}

#[test]
fn a_worker_that_starts_during_a_reload_does_not_escape_it() {
    let node = Node::start();
    for _ in 0..6 {
        restore(&node);
        assert_eq!(node.cli(&["reload"]).code, Some(0));
        node.deploy(&acts(), "acts", &[]);
        revoke(&node);
        let first = node.calling("acts", "count", "[]");
        wait_for("a worker is asked for", || {
            node.counted("acts", "workers_started") == 1
        });
        assert_eq!(node.ask("POST", "/v1/reload", b"").status, 204);
        // The first may have come before it or after it; what comes now came after.
        node.call("acts", "count", "[]")
            .is(422, "rejected", "signer-revoked");
        let first = first.join().expect("ends").expect("is answered");
        assert!(matches!(first.status, 200 | 422), "{first:?}");
    }
    restore(&node);
}

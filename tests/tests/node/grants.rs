//! Grants of running cells, through the node: who may take them back, when that holds, and that nothing brings them back.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::node::{Node, call_path};
use crate::processes::stop;
use crate::{REJECTED, bundle, http, text, wait_for};

/// Codes of errors, as the muscle answers them.
const OK: &[u8] = b"0";
const STALE: &[u8] = b"2";
const DENIED: &[u8] = b"1";

fn holds() -> PathBuf {
    bundle("reactor", "holds")
}

/// A node with the muscle that holds a directory, in which is the file that it opens.
fn node(more: &str) -> Node {
    let node = Node::with(more);
    fs::create_dir_all(node.path("dir/sub")).expect("made");
    fs::write(node.path("dir/inside"), "hello").expect("written");
    node
}

fn deploy(node: &Node, more: &[&str]) {
    let dir = node.path("dir").canonicalize().expect("real");
    let bound = format!("dir=dir:{}:rw", dir.display());
    let mut arguments = vec!["--bind", &bound];
    arguments.extend(more);
    node.deploy(&holds(), "holds", &arguments);
}

fn ask(node: &Node, function: &str) -> Vec<u8> {
    node.call("holds", function, "[]").good()
}

fn slot(node: &Node) -> Value {
    node.ask("GET", "/v1/deployments/holds/grants", b"").json()[0].clone()
}

fn narrow(node: &Node, body: &Value) -> http::Answer {
    node.ask(
        "PATCH",
        "/v1/deployments/holds/grants/dir",
        body.to_string().as_bytes(),
    )
}

/// How many records say this.
fn count(node: &Node, kind: &str, op: &str) -> usize {
    let records = node.records().into_iter();
    records
        .filter(|record| record["kind"] == kind && (op.is_empty() || record["op"] == op))
        .count()
}

#[test]
fn a_grant_is_taken_back_under_a_running_call_and_stays_so() {
    let mut node = node("");
    deploy(&node, &[]);
    assert_eq!(ask(&node, "stat"), OK);
    assert_eq!(slot(&node)["state"], "whole");
    let call = node.calling("holds", "until", "[]");
    wait_for("the muscle uses it", || count(&node, "use", "files.stat") > 50);
    let worker = node.workers();
    let revoked = node.cli(&["grants", "holds", "--revoke", "dir"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.errors());
    // It was answered, so it holds: no use is recorded from here on.
    let uses = count(&node, "use", "files.stat");
    let records = node.records();
    assert!(
        records.iter().any(|record| record["kind"] == "revoke"),
        "the cells'"
    );
    let managed = records
        .iter()
        .find(|record| record["op"] == "revoke")
        .expect("who did it");
    assert_eq!(
        (&managed["kind"], &managed["detail"]["slot"]),
        (&json!("manage"), &json!("dir"))
    );
    assert_eq!(call.join().expect("ends").expect("is answered").good(), STALE);
    assert_eq!(count(&node, "use", "files.stat"), uses);
    assert_eq!(node.workers(), worker, "the cells go on, without it");
    let denied = node.records();
    let denied = denied
        .iter()
        .rfind(|record| record["kind"] == "deny")
        .expect("is recorded");
    assert_eq!(denied["detail"]["why"], "the grant was revoked");
    assert_eq!(
        (
            &slot(&node)["state"],
            &slot(&node)["left"],
            &slot(&node)["granted"]["read_only"]
        ),
        (&json!("revoked"), &Value::Null, &json!(false))
    );
    // Nothing brings it back: a cell's next life, a new worker, the service's next life after a stop or a crash.
    assert_eq!(ask(&node, "stat"), STALE);
    assert_eq!(node.cli(&["kill", "holds"]).code, Some(0));
    assert_eq!(ask(&node, "stat"), STALE);
    assert_ne!(node.workers(), worker);
    assert!(node.stop().success());
    node.again();
    assert_eq!(ask(&node, "stat"), STALE);
    node.crash();
    node.again();
    assert_eq!(
        (ask(&node, "stat"), slot(&node)["state"].clone()),
        (STALE.to_vec(), json!("revoked"))
    );
    // Nor a pause, which is kept with it.
    for act in ["pause", "resume"] {
        assert_eq!(node.cli(&[act, "holds"]).code, Some(0));
    }
    node.crash();
    node.again();
    assert_eq!(ask(&node, "stat"), STALE);
    // Nor a new bundle under the name, unless it is told to.
    deploy(&node, &[]);
    assert_eq!(ask(&node, "stat"), STALE);
    deploy(&node, &["--reset-grants"]);
    assert_eq!(ask(&node, "stat"), OK);
    let managed = node.managed();
    assert_eq!(managed.iter().filter(|(op, _)| op == "reset-grants").count(), 1);
}

#[test]
fn a_grant_is_narrowed_and_never_widened() {
    let mut node = node("");
    deploy(&node, &["--keep-memory", "--cells", "1"]);
    assert_eq!(
        (ask(&node, "open"), ask(&node, "write")),
        (OK.to_vec(), OK.to_vec())
    );
    for (body, status, name) in [
        (json!({"max_bytes": 65537}), 422, "grant-wider"),
        (json!({"max_files": 9}), 422, "grant-wider"),
        (json!({"within": "../other"}), 422, "narrowing-path"),
        (json!({"names": ["f"]}), 422, "narrowing-not-of-this-kind"),
        (json!({}), 422, "narrowing-empty"),
        (json!({"max_bytes": -1}), 400, "body-invalid"),
        (json!({"widen": true}), 400, "body-invalid"),
        (json!([true]), 400, "body-invalid"),
    ] {
        narrow(&node, &body).is(status, "rejected", name);
    }
    let wider = node.cli(&["grants", "holds", "--narrow", "dir", "--max-bytes", "65537"]);
    assert_eq!(
        (wider.code, wider.errors().as_str()),
        (
            REJECTED,
            "rejected: max_bytes of slot `dir` would be wider: it is 65536, and 65537 is asked for [grant-wider]\n"
        )
    );
    assert_eq!(count(&node, "narrow", ""), 0, "what is refused is not done");
    let shown = node.cli(&[
        "grants",
        "holds",
        "--narrow",
        "dir",
        "--read-only",
        "--max-bytes",
        "100",
    ]);
    assert!(
        shown.output().contains("narrowed"),
        "{} {}",
        shown.output(),
        shown.errors()
    );
    // The file that is open for writing is not any more, in a cell that keeps its memory.
    assert_eq!(
        (ask(&node, "write"), ask(&node, "read")),
        (DENIED.to_vec(), OK.to_vec())
    );
    let left = narrow(&node, &json!({"within": "sub", "max_bytes": 5.0})).json();
    assert_eq!(left["left"]["within"], "sub");
    assert_eq!(
        (ask(&node, "read"), ask(&node, "stat")),
        (STALE.to_vec(), DENIED.to_vec())
    );
    narrow(&node, &json!({"within": "other"})).is(422, "rejected", "grant-wider");
    narrow(&node, &json!({"max_bytes": 6})).is(422, "rejected", "grant-wider");
    node.crash();
    node.again();
    assert_eq!(ask(&node, "stat"), DENIED);
    assert_eq!(slot(&node)["left"]["max_bytes"], 5);
    assert_eq!(slot(&node)["left"]["read_only"], true);
    node.ask("DELETE", "/v1/deployments/holds/grants/dir", b"").good();
    narrow(&node, &json!({"read_only": true})).is(422, "rejected", "grant-revoked");
    for method in ["DELETE", "PATCH"] {
        let body: &[u8] = if method == "PATCH" {
            b"{\"read_only\":true}"
        } else {
            b""
        };
        node.ask(method, "/v1/deployments/holds/grants/none", body)
            .is(404, "rejected", "no-slot");
        node.ask(method, "/v1/deployments/none/grants/dir", body)
            .is(404, "rejected", "no-deployment");
    }
}

#[test]
fn a_worker_that_does_not_answer_loses_the_grant_with_its_life() {
    let node = node("");
    deploy(&node, &[]);
    assert_eq!(ask(&node, "stat"), OK);
    let worker = node.workers();
    let stopped = *worker.first().expect("there is one");
    stop(stopped);
    node.ask("DELETE", "/v1/deployments/holds/grants/dir", b"").good();
    assert!(
        !crate::processes::is_alive(stopped),
        "it is ended when that is answered"
    );
    assert!(node.words().contains("in time"), "{}", node.words());
    assert_eq!(ask(&node, "stat"), STALE);
}

#[test]
fn calls_in_a_version_that_was_replaced_lose_the_grant_too() {
    let node = node("");
    deploy(&node, &[]);
    let call = node.calling("holds", "until", "[]");
    wait_for("the muscle uses it", || count(&node, "use", "files.stat") > 50);
    deploy(&node, &[]);
    assert_eq!(ask(&node, "stat"), OK, "the new one's");
    node.ask("DELETE", "/v1/deployments/holds/grants/dir", b"").good();
    assert_eq!(call.join().expect("ends").expect("is answered").good(), STALE);
    assert_eq!(ask(&node, "stat"), STALE);
}

#[test]
fn policy_says_who_may_take_from_which_grant() {
    let folder = tempfile::tempdir().expect("a folder");
    let policies = folder.path().join("api.cedar");
    let all_but = |forbidden: &str| {
        let policy = format!(
            "@id(\"all\") permit (principal, action, resource);\n@id(\"not\") forbid (principal, action == Action::\"{forbidden}\", resource);"
        );
        fs::write(&policies, policy).expect("written");
    };
    all_but("revoke");
    let node = node(&format!("api.policies = ['{}']", text(&policies)));
    deploy(&node, &[]);
    node.ask("DELETE", "/v1/deployments/holds/grants/dir", b"")
        .is(403, "rejected", "not-permitted");
    assert_eq!(ask(&node, "stat"), OK);
    assert_eq!(count(&node, "manage", "deny-revoke"), 1);
    all_but("narrow");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    narrow(&node, &json!({"read_only": true})).is(403, "rejected", "not-permitted");
    assert_eq!(count(&node, "manage", "deny-narrow"), 1);
    all_but("see");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    node.ask("GET", "/v1/deployments/holds/grants", b"")
        .is(403, "rejected", "not-permitted");
    // Only one slot, and only to make it smaller.
    let one = r#"
        @id("rest") permit (principal, action, resource);
        @id("one") forbid (principal, action in [Action::"narrow", Action::"revoke"], resource) unless { context.slot == "dir" };
    "#;
    fs::write(&policies, one).expect("written");
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    node.ask("DELETE", "/v1/deployments/holds/grants/other", b"")
        .is(403, "rejected", "not-permitted");
    narrow(&node, &json!({"read_only": true})).good();
    assert_eq!(
        http::ask(&node.socket(), "POST", &call_path("holds", "stat"), &[], b"[]")
            .expect("is answered")
            .status,
        200
    );
}

//! What one call, cell or deployment leaves behind for another: nothing, unless its operator wanted it.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::node::{Node, call_path};
use crate::{acts, bundle, http, text};

#[test]
fn a_call_finds_nothing_of_the_call_before() {
    let node = Node::start();
    node.deploy(&acts(), "fresh", &["--cells", "1"]);
    for _ in 0..5 {
        assert_eq!(node.call("fresh", "count", "[]").good(), b"0");
        assert_eq!(
            node.call("fresh", "arguments", "[\"secret\"]").good(),
            b"[\"secret\"]"
        );
    }
    // The guest looks at every register and at all of its memory, and exits with a code of its own at the first trace.
    node.deploy(&bundle("reactor", "dirties"), "dirties", &["--cells", "1"]);
    for _ in 0..5 {
        assert_eq!(node.call("dirties", "f", "[]").good(), b"null");
    }
}

#[test]
fn a_cell_keeps_its_memory_only_where_it_was_asked_to() {
    let node = Node::start();
    node.deploy(&acts(), "keeps", &["--cells", "1", "--keep-memory"]);
    for expected in ["0", "1", "2"] {
        assert_eq!(node.call("keeps", "count", "[]").good(), expected.as_bytes());
    }
    // Another deployment of the same bundle is another muscle, in another process.
    node.deploy(&acts(), "other", &["--cells", "1", "--keep-memory"]);
    assert_eq!(node.call("other", "count", "[]").good(), b"0");
    assert_eq!(node.workers().len(), 2);
    assert_eq!(node.call("keeps", "count", "[]").good(), b"3");
    assert_eq!(node.call("other", "count", "[]").good(), b"1");
    // What follows a fault is a new cell.
    node.call("keeps", "fault", "[]")
        .is(502, "fault", "invalid-opcode");
    assert_eq!(node.call("keeps", "count", "[]").good(), b"0");
}

#[test]
fn output_belongs_to_the_deployment_that_wrote_it() {
    let node = Node::start();
    node.deploy(&acts(), "writes", &[]);
    node.deploy(&acts(), "silent", &[]);
    node.call("writes", "log", "[]").good();
    assert_eq!(node.call("silent", "count", "[]").good(), b"0");
    assert!(
        node.ask("GET", "/v1/deployments/silent/logs", b"")
            .good()
            .is_empty()
    );
    assert!(
        !node
            .ask("GET", "/v1/deployments/writes/logs", b"")
            .good()
            .is_empty()
    );
}

#[test]
fn a_granted_directory_is_there_and_nothing_else_is() {
    let node = Node::start();
    let dir = node.path("dir");
    fs::create_dir(&dir).expect("is made");
    fs::write(dir.join("inside"), "hello").expect("is written");
    fs::write(node.path("secret"), "do not read").expect("is written");
    symlink("../secret", dir.join("out")).expect("is made");
    let bound = format!("dir=dir:{}:rw", text(&dir));
    node.deploy(&bundle("reactor", "clerk"), "clerk", &["--bind", &bound]);
    let form = [("accept", "application/cbor")];
    let read = || {
        http::ask(&node.socket(), "POST", &call_path("clerk", "read"), &form, b"[]")
            .expect("answers")
            .good()
    };
    assert_eq!(read(), b"\x5a\0\0\0\x05hello");
    assert_eq!(node.call("clerk", "save", "[]").good(), b"null");
    assert_eq!(fs::read_to_string(dir.join("made")).expect("was made"), "ping");
    for escape in ["climb", "link", "root"] {
        let code = node.call("clerk", escape, "[]").json();
        assert!(code == json!(1) || code == json!(5), "{escape}: {code}");
    }
    // The grant is good after the attempts, and for a cell's next life.
    assert_eq!(read(), b"\x5a\0\0\0\x05hello");
    let denied = |record: &serde_json::Value| record["kind"] == "deny" && record["slot"] == "dir";
    assert_eq!(node.records().iter().filter(|record| denied(record)).count(), 3);
}

#[test]
fn a_directory_that_is_gone_is_an_error_of_each_call_until_it_is_back() {
    let node = Node::start();
    let dir = node.path("dir");
    fs::create_dir(&dir).expect("is made");
    let bound = format!("dir=dir:{}:rw", text(&dir));
    node.deploy(&bundle("reactor", "clerk"), "clerk", &["--bind", &bound]);
    fs::remove_dir(&dir).expect("is empty");
    node.call("clerk", "save", "[]")
        .is(422, "rejected", "binding-invalid");
    fs::create_dir(&dir).expect("is made");
    assert_eq!(node.call("clerk", "save", "[]").good(), b"null");
}

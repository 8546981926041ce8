//! More than there is room for, slower than anybody waits, and clients that go away.

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use referee_bundle::Digest;
use serde_json::json;

use crate::http::{self, connect};
use crate::node::{Node, call_path};
use crate::{HOST_ERROR, acts, wait_for};

#[test]
fn one_call_more_than_may_wait_is_told_to_come_back() {
    let node = Node::with("cells.queue = 2");
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    node.deploy(&acts(), "other", &["--cells", "1"]);
    let running = node.calling("acts", "wait", "[22]");
    node.wait_until_running("acts", 1);
    let waiting = [
        node.calling("acts", "count", "[]"),
        node.calling("acts", "count", "[]"),
    ];
    wait_for("two wait", || node.shown("acts")["waiting"] == json!(2));
    let answer = node.call("acts", "count", "[]");
    answer.is(429, "busy", "busy");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(
        answer.message(),
        "calls that wait for this deployment: 2 is the most"
    );
    let ended = node.cli(&["call", "@acts", "count"]);
    assert_eq!(ended.code, HOST_ERROR);
    assert!(ended.errors().starts_with("busy: "), "{}", ended.errors());
    // Another deployment has a queue of its own.
    assert_eq!(node.call("other", "count", "[]").good(), b"0");
    assert_eq!(
        running.join().expect("ends").expect("is answered").good(),
        b"null"
    );
    for call in waiting {
        assert_eq!(call.join().expect("ends").expect("is answered").good(), b"0");
    }
    let counted = node.shown("acts")["counted"].clone();
    assert_eq!(
        (&counted["calls"], &counted["returned"], &counted["refused"]),
        (&json!(3), &json!(3), &json!(2))
    );
}

#[test]
fn more_deployments_than_there_may_be_are_refused() {
    let node = Node::with("cells.deployments = 1");
    node.deploy(&acts(), "one", &[]);
    let bundle = node.shown("one")["bundle"].clone();
    let body = json!({"bundle": bundle}).to_string();
    let deploy = |name: &str| node.ask("PUT", &format!("/v1/deployments/{name}"), body.as_bytes());
    deploy("two").is(429, "busy", "busy");
    assert_eq!(deploy("one").json()["generation"], json!(2));
    assert_eq!(node.cli(&["remove", "one"]).code, Some(0));
    // The bundle went with its last deployment, so it is sent again.
    node.deploy(&acts(), "two", &[]);
    assert_eq!(node.shown("two")["generation"], json!(1));
}

#[test]
fn bundles_that_nobody_deploys_do_not_keep_others_out() {
    let node = Node::start();
    for number in 0..100_u32 {
        let bytes = number.to_le_bytes();
        let sent = node.ask("PUT", &format!("/v1/bundles/{}", Digest::of(&bytes)), &bytes);
        assert_eq!(sent.status, 201, "{number}: {sent:?}");
    }
    let kept = std::fs::read_dir(node.path("state/bundles"))
        .expect("is there")
        .count();
    assert!(kept <= 64, "{kept}");
    node.deploy(&acts(), "acts", &[]);
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn one_connection_too_many_is_closed_at_once() {
    let node = Node::with("api.connections = 3");
    let mut held: Vec<UnixStream> = (0..3)
        .map(|_| connect(&node.socket()).expect("connects"))
        .collect();
    // Each is taken when the one after it is there; of the last, its refusal says so.
    let mut more = connect(&node.socket()).expect("connects");
    assert_eq!(more.read(&mut [0; 64]).expect("is closed"), 0);
    assert!(
        node.words().contains("more than 3 connections"),
        "{}",
        node.words()
    );
    held.pop();
    wait_for("the place is free again", || {
        http::ask(&node.socket(), "GET", "/health/live", &[], b"").is_ok_and(|live| live.status == 204)
    });
}

/// How long the node keeps a connection on which this was sent.
fn kept(node: &Node, said: &str) -> Duration {
    let begun = Instant::now();
    let mut stream = connect(&node.socket()).expect("connects");
    stream.write_all(said.as_bytes()).expect("is sent");
    // Closed, with or without words.
    let closed = stream.read_to_end(&mut Vec::new());
    assert!(closed.is_ok(), "{said:?}: {closed:?}");
    begun.elapsed()
}

#[test]
fn a_client_that_does_not_say_what_it_wants_is_dropped() {
    let node = Node::with("api.header_seconds = 1");
    for said in [
        "",
        "GET /health/ready HTTP/1.1\r\nhost: n\r\nx-slow: ",
        // As far as HTTP/2 begins, and the whole of its beginning.
        "PRI * HT",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // A request, and then nothing.
        "GET /health/live HTTP/1.1\r\nhost: n\r\n\r\n",
    ] {
        let kept = kept(&node, said);
        assert!(kept < Duration::from_secs(10), "{said:?}: {kept:?}");
    }
    assert_eq!(node.ask("GET", "/health/ready", b"").status, 204);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let node = Node::with("api.body_seconds = 1\napi.header_seconds = 2");
    node.deploy(&acts(), "acts", &[]);
    for (method, path) in [
        ("POST", call_path("acts", "count")),
        ("PUT", format!("/v1/bundles/{}", "0".repeat(64))),
        ("PUT", "/v1/deployments/new".to_owned()),
    ] {
        let mut stream = connect(&node.socket()).expect("connects");
        let head = http::head(method, &path, &[], 100);
        stream
            .write_all(format!("{head}[1, ").as_bytes())
            .expect("is sent");
        http::answer(stream)
            .expect("is answered")
            .is(408, "rejected", "body-slow");
        // Cut off, it is no call either.
        let mut stream = connect(&node.socket()).expect("connects");
        stream
            .write_all(format!("{head}[1, ").as_bytes())
            .expect("is sent");
        stream.shutdown(Shutdown::Write).expect("is open");
        if let Ok(answer) = http::answer(stream) {
            answer.is(400, "rejected", "body-broken");
        }
    }
    assert_eq!(node.counted("acts", "calls"), 0);
}

#[test]
fn a_head_beyond_its_bound_is_refused() {
    let node = Node::start();
    let long = "x".repeat(20_000);
    let answer =
        http::ask(&node.socket(), "GET", "/health/live", &[("x-long", &long)], b"").expect("is answered");
    assert_eq!(answer.status, 431);
}

/// Sends a call and gives the connection that waits for its answer.
fn half_a_call(node: &Node, function: &str) -> UnixStream {
    let mut stream = connect(&node.socket()).expect("connects");
    let head = http::head("POST", &call_path("acts", function), &[], 4);
    stream
        .write_all(format!("{head}[90]").as_bytes())
        .expect("is sent");
    stream
}

#[test]
fn a_call_whose_client_goes_away_is_given_up() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "2"]);
    let clients = [half_a_call(&node, "spin"), half_a_call(&node, "wait")];
    node.wait_until_running("acts", 2);
    let waiting = half_a_call(&node, "count");
    wait_for("the third waits", || node.shown("acts")["waiting"] == json!(1));
    drop(waiting);
    wait_for("who waited is gone", || node.shown("acts")["waiting"] == json!(0));
    let begun = Instant::now();
    drop(clients);
    wait_for("both calls are over", || node.counted("acts", "cancelled") == 3);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    wait_for("their cells are over", || {
        let records = node.records();
        records.iter().filter(|record| record["kind"] == "end").count() == 2
    });
    let shown = node.shown("acts");
    assert_eq!((&shown["running"], &shown["waiting"]), (&json!(0), &json!(0)));
    // The worker lives on.
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(node.counted("acts", "workers_started"), 1);
}

#[test]
fn a_killed_command_line_gives_its_call_up() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let mut client = node.command(&["call", "@acts", "spin"]).spawn().expect("starts");
    node.wait_until_running("acts", 1);
    client.kill().expect("is ours");
    client.wait().expect("is ours");
    wait_for("the call is over", || node.counted("acts", "cancelled") == 1);
    assert_eq!(node.shown("acts")["running"], json!(0));
}

//! The node as those see it who watch it: `/health` and `/metrics`, on the API and over TCP.

use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::{Answer, answer, head};
use crate::node::{Node, spawn};
use crate::processes::{send, stop};
use crate::{HOST_ERROR, SOON, acts, wait_for};

/// Starts a node that is watched over TCP, and gives the address.
pub fn watched(more: &str) -> (Node, SocketAddr) {
    let node = Node::with(&format!("{more}\n[metrics]\nlisten = '127.0.0.1:0'"));
    let address = address_of(&node);
    (node, address)
}

fn address_of(node: &Node) -> SocketAddr {
    // It answers a moment before it says that it does.
    wait_for("it says where", || node.words().contains("/metrics\n"));
    let words = node.words();
    let address = words.rsplit_once("metrics on http://").expect("says where").1;
    address
        .split('/')
        .next()
        .and_then(|address| address.parse().ok())
        .unwrap_or_else(|| panic!("no address: {words}"))
}

pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(SOON)).expect("is set");
    stream.set_write_timeout(Some(SOON)).expect("is set");
    stream
}

pub fn ask(address: SocketAddr, method: &str, path: &str) -> Answer {
    let mut stream = connect(address);
    stream
        .write_all(head(method, path, &[], 0).as_bytes())
        .expect("is sent");
    answer(stream).expect("is answered")
}

fn names(health: &Value) -> Vec<String> {
    let degraded = health["degraded"].as_array().expect("is a list");
    let name = |one: &Value| one["name"].as_str().expect("has a name").to_owned();
    degraded.iter().map(name).collect()
}

/// Waits until exactly these things are not as they should be, and gives what is said of them.
fn wait_until_degraded_by(node: &Node, expected: &[&str]) -> Value {
    let mut health = Value::Null;
    wait_for("its health is told", || {
        health = node.ask("GET", "/health", b"").json();
        names(&health) == expected
    });
    health
}

#[test]
fn over_tcp_there_are_metrics_and_health_and_nothing_else() {
    let (node, address) = watched("");
    node.deploy(&acts(), "acts", &[]);
    for health in [ask(address, "GET", "/health"), node.ask("GET", "/health", b"")] {
        let said = health.json();
        assert_eq!(
            (health.status, &said["live"], &said["ready"], &said["degraded"]),
            (200, &json!(true), &json!(true), &json!([]))
        );
    }
    let scraped = String::from_utf8(ask(address, "GET", "/metrics").good()).expect("is text");
    assert!(
        scraped.contains("referee_deployment_calls_total{deployment=\"acts\"} 0\n"),
        "{scraped}"
    );
    for path in [
        "/v1/deployments",
        "/v1/stats",
        "/health/ready",
        "/",
        "/v1/deployments/acts/call/count",
    ] {
        for method in ["GET", "POST", "DELETE"] {
            assert_eq!(ask(address, method, path).status, 404, "{method} {path}");
        }
    }
    assert_eq!(ask(address, "POST", "/metrics").status, 405);
    assert_eq!(node.counted("acts", "calls"), 0);
}

#[test]
fn who_may_see_no_figures_sees_no_health_on_the_api() {
    let node = Node::start();
    let policies = node.path("api.cedar");
    fs::write(
        &policies,
        "@id(\"a\") permit (principal, action == Action::\"see\", resource);",
    )
    .expect("is written");
    let mut node = node;
    assert_eq!(node.stop().code(), Some(0));
    crate::node::configure(
        node.folder(),
        &format!("api.policies = ['{}']", policies.display()),
    );
    node.again();
    node.ask("GET", "/health", b"")
        .is(403, "rejected", "not-permitted");
    assert_eq!(node.ask("GET", "/health/live", b"").status, 204);
}

#[test]
fn those_who_connect_and_say_nothing_are_ended_and_do_not_keep_the_api_s_places() {
    let (node, address) = watched("api.connections = 4\napi.header_seconds = 1");
    let mut silent: Vec<TcpStream> = (0..4).map(|_| connect(address)).collect();
    silent.push(connect(address));
    let (first, slow) = silent.split_at_mut(1);
    first[0].write_all(b"GET /metr").expect("is sent");
    slow[0].write_all(b"PRI * HTTP/2.0").expect("is sent");
    // The API has places of its own.
    assert_eq!(node.cli(&["ps"]).code, Some(0));
    for stream in silent {
        // Its end, or that it was never taken; either way nobody waits for ever.
        let _ = answer(stream);
    }
    wait_for("its places are free again", || {
        let mut stream = connect(address);
        let asked = stream.write_all(head("GET", "/health", &[], 0).as_bytes());
        asked.is_ok() && answer(stream).is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn an_address_that_is_taken_or_open_to_others_is_refused() {
    let (mut node, address) = watched("");
    node.stop();
    let taken = std::net::TcpListener::bind(address).expect("is free");
    crate::node::configure(node.folder(), &format!("[metrics]\nlisten = '{address}'"));
    let mut child = spawn(node.folder());
    assert_eq!(child.wait().expect("is ours").code(), HOST_ERROR);
    assert!(
        node.words().contains(&format!("metrics.listen {address}")),
        "{}",
        node.words()
    );
    drop(taken);
    crate::node::configure(node.folder(), "[metrics]\nlisten = '0.0.0.0:0'");
    let mut child = spawn(node.folder());
    assert_eq!(child.wait().expect("is ours").code(), crate::REJECTED);
    assert!(
        node.words().contains("metrics.beyond_loopback"),
        "{}",
        node.words()
    );
}

#[test]
fn a_disk_with_too_little_room_is_said_and_calls_go_on() {
    let (node, address) = watched("health.free_bytes = 9223372036854775807");
    node.deploy(&acts(), "acts", &[]);
    let health = ask(address, "GET", "/health");
    assert_eq!(health.status, 200);
    assert_eq!(
        names(&health.json()),
        ["state-disk-nearly-full", "log-disk-nearly-full"]
    );
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
}

#[test]
fn a_nursery_that_hangs_is_said_and_forgotten_when_it_answers() {
    let node = Node::start();
    let nursery = node.nursery();
    stop(nursery);
    let health = wait_until_degraded_by(&node, &["nursery-silent"]);
    send(nursery, Signal::CONT);
    assert_eq!((&health["live"], &health["ready"]), (&json!(true), &json!(true)));
    wait_until_degraded_by(&node, &[]);
}

#[test]
fn a_worker_that_fails_again_and_again_is_said_until_a_call_is_well() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--deadline-ms", "20000"]);
    for _ in 0..2 {
        let call = node.calling("acts", "spin", "[]");
        wait_for("it runs", || {
            node.shown("acts")["running"] == json!(1) && !node.workers().is_empty()
        });
        for worker in node.workers() {
            send(worker, Signal::KILL);
        }
        call.join()
            .expect("ends")
            .expect("is answered")
            .is(502, "host-error", "worker-gone");
    }
    // A failure is noticed when the next worker is wanted.
    let call = node.calling("acts", "wait", "[3]");
    let health = wait_until_degraded_by(&node, &["worker-back-off"]);
    let message = health["degraded"][0]["message"].as_str().expect("has one");
    assert!(message.contains("acts (2 times in a row)"), "{message}");
    assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    wait_until_degraded_by(&node, &[]);
}

#[test]
fn a_log_that_takes_no_record_is_said() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    let log = node.path("audit.jsonl");
    let good = fs::read(&log).expect("is there");
    // What somebody else wrote into it breaks its chain, so no record can follow.
    let mut file = fs::File::options().append(true).open(&log).expect("opens");
    file.write_all(b"{\"not\": \"a record\"}\n").expect("is written");
    assert_ne!(node.call("acts", "count", "[]").status, 200);
    let health = wait_until_degraded_by(&node, &["log-not-written"]);
    let message = health["degraded"][0]["message"].as_str().expect("has one");
    assert!(message.contains("audit.jsonl"), "{message}");
    fs::write(&log, good).expect("is written");
    fs::set_permissions(&log, fs::Permissions::from_mode(0o600)).expect("is ours");
    wait_for("a call is well", || {
        node.call("acts", "count", "[]").status == 200
    });
    wait_until_degraded_by(&node, &[]);
}

#[test]
fn while_calls_end_it_is_live_and_not_ready() {
    let (mut node, address) = watched("drain_seconds = 20");
    node.deploy(&acts(), "acts", &[]);
    let call = node.calling("acts", "wait", "[20]");
    node.wait_until_running("acts", 1);
    send(node.pid(), Signal::TERM);
    wait_for("it is ending", || {
        let health = ask(address, "GET", "/health");
        let ready = health.json()["ready"] == json!(true);
        assert_eq!(health.status, if ready { 200 } else { 503 });
        assert_eq!(health.json()["live"], json!(true));
        !ready
    });
    assert_eq!(call.join().expect("ends").expect("is answered").good(), b"null");
    assert_eq!(node.await_end().code(), Some(0));
}

//! The node is told to end: what is under way ends well, nothing new begins, nothing is left.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use crate::http::{self, connect};
use crate::node::Node;
use crate::processes::send;
use crate::{acts, wait_for};

#[test]
fn a_stop_signal_lets_calls_under_way_end_and_no_other_begin() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start();
        node.deploy(&acts(), "acts", &["--cells", "1"]);
        let running = node.calling("acts", "wait", "[23]");
        node.wait_until_running("acts", 1);
        let waiting = node.calling("acts", "count", "[]");
        wait_for("the second call waits", || {
            node.shown("acts")["waiting"] == json!(1)
        });
        let idle = connect(&node.socket()).expect("connects");
        send(node.pid(), signal);
        wait_for("the node hears it", || node.words().contains("ending: "));
        let late = http::ask(&node.socket(), "GET", "/health/ready", &[], b"");
        match late {
            Ok(answer) => answer.is(503, "draining", "draining"),
            Err(refused) => assert!(
                matches!(
                    refused.kind(),
                    std::io::ErrorKind::ConnectionRefused
                        | std::io::ErrorKind::NotFound
                        | std::io::ErrorKind::UnexpectedEof
                        | std::io::ErrorKind::ConnectionReset
                ),
                "{refused}"
            ),
        }
        assert!(!running.is_finished(), "it was to be under way");
        let answer = running.join().expect("ends").expect("is answered");
        assert_eq!(answer.good(), b"null", "{}", node.words());
        let answer = waiting.join().expect("ends").expect("is answered");
        answer.is(503, "draining", "draining");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(node.await_end().code(), Some(0), "{}", node.words());
        assert!(!node.socket().exists());
        drop(idle);
    }
}

#[test]
fn who_could_connect_before_the_end_is_answered() {
    let mut node = Node::start();
    let mut early = connect(&node.socket()).expect("connects");
    // Connections are taken one after the other.
    node.ask("GET", "/health/live", b"").good();
    send(node.pid(), Signal::TERM);
    wait_for("the node hears it", || node.words().contains("ending: "));
    let head = http::head("GET", "/v1/deployments", &[], 0);
    early.write_all(head.as_bytes()).expect("is sent");
    let mut answer = String::new();
    early.read_to_string(&mut answer).expect("is answered");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert_eq!(node.await_end().code(), Some(0), "{}", node.words());
}

#[test]
fn a_call_that_does_not_end_is_given_up_when_patience_is_over() {
    let mut node = Node::with("drain_seconds = 1");
    node.deploy(&acts(), "acts", &[]);
    let call = node.calling("acts", "spin", "[]");
    node.wait_until_running("acts", 1);
    let begun = Instant::now();
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    let took = begun.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(15)).contains(&took),
        "{took:?}"
    );
    let answer = call.join().expect("ends").expect("is answered");
    assert_eq!(answer.status, 502, "{answer:?}");
    assert!(node.words().contains("given up"), "{}", node.words());
}

#[test]
fn clients_that_only_listen_do_not_keep_the_node() {
    let mut node = Node::start();
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "log", "[]").good();
    let mut follower = connect(&node.socket()).expect("connects");
    let head = http::head("GET", "/v1/deployments/acts/logs?follow=true", &[], 0);
    follower.write_all(head.as_bytes()).expect("is sent");
    assert!(follower.read(&mut [0; 16]).expect("is answered") > 0);
    let mut silent = connect(&node.socket()).expect("connects");
    silent.write_all(b"GET /heal").expect("is sent");
    let begun = Instant::now();
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}

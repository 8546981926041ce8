//! Clients that speak HTTP/2 and take a request back in the middle (`RST_STREAM`, RFC 9113): the call is given up, its cell is another's, and nothing is left.
//!
//! Frame by frame, as no library would send them.

use std::io::Write as _;
use std::os::unix::net::UnixStream;

use serde_json::json;

use crate::chaos::Holds;
use crate::http::connect;
use crate::node::{Node, call_path};
use crate::streams::client::path as stream_path;
use crate::{acts, bundle, wait_for};

/// Kinds of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
/// Flags of a frame with headers, or with data.
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// Why a stream is reset: it is not wanted any more.
const CANCEL: u32 = 8;

/// A connection that only sends. What is answered stays in the socket; it is little.
struct Client {
    line: UnixStream,
    /// Of the next request.
    stream: u32,
}

impl Client {
    fn of(node: &Node) -> Client {
        let mut client = Client {
            line: connect(&node.socket()).expect("connects"),
            stream: 1,
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        client.line.write_all(preface).expect("is sent");
        client.frame(SETTINGS, 0, 0, &[]);
        client
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).expect("is small").to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        // A node that has had enough of a client may have closed it.
        let _ = self.line.write_all(&frame);
    }

    /// Begins a request with the beginning of its body, or all of it; gives its stream.
    fn post(&mut self, path: &str, body: &[u8], is_whole: bool) -> u32 {
        let stream = self.stream;
        self.stream += 2;
        // HPACK (RFC 7541): indexed fields, and such as have an indexed name and a value of up to 126 bytes.
        let mut headers = vec![0x83, 0x86];
        for (name, value) in [
            (&[0x04][..], path),
            (&[0x01], "node"),
            (&[0x0f, 0x10], "application/json"),
        ] {
            headers.extend(name);
            headers.push(
                u8::try_from(value.len())
                    .ok()
                    .filter(|length| *length < 127)
                    .expect("is short"),
            );
            headers.extend(value.as_bytes());
        }
        self.frame(HEADERS, END_HEADERS, stream, &headers);
        self.frame(DATA, if is_whole { END_STREAM } else { 0 }, stream, body);
        stream
    }

    fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }
}

#[track_caller]
fn nothing_is_under_way(node: &Node, name: &str) {
    wait_for("nothing is under way", || {
        let shown = node.shown(name);
        (&shown["running"], &shown["waiting"]) == (&json!(0), &json!(0))
    });
}

#[test]
fn a_stream_that_is_reset_in_the_middle_is_given_up_and_not_taken_for_ended() {
    let node = Node::start();
    node.deploy(&bundle("reactor", "pipes"), "pipes", &["--cells", "1"]);
    let mut client = Client::of(&node);
    // One that waits for its client, one that computes, one whose output nobody takes.
    for (round, function) in (1..).zip(["again", "spin", "yell"]) {
        let slices = node.counted("pipes", "slices");
        let stream = client.post(&stream_path("pipes", function), b"half of it", false);
        wait_for("it runs", || node.counted("pipes", "slices") > slices);
        client.reset(stream);
        nothing_is_under_way(&node, "pipes");
        assert_eq!(node.counted("pipes", "cancelled"), round, "{function}");
    }
    assert_eq!(node.counted("pipes", "returned"), 0);
    // The one cell is free, in the same worker.
    assert_eq!(node.call("pipes", "never", "[]").status, 200);
    assert_eq!(node.counted("pipes", "workers_started"), 1);
    assert_eq!(node.counted("pipes", "workers_out_of_order"), 0);
}

#[test]
fn a_call_that_is_reset_while_it_runs_sleeps_or_waits_for_a_cell_is_given_up() {
    let node = Node::start();
    node.deploy(&acts(), "acts", &["--cells", "1"]);
    let mut client = Client::of(&node);
    for (round, (function, arguments)) in (1..).zip([("spin", "[]"), ("wait", "[400]")]) {
        let slices = node.counted("acts", "slices");
        let runs = client.post(&call_path("acts", function), arguments.as_bytes(), true);
        wait_for("it runs", || node.counted("acts", "slices") > slices);
        let waits = client.post(&call_path("acts", "count"), b"[]", true);
        wait_for("another waits", || node.shown("acts")["waiting"] == json!(1));
        client.reset(waits);
        wait_for("it is gone", || node.shown("acts")["waiting"] == json!(0));
        assert_eq!(node.shown("acts")["running"], json!(1), "{function}");
        client.reset(runs);
        nothing_is_under_way(&node, "acts");
        assert_eq!(node.counted("acts", "cancelled"), 2 * round, "{function}");
    }
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(node.counted("acts", "workers_started"), 1);
}

#[test]
fn requests_that_are_reset_as_soon_as_they_are_made_leave_nothing_behind() {
    let node = Node::with("cells.queue = 16");
    node.deploy(&acts(), "acts", &["--cells", "2"]);
    node.call("acts", "count", "[]").good();
    let before = Holds::of(&node);
    for _ in 0..8 {
        let mut client = Client::of(&node);
        for number in 0..100 {
            let (function, is_whole) = [("spin", true), ("wait", true), ("arguments", false)][number % 3];
            let stream = client.post(&call_path("acts", function), b"[400]", is_whole);
            client.reset(stream);
        }
        // Others are served.
        node.ask("GET", "/health/ready", b"").good();
    }
    nothing_is_under_way(&node, "acts");
    node.call("acts", "count", "[]").good();
    assert_eq!(node.counted("acts", "workers_started"), 1);
    wait_for("descriptors are given back", || {
        Holds::of(&node).descriptors <= before.descriptors + 4
    });
}

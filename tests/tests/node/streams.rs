//! Calls with a stream in and a stream out: bytes of any length pass with a bounded part of them in memory, whoever is slow has the other wait, and
//! however a stream ends its client knows whether what it has is whole, and nothing of the call is left.

pub mod client;

use std::fs;
use std::io::Write as _;
use std::net::Shutdown;
use std::path::PathBuf;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use referee_tests::Ended;
use serde_json::json;

use crate::node::Node;
use crate::{FAULT, REJECTED, acts, bundle, wait_for};
use client::{Client, path, send};

fn pipes() -> PathBuf {
    bundle("reactor", "pipes")
}

/// A node with the muscle that reads and writes.
fn node(more: &str, options: &[&str]) -> Node {
    let node = Node::with(more);
    node.deploy(&pipes(), "pipes", options);
    node
}

/// Waits until nothing of any call is under way.
#[track_caller]
fn is_over(node: &Node) {
    wait_for("nothing runs", || node.shown("pipes")["running"] == json!(0));
}

/// Whether no call runs.
fn no_slot_is_taken(node: &Node) -> bool {
    let stats = node.ask("GET", "/v1/stats", b"").json();
    stats["free_slots"] == stats["slots"]
}

/// What a process has in memory that is its own, in bytes.
fn own_memory(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("is there");
    let line = text
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("has it");
    let kib = line.split_whitespace().nth(1).expect("has a figure");
    kib.parse::<u64>().expect("is a number") * 1024
}

fn names(pair: (&str, &str)) -> (String, String) {
    (pair.0.to_owned(), pair.1.to_owned())
}

#[test]
fn a_body_larger_than_every_buffer_comes_back_with_little_of_it_in_memory() {
    const TIMES: usize = 32;
    let node = node("", &[]);
    // A first one, so that what is there anyway is there.
    let mut first = Client::open(&node, "again");
    first.finish();
    first.begins();
    assert_eq!(
        first.rest().expect("is whole").1.returned(),
        (Some("returned"), Some("0"))
    );
    let before: u64 = [node.pid()]
        .into_iter()
        .chain(node.workers())
        .map(own_memory)
        .sum();
    let mut client = Client::open(&node, "again");
    let block: Vec<u8> = (0..1 << 20)
        .map(|n: u32| n.to_le_bytes()[0] ^ n.to_le_bytes()[1])
        .collect();
    let mut line = client.line();
    let sent = block.clone();
    let sending = thread::spawn(move || {
        for _ in 0..TIMES {
            for piece in sent.chunks(100_000) {
                send(&mut line, piece)?;
            }
        }
        line.write_all(b"0\r\n\r\n")
    });
    client.begins();
    let (mut length, mut most, mut looked) = (0, before, 0);
    while let Some(piece) = client.piece().expect("comes") {
        for byte in piece {
            assert_eq!(byte, block[length % block.len()], "byte {length}");
            length += 1;
        }
        if length >> 20 > looked {
            looked = length >> 20;
            let pids = [node.pid()].into_iter().chain(node.workers());
            most = most.max(pids.map(own_memory).sum());
        }
    }
    sending.join().expect("ends").expect("all is taken");
    assert_eq!(length, TIMES << 20);
    assert!(
        most - before < 12 << 20,
        "{} more for {length} bytes",
        most - before
    );
    let counted = |what: &str| node.counted("pipes", what);
    is_over(&node);
    assert_eq!((counted("calls"), counted("returned")), (2, 2));
    // Arguments and results are counted too.
    let passed = u64::try_from(length).expect("is small");
    for what in ["bytes_in", "bytes_out"] {
        let rest = counted(what) - passed;
        assert!(rest < 100, "{what}: {rest}");
    }
}

#[test]
fn what_is_written_is_read_at_once_and_what_is_sent_too() {
    let node = node("", &[]);
    let mut client = Client::open(&node, "again");
    client.begins();
    for text in ["one", "two", "three"] {
        client.send(text.as_bytes());
        assert_eq!(client.read(1), text.as_bytes());
    }
    // It waits: nobody else is kept from the processor, nor is a call of its own deployment.
    wait_for("it waits", || no_slot_is_taken(&node));
    let slices = node.counted("pipes", "slices");
    let mut other = Client::open(&node, "count");
    other.send(b"1234567");
    other.finish();
    other.begins();
    assert_eq!(other.rest().expect("is whole").1.returned().1, Some("7"));
    assert!(
        node.counted("pipes", "slices") - slices < 50,
        "who waits does not spin"
    );
    client.send(b"four");
    client.finish();
    let (rest, trailers) = client.rest().expect("is whole");
    assert_eq!(
        (rest.as_slice(), trailers.returned()),
        (&b"four"[..], (Some("returned"), Some("15")))
    );
    assert!(trailers.get("referee-used-us").is_some());
    is_over(&node);
    // Its output was its client's, and is nobody else's.
    assert_eq!(node.ask("GET", "/v1/deployments/pipes/logs", b"").good(), b"");
}

#[test]
fn a_reader_that_stops_stops_the_muscle_and_no_one_else() {
    let node = node("cells.slots = 1", &["--cells", "2"]);
    node.deploy(&acts(), "acts", &[]);
    let mut client = Client::open(&node, "yell");
    client.begins();
    // What pipes on the way hold is full at some time; then it stands still.
    let mut written = 0;
    wait_for("it stands still", || {
        thread::sleep(Duration::from_millis(300));
        let stands = std::mem::replace(&mut written, node.counted("pipes", "bytes_out")) == written;
        // On a busy host it may also be that it has not come to its turn.
        stands && no_slot_is_taken(&node)
    });
    assert!(written < 2 << 20, "{written} bytes for nobody");
    let slices = node.counted("pipes", "slices");
    assert_eq!(node.shown("pipes")["running"], json!(1));
    // The only slot is free.
    for _ in 0..10 {
        node.call("acts", "count", "[]").good();
    }
    assert_eq!(node.counted("pipes", "slices"), slices, "it does not spin");
    client.read(1 << 20);
    wait_for("it goes on", || node.counted("pipes", "bytes_out") > written);
    drop(client);
    is_over(&node);
    assert_eq!(node.counted("pipes", "cancelled"), 1);
    assert_eq!(
        node.call("pipes", "never", "[]").status,
        200,
        "another has its place"
    );
}

#[test]
fn clients_that_let_the_muscle_wait_too_long_lose_their_call() {
    let node = node("api.stream_idle_seconds = 1", &[]);
    let mut sender = Client::open(&node, "count");
    sender.send(b"a part");
    let mut reader = Client::open(&node, "yell");
    sender.begins();
    let begun = Instant::now();
    let (_, trailers) = sender.rest().expect("is told");
    assert_eq!(trailers.failed(), names(("rejected", "input-slow")));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    // One that does not read is not told, unless it reads after all.
    is_over(&node);
    assert_eq!(node.counted("pipes", "cancelled"), 2);
    reader.begins();
    match reader.rest() {
        Ok((_, trailers)) => assert_eq!(trailers.failed(), names(("rejected", "output-slow"))),
        Err(broken) => assert_eq!(broken.kind(), std::io::ErrorKind::UnexpectedEof),
    }
    // Who sends a little each time is not slow, but has no more time than any call.
    node.deploy(&pipes(), "pipes", &["--deadline-ms", "2500"]);
    let mut drip = Client::open(&node, "count");
    drip.begins();
    let mut line = drip.line();
    let dripping = thread::spawn(move || {
        while send(&mut line, b"x").is_ok() {
            thread::sleep(Duration::from_millis(200));
        }
    });
    let (_, trailers) = drip.rest().expect("is told");
    assert_eq!(trailers.failed(), names(("time", "deadline")));
    is_over(&node);
    drop(drip);
    dripping.join().expect("ends");
}

/// How far a client goes before it is gone.
type Goes = fn(&mut Client);

#[test]
fn a_client_that_goes_away_takes_its_call_with_it() {
    let node = node("", &["--cells", "1"]);
    let far: [(&str, &str, Goes); 7] = [
        ("again", "before anything", |_| {}),
        ("again", "within a piece", |client| {
            client.line().write_all(b"ff\r\nabc").expect("is sent")
        }),
        ("again", "while it is waited for", |client| client.begins()),
        ("again", "after a piece", |client| {
            client.send(b"abc");
            client.begins();
            client.read(3);
        }),
        ("again", "after half of what comes", |client| {
            client.send(&[b'x'; 100_000]);
            client.begins();
            client.read(1000);
        }),
        ("spin", "while it runs", |client| {
            client.finish();
            client.begins();
            client.read(5);
        }),
        ("yell", "while it writes", |client| {
            client.begins();
            client.read(100_000);
        }),
    ];
    for (function, when, go) in far {
        for half in [false, true] {
            let mut client = Client::open(&node, function);
            go(&mut client);
            match half {
                // Nothing more is sent, and all is read: what broke off is not taken for the end of the body.
                true if function == "again" => {
                    client.line().shutdown(Shutdown::Write).expect("is open");
                    let rest = client.rest();
                    assert!(
                        rest.as_ref()
                            .map_or(true, |(_, trailers)| trailers.get("referee-outcome")
                                != Some("returned")),
                        "{when}: {rest:?}"
                    );
                }
                _ => drop(client),
            }
            wait_for(when, || {
                let counted = |what| node.counted("pipes", what);
                node.shown("pipes")["running"] == json!(0)
                    // One that went before its head was read is none.
                    && (when == "before anything" || counted("calls") == counted("cancelled"))
            });
        }
    }
    assert!(
        node.counted("pipes", "cancelled") >= 10,
        "those whose head was answered"
    );
    assert_eq!(node.counted("pipes", "returned"), 0);
    // Its place is free.
    assert_eq!(node.call("pipes", "count", "[]").good(), b"0");
}

#[test]
fn how_a_call_ended_is_in_the_trailers_or_the_answer_breaks_off() {
    let node = node("cells.output_bytes = 300000", &[]);
    for (function, output, failed) in [
        ("fault", 5, ("fault", "invalid-opcode")),
        ("refuse", 5, ("function", "application")),
        ("yell", 299_008, ("fault", "output-limit")),
    ] {
        let mut client = Client::open(&node, function);
        client.begins();
        let (bytes, trailers) = client.rest().expect("is whole");
        assert_eq!(trailers.failed(), names(failed), "{trailers:?}");
        assert_eq!(bytes.len(), output, "what was written before it is there");
        // Whoever does not ask for trailers sees by its end that it is not whole.
        let mut unaware = Client::with(&node, &path("pipes", function), "");
        // Also before its head, if the call was over as soon as that.
        let broken = unaware.head().and_then(|_| unaware.rest());
        let broken = broken.expect_err("breaks off");
        assert_eq!(broken.kind(), std::io::ErrorKind::UnexpectedEof);
    }
    let mut unaware = Client::with(&node, &path("pipes", "never"), "");
    unaware.begins();
    let (bytes, trailers) = unaware.rest().expect("is whole");
    assert_eq!(
        (bytes.as_slice(), trailers.get("referee-outcome")),
        (&b"line\n"[..], None)
    );
    is_over(&node);
    let counted = |what: &str| node.counted("pipes", what);
    assert_eq!(
        (counted("faults"), counted("function_errors"), counted("returned")),
        (4, 2, 1)
    );
    let faults = node.records();
    let faults = faults.iter().filter(|record| record["kind"] == "fault").count();
    assert_eq!(faults, 4, "they are in the log");
}

#[test]
fn a_muscle_that_reads_nothing_is_no_less_answered() {
    let node = node("", &[]);
    let mut client = Client::open(&node, "never");
    let mut line = client.line();
    // More than anybody takes for it; the connection ends under it.
    let sending = thread::spawn(move || (0..64).try_for_each(|_| send(&mut line, &[0; 1 << 16])));
    client.begins();
    let (bytes, trailers) = client.rest().expect("is whole");
    assert_eq!(
        (bytes.as_slice(), trailers.returned()),
        (&b"line\n"[..], (Some("returned"), Some("0")))
    );
    drop(client);
    assert!(sending.join().expect("ends").is_err(), "nobody took it");
}

#[test]
fn a_doorbell_beside_output_that_has_to_wait_is_not_lost() {
    let node = node("", &[]);
    let mut client = Client::open(&node, "gush");
    client.begins();
    thread::sleep(Duration::from_millis(300));
    let (bytes, trailers) = client.rest().expect("is whole");
    assert_eq!(
        trailers.returned(),
        (Some("returned"), Some("1048576")),
        "{trailers:?}"
    );
    assert_eq!(bytes, vec![b'y'; 1 << 20]);
}

#[test]
fn what_cannot_stream_is_refused_by_name_before_anything_is_sent() {
    let node = node("api.streams = 1", &[]);
    node.deploy(&bundle("reactor", "answers"), "mute", &[]);
    node.deploy(&pipes(), "ticks", &["--release-ms", "10"]);
    let refused = |path: &str, headers: &str| Client::with(&node, path, headers).refusal();
    refused(&path("mute", "f"), "").is(422, "rejected", "console-not-granted");
    refused(&path("ticks", "count"), "").is(422, "rejected", "stream-on-ticks");
    refused(&path("none", "count"), "").is(404, "rejected", "no-deployment");
    refused(&path("pipes", "none"), "").is(404, "rejected", "no-function");
    let count = path("pipes", "count");
    refused(&format!("{count}?arguments=[1"), "").is(422, "rejected", "arguments-invalid");
    refused(&format!("{count}?argument=[]"), "").is(400, "rejected", "query-invalid");
    refused(&count, "referee-retry: 1\r\n").is(400, "rejected", "header-invalid");
    let mut one = Client::open(&node, "count");
    one.begins();
    refused(&count, "").is(429, "busy", "busy");
    assert_eq!(
        node.call("pipes", "never", "[]").status,
        200,
        "calls have places of their own"
    );
    drop(one);
    is_over(&node);
    assert_eq!(node.cli(&["pause", "pipes"]).code, Some(0));
    wait_for("its place is free", || {
        refused(&count, "").refusal().2 == "paused"
    });
    assert_eq!(node.cli(&["resume", "pipes"]).code, Some(0));
    assert_eq!(
        node.cli(&["grants", "pipes", "--revoke", "console"]).code,
        Some(0)
    );
    refused(&count, "").is(422, "rejected", "console-not-granted");
}

#[test]
fn a_console_that_is_taken_back_is_gone_for_a_stream_that_waits() {
    let node = node("", &["--cells", "2"]);
    let mut reader = Client::open(&node, "again");
    reader.begins();
    reader.send(b"abc");
    assert_eq!(reader.read(3), b"abc");
    let narrowed = node.cli(&["grants", "pipes", "--narrow", "console", "--no-input"]);
    assert_eq!(narrowed.code, Some(0), "{}", narrowed.errors());
    // It waited for input, and hears without any that there is none for it: denied.
    let (rest, trailers) = reader.rest().expect("is whole");
    assert_eq!(
        (rest.as_slice(), trailers.returned()),
        (&b""[..], (Some("returned"), Some("1")))
    );
    let mut writer = Client::open(&node, "yell");
    writer.begins();
    wait_for("it stands still", || {
        let written = node.counted("pipes", "bytes_out");
        thread::sleep(Duration::from_millis(300));
        node.counted("pipes", "bytes_out") == written && no_slot_is_taken(&node)
    });
    let revoked = node.cli(&["grants", "pipes", "--revoke", "console"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.errors());
    is_over(&node);
    let (_, trailers) = writer.rest().expect("is whole");
    assert_eq!(
        trailers.returned(),
        (Some("returned"), Some("2")),
        "the handle is stale"
    );
    let records = node.records();
    let denied = records
        .iter()
        .rfind(|record| record["kind"] == "deny")
        .expect("is recorded");
    assert_eq!(denied["detail"]["why"], "the grant was revoked");
}

#[test]
fn two_streams_have_each_their_own_bytes() {
    let node = node("", &["--cells", "2", "--keep-memory"]);
    let streams: Vec<_> = [b'a', b'b']
        .map(|letter| {
            let mut client = Client::open(&node, "again");
            let mut line = client.line();
            let sending = thread::spawn(move || {
                for _ in 0..16 {
                    send(&mut line, &[letter; 1 << 16])?;
                }
                line.write_all(b"0\r\n\r\n")
            });
            let reading = thread::spawn(move || {
                client.begins();
                let (bytes, trailers) = client.rest().expect("is whole");
                assert_eq!(bytes, vec![letter; 1 << 20]);
                assert_eq!(trailers.returned().1, Some("1048576"));
            });
            (sending, reading)
        })
        .into();
    for (sending, reading) in streams {
        reading.join().expect("is as it should be");
        sending.join().expect("ends").expect("all is taken");
    }
    // A call after it in the same cell has neither input nor a client.
    assert_eq!(node.call("pipes", "count", "[]").good(), b"0");
    node.call("pipes", "never", "[]").good();
    let logs = node.ask("GET", "/v1/deployments/pipes/logs", b"").good();
    assert!(String::from_utf8_lossy(&logs).contains("line"));
}

#[test]
fn ends_that_nobody_in_the_stream_brings_about_are_told() {
    let mut node = node("drain_seconds = 1", &[]);
    let open = |node: &Node| {
        let mut client = Client::open(node, "again");
        client.begins();
        client.send(b"abc");
        assert_eq!(client.read(3), b"abc");
        client
    };
    let mut killed = open(&node);
    assert_eq!(node.cli(&["kill", "pipes"]).code, Some(0));
    let (_, trailers) = killed.rest().expect("is told");
    assert_eq!(trailers.failed(), names(("host-error", "worker-gone")));
    // A pause takes no call from anybody.
    let mut paused = open(&node);
    assert_eq!(node.cli(&["pause", "pipes"]).code, Some(0));
    paused.send(b"def");
    assert_eq!(paused.read(3), b"def");
    paused.finish();
    assert_eq!(
        paused.rest().expect("is whole").1.returned(),
        (Some("returned"), Some("6"))
    );
    assert_eq!(node.cli(&["resume", "pipes"]).code, Some(0));
    let mut drained = open(&node);
    let begun = Instant::now();
    assert_eq!(node.stop().code(), Some(0), "{}", node.words());
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    let (_, trailers) = drained.rest().expect("is told");
    assert_eq!(trailers.failed(), names(("host-error", "worker-gone")));
}

#[test]
fn the_command_line_is_at_both_ends() {
    let node = node("", &[]);
    let stream = |function: &str, input: &[u8]| {
        let mut command = node.command(&["call", "@pipes", function, "--stream"]);
        let mut child = command.stdin(Stdio::piped()).spawn().expect("starts");
        let mut to = child.stdin.take().expect("is piped");
        let input = input.to_vec();
        let sending = thread::spawn(move || to.write_all(&input));
        let ended = Ended::of(child).expect("ends");
        // Not all of them read it.
        let _ = sending.join().expect("ends");
        ended
    };
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[1]).collect();
    let again = stream("again", &bytes);
    assert_eq!((again.code, again.errors().as_str()), (Some(0), "3000000\n"));
    assert_eq!(again.stdout, bytes);
    let fault = stream("fault", b"");
    assert_eq!(
        (fault.code, fault.stdout.as_slice()),
        (FAULT, &b"line\n"[..]),
        "{}",
        fault.errors()
    );
    let refused = stream("refuse", b"");
    assert_eq!(
        (refused.code, refused.errors().as_str()),
        (Some(1), "error: not me [application]\n")
    );
    let none = stream("none", &bytes);
    assert_eq!(none.code, REJECTED, "{}", none.errors());
    let of_bundle = node.cli(&["call", "pipes.muscle", "count", "--stream"]);
    assert_eq!(of_bundle.code, REJECTED);
    assert!(
        of_bundle.errors().contains("[stream-without-node]"),
        "{}",
        of_bundle.errors()
    );
    let both = node.cli(&["call", "@pipes", "count", "-", "--stream"]);
    assert!(
        both.errors().contains("[arguments-and-input]"),
        "{}",
        both.errors()
    );
}

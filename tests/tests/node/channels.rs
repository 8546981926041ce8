//! Messages between deployments: what flows with both grants, and what does not without either. `courier` sends what it is told, and takes
//! messages by their first letter.

mod revoked;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use muscle_abi::frame::ErrorCode;
use serde_json::{Value, json};

use crate::http::{self, Answer};
use crate::node::{Calling, Node, call_path};
use crate::{REJECTED, SOON, acts, bundle, text, wait_for};

fn courier() -> PathBuf {
    bundle("reactor", "courier")
}

/// Channels of a courier. What is left out is bound to a channel that nobody else has.
#[derive(Default, Clone, Copy)]
struct Wires<'a> {
    ask: &'a str,
    from: &'a str,
    to: &'a str,
}

const NOWHERE: Wires<'_> = Wires {
    ask: "",
    from: "",
    to: "",
};

fn options(name: &str, wires: Wires<'_>) -> Vec<String> {
    let wires = [("ask", wires.ask), ("from", wires.from), ("to", wires.to)];
    let bind = |(slot, channel): (&str, &str)| match channel {
        "" => format!("--bind={slot}=channel:{name}.{slot}"),
        channel => format!("--bind={slot}=channel:{channel}"),
    };
    wires.into_iter().map(bind).collect()
}

#[track_caller]
fn deploy(node: &Node, name: &str, wires: Wires<'_>, more: &[&str]) {
    let bound = options(name, wires);
    let mut options: Vec<&str> = bound.iter().map(String::as_str).collect();
    options.extend(more);
    node.deploy(&courier(), name, &options);
}

/// `[bytes]`, in which a text is the message.
fn arguments(message: &str) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    encoder.str(message).expect("a vector");
    let message = encoder.into_writer();
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let encoded = encoder.array(1).and_then(|encoder| encoder.bytes(&message));
    encoded.expect("a vector");
    encoder.into_writer()
}

const FORMS: [(&str, &str); 2] = [
    ("content-type", "application/cbor"),
    ("accept", "application/json"),
];

/// Has a courier do something with a message.
fn tell(node: &Node, name: &str, function: &str, message: &str) -> Answer {
    let path = call_path(name, function);
    http::ask(&node.socket(), "POST", &path, &FORMS, &arguments(message)).expect("is answered")
}

fn telling(node: &Node, name: &str, function: &str, message: &str) -> Calling {
    let (socket, path) = (node.socket(), call_path(name, function));
    let arguments = arguments(message);
    std::thread::spawn(move || http::ask(&socket, "POST", &path, &FORMS, &arguments))
}

/// What the host answered to a courier that had sent.
#[track_caller]
fn heard(answer: Answer) -> Value {
    serde_json::from_slice(&answer.good()).expect("is JSON")
}

/// The answer of a receiver.
#[track_caller]
fn replied(answer: Answer) -> String {
    let heard = heard(answer);
    assert_eq!(heard[0], false, "{heard}");
    let bytes: Vec<u8> = serde_json::from_value(heard[1].clone()).expect("are bytes");
    minicbor::Decoder::new(&bytes)
        .str()
        .expect("is a text")
        .to_owned()
}

/// The code with which the host refused.
#[track_caller]
fn code(answer: Answer) -> Option<ErrorCode> {
    let heard = heard(answer);
    assert!(heard[1].is_string(), "{heard}");
    let number = heard[0].as_u64().expect("is a number");
    ErrorCode::from_number(u32::try_from(number).expect("is small"))
}

fn waiting(node: &Node, name: &str) -> Value {
    node.shown(name)["messages_waiting"].clone()
}

/// Operations of a deployment's muscle in the log, by slot.
fn uses(node: &Node, op: &str) -> Vec<Value> {
    let mut records = node.records();
    records.retain(|record| record["op"] == op);
    records
}

#[test]
fn a_message_reaches_every_receiver_and_both_ends_are_in_the_log() {
    let node = Node::start();
    let receives = Wires {
        from: "news",
        ..NOWHERE
    };
    deploy(&node, "one", receives, &[]);
    deploy(&node, "two", receives, &[]);
    deploy(
        &node,
        "other",
        Wires {
            from: "weather",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "sender",
        Wires {
            to: "news",
            ..NOWHERE
        },
        &[],
    );
    assert_eq!(heard(tell(&node, "sender", "send", "e-secret")), json!(2));
    for name in ["one", "two"] {
        wait_for("it is taken", || node.counted(name, "messages_taken") == 1);
        assert_eq!(node.counted(name, "calls"), 1);
        assert_eq!(waiting(&node, name), json!(0));
    }
    assert_eq!(node.counted("other", "calls"), 0);
    assert_eq!(node.counted("sender", "messages_sent"), 1);
    let sent = uses(&node, "channel.send");
    let [sent] = sent.as_slice() else {
        panic!("one use: {sent:?}");
    };
    assert_eq!((&sent["kind"], &sent["slot"]), (&json!("use"), &json!("to")));
    assert_eq!(sent["detail"], json!({"channel": "news", "bytes": 9}));
    let log = fs::read_to_string(node.path("audit.jsonl")).expect("is there");
    assert!(!log.contains("secret"), "what messages say is not the log's");
    // Whom nobody hears is told so.
    deploy(&node, "alone", NOWHERE, &[]);
    assert_eq!(heard(tell(&node, "alone", "send", "e")), json!(0));
    assert_eq!(code(tell(&node, "alone", "ask", "e")), Some(ErrorCode::NotFound));
}

#[test]
fn a_request_has_the_receivers_answer_or_its_words_or_why_there_is_none() {
    let node = Node::with("channels.request_ms = 1500");
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &["--deadline-ms", "20000"],
    );
    deploy(
        &node,
        "client",
        Wires {
            ask: "orders",
            ..NOWHERE
        },
        &[],
    );
    let ask = |message: &str| tell(&node, "client", "ask", message);
    assert_eq!(replied(ask("echo")), "echo");
    let refused = heard(ask("r"));
    assert_eq!(refused, json!([true, "not me"]), "the receiver's own words");
    assert_eq!(code(ask("f")), Some(ErrorCode::Io), "it faulted");
    // A receiver that never answers; its call is given up with the time.
    assert_eq!(code(ask("s")), Some(ErrorCode::Timeout));
    wait_for("the call is given up", || {
        node.shown("desk")["running"] == json!(0) && node.counted("desk", "cancelled") == 1
    });
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    assert_eq!(code(ask("echo")), Some(ErrorCode::Busy));
    assert_eq!(node.cli(&["resume", "desk"]).code, Some(0));
    assert_eq!(replied(ask("echo")), "echo");
    // One is to answer.
    deploy(
        &node,
        "second",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &[],
    );
    assert_eq!(code(ask("echo")), Some(ErrorCode::Invalid));
    for name in ["second", "desk"] {
        assert_eq!(node.cli(&["remove", name]).code, Some(0));
    }
    assert_eq!(code(ask("echo")), Some(ErrorCode::NotFound));
    // Each was recorded as asked, and each of those that came to nothing once more.
    let asked = uses(&node, "channel.request");
    assert!(asked.iter().all(|record| record["kind"] == "use"), "{asked:?}");
    let failed = asked
        .iter()
        .filter(|record| record["detail"]["error"].is_string());
    assert_eq!((asked.len(), failed.count()), (8 + 5, 5));
    let sent = node.counted("client", "messages_sent");
    assert_eq!((sent, node.counted("client", "messages_refused")), (3, 5));
}

#[test]
fn what_a_slot_may_not_do_is_refused_before_anything_is_sent() {
    let node = Node::start();
    deploy(
        &node,
        "desk",
        Wires {
            from: "news",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "sender",
        Wires {
            to: "news",
            from: "mine",
            ..NOWHERE
        },
        &[],
    );
    let handle = code(tell(&node, "sender", "forge", "e"));
    assert_eq!(handle, Some(ErrorCode::StaleHandle));
    assert_eq!(code(tell(&node, "sender", "wrong", "e")), Some(ErrorCode::Denied));
    // The manifest says 1000 bytes; a text of 997 has three bytes more.
    let long = "e".repeat(998);
    assert_eq!(
        code(tell(&node, "sender", "send", &long)),
        Some(ErrorCode::TooLarge)
    );
    assert_eq!(heard(tell(&node, "sender", "send", &long[..997])), json!(1));
    wait_for("it is taken", || node.counted("desk", "messages_taken") == 1);
    assert_eq!(node.counted("desk", "calls"), 1);
    assert_eq!(node.counted("sender", "denials"), 3);
    // A thousand messages in one call are what it asks for; the rest of them is refused by its own broker.
    deploy(&node, "loud", NOWHERE, &["--deadline-ms", "30000"]);
    assert_eq!(code(tell(&node, "loud", "many", "e")), Some(ErrorCode::Quota));
    assert_eq!(node.counted("loud", "messages_sent"), 1000);
    // A call has the quota anew, also in a cell that keeps its memory.
    deploy(&node, "keeps", NOWHERE, &["--keep-memory", "--cells", "1"]);
    for _ in 0..2 {
        assert_eq!(code(tell(&node, "keeps", "many", "e")), Some(ErrorCode::Quota));
    }
    assert_eq!(node.counted("keeps", "messages_sent"), 2000);
}

#[test]
fn a_full_mailbox_is_busy_for_its_sender_alone_and_a_pause_loses_nothing() {
    let node = Node::with("channels.queue = 3");
    deploy(
        &node,
        "desk",
        Wires {
            from: "news",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "second",
        Wires {
            from: "news",
            ..NOWHERE
        },
        &[],
    );
    for name in ["flood", "other"] {
        deploy(
            &node,
            name,
            Wires {
                to: "news",
                ..NOWHERE
            },
            &[],
        );
    }
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    assert_eq!(code(tell(&node, "flood", "many", "e")), Some(ErrorCode::Busy));
    // All or none: what had no room at the one did not reach the other either.
    assert_eq!(node.counted("flood", "messages_sent"), 3);
    wait_for("the others are taken", || {
        node.counted("second", "messages_taken") == 3
    });
    assert_eq!(
        heard(tell(&node, "other", "send", "e")),
        json!(2),
        "it has room of its own"
    );
    assert_eq!(waiting(&node, "desk"), json!(4));
    assert_eq!(node.counted("desk", "calls"), 0);
    // What waits belongs to the name: another bundle under it takes it.
    let bound = options(
        "desk",
        Wires {
            from: "news",
            ..NOWHERE
        },
    );
    let options: Vec<&str> = bound.iter().map(String::as_str).collect();
    node.deploy(&courier(), "desk", &options);
    assert_eq!(waiting(&node, "desk"), json!(4));
    assert_eq!(node.cli(&["resume", "desk"]).code, Some(0));
    wait_for("all are taken", || node.counted("desk", "messages_taken") == 4);
    assert_eq!(node.counted("desk", "messages_lost"), 0);
    // A message whose call fails is counted, and the next one comes.
    assert_eq!(heard(tell(&node, "other", "send", "f")), json!(2));
    assert_eq!(heard(tell(&node, "other", "send", "e")), json!(2));
    wait_for("the next is taken", || {
        node.counted("desk", "messages_taken") == 5
    });
    assert_eq!(
        (
            node.counted("desk", "messages_lost"),
            node.counted("desk", "faults")
        ),
        (1, 1)
    );
    // What waits when a deployment is removed is lost, and said.
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    assert_eq!(heard(tell(&node, "other", "send", "e")), json!(2));
    assert_eq!(node.cli(&["remove", "desk"]).code, Some(0));
    assert!(
        node.words().contains("1 messages waited for desk"),
        "{}",
        node.words()
    );
    assert_eq!(heard(tell(&node, "other", "send", "e")), json!(1));
}

#[test]
fn requests_never_go_in_a_circle() {
    let node = Node::start();
    deploy(
        &node,
        "a",
        Wires {
            ask: "to-b",
            from: "to-a",
            ..NOWHERE
        },
        &["--cells", "1"],
    );
    deploy(
        &node,
        "b",
        Wires {
            ask: "to-c",
            from: "to-b",
            ..NOWHERE
        },
        &["--cells", "1"],
    );
    let refused = |name: &str, wires: Wires<'_>| {
        let bundle = text(&courier());
        let bound = options(name, wires);
        let mut words = vec!["deploy", bundle.as_str(), "--name", name];
        words.extend(bound.iter().map(String::as_str));
        let ended = node.cli(&words);
        assert_eq!(ended.code, REJECTED, "{}", ended.errors());
        ended.errors()
    };
    let said = refused(
        "c",
        Wires {
            ask: "to-a",
            from: "to-c",
            ..NOWHERE
        },
    );
    assert!(
        said.contains("c → a → b → c") && said.contains("[channel-circle]"),
        "{said}"
    );
    let said = refused(
        "b",
        Wires {
            ask: "to-a",
            from: "to-b",
            ..NOWHERE
        },
    );
    assert!(said.contains("b → a → b"), "{said}");
    let said = refused(
        "itself",
        Wires {
            ask: "x",
            from: "x",
            ..NOWHERE
        },
    );
    assert!(said.contains("itself → itself"), "{said}");
    assert!(node.managed().contains(&("refuse".to_owned(), "c".to_owned())));
    // The chain without its end is none.
    deploy(
        &node,
        "c",
        Wires {
            from: "to-c",
            ..NOWHERE
        },
        &["--cells", "1"],
    );
    assert_eq!(replied(tell(&node, "a", "ask", "echo")), "echo");
    assert_eq!(heard(tell(&node, "a", "ask", "q"))[0], false, "from a to b to c");
}

#[test]
fn messages_that_lead_to_messages_come_to_an_end() {
    let node = Node::start();
    deploy(
        &node,
        "ping",
        Wires {
            from: "a",
            to: "b",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "pong",
        Wires {
            from: "b",
            to: "a",
            ..NOWHERE
        },
        &[],
    );
    // Each sends on what it takes; the eighth is sent on by nobody.
    assert_eq!(heard(tell(&node, "ping", "send", "p")), json!(1));
    wait_for("it ends", || {
        node.counted("ping", "messages_refused") + node.counted("pong", "messages_refused") == 1
    });
    wait_for("the last is taken", || {
        node.counted("ping", "messages_taken") + node.counted("pong", "messages_taken") == 8
    });
    let sent = node.counted("ping", "messages_sent") + node.counted("pong", "messages_sent");
    assert_eq!(sent, 8);
    assert_eq!(
        (waiting(&node, "ping"), waiting(&node, "pong")),
        (json!(0), json!(0))
    );
}

#[test]
fn whoever_waits_for_an_answer_leaves_its_slot_to_others() {
    // One slot: if the sender kept it, the receiver would never run.
    let node = Node::with("cells.slots = 1");
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &["--cells", "1"],
    );
    deploy(
        &node,
        "client",
        Wires {
            ask: "orders",
            ..NOWHERE
        },
        &["--cells", "8"],
    );
    node.deploy(&acts(), "acts", &[]);
    let asked: Vec<Calling> = (0..8).map(|_| telling(&node, "client", "ask", "echo")).collect();
    assert_eq!(node.call("acts", "count", "[]").good(), b"0");
    for call in asked {
        assert_eq!(replied(call.join().expect("ends").expect("is answered")), "echo");
    }
    assert_eq!(node.counted("desk", "returned"), 8);
}

#[test]
fn a_receiver_that_is_killed_or_paused_while_a_request_waits_ends_it_in_an_error() {
    let node = Node::start();
    let long = ["--deadline-ms", "40000", "--cpu-ms", "40000", "--cells", "1"];
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &long,
    );
    deploy(
        &node,
        "client",
        Wires {
            ask: "orders",
            ..NOWHERE
        },
        &["--deadline-ms", "40000"],
    );
    let first = telling(&node, "client", "ask", "s");
    node.wait_until_running("desk", 1);
    let second = telling(&node, "client", "ask", "s");
    wait_for("the second waits for the cell", || {
        node.shown("desk")["waiting"] == json!(1)
    });
    // Paused: what runs goes on, what waits for a cell is refused once there is one.
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    assert_eq!(node.cli(&["kill", "desk"]).code, Some(0));
    let told = |call: Calling| code(call.join().expect("ends").expect("is answered"));
    assert_eq!(told(first), Some(ErrorCode::Io));
    assert_eq!(told(second), Some(ErrorCode::Busy));
    assert_eq!(node.counted("client", "returned"), 2, "the sender goes on");
}

#[test]
fn a_sender_that_is_given_up_or_out_of_time_gives_its_request_up() {
    let node = Node::start();
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &["--deadline-ms", "40000", "--cpu-ms", "40000"],
    );
    deploy(
        &node,
        "client",
        Wires {
            ask: "orders",
            ..NOWHERE
        },
        &["--deadline-ms", "700"],
    );
    // Its own deadline ends it, or it hears a moment before that there is no answer.
    let answer = tell(&node, "client", "ask", "s");
    match answer.status {
        200 => assert_eq!(code(answer), Some(ErrorCode::Timeout)),
        _ => answer.is(504, "time", "deadline"),
    }
    wait_for("the receiver is given up too", || {
        node.counted("desk", "cancelled") == 1
    });
    deploy(
        &node,
        "patient",
        Wires {
            ask: "orders",
            ..NOWHERE
        },
        &["--deadline-ms", "40000"],
    );
    let path = call_path("patient", "ask");
    let body = arguments("s");
    let mut stream = http::connect(&node.socket()).expect("connects");
    let head = http::head("POST", &path, &FORMS, body.len());
    std::io::Write::write_all(&mut stream, &[head.as_bytes(), &body].concat()).expect("is sent");
    wait_for("the receiver runs", || node.shown("desk")["running"] == json!(1));
    drop(stream);
    wait_for("both are given up", || {
        node.counted("patient", "cancelled") == 1 && node.counted("desk", "cancelled") == 2
    });
}

/// A policy under which only what is said of channels is permitted, and everything else.
fn policy(path: &Path, channels: &str) {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../policies/default.cedar");
    let shipped = fs::read_to_string(shipped).expect("is there");
    let text = shipped.replacen(
        "action == Action::\"channel\",\n  resource\n)\nwhen {",
        &format!("action == Action::\"channel\",\n  resource\n)\nwhen {{ {channels} &&"),
        1,
    );
    assert_ne!(text, shipped);
    fs::write(path, text).expect("is written");
}

#[test]
fn without_both_grants_nothing_flows() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policy.cedar");
    policy(&path, "context.channel != \"closed\"");
    let node = Node::with(&format!("policies = ['{}']", text(&path)));
    let bundle = text(&courier());
    for wires in [
        Wires {
            to: "closed",
            ..NOWHERE
        },
        Wires {
            from: "closed",
            ..NOWHERE
        },
    ] {
        let bound = options("x", wires);
        let mut words = vec!["deploy", bundle.as_str(), "--name", "x"];
        words.extend(bound.iter().map(String::as_str));
        let ended = node.cli(&words);
        assert_eq!(ended.code, REJECTED);
        assert!(ended.errors().contains("no policy permits"), "{}", ended.errors());
    }
    deploy(
        &node,
        "desk",
        Wires {
            from: "orders",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "client",
        Wires {
            ask: "orders",
            to: "orders",
            ..NOWHERE
        },
        &[],
    );
    assert_eq!(replied(tell(&node, "client", "ask", "echo")), "echo");
    // The receiver's grant is taken back, and the sender's is left.
    policy(
        &path,
        "!(context.channel == \"orders\" && context.role == \"receive\")",
    );
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    assert_eq!(
        code(tell(&node, "client", "ask", "echo")),
        Some(ErrorCode::Denied)
    );
    assert_eq!(heard(tell(&node, "client", "send", "e")), json!(1));
    wait_for("it is lost, and counted", || {
        node.counted("desk", "messages_lost") == 1
    });
    // The sender's, and the receiver's is left.
    policy(
        &path,
        "!(context.channel == \"orders\" && context.role != \"receive\")",
    );
    assert_eq!(node.cli(&["reload"]).code, Some(0));
    tell(&node, "client", "ask", "echo").is(422, "rejected", "not-permitted");
    assert_eq!(node.counted("desk", "messages_taken"), 0);
}

#[test]
fn a_flood_of_messages_takes_no_time_from_another_tenants_calls() {
    let node = Node::with("cells.slots = 1");
    deploy(
        &node,
        "desk",
        Wires {
            from: "news",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "flood",
        Wires {
            to: "news",
            ..NOWHERE
        },
        &["--deadline-ms", "60000", "--cpu-ms", "60000"],
    );
    node.deploy(&acts(), "acts", &[]);
    node.call("acts", "count", "[]").good();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let flood = || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                // A thousand at a time, or until the mailbox is full.
                tell(&node, "flood", "many", "e").good();
            }
        };
        for _ in 0..3 {
            scope.spawn(flood);
        }
        wait_for("it floods", || node.counted("desk", "messages_taken") > 20);
        let began = Instant::now();
        for _ in 0..20 {
            assert_eq!(node.call("acts", "count", "[]").good(), b"0");
        }
        let took = began.elapsed();
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        // Four others want the slot, with turns of at most 10 ms: a call waits for some of these, not for the thousands of messages.
        assert!(took < SOON, "{took:?}");
    });
    wait_for("what was sent is taken", || waiting(&node, "desk") == json!(0));
    let counted = node.shown("desk")["counted"].clone();
    assert_eq!(counted["messages_lost"], json!(0));
    wait_for("the last is counted", || {
        node.counted("desk", "messages_taken") == node.counted("flood", "messages_sent")
    });
}

#[test]
fn what_a_stopped_node_loses_it_says() {
    let mut node = Node::start();
    deploy(
        &node,
        "desk",
        Wires {
            from: "news",
            ..NOWHERE
        },
        &[],
    );
    deploy(
        &node,
        "sender",
        Wires {
            to: "news",
            ..NOWHERE
        },
        &[],
    );
    assert_eq!(node.cli(&["pause", "desk"]).code, Some(0));
    for _ in 0..2 {
        assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(1));
    }
    assert_eq!(node.stop().code(), Some(0));
    assert!(
        node.words().contains("2 messages were waiting and are lost"),
        "{}",
        node.words()
    );
    // The deployments and their channels are there again.
    node.again();
    assert_eq!(heard(tell(&node, "sender", "send", "e")), json!(1));
    assert_eq!(node.cli(&["resume", "desk"]).code, Some(0));
    wait_for("it is taken", || node.counted("desk", "messages_taken") == 1);
}

#[test]
fn outside_of_a_node_a_channel_is_refused_with_the_reason() {
    let node = Node::start();
    let mut words: Vec<String> = ["call", "--trust"].map(str::to_owned).to_vec();
    words.extend([
        text(&node.path("trust.store")),
        "--audit".to_owned(),
        text(&node.path("other.jsonl")),
    ]);
    words.extend(options("x", NOWHERE));
    words.extend([text(&courier()), "take".to_owned(), "[\"e\"]".to_owned()]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let ended = node.cli(&words);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert!(
        ended.errors().contains("only a node carries messages") && ended.errors().contains("[no-node]"),
        "{}",
        ended.errors()
    );
}

#[test]
fn what_was_sent_just_before_a_fault_is_delivered_once() {
    let node = Node::start();
    let receives = Wires {
        from: "news",
        ..NOWHERE
    };
    deploy(&node, "one", receives, &[]);
    deploy(
        &node,
        "sender",
        Wires {
            to: "news",
            ..NOWHERE
        },
        &[],
    );
    tell(&node, "sender", "last", "echo").is(502, "fault", "invalid-opcode");
    wait_for("it is delivered", || node.counted("one", "returned") == 1);
    assert_eq!(waiting(&node, "one"), json!(0), "nothing else waits");
    assert_eq!(node.counted("one", "calls"), 1);
    assert_eq!(uses(&node, "channel.send").len(), 1);
    // It is recorded before the end of which it was the last act.
    let records = node.records();
    let at = |is: &dyn Fn(&Value) -> bool| records.iter().position(is).expect("is recorded");
    let sent = at(&|record| record["op"] == "channel.send");
    assert!(sent < at(&|record| record["kind"] == "fault"));
}

//! Messages as they leave a broker, and their answers as they come back.

use minicbor::{Decoder, Encoder};
use muscle_abi::capability::CapabilityKind;
use muscle_abi::frame::{ErrorCode, FrameKind};
use referee_bundle::{CapabilityRequest, ChannelRole};

use super::rig::{Reply, Rig};
use crate::{BrokerLimits, Message, MessageAnswer, Outgoing, Stop};

fn slot(role: ChannelRole) -> CapabilityRequest {
    CapabilityRequest::Channel { role, max_bytes: 10 }
}

fn rig() -> Rig {
    let receive = ChannelRole::Receive {
        function: "f".to_owned(),
    };
    Rig::new(
        &[
            ("ask", slot(ChannelRole::Request { max_messages: 3 })),
            ("from", slot(receive)),
            ("to", slot(ChannelRole::Send { max_messages: 2 })),
        ],
        &[
            "ask=channel:orders".to_owned(),
            "from=channel:news".to_owned(),
            "to=channel:news".to_owned(),
        ],
    )
}

fn handle(rig: &Rig, slot: &str) -> u64 {
    let entries = rig.broker.entries();
    let found = entries
        .iter()
        .find(|entry| entry.name() == slot)
        .expect("granted");
    assert_eq!(found.kind, CapabilityKind::Channel as u32);
    assert_eq!(found.detail, 10);
    found.handle
}

fn payload(message: &[u8]) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let encoded = encoder.array(1).and_then(|encoder| encoder.bytes(message));
    encoded.expect("a vector");
    encoder.into_writer()
}

fn call(rig: &mut Rig, slot: &str, op: &str, message: &[u8]) -> Result<Reply, Stop> {
    let handle = handle(rig, slot);
    rig.raw(handle, op, &payload(message))
}

fn is_interrupted(result: &Result<Reply, Stop>) -> bool {
    matches!(result, Err(Stop::Interrupted))
}

#[test]
fn a_message_leaves_once_and_the_same_call_has_its_answer() {
    let mut rig = rig();
    for round in 1..=2_u32 {
        assert!(is_interrupted(&call(&mut rig, "to", "channel.send", b"tick")));
        let message = Message {
            slot: "to".to_owned(),
            asks: false,
            bytes: b"tick".to_vec(),
        };
        assert!(
            is_interrupted(&call(&mut rig, "to", "channel.send", b"tick")),
            "nobody has taken it"
        );
        assert_eq!(rig.line.take(), Some(Outgoing::Message(message)));
        assert_eq!(rig.line.take(), None);
        assert!(
            is_interrupted(&call(&mut rig, "to", "channel.send", b"tick")),
            "nobody has answered"
        );
        rig.line.answer(MessageAnswer::Sent(round));
        let reply = call(&mut rig, "to", "channel.send", b"tick").expect("is answered");
        assert_eq!(reply.number(), round);
        assert_eq!(rig.records().len(), round as usize, "one use each");
    }
    let record = rig.last_record();
    assert_eq!(
        (&record["kind"], &record["op"]),
        (&"use".into(), &"channel.send".into())
    );
    assert_eq!(
        record["detail"],
        serde_json::json!({"channel": "news", "bytes": 4})
    );
}

#[test]
fn an_answer_is_a_value_or_words_or_an_error() {
    let mut rig = rig();
    let mut ask = |answer| {
        assert!(is_interrupted(&call(&mut rig, "ask", "channel.request", b"x")));
        let asks = |outgoing| matches!(outgoing, Outgoing::Message(message) if message.asks);
        assert!(rig.line.take().is_some_and(asks));
        rig.line.answer(answer);
        call(&mut rig, "ask", "channel.request", b"x").expect("is answered")
    };
    let Reply(kind, payload) = ask(MessageAnswer::Replied(vec![7]));
    assert_eq!(
        (kind, payload.as_slice()),
        (FrameKind::Return, &[0x82, 0xf4, 0x41, 7][..])
    );
    let Reply(_, payload) = ask(MessageAnswer::Failed("é".repeat(5000)));
    let mut decoder = Decoder::new(&payload);
    assert_eq!(decoder.array().ok(), Some(Some(2)));
    assert!(decoder.bool().expect("a flag"));
    assert_eq!(decoder.str().expect("words").len(), 4096);
    let refused = ask(MessageAnswer::Refused(ErrorCode::Busy, "later"));
    assert_eq!(refused.code(), Some(ErrorCode::Busy));
    let record = rig.last_record();
    assert_eq!(record["kind"], "use", "it was allowed, and came to nothing");
    assert_eq!(
        (&record["detail"]["error"], &record["detail"]["recorded"]),
        (&"busy".into(), &true.into())
    );
}

#[test]
fn what_the_grant_does_not_allow_never_leaves() {
    let mut rig = rig();
    let mut code = |slot: &str, op: &str, message: &[u8]| {
        let reply = call(&mut rig, slot, op, message).expect("is answered");
        assert_eq!(rig.last_record()["kind"], "deny", "{slot} {op}");
        assert_eq!(rig.line.take(), None, "{slot} {op}");
        reply.code()
    };
    for (slot, op) in [
        ("from", "channel.send"),
        ("from", "channel.request"),
        ("to", "channel.request"),
        ("ask", "channel.send"),
    ] {
        assert_eq!(code(slot, op, b"x"), Some(ErrorCode::Denied), "{slot} {op}");
    }
    assert_eq!(code("to", "channel.send", &[0; 11]), Some(ErrorCode::TooLarge));
    assert_eq!(code("to", "clock.now", b""), Some(ErrorCode::Denied));
}

#[test]
fn a_slot_sends_as_many_as_it_asked_for_in_each_call() {
    let mut rig = rig();
    for _ in 0..2 {
        rig.line.begin_call();
        for _ in 0..2 {
            assert!(is_interrupted(&call(&mut rig, "to", "channel.send", &[0; 10])));
            assert!(rig.line.take().is_some());
            rig.line.answer(MessageAnswer::Sent(0));
            assert_eq!(
                call(&mut rig, "to", "channel.send", &[0; 10])
                    .expect("sent")
                    .number(),
                0
            );
        }
        let reply = call(&mut rig, "to", "channel.send", b"x").expect("is answered");
        assert_eq!(reply.code(), Some(ErrorCode::Quota));
        assert!(
            is_interrupted(&call(&mut rig, "ask", "channel.request", b"x")),
            "its own"
        );
        rig.line.take();
        rig.line.answer(MessageAnswer::Refused(ErrorCode::Timeout, "no"));
        let timeout = call(&mut rig, "ask", "channel.request", b"x").expect("is answered");
        assert_eq!(timeout.code(), Some(ErrorCode::Timeout));
    }
}

#[test]
fn a_grant_that_is_taken_back_while_its_message_is_under_way_gives_its_answer_to_nobody() {
    let mut rig = rig();
    let ask = handle(&rig, "ask");
    assert!(is_interrupted(&call(&mut rig, "ask", "channel.request", b"x")));
    assert!(rig.line.take().is_some());
    assert!(rig.broker.revoke(ask).expect("is recorded"));
    rig.line.answer(MessageAnswer::Replied(vec![1]));
    let stale = rig
        .raw(ask, "channel.request", &payload(b"x"))
        .expect("is answered");
    assert_eq!(stale.code(), Some(ErrorCode::StaleHandle));
    assert!(is_interrupted(&call(&mut rig, "to", "channel.send", b"y")));
    let Some(Outgoing::Message(message)) = rig.line.take() else {
        panic!("is a new one");
    };
    assert_eq!(
        (message.slot.as_str(), message.bytes.as_slice()),
        ("to", &b"y"[..])
    );
    // Another call knows nothing of it.
    rig.line.begin_call();
    rig.line.answer(MessageAnswer::Sent(9));
    assert!(is_interrupted(&call(&mut rig, "to", "channel.send", b"z")));
}

#[test]
fn without_a_line_no_cell_is_made() {
    let grants = super::rig::grants(
        &[("to", slot(ChannelRole::Send { max_messages: 1 }))],
        &["to=channel:news".to_owned()],
    );
    let resources =
        crate::Resources::acquire(&grants, crate::ConsoleStreams::memory(Vec::new()).0).expect("opened");
    let audit = referee_audit::AuditSink::new(
        referee_audit::AuditLog::in_memory(referee_audit::Options::default()),
        "cell",
        "test 1",
    );
    let broker = crate::Broker::new(
        &grants,
        resources,
        audit,
        crate::CellClock::start(),
        BrokerLimits::default(),
    );
    assert!(matches!(broker, Err(crate::HostError::NotAcquired { slot }) if slot == "to"));
}

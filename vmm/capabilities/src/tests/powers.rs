//! Handles, console, clock, random, arguments, ports: and that nothing happens unaudited.

use std::fs::File;

use minicbor::{Decoder, Encoder};
use muscle_abi::boot::Strings;
use muscle_abi::capability::CapabilityKind;
use muscle_abi::frame::{ErrorCode, FrameKind};
use proptest::prelude::*;
use referee_audit::{AuditLog, AuditSink, Options};
use referee_bundle::{CapabilityRequest, ChannelRole};
use referee_policy::ClockGrade;

use super::rig::{Reply, Rig, grants, text};
use crate::*;

const CONSOLE: (&str, CapabilityRequest) = ("console", CapabilityRequest::Console { input: false });
const INPUT: (&str, CapabilityRequest) = ("console", CapabilityRequest::Console { input: true });
const ATTEST: (&str, CapabilityRequest) = ("attest", CapabilityRequest::Attest);
const STATE: (&str, CapabilityRequest) = ("state", CapabilityRequest::State { max_bytes: 100 });
const RANDOM: (&str, CapabilityRequest) = ("random", CapabilityRequest::Random);

fn bytes_payload(bytes: &[u8]) -> Vec<u8> {
    let mut out = minicbor::Encoder::new(Vec::new());
    out.array(1).and_then(|out| out.bytes(bytes)).expect("a vector");
    out.into_writer()
}

#[test]
fn output_reaches_its_stream_and_its_record_tells_how_much_and_not_what() {
    let mut rig = Rig::new(&[CONSOLE], &[]);
    let handle = rig.handle(CapabilityKind::Console);
    assert!(
        rig.raw(handle, "console.out", &bytes_payload(b"secret\x1b"))
            .expect("a reply")
            .is_null()
    );
    assert!(
        rig.raw(handle, "console.err", &bytes_payload(b"e"))
            .expect("a reply")
            .is_null()
    );
    assert_eq!(
        (text(&rig.out), text(&rig.err)),
        ("secret\x1b".to_owned(), "e".to_owned())
    );
    let records = rig.records();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0]["kind"], "use");
    assert_eq!(records[0]["capability"], "console");
    assert_eq!(records[0]["slot"], "console");
    assert_eq!(records[0]["op"], "console.out");
    assert_eq!(records[0]["detail"]["bytes"], 7);
    assert!(!records[0].to_string().contains("secret"));
}

#[test]
fn forged_stale_and_other_cells_handles_are_refused_and_recorded() {
    let mut rig = Rig::new(&[CONSOLE, RANDOM], &[]);
    let other = Rig::new(&[CONSOLE, RANDOM], &[]);
    let own = rig.handle(CapabilityKind::Console);
    let payload = bytes_payload(b"x");
    for handle in [
        0,
        own ^ (1 << 32),
        own ^ 1,
        own | 0xffff,
        u64::MAX,
        other.handle(CapabilityKind::Console),
    ] {
        let reply = rig.raw(handle, "console.out", &payload).expect("a reply");
        assert_eq!(reply.code(), Some(ErrorCode::StaleHandle), "{handle:#x}");
        let record = rig.last_record();
        assert_eq!(record["kind"], "deny");
        assert_eq!(record["detail"]["handle"], format!("{handle:#x}"));
        assert_eq!(record["detail"]["error"], "stale handle");
    }
    assert!(rig.broker.revoke(own).expect("recorded"));
    assert_eq!(rig.last_record()["kind"], "revoke");
    assert_eq!(
        rig.raw(own, "console.out", &payload).expect("a reply").code(),
        Some(ErrorCode::StaleHandle)
    );
    assert!(!rig.broker.revoke(own).expect("nothing to take back"));
    let why = rig.last_record();
    assert_eq!((&why["kind"], &why["slot"]), (&"deny".into(), &"console".into()));
    assert_eq!(why["detail"]["why"], "the grant was revoked");
    assert_eq!(rig.broker.entries().len(), 2);
    assert_eq!(text(&rig.out), "");
}

#[test]
fn the_grant_is_checked_before_the_payload_is_read() {
    let mut rig = Rig::new(&[CONSOLE, RANDOM], &[]);
    let random = rig.handle(CapabilityKind::Random);
    let garbage = [0xff; 40];
    let code = |rig: &mut Rig, handle, name: &str| rig.raw(handle, name, &garbage).expect("a reply").code();
    assert_eq!(code(&mut rig, 5, "random.fill"), Some(ErrorCode::StaleHandle));
    assert_eq!(code(&mut rig, random, "console.out"), Some(ErrorCode::Denied));
    assert_eq!(code(&mut rig, random, "files.open"), Some(ErrorCode::Denied));
    assert_eq!(
        code(&mut rig, random, "random.fill\n"),
        Some(ErrorCode::UnknownFunction)
    );
    let record = rig.last_record();
    assert_eq!(record["detail"]["name"]["text"], "random.fill\\n");
    assert_eq!(record["op"], serde_json::Value::Null);
    assert_eq!(
        code(&mut rig, random, "random.fill"),
        Some(ErrorCode::BadArguments)
    );
    assert!(rig.records().iter().all(|record| record["kind"] == "deny"));
}

#[test]
fn more_output_than_allowed_is_a_fault_before_any_of_it_is_written() {
    let limits = BrokerLimits {
        output_bytes: 10,
        ..BrokerLimits::default()
    };
    let mut rig = Rig::with(&[CONSOLE], &[], b"", limits);
    let handle = rig.handle(CapabilityKind::Console);
    assert!(
        rig.raw(handle, "console.out", &bytes_payload(b"123456"))
            .expect("a reply")
            .is_null()
    );
    assert!(
        rig.raw(handle, "console.err", &bytes_payload(b"7890"))
            .expect("a reply")
            .is_null()
    );
    let stop = rig.raw(handle, "console.out", &bytes_payload(b"!"));
    assert!(matches!(stop, Err(Stop::Fault(Fault::OutputLimit { limit: 10 }))));
    assert_eq!(
        (text(&rig.out), text(&rig.err)),
        ("123456".to_owned(), "7890".to_owned())
    );
}

#[test]
fn a_muscle_that_is_refused_without_end_is_a_fault() {
    let limits = BrokerLimits {
        denials: 3,
        ..BrokerLimits::default()
    };
    let mut rig = Rig::with(&[CONSOLE], &[], b"", limits);
    for _ in 0..3 {
        assert_eq!(
            rig.raw(1, "console.out", &[]).expect("a reply").code(),
            Some(ErrorCode::StaleHandle)
        );
    }
    let stop = rig.raw(1, "console.out", &[]);
    assert!(matches!(stop, Err(Stop::Fault(Fault::DenialLimit { limit: 3 }))));
    assert_eq!(rig.records().len(), 4, "the last refusal is recorded too");
}

#[test]
fn input_needs_its_own_grant_and_ends_empty() {
    let ask = |rig: &mut Rig, max: u32| {
        rig.call("console.in", |out| {
            out.array(1).and_then(|out| out.u32(max)).expect("a vector");
        })
        .expect("a reply")
    };
    let mut deaf = Rig::with(&[CONSOLE], &[], b"hello", BrokerLimits::default());
    assert_eq!(ask(&mut deaf, 5).code(), Some(ErrorCode::Denied));
    let mut rig = Rig::with(
        &[INPUT],
        &[],
        b"hello",
        BrokerLimits {
            max_chunk: 4,
            ..BrokerLimits::default()
        },
    );
    assert_eq!(ask(&mut rig, 2).bytes(), b"he");
    assert_eq!(
        ask(&mut rig, u32::MAX).bytes(),
        b"llo",
        "no more than a chunk of memory is set aside"
    );
    assert_eq!(ask(&mut rig, 9).bytes(), b"");
    assert_eq!(
        rig.records()
            .iter()
            .map(|record| record["detail"]["bytes"].clone())
            .collect::<Vec<_>>(),
        [2, 3, 0]
    );
}

#[test]
fn log_lines_are_escaped_and_have_a_known_level() {
    let mut rig = Rig::new(&[CONSOLE], &[]);
    let log = |rig: &mut Rig, level: u32, message: &str| {
        rig.call("console.log", |out| {
            out.array(3)
                .and_then(|out| out.u32(level))
                .and_then(|out| out.str("app\r"))
                .and_then(|out| out.str(message))
                .expect("a vector");
        })
        .expect("a reply")
    };
    assert!(log(&mut rig, 2, "two\nlines \x1b[31mred").is_null());
    assert_eq!(text(&rig.err), "[WARN app\\r] two\\nlines \\u{1b}[31mred\n");
    for level in [0, 6, u32::MAX] {
        assert_eq!(log(&mut rig, level, "x").code(), Some(ErrorCode::Invalid));
    }
}

#[test]
fn random_bytes_differ_and_have_a_limit() {
    let mut rig = Rig::new(&[RANDOM], &[]);
    let fill = |rig: &mut Rig, length: u32| {
        rig.call("random.fill", |out| {
            out.array(1).and_then(|out| out.u32(length)).expect("a vector");
        })
        .expect("a reply")
    };
    let (one, other) = (fill(&mut rig, 32).bytes(), fill(&mut rig, 32).bytes());
    assert_eq!((one.len(), other.len()), (32, 32));
    assert_ne!(one, other);
    assert_eq!(fill(&mut rig, 0).bytes(), b"");
    assert_eq!(fill(&mut rig, MAX_RANDOM).bytes().len(), 65536);
    assert_eq!(fill(&mut rig, MAX_RANDOM + 1).code(), Some(ErrorCode::TooLarge));
    assert_ne!(boot_seed(&grants(&[RANDOM], &[])).expect("random"), [0; 32]);
    assert_eq!(boot_seed(&grants(&[CONSOLE], &[])).expect("nothing"), [0; 32]);
}

#[test]
fn the_clock_is_as_fine_as_granted() {
    for (grade, step) in [(ClockGrade::Coarse, 1_000_000), (ClockGrade::Fine, 1)] {
        let mut rig = Rig::new(&[("clock", CapabilityRequest::Clock { grade })], &[]);
        let reply = rig
            .call("clock.now", |out| {
                out.array(0).expect("a vector");
            })
            .expect("a reply");
        let mut decoder = minicbor::Decoder::new(&reply.1);
        decoder.array().expect("two times");
        for _ in 0..2 {
            assert_eq!(decoder.u64().expect("a time") % step, 0);
        }
        assert_eq!(rig.broker.clock_grade(), Some(grade));
    }
}

#[test]
fn arguments_need_a_grant_and_variables_their_names() {
    let args = ("args", CapabilityRequest::Args);
    let env = (
        "env",
        CapabilityRequest::Env {
            names: vec!["LANG".to_owned(), "UNSET".to_owned()],
        },
    );
    let given = [b"one".to_vec(), b"\xff".to_vec()];
    let host = |name: &str| match name {
        "UNSET" => None,
        name => Some(format!("{name} of the host").into_bytes()),
    };
    let block = argument_block(&grants(&[args, env], &[]), &given, host).expect("laid out");
    let strings = Strings::new(&block).expect("a count");
    assert_eq!(strings.collect::<Vec<_>>(), [&b"one"[..], b"\xff"]);
    let variables = strings.next_run().expect("a second run");
    assert_eq!(variables.collect::<Vec<_>>(), [&b"LANG=LANG of the host"[..]]);
    let without = grants(&[CONSOLE], &[]);
    assert!(matches!(
        argument_block(&without, &given, host),
        Err(HostError::ArgumentsNotGranted { count: 2 })
    ));
    assert_eq!(argument_block(&without, &[], host).expect("laid out"), [0; 8]);
    let huge = [vec![0; 1 << 20]];
    assert!(matches!(
        argument_block(&grants(&[("args", CapabilityRequest::Args)], &[]), &huge, host),
        Err(HostError::ArgumentsTooLarge { .. })
    ));
}

#[test]
fn vsock_ports_are_granted_by_number_and_direction() {
    let slots = [
        ("in", CapabilityRequest::VsockListen { port: 2000 }),
        ("out", CapabilityRequest::VsockConnect { port: 3000 }),
    ];
    let mut rig = Rig::new(
        &slots,
        &[
            "in=unix:/tmp/a.sock".to_owned(),
            "out=unix:/tmp/b.sock".to_owned(),
        ],
    );
    let mut may = |how, port| rig.broker.use_port(how, port).expect("recorded");
    assert!(may(PortUse::Accept, 2000) && may(PortUse::Connect, 3000));
    assert!(!may(PortUse::Connect, 2000) && !may(PortUse::Accept, 3000) && !may(PortUse::Accept, 2001));
    let kinds: Vec<_> = rig
        .records()
        .iter()
        .map(|record| record["kind"].clone())
        .collect();
    assert_eq!(kinds, ["use", "use", "deny", "deny", "deny"]);
}

#[test]
fn a_serial_port_works_inside_its_ports_and_nowhere_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("real").join("serial.txt");
    let slots = [(
        "com1",
        CapabilityRequest::Pio {
            first: 0x3f8,
            last: 0x3ff,
        },
    )];
    let mut rig = Rig::new(&slots, &[format!("com1=serial:file:{}", path.display())]);
    for byte in b"hi\x1b" {
        // Line status: transmitter empty (bits 5 and 6), as a driver looks before it writes.
        let status = rig.broker.port_read(0x3fd, 1).expect("recorded");
        assert_eq!(status.map(|status| status & 0x60), Some(0x60));
        assert!(
            rig.broker
                .port_write(0x3f8, 1, u32::from(*byte))
                .expect("recorded")
        );
    }
    assert_eq!(std::fs::read(&path).expect("written"), b"hi\x1b");
    assert_eq!(rig.last_record()["kind"], "use");
    for (port, width) in [
        (0x3f7, 1),
        (0x400, 1),
        (0x3ff, 2),
        (0x3f7, 2),
        (0x3fd, 4),
        (0xffff, 4),
        (0x3f8, 0),
    ] {
        assert_eq!(rig.broker.port_read(port, width).expect("recorded"), None);
        assert!(!rig.broker.port_write(port, width, 1).expect("recorded"));
        let record = rig.last_record();
        assert_eq!(
            (&record["kind"], &record["op"]),
            (&"deny".into(), &"pio.out".into())
        );
        assert_eq!(record["detail"]["port"], format!("{port:#x}"));
    }
    // The scratch register, through a wide access that stays in the range.
    assert!(rig.broker.port_write(0x3fe, 2, 0xab00).expect("recorded"));
    assert_eq!(
        rig.broker
            .port_read(0x3fe, 2)
            .expect("recorded")
            .map(|value| value >> 8),
        Some(0xab)
    );
    let handle = rig.broker.entries()[0].handle;
    rig.broker.revoke(handle).expect("recorded");
    assert_eq!(rig.broker.port_read(0x3f8, 1).expect("recorded"), None);
    let limits = BrokerLimits {
        output_bytes: 2,
        ..BrokerLimits::default()
    };
    let mut rig = Rig::with(
        &slots,
        &[format!("com1=serial:file:{}", path.display())],
        b"",
        limits,
    );
    assert!(rig.broker.port_write(0x3f8, 2, 1).expect("recorded"));
    let stop = rig.broker.port_write(0x3f8, 1, 1);
    assert!(matches!(stop, Err(Stop::Fault(Fault::OutputLimit { limit: 2 }))));
}

#[test]
fn what_cannot_be_recorded_does_not_happen() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().canonicalize().expect("real");
    let grants = grants(
        &[CONSOLE, ("out", super::rig::read_write(1000, 10)), RANDOM],
        &[format!("out=dir:{}:rw", path.display())],
    );
    // A log that takes no more bytes: its file may not grow.
    let log = folder.path().join("audit.jsonl");
    let audit = AuditSink::new(AuditLog::open(&log, Options::default()).expect("a log"), "c", "m");
    let (streams, out, _) = ConsoleStreams::memory(Vec::new());
    let resources = Resources::acquire(&grants, streams).expect("opened");
    let mut broker = Broker::new(
        &grants,
        resources,
        audit,
        CellClock::start(),
        BrokerLimits::default(),
    )
    .expect("a broker");
    // Somebody shortens the log by a line: it no longer is what it was, and takes no record.
    let entries = broker.entries();
    let handle = |kind: CapabilityKind| {
        entries
            .iter()
            .find(|entry| entry.kind == kind as u32)
            .expect("granted")
            .handle
    };
    let mut reply = Vec::new();
    broker
        .call(
            handle(CapabilityKind::Random),
            "random.fill",
            &[0x81, 1],
            &mut reply,
        )
        .expect("recorded");
    File::options()
        .write(true)
        .open(&log)
        .expect("opens")
        .set_len(5)
        .expect("cut");
    let mut fails = |kind, name: &str, payload: &[u8]| {
        let stop = broker.call(handle(kind), name, payload, &mut reply);
        assert!(matches!(stop, Err(Stop::Host(HostError::Audit(_)))), "{name}");
    };
    fails(CapabilityKind::Console, "console.out", &bytes_payload(b"x"));
    fails(CapabilityKind::Files, "files.mkdir", &[0x81, 0x61, b'd']);
    fails(CapabilityKind::Files, "files.open", &[0x82, 0x61, b'f', 3]);
    fails(CapabilityKind::Random, "random.fill", &[0x81, 1]);
    fails(CapabilityKind::Random, "no.such", &[]);
    assert_eq!(text(&out), "");
    assert!(!path.join("d").exists() && !path.join("f").exists());
}

#[test]
fn evidence_is_given_for_what_fits_and_so_often() {
    let mut rig = Rig::new(&[ATTEST], &[]);
    let handle = rig.handle(CapabilityKind::Attest);
    let mut ask = |user_data: usize, nonce: usize, key: usize| {
        let mut payload = Vec::new();
        let mut encoder = Encoder::new(&mut payload);
        let encoded = encoder.array(3).and_then(|e| e.bytes(&vec![1; user_data]));
        encoded
            .and_then(|e| e.bytes(&vec![2; nonce])?.bytes(&vec![3; key]))
            .expect("fits");
        rig.raw(handle, "attest.evidence", &payload).expect("is answered")
    };
    for (user_data, nonce, key) in [(513, 16, 0), (0, 15, 0), (0, 65, 0), (0, 0, 0), (0, 16, 1025)] {
        let Reply(kind, payload) = ask(user_data, nonce, key);
        assert_eq!(kind, FrameKind::Error, "{user_data} {nonce} {key}");
        assert_eq!(Decoder::new(&payload).array().ok().flatten(), Some(2));
    }
    for _ in 0..crate::QUESTIONS_MAX {
        let Reply(kind, payload) = ask(512, 64, 1024);
        assert_eq!(kind, FrameKind::Return);
        assert_eq!(Decoder::new(&payload).bytes().ok(), Some(&[1, 2, 3, 4][..]));
    }
    assert_eq!(ask(0, 16, 0).0, FrameKind::Error, "one too many");
}

#[test]
fn state_is_as_long_as_was_asked_for_and_the_log_has_its_length_alone() {
    let mut rig = Rig::new(&[STATE], &[]);
    let handle = rig.handle(CapabilityKind::State);
    let Reply(kind, payload) = rig.raw(handle, "state.load", &[0x80]).expect("is answered");
    assert_eq!(kind, FrameKind::Return);
    assert_eq!(Decoder::new(&payload).bytes().ok(), Some(&[1, 2, 3, 4][..]));
    let mut save = |length: usize| {
        rig.raw(handle, "state.save", &bytes_payload(&vec![b'S'; length]))
            .expect("is answered")
            .0
    };
    assert_eq!(save(100), FrameKind::Return);
    assert_eq!(save(101), FrameKind::Error);
    let records = format!("{:?}", rig.records());
    assert!(
        records.contains("state.save") && records.contains("100"),
        "{records}"
    );
    assert!(!records.contains("SSS"), "{records}");
}

#[test]
fn a_state_that_was_saved_under_a_wider_manifest_is_not_cut() {
    let narrow = ("state", CapabilityRequest::State { max_bytes: 3 });
    let mut rig = Rig::new(&[narrow], &[]);
    let handle = rig.handle(CapabilityKind::State);
    let Reply(kind, _) = rig.raw(handle, "state.load", &[0x80]).expect("is answered");
    assert_eq!(kind, FrameKind::Error);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever a muscle sends, the broker answers with a frame or ends the cell, and records it.
    #[test]
    fn no_payload_makes_the_broker_panic(
        op in 0usize..Op::ALL.len(),
        payload in proptest::collection::vec(any::<u8>(), 0..60),
        shape in 0u8..5,
    ) {
        let folder = tempfile::tempdir().expect("a folder");
        let bind = format!("out=dir:{}:rw", folder.path().canonicalize().expect("real").display());
        let slots = [
            INPUT,
            ("clock", CapabilityRequest::Clock { grade: ClockGrade::Fine }),
            ("out", super::rig::read_write(1 << 20, 5)),
            RANDOM,
            ATTEST,
            STATE,
            ("host", CapabilityRequest::Functions { names: vec!["f".to_owned()] }),
            ("to", CapabilityRequest::Channel { role: ChannelRole::Send { max_messages: 9 }, max_bytes: 30 }),
        ];
        let mut rig = Rig::new(&slots, &[bind, "to=channel:c".to_owned()]);
        let op = Op::ALL[op];
        let handle = rig.handle(op.kind());
        // Half of the cases begin like an array of the right length.
        let payload = match shape {
            0 => payload,
            count => [vec![0x80 | (count - 1)], payload].concat(),
        };
        let reply = rig.raw(handle, op.name(), &payload);
        // A message leaves, and its answer is waited for.
        prop_assert!(reply.is_ok() != rig.line.take().is_some());
        prop_assert!(!rig.records().is_empty());
    }
}

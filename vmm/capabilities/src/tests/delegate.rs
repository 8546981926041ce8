//! Slots that wait for a delegation, and delegations as they leave a broker.

use minicbor::Encoder;
use muscle_abi::capability::delegate::{ALL_BYTES, ALL_FILES, CALL_MAX, COARSE, READ_ONLY};
use muscle_abi::capability::{CapabilityKind, call};
use muscle_abi::frame::ErrorCode;
use referee_bundle::{CapabilityRequest, ChannelRole, ClockGrade};
use referee_policy::{Grants, Loan, Loans, Narrowing, Power, Standings};

use super::rig::{Reply, Rig, grants, read_write};
use crate::{Delegation, MessageAnswer, Outgoing, Stop};

const CLOCK: CapabilityRequest = CapabilityRequest::Clock {
    grade: ClockGrade::Fine,
};

fn channel(role: ChannelRole) -> CapabilityRequest {
    CapabilityRequest::Channel { role, max_bytes: 10 }
}

fn slots() -> Vec<(&'static str, CapabilityRequest)> {
    let receive = ChannelRole::Receive {
        function: "f".to_owned(),
    };
    vec![
        ("books", read_write(100, 10)),
        ("from", channel(receive)),
        ("lent@from", read_write(100, 10)),
        ("on@@from", CapabilityRequest::Random),
        ("out", CapabilityRequest::Console { input: false }),
        ("time@from", CLOCK),
        ("to", channel(ChannelRole::Send { max_messages: 2 })),
    ]
}

struct World {
    folder: tempfile::TempDir,
    rig: Rig,
    granted: Grants,
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("a")).expect("made");
        for file in ["a/x", "y"] {
            std::fs::write(folder.path().join(file), "text").expect("written");
        }
        let path = folder.path().canonicalize().expect("real");
        let mut binds: Vec<String> = ["books", "lent"]
            .map(|slot| format!("{slot}=dir:{}:rw", path.display()))
            .to_vec();
        binds.extend(["from=channel:news".to_owned(), "to=channel:orders".to_owned()]);
        let rig = Rig::new(&slots(), &binds);
        let granted = grants(&slots(), &binds);
        World { folder, rig, granted }
    }

    fn power(&self, slot: &str) -> Power {
        self.granted.slot(slot).expect("granted").power().clone()
    }

    /// Has the slot have this.
    fn lend(&mut self, slot: &str, power: Option<Power>) {
        let mut loans = Loans::default();
        loans.put(slot, Loan { number: 1, power });
        let left = self.granted.left(&Standings::default(), &loans);
        self.rig.broker.leave(slot, left.slot(slot));
    }

    fn handle(&self, slot: &str) -> u64 {
        let entries = self.rig.broker.entries();
        entries
            .iter()
            .find(|entry| entry.name() == slot)
            .expect("granted")
            .handle
    }

    /// Calls by the slot `lent`.
    fn files(&mut self, name: &str, encode: impl FnOnce(&mut Encoder<Vec<u8>>)) -> Reply {
        let mut encoder = Encoder::new(Vec::new());
        encode(&mut encoder);
        let handle = self.handle("lent");
        self.rig
            .raw(handle, name, &encoder.into_writer())
            .expect("a reply")
    }

    fn open(&mut self, path: &str, flags: u32) -> Reply {
        self.files("files.open", |out| {
            let written = out
                .array(2)
                .and_then(|out| out.str(path))
                .and_then(|out| out.u32(flags));
            written.map(drop).expect("a vector");
        })
    }

    fn truncate(&mut self, file: u32, length: u32) -> Option<ErrorCode> {
        let reply = self.files("files.truncate", |out| {
            let written = out
                .array(2)
                .and_then(|out| out.u32(file))
                .and_then(|out| out.u32(length));
            written.map(drop).expect("a vector");
        });
        reply.code()
    }

    fn delegate(
        &mut self,
        by: &str,
        own: &str,
        to: &str,
        part: (u32, &str, u64, u32),
    ) -> Result<Reply, Stop> {
        let (flags, within, max_bytes, max_files) = part;
        let mut encoder = Encoder::new(Vec::new());
        let written = encoder
            .array(6)
            .and_then(|out| out.str(own))
            .and_then(|out| out.str(to))
            .and_then(|out| out.u32(flags))
            .and_then(|out| out.str(within))
            .and_then(|out| out.u64(max_bytes))
            .and_then(|out| out.u32(max_files));
        written.map(drop).expect("a vector");
        let handle = self.handle(by);
        self.rig.raw(handle, "channel.delegate", &encoder.into_writer())
    }

    /// The code with which it is refused.
    fn no(&mut self, by: &str, own: &str, to: &str, part: (u32, &str, u64, u32)) -> Option<ErrorCode> {
        let code = self.delegate(by, own, to, part).expect("is answered").code();
        assert_eq!(self.rig.line.take(), None, "{own} {to}");
        code
    }
}

const WHOLE: (u32, &str, u64, u32) = (0, "", ALL_BYTES, ALL_FILES);

#[test]
fn a_slot_that_waits_is_refused_and_told_so_and_has_the_same_handle_later() {
    let mut world = World::new();
    let before = world.rig.broker.entries();
    for round in 0..2 {
        let (clock, random) = (world.handle("time"), world.handle("on"));
        for (handle, name, payload) in [
            (clock, "clock.now", &[0x80][..]),
            (random, "random.fill", &[0x81, 8]),
        ] {
            let reply = world.rig.raw(handle, name, payload).expect("a reply");
            assert_eq!(reply.code(), Some(ErrorCode::NotDelegated), "{name}");
            let record = world.rig.last_record();
            assert_eq!((&record["kind"], &record["op"]), (&"deny".into(), &name.into()));
            let why = if round == 0 {
                "not delegated yet"
            } else {
                "what was delegated was taken back"
            };
            assert_eq!(record["detail"]["why"], why);
        }
        assert_eq!(world.rig.broker.clock_grade(), None);
        world.lend("time", Some(CLOCK_COARSE));
        world.lend("on", Some(Power::Random));
        assert_eq!(world.rig.broker.clock_grade(), Some(ClockGrade::Coarse));
        assert_eq!(
            world
                .rig
                .raw(clock, "clock.now", &[0x80])
                .expect("a reply")
                .code(),
            None
        );
        assert_eq!(
            world
                .rig
                .raw(random, "random.fill", &[0x81, 8])
                .expect("a reply")
                .code(),
            None
        );
        world.lend("time", None);
        world.lend("on", None);
    }
    assert_eq!(world.rig.broker.entries(), before);
    // What a cell has from its first instruction on is not lent.
    let mut loans = Loans::default();
    loans.put(
        "time",
        Loan {
            number: 1,
            power: Some(CLOCK_COARSE),
        },
    );
    loans.put(
        "on",
        Loan {
            number: 1,
            power: Some(Power::Random),
        },
    );
    let left = world.granted.left(&Standings::default(), &loans);
    assert_eq!((left.clock(), left.allows_random()), (None, false));
}

const CLOCK_COARSE: Power = Power::Clock {
    grade: ClockGrade::Coarse,
};

#[test]
fn what_is_lent_anew_may_be_more_and_what_was_open_is_judged_again() {
    let mut world = World::new();
    assert_eq!(world.open("y", 0).code(), Some(ErrorCode::NotDelegated));
    let whole = world.power("lent");
    let part = |narrowing: &Narrowing| whole.lent(narrowing);
    world.lend("lent", Some(whole.clone()));
    let y = world.open("y", call::OPEN_WRITE).number();
    let x = world.open("a/x", call::OPEN_WRITE).number();
    assert_eq!(world.truncate(y, 2), None);
    // Only what is below a, and no more bytes than there are.
    let below = Narrowing {
        within: Some("a".into()),
        max_bytes: Some(0),
        ..Narrowing::default()
    };
    world.lend("lent", part(&below));
    assert_eq!(world.truncate(y, 1), Some(ErrorCode::StaleHandle), "is closed");
    assert_eq!(world.truncate(x, 5), Some(ErrorCode::Quota));
    assert_eq!(world.open("y", 0).code(), Some(ErrorCode::Denied));
    let read = Narrowing {
        read_only: true,
        ..Narrowing::default()
    };
    world.lend("lent", part(&read));
    assert_eq!(world.truncate(x, 1), Some(ErrorCode::Denied), "is for reading");
    world.lend("lent", Some(whole.clone()));
    assert_eq!(
        world.truncate(x, 1),
        Some(ErrorCode::Denied),
        "it stays so until it is opened again"
    );
    let again = world.open("a/x", call::OPEN_WRITE).number();
    assert_eq!(world.truncate(again, 9), None);
    world.lend("lent", None);
    world.lend("lent", Some(whole));
    assert_eq!(
        world.truncate(again, 1),
        Some(ErrorCode::StaleHandle),
        "all was closed"
    );
    // Taken back by the operator, it is so for good.
    world.rig.broker.leave("lent", None);
    let power = world.power("lent");
    world.lend("lent", Some(power));
    assert_eq!(world.open("y", 0).code(), Some(ErrorCode::StaleHandle));
    drop(world.folder);
}

#[test]
fn a_muscle_lends_what_it_has_and_no_more() {
    let mut world = World::new();
    let denied = Some(ErrorCode::Denied);
    let invalid = Some(ErrorCode::Invalid);
    for (own, code) in [
        ("none", denied),
        ("to", denied),
        ("out", denied),
        ("lent", denied),
        ("on", Some(ErrorCode::NotDelegated)),
    ] {
        assert_eq!(world.no("to", own, "x", WHOLE), code, "{own}");
    }
    assert_eq!(world.no("from", "books", "x", WHOLE), denied, "it takes messages");
    for (part, code) in [
        ((0, "", 101, ALL_FILES), denied),
        ((0, "", ALL_BYTES, 11), denied),
        ((COARSE, "", ALL_BYTES, ALL_FILES), invalid),
        ((4, "", ALL_BYTES, ALL_FILES), invalid),
        ((0, "../b", ALL_BYTES, ALL_FILES), invalid),
        ((0, "/", ALL_BYTES, ALL_FILES), invalid),
        ((0, "a/", ALL_BYTES, ALL_FILES), invalid),
    ] {
        assert_eq!(world.no("to", "books", "x", part), code, "{part:?}");
    }
    assert_eq!(world.no("to", "books", "", WHOLE), invalid);
    assert_eq!(world.no("to", "books", &"x".repeat(33), WHOLE), invalid);
    let handle = world.handle("to");
    let reply = world
        .rig
        .raw(handle, "channel.delegate", &[0x82, 0x61, b'a', 0x61, b'b']);
    assert_eq!(reply.expect("a reply").code(), Some(ErrorCode::BadArguments));
    let handle = world.rig.handle(CapabilityKind::Files);
    let reply = world.rig.raw(handle, "channel.delegate", &[0x80]);
    assert_eq!(reply.expect("a reply").code(), denied, "of another kind");
}

#[test]
fn a_delegation_leaves_once_and_a_call_makes_so_many() {
    let mut world = World::new();
    let part = (READ_ONLY, "a", 7, ALL_FILES);
    for number in 0..CALL_MAX {
        assert!(
            matches!(world.delegate("to", "books", "x", part), Err(Stop::Interrupted)),
            "{number}"
        );
        let expected = Delegation {
            by: "to".into(),
            slot: "books".into(),
            to: "x".into(),
            narrowing: Some(Narrowing {
                read_only: true,
                within: Some("a".into()),
                max_bytes: Some(7),
                ..Narrowing::default()
            }),
        };
        assert_eq!(world.rig.line.take(), Some(Outgoing::Delegation(expected)));
        world.rig.line.answer(MessageAnswer::Done);
        assert!(
            world
                .delegate("to", "books", "x", part)
                .expect("a reply")
                .is_null()
        );
    }
    let record = world.rig.last_record();
    assert_eq!(
        (&record["kind"], &record["op"]),
        (&"use".into(), &"channel.delegate".into())
    );
    assert_eq!(world.no("to", "books", "x", part), Some(ErrorCode::Quota));
    world.rig.line.begin_call();
    let handle = world.handle("to");
    let undelegate = [&[0x82, 0x64][..], b"gone", &[0x61, b'x']].concat();
    let reply = world.rig.raw(handle, "channel.undelegate", &undelegate);
    assert!(
        matches!(reply, Err(Stop::Interrupted)),
        "also of a slot that is not there any more"
    );
    let taken = world.rig.line.take();
    assert!(matches!(
        taken,
        Some(Outgoing::Delegation(Delegation { narrowing: None, .. }))
    ));
    world
        .rig
        .line
        .answer(MessageAnswer::Refused(ErrorCode::NotFound, "nothing"));
    let reply = world.rig.raw(handle, "channel.undelegate", &undelegate);
    assert_eq!(reply.expect("a reply").code(), Some(ErrorCode::NotFound));
}

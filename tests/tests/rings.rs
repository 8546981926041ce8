//! Rings as an embedding program uses them: two cells, memory between them, and whoever of the two does not keep the rules.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use muscle_abi::ring::Role;
use referee::{
    CallError, Cell, CellThread, Config, Inputs, Muscle, MuscleFault, Permit, Progress, Referee, StartError,
};
use referee_tests::{Expectation, Flavour, Guest, Workshop, check_report, shop};
use serde_json::Value;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

/// A library with a log of its own.
struct Host {
    _folder: tempfile::TempDir,
    log: PathBuf,
    referee: Referee,
}

impl Host {
    fn with(trust_store: &Path) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("audit.jsonl");
        let referee = Referee::open(&Config::new(trust_store, &log)).expect("opens");
        Host {
            _folder: folder,
            log,
            referee,
        }
    }

    /// One that trusts the publisher of the guests.
    fn of_guests() -> Host {
        Host::with(&workshop().trust_store())
    }

    /// One that trusts the publisher of the example muscles.
    fn of_examples() -> Host {
        Host::with(&shop().expect("a shop").join("trust.store"))
    }

    fn guest(&self, name: &str) -> Permit {
        self.permit(&workshop().guest("ring", name).expect("is there"))
    }

    fn permit(&self, guest: &Guest) -> Permit {
        let bundle = workshop().bundle(guest).expect("is built");
        let muscle = self.referee.admit_file(&bundle).expect("is admitted");
        muscle.permit(&[]).expect("is permitted")
    }

    fn example(&self, name: &str) -> Muscle {
        let bundle = shop().expect("a shop").join(format!("{name}.muscle"));
        self.referee.admit_file(&bundle).expect("is admitted")
    }

    /// Cells of the two examples, joined.
    fn pair(&self) -> (Cell, Cell) {
        let (feeder, digester) = self.permits();
        (start(&feeder), start(&digester))
    }

    fn permits(&self) -> (Permit, Permit) {
        let permit = |name| self.example(name).permit(&[]).expect("is permitted");
        let (mut feeder, mut digester) = (permit("feeder"), permit("digester"));
        feeder
            .join_ring("out", &mut digester, "in")
            .expect("are joined");
        (feeder, digester)
    }

    fn records(&self) -> Vec<Value> {
        referee_audit::verify(&self.log).expect("verifies");
        let text = std::fs::read_to_string(&self.log).expect("is there");
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().expect("is JSON")
    }
}

fn start(permit: &Permit) -> Cell {
    permit.start(Inputs::default()).expect("starts")
}

fn enter() -> CellThread {
    CellThread::enter().expect("timers")
}

fn feed(cell: &mut Cell, thread: &CellThread, total: u64, each: u32) -> Result<String, CallError> {
    cell.call(thread, "feed", &(total, each))
}

fn finish(cell: &mut Cell, thread: &CellThread) {
    cell.call::<_, ()>(thread, "finish", &()).expect("is sent");
}

fn digest(cell: &mut Cell, thread: &CellThread) -> Result<(u64, String), CallError> {
    cell.call(thread, "digest", &())
}

/// The words of an error that a function answered with.
fn words<T: std::fmt::Debug>(result: Result<T, CallError>) -> String {
    match result {
        Err(CallError::Function { message, .. }) => message,
        other => panic!("an error of the function was expected: {other:?}"),
    }
}

fn rejected<T: std::fmt::Debug>(result: Result<T, StartError>) -> &'static str {
    match result {
        Err(StartError::Rejected { name, .. }) => name,
        other => panic!("a refusal was expected: {other:?}"),
    }
}

#[test]
fn sixty_four_mebibytes_pass_between_two_threads_as_they_are() {
    const TOTAL: u64 = 64 << 20;
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let receiving = thread::spawn(move || digest(&mut digester, &enter()).expect("answers"));
    let thread = enter();
    // Sizes that wrap around in the middle of words, messages and pages.
    let sent = feed(&mut feeder, &thread, TOTAL, 60_001).expect("answers");
    finish(&mut feeder, &thread);
    let (total, received) = receiving.join().expect("ends");
    assert_eq!(total, TOTAL);
    assert_eq!(sent, received);
}

#[test]
fn small_messages_wake_whoever_waits() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let receiving = thread::spawn(move || digest(&mut digester, &enter()).expect("answers"));
    let thread = enter();
    for _ in 0..200 {
        feed(&mut feeder, &thread, 3, 1).expect("answers");
    }
    finish(&mut feeder, &thread);
    assert_eq!(receiving.join().expect("ends").0, 600);
}

#[test]
fn two_cells_take_turns_on_one_thread() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    // More than the ring holds: {"total": 1 MiB, "each": 1000}, then nothing.
    let arguments = [0x82, 0x1a, 0, 0x10, 0, 0, 0x19, 0x03, 0xe8];
    feeder.begin("feed", &arguments).expect("begins");
    digester.begin("digest", &[0x80]).expect("begins");
    let (mut has_fed, mut waits) = (false, [0, 0]);
    let digested = loop {
        if !has_fed {
            match feeder.advance(&thread, None).expect("goes on") {
                Progress::Waiting { slot, until } => {
                    assert_eq!(slot, "out");
                    assert!(until.is_some_and(|until| until > Instant::now()));
                    waits[0] += 1;
                }
                Progress::Returned(_) => {
                    has_fed = true;
                    finish(&mut feeder, &thread);
                }
                other => panic!("{other:?}"),
            }
        }
        match digester.advance(&thread, None).expect("goes on") {
            Progress::Waiting { slot, .. } => {
                assert_eq!(slot, "in");
                waits[1] += 1;
            }
            Progress::Returned(result) => break result,
            other => panic!("{other:?}"),
        }
    };
    assert!(waits[0] >= 3 && waits[1] >= 3, "{waits:?}");
    // [1048576, "…"]
    assert_eq!(digested[..6], [0x82, 0x1a, 0, 0x10, 0, 0]);
}

/// Says by a channel that it was woken.
struct Says(mpsc::Sender<()>);

impl Wake for Says {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

#[test]
fn the_host_is_told_when_to_advance_a_cell_that_waits() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    let (sender, woken) = mpsc::channel();
    digester.wake_by(Some(Waker::from(Arc::new(Says(sender)))));
    digester.begin("next", &[0x80]).expect("begins");
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    assert!(woken.try_recv().is_err(), "nobody has sent");
    // Advanced for nothing it waits on.
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    feed(&mut feeder, &thread, 7, 7).expect("answers");
    woken.try_recv().expect("was woken");
    match digester.advance(&thread, None).expect("goes on") {
        Progress::Returned(length) => assert_eq!(length, [7]),
        other => panic!("{other:?}"),
    }
    assert!(woken.try_recv().is_err(), "once for each wait");
}

#[test]
fn whoever_waits_is_ended_by_its_deadline_or_cancelled() {
    let host = Host::of_examples();
    let (feeder, mut digester) = host.permits();
    let thread = enter();
    // A sender that waits for room; whether it does so already when it is cancelled makes no difference.
    let mut cell = start(&feeder);
    let canceller = cell.canceller();
    let cancelling = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        canceller.cancel();
    });
    let fed = feed(&mut cell, &thread, 1 << 30, 4096);
    assert!(matches!(fed, Err(CallError::Cancelled)), "{fed:?}");
    cancelling.join().expect("ends");
    digester.narrow_deadline(50);
    let _feeder = start(&feeder);
    let mut cell = start(&digester);
    match digest(&mut cell, &thread) {
        Err(CallError::Fault(report)) => assert_eq!(report.fault, MuscleFault::Deadline(50)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_end_of_one_side_is_seen_by_the_other_after_what_it_sent() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    feed(&mut feeder, &thread, 5, 5).expect("answers");
    drop(feeder);
    let length: u64 = digester.call(&thread, "next", &()).expect("answers");
    assert_eq!(length, 5);
    assert!(words(digester.call::<_, u64>(&thread, "next", &())).contains("has ended"));

    let (mut feeder, digester) = host.pair();
    digester.end().expect("is recorded");
    assert!(words(feed(&mut feeder, &thread, 5, 5)).contains("has ended"));
}

#[test]
fn an_end_wakes_who_waits_for_it() {
    let host = Host::of_examples();
    let (feeder, mut digester) = host.pair();
    let (begun, has_begun) = mpsc::channel();
    let receiving = thread::spawn(move || {
        begun.send(()).expect("is heard");
        words(digest(&mut digester, &enter()))
    });
    has_begun.recv().expect("begins");
    // Whether it waits already or not, it comes to its end.
    drop(feeder);
    assert!(receiving.join().expect("ends").contains("has ended"));
}

#[test]
fn a_reset_of_the_sender_empties_the_ring_and_the_receiver_hears_of_it() {
    let host = Host::of_examples();
    let (mut feeder, mut digester) = host.pair();
    let thread = enter();
    digester.begin("digest", &[0x80]).expect("begins");
    feed(&mut feeder, &thread, 100, 10).expect("answers");
    let progress = digester.advance(&thread, None).expect("goes on");
    assert!(matches!(progress, Progress::Waiting { .. }), "{progress:?}");
    feeder.reset(Inputs::default()).expect("is reset");
    let told = digester.advance(&thread, None);
    assert!(words(told).contains("emptied"));
    // And both go on.
    feed(&mut feeder, &thread, 20, 20).expect("answers");
    let length: u64 = digester.call(&thread, "next", &()).expect("answers");
    assert_eq!(length, 20);
}

#[test]
fn a_reset_of_the_receiver_leaves_nothing_of_what_was_sent_before() {
    let host = Host::of_guests();
    let (mut sends, mut peeks) = (host.guest("sends"), host.guest("peeks"));
    sends.join_ring("ring", &mut peeks, "ring").expect("are joined");
    let thread = enter();
    let main = |permit: &Permit| permit.start_main(Inputs::default()).expect("starts");
    assert_eq!(main(&sends).run(&thread).expect("exits"), 0);
    // The length of the message that was sent before it began.
    let mut receiver = main(&peeks);
    assert_eq!(receiver.run(&thread).expect("exits"), 2);
    receiver.reset(Inputs::default()).expect("is replaced");
    assert_eq!(main(&sends).run(&thread).expect("exits"), 0);
    receiver.reset(Inputs::default()).expect("is reset");
    assert_eq!(receiver.run(&thread).expect("exits"), 0);
}

#[test]
fn pairs_of_cells_follow_each_other_without_hearing_of_the_pair_before() {
    let host = Host::of_examples();
    let (feeder, digester) = host.permits();
    let thread = enter();
    for round in 0..5u64 {
        let (mut one, mut other) = (start(&feeder), start(&digester));
        let sent = feed(&mut one, &thread, 1000 + round, 100).expect("answers");
        finish(&mut one, &thread);
        let received = digest(&mut other, &thread).expect("answers");
        assert_eq!(received, (1000 + round, sent));
    }
    // The same cells, reset each time.
    let (mut one, mut other) = (start(&feeder), start(&digester));
    for round in 0..5u64 {
        let sent = feed(&mut one, &thread, 1000 + round, 100).expect("answers");
        finish(&mut one, &thread);
        let received = digest(&mut other, &thread).expect("answers");
        assert_eq!(received, (1000 + round, sent));
        one.reset(Inputs::default()).expect("is reset");
        other.reset(Inputs::default()).expect("is reset");
        assert!(!one.is_templated() && !other.is_templated(), "what a ring holds is not frozen");
    }
}

#[test]
fn a_ring_is_joined_as_both_were_granted_it_or_not_at_all() {
    let host = Host::of_examples();
    let permit = |name| host.example(name).permit(&[]).expect("is permitted");
    let (mut feeder, mut digester) = (permit("feeder"), permit("digester"));
    for (one, other) in [("in", "in"), ("out", "out"), ("", "in")] {
        assert_eq!(rejected(feeder.join_ring(one, &mut digester, other)), "no-such-ring");
    }
    assert_eq!(rejected(digester.join_ring("in", &mut feeder, "out")), "no-such-ring");
    assert_eq!(rejected(feeder.start(Inputs::default())), "ring-not-joined");
    assert_eq!(rejected(digester.start(Inputs::default())), "ring-not-joined");
    feeder.join_ring("out", &mut digester, "in").expect("are joined");
    let mut second = permit("digester");
    assert_eq!(
        rejected(feeder.join_ring("out", &mut second, "in")),
        "ring-joined-already"
    );
    assert_eq!(rejected(second.start(Inputs::default())), "ring-not-joined");
    assert_eq!(rejected(feeder.keep_loaded(1).map(drop)), "ring-not-kept");
    let cell = start(&feeder);
    assert_eq!(rejected(feeder.clone().start(Inputs::default())), "ring-in-use");
    drop(cell);
    drop(start(&feeder));
    let refusals = host.records();
    let refusals = refusals.iter().filter(|record| record["kind"] == "reject");
    assert_eq!(refusals.count(), 10);
}

#[test]
fn rings_of_two_sizes_are_not_joined() {
    let guests = Host::of_guests();
    let mut sends = guests.guest("sends");
    let mut digester = Host::of_examples().example("digester").permit(&[]).expect("is permitted");
    assert_eq!(
        rejected(sends.join_ring("ring", &mut digester, "in")),
        "ring-sizes-differ"
    );
}

#[test]
fn both_sides_records_name_the_ring_and_the_other_muscle() {
    let host = Host::of_examples();
    drop(host.pair());
    let records = host.records();
    let joins: Vec<&Value> = records.iter().filter(|record| record["op"] == "ring.join").collect();
    let [sender, receiver] = joins[..] else {
        panic!("two were expected: {joins:?}")
    };
    assert_eq!(sender["detail"]["ring"], receiver["detail"]["ring"]);
    assert_eq!((&sender["slot"], &receiver["slot"]), (&"out".into(), &"in".into()));
    assert_eq!(sender["detail"]["peer"], "digester 0.1.0");
    assert_eq!(receiver["detail"]["peer"], "feeder 0.1.0");
}

#[test]
fn whatever_a_sender_writes_the_receiver_gets_an_error_and_goes_on() {
    for name in [
        "claims-too-much",
        "length-beyond-sent",
        "length-beyond-ring",
        "length-largest",
    ] {
        let (hostile, mut digester) = against_digester(name);
        let thread = enter();
        let mut sender = hostile.start_main(Inputs::default()).expect("starts");
        assert_eq!(sender.run(&thread).expect("exits"), 0, "{name}");
        for _ in 0..3 {
            let told = words(digest(&mut digester, &thread));
            assert!(told.contains("broke its rules"), "{name}: {told}");
        }
        assert!(!digester.is_over());
    }
}

/// A permit of a guest, joined to a cell of the example `digester`.
fn against_digester(guest: &str) -> (Permit, Cell) {
    let (guests, examples) = (Host::of_guests(), Host::of_examples());
    let mut hostile = guests.guest(guest);
    let mut digester = examples.example("digester").permit(&[]).expect("is permitted");
    hostile
        .join_ring("ring", &mut digester, "in")
        .expect("are joined");
    (hostile, start(&digester))
}

#[test]
fn a_sender_that_scribbles_all_over_the_ring_harms_its_own_messages_alone() {
    let (hostile, mut digester) = against_digester("scribbles");
    let mut sender = hostile.start_main(Inputs::default()).expect("starts");
    let canceller = sender.canceller();
    let scribbling = thread::spawn(move || sender.run(&enter()).map(drop));
    let thread = enter();
    let (mut messages, mut errors) = (0, 0);
    for _ in 0..500 {
        match digester.call::<_, u64>(&thread, "next", &()) {
            Ok(length) => {
                assert!(length <= 256 << 10);
                messages += 1;
            }
            Err(CallError::Function { .. }) => errors += 1,
            other => panic!("{other:?}"),
        }
    }
    canceller.cancel();
    scribbling.join().expect("ends").expect_err("is cancelled, or its time is over");
    println!("{messages} messages, {errors} errors");
    assert!(errors > 0);
}

#[test]
fn the_data_counts_as_memory_of_the_sender() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, role: &str, bytes: u64| {
        let group = folder.path().join("ring-sizes");
        std::fs::create_dir_all(&group).expect("is made");
        let path = group.join(format!("{name}.s"));
        let source = format!(
            "# expect: exit 0\n# limits: memory=1048576\n# slots: ring=ring:{role}:{bytes}\n.include \"muscle.inc\"\nbegin\n    exit 0\n"
        );
        std::fs::write(&path, source).expect("is written");
        Guest::read(&path).expect("is a guest")
    };
    let host = Host::of_guests();
    for (bytes, fits) in [(256 << 10, true), (1 << 20, false)] {
        let mut sender = host.permit(&write(&format!("sends-{bytes}"), "send", bytes));
        let mut receiver = host.permit(&write(&format!("receives-{bytes}"), "receive", bytes));
        sender.join_ring("ring", &mut receiver, "ring").expect("are joined");
        let started = sender.start_main(Inputs::default());
        assert_eq!(started.is_ok(), fits, "{bytes}: {started:?}");
        if let Err(StartError::Host { source, .. }) = started {
            assert!(source.to_string().contains("rings"), "{source}");
        }
        let mut receiver = receiver.start_main(Inputs::default()).expect("has memory enough");
        assert_eq!(receiver.run(&enter()).expect("exits"), 0);
    }
}

/// Runs a guest joined to one that keeps the rules, and compares its end with what its file says.
fn judge(host: &Host, guest: &Guest, thread: &CellThread, flavour: Flavour) -> anyhow::Result<()> {
    let Some((slot, role, bytes)) = guest.header.ring() else {
        anyhow::bail!("it has no ring");
    };
    let mut permit = host.permit(guest);
    let joined = match role {
        Role::Send if bytes > 4096 => {
            let examples = Host::of_examples();
            let mut digester = examples.example("digester").permit(&[])?;
            permit.join_ring(slot, &mut digester, "in")
        }
        Role::Send => permit.join_ring(slot, &mut host.guest("peeks"), "ring"),
        Role::Receive => host.guest("sends").join_ring("ring", &mut permit, slot),
    };
    joined?;
    let mut cell = permit.start_main(Inputs::default())?;
    let ended = cell.run(thread);
    let mut found = Err(anyhow::anyhow!("nothing was expected"));
    for expected in guest.header.expected(flavour) {
        found = match (expected, &ended) {
            (Expectation::Exit(codes), Ok(code)) if codes.contains(code) => Ok(()),
            (Expectation::Fault(fault), Err(CallError::Fault(report))) => {
                let mut report = report.to_json();
                report["outcome"] = "fault".into();
                check_report(fault, &report)
            }
            _ => Err(anyhow::anyhow!("{ended:?}, and {expected:?} was expected")),
        };
        if found.is_ok() {
            break;
        }
    }
    found
}

#[test]
fn every_guest_with_a_ring_ends_as_its_file_says() {
    let (host, thread) = (Host::of_guests(), enter());
    let flavour = Flavour::probe().expect("probes");
    let guests = workshop().guests().expect("are there");
    let mut wrong = Vec::new();
    let mut count = 0;
    for guest in guests.iter().filter(|guest| guest.header.ring().is_some()) {
        count += 1;
        if let Err(error) = judge(&host, guest, &thread, flavour) {
            wrong.push(format!("{}: {error:#}", guest.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(count >= 25, "{count} guests have a ring");
}

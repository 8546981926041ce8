//! Calls without an exit: that they are no other calls, whatever the muscle does, whoever wants the cell meanwhile.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use referee::{
    CallError, Cell, CellThread, Config, Functions, HotThread, Inputs, Muscle, MuscleFault, Permit, Referee,
    StartError,
};
use referee_tests::{Workshop, shop};

mod lanes;

/// So long that a busy machine does not cool a cell before the next call.
const LONG: Duration = Duration::from_secs(2);
/// More calls than a cell needs to become hot.
const MANY: u32 = 2000;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

fn bundle(group: &str, name: &str) -> PathBuf {
    let guest = workshop().guest(group, name).expect("is there");
    workshop().bundle(&guest).expect("is built")
}

/// What policy says about spinning, besides what it says by itself.
const SPIN: &str = r#"
@id("limits") permit (principal, action in [Action::"memory", Action::"cpu", Action::"deadline"], resource);
@id("spin") permit (principal, action == Action::"spin", resource) when { context.idle_us <= 2000000 };
"#;

struct Host {
    _folder: tempfile::TempDir,
    log: PathBuf,
    referee: Referee,
}

impl Host {
    fn new(policy: Option<&str>) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("audit.jsonl");
        let mut config = Config::new(workshop().trust_store(), &log);
        if let Some(policy) = policy {
            let file = folder.path().join("spin.cedar");
            std::fs::write(&file, policy).expect("is written");
            config.policies = vec![file];
        }
        let referee = Referee::open(&config).expect("opens");
        Host {
            _folder: folder,
            log,
            referee,
        }
    }

    fn muscle(&self, group: &str, name: &str) -> Muscle {
        self.referee
            .admit_file(&bundle(group, name))
            .expect("is admitted")
    }

    fn permit(&self, group: &str, name: &str, idle: Duration) -> Permit {
        let mut permit = self.muscle(group, name).permit(&[]).expect("is permitted");
        self.referee.permit_spin(&mut permit, idle).expect("may spin");
        permit
    }

    fn start(&self, group: &str, name: &str, idle: Duration, hot: &Arc<HotThread>) -> Cell {
        let permit = self.permit(group, name, idle);
        let mut cell = permit.start(Inputs::default()).expect("starts");
        cell.keep_hot(hot).expect("may be hot");
        cell
    }
}

/// Each test needs both cores for itself, or its cells are never hot for long.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hot() -> Arc<HotThread> {
    Arc::new(HotThread::start().expect("a thread"))
}

fn thread_here() -> CellThread {
    CellThread::enter().expect("timers")
}

#[test]
fn a_hot_thread_stays_on_its_core() {
    let _alone = alone();
    let (host, thread) = (Host::new(Some(SPIN)), thread_here());
    let hot = Arc::new(HotThread::start_on(0).expect("every machine has a first core"));
    let mut cell = host.start("reactor", "echoes", LONG, &hot);
    heat(&mut cell, &thread);
    for core in [100_000, 1023] {
        let error = HotThread::start_on(core).expect_err("no machine here has so many cores");
        assert!(error.to_string().contains("core"), "{error}");
    }
}

fn count(cell: &mut Cell, thread: &CellThread) -> Result<u32, CallError> {
    cell.call(thread, "count", &())
}

/// Calls until the cell is hot; a machine with one core, or a muscle that does not poll, never makes it.
fn heat(cell: &mut Cell, thread: &CellThread) -> u32 {
    let until = Instant::now() + Duration::from_secs(60);
    let mut calls = 0;
    while !cell.is_hot() {
        assert_eq!(count(cell, thread).expect("answers"), calls);
        calls += 1;
        assert!(Instant::now() < until, "it never became hot");
    }
    calls
}

#[test]
fn nothing_spins_unless_policy_permits_it() {
    let _alone = alone();
    let host = Host::new(None);
    let mut permit = host
        .muscle("reactor", "echoes")
        .permit(&[])
        .expect("is permitted");
    let refused = host.referee.permit_spin(&mut permit, Duration::from_micros(50));
    let Err(StartError::Rejected { name, message }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(name, "not-permitted");
    assert!(message.contains("spin"), "{message}");
    let mut cell = permit.start(Inputs::default()).expect("starts");
    let refused = cell.keep_hot(&hot());
    assert!(
        matches!(
            &refused,
            Err(StartError::Rejected {
                name: "not-permitted",
                ..
            })
        ),
        "{refused:?}"
    );
    assert_eq!(
        count(&mut cell, &thread_here()).expect("goes on in the usual way"),
        0
    );
    let log = std::fs::read_to_string(&host.log).expect("is there");
    assert!(
        log.contains("\"kind\":\"reject\""),
        "the refusal is recorded: {log}"
    );

    let host = Host::new(Some(SPIN));
    let mut permit = host
        .muscle("reactor", "echoes")
        .permit(&[])
        .expect("is permitted");
    let refused = host.referee.permit_spin(&mut permit, Duration::from_secs(3));
    assert!(
        matches!(refused, Err(StartError::Rejected { .. })),
        "longer than permitted"
    );
    host.referee.permit_spin(&mut permit, LONG).expect("is permitted");
    let cell = permit.start(Inputs::default()).expect("starts");
    cell.end().expect("ends");
    let log = std::fs::read_to_string(&host.log).expect("is there");
    assert!(
        log.contains("\"capability\":\"spin\""),
        "the power is recorded: {log}"
    );
}

#[test]
fn calls_of_a_hot_cell_need_no_exit() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cell = host.start("reactor", "echoes", LONG, &hot);
    let until = Instant::now() + Duration::from_secs(60);
    // Others may take the processors at any time; that all calls of a run go without an exit comes about now and then.
    loop {
        heat(&mut cell, &thread);
        let before = cell.usage().exits;
        for value in 0..100 {
            let echoed: (u32, String) = cell.call(&thread, "echo", &(value, "text")).expect("answers");
            assert_eq!(echoed, (value, "text".to_owned()));
        }
        if cell.usage().exits == before {
            break;
        }
        assert!(Instant::now() < until, "each hundred calls had an exit");
        cell.reset(Inputs::default()).expect("is reset");
    }
}

#[test]
fn no_call_is_lost_or_done_twice_when_the_cell_cools_at_any_moment() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let idle = Duration::from_micros(100);
    let mut cell = host.start("reactor", "echoes", idle, &hot);
    let (mut was_hot, mut was_cold) = (0, 0);
    for calls in 0..20_000u32 {
        assert_eq!(count(&mut cell, &thread).expect("answers"), calls);
        match cell.is_hot() {
            true => was_hot += 1,
            false => was_cold += 1,
        }
        // Around the time at which it cools, and now and then long after.
        if calls % 16 == 0 {
            let pause = Duration::from_micros(u64::from(calls % 400));
            let until = Instant::now() + pause;
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        }
    }
    assert!(was_hot > 0 && was_cold > 0, "{was_hot} hot, {was_cold} cold");
}

#[test]
fn a_muscle_that_does_not_poll_is_called_in_the_usual_way() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    for name in ["deaf", "yields"] {
        let mut cell = host.start("hot", name, LONG, &hot);
        for calls in 0..MANY {
            assert_eq!(count(&mut cell, &thread).expect("answers"), calls, "{name}");
        }
    }
}

#[test]
fn a_muscle_of_the_sdk_calls_its_host_while_it_is_hot() {
    let _alone = alone();
    let folder = tempfile::tempdir().expect("a folder");
    let shop = shop().expect("builds");
    let policy = folder.path().join("spin.cedar");
    let functions = r#"@id("functions") permit (principal, action == Action::"functions", resource);"#;
    std::fs::write(&policy, format!("{SPIN}{functions}")).expect("is written");
    let mut config = Config::new(shop.join("trust.store"), folder.path().join("audit.jsonl"));
    config.policies = vec![policy];
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee
        .admit_file(&shop.join("portfolio.muscle"))
        .expect("is admitted");
    let mut permit = muscle.permit(&[]).expect("is permitted");
    referee.permit_spin(&mut permit, LONG).expect("may spin");
    let mut functions = Functions::default();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    functions.register("price", move |_: String| {
        Ok::<u32, String>(count.fetch_add(1, Ordering::SeqCst))
    });
    let inputs = Inputs {
        functions,
        ..Inputs::default()
    };
    let (hot, thread) = (hot(), thread_here());
    let mut cell = permit.start(inputs).expect("starts");
    cell.keep_hot(&hot).expect("may be hot");
    let until = Instant::now() + Duration::from_secs(60);
    for calls in 0.. {
        let before = (cell.is_hot(), cell.usage().exits);
        let holdings = (BTreeMap::from([("ACME".to_owned(), 2)]),);
        let worth: f64 = cell.call(&thread, "worth", &holdings).expect("answers");
        assert!((worth - 2.0 * f64::from(calls)).abs() < f64::EPSILON, "{worth}");
        if calls > 500 && before == (true, cell.usage().exits) {
            break;
        }
        assert!(Instant::now() < until, "each call had an exit");
    }
}

#[test]
fn a_muscle_that_will_not_park_is_stopped() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cell = host.start("hot", "restless", Duration::from_millis(5), &hot);
    let calls = heat(&mut cell, &thread);
    let until = Instant::now() + Duration::from_secs(60);
    while cell.is_hot() {
        assert!(Instant::now() < until, "it has the hot thread for ever");
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(count(&mut cell, &thread).expect("answers"), calls);
    assert!(
        cell.usage().cpu >= Duration::from_millis(5),
        "spinning is charged"
    );
    // The thread is there for others.
    let mut other = host.start("reactor", "echoes", LONG, &hot);
    heat(&mut other, &thread);
}

#[test]
fn what_a_hot_muscle_does_is_what_it_did() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    for (name, kind, is_so) in [
        ("quits", "end", "\"how\":\"exited\",\"code\":7,"),
        ("crashes", "fault", "\"fault\":\"invalid-opcode\""),
        ("scribbles", "fault", "\"fault\":\"channel\""),
    ] {
        let mut cell = host.start("hot", name, LONG, &hot);
        let until = Instant::now() + Duration::from_secs(60);
        let error = loop {
            assert!(Instant::now() < until, "{name} never came to it");
            if let Err(error) = count(&mut cell, &thread) {
                break error;
            }
        };
        assert!(cell.is_over(), "{name}: {error}");
        // If it came to its end just after an answer, its caller has that, and the log has the end.
        match (error, kind) {
            (CallError::Over, _) | (CallError::Exited(7), "end") => {}
            (CallError::Fault(report), "fault") => assert!(report.registers.rip != 0, "{report:?}"),
            (error, _) => panic!("{name}: {error:?}"),
        }
        let log = std::fs::read_to_string(&host.log).expect("is there");
        let wanted = format!("\"kind\":\"{kind}\"");
        let record = log
            .lines()
            .rfind(|line| line.contains(name) && line.contains(&wanted));
        let record = record.unwrap_or_else(|| panic!("{name}: no {kind} in {log}"));
        assert!(record.contains(is_so), "{record}");
    }
}

#[test]
fn limits_and_cancelling_hold_in_a_hot_cell() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    for (name, function) in [("spins-later", "spin"), ("floods", "flood")] {
        let mut permit = host.permit("hot", name, LONG);
        permit.narrow_deadline(200);
        let mut cell = permit.start(Inputs::default()).expect("starts");
        cell.keep_hot(&hot).expect("may be hot");
        heat(&mut cell, &thread);
        let error = cell
            .call::<_, u32>(&thread, function, &())
            .expect_err("never answers");
        let CallError::Fault(report) = &error else {
            panic!("{name}: {error:?}");
        };
        assert!(
            matches!(
                report.fault,
                MuscleFault::Deadline(200) | MuscleFault::CpuLimit(_)
            ),
            "{name}: {report:?}"
        );

        let mut cell = host.start("hot", name, LONG, &hot);
        heat(&mut cell, &thread);
        let canceller = cell.canceller();
        let cancelled = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            canceller.cancel();
        });
        let error = cell
            .call::<_, u32>(&thread, function, &())
            .expect_err("is cancelled");
        assert!(matches!(error, CallError::Cancelled), "{name}: {error:?}");
        cancelled.join().expect("nobody panicked");
    }
}

#[test]
fn kicks_at_any_moment_lose_nothing() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cell = host.start("hot", "lanes", LONG, &hot);
    let canceller = cell.canceller();
    let done = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&done);
    let kicks = thread::spawn(move || {
        // At ever other moments of a call, but not so often that nothing gets on.
        for round in 0u64.. {
            if until.load(Ordering::SeqCst) {
                break;
            }
            canceller.interrupt();
            thread::sleep(Duration::from_micros(100 + round % 200));
        }
    });
    for calls in 0..MANY {
        assert_eq!(count(&mut cell, &thread).expect("answers"), calls);
    }
    done.store(true, Ordering::SeqCst);
    kicks.join().expect("nobody panicked");
}

#[test]
fn a_reset_of_a_hot_cell_is_a_new_life() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    for (group, name) in [("reactor", "echoes"), ("hot", "lanes")] {
        let mut cell = host.start(group, name, LONG, &hot);
        for _ in 0..10 {
            heat(&mut cell, &thread);
            cell.reset(Inputs::default()).expect("is reset");
            assert!(!cell.is_hot());
        }
        let mut fresh = host.start(group, name, LONG, &hot);
        assert_eq!(count(&mut fresh, &thread).expect("answers"), 0);
        assert_eq!(count(&mut cell, &thread).expect("answers"), 0);
    }
}

#[test]
fn cells_share_a_hot_thread_and_outlive_it() {
    let _alone = alone();
    let (host, hot, thread) = (Host::new(Some(SPIN)), hot(), thread_here());
    let mut cells: Vec<Cell> = (0..3)
        .map(|_| host.start("reactor", "echoes", Duration::from_micros(500), &hot))
        .collect();
    for calls in 0..MANY {
        for cell in &mut cells {
            assert_eq!(count(cell, &thread).expect("answers"), calls);
        }
    }
    // Each alone for a while; the others are to be found as they were.
    for cell in &mut cells {
        for calls in MANY..2 * MANY {
            assert_eq!(count(cell, &thread).expect("answers"), calls);
        }
    }
    drop(hot);
    let mut moved = cells.pop().expect("three");
    let elsewhere = thread::spawn(move || {
        let thread = thread_here();
        for calls in 2 * MANY..3 * MANY {
            assert_eq!(count(&mut moved, &thread).expect("answers"), calls);
        }
    });
    for cell in &mut cells {
        for calls in 2 * MANY..3 * MANY {
            assert_eq!(count(cell, &thread).expect("answers"), calls);
        }
    }
    elsewhere.join().expect("nobody panicked");
}

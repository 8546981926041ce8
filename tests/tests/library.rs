//! The library as an embedding program uses it: real bundles, real cells, in this test's own process.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use referee::confined::{Conclusion, Confined, Options, Report, Task};
use referee::{
    Authority, Binding, CallError, Cell, CellThread, Config, Functions, Inputs, Muscle, MuscleFault, Permit,
    ReadLimits, Referee, StartError,
};
use referee_tests::{Program, Workshop, shop};
use serde_json::Value;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

fn bundle(group: &str, name: &str) -> PathBuf {
    let guest = workshop().guest(group, name).expect("is there");
    workshop().bundle(&guest).expect("is built")
}

/// A library with a log of its own.
struct Host {
    folder: tempfile::TempDir,
    referee: Referee,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let config = Config::new(workshop().trust_store(), folder.path().join("audit.jsonl"));
        let referee = Referee::open(&config).expect("opens");
        Host { folder, referee }
    }

    fn admit(&self, group: &str, name: &str) -> Muscle {
        self.referee
            .admit_file(&bundle(group, name))
            .expect("is admitted")
    }

    fn start(&self, group: &str, name: &str) -> Cell {
        let permit = self.admit(group, name).permit(&[]).expect("is permitted");
        permit.start(Inputs::default()).expect("starts")
    }

    /// The log's records, which must hold together.
    fn records(&self) -> Vec<Value> {
        let log = self.folder.path().join("audit.jsonl");
        referee_audit::verify(&log).expect("verifies");
        let text = std::fs::read_to_string(log).expect("is there");
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().expect("is JSON")
    }

    /// How the cells ended, in the log's order.
    fn ends(&self) -> Vec<String> {
        let records = self.records();
        let ends = records.iter().filter(|record| record["kind"] == "end");
        ends.filter_map(|end| end.pointer("/detail/how")?.as_str().map(str::to_owned))
            .collect()
    }
}

fn thread() -> CellThread {
    CellThread::enter().expect("timers")
}

#[test]
fn a_cell_answers_call_after_call_and_keeps_its_memory() {
    let host = Host::new();
    let mut cell = host.start("reactor", "echoes");
    let thread = thread();
    let echoed: (u8, String) = cell.call(&thread, "echo", &(7, "seven")).expect("answers");
    assert_eq!(echoed, (7, "seven".to_owned()));
    let named = BTreeMap::from([("price", 12.5), ("quantity", -3.0)]);
    let echoed: BTreeMap<String, f64> = cell.call(&thread, "echo", &named).expect("answers");
    assert_eq!(echoed.get("price"), Some(&12.5));
    assert_eq!(echoed.get("quantity"), Some(&-3.0));
    let count: u32 = cell.call(&thread, "count", &()).expect("answers");
    assert_eq!(count, 2);
    let used = cell.end().expect("is recorded");
    assert_eq!(used.exits, 3 + 1, "one exit a call, and one to connect");
    assert_eq!(host.ends(), ["stopped"]);
}

#[test]
fn cells_of_one_permit_share_nothing() {
    let host = Host::new();
    let permit = host.admit("reactor", "echoes").permit(&[]).expect("is permitted");
    let thread = thread();
    let mut first = permit.start(Inputs::default()).expect("starts");
    let mut second = permit.start(Inputs::default()).expect("starts");
    for expected in 0..3u32 {
        let count: u32 = first.call(&thread, "count", &()).expect("answers");
        assert_eq!(count, expected);
    }
    let count: u32 = second.call(&thread, "count", &()).expect("answers");
    assert_eq!(count, 0);
}

#[test]
fn a_reset_cell_is_as_a_new_one() {
    let host = Host::new();
    let thread = thread();
    // The guest exits with a code of its own if a register or a byte of memory is not as in a new cell.
    let mut cell = host.start("reactor", "dirties");
    for _ in 0..5 {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        cell.reset(Inputs::default()).expect("is reset");
    }
    // The host's view, byte for byte. What was never touched is read here for the first time and is then restored as all else.
    let after_reset = cell.memory().expect("is readable");
    cell.reset(Inputs::default()).expect("is reset");
    assert!(after_reset == cell.memory().expect("is readable"));
    let new = host.start("reactor", "dirties").memory().expect("is readable");
    let starts: Vec<u64> = new.iter().map(|(start, _)| *start).collect();
    for (index, ((start, reset), (_, new))) in after_reset.iter().zip(&new).enumerate() {
        // The layout differs from cell to cell, and with it the system tables and the boot block.
        let from = match index {
            0 => continue,
            2 => 4096,
            _ => 0,
        };
        assert!(reset[from..] == new[from..], "the memory at {start:#x} differs");
    }
    assert_eq!(starts.len(), 5);
    // Dirty it was: without a reset there is junk.
    cell.call::<_, ()>(&thread, "f", &()).expect("answers");
    assert!(after_reset != cell.memory().expect("is readable"));
}

#[test]
fn a_reset_cell_forgets_and_can_be_called_again() {
    let host = Host::new();
    let thread = thread();
    let mut cell = host.start("reactor", "echoes");
    for _ in 0..3 {
        for expected in 0..3u32 {
            let count: u32 = cell.call(&thread, "count", &()).expect("answers");
            assert_eq!(count, expected);
        }
        cell.reset(Inputs::default()).expect("is reset");
        assert_eq!(cell.usage().exits, 0);
    }
    drop(cell);
    let records = host.records();
    let resets = records.iter().filter(|record| record["kind"] == "reset");
    assert_eq!(resets.count(), 3);
}

#[test]
fn a_reset_brings_a_cell_back_that_is_over_or_has_grown() {
    let host = Host::new();
    let thread = thread();
    let mut permit = host.admit("reactor", "spins").permit(&[]).expect("is permitted");
    permit.narrow_deadline(30);
    let mut cell = permit.start(Inputs::default()).expect("starts");
    for _ in 0..2 {
        let spun = cell.call::<_, ()>(&thread, "f", &());
        assert!(matches!(spun, Err(CallError::Fault(_))), "{spun:?}");
        assert!(cell.is_over());
        cell.reset(Inputs::default()).expect("is reset");
        assert!(!cell.is_over());
    }
    let mut cell = host.start("reactor", "grows");
    let first = cell.usage().heap_bytes;
    for _ in 0..3 {
        cell.call::<_, ()>(&thread, "f", &()).expect("answers");
        assert!(cell.usage().heap_bytes > first);
        cell.reset(Inputs::default()).expect("is reset");
    }
    // It grows in its start-up, and once that is frozen each life begins after it.
    assert!(cell.is_templated());
    assert!(cell.usage().heap_bytes > first);
}

#[test]
fn a_handle_of_the_life_before_is_stale() {
    let host = Host::new();
    let dir = host.folder.path().join("dir");
    std::fs::create_dir(&dir).expect("is made");
    std::fs::write(dir.join("inside"), "hello").expect("is written");
    let bound = Binding::parse(&format!("dir=dir:{}:rw", dir.display())).expect("is one");
    let permit = host
        .admit("files", "every-act")
        .permit(&[bound.resolve().expect("is there")])
        .expect("is permitted");
    let mut cell = permit.start_main(Inputs::default()).expect("starts");
    let handle = |cell: &Cell| {
        let memory = cell.memory().expect("is readable");
        // The first entry of the table of grants follows the boot block.
        memory[2].1[muscle_abi::boot::BOOT_SIZE..][..8].to_vec()
    };
    let first = handle(&cell);
    cell.reset(Inputs::default()).expect("is reset");
    assert_ne!(first, handle(&cell));
    assert_eq!(cell.run(&thread()).expect("exits"), 7);
}

#[test]
fn a_pool_serves_more_cells_than_it_holds() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("audit.jsonl");
    let config = Config {
        pool: 2,
        ..Config::new(workshop().trust_store(), &log)
    };
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee
        .admit_file(&bundle("reactor", "echoes"))
        .expect("is admitted");
    let permit = muscle.permit(&[]).expect("is permitted");
    let thread = thread();
    for round in 0..4 {
        // Half of the time some cells are loaded ahead, too.
        let _loaded = (round % 2 == 1).then(|| permit.keep_loaded(3).expect("are loaded"));
        std::thread::sleep(Duration::from_millis(5));
        let mut cells: Vec<Cell> = (0..5)
            .map(|_| permit.start(Inputs::default()).expect("starts"))
            .collect();
        for cell in &mut cells {
            let count: u32 = cell.call(&thread, "count", &()).expect("answers");
            assert_eq!(count, 0);
        }
        drop(cells);
        std::thread::sleep(Duration::from_millis(5));
    }
    drop((permit, muscle, referee));
    let text = std::fs::read_to_string(&log).expect("is there");
    let count = |word: &str| text.matches(word).count();
    let (starts, frozen) = (count("\"kind\":\"start\""), count("\"how\":\"frozen\""));
    assert_eq!(starts, count("\"how\":\"stopped\"") + frozen);
    // Beside those that were started here: a start-up for each time that cells were kept, if its turn came before they were not
    // wanted any more.
    assert!(
        (20..=22).contains(&starts) && frozen <= 2,
        "{starts} starts, {frozen} frozen"
    );
    referee_audit::verify(&log).expect("verifies");
}

#[test]
fn a_cell_moves_between_threads() {
    let host = Host::new();
    let mut cell = host.start("reactor", "echoes");
    for expected in 0..4u32 {
        cell = std::thread::spawn(move || {
            let count: u32 = cell.call(&thread(), "count", &()).expect("answers");
            assert_eq!(count, expected);
            cell
        })
        .join()
        .expect("ends");
    }
}

#[test]
fn a_wrong_type_is_an_error_and_the_cell_goes_on() {
    let host = Host::new();
    let mut cell = host.start("reactor", "echoes");
    let thread = thread();
    let wrong = cell.call::<_, String>(&thread, "count", &());
    assert!(matches!(wrong, Err(CallError::Answer(_))), "{wrong:?}");
    let long = "x".repeat(300);
    let wrong = cell.call::<_, ()>(&thread, &long, &());
    assert!(matches!(wrong, Err(CallError::TooLarge { .. })), "{wrong:?}");
    for size in [32, 64] {
        let wrong = cell.call_encoded(&thread, "echo", &vec![0; size << 20]);
        let Err(CallError::TooLarge { limit }) = wrong else {
            panic!("{wrong:?}");
        };
        assert!(limit <= 16 << 20, "{limit}");
    }
    let count: u32 = cell.call(&thread, "count", &()).expect("answers");
    assert_eq!(count, 1);
}

#[test]
fn a_faulting_cell_is_over_and_its_neighbour_is_not() {
    let host = Host::new();
    let thread = thread();
    let mut neighbour = host.start("reactor", "echoes");
    for (group, name, fault) in [
        ("reactor", "never-answers", "parked-for-ever"),
        ("reactor", "wrong-id", "unexpected-answer"),
    ] {
        let mut cell = host.start(group, name);
        match cell.call::<_, ()>(&thread, "f", &()) {
            Err(CallError::Fault(report)) => assert_eq!(report.fault.name(), fault),
            other => panic!("{name}: {other:?}"),
        }
        assert!(cell.is_over());
        let again = cell.call::<_, ()>(&thread, "f", &());
        assert!(matches!(again, Err(CallError::Over)), "{again:?}");
    }
    let count: u32 = neighbour.call(&thread, "count", &()).expect("answers");
    assert_eq!(count, 0);
    drop(neighbour);
    assert_eq!(host.ends(), ["faulted", "faulted", "stopped"]);
}

#[test]
fn the_deadline_is_each_calls_own() {
    let host = Host::new();
    let mut permit = host.admit("reactor", "echoes").permit(&[]).expect("is permitted");
    permit.narrow_deadline(300);
    let mut cell = permit.start(Inputs::default()).expect("starts");
    let thread = thread();
    for _ in 0..3 {
        let _: u32 = cell.call(&thread, "count", &()).expect("answers");
        std::thread::sleep(Duration::from_millis(200));
    }
    let mut spinning = host.admit("reactor", "spins").permit(&[]).expect("is permitted");
    spinning.narrow_deadline(100);
    let mut cell = spinning.start(Inputs::default()).expect("starts");
    match cell.call::<_, ()>(&thread, "f", &()) {
        Err(CallError::Fault(report)) => assert_eq!(report.fault, MuscleFault::Deadline(100)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_thread_cancels_a_spinning_call() {
    let host = Host::new();
    let mut cell = host.start("reactor", "spins");
    let canceller = cell.canceller();
    let begun = Instant::now();
    let other = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        canceller.cancel();
    });
    let cancelled = cell.call::<_, ()>(&thread(), "f", &());
    assert!(matches!(cancelled, Err(CallError::Cancelled)), "{cancelled:?}");
    assert!(begun.elapsed() >= Duration::from_millis(50));
    other.join().expect("ends");
    assert!(cell.is_over());
    // Before a call as well: the next one does not begin.
    let mut cell = host.start("reactor", "echoes");
    cell.canceller().cancel();
    let cancelled = cell.call::<_, u32>(&thread(), "count", &());
    assert!(matches!(cancelled, Err(CallError::Cancelled)), "{cancelled:?}");
    assert_eq!(host.ends(), ["stopped", "stopped"]);
}

#[test]
fn a_command_runs_to_its_exit_code() {
    let host = Host::new();
    let permit = host
        .admit("baseline", "exit-seven")
        .permit(&[])
        .expect("is permitted");
    let mut cell = permit.start_main(Inputs::default()).expect("starts");
    assert_eq!(cell.run(&thread()).expect("exits"), 7);
    assert!(cell.is_over());
    drop(cell);
    assert_eq!(host.ends(), ["exited"]);
}

#[test]
fn what_is_refused_is_named_and_recorded() {
    let host = Host::new();
    let rejected = |result: Result<(), StartError>, expected: &str| match result {
        Err(StartError::Rejected { name, message }) => assert_eq!(name, expected, "{message}"),
        other => panic!("{expected}: {other:?}"),
    };
    let good = std::fs::read(bundle("baseline", "exit-seven")).expect("is there");
    let mut flipped = good.clone();
    *flipped.last_mut().expect("has bytes") ^= 1;
    rejected(host.referee.admit(flipped).map(drop), "part-digest-mismatch");
    rejected(host.referee.admit(Vec::new()).map(drop), "truncated");
    rejected(
        host.referee
            .admit_file(&host.folder.path().join("none"))
            .map(drop),
        "unreadable",
    );
    let files = host.admit("files", "every-act");
    rejected(files.permit(&[]).map(drop), "slot-unbound");
    let unix = Binding::parse(&format!("door=unix:{}/door", host.folder.path().display())).expect("is one");
    rejected(
        host.admit("socket", "door").permit(&[unix]).map(drop),
        "not-embeddable",
    );
    let command = host
        .admit("baseline", "exit-seven")
        .permit(&[])
        .expect("is permitted");
    rejected(command.start(Inputs::default()).map(drop), "wrong-style");
    let reactor = host.admit("reactor", "echoes").permit(&[]).expect("is permitted");
    rejected(reactor.start_main(Inputs::default()).map(drop), "wrong-style");
    let records = host.records();
    assert!(
        records.iter().all(|record| record["kind"] == "reject"),
        "{records:?}"
    );
    assert_eq!(records.len(), 7);
}

#[test]
fn a_granted_directory_works_in_an_embedded_cell() {
    let host = Host::new();
    let dir = host.folder.path().join("dir");
    std::fs::create_dir(&dir).expect("is made");
    std::fs::write(dir.join("inside"), "hello").expect("is written");
    let bound = Binding::parse(&format!("dir=dir:{}:rw", dir.display())).expect("is one");
    let permit = host
        .admit("files", "every-act")
        .permit(&[bound.resolve().expect("is there")])
        .expect("is permitted");
    let mut cell = permit.start_main(Inputs::default()).expect("starts");
    assert_eq!(cell.run(&thread()).expect("exits"), 7);
    let records = host.records();
    let used = |op: &str| {
        records
            .iter()
            .any(|record| record["op"] == op && record["kind"] == "use")
    };
    assert!(used("files.rename"), "{records:?}");
    let start = records
        .iter()
        .find(|record| record["kind"] == "start")
        .expect("started");
    assert_eq!(
        start.pointer("/detail/not_confined_by"),
        Some(&Value::from("all: embedded in another program"))
    );
}

/// The example `portfolio`, which asks for the function `price`, and the folder of its log.
fn portfolio() -> (tempfile::TempDir, Permit) {
    let folder = tempfile::tempdir().expect("a folder");
    let shop = shop().expect("builds");
    let config = Config::new(shop.join("trust.store"), folder.path().join("audit.jsonl"));
    let referee = Referee::open(&config).expect("opens");
    let muscle = referee
        .admit_file(&shop.join("portfolio.muscle"))
        .expect("is admitted");
    let permit = muscle.permit(&[]).expect("is permitted");
    (folder, permit)
}

fn offering(functions: Functions) -> Inputs {
    Inputs {
        functions,
        ..Inputs::default()
    }
}

fn holdings(symbol: &str, count: u32) -> (BTreeMap<String, u32>,) {
    (BTreeMap::from([(symbol.to_owned(), count)]),)
}

#[test]
fn a_muscle_calls_functions_of_the_program_that_embeds_it() {
    let (folder, permit) = portfolio();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut functions = Functions::default();
    let seen = std::sync::Arc::clone(&asked);
    functions.register("price", move |symbol: String| {
        seen.lock().expect("nobody panicked").push(symbol.clone());
        match symbol.as_str() {
            "ACME" => Ok(2.5),
            "BOOM" => panic!("on purpose"),
            other => Err(format!("{other} is not traded here")),
        }
    });
    let mut cell = permit.start(offering(functions)).expect("starts");
    let thread = thread();
    let worth: f64 = cell
        .call(&thread, "worth", &holdings("ACME", 4))
        .expect("answers");
    assert!((worth - 10.0).abs() < f64::EPSILON, "{worth}");
    // An error of the function is the muscle's to read, a panic ends nothing.
    for (symbol, words) in [("NONE", "NONE is not traded here"), ("BOOM", "panicked")] {
        let failed = cell.call::<_, f64>(&thread, "worth", &holdings(symbol, 1));
        let Err(CallError::Function { message, .. }) = failed else {
            panic!("{failed:?}");
        };
        assert!(message.contains(words), "{message}");
    }
    let worth: f64 = cell
        .call(&thread, "worth", &holdings("ACME", 2))
        .expect("goes on");
    assert!((worth - 5.0).abs() < f64::EPSILON, "{worth}");
    assert_eq!(
        *asked.lock().expect("nobody panicked"),
        ["ACME", "NONE", "BOOM", "ACME"]
    );
    cell.end().expect("is recorded");
    let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("is there");
    assert_eq!(log.matches("\"function\":\"price\"").count(), 4, "{log}");
}

#[test]
fn a_life_has_the_functions_that_it_was_given() {
    let (_folder, permit) = portfolio();
    let thread = thread();
    let price = |price: f64| {
        let mut functions = Functions::default();
        functions.register("price", move |_: String| Ok::<_, String>(price));
        offering(functions)
    };
    let mut cell = permit.start(price(1.0)).expect("starts");
    let first: f64 = cell
        .call(&thread, "worth", &holdings("ACME", 1))
        .expect("answers");
    // Lives from a template have it too: the muscle reads its handle whenever it needs it.
    for _ in 0..3 {
        cell.reset(price(2.0)).expect("is reset");
        let _: f64 = cell
            .call(&thread, "worth", &holdings("ACME", 1))
            .expect("answers");
        assert!(cell.is_templated());
    }
    cell.reset(price(3.0)).expect("is reset");
    let second: f64 = cell
        .call(&thread, "worth", &holdings("ACME", 1))
        .expect("answers");
    assert!(
        (first - 1.0).abs() + (second - 3.0).abs() < f64::EPSILON,
        "{first} {second}"
    );
}

#[test]
fn a_function_that_is_not_offered_or_of_another_type_is_named() {
    let (folder, permit) = portfolio();
    let mut other = Functions::default();
    other.register("volume", |_: String| Ok::<u32, String>(1));
    for functions in [Functions::default(), other] {
        match permit.start(offering(functions)) {
            Err(StartError::Rejected { name, message }) => {
                assert_eq!(name, "host-function-missing");
                assert!(message.contains("`price`"), "{message}");
            }
            started => panic!("{started:?}"),
        }
    }
    let log = std::fs::read_to_string(folder.path().join("audit.jsonl")).expect("is there");
    assert_eq!(log.matches("host-function-missing").count(), 2, "{log}");
    let mut wrong = Functions::default();
    wrong.register("price", |number: u64| Ok::<u64, String>(number));
    let mut cell = permit.start(offering(wrong)).expect("starts");
    let failed = cell.call::<_, f64>(&thread(), "worth", &holdings("ACME", 1));
    assert!(
        matches!(&failed, Err(CallError::Function { message, .. }) if message.contains("the argument")),
        "{failed:?}"
    );
}

#[test]
fn a_result_that_is_too_long_is_an_error_and_the_cell_goes_on() {
    let (_folder, permit) = portfolio();
    let mut functions = Functions::default();
    functions.register("price", |symbol: String| match symbol.as_str() {
        "LONG" => Ok(vec![0u32; 1 << 20]),
        _ => Err("x".repeat(1 << 20)),
    });
    let mut cell = permit.start(offering(functions)).expect("starts");
    for symbol in ["LONG", "WORDS", "LONG"] {
        let failed = cell.call::<_, f64>(&thread(), "worth", &holdings(symbol, 1));
        assert!(
            matches!(&failed, Err(CallError::Function { message, .. }) if message.len() < 8192),
            "{symbol}: {failed:?}"
        );
    }
}

/// Runs a muscle by the example program, in a folder of its own: exit code, and records.
fn confined(group: &str, name: &str) -> (Option<i32>, Vec<Value>) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = Program::example("confined").expect("is built");
    let mut command = program.command([workshop().trust_store(), bundle(group, name)]);
    let output = command.current_dir(folder.path()).output().expect("starts");
    let log = folder.path().join("confined-audit.jsonl");
    referee_audit::verify(&log).expect("verifies");
    let text = std::fs::read_to_string(log).expect("is there");
    let records = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"));
    (output.status.code(), records.collect())
}

#[test]
fn a_program_runs_a_muscle_in_a_confined_process() {
    let (code, records) = confined("baseline", "exit-largest");
    assert_eq!(code, Some(99));
    let found = |kind: &str, word: &str| {
        let record = records.iter().find(|record| record["kind"] == kind);
        record
            .and_then(|record| record["detail"][word].as_str())
            .map(str::to_owned)
    };
    let missing = found("start", "not_confined_by").expect("says so");
    assert!(!missing.contains("all"), "{missing}");
    assert!(!missing.contains("seccomp"), "{missing}");
    assert_eq!(found("end", "how").as_deref(), Some("exited"));
    let (code, records) = confined("exception", "alignment-check");
    assert_eq!(code, Some(102));
    assert!(
        records.iter().any(|record| record["kind"] == "fault"),
        "{records:?}"
    );
}

#[test]
fn nothing_is_forked_from_a_process_with_more_threads() {
    struct Silent;
    impl Report for Silent {
        fn conclude(&self, _: Result<Conclusion, StartError>) -> u8 {
            0
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::read(&workshop().trust_store(), &[], ReadLimits::default()).expect("is good");
    let verified = authority
        .verify_file(&bundle("baseline", "exit-largest"))
        .expect("is signed");
    let decision = authority.decide(&verified, &[]).expect("is decided");
    let options = Options::new(folder.path().join("audit.jsonl"));
    let inputs = Inputs::default();
    let confined = Confined::prepare(verified.into(), &decision, Task::Main, inputs, options, None);
    let (stay, stays) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stays.recv());
    let refused = confined
        .expect("is prepared")
        .run(&Silent)
        .expect_err("two threads");
    assert!(
        refused.with_causes().contains("threads and must have one"),
        "{refused}"
    );
    drop(stay);
    let _ = other.join();
}

//! Grants taken from cells that run: by a real muscle in a real cell, from another thread.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;

use referee::{
    Binding, Cell, CellThread, Config, ControlError, Inputs, Narrowing, NotNarrower, Permit, Power, Referee,
};
use referee_tests::Workshop;
use serde_json::Value;

/// Codes of errors, as the muscle answers them.
const OK: u8 = 0;
const STALE: u8 = 2;
const DENIED: u8 = 1;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

fn bundle(group: &str, name: &str) -> PathBuf {
    let guest = workshop().guest(group, name).expect("is there");
    workshop().bundle(&guest).expect("is built")
}

/// A library with a log of its own, and a directory with the file `inside`.
struct Host {
    folder: tempfile::TempDir,
    referee: Referee,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("dir")).expect("made");
        fs::write(folder.path().join("dir/inside"), "hello").expect("written");
        let config = Config::new(workshop().trust_store(), folder.path().join("audit.jsonl"));
        let referee = Referee::open(&config).expect("opens");
        Host { folder, referee }
    }

    fn permit(&self) -> Permit {
        let dir = self.folder.path().canonicalize().expect("real").join("dir");
        let binding = Binding::parse(&format!("dir=dir:{}:rw", dir.display())).expect("a binding");
        let muscle = self
            .referee
            .admit_file(&bundle("reactor", "holds"))
            .expect("is admitted");
        let bindings = [binding.resolve().expect("is there")];
        muscle.permit(&bindings).expect("is permitted")
    }

    /// The log's records, which must hold together.
    fn records(&self) -> Vec<Value> {
        let log = self.folder.path().join("audit.jsonl");
        referee_audit::verify(&log).expect("verifies");
        let text = fs::read_to_string(log).expect("is there");
        let records = text.lines().map(serde_json::from_str);
        records.collect::<Result<_, _>>().expect("is JSON")
    }

    fn of_kind(&self, kind: &str) -> Vec<Value> {
        let records = self.records().into_iter();
        records.filter(|record| record["kind"] == kind).collect()
    }
}

fn here() -> CellThread {
    CellThread::enter().expect("timers")
}

fn start(permit: &Permit) -> Cell {
    permit.start(Inputs::default()).expect("starts")
}

#[track_caller]
fn ask(cell: &mut Cell, thread: &CellThread, function: &str) -> u8 {
    cell.call(thread, function, &()).expect("answers")
}

fn read_only() -> Narrowing {
    Narrowing {
        read_only: true,
        ..Narrowing::default()
    }
}

/// How many descriptors of this process lead below a folder.
fn open_below(folder: &Path) -> usize {
    let folder = folder.canonicalize().expect("real");
    let all = fs::read_dir("/proc/self/fd").expect("is there");
    let links = all.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    links.filter(|path| path.starts_with(&folder)).count()
}

#[test]
fn a_grant_is_revoked_while_its_muscle_uses_it() {
    let host = Host::new();
    let permit = host.permit();
    let mut cell = start(&permit);
    let control = cell.control();
    let caller = thread::spawn(move || {
        let thread = here();
        assert_eq!(ask(&mut cell, &thread, "open"), OK);
        (
            ask(&mut cell, &thread, "until"),
            ask(&mut cell, &thread, "read"),
            cell,
        )
    });
    // It uses the grant by now, again and again.
    while host.of_kind("use").len() < 50 {
        thread::yield_now();
    }
    control.revoke("dir").expect("is taken back");
    let records = host.records();
    let at = records
        .iter()
        .position(|record| record["kind"] == "revoke")
        .expect("is recorded");
    assert_eq!(
        (&records[at]["slot"], &records[at]["capability"]),
        (&"dir".into(), &"files".into())
    );
    let (until, read, cell) = caller.join().expect("ends");
    assert_eq!((until, read), (STALE, STALE));
    // It is recorded first, so some may have come before it was in force.
    let uses = |records: &[Value]| records.iter().filter(|record| record["kind"] == "use").count();
    assert_eq!(
        uses(&host.records()),
        uses(&records),
        "no use comes after the command returned"
    );
    for deny in host.of_kind("deny") {
        assert_eq!(deny["detail"]["why"], "the grant was revoked");
        assert_eq!(deny["slot"], "dir");
        assert_eq!(deny["cell"], records[at]["cell"]);
    }
    assert!(control.slots().iter().all(|slot| slot.left.is_none()));
    control.revoke("dir").expect("is no error");
    assert_eq!(host.of_kind("revoke").len(), 1, "and no record");
    drop(cell);
}

#[test]
fn what_was_opened_is_closed_when_the_command_returns() {
    let host = Host::new();
    let dir = host.folder.path().join("dir");
    let permit = host.permit();
    let (mut cell, thread) = (start(&permit), here());
    assert_eq!(ask(&mut cell, &thread, "open"), OK);
    assert_eq!(open_below(&dir), 2, "the directory and the file");
    permit.control().revoke("dir").expect("is taken back");
    assert_eq!(open_below(&dir), 0);
    drop(cell);
}

#[test]
fn no_new_life_has_what_was_revoked() {
    let host = Host::new();
    let permit = host.permit();
    let _loaded = permit.keep_loaded(2).expect("is loaded");
    let thread = here();
    let mut of_permit = start(&permit);
    let mut alone = start(&permit);
    // Lives of cells that were loaded while the grant was whole.
    for cell in [&mut of_permit, &mut alone] {
        for _ in 0..3 {
            assert_eq!(ask(cell, &thread, "stat"), OK);
            cell.reset(Inputs::default()).expect("is reset");
        }
    }
    let own = alone.control();
    own.revoke("dir").expect("is taken back");
    assert_eq!(ask(&mut of_permit, &thread, "stat"), OK, "only the one cell's");
    for _ in 0..3 {
        assert_eq!(ask(&mut alone, &thread, "stat"), STALE);
        alone.reset(Inputs::default()).expect("is reset");
    }
    // Also when the cell itself is replaced, because it is over.
    alone.canceller().cancel();
    assert!(alone.call::<_, u8>(&thread, "stat", &()).is_err());
    alone.reset(Inputs::default()).expect("is made anew");
    assert_eq!(ask(&mut alone, &thread, "stat"), STALE);
    assert_eq!(
        own.slots()[0].left,
        None,
        "the handle is of the cell that took its place"
    );

    permit.control().revoke("dir").expect("is taken back");
    assert_eq!(ask(&mut of_permit, &thread, "stat"), STALE);
    of_permit.reset(Inputs::default()).expect("is reset");
    assert_eq!(ask(&mut of_permit, &thread, "stat"), STALE);
    // Those that were loaded ahead, and those of a clone.
    for permit in [permit.clone(), permit] {
        let mut later = start(&permit);
        assert_eq!(ask(&mut later, &thread, "stat"), STALE);
    }
    let grants = host.of_kind("grant");
    let starts = host.of_kind("start");
    let granted = |cell: &Value| {
        grants
            .iter()
            .any(|grant| grant["cell"] == *cell && grant["slot"] == "dir")
    };
    let last = &starts.last().expect("there are")["cell"];
    assert!(!granted(last), "what is not there is not recorded as granted");
}

#[test]
fn a_grant_only_ever_becomes_smaller() {
    let host = Host::new();
    let permit = host.permit();
    let (mut cell, thread) = (start(&permit), here());
    let control = permit.control();
    let bytes = |max_bytes| Narrowing {
        max_bytes: Some(max_bytes),
        ..Narrowing::default()
    };
    assert_eq!(ask(&mut cell, &thread, "open"), OK);
    assert_eq!(ask(&mut cell, &thread, "write"), OK);
    let wider = control.narrow("dir", &bytes(65537));
    assert!(
        matches!(
            &wider,
            Err(ControlError::Rejected(NotNarrower::Wider {
                what: "max_bytes",
                ..
            }))
        ),
        "{wider:?}"
    );
    let none = control.narrow("dri", &read_only()).expect_err("there is none");
    assert_eq!(none.to_string(), "there is no slot `dri`; there are: dir");
    assert!(
        host.of_kind("narrow").is_empty(),
        "what is refused changes nothing"
    );
    control.narrow("dir", &read_only()).expect("is less");
    assert_eq!(
        ask(&mut cell, &thread, "write"),
        DENIED,
        "what is open for writing is not any more"
    );
    assert_eq!(ask(&mut cell, &thread, "open"), DENIED);
    assert_eq!(ask(&mut cell, &thread, "read"), OK);
    let elsewhere = Narrowing {
        within: Some("other".into()),
        ..Narrowing::default()
    };
    control.narrow("dir", &elsewhere).expect("is less");
    assert_eq!(ask(&mut cell, &thread, "read"), STALE, "it is closed");
    assert_eq!(ask(&mut cell, &thread, "stat"), DENIED);
    cell.reset(Inputs::default()).expect("is reset");
    assert_eq!(ask(&mut cell, &thread, "stat"), DENIED);
    let narrowed = host.of_kind("narrow");
    let to: Vec<&Value> = narrowed.iter().map(|record| &record["detail"]["to"]).collect();
    // One of the permit, and one of each cell that there is.
    assert_eq!(to, ["read-only", "read-only", "within other", "within other"]);
    control.revoke("dir").expect("is taken back");
    let late = control.narrow("dir", &read_only());
    assert!(
        matches!(late, Err(ControlError::Rejected(NotNarrower::Revoked { .. }))),
        "{late:?}"
    );
}

#[test]
fn changes_from_many_threads_all_hold() {
    let host = Host::new();
    let permit = host.permit();
    let mut cell = start(&permit);
    thread::scope(|scope| {
        for bytes in [300, 200, 100, 400] {
            let control = permit.control();
            scope.spawn(move || {
                let narrowing = Narrowing {
                    max_bytes: Some(bytes),
                    ..Narrowing::default()
                };
                // One that comes after a smaller one is wider than what there is by then.
                let done = control.narrow("dir", &narrowing);
                assert!(
                    matches!(done, Ok(()) | Err(ControlError::Rejected(_))),
                    "{done:?}"
                );
            });
        }
        let thread = here();
        for _ in 0..20 {
            assert_eq!(ask(&mut cell, &thread, "stat"), OK);
        }
    });
    let left = permit.control().slots()[0].left.clone().expect("something is");
    assert!(matches!(left, Power::Files { max_bytes: 100, .. }), "{left:?}");
}

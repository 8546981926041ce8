//! Rings as an embedding program uses them: two cells, memory between them, and whoever of the two does not keep the rules.

mod hostile;
mod joining;
mod lives;
mod passing;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use referee::{CallError, Cell, CellThread, Config, Inputs, Muscle, Permit, Referee, StartError};
use referee_tests::{Guest, Workshop, shop};
use serde_json::Value;

fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

/// What policy says to the example muscles, and about spinning.
const SPIN: &str = r#"
@id("limits") permit (principal, action in [Action::"memory", Action::"cpu", Action::"deadline", Action::"ring"], resource);
@id("spin") permit (principal, action == Action::"spin", resource);
"#;

/// A library with a log of its own.
struct Host {
    _folder: tempfile::TempDir,
    log: PathBuf,
    referee: Referee,
}

impl Host {
    fn with(trust_store: &Path) -> Host {
        Host::under(trust_store, None)
    }

    /// One whose policies are these, if there are some.
    fn under(trust_store: &Path, policy: Option<&str>) -> Host {
        let folder = tempfile::tempdir().expect("a folder");
        let log = folder.path().join("audit.jsonl");
        let mut config = Config::new(trust_store, &log);
        if let Some(policy) = policy {
            let file = folder.path().join("own.cedar");
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
        feeder.join_ring("out", &mut digester, "in").expect("are joined");
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

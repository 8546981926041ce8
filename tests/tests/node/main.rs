//! `referee-vmm serve` as clients, operators and hostile muscles meet it. Everything here goes through the real executable: the command
//! line as the client, and HTTP on the socket for what the command line cannot say.

mod anomalies;
mod audit;
mod authority;
mod channels;
mod chaos;
mod clock;
mod crashes;
mod crowd;
mod delegations;
mod endings;
mod faults;
mod grants;
mod health;
mod http;
mod isolation;
mod leftovers;
mod life;
mod memory;
mod metrics;
mod node;
mod openapi;
mod pipelines;
mod pressure;
mod processes;
mod prometheus;
mod real_time;
mod refusals;
mod reload;
mod resets;
mod rings;
mod side_channels;
mod snapshots;
mod soak;
mod starting;
mod streams;
mod tls;
mod tpm;
mod traces;
mod workers;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use referee_tests::{Program, Workshop};

const REJECTED: Option<i32> = Some(101);
const FAULT: Option<i32> = Some(102);
const TIME_LIMIT: Option<i32> = Some(103);
const HOST_ERROR: Option<i32> = Some(104);

struct Setup {
    workshop: Workshop,
    program: Program,
}

fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| Setup {
        workshop: Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"),
        program: Program::locate().expect("the program"),
    })
}

/// The bundle of a guest.
fn bundle(group: &str, name: &str) -> PathBuf {
    let workshop = &setup().workshop;
    workshop
        .bundle(&workshop.guest(group, name).expect("is there"))
        .expect("is built")
}

/// The muscle that does what it is asked to, good or bad.
fn acts() -> PathBuf {
    bundle("reactor", "acts")
}

fn text(path: &Path) -> String {
    path.to_str().expect("is UTF-8").to_owned()
}

/// Waits until something holds, which it must within [`SOON`].
fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < give_up, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Far beyond what anything here takes, on a host that others use, too.
const SOON: Duration = Duration::from_secs(30);

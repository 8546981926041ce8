//! A hostile guest again and again: nothing that outlives a process may grow.
//!
//! What a process holds, the kernel takes back when it ends. What could stay are processes that were not waited for,
//! files, mounts, System V objects and shared memory; each is counted here. That a cell's own descriptors and mappings go
//! is tested inside one process in `system_pages.rs`. `REFEREE_TEST_ROUNDS` sets another number of rounds, for slow machines.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use referee_tests::{Expectation, Flavour, Guest, Program, Scene, Trial, Workshop, check};

/// Rounds of the fastest guest, and of one guest of each other class.
const ROUNDS: u32 = 1000;
const ROUNDS_OF_EACH: u32 = 100;
/// One of each class of misdeed.
const CLASSES: [(&str, &str); 12] = [
    ("exception", "divide-by-zero"),
    ("instruction", "syscall"),
    ("doorbell", "load"),
    ("port", "out-ungranted"),
    ("queue", "loop-of-two"),
    ("packet", "credit-overrun"),
    ("frame", "unknown-kind"),
    ("handle", "forged"),
    ("files", "link-out"),
    ("console", "flood"),
    ("heap", "exhaust-then-touch"),
    ("time", "park-for-ever"),
];

/// Tests count the children of this program, so that one runs at a time.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_thousand_null_reads_leave_nothing() {
    again_and_again("memory", "read-null", rounds(ROUNDS));
}

#[test]
fn a_hundred_of_every_class_leave_nothing() {
    for (group, name) in CLASSES {
        again_and_again(group, name, rounds(ROUNDS_OF_EACH));
    }
}

#[test]
fn fifty_spinners_leave_nothing() {
    again_and_again("time", "spin-until-deadline", rounds(50));
}

fn rounds(usual: u32) -> u32 {
    let wanted = std::env::var("REFEREE_TEST_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok());
    wanted.map_or(usual, |most: u32| usual.min(most))
}

fn again_and_again(group: &str, name: &str, rounds: u32) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    // Whatever the program might leave running becomes a child of this process.
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).expect("is allowed");
    let trial = Trial {
        workshop: Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"),
        program: Program::locate().expect("the program"),
        flavour: Flavour::probe().expect("a usable /dev/kvm"),
    };
    let guest = trial.workshop.guest(group, name).expect("is there");
    let scene = Scene::set(&guest.header).expect("a scene");
    run_once(&trial, &guest, &scene);
    let before = Left::count(&scene);
    let left = AtomicU32::new(rounds);
    let take = || {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while take() {
                    run_once(&trial, &guest, &scene);
                }
            });
        }
    });
    let after = Left::count(&scene);
    after.assert_no_more_than(&before, &format!("{group}::{name} {rounds} times"));
    check_log(&guest, &trial, &scene, u64::from(rounds) + 1);
}

fn run_once(trial: &Trial, guest: &Guest, scene: &Scene) {
    let ended = trial.run(guest, scene).expect("ends");
    check(
        guest.header.expected(trial.flavour),
        &guest.header.streams,
        &ended,
    )
    .expect("ends as it should");
}

/// The one log of all rounds: whole, and with one fault for each round if a fault is what the guest does.
fn check_log(guest: &Guest, trial: &Trial, scene: &Scene, runs: u64) {
    referee_audit::verify(&scene.audit()).expect("verifies");
    let log = fs::read_to_string(scene.audit()).expect("is there");
    let count = |kind: &str| log.matches(&format!("\"kind\":\"{kind}\"")).count() as u64;
    let faulty = matches!(guest.header.expected(trial.flavour), [Expectation::Fault(_)]);
    let faults = if faulty { runs } else { 0 };
    assert_eq!(
        (count("start"), count("fault"), count("end")),
        (runs, faults, runs)
    );
}

/// What can outlive a process.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    children: usize,
    descriptors: usize,
    mounts: usize,
    system_v: usize,
    shared_kib: u64,
    files: BTreeSet<String>,
}

impl Left {
    fn count(scene: &Scene) -> Left {
        let lines = |path: &str| fs::read_to_string(path).map_or(0, |text| text.lines().count());
        let id = std::process::id();
        let tasks = fs::read_dir("/proc/self/task")
            .expect("is there")
            .filter_map(Result::ok);
        let children = tasks.map(|task| fs::read_to_string(task.path().join("children")).unwrap_or_default());
        let names = |path: &Path| -> BTreeSet<String> {
            let entries = fs::read_dir(path).into_iter().flatten().filter_map(Result::ok);
            entries
                .map(|entry| entry.file_name().to_string_lossy().into_owned())
                .collect()
        };
        let mut files = names(scene.path());
        files.extend(names(&scene.path().join("dir")));
        Left {
            children: children.map(|list| list.split_whitespace().count()).sum(),
            descriptors: fs::read_dir(format!("/proc/{id}/fd")).expect("is there").count(),
            mounts: lines("/proc/self/mountinfo"),
            system_v: ["shm", "msg", "sem"]
                .map(|kind| lines(&format!("/proc/sysvipc/{kind}")))
                .iter()
                .sum(),
            shared_kib: shared_memory(),
            files,
        }
    }

    fn assert_no_more_than(&self, before: &Left, what: &str) {
        assert_eq!(self.children, before.children, "{what}: processes");
        assert!(
            self.descriptors <= before.descriptors + SLACK,
            "{what}: descriptors {before:?} {self:?}"
        );
        assert_eq!(self.mounts, before.mounts, "{what}: mounts");
        assert_eq!(self.system_v, before.system_v, "{what}: System V objects");
        assert_eq!(self.files, before.files, "{what}: files");
        // A cell's memory is a megabyte; other programs of the machine use shared memory, too.
        let grown = self.shared_kib.saturating_sub(before.shared_kib);
        assert!(grown < 64 << 10, "{what}: {grown} KiB of shared memory");
    }
}

/// The test harness itself opens a descriptor now and then.
const SLACK: usize = 4;

fn shared_memory() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Shmem:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

//! Signals, several cells at once, and what is left when all is over.

use std::fs;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use referee_tests::Ended;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Desk, STOPPED, bundle, setup, text};

fn start(desk: &Desk, group: &str, name: &str) -> Child {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(desk.options());
    arguments.push(text(&bundle(group, name)));
    setup().program.command(arguments).spawn().expect("starts")
}

pub fn pid(child: &Child) -> Pid {
    i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("is a process")
}

/// Children of a process, by number.
fn children(of: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let give_up = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < give_up, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until the cell runs: its start stands in the log.
pub fn wait_until_started(desk: &Desk) {
    wait_for("the cell did not start", || {
        fs::read_to_string(desk.path("audit.jsonl")).is_ok_and(|log| log.contains("\"start\""))
    });
}

#[test]
fn a_stop_signal_ends_the_cell_in_order() {
    for signal in [Signal::TERM, Signal::INT] {
        let desk = Desk::new();
        // Granted a minute, so that only the signal can end it within this test.
        let child = start(&desk, "time", "operator-deadline");
        wait_until_started(&desk);
        kill_process(pid(&child), signal).expect("is there");
        let ended = Ended::of(child).expect("ends");
        assert_eq!(ended.code, STOPPED, "{}", ended.errors());
        referee_audit::verify(&desk.path("audit.jsonl")).expect("verifies");
        let log = fs::read_to_string(desk.path("audit.jsonl")).expect("is there");
        assert!(log.contains("\"stopped\""), "{log}");
    }
}

#[test]
fn a_killed_program_leaves_no_cell_behind() {
    let desk = Desk::new();
    let child = start(&desk, "time", "operator-deadline");
    wait_until_started(&desk);
    let cells = children(child.id());
    assert_eq!(cells.len(), 1, "the cell has a process of its own");
    kill_process(pid(&child), Signal::KILL).expect("is there");
    Ended::of(child).expect("ends");
    wait_for("the cell outlived its program", || {
        cells
            .iter()
            .all(|cell| !fs::exists(format!("/proc/{cell}")).unwrap_or(true))
    });
}

#[test]
fn a_killed_cell_is_the_programs_error_and_the_log_holds() {
    let desk = Desk::new();
    let child = start(&desk, "time", "operator-deadline");
    wait_until_started(&desk);
    let cell = children(child.id())
        .first()
        .copied()
        .and_then(|cell| i32::try_from(cell).ok())
        .and_then(Pid::from_raw);
    kill_process(cell.expect("has a process"), Signal::KILL).expect("is there");
    let ended = Ended::of(child).expect("ends");
    assert_eq!(ended.code, Some(104), "{}", ended.errors());
    referee_audit::verify(&desk.path("audit.jsonl")).expect("verifies");
}

#[test]
fn cells_that_share_a_log_do_not_break_it() {
    let desk = Desk::new();
    let names = [
        "exit-zero",
        "exit-seven",
        "console-out",
        "connects",
        "boot-block",
        "exit-largest",
    ];
    let cells: Vec<Child> = names
        .iter()
        .cycle()
        .take(12)
        .map(|name| start(&desk, "baseline", name))
        .collect();
    for cell in cells {
        let ended = Ended::of(cell).expect("ends");
        assert!(
            ended.code.is_some_and(|code| code < 100),
            "{:?} {}",
            ended.code,
            ended.errors()
        );
    }
    let log = desk.path("audit.jsonl");
    referee_audit::verify(&log).expect("verifies");
    let records = fs::read_to_string(&log).expect("is there");
    assert_eq!(
        (
            records.matches("\"kind\":\"start\"").count(),
            records.matches("\"kind\":\"end\"").count()
        ),
        (12, 12)
    );
    let cells: std::collections::BTreeSet<String> = records
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|record| record.get("kind").and_then(|kind| kind.as_str()) == Some("start"))
        .filter_map(|record| record.get("cell").map(ToString::to_string))
        .collect();
    assert_eq!(
        cells.len(),
        12,
        "each cell has a name of its own in the log: {cells:?}"
    );
}

#[test]
fn a_cell_that_waits_for_input_gets_its_end() {
    let desk = Desk::new();
    let ended = desk.run(&[&text(&bundle("baseline", "neighbour"))]);
    assert_eq!(
        (ended.code, ended.output().as_str()),
        (Some(7), "ready\n"),
        "{}",
        ended.errors()
    );
}

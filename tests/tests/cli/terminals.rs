//! Colours and progress: on a terminal, and nowhere else.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use crate::{Desk, FAULT, REJECTED, bundle, run, setup, text};

const RED: &str = "\u{1b}[1m\u{1b}[31m";

/// Runs the program with standard output and error on a terminal of its own; gives exit code and what was shown.
fn on_terminal(arguments: &[String], environment: &[(&str, &str)]) -> (Option<i32>, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&ours).expect("is ours");
    unlockpt(&ours).expect("opens");
    let name = ptsname(&ours, Vec::new()).expect("has a name");
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let theirs = rustix::fs::open(name, flags, Mode::empty()).expect("opens");
    let mut child = Command::new(setup().program.path())
        .args(arguments)
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(theirs.try_clone().expect("is copied"))
        .stderr(theirs)
        .spawn()
        .expect("starts");
    let mut shown = Vec::new();
    // The terminal's end is EIO, when nobody has it open any more.
    let _ = File::from(ours).read_to_end(&mut shown);
    (
        child.wait().expect("ends").code(),
        String::from_utf8_lossy(&shown).into_owned(),
    )
}

fn run_of(desk: &Desk, bundle: &str) -> Vec<String> {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(desk.options());
    arguments.push(bundle.to_owned());
    arguments
}

#[test]
fn a_fault_is_red_on_a_terminal_alone() {
    let desk = Desk::new();
    let faulting = text(&bundle("instruction", "hlt"));
    let (code, shown) = on_terminal(&run_of(&desk, &faulting), &[]);
    assert_eq!(code, FAULT, "{shown}");
    assert!(shown.contains(&format!("{RED}fault\u{1b}[0m: ")), "{shown:?}");

    let (code, shown) = on_terminal(&run_of(&desk, &faulting), &[("NO_COLOR", "1")]);
    assert_eq!(code, FAULT, "{shown}");
    assert!(
        !shown.contains('\u{1b}') && shown.contains("fault: "),
        "{shown:?}"
    );

    let piped = desk.run(&[&faulting]);
    assert!(!piped.errors().contains('\u{1b}'), "{:?}", piped.errors());
}

#[test]
fn a_refusal_is_red_on_a_terminal_alone() {
    let desk = Desk::new();
    let none = text(&desk.write("none.muscle", b"no bundle"));
    let (code, shown) = on_terminal(&run_of(&desk, &none), &[]);
    assert_eq!(code, REJECTED, "{shown}");
    assert!(shown.contains(&format!("{RED}rejected\u{1b}[0m: ")), "{shown:?}");
    assert!(!desk.run(&[&none]).errors().contains('\u{1b}'));
}

#[test]
fn the_doctor_has_colours_on_a_terminal_alone() {
    let (_, shown) = on_terminal(&["doctor".to_owned()], &[]);
    assert!(shown.contains("\u{1b}[32mok  \u{1b}[0m"), "{shown:?}");
    assert!(!run(&["doctor"]).output().contains('\u{1b}'));
}

#[test]
fn a_long_check_shows_on_a_terminal_how_far_it_is() {
    let desk = Desk::new();
    // A FIFO keeps the check waiting for longer than progress stays silent.
    let fifo = desk.path("fifo");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &fifo,
        rustix::fs::FileType::Fifo,
        Mode::RUSR | Mode::WUSR,
        0,
    )
    .expect("is made");
    let (records, repeated) = long_log(&desk);
    let writer = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let mut fifo = File::options().write(true).open(fifo).expect("opens");
            let half = repeated.len() / 2;
            fifo.write_all(&repeated[..half]).expect("is read");
            std::thread::sleep(std::time::Duration::from_millis(1300));
            fifo.write_all(&repeated[half..]).expect("is read");
        }
    });
    let arguments = ["audit", "verify", &text(&fifo)].map(str::to_owned);
    let (code, shown) = on_terminal(&arguments, &[]);
    writer.join().expect("ends");
    assert_eq!(code, Some(0), "{shown}");
    assert!(shown.contains("\rchecking ") && shown.contains(" %"), "{shown:?}");
    assert!(
        shown.contains(&format!("{records} records, all in order")),
        "{shown:?}"
    );
}

/// The bytes of a log with enough records for progress to be looked at, and how many they are.
fn long_log(desk: &Desk) -> (u64, Vec<u8>) {
    use referee_audit::{AuditLog, AuditSink, Event, Kind, Options};
    let path = desk.path("made.jsonl");
    let log = AuditLog::open(&path, Options::default()).expect("opens");
    let sink = AuditSink::new(log, "cell", "muscle");
    let records = 8192;
    for _ in 0..records {
        sink.record(&Event::of_cell(Kind::Use, &[])).expect("is written");
    }
    (records, std::fs::read(path).expect("is read"))
}

//! No entry of a seccomp filter is dead: without it, something that a cell does kills the cell's process.
//!
//! Every entry is left out in turn, and the scenarios are run until one of them is killed for it.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use referee_jail::{Filter, Removal};
use referee_tests::Ended;
use rustix::process::{Signal, kill_process};

use crate::processes::{pid, wait_for, wait_until_started};
use crate::{Desk, bundle, setup, text};

/// A run of the program with more options; gives how it ended.
type Scenario = fn(&Desk, &[&str]) -> Ended;

/// The scenarios, and the exit code of each with whole filters. The cheap and telling ones come first.
const SCENARIOS: [(&str, Scenario, i32); 12] = [
    ("acts on files", acts_on_files, 7),
    ("a program comes in", a_program_comes_in, 7),
    ("a program is reached", a_program_is_reached, 7),
    ("input is waited for", input_is_waited_for, 7),
    ("a spin is stopped", a_spin_is_stopped, 103),
    ("a stop signal", a_stop_signal, 105),
    ("heap to the limit", heap_to_the_limit, 102),
    ("a log of another's", a_log_of_anothers, 7),
    ("a torn log", a_torn_log, 7),
    ("an image is refused", an_image_is_refused, 101),
    ("a large call", a_large_call, 102),
    ("programs crowd the door", programs_crowd_the_door, 7),
];

/// Entries that no scenario can need, each with the reason why it stays.
const NOT_PROVOKED: [(&str, &str); 3] = [
    (
        "io:write#0",
        "it only tells of a failure of the host that a test cannot make",
    ),
    (
        "io:brk#0",
        "the heap is shared, and which thread finds it full is chance",
    ),
    ("io:exit_group#0", "as io:write"),
];

#[test]
fn every_entry_of_every_filter_is_needed() {
    for (name, scenario, code) in SCENARIOS {
        let ended = scenario(&Desk::new(), &[]);
        assert_eq!(ended.code, Some(code), "{name}: {}", ended.errors());
    }
    let mut removals = Removal::each(Filter::Vcpu { files: true }).expect("a policy");
    removals.extend(Removal::each(Filter::Io).expect("a policy"));
    let mut dead = Vec::new();
    for removal in removals {
        let entry = removal.to_string();
        match SCENARIOS
            .iter()
            .find(|(_, scenario, _)| killed_without(&entry, *scenario))
        {
            Some((name, ..)) => println!("{entry}: {name}"),
            None if NOT_PROVOKED.iter().any(|(known, _)| *known == entry) => {}
            None => dead.push(entry),
        }
    }
    assert!(dead.is_empty(), "entries that nothing needs: {dead:?}");
}

fn killed_without(entry: &str, scenario: Scenario) -> bool {
    let ended = scenario(&Desk::new(), &["--seccomp-without", entry]);
    ended.code == Some(104) && ended.errors().contains("seccomp filter")
}

fn start(desk: &Desk, more: &[&str], guest: (&str, &str)) -> Child {
    command(desk, more, guest).spawn().expect("starts")
}

/// The guest that says that it is ready and then waits for the end of its input, which is ours to give.
fn start_waiting(desk: &Desk, more: &[&str]) -> Child {
    let mut command = command(desk, more, ("baseline", "neighbour"));
    command.stdin(Stdio::piped()).spawn().expect("starts")
}

fn command(desk: &Desk, more: &[&str], guest: (&str, &str)) -> Command {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(desk.options());
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments.push(text(&bundle(guest.0, guest.1)));
    setup().program.command(arguments)
}

fn ended(child: Child) -> Ended {
    Ended::of(child).expect("ends")
}

fn acts_on_files(desk: &Desk, more: &[&str]) -> Ended {
    std::fs::create_dir(desk.path("dir")).expect("is made");
    std::fs::write(desk.path("dir/inside"), "hello").expect("is written");
    let bound = format!("dir=dir:{}:rw", text(&desk.path("dir")));
    let mut options = vec!["--bind", &bound];
    options.extend(more);
    ended(start(desk, &options, ("files", "every-act")))
}

fn a_spin_is_stopped(desk: &Desk, more: &[&str]) -> Ended {
    ended(start(desk, more, ("time", "spin-until-deadline")))
}

fn heap_to_the_limit(desk: &Desk, more: &[&str]) -> Ended {
    ended(start(desk, more, ("heap", "exhaust-then-touch")))
}

/// A call whose arguments are larger than what the heap has free; the guest does not take them all.
fn a_large_call(desk: &Desk, more: &[&str]) -> Ended {
    let mut arguments = vec!["call".to_owned()];
    arguments.extend(desk.options());
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments.push(text(&bundle("reactor", "answers")));
    arguments.extend(["f".to_owned(), "-".to_owned()]);
    let mut command = setup().program.command(arguments);
    let mut cell = command.stdin(Stdio::piped()).spawn().expect("starts");
    let given = format!("[\"{}\"]", "x".repeat(12 << 20));
    if let Some(mut input) = cell.stdin.take() {
        input.write_all(given.as_bytes()).expect("is read");
    }
    ended(cell)
}

/// A cell of its own, whose input ends only when another cell has written to the same log.
fn a_log_of_anothers(desk: &Desk, more: &[&str]) -> Ended {
    let mut cell = start_waiting(desk, more);
    wait_until_started(desk);
    let other = ended(start(desk, &[], ("baseline", "exit-seven")));
    assert_eq!(other.code, Some(7), "{}", other.errors());
    drop(cell.stdin.take());
    ended(cell)
}

/// The log's last line is torn after the cell has begun, as by a crash of another cell.
fn a_torn_log(desk: &Desk, more: &[&str]) -> Ended {
    let mut cell = start_waiting(desk, more);
    wait_until_started(desk);
    let log = std::fs::File::options()
        .append(true)
        .open(desk.path("audit.jsonl"));
    log.and_then(|mut log| log.write_all(b"{\"seq\":"))
        .expect("is torn");
    drop(cell.stdin.take());
    ended(cell)
}

fn input_is_waited_for(desk: &Desk, more: &[&str]) -> Ended {
    let mut cell = start_waiting(desk, more);
    if let Some(mut input) = cell.stdin.take() {
        // A cell that was killed does not read.
        let _ = input.write_all(b"x");
    }
    ended(cell)
}

fn a_stop_signal(desk: &Desk, more: &[&str]) -> Ended {
    let cell = start(desk, more, ("time", "operator-deadline"));
    wait_until_started(desk);
    kill_process(pid(&cell), Signal::TERM).expect("is there");
    ended(cell)
}

fn an_image_is_refused(desk: &Desk, more: &[&str]) -> Ended {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(desk.options());
    arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
    arguments.push(text(&crate::refusals::with_a_foreign_image(desk)));
    setup().program.run(arguments).expect("ends")
}

const PATIENCE: Duration = Duration::from_secs(5);

/// Waits for something as long as the cell runs.
fn while_running<T>(cell: &mut Child, mut attempt: impl FnMut() -> Option<T>) -> Option<T> {
    let give_up = Instant::now() + PATIENCE;
    while Instant::now() < give_up {
        if let Some(found) = attempt() {
            return Some(found);
        }
        if cell.try_wait().expect("is ours").is_some() {
            return None;
        }
        thread::sleep(Duration::from_millis(2));
    }
    None
}

/// One exchange, as far as it gets: a killed cell closes the stream.
fn exchange(mut stream: UnixStream, say: &[u8], hear: usize) -> std::io::Result<UnixStream> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(say)?;
    stream.read_exact(&mut vec![0; hear])?;
    Ok(stream)
}

fn a_program_comes_in(desk: &Desk, more: &[&str]) -> Ended {
    let socket = desk.path("door");
    let bound = format!("door=unix:{}", text(&socket));
    let mut options = vec!["--bind", &bound];
    options.extend(more);
    let mut cell = start(desk, &options, ("socket", "door"));
    if let Some(stream) = while_running(&mut cell, || UnixStream::connect(&socket).ok())
        && let Ok(mut stream) = exchange(stream, b"CONNECT 2000\nping", "OK N\npong".len())
    {
        // The muscle ends its direction.
        let _ = stream.read_to_end(&mut Vec::new());
    }
    ended(cell)
}

/// As many at once as may stand at a door without having said where they want to go.
fn programs_crowd_the_door(desk: &Desk, more: &[&str]) -> Ended {
    let socket = desk.path("door");
    let bound = format!("door=unix:{}", text(&socket));
    let mut options = vec!["--bind", &bound];
    options.extend(more);
    let mut cell = start(desk, &options, ("socket", "door"));
    let crowd: Vec<UnixStream> = (0..60)
        .filter_map(|_| while_running(&mut cell, || UnixStream::connect(&socket).ok()))
        .collect();
    if let Some(stream) = while_running(&mut cell, || UnixStream::connect(&socket).ok()) {
        drop(exchange(stream, b"CONNECT 2001\n", 5));
    }
    if let Some(stream) = while_running(&mut cell, || UnixStream::connect(&socket).ok()) {
        drop(exchange(stream, b"CONNECT 2000\nping", "OK N\npong".len()));
    }
    drop(crowd);
    ended(cell)
}

fn a_program_is_reached(desk: &Desk, more: &[&str]) -> Ended {
    let socket = desk.path("out");
    let listener = UnixListener::bind(&socket).expect("listens");
    listener.set_nonblocking(true).expect("is set");
    let bound = format!("out=unix:{}", text(&socket));
    let mut options = vec!["--bind", &bound];
    options.extend(more);
    let mut cell = start(desk, &options, ("socket", "out"));
    if let Some((mut stream, _)) = while_running(&mut cell, || listener.accept().ok()) {
        let answered = || -> std::io::Result<()> {
            stream.set_nonblocking(false)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.read_exact(&mut [0; 4])?;
            stream.write_all(b"pong")
        };
        // A killed cell does not come to hear it.
        let _ = { answered }();
        wait_for("the cell does not end", || {
            cell.try_wait().expect("is ours").is_some()
        });
    }
    ended(cell)
}

//! Programs outside and a muscle, through the Unix sockets of its grants: this test is the program.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use referee_tests::Ended;

use crate::processes::wait_for;
use crate::{Desk, REJECTED, bundle, setup, text};

/// Longer than any exchange takes, so that a lost byte fails the test and does not hang it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Starts a guest with its slot bound to a socket of this path.
fn start(desk: &Desk, name: &str, socket: &Path) -> Child {
    let mut arguments = vec!["run".to_owned()];
    arguments.extend(desk.options());
    arguments.extend(["--bind".to_owned(), binding(name, socket)]);
    arguments.push(text(&bundle("socket", name)));
    setup().program.command(arguments).spawn().expect("starts")
}

/// Each guest's one slot has the guest's name.
fn binding(name: &str, socket: &Path) -> String {
    format!("{name}=unix:{}", text(socket))
}

fn patient(stream: &UnixStream) {
    stream.set_nonblocking(false).expect("is set");
    stream.set_read_timeout(Some(PATIENCE)).expect("is set");
}

fn enter(socket: &Path) -> UnixStream {
    let mut entered = None;
    wait_for("nobody listens at the door", || {
        entered = UnixStream::connect(socket).ok();
        entered.is_some()
    });
    let stream = entered.expect("was waited for");
    patient(&stream);
    stream
}

/// Reads a line and not a byte more.
fn line(stream: &mut UnixStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.last() != Some(&b'\n') {
        stream.read_exact(&mut byte).expect("a line");
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("is text")
}

fn ends_with_seven(desk: &Desk, child: Child) {
    let ended = Ended::of(child).expect("ends");
    assert_eq!((ended.code, ended.errors().as_str()), (Some(7), ""));
    referee_audit::verify(&desk.path("audit.jsonl")).expect("verifies");
}

#[test]
fn a_program_reaches_the_granted_port_and_no_other() {
    let desk = Desk::new();
    let socket = desk.path("door");
    let child = start(&desk, "door", &socket);

    let mut lost = enter(&socket);
    lost.write_all(b"CONNECT 2001\n").expect("is written");
    assert_eq!(line(&mut lost), "ERROR this door leads to port 2000 only\n");
    assert_eq!(lost.read(&mut [0]).expect("is closed"), 0);

    let mut stream = enter(&socket);
    stream.write_all(b"CONNECT 2000\n").expect("is written");
    let greeting = line(&mut stream);
    assert!(greeting.starts_with("OK "), "{greeting}");
    stream.write_all(b"ping").expect("is written");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"pong");
    assert_eq!(stream.read(&mut [0]).expect("the muscle says no more"), 0);
    drop(stream);
    ends_with_seven(&desk, child);
}

#[test]
fn a_muscle_reaches_the_program_of_its_slot() {
    let desk = Desk::new();
    let socket = desk.path("out");
    let listener = UnixListener::bind(&socket).expect("listens");
    listener.set_nonblocking(true).expect("is set");
    let child = start(&desk, "out", &socket);

    let mut accepted = None;
    wait_for("the muscle did not come", || {
        accepted = listener.accept().ok();
        accepted.is_some()
    });
    let (mut stream, _) = accepted.expect("was waited for");
    patient(&stream);
    let mut heard = [0; 4];
    stream.read_exact(&mut heard).expect("is said");
    assert_eq!(&heard, b"ping");
    stream.write_all(b"pong").expect("is written");
    ends_with_seven(&desk, child);
}

#[test]
fn without_a_grant_there_is_no_door_and_nobody_comes() {
    let desk = Desk::new();
    let nothing = text(&desk.write("nothing.cedar", b""));
    let door = desk.path("door");
    let out = desk.path("out");
    let listener = UnixListener::bind(&out).expect("listens");
    listener.set_nonblocking(true).expect("is set");
    for (name, socket) in [("door", &door), ("out", &out)] {
        let muscle = text(&bundle("socket", name));
        let bound = binding(name, socket);
        for (arguments, reason) in [
            (vec![&*muscle], "[slot-unbound]"),
            (
                vec!["--policy", &nothing, "--bind", &bound, &muscle],
                "[not-permitted]",
            ),
        ] {
            let ended = desk.run(&arguments);
            assert_eq!(ended.code, REJECTED, "{name}: {}", ended.errors());
            assert!(ended.errors().contains(reason), "{name}: {}", ended.errors());
        }
    }
    assert!(fs::symlink_metadata(&door).is_err(), "a door was made");
    let nobody = listener.accept().map(drop).expect_err("nobody came");
    assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
}

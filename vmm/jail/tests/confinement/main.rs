//! Confinement seen from inside and outside, by real processes.
//!
//! Each case runs in a process of its own (this program again, with the case's name), because confinement
//! is for good and a fork needs a single thread. A case forks, confines the child, and looks.

use std::env;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

mod cases;

/// A user who is nobody in particular: cases run as this one too when the tests run as root.
const UNPRIVILEGED: u32 = 65534;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [flag, name] = arguments.as_slice()
        && flag == "--case"
    {
        let (_, case) = cases::ALL
            .iter()
            .find(|(one, _)| one == name)
            .expect("the parent names a case");
        case();
        return ExitCode::SUCCESS;
    }
    // As the usual harness: words are filters, options are passed over.
    let wanted = |name: &str| {
        let mut words = arguments
            .iter()
            .filter(|argument| !argument.starts_with('-'))
            .peekable();
        words.peek().is_none() || words.any(|word| name.contains(word.as_str()))
    };
    if arguments.iter().any(|argument| argument == "--list") {
        cases::ALL.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let is_root = rustix::process::geteuid().is_root();
    let users: &[Option<u32>] = if is_root {
        &[None, Some(UNPRIVILEGED)]
    } else {
        &[None]
    };
    let mut failed = 0;
    for (name, _) in cases::ALL.iter().filter(|(name, _)| wanted(name)) {
        for user in users {
            failed += u32::from(!run(name, *user));
        }
    }
    println!("{failed} failed");
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Runs one case as another user or as this one, and prints what it said if it failed.
fn run(name: &str, user: Option<u32>) -> bool {
    // The program's own file may lie where the other user cannot go, so it is started by descriptor.
    let program = std::fs::File::open("/proc/self/exe").expect("a program can open itself");
    let inherited = rustix::io::dup(&program).expect("dup");
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&inherited));
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("fcntl");
    let mut command = Command::new(path);
    command.args(["--case", name]).current_dir("/");
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let output = command.output().expect("this program starts");
    let as_user = user.map_or(String::new(), |user| format!(" as user {user}"));
    let passed = output.status.success();
    println!(
        "test {name}{as_user} ... {}",
        if passed { "ok" } else { "FAILED" }
    );
    if !passed {
        println!(
            "  {:?}, signal {:?}",
            output.status.code(),
            output.status.signal()
        );
        print!("{}", String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
    }
    passed
}

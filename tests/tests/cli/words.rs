//! Help, version, completions, manual page, usage errors.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::{USAGE, run};

const COMMANDS: [&str; 8] = [
    "run",
    "call",
    "explain",
    "doctor",
    "audit",
    "version",
    "completions",
    "man",
];

#[test]
fn help_names_every_command_and_every_exit_code() {
    let help = run(&["--help"]);
    assert_eq!((help.code, help.errors().as_str()), (Some(0), ""));
    for command in COMMANDS {
        assert!(
            help.output().contains(&format!("\n  {command}")),
            "{command} in {}",
            help.output()
        );
    }
    for code in ["0–99", "100", "101", "102", "103", "104"] {
        assert!(help.output().contains(code), "{code}");
    }
}

#[test]
fn every_command_has_help_of_its_own() {
    for command in COMMANDS {
        let help = run(&[command, "--help"]);
        assert_eq!(help.code, Some(0), "{command}: {}", help.errors());
        let output = help.output();
        let usage = output
            .lines()
            .find(|line| line.starts_with("Usage: "))
            .unwrap_or_default();
        assert_eq!(usage.split(' ').nth(2), Some(command), "{output}");
    }
}

#[test]
fn help_of_what_takes_a_bundle_has_examples() {
    for command in ["run", "call", "explain"] {
        let help = run(&[command, "--help"]).output();
        let examples = help.split("Examples:").nth(1).unwrap_or_default();
        assert!(examples.contains(&format!("referee-vmm {command} ")), "{help}");
    }
}

#[test]
fn help_has_no_colour_when_it_is_no_terminal_that_reads() {
    assert!(!run(&["--help"]).output().contains('\u{1b}'));
    assert!(!run(&["run"]).errors().contains('\u{1b}'));
}

#[test]
fn version_is_told_in_both_ways() {
    for arguments in [["version"], ["--version"]] {
        let told = run(&arguments);
        assert_eq!(told.code, Some(0));
        assert!(told.output().starts_with("referee-vmm "), "{}", told.output());
    }
}

#[test]
fn completions_are_made_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&["completions", shell]);
        assert_eq!(script.code, Some(0), "{shell}: {}", script.errors());
        for command in COMMANDS {
            assert!(script.output().contains(command), "{shell} completes {command}");
        }
    }
}

#[test]
fn completions_for_bash_are_understood_by_bash() {
    let script = run(&["completions", "bash"]).stdout;
    let mut bash = Command::new("bash")
        .arg("-n")
        .stdin(Stdio::piped())
        .spawn()
        .expect("bash is there");
    bash.stdin
        .take()
        .expect("a pipe")
        .write_all(&script)
        .expect("is read");
    assert!(bash.wait().expect("ends").success());
}

#[test]
fn manual_page_tells_of_every_command() {
    let page = run(&["man"]);
    assert_eq!((page.code, page.errors().as_str()), (Some(0), ""));
    assert!(page.output().contains(".TH referee"), "{}", page.output());
    for command in COMMANDS {
        assert!(page.output().contains(command), "{command}");
    }
}

#[test]
fn wrong_command_lines_have_a_code_of_their_own_and_say_why() {
    let cases: [&[&str]; 10] = [
        &[],
        &["fly"],
        &["run"],
        &["call", "x.muscle"],
        &["run", "--no-such-option", "x.muscle"],
        &["run", "--deadline-ms", "soon", "x.muscle"],
        &["run", "--bind", "input", "x.muscle"],
        &["run", "--bind", "input=dir:/tmp", "x.muscle"],
        &["run", "--bind", "input=moon:/tmp", "x.muscle"],
        &["completions", "tcsh"],
    ];
    for case in cases {
        let ended = run(case);
        assert_eq!(ended.code, USAGE, "{case:?}: {}", ended.errors());
        assert!(ended.stdout.is_empty(), "{case:?}: {}", ended.output());
        assert!(!ended.stderr.is_empty(), "{case:?} says nothing");
    }
}

#[test]
fn doctor_speaks_to_people_and_to_machines() {
    let people = run(&["doctor"]);
    assert!(
        people.output().to_lowercase().contains("kvm"),
        "{}",
        people.output()
    );
    let machines = run(&["doctor", "--json"]);
    assert_eq!(machines.code, people.code);
    serde_json::from_slice::<serde_json::Value>(&machines.stdout).expect("is JSON");
}

//! How runs end: codes, reports in words, calls, explanations, the log.

use std::fs;

use serde_json::Value;

use crate::{Desk, FAULT, REJECTED, bundle, run, setup, text};

#[test]
fn the_muscles_own_codes_are_passed_on() {
    let desk = Desk::new();
    for (name, code) in [("exit-zero", 0), ("exit-seven", 7), ("exit-largest", 99)] {
        let ended = desk.run(&[&text(&bundle("baseline", name))]);
        assert_eq!((ended.code, ended.errors().as_str()), (Some(code), ""));
    }
}

#[test]
fn a_fault_in_words_names_rule_place_registers_and_function() {
    let desk = Desk::new();
    let ended = desk.run(&[&text(&bundle("memory", "write-code"))]);
    assert_eq!(ended.code, FAULT);
    let report = ended.errors();
    for words in [
        "#PF",
        "write: not allowed",
        "[page-fault]",
        "in code",
        "rip",
        "rsp",
        "backtrace",
        "_start + 0x",
    ] {
        assert!(report.contains(words), "{words} in {report}");
    }
}

#[test]
fn a_fault_as_json_has_a_backtrace_with_names() {
    let desk = Desk::new();
    let ended = desk.run(&["--json", &text(&bundle("exception", "invalid-opcode"))]);
    let report: Value = serde_json::from_slice(&ended.stderr).expect("one JSON value");
    assert_eq!(
        report.pointer("/backtrace/0/function").and_then(Value::as_str),
        Some("_start"),
        "{report}"
    );
    assert!(
        report
            .pointer("/registers/rip")
            .and_then(Value::as_str)
            .is_some_and(|rip| rip.starts_with("0x"))
    );
}

#[test]
fn addresses_differ_from_run_to_run() {
    let desk = Desk::new();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..4 {
        let ended = desk.run(&["--json", &text(&bundle("exception", "invalid-opcode"))]);
        let report: Value = serde_json::from_slice(&ended.stderr).expect("one JSON value");
        for register in ["rip", "rsp", "r13"] {
            let pointer = format!("/registers/{register}");
            seen.insert(
                report
                    .pointer(&pointer)
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            );
        }
    }
    assert_eq!(seen.len(), 12, "{seen:?}");
}

#[test]
fn an_abort_cannot_begin_a_line_of_its_own() {
    let desk = Desk::new();
    let ended = desk.run(&[&text(&bundle("ending", "abort-with-forged-lines"))]);
    assert_eq!(ended.code, FAULT);
    let report = ended.errors();
    assert!(report.starts_with("fault: "), "{report}");
    assert!(
        !report
            .lines()
            .any(|line| line.starts_with("host error") || line.starts_with('{')),
        "{report}"
    );
}

#[test]
fn a_call_prints_json() {
    let desk = Desk::new();
    let mut arguments = vec!["call".to_owned()];
    arguments.extend(desk.options());
    arguments.extend([text(&bundle("reactor", "answers")), "f".into()]);
    let ended = setup().program.run(&arguments).expect("ends");
    assert_eq!(
        (ended.code, ended.output().as_str(), ended.errors().as_str()),
        (Some(0), "null\n", "")
    );
}

#[test]
fn explain_tells_what_is_granted_and_what_is_not() {
    let trust = text(&setup().workshop.trust_store());
    let console = text(&bundle("baseline", "console-out"));
    let granted = run(&["explain", "--trust", &trust, &console]);
    assert_eq!(granted.code, Some(0), "{}", granted.errors());
    assert!(granted.output().contains("console"), "{}", granted.output());
    let json = run(&["explain", "--json", "--trust", &trust, &console]);
    serde_json::from_slice::<Value>(&json.stdout).expect("is JSON");
    let files = text(&bundle("files", "dot-dot"));
    let unbound = run(&["explain", "--trust", &trust, &files]);
    assert_eq!(unbound.code, REJECTED);
    assert!(unbound.output().contains("not bound"), "{}", unbound.output());
}

#[test]
fn the_log_is_verified_and_a_changed_one_is_not() {
    let desk = Desk::new();
    desk.run(&[&text(&bundle("baseline", "console-out"))]);
    let log = desk.path("audit.jsonl");
    let good = run(&["audit", "verify", &text(&log)]);
    assert_eq!(good.code, Some(0), "{}", good.errors());
    let bytes = fs::read(&log).expect("is there");
    for at in [1, bytes.len() / 2, bytes.len() - 3] {
        let mut changed = bytes.clone();
        changed[at] ^= 1;
        let changed = desk.write("changed.jsonl", &changed);
        let ended = run(&["audit", "verify", &text(&changed)]);
        assert_eq!(ended.code, REJECTED, "byte {at}: {}", ended.output());
        assert!(ended.errors().contains("[audit-broken]"), "{}", ended.errors());
    }
    let cut = desk.write("cut.jsonl", &bytes[..bytes.len() - 1]);
    assert_eq!(run(&["audit", "verify", &text(&cut)]).code, REJECTED);
}

#[test]
fn a_log_goes_on_where_it_ended() {
    let desk = Desk::new();
    for _ in 0..3 {
        desk.run(&[&text(&bundle("baseline", "exit-zero"))]);
    }
    let log = desk.path("audit.jsonl");
    referee_audit::verify(&log).expect("verifies");
    let records = fs::read_to_string(&log).expect("is there");
    assert_eq!(
        (
            records.matches("\"start\"").count(),
            records.matches("\"kind\":\"end\"").count()
        ),
        (3, 3)
    );
}

#[test]
fn a_program_that_may_not_be_audited_does_not_run() {
    let desk = Desk::new();
    let trust = text(&setup().workshop.trust_store());
    let ended = run(&[
        "run",
        "--trust",
        &trust,
        "--audit",
        &text(&desk.path("no/such/folder")),
        &text(&bundle("baseline", "console-out")),
    ]);
    assert_eq!(
        (ended.code, ended.output().as_str()),
        (Some(104), ""),
        "{}",
        ended.errors()
    );
    let full = run(&[
        "run",
        "--trust",
        &trust,
        "--audit",
        "/dev/full",
        &text(&bundle("baseline", "console-out")),
    ]);
    assert_eq!(
        (full.code, full.output().as_str()),
        (Some(104), ""),
        "{}",
        full.errors()
    );
}

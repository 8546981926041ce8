//! Receipts: whose they are, what they say, and runs that are repeated somewhere else.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use referee_evidence::{Evidence, RECEIPT_AAD, Receipt, Token, to_hex};
use referee_tests::Ended;

use crate::commands::{Desk, assert_ends, workshop};
use crate::host::programs;

pub const NONCE: &str = "00112233445566778899aabbccddeeff";

fn bundle(group: &str, name: &str) -> String {
    let guest = workshop().guest(group, name).expect("is there");
    workshop().bundle(&guest).expect("is built").display().to_string()
}

/// A host whose TPM has a key.
fn desk() -> Desk {
    let desk = Desk::new();
    assert_ends(&desk.vmm(&["tpm", "init"], &[]), 0);
    desk
}

/// Runs something with a receipt, and reads it.
fn receipt(desk: &Desk, file: &str, code: i32, words: &[&str], more: &[&str]) -> (PathBuf, Receipt) {
    let (path, audit) = (desk.file(file), desk.file("audit.jsonl"));
    let options = ["--audit", &audit, "--receipt", &path];
    assert_ends(&desk.vmm(words, &[&options[..], more].concat()), code);
    let token = Token::parse(&std::fs::read(&path).expect("is there")).expect("is a token");
    (path.into(), Receipt::of(&token).expect("is a receipt"))
}

fn verify(words: &[&str]) -> Ended {
    programs()
        .verify
        .run([&["receipt"], words].concat())
        .expect("ends")
}

fn instance_key(desk: &Desk) -> String {
    let text = assert_ends(&desk.vmm(&["tpm", "status", "--json"], &[]), 0);
    let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    value["instance_key"].as_str().expect("is text").to_owned()
}

/// Evidence and reference of a host, as files.
pub fn evidence(desk: &Desk) -> (String, String) {
    let (evidence, reference) = (desk.file("evidence"), desk.file("reference.toml"));
    assert_ends(&desk.vmm(&["attest"], &["--nonce", NONCE, "-o", &evidence]), 0);
    let text = assert_ends(&desk.vmm(&["tpm", "reference"], &[]), 0);
    std::fs::write(&reference, text).expect("is written");
    (evidence, reference)
}

#[test]
fn a_receipt_says_what_a_call_was_and_evidence_vouches_for_it() {
    let desk = desk();
    let echoes = bundle("reactor", "echoes");
    let (path, receipt) = receipt(&desk, "a", 0, &["call"], &[&echoes, "echo", "[1]"]);
    assert_eq!(receipt.function.as_deref(), Some("echo"));
    assert_eq!(receipt.outcome, "answered");
    assert!(receipt.is_deterministic() && receipt.cost.exits > 0);
    let file = std::fs::read(&echoes).expect("is there");
    assert_eq!(receipt.bundle, referee_bundle::Digest::of(&file).0);
    // Its place in the log is the end of this run.
    let log = std::fs::read_to_string(desk.file("audit.jsonl")).expect("is there");
    assert_eq!(receipt.log_records, log.lines().count() as u64);
    let last: serde_json::Value =
        serde_json::from_str(log.lines().last().expect("has one")).expect("is JSON");
    assert_eq!(last["hash"], to_hex(&receipt.log_hash));
    let (evidence, reference) = evidence(&desk);
    let path = path.display().to_string();
    let words = [
        &path,
        "--evidence",
        &evidence,
        "--nonce",
        NONCE,
        "--reference",
        &reference,
    ]
    .map(String::from);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let text = assert_ends(&verify(&words), 0);
    assert!(
        text.contains("receipt-fits") && text.contains("everything holds"),
        "{text}"
    );
    // Evidence of the next epoch does not vouch for it.
    assert_ends(&desk.vmm(&["tpm", "rotate"], &[]), 0);
    assert_ends(&desk.vmm(&["attest"], &["--nonce", NONCE, "-o", &evidence]), 0);
    let text = assert_ends(&verify(&words), 1);
    assert!(text.contains("FAILS  receipt "), "{text}");
}

#[test]
fn no_bit_of_a_receipt_is_free_and_no_other_host_can_sign_it() {
    let (desk, stranger) = (desk(), desk());
    let echoes = bundle("reactor", "echoes");
    let (path, _) = receipt(&desk, "a", 0, &["call"], &[&echoes, "echo", "[1]"]);
    let key = instance_key(&desk);
    let (vouching, _) = evidence(&desk);
    let vouching = Evidence::parse(&std::fs::read(vouching).expect("is there")).expect("is evidence");
    let both = Token::parse(&vouching.token)
        .and_then(|token| token.claims())
        .expect("has claims")
        .instance();
    assert!(both.ml_dsa.is_some());
    let bytes = std::fs::read(&path).expect("is there");
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let holds = Token::parse(&changed)
            .and_then(|token| token.verify(RECEIPT_AAD, &both))
            .is_ok();
        assert!(!holds, "byte {at} can be changed");
    }
    let shown = path.display().to_string();
    assert_ends(&verify(&[&shown, "--instance-key", &key]), 0);
    let text = assert_ends(&verify(&[&shown, "--instance-key", &instance_key(&stranger)]), 1);
    assert!(text.contains("FAILS  receipt"), "{text}");
    // A token of evidence by the same key is no receipt.
    std::fs::write(desk.file("token"), &vouching.token[..]).expect("is written");
    assert_ends(&verify(&[&desk.file("token"), "--instance-key", &key]), 1);
}

#[test]
fn a_run_can_be_repeated_on_another_machine_and_compared() {
    let (desk, elsewhere) = (desk(), desk());
    let key = instance_key(&desk);
    let echoes = bundle("reactor", "echoes");
    let call = |desk: &Desk, file: &str, argument: &str| {
        let (path, _) = receipt(desk, file, 0, &["call"], &[&echoes, "echo", argument]);
        path.display().to_string()
    };
    let first = call(&desk, "first", "[1, \"two\"]");
    let compared = |other: &str| verify(&[&first, "--instance-key", &key, "--compare", other]);
    let again = call(&elsewhere, "again", "[1, \"two\"]");
    assert!(assert_ends(&compared(&again), 0).contains("same-output"));
    let other = call(&elsewhere, "other", "[2]");
    let text = assert_ends(&compared(&other), 1);
    assert!(
        text.contains("FAILS  same-input") && text.contains("FAILS  same-output"),
        "{text}"
    );
    // A command's standard output counts, too; another bundle is another run.
    let hello = bundle("baseline", "console-out");
    let (run, _) = receipt(&desk, "run", 0, &["run"], &[&hello]);
    let (rerun, _) = receipt(&elsewhere, "rerun", 0, &["run"], &[&hello]);
    let (run, rerun) = (run.display().to_string(), rerun.display().to_string());
    assert_ends(&verify(&[&run, "--instance-key", &key, "--compare", &rerun]), 0);
    let text = assert_ends(&verify(&[&run, "--instance-key", &key, "--compare", &again]), 1);
    assert!(text.contains("FAILS  same-bundle"), "{text}");
}

#[test]
fn what_keeps_a_run_from_being_repeated_is_named() {
    let desk = desk();
    let clock = bundle("time", "park-until-with-clock");
    let (_, receipt) = receipt(&desk, "a", 0, &["run"], &[&clock]);
    assert_eq!(receipt.nondeterminism, ["clock"]);
}

#[test]
fn a_fault_has_a_receipt_and_a_refusal_has_none() {
    let desk = desk();
    let jumps = bundle("memory", "execute-boot");
    let (_, receipt) = receipt(&desk, "a", 102, &["run"], &[&jumps]);
    assert_eq!(receipt.outcome, "fault page-fault");
    let path = desk.file("none");
    let exit = bundle("baseline", "exit-zero");
    assert_ends(
        &desk.vmm(
            &["call"],
            &[
                "--receipt",
                &path,
                "--audit",
                &desk.file("audit.jsonl"),
                &exit,
                "f",
            ],
        ),
        101,
    );
    assert!(!std::path::Path::new(&path).exists());
    // Without a key there is nothing to sign with, and it is said before anything runs.
    let text = assert_ends(
        &Desk::new().vmm(
            &["run"],
            &["--receipt", &path, "--audit", &desk.file("b.jsonl"), &exit],
        ),
        104,
    );
    assert!(text.contains("[tpm-not-initialised]"), "{text}");
    assert!(
        !std::fs::read_to_string(desk.file("b.jsonl"))
            .unwrap_or_default()
            .contains("\"start\"")
    );
    let no_tpm = programs()
        .vmm
        .run(["run", "--receipt", &path, &exit])
        .expect("ends");
    assert!(assert_ends(&no_tpm, 100).contains("--tpm"));
}

#[test]
fn a_log_whose_end_was_cut_off_contradicts_what_was_signed_about_it() {
    let desk = desk();
    let echoes = bundle("reactor", "echoes");
    let call = |file: &str| {
        receipt(&desk, file, 0, &["call"], &[&echoes, "echo", "[1]"])
            .0
            .display()
            .to_string()
    };
    let (first, second) = (call("first"), call("second"));
    let (key, audit) = (instance_key(&desk), desk.file("audit.jsonl"));
    let log = |words: &[&str]| {
        let ended = programs()
            .verify
            .run([&["log", &audit, "--instance-key", &key], words].concat())
            .expect("ends");
        (
            ended.code,
            String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.errors(),
        )
    };
    let (code, text) = log(&["--receipt", &first, "--receipt", &second]);
    assert_eq!(code, Some(0), "{text}");
    // Evidence that states where the log ends is as good.
    let (evidence, reference) = (desk.file("evidence"), desk.file("reference.toml"));
    assert_ends(
        &desk.vmm(
            &["attest"],
            &["--nonce", NONCE, "--audit", &audit, "-o", &evidence],
        ),
        0,
    );
    std::fs::write(&reference, assert_ends(&desk.vmm(&["tpm", "reference"], &[]), 0)).expect("is written");
    let by_evidence = || {
        let words = [
            "log",
            &audit,
            "--evidence",
            &evidence,
            "--nonce",
            NONCE,
            "--reference",
            &reference,
        ];
        programs().verify.run(words).expect("ends")
    };
    assert_ends(&by_evidence(), 0);
    // Without anything that was signed, nothing is proved about the end.
    let (code, text) = log(&[]);
    assert!(code == Some(1) && text.contains("FAILS  end"), "{text}");
    let whole = std::fs::read_to_string(&audit).expect("is there");
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    // The last record is gone: the chain is whole, and the second receipt and the evidence know better.
    std::fs::write(&audit, lines[..lines.len() - 1].concat()).expect("is written");
    let (code, text) = log(&["--receipt", &first, "--receipt", &second]);
    assert!(
        code == Some(1) && text.contains("holds  chain") && text.contains("its end was cut off"),
        "{text}"
    );
    assert_ends(&by_evidence(), 1);
    let (code, text) = log(&["--receipt", &first]);
    assert_eq!(code, Some(0), "what the first knows is there: {text}");
    // A hole in the middle, and a log that was written anew.
    std::fs::write(&audit, [&lines[..1], &lines[2..]].concat().concat()).expect("is written");
    let (code, text) = log(&["--receipt", &second]);
    assert!(code == Some(1) && text.contains("FAILS  chain"), "{text}");
    std::fs::remove_file(&audit).expect("is removed");
    call("third");
    call("fourth");
    let (code, text) = log(&["--receipt", &second]);
    assert!(
        code == Some(1) && text.contains("holds  chain") && text.contains("written anew"),
        "{text}"
    );
}

/// The verifier runs it again by itself, without a TPM.
#[test]
fn a_replay_finds_the_same_output_and_what_differs() {
    let desk = desk();
    let trust = workshop().trust_store().display().to_string();
    let (echoes, zero) = (bundle("reactor", "echoes"), bundle("baseline", "exit-zero"));
    let (called, _) = receipt(&desk, "called", 0, &["call"], &[&echoes, "echo", "[1]"]);
    let (ran, _) = receipt(&desk, "ran", 0, &["run"], &[&zero]);
    let (called, ran) = (called.display().to_string(), ran.display().to_string());
    let key = instance_key(&desk);
    let replay = |file: &str, words: &[&str]| {
        let options = [
            file,
            "--instance-key",
            &key,
            "--replay",
            "--",
            words[0],
            "--trust",
            &trust,
        ];
        verify(&[&options[..], &words[1..]].concat())
    };
    assert_ends(&replay(&ran, &["run", &zero]), 0);
    let text = assert_ends(&replay(&called, &["call", &echoes, "echo", "[1]"]), 0);
    assert!(text.contains("holds  same-output"), "{text}");
    // Another input, and another program.
    let text = assert_ends(&replay(&called, &["call", &echoes, "echo", "[2]"]), 1);
    assert!(text.contains("FAILS  same-input"), "{text}");
    let text = assert_ends(&replay(&ran, &["run", &bundle("baseline", "exit-seven")]), 1);
    assert!(text.contains("FAILS  same-bundle"), "{text}");
    // What does not run is no replay, and only what runs muscles can be one.
    assert_ends(&replay(&ran, &["run", "missing.muscle"]), 2);
    assert_ends(&replay(&ran, &["tpm", "status"]), 2);
}

/// Another `referee-vmm` that the PATH leads to could say whatever the receipt says.
#[test]
fn a_replay_asks_no_program_but_the_one_beside_it() {
    let desk = desk();
    let zero = bundle("baseline", "exit-zero");
    let (ran, _) = receipt(&desk, "ran", 0, &["run"], &[&zero]);
    let (alone, elsewhere) = (desk.file("alone"), desk.file("elsewhere"));
    std::fs::create_dir(&alone).expect("is made");
    std::fs::create_dir(&elsewhere).expect("is made");
    let (verify, asked) = (format!("{alone}/referee-verify"), desk.file("asked"));
    std::fs::copy(programs().verify.path(), &verify).expect("is copied");
    let script = format!("{elsewhere}/referee-vmm");
    std::fs::write(&script, format!("#!/bin/sh\n: >{asked}\n")).expect("is written");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("may run");
    let ended = std::process::Command::new(&verify)
        .args([
            "receipt",
            &ran.display().to_string(),
            "--instance-key",
            &instance_key(&desk),
        ])
        .args(["--replay", "--", "run", &zero])
        .env("PATH", &elsewhere)
        .output()
        .expect("ends");
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{text}");
    assert!(text.contains("in the same folder"), "{text}");
    assert!(
        !std::path::Path::new(&asked).exists(),
        "the other program was asked"
    );
}

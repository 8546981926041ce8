//! What is refused before anything runs: each with exit code 101, a name, a sentence, and one record in the log.

use std::fs;
use std::path::{Path, PathBuf};

use cargo_muscle::{pack, remove_signatures, sign, trust};
use referee_bundle::{Digest, NameScope, PartKind, ReadLimits, UnverifiedBundle};
use serde_json::Value;

use crate::{Desk, REJECTED, bundle, run, setup, text};

/// Runs a bundle and checks that it is refused by this name, in words and as JSON, with one record each time.
fn refused(desk: &Desk, more: &[&str], bundle: &Path, name: &str) {
    let recorded = refusals_recorded(desk, name);
    let mut arguments = more.to_vec();
    let bundle = text(bundle);
    arguments.push(&bundle);
    let words = desk.run(&arguments);
    assert_eq!(words.code, REJECTED, "{name}: {}", words.errors());
    assert!(
        words.errors().starts_with("rejected: "),
        "{name}: {}",
        words.errors()
    );
    assert!(
        words.errors().trim_end().ends_with(&format!("[{name}]")),
        "{name}: {}",
        words.errors()
    );
    arguments.insert(0, "--json");
    let json = desk.run(&arguments);
    assert_eq!(json.code, REJECTED, "{name}: {}", json.errors());
    let told: Value = serde_json::from_slice(&json.stderr).expect("one JSON value on standard error");
    assert_eq!(told.get("outcome").and_then(Value::as_str), Some("rejected"));
    assert_eq!(told.get("name").and_then(Value::as_str), Some(name), "{told}");
    assert!(
        told.get("message")
            .and_then(Value::as_str)
            .is_some_and(|message| message.len() > 10),
        "{told}"
    );
    for ended in [words, json] {
        assert!(ended.stdout.is_empty(), "{name}: {}", ended.output());
    }
    let log = fs::read_to_string(desk.path("audit.jsonl")).unwrap_or_default();
    assert!(!log.contains("\"start\""), "{name}: something started: {log}");
    assert_eq!(refusals_recorded(desk, name), recorded + 2, "{name}: {log}");
}

/// How many refusals of this name the desk's log has; the log must hold together.
fn refusals_recorded(desk: &Desk, name: &str) -> usize {
    let log = desk.path("audit.jsonl");
    if !log.exists() {
        return 0;
    }
    referee_audit::verify(&log).expect("verifies");
    let text = fs::read_to_string(log).expect("is there");
    let records = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"));
    records
        .filter(|record: &Value| {
            let is = |pointer, expected| record.pointer(pointer).and_then(Value::as_str) == Some(expected);
            is("/kind", "reject") && is("/detail/reason", name)
        })
        .count()
}

fn good() -> Vec<u8> {
    fs::read(bundle("baseline", "exit-seven")).expect("is there")
}

fn flipped(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 1;
    bytes
}

#[test]
fn the_bundle_that_all_others_are_made_of_runs() {
    let desk = Desk::new();
    let ended = desk.run(&[&text(&bundle("baseline", "exit-seven"))]);
    assert_eq!((ended.code, ended.errors().as_str()), (Some(7), ""));
}

#[test]
fn one_flipped_bit_of_the_image() {
    let desk = Desk::new();
    let good = good();
    let last = desk.write("last.muscle", &flipped(&good, good.len() - 1));
    refused(&desk, &[], &last, "part-digest-mismatch");
}

/// A bundle that is signed and sound but for its image, which is for another processor.
pub fn with_a_foreign_image(desk: &Desk) -> PathBuf {
    let good = good();
    let parsed = UnverifiedBundle::parse(&good, &ReadLimits::default()).expect("is well-formed");
    let workshop = &setup().workshop;
    let mut image = workshop
        .image(&workshop.guest("baseline", "exit-seven").expect("is there"))
        .expect("is built");
    // The ELF header's e_machine.
    image[18] ^= 0xff;
    let bundle = pack(parsed.manifest().clone(), &[(PartKind::Image, &image)]).expect("is made");
    let bundle = sign(&bundle, &workshop.publisher()).expect("is signed");
    desk.write("foreign.muscle", &bundle)
}

#[test]
fn a_signed_image_that_is_refused_once_confined() {
    let desk = Desk::new();
    let ended = desk.run(&[&text(&with_a_foreign_image(&desk))]);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert_eq!(refusals_recorded(&desk, "elf-header"), 1, "{}", ended.errors());
    let log = fs::read_to_string(desk.path("audit.jsonl")).expect("is there");
    let records: Vec<Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    let kinds: Vec<&str> = records
        .iter()
        .filter_map(|record| record["kind"].as_str())
        .collect();
    assert_eq!(kinds, ["start", "reject", "end"], "{log}");
    assert_eq!(
        records[2].pointer("/detail/how"),
        Some(&Value::from("rejected")),
        "{log}"
    );
}

#[test]
fn one_flipped_bit_of_the_manifest() {
    let desk = Desk::new();
    let good = good();
    let parsed = UnverifiedBundle::parse(&good, &ReadLimits::default()).expect("is well-formed");
    let manifest = parsed.manifest_bytes();
    let at = good
        .windows(manifest.len())
        .position(|window| window == manifest)
        .expect("is in it");
    // In the version's text, so that the manifest stays well-formed.
    let version = good[at..]
        .windows(5)
        .position(|window| window == b"0.1.0")
        .expect("has a version");
    let changed = desk.write("changed.muscle", &flipped(&good, at + version));
    refused(&desk, &[], &changed, "signature-invalid");
}

#[test]
fn one_flipped_bit_of_magic_and_length() {
    let desk = Desk::new();
    let good = good();
    refused(
        &desk,
        &[],
        &desk.write("magic.muscle", &flipped(&good, 0)),
        "wrong-magic",
    );
    refused(
        &desk,
        &[],
        &desk.write("short.muscle", &good[..good.len() - 1]),
        "truncated",
    );
    let mut longer = good;
    longer.push(0);
    refused(&desk, &[], &desk.write("long.muscle", &longer), "trailing-bytes");
}

#[test]
fn a_revoked_key() {
    let desk = Desk::new();
    let workshop = &setup().workshop;
    let draft = workshop.trust_draft().expect("a draft");
    let key = workshop.publisher().key_id().expect("a key");
    let store = trust::revoke_key(&draft, key).map(|draft| workshop.signed(draft).expect("is signed"));
    let store = desk.write("trust.store", &store.expect("is revoked"));
    refused(
        &desk,
        &["--trust", &text(&store)],
        &bundle("baseline", "exit-seven"),
        "signer-revoked",
    );
}

#[test]
fn a_revoked_bundle() {
    let desk = Desk::new();
    let workshop = &setup().workshop;
    let good = good();
    let draft = workshop.trust_draft().expect("a draft");
    let draft = trust::revoke_bundle(&draft, &[Digest::of(&good)]).expect("is revoked");
    let store = desk.write("trust.store", &workshop.signed(draft).expect("is signed"));
    refused(
        &desk,
        &["--trust", &text(&store)],
        &bundle("baseline", "exit-seven"),
        "bundle-revoked",
    );
}

#[test]
fn an_unknown_signer_and_none() {
    let desk = Desk::new();
    let unsigned = remove_signatures(&good()).expect("is well-formed");
    let strange = sign(&unsigned, &setup().workshop.stranger()).expect("is signed");
    refused(
        &desk,
        &[],
        &desk.write("strange.muscle", &strange),
        "signer-unknown",
    );
    refused(&desk, &[], &desk.write("unsigned.muscle", &unsigned), "unsigned");
}

#[test]
fn a_signer_outside_of_its_scope() {
    let desk = Desk::new();
    let workshop = &setup().workshop;
    let image = workshop
        .image(&workshop.guest("baseline", "exit-seven").expect("is there"))
        .expect("is built");
    let foreign =
        cargo_muscle::assemble(cargo_muscle::empty_manifest("elsewhere.exit"), &image).expect("is made");
    let foreign = sign(&foreign, &workshop.publisher()).expect("is signed");
    refused(
        &desk,
        &[],
        &desk.write("foreign.muscle", &foreign),
        "signer-out-of-scope",
    );
    assert!(NameScope::parse("hostile.*").is_some_and(|scope| !scope.covers("elsewhere.exit")));
}

#[test]
fn a_trust_store_that_is_none() {
    let desk = Desk::new();
    let good = bundle("baseline", "exit-seven");
    let unsigned = desk.write(
        "unsigned.store",
        &setup().workshop.trust_draft().expect("a draft"),
    );
    refused(&desk, &["--trust", &text(&unsigned)], &good, "root-signatures");
    let missing = desk.path("missing.store");
    refused(&desk, &["--trust", &text(&missing)], &good, "unreadable");
    refused(
        &desk,
        &["--trust", &text(desk.folder.path())],
        &good,
        "not-a-file",
    );
}

#[test]
fn a_bundle_that_is_none() {
    let desk = Desk::new();
    refused(&desk, &[], &desk.path("missing.muscle"), "unreadable");
    refused(&desk, &[], desk.folder.path(), "not-a-file");
    refused(&desk, &[], &desk.write("empty.muscle", b""), "truncated");
    refused(
        &desk,
        &["--max-bundle-bytes", "4096"],
        &bundle("baseline", "exit-seven"),
        "too-large",
    );
}

#[test]
fn an_unbound_slot() {
    let desk = Desk::new();
    refused(&desk, &[], &bundle("files", "dot-dot"), "slot-unbound");
}

#[test]
fn bindings_that_do_not_fit() {
    let desk = Desk::new();
    let folder = text(desk.folder.path());
    let files = bundle("files", "dot-dot");
    refused(&desk, &["--bind", "dir=serial:stdout"], &files, "wrong-thing");
    refused(
        &desk,
        &["--bind", &format!("dir=dir:{folder}:ro")],
        &files,
        "bound-read-only",
    );
    let twice = format!("dir=dir:{folder}:rw");
    refused(
        &desk,
        &["--bind", &twice, "--bind", &twice],
        &files,
        "bound-twice",
    );
    let exit = bundle("baseline", "exit-seven");
    refused(
        &desk,
        &["--bind", &format!("other=dir:{folder}:ro")],
        &exit,
        "no-such-slot",
    );
    let console = bundle("baseline", "console-out");
    refused(
        &desk,
        &["--bind", &format!("console=dir:{folder}:ro")],
        &console,
        "not-bindable",
    );
}

#[test]
fn what_policy_forbids_or_does_not_permit() {
    let desk = Desk::new();
    let files = bundle("files", "dot-dot");
    refused(&desk, &["--bind", "dir=dir:/etc:rw"], &files, "forbidden");
    let nothing = desk.write("nothing.cedar", b"");
    let console = bundle("baseline", "console-out");
    refused(&desk, &["--policy", &text(&nothing)], &console, "not-permitted");
    let broken = desk.write("broken.cedar", b"permit (everything);");
    refused(&desk, &["--policy", &text(&broken)], &console, "policy-invalid");
}

#[test]
fn the_wrong_verb_for_a_style() {
    let desk = Desk::new();
    refused(&desk, &[], &bundle("reactor", "answers"), "wrong-style");
}

#[test]
fn refusals_of_policy_are_in_the_log_and_it_verifies() {
    let desk = Desk::new();
    refused(&desk, &[], &bundle("files", "dot-dot"), "slot-unbound");
    let log = desk.path("audit.jsonl");
    referee_audit::verify(&log).expect("verifies");
    let records = fs::read_to_string(&log).expect("is there");
    assert_eq!(records.matches("\"reject\"").count(), 2, "{records}");
    assert!(records.contains("slot-unbound"), "{records}");
}

#[test]
fn the_record_of_an_unverified_bundle_names_its_path_and_no_muscle() {
    let desk = Desk::new();
    let good = good();
    let last = desk.write("last.muscle", &flipped(&good, good.len() - 1));
    let last = text(&last);
    // `call` refuses as `run` does.
    let mut arguments = vec!["call".to_owned()];
    arguments.extend(desk.options());
    arguments.extend([last.clone(), "f".to_owned(), "[]".to_owned()]);
    let ended = setup().program.run(arguments).expect("ends");
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    let log = desk.path("audit.jsonl");
    let records = fs::read_to_string(&log).expect("is there");
    let records: Vec<Value> = records
        .lines()
        .map(|line| serde_json::from_str(line).expect("is JSON"))
        .collect();
    let [record] = records.as_slice() else {
        panic!("one record: {records:?}");
    };
    let field = |pointer| {
        record
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or("absent")
    };
    assert_eq!(field("/kind"), "reject");
    assert_eq!(field("/detail/reason"), "part-digest-mismatch");
    assert_eq!(field("/muscle"), "");
    assert!(field("/detail/message").contains(&last), "{record}");
    let verified = run(&["audit", "verify", &text(&log)]);
    assert_eq!(verified.code, Some(0), "{}", verified.errors());
}

#[test]
fn a_log_that_cannot_be_written_takes_the_refusals_place() {
    let desk = Desk::new();
    let empty = desk.write("empty.muscle", b"");
    fs::create_dir(desk.path("audit.jsonl")).expect("is made");
    let ended = desk.run(&[&text(&empty)]);
    assert_eq!(ended.code, Some(104), "{}", ended.errors());
    assert!(ended.errors().contains("audit log"), "{}", ended.errors());
}

#[test]
fn rejects_an_end_of_a_ring_that_nobody_joins_to_another() {
    let desk = Desk::new();
    for name in ["sends", "peeks"] {
        refused(&desk, &[], &bundle("ring", name), "ring-not-joined");
    }
}

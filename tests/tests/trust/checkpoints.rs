//! The audit log as a tree: checkpoints that its end cannot be cut off behind, proofs without the log, and a witness in a process of its own.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use referee_attest::Request;
use referee_tests::Ended;

use crate::commands::{Desk, assert_ends, workshop};
use crate::crashes::{killed_after, rounds};
use crate::host::{Host, programs};
use crate::receipts::{NONCE, evidence};

const ORIGIN: &str = "example.com/desk";

/// A host that keeps a log, publishes it, and has somebody who checks.
struct Rig {
    desk: Desk,
    log: String,
    tiles: String,
}

impl Rig {
    fn new() -> Rig {
        let desk = Desk::new();
        assert_ends(&desk.vmm(&["tpm", "init"], &[]), 0);
        let (log, tiles) = (desk.file("audit.jsonl"), desk.file("tiles"));
        Rig { desk, log, tiles }
    }

    fn run(&self) {
        let guest = workshop().guest("baseline", "exit-zero").expect("is there");
        let bundle = workshop().bundle(&guest).expect("is built").display().to_string();
        assert_ends(&self.desk.vmm(&["run"], &["--audit", &self.log, &bundle]), 0);
    }

    fn checkpoint(&self) -> Ended {
        let words = [&self.log, "--tiles", &self.tiles, "--origin", ORIGIN];
        self.desk.vmm(&["audit", "checkpoint"], &words)
    }

    /// Evidence and reference of now, as options of `referee-verify`.
    fn vouched(&self) -> Vec<String> {
        let (evidence, reference) = evidence(&self.desk);
        let words = [
            "--evidence",
            &evidence,
            "--nonce",
            NONCE,
            "--reference",
            &reference,
        ];
        words.map(str::to_owned).into()
    }

    fn tile(&self, name: &str) -> String {
        format!("{}/{name}", self.tiles)
    }

    /// `referee-verify log` with all that was published.
    fn verify_log(&self, vouched: &[String], more: &[&str]) -> Ended {
        let (checkpoint, anchor, keys) = (
            self.tile("checkpoint"),
            self.tile("checkpoint.anchor"),
            self.tile("keys"),
        );
        let words = [
            "log",
            &self.log,
            "--checkpoint",
            &checkpoint,
            "--anchor",
            &anchor,
            "--log-keys",
            &keys,
        ];
        verify(
            &[
                &words[..],
                &vouched.iter().map(String::as_str).collect::<Vec<_>>(),
                more,
            ]
            .concat(),
        )
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).expect("is there");
        text.lines().map(str::to_owned).collect()
    }
}

fn verify(words: &[&str]) -> Ended {
    programs().verify.run(words).expect("ends")
}

/// Names of what fails, in order.
fn failures(ended: &Ended) -> Vec<String> {
    let text = assert_ends(ended, 1);
    let failing = |line: &str| Some(line.strip_prefix("FAILS")?.split_whitespace().next()?.to_owned());
    text.lines().filter_map(failing).collect()
}

#[test]
fn a_log_is_published_signed_anchored_and_proved() {
    let rig = Rig::new();
    rig.run();
    let first = assert_ends(&rig.checkpoint(), 0);
    assert!(
        first.starts_with(&format!("{ORIGIN}\n{}\n", rig.lines().len())),
        "{first}"
    );
    fs::copy(rig.tile("checkpoint"), rig.desk.file("older")).expect("is copied");
    rig.run();
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    let vouched = rig.vouched();
    let text = assert_ends(&rig.verify_log(&vouched, &[]), 0);
    for check in ["checkpoint", "log-signature", "log-cosignature", "tree", "anchor"] {
        assert!(text.contains(&format!("holds  {check} ")), "{check}: {text}");
    }
    let vouched: Vec<&str> = vouched.iter().map(String::as_str).collect();
    let (older, newer, keys) = (rig.desk.file("older"), rig.tile("checkpoint"), rig.tile("keys"));
    let words = [
        &[
            "consistency",
            &older,
            &newer,
            "--tiles",
            &rig.tiles,
            "--log-keys",
            &keys,
        ][..],
        &vouched,
    ]
    .concat();
    assert_ends(&verify(&words), 0);
    let (record, proof) = (rig.desk.file("record"), rig.desk.file("proof"));
    for (number, line) in rig.lines().iter().enumerate() {
        let number = number.to_string();
        let words = ["--tiles", &rig.tiles, "-o", &proof];
        assert_ends(
            &programs()
                .vmm
                .run([&["audit", "prove", &number], &words[..]].concat())
                .expect("ends"),
            0,
        );
        fs::write(&record, format!("{line}\n")).expect("is written");
        let words = [&["inclusion", &record, &proof, "--log-keys", &keys][..], &vouched].concat();
        assert_ends(&verify(&words), 0);
        fs::write(&record, line.replace("exit-zero", "exit-nero")).expect("is written");
        assert_eq!(failures(&verify(&words)), ["inclusion"]);
    }
}

#[test]
fn a_log_that_was_rotated_is_published_as_one() {
    let rig = Rig::new();
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    let rotate = || {
        assert_ends(
            &programs().vmm.run(["audit", "rotate", &rig.log]).expect("ends"),
            0,
        )
    };
    let archive = rotate();
    assert_eq!(rig.lines().len(), 1);
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    let vouched = rig.vouched();
    assert_ends(&rig.verify_log(&vouched, &[]), 0);
    // What was moved must lie beside it.
    fs::rename(archive.trim(), rig.desk.file("away")).expect("is moved");
    assert!(assert_ends(&rig.checkpoint(), 104).contains("must lie beside it"));
    let text = assert_ends(
        &programs().vmm.run(["audit", "verify", &rig.log]).expect("ends"),
        0,
    );
    assert!(text.contains("moved away and are not beside it"), "{text}");
    fs::rename(rig.desk.file("away"), archive.trim()).expect("is moved");
    assert_ends(&rig.checkpoint(), 0);
}

#[test]
fn an_end_that_is_cut_off_contradicts_everything_that_was_signed() {
    let rig = Rig::new();
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    let whole = rig.lines();
    let cut: String = whole
        .iter()
        .take(whole.len() - 1)
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&rig.log, &cut).expect("is written");
    let vouched = rig.vouched();
    assert_eq!(failures(&rig.verify_log(&vouched, &[])), ["tree"]);
    assert!(assert_ends(&rig.checkpoint(), 101).contains("[audit-log-cut]"));
    // With what was published gone too, the TPM's process still knows.
    fs::rename(&rig.tiles, rig.desk.file("elsewhere")).expect("is moved");
    assert!(assert_ends(&rig.checkpoint(), 101).contains("[audit-log-rolled-back]"));
    // Nor does it help to let the log grow beyond the cut.
    rig.run();
    assert!(rig.lines().len() > whole.len());
    assert!(assert_ends(&rig.checkpoint(), 101).contains("[audit-log-rolled-back]"));
    fs::remove_dir_all(&rig.tiles).expect("is there");
    fs::rename(rig.desk.file("elsewhere"), &rig.tiles).expect("is moved");
    assert!(assert_ends(&rig.checkpoint(), 101).contains("[audit-log-rewritten]"));
    assert_eq!(failures(&rig.verify_log(&vouched, &[])), ["tree"]);
}

#[test]
fn signatures_keys_and_anchors_of_others_are_noticed() {
    let (rig, other) = (Rig::new(), Rig::new());
    for host in [&rig, &other] {
        host.run();
        assert_ends(&host.checkpoint(), 0);
    }
    let vouched = rig.vouched();
    assert_ends(&rig.verify_log(&vouched, &[]), 0);
    let swapped = |name: &str| {
        let own = fs::read(rig.tile(name)).expect("is there");
        fs::copy(other.tile(name), rig.tile(name)).expect("is copied");
        let found = failures(&rig.verify_log(&vouched, &[]));
        fs::write(rig.tile(name), own).expect("is written");
        found
    };
    assert_eq!(
        swapped("checkpoint"),
        ["log-signature", "log-cosignature", "tree", "anchor"]
    );
    assert_eq!(swapped("checkpoint.anchor"), ["anchor"]);
    assert_eq!(swapped("keys"), ["log-cosignature"]);
    // A signature taken away.
    let note = fs::read_to_string(rig.tile("checkpoint")).expect("is there");
    let kept: Vec<&str> = note.lines().collect();
    let without = |line: usize| {
        let lines = kept.iter().enumerate().filter(|(number, _)| *number != line);
        let text: String = lines.map(|(_, line)| format!("{line}\n")).collect();
        fs::write(rig.tile("checkpoint"), text).expect("is written");
        failures(&rig.verify_log(&vouched, &[]))
    };
    assert_eq!(without(4), ["log-signature"]);
    assert_eq!(without(5), ["log-cosignature"]);
    // An older checkpoint of this very log: sound, but its anchor is not the newest one's.
    fs::write(rig.tile("checkpoint"), &note).expect("is written");
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    assert_ends(&rig.verify_log(&vouched, &[]), 0);
    fs::write(rig.tile("checkpoint"), &note).expect("is written");
    assert_eq!(failures(&rig.verify_log(&vouched, &[])), ["anchor"]);
}

#[test]
fn after_a_rotation_the_log_goes_on_under_the_new_key() {
    let rig = Rig::new();
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    fs::copy(rig.tile("checkpoint"), rig.desk.file("older")).expect("is copied");
    assert_ends(&rig.desk.vmm(&["tpm", "rotate"], &[]), 0);
    // The reference is of after the rotation, and wants the counter to have been there.
    let vouched = rig.vouched();
    assert_eq!(
        failures(&rig.verify_log(&vouched, &[])),
        ["log-signature", "log-cosignature", "anchor"]
    );
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    assert_ends(&rig.verify_log(&vouched, &[]), 0);
    let (older, newer) = (rig.desk.file("older"), rig.tile("checkpoint"));
    let words: Vec<&str> = ["consistency", &older, &newer, "--tiles", &rig.tiles]
        .into_iter()
        .chain(vouched.iter().map(String::as_str))
        .collect();
    assert_ends(&verify(&words), 0);
}

#[test]
fn a_disk_that_was_put_back_is_noticed() {
    let rig = Rig::new();
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    let copy = rig.desk.file("copy");
    // All but the TPM itself: the log, what was published, and what is beside the TPM.
    let kept = [rig.log.clone(), rig.tiles.clone(), rig.desk.file("tpm/referee")];
    fs::create_dir(&copy).expect("is made");
    let copied = |from: &str, to: &str| {
        assert!(
            Command::new("cp")
                .args(["-a", from, to])
                .status()
                .expect("runs")
                .success()
        );
    };
    for path in &kept {
        copied(path, &copy);
    }
    rig.run();
    assert_ends(&rig.checkpoint(), 0);
    for path in &kept {
        let name = path.rsplit('/').next().expect("has one");
        let _ = fs::remove_dir_all(path);
        let _ = fs::remove_file(path);
        copied(&format!("{copy}/{name}"), path);
    }
    let text = assert_ends(&rig.checkpoint(), 104);
    assert!(text.contains("[state-rolled-back]"), "{text}");
}

/// A witness in a process of its own.
fn witness(desk: &Desk, request: &[u8], log: &[String]) -> Output {
    let mut command = Command::new(programs().verify.path());
    command.args([
        "witness",
        "--secret",
        &desk.file("witness.key"),
        "--memory",
        &desk.file("seen"),
    ]);
    for key in log {
        command.args(["--log", key]);
    }
    piped(command, request)
}

fn piped(mut command: Command, input: &[u8]) -> Output {
    let mut process = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("starts");
    process
        .stdin
        .take()
        .expect("is a pipe")
        .write_all(input)
        .expect("is written");
    process.wait_with_output().expect("ends")
}

#[test]
fn a_witness_cosigns_growth_and_nothing_else() {
    let rig = Rig::new();
    let secret = rig.desk.file("witness.key");
    let public = assert_ends(
        &verify(&["witness-key", "witness.example/w1", "--secret", &secret]),
        0,
    );
    assert_ends(
        &verify(&["witness-key", "witness.example/w1", "--secret", &secret]),
        2,
    );
    let keys: Vec<&str> = public.lines().collect();
    assert_eq!(keys.len(), 2);
    let request = |old: &str| {
        let words = ["audit", "witness-request", "--tiles", &rig.tiles, "--old", old];
        let ended = programs().vmm.run(words).expect("ends");
        assert_ends(&ended, 0);
        ended.stdout
    };
    let cosign = |answer: &[u8]| {
        let mut command = Command::new(programs().vmm.path());
        command.args([
            "audit",
            "cosign",
            "--tiles",
            &rig.tiles,
            "--witness",
            keys[0],
            "--witness",
            keys[1],
        ]);
        piped(command, answer)
    };
    let mut seen = "0".to_owned();
    for _ in 0..2 {
        rig.run();
        assert_ends(&rig.checkpoint(), 0);
        let log = [fs::read_to_string(rig.tile("keys"))
            .expect("is there")
            .lines()
            .next()
            .expect("has one")
            .to_owned()];
        let answer = witness(&rig.desk, &request(&seen), &log);
        assert!(
            answer.status.success(),
            "{}",
            String::from_utf8_lossy(&answer.stderr)
        );
        assert!(cosign(&answer.stdout).status.success());
        seen = rig.lines().len().to_string();
        let vouched = rig.vouched();
        let text = assert_ends(
            &rig.verify_log(&vouched, &["--witness", keys[0], "--witness", keys[1]]),
            0,
        );
        assert_eq!(text.matches("holds  witness ").count(), 2, "{text}");
        // Somebody who asks for less than it saw is told how much that was.
        let answer = witness(&rig.desk, &request("0"), &log);
        assert_eq!(answer.status.code(), Some(1));
        assert_eq!(String::from_utf8_lossy(&answer.stdout), format!("{seen}\n"));
        assert!(!cosign(&answer.stdout).status.success(), "no signature in it");
    }
    // Another log under the same name, by a host that has the name but not the past.
    let other = Rig::new();
    other.run();
    other.run();
    other.run();
    assert_ends(&other.checkpoint(), 0);
    let log = [fs::read_to_string(other.tile("keys"))
        .expect("is there")
        .lines()
        .next()
        .expect("has one")
        .to_owned()];
    let words = [
        "audit",
        "witness-request",
        "--tiles",
        &other.tiles,
        "--old",
        &seen,
    ];
    let forged = programs().vmm.run(words).expect("ends").stdout;
    let answer = witness(&rig.desk, &forged, &log);
    assert_eq!(answer.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&answer.stderr).contains("status 422"),
        "{answer:?}"
    );
    assert!(
        String::from_utf8_lossy(&witness(&rig.desk, &forged, &[keys[0].into()]).stderr)
            .contains("status 404")
    );
}

/// Killed at any step: the next checkpoint is signed, and says no less than what was signed before.
#[test]
fn signing_killed_anywhere_can_be_done_again() {
    use referee_tlog::{Leaves, consistency};
    let host = Host::ready();
    let mut leaves = Leaves::default();
    let hex = |bytes: &[u8; 32]| referee_evidence::to_hex(bytes);
    let request = |leaves: &Leaves, old: u64| {
        let head = leaves.head().expect("is whole");
        let proof = consistency(leaves, old, head.size).expect("is there");
        Request::Checkpoint {
            origin: ORIGIN.into(),
            size: head.size,
            root: hex(&head.root.0),
            proof: proof.iter().map(|hash| hex(&hash.0)).collect(),
        }
    };
    let floor = |host: &Host| match host
        .ask(&Request::LogFloor {
            origin: ORIGIN.into(),
        })
        .expect("is answered")
    {
        referee_attest::Reply::LogFloor { size, .. } => size,
        other => panic!("{other:?}"),
    };
    leaves.push(b"record");
    let usual = std::time::Instant::now();
    host.ask(&request(&leaves, 0)).expect("is signed");
    let usual = usual.elapsed();
    for round in 0..rounds() / 10 {
        let before = floor(&host);
        leaves.push(&round.to_be_bytes());
        killed_after(
            &host,
            &request(&leaves, before),
            usual * (round * 389 % 1000) / 1000,
        );
        let after = floor(&host);
        assert!(after == before || after == leaves.size(), "{before} {after}");
    }
    host.ask(&request(&leaves, floor(&host))).expect("is signed");
    assert_eq!(floor(&host), leaves.size());
}

//! The whole way through the real programs: measured, run, attested, verified; and refused.

use std::path::Path;
use std::sync::OnceLock;

use referee_tests::{Ended, Workshop};

use crate::host::programs;

pub struct Desk {
    folder: tempfile::TempDir,
}

pub fn workshop() -> &'static Workshop {
    static WORKSHOP: OnceLock<Workshop> = OnceLock::new();
    WORKSHOP.get_or_init(|| Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR"))).expect("a workshop"))
}

impl Desk {
    pub fn new() -> Desk {
        Desk {
            folder: tempfile::tempdir().expect("a folder"),
        }
    }

    pub fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    pub fn vmm(&self, words: &[&str], more: &[&str]) -> Ended {
        let tpm = format!("swtpm:{}", self.file("tpm"));
        let trust = workshop().trust_store().display().to_string();
        let options = ["--tpm", &tpm, "--trust", &trust];
        programs()
            .vmm
            .run(words.iter().chain(&options).chain(more))
            .expect("ends")
    }

    fn run(&self, more: &[&str]) -> Ended {
        let guest = workshop().guest("baseline", "exit-zero").expect("is there");
        let bundle = workshop().bundle(&guest).expect("is built").display().to_string();
        let audit = self.file("audit.jsonl");
        self.vmm(&["run"], &[&["--audit", &audit][..], more, &[&bundle]].concat())
    }
}

#[track_caller]
pub fn assert_ends(ended: &Ended, code: i32) -> String {
    let text = String::from_utf8_lossy(&ended.stdout).into_owned() + &ended.errors();
    assert_eq!(ended.code, Some(code), "{text}");
    text
}

#[test]
fn measured_run_attested_verified() {
    let desk = Desk::new();
    assert_ends(&desk.vmm(&["tpm", "init"], &[]), 0);
    assert_ends(&desk.run(&[]), 0);
    let log = std::fs::read_to_string(desk.file("audit.jsonl")).expect("is there");
    let kinds: Vec<&str> = ["\"measure\"", "\"start\"", "\"end\""]
        .into_iter()
        .filter(|kind| log.contains(kind))
        .collect();
    assert_eq!(kinds.len(), 3, "{log}");
    assert!(log.find("\"measure\"") < log.find("\"start\""), "measured first");
    let nonce = "00112233445566778899aabbccddeeff";
    let reference = assert_ends(&desk.vmm(&["tpm", "reference"], &[]), 0);
    std::fs::write(desk.file("reference.toml"), &reference).expect("is written");
    let (evidence, audit) = (desk.file("evidence"), desk.file("audit.jsonl"));
    assert_ends(
        &desk.vmm(
            &["attest"],
            &["--nonce", nonce, "--audit", &audit, "-o", &evidence],
        ),
        0,
    );
    let verify = |nonce: &str| {
        let reference = desk.file("reference.toml");
        let words = ["evidence", &evidence, "--nonce", nonce, "--reference", &reference];
        programs().verify.run(words).expect("ends")
    };
    assert!(assert_ends(&verify(nonce), 0).contains("everything holds"));
    assert!(assert_ends(&verify("ff112233445566778899aabbccddeeff"), 1).contains("FAILS  nonce"));
    assert!(assert_ends(&verify("0011"), 2).contains("a nonce has 16 to 64"));
}

#[test]
fn what_cannot_be_measured_does_not_run() {
    let desk = Desk::new();
    assert_ends(&desk.run(&[]), 0);
    // Another policy in the same boot.
    let policy = desk.file("other.cedar");
    std::fs::write(&policy, "@id(\"all\")\npermit(principal, action, resource);\n").expect("is written");
    let records = || {
        std::fs::read_to_string(desk.file("audit.jsonl"))
            .expect("is there")
            .matches("\"start\"")
            .count()
    };
    let before = records();
    let text = assert_ends(&desk.run(&["--policy", &policy]), 104);
    assert!(
        text.contains("another policy") && text.contains("[identity-differs]"),
        "{text}"
    );
    let text = assert_ends(&desk.run(&["--tpm-state", "/dev/null/x"]), 104);
    assert!(text.contains("[tpm-state]"), "{text}");
    let text = assert_ends(&desk.run(&["--identity-pcr", "16"]), 104);
    assert!(text.contains("[register-resettable]"), "{text}");
    assert_eq!(records(), before, "something ran");
    // As after a restart of the host, the other policy is measured, and runs.
    assert_ends(&desk.vmm(&["tpm", "restart"], &[]), 0);
    assert_ends(&desk.run(&["--policy", &policy]), 0);
}

#[test]
fn each_command_says_what_is_missing() {
    let desk = Desk::new();
    let no_tpm = programs().vmm.run(["tpm", "status"]).expect("ends");
    assert!(assert_ends(&no_tpm, 104).contains("--tpm device:/dev/tpmrm0"));
    let text = assert_ends(&desk.vmm(&["tpm", "status"], &[]), 104);
    assert!(
        text.contains("referee-vmm tpm init") && text.contains("[tpm-not-initialised]"),
        "{text}"
    );
    let text = assert_ends(&desk.vmm(&["attest"], &["--nonce", "00", "-o", "/dev/null"]), 100);
    assert!(text.contains("16 to 64 bytes"), "{text}");
    let hardware = programs()
        .vmm
        .run(["tpm", "restart", "--tpm", "device:/dev/tpmrm0"])
        .expect("ends");
    assert!(assert_ends(&hardware, 104).contains("restart the host"));
}

#[test]
fn an_update_of_the_policy_is_prepared_and_keeps_the_key() {
    let desk = Desk::new();
    let first = assert_ends(&desk.vmm(&["tpm", "init"], &[]), 0);
    let policy = desk.file("other.cedar");
    std::fs::write(&policy, "@id(\"all\")\npermit(principal, action, resource);\n").expect("is written");
    let program = programs().vmm.path().display().to_string();
    let words = ["--next-program", &program, "--next-policy", &policy];
    assert_eq!(
        assert_ends(&desk.vmm(&["tpm", "prepare-update"], &words), 0),
        first
    );
    assert_ends(&desk.vmm(&["tpm", "restart"], &[]), 0);
    let text = assert_ends(&desk.vmm(&["tpm", "status"], &["--policy", &policy]), 0);
    let key = first.trim().rsplit(' ').next().expect("has a key");
    assert!(text.contains(key), "{first}{text}");
    assert_ends(&desk.vmm(&["tpm", "restart"], &[]), 0);
    let text = assert_ends(&desk.vmm(&["tpm", "status"], &[]), 104);
    assert!(text.contains("[key-closed]"), "{text}");
}

/// What stands between three backticks and `sh`, and the next three backticks.
fn shell_blocks(page: &str) -> Vec<&str> {
    page.split("```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

/// Runs all commands of a page, one after the other, in a new directory with a bundle, a trust store and certificates.
fn run_page(name: &str, before: &str) -> String {
    let desk = Desk::new();
    let maker: String = crate::enrolment::authority()
        .iter()
        .map(|path| std::fs::read_to_string(path).expect("is there"))
        .collect();
    let guest = workshop().guest("baseline", "exit-zero").expect("is there");
    std::fs::copy(
        workshop().bundle(&guest).expect("is built"),
        desk.file("hello.muscle"),
    )
    .expect("is copied");
    std::fs::copy(workshop().trust_store(), desk.file("trust.store")).expect("is copied");
    std::fs::write(desk.file("maker.pem"), maker).expect("is written");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    let page = std::fs::read_to_string(page).expect("is there");
    // An update that was unpacked is this very program.
    let this = programs().vmm.path().display().to_string();
    let script = before.to_owned()
        + &shell_blocks(&page)
            .concat()
            .replace("/usr/lib/referee/new/referee-vmm", &this);
    let programs = programs()
        .vmm
        .path()
        .parent()
        .expect("is in a folder")
        .display()
        .to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let output = std::process::Command::new("bash")
        .args(["-euc", &script])
        .current_dir(desk.file(""))
        .env("PATH", format!("{programs}:{path}"))
        .output()
        .expect("bash is there");
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
fn the_commands_of_the_page_on_attestation_work() {
    let text = run_page("attestation.md", "");
    assert!(text.contains("everything holds"), "{text}");
}

#[test]
fn the_commands_of_the_page_on_keys_work() {
    let before = format!(
        "export REFEREE_TPM=swtpm:$PWD/tpm REFEREE_TRUST=trust.store\n\
         referee-vmm tpm init\n\
         mkdir new-policies; cp {}/../policies/*.cedar new-policies/; cp trust.store new.store\n",
        env!("CARGO_MANIFEST_DIR")
    );
    let text = run_page("keys.md", &before);
    assert!(text.contains("epoch "), "{text}");
}

#[test]
fn the_commands_of_the_page_on_the_audit_log_work() {
    let text = run_page(
        "audit.md",
        "export REFEREE_TPM=swtpm:$PWD/tpm REFEREE_TRUST=trust.store\n",
    );
    assert_eq!(text.matches("everything holds").count(), 4, "{text}");
}

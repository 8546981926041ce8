//! A muscle that speaks in evidence, and a secret that it is told because of it: two processes, one on each side.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdout, Stdio};

use referee_tests::{Ended, shop};

use crate::commands::assert_ends;
use crate::host::programs;

const NONCE: &str = "00112233445566778899aabbccddeeff";

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A host whose TPM has a key.
    fn new() -> Place {
        let place = Place {
            folder: tempfile::tempdir().expect("a folder"),
        };
        assert_ends(&place.vmm(&["tpm", "init"]), 0);
        place
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn options(&self) -> [String; 4] {
        let trust = shop().expect("builds").join("trust.store").display().to_string();
        [
            "--tpm".into(),
            format!("swtpm:{}", self.file("tpm")),
            "--trust".into(),
            trust,
        ]
    }

    fn vmm(&self, words: &[&str]) -> Ended {
        let words = words.iter().map(|word| (*word).to_owned()).chain(self.options());
        programs().vmm.run(words).expect("ends")
    }

    /// Starts the muscle and has it introduce itself.
    fn meet(&self) -> Met {
        let mut words = vec!["run".to_owned(), "--audit".into(), self.file("audit.jsonl")];
        words.extend(self.options());
        words.push(
            shop()
                .expect("builds")
                .join("confidant.muscle")
                .display()
                .to_string(),
        );
        let mut child = programs()
            .vmm
            .command(words)
            .stdin(Stdio::piped())
            .spawn()
            .expect("starts");
        let output = BufReader::new(child.stdout.take().expect("is a pipe"));
        let mut met = Met { child, output };
        met.say(NONCE);
        met
    }

    /// Verifies what it said, and seals a secret to it if everything holds.
    fn verify(&self, evidence: &str, nonce: &str, to: &str) -> Ended {
        let reference = assert_ends(&self.vmm(&["tpm", "reference"]), 0);
        std::fs::write(self.file("reference.toml"), reference).expect("is written");
        let bytes = referee_evidence::from_hex(evidence).expect("is hexadecimal");
        std::fs::write(self.file("evidence"), bytes).expect("is written");
        std::fs::write(self.file("secret"), "the secret").expect("is written");
        let _ = std::fs::remove_file(self.file("sealed"));
        let words = [
            "evidence",
            &self.file("evidence"),
            "--nonce",
            nonce,
            "--reference",
            &self.file("reference.toml"),
            "--secret",
            &self.file("secret"),
            "--sealed",
            &self.file("sealed"),
            "--to",
            to,
            "--json",
        ];
        programs().verify.run(words).expect("ends")
    }

    fn sealed(&self) -> Option<String> {
        std::fs::read_to_string(self.file("sealed")).ok()
    }
}

/// A muscle that is running.
struct Met {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Met {
    fn say(&mut self, line: &str) {
        let input = self.child.stdin.as_mut().expect("is a pipe");
        writeln!(input, "{}", line.trim()).expect("is read");
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("is text");
        line.trim().to_owned()
    }

    fn ends(mut self) -> Ended {
        drop(self.child.stdin.take());
        Ended::of(self.child).expect("ends")
    }
}

#[test]
fn a_secret_reaches_the_muscle_that_evidence_vouches_for_and_no_other() {
    let place = Place::new();
    let (mut met, mut other) = (place.meet(), place.meet());
    let (evidence, _) = (met.hear(), other.hear());
    let ended = place.verify(&evidence, NONCE, "confidant");
    let text = assert_ends(&ended, 0);
    // Who it is, the VMM says: name, and the very file.
    let value: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
    let spoke = value["spoke"]
        .as_object()
        .and_then(|spoke| spoke.values().next())
        .expect("one spoke");
    let file = std::fs::read(shop().expect("builds").join("confidant.muscle")).expect("is there");
    assert_eq!(spoke["muscle"], "confidant 0.1.0");
    assert_eq!(spoke["bundle"], referee_bundle::Digest::of(&file).to_string());
    assert_eq!(spoke["user_data"], referee_evidence::to_hex(b"confidant"));
    let sealed = place.sealed().expect("is sealed");
    // The same bundle in another cell has another key.
    other.say(&sealed);
    let ended = other.ends();
    assert_ne!(ended.code, Some(0));
    assert!(
        ended.errors().contains("sealed to another key"),
        "{}",
        ended.errors()
    );
    met.say(&sealed);
    let answer = met.hear();
    let expected = std::process::Command::new("bash")
        .args(["-c", &format!("printf %b \"$(sed 's/../\\\\x&/g' <<< {NONCE})\" | openssl dgst -sha256 -hmac 'the secret' -r")])
        .output()
        .expect("openssl is installed");
    let expected = String::from_utf8_lossy(&expected.stdout).into_owned();
    assert_eq!(expected.split(' ').next(), Some(answer.as_str()));
    assert_ends(&met.ends(), 0);
    // Neither the log nor anything beside the TPM has the secret.
    for folder in [
        place.folder.path().to_owned(),
        place.folder.path().join("tpm"),
        place.folder.path().join("tpm/referee"),
    ] {
        for entry in std::fs::read_dir(folder).expect("is there") {
            let path = entry.expect("is there").path();
            if path.is_file() && !path.ends_with("secret") {
                let bytes = std::fs::read(&path).unwrap_or_default();
                assert!(
                    !bytes.windows(10).any(|window| window == b"the secret"),
                    "{}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn nothing_is_sealed_unless_everything_holds_and_the_name_fits() {
    let place = Place::new();
    let mut met = place.meet();
    let evidence = met.hear();
    assert_ends(
        &place.verify(&evidence, "ff112233445566778899aabbccddeeff", "confidant"),
        1,
    );
    assert_eq!(place.sealed(), None);
    let text = assert_ends(&place.verify(&evidence, NONCE, "another"), 2);
    assert!(text.contains("not exactly one muscle `another` speaks"), "{text}");
    assert_eq!(place.sealed(), None);
    // Evidence in which nobody speaks.
    assert_ends(
        &place.vmm(&["attest", "--nonce", NONCE, "-o", &place.file("plain")]),
        0,
    );
    let plain = referee_evidence::to_hex(&std::fs::read(place.file("plain")).expect("is there"));
    assert_ends(&place.verify(&plain, NONCE, "confidant"), 2);
    assert_eq!(place.sealed(), None);
    met.ends();
}

#[test]
fn a_tpm_that_fails_meanwhile_is_an_answer_to_the_muscle_and_no_hang() {
    let place = Place::new();
    let mut words = vec!["run".to_owned(), "--audit".into(), place.file("audit.jsonl")];
    words.extend(place.options());
    words.push(
        shop()
            .expect("builds")
            .join("confidant.muscle")
            .display()
            .to_string(),
    );
    let child = programs()
        .vmm
        .command(words)
        .stdin(Stdio::piped())
        .spawn()
        .expect("starts");
    let mut child = child;
    let mut met = Met {
        output: BufReader::new(child.stdout.take().expect("is a pipe")),
        child,
    };
    // Started: it waits for the nonce. Then the log of the boot is gone.
    while !std::fs::read_to_string(place.file("audit.jsonl"))
        .unwrap_or_default()
        .contains("\"start\"")
    {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::write(place.file("tpm/referee/boot.cel"), b"").expect("is written");
    met.say(NONCE);
    assert_eq!(met.hear(), "");
    let ended = met.ends();
    let text = ended.errors();
    assert!(
        text.contains("the TPM does not serve the muscle: key-closed")
            && text.contains("the host gives no evidence"),
        "{text}"
    );
    assert_ne!(ended.code, Some(0));
}

#[test]
fn without_a_tpm_a_muscle_that_attests_does_not_start() {
    let trust = shop().expect("builds").join("trust.store").display().to_string();
    let bundle = shop()
        .expect("builds")
        .join("confidant.muscle")
        .display()
        .to_string();
    let folder = tempfile::tempdir().expect("a folder");
    let audit = folder.path().join("audit.jsonl").display().to_string();
    let ended = programs()
        .vmm
        .run(["run", "--trust", &trust, "--audit", &audit, &bundle])
        .expect("ends");
    let text = assert_ends(&ended, 101);
    assert!(text.contains("[no-tpm]") && text.contains("--tpm"), "{text}");
}

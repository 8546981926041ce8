//! The node and the host's TPM, a real software one: what was deployed is in evidence, and what is not measured does not run.

mod chip;
mod muscles;
mod outages;

use std::path::Path;
use std::sync::OnceLock;

use referee_tests::{Ended, Program};
use serde_json::{Value, json};

use crate::node::{Node, configure, spawn};
use crate::{HOST_ERROR, REJECTED, acts, bundle, setup, text};
use chip::Chip;

/// Nonces of some verifier.
const NONCE: &str = "00112233445566778899aabbccddeeff";
const OTHER_NONCE: &str = "ff112233445566778899aabbccddeeff";

fn verifier() -> &'static Program {
    static VERIFIER: OnceLock<Program> = OnceLock::new();
    VERIFIER.get_or_init(|| Program::built("referee-verify").expect("builds"))
}

#[track_caller]
fn assert_ends(ended: &Ended, code: i32) -> String {
    let out = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert_eq!(ended.code, Some(code), "{out}{}", ended.errors());
    out
}

/// A node, its TPM, and what a verifier has.
struct Host {
    // Ended before its TPM.
    node: Node,
    chip: Chip,
}

impl Host {
    /// A node whose TPM has a key.
    fn new() -> Host {
        Host::with("")
    }

    fn with(more: &str) -> Host {
        Host::patient(more, 4)
    }

    /// One that waits so long for its TPM.
    fn patient(more: &str, seconds: u32) -> Host {
        let chip = Chip::new();
        assert_ends(
            &chip.vmm(setup().workshop.trust_store().as_path(), &["tpm", "init"]),
            0,
        );
        let node = Node::with(&format!("{more}\n{}", chip.config(seconds)));
        Host { node, chip }
    }

    /// Writes down what the host is, as its owner does once.
    fn reference(&self) {
        let trust = self.node.path("trust.store");
        let reference = assert_ends(&self.chip.vmm(&trust, &["tpm", "reference"]), 0);
        std::fs::write(self.node.path("reference.toml"), reference).expect("is written");
    }

    /// Has the node give evidence.
    fn attest(&self, nonce: &str) -> Ended {
        let file = text(&self.node.path("evidence"));
        self.node
            .cli(&["attest", "--node", "--nonce", nonce, "-o", &file])
    }

    /// Checks the file of evidence.
    fn verify(&self, nonce: &str) -> Ended {
        let path = |name: &str| text(&self.node.path(name));
        let _ = std::fs::remove_dir_all(self.node.path("parts"));
        verifier()
            .run([
                "evidence",
                &path("evidence"),
                "--nonce",
                nonce,
                "--reference",
                &path("reference.toml"),
                "--extract",
                &path("parts"),
                "--json",
            ])
            .expect("ends")
    }

    /// Evidence that holds, and the events in it.
    #[track_caller]
    fn events(&self) -> Vec<Value> {
        assert_ends(&self.attest(NONCE), 0);
        self.reference();
        assert_ends(&self.verify(NONCE), 0);
        let log = std::fs::read_to_string(self.node.path("parts/log.json")).expect("is there");
        let log: Value = serde_json::from_str(&log).expect("is JSON");
        log.as_array().expect("is a list").clone()
    }

    /// Digests of the bundles that evidence names.
    #[track_caller]
    fn bundles(&self) -> Vec<String> {
        contents(&self.events(), "bundle", "digest")
    }
}

/// What the events of one kind say under this name.
fn contents(events: &[Value], kind: &str, name: &str) -> Vec<String> {
    let of_kind = events
        .iter()
        .map(|event| &event["content"])
        .filter(|content| content["kind"] == kind);
    of_kind
        .map(|content| content[name].as_str().unwrap_or_default().to_owned())
        .collect()
}

fn digest(bundle: &Path) -> String {
    referee_bundle::Digest::of(&std::fs::read(bundle).expect("is there")).to_string()
}

/// Bundles of one muscle, in these security epochs.
fn of_epochs(folder: &Path, epochs: [u64; 2]) -> [std::path::PathBuf; 2] {
    let workshop = &setup().workshop;
    let guest = workshop.guest("reactor", "acts").expect("is there");
    let image = workshop.image(&guest).expect("is assembled");
    epochs.map(|epoch| {
        let mut manifest = guest.header.manifest(&guest.muscle_name());
        manifest.security_epoch = epoch;
        let bundle = cargo_muscle::assemble(manifest, &image).expect("is a bundle");
        let bundle = cargo_muscle::sign(&bundle, &workshop.publisher()).expect("is signed");
        let path = folder.join(format!("epoch-{epoch}.muscle"));
        std::fs::write(&path, bundle).expect("is written");
        path
    })
}

#[test]
fn evidence_of_a_node_names_what_was_deployed_and_nothing_else() {
    let host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    assert_eq!(host.node.call("acts", "count", "[]").good(), b"0");
    let events = host.events();
    assert_eq!(contents(&events, "bundle", "digest"), [digest(&acts())]);
    assert_ne!(digest(&bundle("reactor", "courier")), digest(&acts()));
    let identity = contents(&events, "component", "name");
    assert_eq!(
        identity,
        ["vmm", "tpm", "trap-stubs", "seccomp", "policy", "trust"]
    );
    // Of another request, it is worth nothing.
    let refused = assert_ends(&host.verify(OTHER_NONCE), 1);
    let refused: Value = serde_json::from_str(&refused).expect("is JSON");
    assert_eq!(refused["holds"], false, "{refused}");
    assert!(refused.to_string().contains("nonce"), "{refused}");
    let measured: Vec<Value> = host.node.records();
    let measured: Vec<&Value> = measured
        .iter()
        .filter(|record| record["kind"] == "measure")
        .collect();
    assert_eq!(measured.len(), 1, "{measured:?}");
    assert_eq!(
        (&measured[0]["detail"]["bundle"], &measured[0]["detail"]["first"]),
        (&json!(digest(&acts())), &json!(true))
    );
}

#[test]
fn a_node_without_its_tpm_does_not_become_ready() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::copy(setup().workshop.trust_store(), folder.path().join("trust.store")).expect("is copied");
    let device = "[tpm]\ndevice = 'device:/dev/no-such-tpm'";
    configure(
        folder.path(),
        &format!("{device}\nstate = '{}'", text(&folder.path().join("tpm"))),
    );
    chip::build_tpm();
    let status = spawn(folder.path()).wait().expect("is ours");
    let words = std::fs::read_to_string(folder.path().join("stderr")).expect("is there");
    assert_eq!(status.code(), HOST_ERROR, "{words}");
    assert!(
        words.contains("tpm-unreachable") && !words.contains("ready:"),
        "{words}"
    );
    assert!(!folder.path().join("api.sock").exists());
    // What is wrong with the configuration is said before anything is asked.
    configure(folder.path(), "[tpm]\ndevice = 'tpm0'");
    let status = spawn(folder.path()).wait().expect("is ours");
    assert_eq!(status.code(), REJECTED);
}

#[test]
fn a_bundle_of_an_earlier_epoch_is_refused_once_a_later_one_was_deployed() {
    let host = Host::new();
    let [old, new] = of_epochs(host.node.folder(), [4, 5]);
    host.node.deploy(&old, "stays", &[]);
    assert_eq!(host.node.call("stays", "count", "[]").good(), b"0");
    host.node.deploy(&new, "comes", &[]);
    assert_eq!(host.node.call("comes", "count", "[]").good(), b"0");
    let ended = host.node.cli(&["deploy", &text(&old), "--name", "again"]);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert!(
        ended.errors().contains("[epoch-rolled-back]"),
        "{}",
        ended.errors()
    );
    assert!(host.node.managed().contains(&("refuse".into(), "again".into())));
    host.node
        .ask("GET", "/v1/deployments/again", b"")
        .is(404, "rejected", "no-deployment");
    // The one that was there has no worker any more, and gets none.
    crate::wait_for("its worker ends", || host.node.shown("stays")["state"] == "idle");
    host.node
        .call("stays", "count", "[]")
        .is(422, "rejected", "epoch-rolled-back");
    assert_eq!(host.node.call("comes", "count", "[]").good(), b"0");
}

#[test]
fn a_restart_in_the_same_boot_measures_nothing_twice() {
    let mut host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    // Between measuring and running.
    host.node.crash();
    host.node.again();
    assert_eq!(host.node.call("acts", "count", "[]").good(), b"0");
    assert_eq!(host.node.stop().code(), Some(0));
    host.node.again();
    let events = host.events();
    assert_eq!(contents(&events, "component", "name").len(), 6, "{events:?}");
    assert_eq!(contents(&events, "bundle", "digest"), [digest(&acts())]);
}

#[test]
fn a_node_killed_anywhere_in_a_deployment_goes_on_in_step_with_its_tpm() {
    let mut host = Host::new();
    for round in 0..6 {
        let words = text(&acts());
        let name = format!("d{round}");
        let mut child = host
            .node
            .command(&["deploy", &words, "--name", &name])
            .spawn()
            .expect("starts");
        std::thread::sleep(std::time::Duration::from_millis(60 * round));
        host.node.crash();
        let _ = child.wait();
        host.node.again();
        host.node.deploy(&acts(), &name, &[]);
        assert_eq!(host.node.call(&name, "count", "[]").good(), b"0");
    }
    assert_eq!(host.bundles(), [digest(&acts())]);
}

#[test]
fn what_was_measured_cannot_be_exchanged_by_a_reload() {
    let host = Host::new();
    host.node.deploy(&acts(), "acts", &[]);
    assert_eq!(host.node.cli(&["reload"]).code, Some(0));
    assert_eq!(host.node.call("acts", "count", "[]").good(), b"0");
    // Another store by the same root: whoever was trusted in it still is.
    let workshop = &setup().workshop;
    let draft = workshop.trust_draft().expect("is a draft");
    let revoked =
        cargo_muscle::trust::revoke_bundle(&draft, &[referee_bundle::Digest([7; 32])]).expect("is a draft");
    let store = workshop.signed(revoked).expect("is signed");
    let before = std::fs::read(host.node.path("trust.store")).expect("is there");
    std::fs::write(host.node.path("trust.store"), store).expect("is written");
    let ended = host.node.cli(&["reload"]);
    assert_eq!(ended.code, REJECTED, "{}", ended.errors());
    assert!(
        ended.errors().contains("[identity-differs]"),
        "{}",
        ended.errors()
    );
    // What was read before is in force.
    assert_eq!(host.node.call("acts", "count", "[]").good(), b"0");
    std::fs::write(host.node.path("trust.store"), before).expect("is written");
    assert_eq!(host.node.cli(&["reload"]).code, Some(0));
}

#[test]
fn evidence_is_for_whoever_policy_names_with_a_nonce_that_is_one() {
    let host = Host::new();
    let ask = |body: Value| host.node.ask("POST", "/v1/attest", body.to_string().as_bytes());
    for nonce in [
        "",
        "00112233445566778899aabbccddee",
        &"00".repeat(65),
        &"zz".repeat(16),
        &"é".repeat(16),
        "0011223344556677889 aabbccddeeff0",
        &"+f".repeat(16),
    ] {
        ask(json!({ "nonce": nonce })).is(422, "rejected", "nonce-length");
    }
    ask(json!({ "nonce": NONCE, "more": 1 })).is(400, "rejected", "body-invalid");
    ask(json!({})).is(400, "rejected", "body-invalid");
    let evidence = ask(json!({ "nonce": NONCE }));
    assert_eq!(evidence.header("content-type"), Some("application/octet-stream"));
    std::fs::write(host.node.path("evidence"), evidence.good()).expect("is written");
    host.reference();
    assert_ends(&host.verify(NONCE), 0);
    // Who may do all else may not do this.
    let mut host = host;
    let policies = host.node.path("api.cedar");
    let text = "@id(\"all\") permit (principal, action, resource);\n\
                @id(\"but\") forbid (principal, action == Action::\"attest\", resource);";
    std::fs::write(&policies, text).expect("is written");
    assert_eq!(host.node.stop().code(), Some(0));
    let more = format!(
        "api.policies = ['{}']\n{}",
        policies.display(),
        host.chip.config(4)
    );
    configure(host.node.folder(), &more);
    host.node.again();
    let body = json!({ "nonce": NONCE }).to_string();
    host.node
        .ask("POST", "/v1/attest", body.as_bytes())
        .is(403, "rejected", "not-permitted");
    host.node.deploy(&acts(), "acts", &[]);
    // A node without a TPM has none.
    let node = Node::start();
    let body = json!({ "nonce": NONCE }).to_string();
    node.ask("POST", "/v1/attest", body.as_bytes())
        .is(422, "rejected", "no-tpm");
}

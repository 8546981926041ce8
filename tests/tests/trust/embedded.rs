//! A program that embeds cells: what it runs is measured, and its receipts say what those of `referee-vmm` say.

use std::path::PathBuf;

use referee::{CallError, CellThread, Config, Inputs, Permit, Referee, StartError, Tpm};
use referee_evidence::{Receipt, Token};

use crate::commands::{Desk, assert_ends, workshop};
use crate::host::programs;
use crate::receipts::NONCE;

fn config(desk: &Desk) -> Config {
    let mut config = Config::new(workshop().trust_store(), desk.file("audit.jsonl"));
    config.tpm = Some(Tpm::new(
        format!("swtpm:{}", desk.file("tpm")),
        programs().tpm.path(),
    ));
    config
}

fn bundle(group: &str, name: &str) -> PathBuf {
    let guest = workshop().guest(group, name).expect("is there");
    workshop().bundle(&guest).expect("is built")
}

fn permit(referee: &Referee, group: &str, name: &str) -> Permit {
    let muscle = referee.admit_file(&bundle(group, name)).expect("is admitted");
    muscle.permit(&[]).expect("is permitted")
}

fn kinds(desk: &Desk) -> Vec<String> {
    let log = std::fs::read_to_string(desk.file("audit.jsonl")).expect("is there");
    let kind = |line: &str| {
        let record: serde_json::Value = serde_json::from_str(line).expect("is JSON");
        record["kind"].as_str().expect("is text").to_owned()
    };
    log.lines().map(kind).collect()
}

/// The name of an error of `referee-tpm`, or of a rule.
pub fn name_of(error: &StartError) -> String {
    match error {
        StartError::Rejected { name, .. } => (*name).to_owned(),
        StartError::Host { source, .. } => match source.downcast_ref::<referee_attest::AttestError>() {
            Some(referee_attest::AttestError::Failed { name, .. }) => name.clone(),
            Some(referee_attest::AttestError::Missing { .. }) => "missing".to_owned(),
            _ => format!("{source}"),
        },
    }
}

#[test]
fn a_receipt_of_an_embedded_call_is_checked_and_repeated_like_any_other() {
    let desk = Desk::new();
    let referee = Referee::open(&config(&desk)).expect("opens");
    let tpm = referee.tpm().expect("was named");
    tpm.init().expect("makes a key");
    let permit = permit(&referee, "reactor", "echoes");
    let thread = CellThread::enter().expect("enters");
    let done = permit
        .call_with_receipt::<_, Vec<u32>>(&thread, Inputs::default(), "echo", &[1u32])
        .expect("has a receipt");
    assert_eq!(done.result.expect("is answered"), [1]);
    assert_eq!(
        kinds(&desk),
        ["measure", "start", "end"],
        "nothing runs before it is measured"
    );

    for length in [0, 15, 65] {
        let refused = tpm.evidence(&vec![7; length]).expect_err("is refused");
        assert_eq!(name_of(&refused), "nonce-length");
    }
    let files = ["receipt", "evidence", "reference.toml"].map(|name| desk.file(name));
    let [receipt, evidence, reference] = &files;
    let nonce: Vec<u8> = (0..16).map(|digit| digit * 0x11).collect();
    std::fs::write(receipt, &done.receipt).expect("is written");
    std::fs::write(evidence, tpm.evidence(&nonce).expect("is given")).expect("is written");
    std::fs::write(reference, tpm.reference().expect("is given")).expect("is written");
    let (trust, echoes, audit) = (
        workshop().trust_store().display().to_string(),
        bundle("reactor", "echoes").display().to_string(),
        desk.file("audit.jsonl"),
    );
    let vouched = ["--evidence", evidence, "--nonce", NONCE, "--reference", reference];
    let verify = |words: &[&str]| programs().verify.run(words).expect("ends");
    // The replay is a run by `referee-vmm`, which is confined: input, output and outcome are the same.
    let replay = ["--replay", "--", "call", "--trust", &trust, &echoes, "echo"];
    let words = [&["receipt", receipt][..], &vouched, &replay].concat();
    let text = assert_ends(&verify(&[&words[..], &["[1]"]].concat()), 0);
    assert!(text.contains("holds  same-output"), "{text}");
    let text = assert_ends(&verify(&[&words[..], &["[2]"]].concat()), 1);
    assert!(text.contains("FAILS  same-input"), "{text}");
    // The log is as long as the receipt says.
    let words = [&["log", &audit][..], &vouched, &["--receipt", receipt]].concat();
    assert_ends(&verify(&words), 0);
}

#[test]
fn a_fault_and_a_main_have_receipts_too() {
    let desk = Desk::new();
    let referee = Referee::open(&config(&desk)).expect("opens");
    referee.tpm().expect("was named").init().expect("makes a key");
    let thread = CellThread::enter().expect("enters");
    let outcome = |receipt: &[u8]| {
        let token = Token::parse(receipt).expect("is a token");
        Receipt::of(&token).expect("is a receipt").outcome
    };
    let done = permit(&referee, "baseline", "exit-seven")
        .run_with_receipt(&thread, Inputs::default())
        .expect("has a receipt");
    assert_eq!(done.result.expect("exits"), 7);
    assert_eq!(outcome(&done.receipt), "exited 7");
    let done = permit(&referee, "instruction", "hlt")
        .run_with_receipt(&thread, Inputs::default())
        .expect("has a receipt");
    let Err(CallError::Fault(report)) = done.result else {
        panic!("{:?}", done.result);
    };
    assert_eq!(outcome(&done.receipt), format!("fault {}", report.fault.name()));
}

#[test]
fn what_cannot_be_measured_or_signed_does_not_run() {
    let desk = Desk::new();
    let thread = CellThread::enter().expect("enters");
    // A host whose TPM has no key: measured, but not run for a receipt.
    let referee = Referee::open(&config(&desk)).expect("opens");
    let zero = permit(&referee, "baseline", "exit-zero");
    let refused = zero
        .run_with_receipt(&thread, Inputs::default())
        .map(|done| done.receipt);
    let Err(referee::ReceiptError::Start(error)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(name_of(&error), "tpm-not-initialised");
    assert_eq!(kinds(&desk), ["measure"]);

    // Another policy in the same boot is another host.
    let policy = desk.file("other.cedar");
    std::fs::write(&policy, "@id(\"all\")\npermit(principal, action, resource);\n").expect("is written");
    let mut other = config(&desk);
    other.policies = vec![policy.into()];
    let admitted = |config: &Config| {
        let referee = Referee::open(config).expect("opens");
        referee.admit_file(&bundle("baseline", "exit-zero")).map(drop)
    };
    assert_eq!(
        name_of(&admitted(&other).expect_err("is refused")),
        "identity-differs"
    );

    // So is another program that has the TPM, or none.
    let mut other = config(&desk);
    other.tpm = Some(Tpm::new(
        format!("swtpm:{}", desk.file("tpm")),
        desk.file("missing"),
    ));
    assert!(Referee::open(&other).is_err());

    // Without a TPM there is no receipt.
    let mut without = config(&desk);
    without.tpm = None;
    let referee = Referee::open(&without).expect("opens");
    let refused = permit(&referee, "baseline", "exit-zero").run_with_receipt(&thread, Inputs::default());
    let Err(referee::ReceiptError::Start(error)) = refused.map(|done| done.receipt) else {
        panic!("is not refused");
    };
    assert_eq!(name_of(&error), "no-tpm");
    assert_eq!(kinds(&desk), ["measure"], "something ran");
}

#[test]
fn receipts_are_made_by_several_threads_at_once() {
    let desk = Desk::new();
    let referee = Referee::open(&config(&desk)).expect("opens");
    referee.tpm().expect("was named").init().expect("makes a key");
    let permit = permit(&referee, "reactor", "echoes");
    std::thread::scope(|scope| {
        for number in 0..4u32 {
            let permit = &permit;
            scope.spawn(move || {
                let thread = CellThread::enter().expect("enters");
                let done = permit
                    .call_with_receipt::<_, Vec<u32>>(&thread, Inputs::default(), "echo", &[number])
                    .expect("has a receipt");
                assert_eq!(done.result.expect("is answered"), [number]);
                let token = Token::parse(&done.receipt).expect("is a token");
                assert_eq!(Receipt::of(&token).expect("is a receipt").outcome, "answered");
            });
        }
    });
}

#[test]
fn nothing_is_admitted_while_the_tpm_does_not_answer() {
    let desk = Desk::new();
    // Both of its sockets take what comes, and never answer.
    let socket = desk.file("silent.sock");
    let silent = [socket.clone(), format!("{socket}.ctrl")]
        .map(|path| std::os::unix::net::UnixListener::bind(path).expect("listens"));
    let mut config = config(&desk);
    config.tpm = Some(Tpm {
        patience: std::time::Duration::from_millis(300),
        state: Some(desk.file("state").into()),
        ..Tpm::new(format!("tcti:swtpm:path={socket}"), programs().tpm.path())
    });
    let referee = Referee::open(&config).expect("opens");
    let refused = referee
        .admit_file(&bundle("reactor", "echoes"))
        .expect_err("cannot be measured");
    assert!(name_of(&refused).contains("did not answer"), "{refused:?}");
    drop(silent);
}

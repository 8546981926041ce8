//! Forged, old, swapped and cut evidence.

use minicbor::bytes::ByteVec;
use referee_attest::{Component, Request};
use referee_evidence::{Bank, EventLog, Measurement, Reference, check, to_hex};

use crate::host::{Host, NONCE, assert_fails, bundle, checked, evidence_of, measure, programs, reference_of};

#[test]
fn honest_evidence_holds_and_no_bit_of_it_is_free() {
    let host = Host::ready();
    let (evidence, reference) = (host.evidence(&NONCE), host.reference());
    let report = checked(&evidence, &reference);
    assert!(report.holds(), "\n{report}");
    let bytes = evidence.to_bytes();
    // Certificates are not judged yet, so their bits are free; they are the one part without a check.
    let certificates: Vec<&ByteVec> = evidence.certificates.iter().collect();
    let free = |at: usize| {
        certificates.iter().any(|certificate| {
            let start = bytes
                .windows(certificate.len())
                .position(|window| window == certificate.as_slice());
            start.is_some_and(|start| (start..start + certificate.len()).contains(&at))
        })
    };
    for at in 0..bytes.len() {
        if free(at) {
            continue;
        }
        let mut changed = bytes.clone();
        changed[at] ^= 1 << (at % 8);
        let report = check(&changed, &NONCE, &reference);
        assert!(!report.holds(), "byte {at} can be changed\n{report}");
    }
    for length in 0..bytes.len() {
        assert!(
            !check(&bytes[..length], &NONCE, &reference).holds(),
            "cut at {length}"
        );
    }
}

#[test]
fn a_nonce_serves_once() {
    let host = Host::ready();
    let old = host.evidence(&[1; 32]);
    assert_fails(&checked(&old, &host.reference()), "nonce");
}

#[test]
fn evidence_of_an_earlier_boot_does_not_fit_this_one() {
    let host = Host::ready();
    let (before, reference) = (host.evidence(&[1; 32]), host.reference());
    host.ask(&Request::Restart {
        tpm: host.open.tpm.clone(),
    })
    .expect("restarts");
    host.ask(&measure(bundle("worse", 66))).expect("is measured");
    // The clean log of the boot before, beside the quote of this one.
    let mut mixed = host.evidence(&NONCE);
    assert_fails(&checked(&mixed, &reference), "bundles");
    mixed.log = before.log.clone();
    assert_fails(&checked(&mixed, &reference), "log");
    // And the whole quote of the boot before, beside the token of this one.
    let mut swapped = host.evidence(&NONCE);
    swapped.quote = before.quote;
    assert!(checked(&swapped, &reference).failures().contains(&"quote"));
}

#[test]
fn statements_of_other_tokens_are_refused() {
    let host = Host::ready();
    let (one, other, reference) = (host.evidence(&NONCE), host.evidence(&[1; 32]), host.reference());
    let mut swapped = one.clone();
    swapped.counter = other.counter;
    assert_fails(&checked(&swapped, &reference), "counter");
    // The quote where the counter should be, and the other way round.
    let mut crossed = one.clone();
    std::mem::swap(&mut crossed.quote, &mut crossed.counter);
    let failures = checked(&crossed, &reference).failures();
    assert!(
        failures.contains(&"quote") && failures.contains(&"counter"),
        "{failures:?}"
    );
}

#[test]
fn a_quote_over_other_registers_is_refused() {
    let host = Host::ready();
    let (mut evidence, reference) = (host.evidence(&NONCE), host.reference());
    let token = referee_evidence::Token::parse(&evidence.token).expect("is a token");
    // Root has the attestation key too: it is a primary key, made anew from its template.
    let tools = host.tools();
    let file = |name: &str| host.path(name).display().to_string();
    let (context, message, signature) = (file("ak.ctx"), file("quote.msg"), file("quote.sig"));
    tools.run(
        "tpm2_createprimary",
        &[
            "-C",
            "e",
            "-G",
            "ecc256:ecdsa-sha256:null",
            "-g",
            "sha256",
            "-c",
            &context,
            "-a",
            "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign",
        ],
    );
    let qualifying = to_hex(&token.digest());
    tools.run(
        "tpm2_quote",
        &[
            "-c",
            &context,
            "-l",
            "sha256:11,12",
            "-q",
            &qualifying,
            "-m",
            &message,
            "-s",
            &signature,
            "-g",
            "sha256",
        ],
    );
    drop(tools);
    evidence.quote.statement = std::fs::read(&message).expect("is there").into();
    evidence.quote.signature = std::fs::read(&signature).expect("is there").into();
    assert_fails(&checked(&evidence, &reference), "registers");
}

#[test]
fn a_key_that_would_sign_anything_is_no_attestation_key() {
    let host = Host::ready();
    let (mut evidence, reference) = (host.evidence(&NONCE), host.reference());
    // Type, name algorithm, then the attributes: `restricted` is bit 16.
    evidence.attestation_key[5] &= !1;
    let report = checked(&evidence, &reference);
    assert_eq!(report.failures(), ["attestation-key"], "\n{report}");
}

#[test]
fn another_tpm_is_not_this_one() {
    let (host, stranger) = (Host::ready(), Host::ready());
    assert_fails(
        &checked(&stranger.evidence(&NONCE), &host.reference()),
        "key-known",
    );
}

#[test]
fn events_cannot_be_removed_added_reordered_or_cut_off() {
    let host = Host::ready();
    host.ask(&measure(bundle("second", 8))).expect("is measured");
    let (evidence, reference) = (host.evidence(&NONCE), host.reference());
    let log = evidence.event_log().expect("is a log");
    let events = log.events().to_vec();
    let with = |contents: Vec<referee_evidence::Event>| {
        // Numbered anew, as whoever forges would.
        let mut forged = EventLog::default();
        for event in contents {
            let content = event.content().expect("has content");
            forged.push(forged.next(event.pcr(), &content, &Bank::ALL));
        }
        let mut changed = evidence.clone();
        changed.log = forged.to_bytes().into();
        changed
    };
    for index in 0..events.len() {
        let mut fewer = events.clone();
        fewer.remove(index);
        assert_fails(&checked(&with(fewer), &reference), "log");
        let mut more = events.clone();
        more.insert(index, events[index].clone());
        assert_fails(&checked(&with(more), &reference), "log");
    }
    let mut reordered = events.clone();
    let last = reordered.len() - 1;
    reordered.swap(last, last - 1);
    assert_fails(&checked(&with(reordered), &reference), "log");
    // Bytes cut from the end, record by record and in the middle of one.
    for cut in [1, events[last].to_bytes().len()] {
        let mut shorter = evidence.clone();
        let length = shorter.log.len() - cut;
        shorter.log = shorter.log[..length].to_vec().into();
        assert_fails(&checked(&shorter, &reference), "log");
    }
}

#[test]
fn what_the_reference_does_not_list_is_named() {
    let host = Host::ready();
    let (evidence, reference) = (host.evidence(&NONCE), host.reference());
    let mut other = reference.clone();
    other.identity.insert("policy".into(), vec![to_hex(&[99; 32])]);
    assert_fails(&checked(&evidence, &other), "identity");
    other = reference.clone();
    other.identity.remove("policy");
    assert_fails(&checked(&evidence, &other), "identity");
    other = reference.clone();
    other.identity.insert("hypervisor".into(), vec![to_hex(&[1; 32])]);
    assert_fails(&checked(&evidence, &other), "identity");
    other = reference.clone();
    other.bundle = vec![Measurement {
        minimum_epoch: Some(2),
        ..Measurement::default()
    }];
    assert_fails(&checked(&evidence, &other), "bundles");
    other = reference.clone();
    other.allow_software_tpm = false;
    assert_fails(&checked(&evidence, &other), "tpm-kind");
    other = reference.clone();
    other.counter.minimum += 1;
    assert_fails(&checked(&evidence, &other), "epoch");
    other = reference.clone();
    other.counter.index += 1;
    assert_eq!(checked(&evidence, &other).failures(), ["counter"]);
    other = reference;
    other.base.insert("14".into(), to_hex(&[1; 32]));
    assert_fails(&checked(&evidence, &other), "log");
}

#[test]
fn resettable_registers_are_refused_on_both_sides() {
    let mut host = Host::new();
    host.open.registers.identity = 16;
    assert_eq!(
        host.refused(&Request::Init { replace: false }),
        "register-resettable"
    );
    host.open.registers.allow_resettable = true;
    // In one session: such a register is not kept while a TPM sleeps.
    let mut session = host.session();
    session
        .ask(&Request::Init { replace: false })
        .expect("is initialised");
    let (evidence, mut reference) = (evidence_of(&mut session, &NONCE), reference_of(&mut session));
    let report = checked(&evidence, &reference);
    assert!(report.holds(), "\n{report}");
    reference.allow_resettable_registers = false;
    assert_fails(&checked(&evidence, &reference), "registers");
}

#[test]
fn a_host_that_measures_another_vmm_is_found_out() {
    let honest = Host::ready();
    let mut host = Host::new();
    host.open.components[0] = Component {
        name: "vmm".into(),
        digest: [66; 32],
    };
    host.ask(&Request::Init { replace: false })
        .expect("is initialised");
    let mut reference = honest.reference();
    let other = host.reference();
    reference.attestation_key = other.attestation_key;
    reference.counter = other.counter;
    assert_fails(&checked(&host.evidence(&NONCE), &reference), "identity");
}

#[test]
fn other_peoples_tools_check_the_same_evidence() {
    let host = Host::ready();
    let file = |name: &str| host.path(name).display().to_string();
    std::fs::write(host.path("evidence"), host.evidence(&NONCE).to_bytes()).expect("is written");
    std::fs::write(
        host.path("reference.toml"),
        host.reference().to_toml().expect("is TOML"),
    )
    .expect("is written");
    let nonce = to_hex(&NONCE);
    let ended = programs()
        .verify
        .run([
            "evidence",
            &file("evidence"),
            "--nonce",
            &nonce,
            "--reference",
            &file("reference.toml"),
            "--extract",
            &file("parts"),
        ])
        .expect("ends");
    assert_eq!(ended.code, Some(0), "{}", ended.errors());
    let part = |name: &str| host.path("parts").join(name).display().to_string();
    let qualifying = std::fs::read_to_string(part("qualifying.hex")).expect("is there");
    let checkquote = |values: &str, qualifying: &str| {
        std::process::Command::new("tpm2_checkquote")
            .args([
                "-u",
                &part("key.pem"),
                "-m",
                &part("quote.msg"),
                "-s",
                &part("quote.sig"),
                "-g",
                "sha256",
            ])
            .args(["-f", values, "-q", qualifying])
            .output()
            .expect("tpm2-tools are installed")
            .status
            .success()
    };
    assert!(checkquote(&part("quote.pcrs"), &qualifying));
    assert!(!checkquote(&part("quote.pcrs"), &to_hex(&[0; 32])));
    let mut values = std::fs::read(part("quote.pcrs")).expect("is there");
    let first_register = 4 + 16 * 8 + 4 + 4 + 2;
    values[first_register] ^= 1;
    std::fs::write(part("other.pcrs"), values).expect("is written");
    assert!(!checkquote(&part("other.pcrs"), &qualifying));
    for statement in ["quote", "counter"] {
        let openssl = |message: &str| {
            std::process::Command::new("openssl")
                .args(["dgst", "-sha256", "-verify", &part("key.pem"), "-signature"])
                .args([&part(&format!("{statement}.der")), message])
                .output()
                .expect("openssl is installed")
                .status
                .success()
        };
        assert!(openssl(&part(&format!("{statement}.msg"))));
        assert!(!openssl(&part("token.cose")));
    }
}

/// A quantum computer makes Ed25519 signatures; it does not make the second half's.
#[test]
fn the_second_signature_cannot_be_stripped() {
    use ed25519_dalek::{Signer as _, SigningKey};
    use referee_bundle::{Algorithm, SignatureSet};
    use referee_evidence::{InstanceKey, TOKEN_AAD, Token};
    let host = Host::ready();
    let (evidence, reference) = (host.evidence(&NONCE), host.reference());
    assert!(reference.require_ml_dsa);
    let signed = SignatureSet::decode(&evidence.token).expect("is a signature set");
    assert_eq!(signed.signatures.len(), 2);
    for algorithm in [Algorithm::Ed25519, Algorithm::MlDsa65] {
        let mut stripped = signed.clone();
        stripped.signatures.retain(|one| one.algorithm != algorithm);
        let mut changed = evidence.clone();
        changed.token = stripped.encode().expect("is encoded").into();
        assert_eq!(checked(&changed, &reference).failures(), ["token"]);
    }
    // A token that names no second half, by somebody who can sign with the first.
    let forger = SigningKey::from_bytes(&[5; 32]);
    let mut claims = Token::parse(&evidence.token)
        .and_then(|token| token.claims())
        .expect("has claims");
    claims.ml_dsa_key = None;
    claims.instance_key = forger.verifying_key().to_bytes();
    let key = InstanceKey::classical(claims.instance_key);
    let token = Token::sign(claims.to_bytes(), TOKEN_AAD, &key, |_, bytes| {
        forger.sign(bytes).to_bytes().to_vec()
    });
    let mut forged = evidence;
    forged.token = token.expect("is signed").to_bytes().into();
    assert_eq!(checked(&forged, &reference).failures(), ["token"]);
    // Where the reference does not ask for it, the token passes, and the quote is of another one.
    let lax = Reference {
        require_ml_dsa: false,
        ..reference
    };
    assert!(!checked(&forged, &lax).failures().contains(&"token"));
    assert!(checked(&forged, &lax).failures().contains(&"quote"));
}

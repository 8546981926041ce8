//! `referee-verify challenge` and `enrolled`: how a verifier becomes sure that an attestation key is in a TPM of a maker that it trusts.

mod certificates;
mod credential;

use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use referee_evidence::{AttestationKey, EndorsementKey, EnrolmentRequest, Report, from_hex, to_hex};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::cli::{ChallengeArgs, EnrolledArgs};
use crate::evidence::{read, verdict};
use crate::seal::write_secret;

/// What the verifier keeps to itself until the host answers.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    secret: String,
    attestation_key: String,
    software: bool,
}

/// Checks what a host says of its TPM's keys, and makes a challenge for it.
///
/// # Errors
/// When a file cannot be read or written.
pub fn challenge(args: &ChallengeArgs) -> anyhow::Result<bool> {
    let bytes = read(&args.request, "enrolment request")?;
    let authorities = args
        .ca
        .iter()
        .map(|path| certificates::authority(path))
        .collect::<anyhow::Result<Vec<_>>>()?
        .concat();
    let lists = args
        .crl
        .iter()
        .map(|path| certificates::revocation_lists(path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let lists: Vec<_> = lists.into_iter().flatten().collect();
    let mut report = Report::default();
    let keys = EnrolmentRequest::parse(&bytes).and_then(|request| {
        let attestation = AttestationKey::parse(&request.attestation_key)?;
        let endorsement = EndorsementKey::parse(&request.endorsement_key)?;
        let shown = format!("attestation key {}", to_hex(&attestation.name()));
        Ok(((request, attestation, endorsement), shown))
    });
    let Some((request, attestation, endorsement)) = report.note("keys", keys) else {
        return finish(&report, &args.request);
    };
    let made_by = certificates::check(&request.certificates, &endorsement, &authorities, &lists);
    if report.note("certificate", made_by).is_none() {
        return finish(&report, &args.request);
    }
    let (challenge, secret) = credential::make(&endorsement, &attestation.name())?;
    let expected = Expected {
        secret: to_hex(&*secret),
        attestation_key: to_hex(&attestation.name()),
        software: args.software,
    };
    write_secret(&args.expect, toml::to_string(&expected)?.as_bytes())?;
    fs::write(&args.challenge, challenge.to_bytes())
        .with_context(|| format!("challenge {}", args.challenge.display()))?;
    finish(&report, &args.request)
}

/// Compares a host's answer, and prints the key as an entry of a reference.
///
/// # Errors
/// When a file cannot be read.
pub fn enrolled(args: &EnrolledArgs) -> anyhow::Result<bool> {
    let shown = args.expect.display();
    let text = fs::read_to_string(&args.expect).with_context(|| shown.to_string())?;
    let expected: Expected = toml::from_str(&text).with_context(|| shown.to_string())?;
    let (Some(secret), Some(answer)) = (from_hex(&expected.secret), from_hex(&args.answer)) else {
        bail!("secret or answer are not in hexadecimal digits");
    };
    if !bool::from(secret.ct_eq(&answer)) {
        eprintln!("referee-verify: the answer is not the secret: the two keys are not in one TPM");
        return Ok(false);
    }
    println!("[[attestation_key]]");
    println!("name = \"{}\"", expected.attestation_key);
    println!("software = {}", expected.software);
    Ok(true)
}

fn finish(report: &Report, what: &Path) -> anyhow::Result<bool> {
    println!("{report}{}: {}", what.display(), verdict(report));
    Ok(report.holds())
}

//! `attest` and `tpm`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, bail};
use hyper::Method;
use referee::ReadLimits;
use referee_attest::{Component, Reply, Request, StateOwner, to_hex};
use referee_audit::{AuditLog, Event, Kind, Options, Value};
use referee_node::Attest;
use referee_node::client::{self, JSON};

use crate::cli::{AttestArgs, AuthorityArgs, TpmAction, TpmCommandArgs};
use crate::inspect::write_out;
use crate::measured::{HostIdentity, ask, ask_document, identity_of, named, restart, unexpected};
use crate::{node, prepare};

/// Writes evidence.
///
/// # Errors
/// When the TPM, the audit log or the file does not serve.
pub fn attest(args: &AttestArgs) -> anyhow::Result<u8> {
    if args.node {
        return attest_node(args);
    }
    let audit_head = args.audit.as_deref().map(audit_head).transpose()?;
    let request = Request::Evidence {
        nonce: args.nonce.clone(),
        spoke: BTreeMap::new(),
        audit_head,
    };
    named(&args.tpm)?;
    let bytes = ask_document(&args.tpm, &host(&args.authority)?, &request)?;
    write_evidence(&args.output, &bytes)
}

fn write_evidence(output: &Path, bytes: &[u8]) -> anyhow::Result<u8> {
    let shown = output.display();
    std::fs::write(output, bytes).with_context(|| format!("evidence {shown}"))?;
    write_out(format!("{shown}: {} bytes of evidence\n", bytes.len()).as_bytes())
}

/// Has a node give evidence.
fn attest_node(args: &AttestArgs) -> anyhow::Result<u8> {
    let node = node::reach(&args.host)?;
    let wanted = Attest {
        nonce: args.nonce.clone(),
    };
    let body = serde_json::to_vec(&wanted)?;
    node::talk(async {
        let bytes = client::ask(&node, Method::POST, "/v1/attest", JSON, body).await?;
        Ok(write_evidence(&args.output, &bytes))
    })
}

/// This program, with what the command line says decides here.
///
/// # Errors
/// When a program, policy or trust store cannot be read.
pub fn host(authority: &AuthorityArgs) -> anyhow::Result<HostIdentity> {
    let authority = prepare::authority(authority, ReadLimits::default())?;
    HostIdentity::new(authority.policy_digest()?, &authority)
}

/// Sets up and looks after the TPM.
///
/// # Errors
/// When the TPM, or what is kept beside it, does not serve.
pub fn tpm(args: &TpmCommandArgs) -> anyhow::Result<u8> {
    let asked = |request: &Request| {
        named(&args.tpm)?;
        ask(&args.tpm, &host(&args.authority)?, request)
    };
    let text = match &args.action {
        TpmAction::Init { replace } => keys(asked(&Request::Init { replace: *replace })?)?,
        TpmAction::Rotate { older_than } => {
            let older_than = older_than.map(|time| time.as_secs());
            keys(asked(&Request::Rotate { older_than })?)?
        }
        TpmAction::SetRecovery { key } => {
            let request = Request::SetRecovery { public: key.clone() };
            keys(asked(&request)?)?
        }
        TpmAction::Recover { key, audit } => {
            let shown = key.display();
            let private = std::fs::read_to_string(key).with_context(|| format!("key {shown}"))?;
            let request = Request::Recover {
                private: private.trim().to_owned(),
            };
            // Recorded before it is done, so that no use of the offline key goes untold.
            record_by_hand(audit, "recover", &[])?;
            let reply = asked(&request)?;
            if let Reply::Keys { epoch, .. } = &reply {
                record_by_hand(audit, "recovered", &[("epoch", Value::Number(*epoch))])?;
            }
            keys(reply)?
        }
        TpmAction::PrepareUpdate {
            next_program,
            next_trust,
            next_policy,
        } => {
            let mut authority = args.authority.clone();
            if let Some(trust) = next_trust {
                authority.trust.clone_from(trust);
            }
            if !next_policy.is_empty() {
                authority.policy.clone_from(next_policy);
            }
            let components = match next_program {
                Some(program) => identity_of(program, &authority)?,
                None => host(&authority)?.components().to_vec(),
            };
            keys(asked(&Request::PrepareUpdate { components })?)?
        }
        TpmAction::Identity { json } => {
            let host = host(&args.authority)?;
            let components = host.components();
            if *json {
                format!("{}\n", serde_json::to_string(components)?)
            } else {
                let line = |component: &Component| {
                    let digest = to_hex(&component.digest);
                    format!("{:<12} {digest}\n", component.name)
                };
                components.iter().map(line).collect()
            }
        }
        TpmAction::Reference => match asked(&Request::Reference)? {
            Reply::Text { text } => text,
            other => return Err(unexpected(&other)),
        },
        TpmAction::Enrol { output } => {
            named(&args.tpm)?;
            let bytes = ask_document(&args.tpm, &host(&args.authority)?, &Request::Enrol)?;
            let shown = output.display();
            std::fs::write(output, &bytes).with_context(|| format!("enrolment request {shown}"))?;
            format!("{shown}: {} bytes\n", bytes.len())
        }
        TpmAction::Activate { challenge } => {
            let shown = challenge.display();
            let bytes = std::fs::read(challenge).with_context(|| format!("challenge {shown}"))?;
            let challenge = to_hex(&bytes);
            match asked(&Request::Activate { challenge })? {
                Reply::Bytes { bytes } => format!("{bytes}\n"),
                other => return Err(unexpected(&other)),
            }
        }
        TpmAction::Status { json } => status(&asked(&Request::Status)?, *json)?,
        TpmAction::ForgetState {
            publisher,
            muscle,
            slot,
            audit,
        } => {
            let owner = StateOwner {
                publisher: publisher.clone(),
                muscle: muscle.clone(),
                slot: slot.clone(),
            };
            let words = [
                ("publisher", Value::Text(publisher)),
                ("muscle", Value::Text(muscle)),
                ("slot", Value::Text(slot)),
            ];
            record_by_hand(audit, "forget-state", &words)?;
            keys(asked(&Request::ForgetState { owner })?)?
        }
        TpmAction::Restart => {
            restart(&args.tpm)?;
            "the software TPM starts as after a reset when it is next used\n".into()
        }
    };
    write_out(text.as_bytes())
}

fn keys(reply: Reply) -> anyhow::Result<String> {
    match reply {
        Reply::Keys { epoch, instance_key } => Ok(format!("epoch {epoch}, instance key {instance_key}\n")),
        other => Err(unexpected(&other)),
    }
}

fn status(reply: &Reply, json: bool) -> anyhow::Result<String> {
    let Reply::Status {
        epoch,
        instance_key,
        attestation_key,
        software,
        model,
        states,
        events,
    } = reply
    else {
        return Err(unexpected(reply));
    };
    if json {
        return Ok(format!("{:#}\n", serde_json::to_value(reply)?));
    }
    let kind = if *software { "software" } else { "hardware" };
    let mut text = format!(
        "TPM              {model} ({kind})\nepoch            {epoch}\ninstance key     {instance_key}\n\
         attestation key  {attestation_key}\n"
    );
    for (index, state) in states.iter().enumerate() {
        let StateOwner {
            publisher,
            muscle,
            slot,
        } = &state.owner;
        let title = if index == 0 { "kept states" } else { "" };
        let (bytes, sequence, epoch) = (state.bytes, state.sequence, state.epoch);
        let _ = writeln!(
            text,
            "{title:<17}{publisher} {muscle} {slot}: {bytes} bytes, saved {sequence} times, last in security epoch {epoch}"
        );
    }
    text.push_str("events of this boot:\n");
    for event in events.as_array().into_iter().flatten() {
        let content = &event["content"];
        let word = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
        let _ = writeln!(
            text,
            "  {:>3}  PCR {:<2}  {:<9}  {:<24} {}",
            event["recnum"],
            event["pcr"],
            word(&content["kind"]),
            word(&content["name"]),
            word(&content["digest"])
        );
    }
    Ok(text)
}

/// Records, on the disk, what an operator does to keys by hand.
fn record_by_hand(path: &Path, op: &str, detail: &[(&'static str, Value<'_>)]) -> anyhow::Result<()> {
    let options = Options {
        sync_each: true,
        ..Options::default()
    };
    let event = Event {
        op: Some(op),
        ..Event::of_cell(Kind::Key, detail)
    };
    AuditLog::open(path, options)
        .and_then(|mut log| log.append("", "", &event))
        .with_context(|| format!("audit log {}", path.display()))
}

/// How many records a log has, and the hash of the last. What a crash left of a record is taken away first.
///
/// # Errors
/// When the log cannot be opened, or its end is broken.
pub fn audit_head(path: &Path) -> anyhow::Result<(u64, String)> {
    let shown = path.display();
    if !path.exists() {
        bail!("audit log {shown}: there is none");
    }
    let log = AuditLog::open(path, Options::default()).with_context(|| format!("audit log {shown}"))?;
    let head = log.head();
    Ok((head.records, head.hash.to_string()))
}

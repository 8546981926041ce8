//! What the audit log says about a cell as a whole: that it began, with which powers and how confined, and how it ended.
//! What it did in between is recorded by those who do it.

use anyhow::Context;
use referee_audit::{AuditSink, Event, Kind, Value};
use referee_bundle::VerifiedBundle;
use referee_cell::Usage;
use referee_jail::{Confinement, LayerState};
use referee_policy::{Decision, Grants};

use crate::ending::{self, Rejection};
use crate::session::Outcome;

/// Records that nothing will run, and why.
///
/// # Errors
/// When the log cannot be written.
pub fn rejected(audit: &AuditSink, name: &str, message: &str) -> anyhow::Result<()> {
    let detail = [("reason", Value::Text(name)), ("message", Value::Text(message))];
    record(audit, &Event::of_cell(Kind::Reject, &detail))
}

/// Records that a cell begins: what runs, who signed it, how the process is confined; then each grant.
///
/// # Errors
/// When the log cannot be written; then nothing may run.
pub fn start(
    audit: &AuditSink,
    bundle: &VerifiedBundle,
    grants: &Grants,
    decision: &Decision,
    confinement: &Confinement,
) -> anyhow::Result<()> {
    let digest = bundle.digest().to_string();
    let key = bundle.signer().key_id.to_string();
    let policy: String = decision
        .policy_digest()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let missing: Vec<&str> = confinement
        .layers
        .iter()
        .filter(|(_, state)| *state != LayerState::Held)
        .map(|(layer, _)| layer.name())
        .collect();
    let missing = missing.join(" ");
    let limits = grants.limits();
    let detail = [
        ("bundle", Value::Text(&digest)),
        ("publisher", Value::Text(&bundle.signer().publisher)),
        ("key", Value::Text(&key)),
        ("epoch", Value::Number(bundle.manifest().security_epoch)),
        ("policy", Value::Text(&policy)),
        ("memory_bytes", Value::Number(limits.memory_bytes)),
        ("cpu_ms", Value::Number(limits.cpu_ms)),
        ("deadline_ms", Value::Number(limits.deadline_ms)),
        ("not_confined_by", Value::Text(&missing)),
    ];
    record(audit, &Event::of_cell(Kind::Start, &detail))?;
    for item in decision
        .items()
        .iter()
        .filter(|item| grants.slots().iter().any(|grant| grant.slot() == item.name))
    {
        let detail = [
            ("asked", Value::Text(&item.asked)),
            ("bound", Value::Text(item.bound.as_deref().unwrap_or_default())),
        ];
        let (capability, slot) = (Some(item.capability), Some(item.name.as_str()));
        record(
            audit,
            &Event {
                kind: Kind::Grant,
                capability,
                slot,
                op: None,
                detail: &detail,
            },
        )?;
    }
    Ok(())
}

/// Records how a cell ended, and has the log on the disk.
///
/// # Errors
/// When the log cannot be written or flushed.
pub fn end(audit: &AuditSink, outcome: &Outcome, usage: &Usage) -> anyhow::Result<()> {
    if let Outcome::Faulted(report) = outcome {
        let message = report.fault.to_string();
        let detail = [
            ("fault", Value::Text(report.fault.name())),
            ("message", Value::Guest(message.as_bytes())),
            ("rip", Value::Number(report.registers.rip)),
        ];
        record(audit, &Event::of_cell(Kind::Fault, &detail))?;
    }
    let (how, code) = match outcome {
        Outcome::Exited(code) => ("exited", u64::from(*code)),
        Outcome::Faulted(_) => ("faulted", 0),
        Outcome::Answered(_) => ("answered", 0),
        Outcome::Stopped => ("stopped", 0),
    };
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let detail = [
        ("how", Value::Text(how)),
        ("code", Value::Number(code)),
        ("wall_us", Value::Number(micros(usage.wall))),
        ("cpu_us", Value::Number(micros(usage.cpu))),
        ("exits", Value::Number(usage.exits)),
        ("heap_bytes", Value::Number(usage.heap_bytes)),
    ];
    record(audit, &Event::of_cell(Kind::End, &detail))?;
    audit.sync().context("audit log")
}

/// Records that a cell which had begun ended without an outcome of its own: its image was refused, or the host failed.
///
/// # Errors
/// When the log cannot be written or flushed.
pub fn failed(audit: &AuditSink, error: &anyhow::Error) -> anyhow::Result<()> {
    let message = format!("{error:#}");
    let (how, code) = match error.downcast_ref::<Rejection>() {
        Some(rejection) => {
            rejected(audit, rejection.name, &message)?;
            ("rejected", ending::REJECTED)
        }
        None => ("host-error", ending::HOST_ERROR),
    };
    let detail = [
        ("how", Value::Text(how)),
        ("code", Value::Number(code.into())),
        ("message", Value::Text(&message)),
    ];
    record(audit, &Event::of_cell(Kind::End, &detail))?;
    audit.sync().context("audit log")
}

fn record(audit: &AuditSink, event: &Event<'_>) -> anyhow::Result<()> {
    audit.record(event).context("audit log")
}

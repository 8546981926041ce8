//! What the audit log says about a cell as a whole: that it began, with which powers and how confined, and how it ended.
//! What it did in between is recorded by those who do it.

use referee_audit::{AuditError, AuditSink, Event, Kind, Value};
use referee_bundle::VerifiedBundle;
use referee_cell::Usage;
use referee_policy::{Decision, Grants};

use crate::outcome::Outcome;
use crate::ring::{Joined, With};

/// Exit code of a program whose host failed it; what the log says of such an end.
pub const HOST_ERROR: u8 = 104;

/// Exit code of a program that ran nothing, because bundle, trust store or policy said no.
pub const REJECTED: u8 = 101;

/// Which layers of confinement an embedded cell lacks.
pub(crate) const EMBEDDED: &str = "all: embedded in another program";

/// Records that nothing will run, and why.
///
/// # Errors
/// When the log cannot be written.
pub fn rejected(audit: &AuditSink, name: &str, message: &str) -> Result<(), AuditError> {
    let detail = [("reason", Value::Text(name)), ("message", Value::Text(message))];
    audit.record(&Event::of_cell(Kind::Reject, &detail))
}

/// Records that a bundle was measured into the host's TPM before it runs.
///
/// # Errors
/// When the log cannot be written; then nothing may run.
pub fn measured(audit: &AuditSink, bundle: &VerifiedBundle, first: bool) -> Result<(), AuditError> {
    let digest = bundle.digest().to_string();
    let detail = [("bundle", Value::Text(&digest)), ("first", Value::Flag(first))];
    audit.record(&Event::of_cell(Kind::Measure, &detail))
}

/// Records that a cell begins: what runs, who signed it, which layers of confinement its process lacks (their names,
/// separated by spaces), and which snapshot it begins at, if any; then each grant.
///
/// # Errors
/// When the log cannot be written; then nothing may run.
pub fn start(
    audit: &AuditSink,
    bundle: &VerifiedBundle,
    grants: &Grants,
    decision: &Decision,
    not_confined_by: &str,
    snapshot: Option<&str>,
) -> Result<(), AuditError> {
    let digest = hex(&bundle.digest().0);
    let key = hex(&bundle.signer().key_id.0);
    let policy = hex(&decision.policy_digest());
    let limits = grants.limits();
    let mut detail = vec![
        ("bundle", Value::Text(&digest)),
        ("publisher", Value::Text(&bundle.signer().publisher)),
        ("key", Value::Text(&key)),
        ("epoch", Value::Number(bundle.manifest().security_epoch)),
        ("policy", Value::Text(&policy)),
        ("memory_bytes", Value::Number(limits.memory_bytes)),
        ("cpu_ms", Value::Number(limits.cpu_ms)),
        ("deadline_ms", Value::Number(limits.deadline_ms)),
        ("not_confined_by", Value::Text(not_confined_by)),
    ];
    detail.extend(snapshot.map(|id| ("snapshot", Value::Text(id))));
    audit.record(&Event::of_cell(Kind::Start, &detail))?;
    for item in decision.items().iter().filter(|item| {
        item.capability == "spin" || grants.slots().iter().any(|grant| grant.slot() == item.name)
    }) {
        let detail = [
            ("asked", Value::Text(&item.asked)),
            ("bound", Value::Text(item.bound.as_deref().unwrap_or_default())),
        ];
        let (capability, slot) = (Some(item.capability), Some(item.name.as_str()));
        audit.record(&Event {
            kind: Kind::Grant,
            capability,
            slot,
            op: None,
            detail: &detail,
        })?;
    }
    Ok(())
}

/// Records with whom a cell shares a ring; what passes there is not recorded.
///
/// # Errors
/// When the log cannot be written; then nothing may run.
pub(crate) fn joined(audit: &AuditSink, joined: &Joined) -> Result<(), AuditError> {
    let role = ("role", Value::Text(joined.role().name()));
    let detail: &[(&str, Value<'_>)] = match joined.with() {
        With::Muscle { number, peer } => &[
            ("ring", Value::Number(*number)),
            role,
            ("peer", Value::Text(peer)),
        ],
        With::Named(name) => &[("ring", Value::Text(name)), role],
    };
    audit.record(&Event {
        kind: Kind::Use,
        capability: Some("ring"),
        slot: Some(joined.slot()),
        op: Some("ring.join"),
        detail,
    })
}

/// Records how a cell ended. Whoever calls has the log put onto the disk, now or soon.
///
/// # Errors
/// When the log cannot be written.
pub fn end(audit: &AuditSink, outcome: &Outcome, usage: &Usage) -> Result<(), AuditError> {
    if let Outcome::Faulted(report) = outcome {
        let message = report.fault.to_string();
        let detail = [
            ("fault", Value::Text(report.fault.name())),
            ("message", Value::Guest(message.as_bytes())),
            ("rip", Value::Number(report.registers.rip)),
        ];
        audit.record(&Event::of_cell(Kind::Fault, &detail))?;
    }
    let (how, code) = match outcome {
        Outcome::Exited(code) => ("exited", u64::from(*code)),
        Outcome::Faulted(_) => ("faulted", 0),
        Outcome::Answered => ("answered", 0),
        Outcome::Stopped => ("stopped", 0),
    };
    let [wall, cpu, exits, heap] = usage_detail(usage);
    let detail = [
        ("how", Value::Text(how)),
        ("code", Value::Number(code)),
        wall,
        cpu,
        exits,
        heap,
    ];
    audit.record(&Event::of_cell(Kind::End, &detail))
}

/// Records that a start-up, which had a start record of its own, was frozen for later lives.
///
/// # Errors
/// When the log cannot be written; then no life may begin from it.
pub fn frozen(audit: &AuditSink, usage: &Usage) -> Result<(), AuditError> {
    let [wall, cpu, exits, heap] = usage_detail(usage);
    let detail = [("how", Value::Text("frozen")), wall, cpu, exits, heap];
    audit.record(&Event::of_cell(Kind::End, &detail))
}

/// Records that a cell goes back to how it was started, and what the life that ends had used.
///
/// # Errors
/// When the log cannot be written; then the cell must not be reset.
pub fn reset(audit: &AuditSink, usage: &Usage) -> Result<(), AuditError> {
    audit.record(&Event::of_cell(Kind::Reset, &usage_detail(usage)))
}

/// Hexadecimal digits, which the formatter takes twenty times as long to write.
fn hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(nibble.into(), 16);
    let digits = bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]);
    digits.flatten().collect()
}

fn usage_detail(usage: &Usage) -> [(&'static str, Value<'static>); 4] {
    let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    [
        ("wall_us", Value::Number(micros(usage.wall))),
        ("cpu_us", Value::Number(micros(usage.cpu))),
        ("exits", Value::Number(usage.exits)),
        ("heap_bytes", Value::Number(usage.heap_bytes)),
    ]
}

/// Records that a cell which had begun ended without an outcome of its own: its image was refused by the rule of this
/// name, or the host failed (`None`). `code` is the program's exit code.
///
/// # Errors
/// When the log cannot be written or flushed.
pub fn failed(audit: &AuditSink, rule: Option<&str>, message: &str, code: u8) -> Result<(), AuditError> {
    if let Some(rule) = rule {
        rejected(audit, rule, message)?;
    }
    let how = if rule.is_some() { "rejected" } else { "host-error" };
    let detail = [
        ("how", Value::Text(how)),
        ("code", Value::Number(code.into())),
        ("message", Value::Text(message)),
    ];
    audit.record(&Event::of_cell(Kind::End, &detail))?;
    audit.sync()
}

//! Commands that look and run nothing: `explain`, `audit verify`, `version`.

use std::io::Write;
use std::path::Path;

use anyhow::Context;

use crate::cli::ExplainArgs;
use crate::ending::{self, rejected};
use crate::prepare;
use crate::terminal::Progress;

/// Prints what a muscle asks for, what policy says, and why.
///
/// # Errors
/// [`referee::StartError`] when bundle or trust store says no; what policy refuses is printed, and the code says it.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<u8> {
    let (authority, bundle) = prepare::verified(&args.bundle)?;
    let decision = prepare::decision(&args.bundle, &authority, &bundle)?;
    let text = if args.json {
        decision.to_json()? + "\n"
    } else {
        decision.to_string()
    };
    write_out(text.as_bytes())?;
    Ok(if decision.refusals().next().is_some() {
        ending::REJECTED
    } else {
        0
    })
}

/// Checks an audit log.
///
/// # Errors
/// [`referee::StartError`] naming the first record that does not hold.
pub fn verify_log(file: &Path) -> anyhow::Result<u8> {
    let shown = file.display();
    let mut progress: Option<Progress> = None;
    let summary = referee_audit::verify_watched(file, |done, total| {
        progress
            .get_or_insert_with(|| Progress::begin(format!("checking {shown}"), total))
            .at(done);
    });
    drop(progress);
    let summary = summary
        .map_err(|error| rejected("audit-broken", error.to_string()))
        .with_context(|| format!("audit log {shown}"))?;
    let records = summary.head.records - summary.first;
    let before = match summary.first {
        0 => String::new(),
        first => format!(", after {first} that were moved away and are not beside it"),
    };
    write_out(format!("{shown}: {records} records, all in order{before}\n").as_bytes())
}

/// Prints versions.
///
/// # Errors
/// When standard output is closed.
pub fn version() -> anyhow::Result<u8> {
    let text = format!(
        "referee-vmm {}\nmuscle ABI  {}\nbundle      {}\n",
        env!("CARGO_PKG_VERSION"),
        muscle_abi::ABI_VERSION,
        "signed with Ed25519 (COSE_Sign)",
    );
    write_out(text.as_bytes())
}

/// Writes to standard output; a reader that has gone away is no error of ours.
///
/// # Errors
/// When writing fails otherwise.
pub fn write_out(bytes: &[u8]) -> anyhow::Result<u8> {
    write_to(std::io::stdout(), bytes)
}

/// As [`write_out`], through something around standard output.
///
/// # Errors
/// When writing fails otherwise.
pub fn write_to(mut output: impl Write, bytes: &[u8]) -> anyhow::Result<u8> {
    match output.write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error).context("standard output"),
        _ => Ok(0),
    }
}

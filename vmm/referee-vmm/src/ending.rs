//! How the program ends: the exit code of each kind of outcome, and what is printed about it.

use std::io::Write;

use referee::{FaultReport, StartError, record};

use crate::node::NodeRejection;
use crate::{measured, terminal};

/// The command line was wrong.
pub const USAGE: u8 = 100;
/// Bundle, trust store or policy says no.
pub const REJECTED: u8 = record::REJECTED;
/// The muscle broke a rule.
pub const FAULT: u8 = 102;
/// The muscle's time was over.
pub const TIME_LIMIT: u8 = 103;
/// The host failed.
pub const HOST_ERROR: u8 = record::HOST_ERROR;

/// A signal asked the muscle to end.
pub const STOPPED: u8 = 105;

/// A refusal by this program.
pub fn rejected(name: &'static str, message: impl Into<String>) -> StartError {
    StartError::Rejected {
        name,
        message: message.into(),
    }
}

/// Prints an error and gives its exit code.
pub fn of_error(error: &anyhow::Error, json: bool) -> u8 {
    let rejection = error.downcast_ref::<StartError>().and_then(|error| match error {
        StartError::Rejected { name, .. } => Some(*name),
        StartError::Host { .. } => None,
    });
    let by_node = error.downcast_ref::<NodeRejection>();
    let name = rejection
        .or_else(|| by_node.map(|rejection| rejection.name.as_str()))
        .or_else(|| measured::refusal_name(error));
    let is_rejected = rejection.is_some() || by_node.is_some();
    let (kind, code) = if is_rejected {
        ("rejected", REJECTED)
    } else {
        ("host-error", HOST_ERROR)
    };
    let mut message = String::new();
    for cause in error.chain().map(ToString::to_string) {
        // Errors that print their source within themselves would otherwise say it twice.
        if !message.ends_with(&cause) {
            message.push_str(if message.is_empty() { "" } else { ": " });
            message.push_str(&cause);
        }
    }
    if json {
        print(&serde_json::json!({ "outcome": kind, "name": name, "message": message }).to_string());
    } else {
        let name = name.map(|name| format!(" [{name}]")).unwrap_or_default();
        print(&format!(
            "{}: {message}{name}",
            terminal::on_errors(terminal::BAD, if is_rejected { "rejected" } else { "host error" })
        ));
    }
    code
}

/// Prints a fault and gives its exit code.
pub fn of_fault(report: &FaultReport, json: bool) -> u8 {
    /// The report's first word.
    const LABEL: &str = "fault";
    if json {
        let mut value = report.to_json();
        if let Some(object) = value.as_object_mut() {
            object.insert("outcome".into(), "fault".into());
        }
        print(&value.to_string());
    } else {
        let text = report.to_text();
        let rest = text.trim_end();
        let rest = rest.strip_prefix(LABEL).unwrap_or(rest);
        print(&format!("{}{rest}", terminal::on_errors(terminal::BAD, LABEL)));
    }
    if report.fault.is_time_limit() {
        TIME_LIMIT
    } else {
        FAULT
    }
}

fn print(text: &str) {
    // Standard error may be closed; there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{text}");
}

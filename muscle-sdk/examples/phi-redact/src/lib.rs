//! Takes identifiers out of clinical text: FHIR in JSON, HL7 v2 messages, or notes in prose.
//!
//! Guided by the eighteen identifiers of HIPAA's Safe Harbor method (45 CFR 164.514(b)(2)). Structured fields are known by
//! their place; what they say about a person (names, numbers, streets) is remembered and taken out of the free text of
//! the same document too; patterns find what nothing announced.
//!
//! ```text
//!   text ── format ──┬─ FHIR ── learn ─► Known ─┐
//!                    ├─ HL7 ─── learn ─► Known ─┼─► rewrite: places, then Known, then patterns ─► text, counts
//!                    └─ prose ──────────────────┘
//! ```
//!
//! When in doubt it takes out too much. Input that is not what it seems to be is refused whole: nothing is passed
//! on unread. It is a tool for those who answer for the data, no proof that nobody can be recognised.
#![no_std]

extern crate alloc;

mod dates;
mod fhir;
mod format;
mod hl7;
mod kinds;
mod known;
mod patterns;
mod scrub;

use alloc::collections::BTreeMap;
use alloc::string::String;

use serde::Serialize;

pub use format::Format;
pub use kinds::Kind;

/// A text without identifiers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Redacted {
    /// The text.
    pub text: String,
    /// How it was read.
    pub format: Format,
    /// How many identifiers of each kind were taken out.
    pub counts: BTreeMap<Kind, u64>,
}

/// Why a text was not redacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RedactError {
    /// It begins like JSON and is none; carries where and why.
    Json(String),
    /// It begins like an HL7 message whose header has no separators.
    Hl7Header,
}

impl core::fmt::Display for RedactError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RedactError::Json(reason) => write!(f, "this begins like JSON but is none: {reason}"),
            RedactError::Hl7Header => {
                write!(f, "this begins like HL7 v2 but its MSH segment has no separators")
            }
        }
    }
}

impl core::error::Error for RedactError {}

/// Takes the identifiers out of a text.
///
/// # Errors
/// [`RedactError`]; nothing of the text is passed on then.
pub fn redact_text(text: &str) -> Result<Redacted, RedactError> {
    let format = Format::of(text);
    let mut scrubber = scrub::Scrubber::new(dates::latest_year(text));
    let text = match format {
        Format::Fhir => fhir::redact(text, &mut scrubber)?,
        Format::Hl7 => hl7::redact(text, &mut scrubber)?,
        Format::Prose => scrubber.prose(text),
    };
    Ok(Redacted {
        text,
        format,
        counts: scrubber.into_counts(),
    })
}

/// [`redact_text`] for callers from outside.
///
/// # Errors
/// [`RedactError`].
#[muscle::export]
pub fn redact(text: String) -> Result<Redacted, RedactError> {
    redact_text(&text)
}

#[cfg(test)]
mod tests;

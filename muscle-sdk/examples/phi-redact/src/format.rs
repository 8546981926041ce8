//! Telling formats apart by their first characters.

use serde::Serialize;

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// FHIR resources in JSON: one document, or one on each line.
    Fhir,
    /// HL7 v2 messages in pipes and hats.
    Hl7,
    /// Anything else.
    Prose,
}

impl Format {
    /// The format of a text.
    pub fn of(text: &str) -> Format {
        let start = text.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
        if start.starts_with(['{', '[']) {
            Format::Fhir
        } else if ["MSH", "FHS", "BHS"].iter().any(|name| start.starts_with(name)) {
            Format::Hl7
        } else {
            Format::Prose
        }
    }

    /// The format's name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Format::Fhir => "read as FHIR",
            Format::Hl7 => "read as HL7 v2",
            Format::Prose => "read as plain text",
        }
    }
}

//! HL7 v2: segments of fields, of repetitions, of components.
//!
//! ```text
//!   PID|1||10006579^^^1^MRN||DUCK^DONALD^D||19241010|M|||111 DUCK ST^^FOWL^CA^999990000|...
//!      field 1              field 5 = family ^ given ^ middle
//! ```
//!
//! Separators are those that the message's own MSH segment declares.

use alloc::string::String;
use alloc::vec::Vec;

use crate::dates;
use crate::scrub::Scrubber;
use crate::{Kind, RedactError};

/// Separators of a message.
#[derive(Debug, Clone, Copy)]
struct Separators {
    field: char,
    component: char,
    repetition: char,
    subcomponent: char,
}

/// Takes the identifiers out of messages.
///
/// # Errors
/// [`RedactError::Hl7Header`].
pub(crate) fn redact(text: &str, scrubber: &mut Scrubber) -> Result<String, RedactError> {
    let segments: Vec<&str> = text.split_inclusive(['\r', '\n']).collect();
    let mut separators = None;
    for segment in &segments {
        separators = next_separators(segment, separators)?;
        if let Some(separators) = separators {
            learn(segment, separators, scrubber);
        }
    }
    let mut out = String::with_capacity(text.len());
    let mut separators = None;
    for segment in segments {
        separators = next_separators(segment, separators)?;
        match separators {
            Some(separators) => rewrite(segment, separators, scrubber, &mut out),
            None => out.push_str(&scrubber.prose(segment)),
        }
    }
    Ok(out)
}

/// A header segment's own separators, or those in force.
fn next_separators(segment: &str, in_force: Option<Separators>) -> Result<Option<Separators>, RedactError> {
    let segment =
        segment.trim_start_matches(|c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}');
    if !HEADERS.iter().any(|name| segment.starts_with(name)) {
        return Ok(in_force);
    }
    let mut chars = segment.chars().skip(3);
    let mut next = || {
        chars
            .next()
            .filter(|c| !c.is_alphanumeric() && !c.is_whitespace())
    };
    let (Some(field), Some(component), Some(repetition)) = (next(), next(), next()) else {
        return Err(RedactError::Hl7Header);
    };
    // The escape character may be left out, and so may the last.
    next();
    let subcomponent = next().filter(|c| *c != field).unwrap_or('&');
    Ok(Some(Separators {
        field,
        component,
        repetition,
        subcomponent,
    }))
}

/// Remembers what the places of a segment tell about people.
fn learn(segment: &str, separators: Separators, scrubber: &mut Scrubber) {
    let fields = Fields::of(segment, separators);
    for (number, field) in fields.numbered() {
        let Some(kind) = fields.kind(number) else { continue };
        for repetition in field.split(separators.repetition) {
            let mut components = repetition.split(separators.component);
            match kind {
                Kind::Name => {
                    for part in components.flat_map(|component| component.split(separators.subcomponent)) {
                        let is_number = part.bytes().any(|byte| byte.is_ascii_digit());
                        if is_number {
                            scrubber.known.learn(part, Kind::Id);
                        } else if part.chars().count() > 2 {
                            scrubber.known.learn_name(part);
                        }
                    }
                }
                Kind::Address => {
                    // Street, other line, town; then state, which stays; then postal code.
                    for (index, part) in components.enumerate() {
                        if matches!(index, 0 | 1 | 2 | 4) {
                            scrubber.known.learn(part, Kind::Address);
                        }
                    }
                }
                Kind::Date => {}
                _ => {
                    if let Some(first) = components.next() {
                        scrubber.known.learn(first, kind);
                    }
                }
            }
        }
    }
}

fn rewrite(segment: &str, separators: Separators, scrubber: &mut Scrubber, out: &mut String) {
    let fields = Fields::of(segment, separators);
    out.push_str(fields.name);
    for (number, field) in fields.numbered() {
        out.push(separators.field);
        if fields.is_header && number == 2 {
            out.push_str(field);
            continue;
        }
        for (index, repetition) in field.split(separators.repetition).enumerate() {
            if index > 0 {
                out.push(separators.repetition);
            }
            match fields.kind(number) {
                _ if repetition.is_empty() || repetition == "\"\"" => out.push_str(repetition),
                Some(Kind::Date) => {
                    let is_birth = fields.is_birth(number);
                    out.push_str(&date(repetition, is_birth, scrubber));
                }
                Some(kind) => out.push_str(scrubber.tag(kind)),
                None => rewrite_other(repetition, &fields, number, separators, scrubber, out),
            }
        }
    }
    out.push_str(fields.end);
}

/// A field without a place of its own: dates by their form, the rest as free text.
fn rewrite_other(
    repetition: &str,
    fields: &Fields<'_>,
    number: usize,
    separators: Separators,
    scrubber: &mut Scrubber,
    out: &mut String,
) {
    let is_number = fields.name == "OBX" && number == 5 && fields.get(2) == "NM";
    for (index, component) in repetition.split(separators.component).enumerate() {
        if index > 0 {
            out.push(separators.component);
        }
        match dates::compact(component) {
            Some(found) if !is_number => out.push_str(&scrubber.date(found, false)),
            _ if is_number => out.push_str(component),
            _ => out.push_str(&scrubber.prose(component)),
        }
    }
}

/// A field that holds a date. What cannot be read as one is taken out whole.
fn date(repetition: &str, is_birth: bool, scrubber: &mut Scrubber) -> String {
    let found = dates::compact(repetition).or_else(|| dates::dashed(repetition));
    match found {
        Some(found) => scrubber.date(found, is_birth),
        None if repetition.starts_with('[') => repetition.into(),
        None => scrubber.tag(Kind::Date).into(),
    }
}

/// A segment cut into fields.
struct Fields<'a> {
    name: &'a str,
    /// Fields after the name. A header's first is its separator itself, so they count from 2.
    values: Vec<&'a str>,
    is_header: bool,
    end: &'a str,
}

impl<'a> Fields<'a> {
    fn of(segment: &'a str, separators: Separators) -> Fields<'a> {
        let body = segment.trim_end_matches(['\r', '\n']);
        let mut parts = body.split(separators.field);
        let name = parts.next().unwrap_or("");
        let bare = name.trim_start_matches(|c: char| !c.is_alphanumeric());
        Fields {
            name,
            values: parts.collect(),
            is_header: HEADERS.contains(&bare),
            end: &segment[body.len()..],
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &'a str)> + use<'a> {
        let first = if self.is_header { 2 } else { 1 };
        self.values
            .clone()
            .into_iter()
            .enumerate()
            .map(move |(index, value)| (index + first, value))
    }

    fn get(&self, number: usize) -> &'a str {
        let first = if self.is_header { 2 } else { 1 };
        self.values.get(number.wrapping_sub(first)).copied().unwrap_or("")
    }

    /// The kind of identifier that this place holds.
    fn kind(&self, number: usize) -> Option<Kind> {
        if self.name == "OBX" && number == 5 {
            return VALUE_TYPES
                .iter()
                .find(|(name, _)| *name == self.get(2))
                .map(|(_, kind)| *kind);
        }
        let (_, places) = PLACES.iter().find(|(name, _)| *name == self.name)?;
        places
            .iter()
            .find(|(_, numbers)| numbers.contains(&number))
            .map(|(kind, _)| *kind)
    }

    fn is_birth(&self, number: usize) -> bool {
        matches!(
            (self.name, number),
            ("PID", 7) | ("NK1", 16) | ("GT1", 8) | ("IN1", 18)
        )
    }
}

/// Segments that declare separators.
const HEADERS: &[&str] = &["MSH", "FHS", "BHS"];

/// Types of an observation's value that identify.
const VALUE_TYPES: &[(&str, Kind)] = &[
    ("XPN", Kind::Name),
    ("PN", Kind::Name),
    ("XCN", Kind::Name),
    ("CN", Kind::Name),
    ("XAD", Kind::Address),
    ("AD", Kind::Address),
    ("XTN", Kind::Phone),
    ("TN", Kind::Phone),
    ("CX", Kind::Id),
    ("CK", Kind::Id),
    ("DT", Kind::Date),
    ("TS", Kind::Date),
    ("DTM", Kind::Date),
    ("ED", Kind::Attachment),
    ("RP", Kind::Attachment),
];

/// Numbers of the fields that hold a kind of identifier.
type Places = &'static [(Kind, &'static [usize])];

/// Where identifiers stand (HL7 v2.5.1, chapters 3, 4, 6, 7 and 10).
const PLACES: &[(&str, Places)] = &[
    ("EVN", &[(Kind::Name, &[5]), (Kind::Date, &[2, 3, 6])]),
    (
        "PID",
        &[
            (Kind::Mrn, &[3, 21]),
            (Kind::Id, &[2, 4, 18, 20]),
            (Kind::Name, &[5, 6, 9]),
            (Kind::Date, &[7, 29, 33]),
            (Kind::Address, &[11, 12, 23]),
            (Kind::Phone, &[13, 14, 40]),
            (Kind::Ssn, &[19]),
        ],
    ),
    ("PD1", &[(Kind::Name, &[4])]),
    (
        "NK1",
        &[
            (Kind::Name, &[2, 26, 30]),
            (Kind::Address, &[4, 32]),
            (Kind::Phone, &[5, 6, 31, 40, 41]),
            (Kind::Date, &[8, 9, 16]),
            (Kind::Id, &[12, 33]),
            (Kind::Ssn, &[37]),
        ],
    ),
    (
        "PV1",
        &[
            (Kind::Name, &[7, 8, 9, 17, 52]),
            (Kind::Id, &[5, 19, 50]),
            (Kind::Date, &[44, 45]),
        ],
    ),
    ("PV2", &[(Kind::Name, &[13]), (Kind::Date, &[8, 9])]),
    (
        "GT1",
        &[
            (Kind::Id, &[2, 19, 29]),
            (Kind::Name, &[3, 4, 16, 42, 45]),
            (Kind::Address, &[5, 17]),
            (Kind::Phone, &[6, 7, 18, 46]),
            (Kind::Date, &[8, 13, 14]),
            (Kind::Ssn, &[12]),
        ],
    ),
    (
        "IN1",
        &[
            (Kind::Id, &[8, 36, 49]),
            (Kind::Name, &[16]),
            (Kind::Date, &[12, 13, 18, 24, 26, 29]),
            (Kind::Address, &[19, 44]),
        ],
    ),
    (
        "IN2",
        &[
            (Kind::Id, &[1, 6, 8, 25, 61]),
            (Kind::Ssn, &[2]),
            (Kind::Name, &[3, 7, 9, 40]),
            (Kind::Phone, &[63, 64]),
        ],
    ),
    (
        "MRG",
        &[
            (Kind::Mrn, &[1, 4]),
            (Kind::Id, &[2, 3, 5, 6]),
            (Kind::Name, &[7]),
        ],
    ),
    (
        "ORC",
        &[
            (Kind::Name, &[10, 11, 12, 19]),
            (Kind::Phone, &[14, 23]),
            (Kind::Date, &[9, 15]),
            (Kind::Address, &[24]),
        ],
    ),
    (
        "OBR",
        &[
            (Kind::Name, &[10, 16, 28, 32, 33, 34, 35]),
            (Kind::Phone, &[17]),
            (Kind::Date, &[6, 7, 8, 14, 22, 36]),
        ],
    ),
    ("OBX", &[(Kind::Name, &[16, 25]), (Kind::Date, &[14, 19])]),
    ("DG1", &[(Kind::Name, &[16]), (Kind::Date, &[5, 19])]),
    ("PR1", &[(Kind::Name, &[8, 11, 12]), (Kind::Date, &[5])]),
    (
        "TXA",
        &[(Kind::Name, &[5, 9, 10, 11, 22]), (Kind::Date, &[4, 6, 7, 8])],
    ),
    (
        "SCH",
        &[
            (Kind::Name, &[12, 16, 20]),
            (Kind::Phone, &[13, 17]),
            (Kind::Address, &[14, 18]),
        ],
    ),
    ("AIP", &[(Kind::Name, &[3])]),
    (
        "ROL",
        &[(Kind::Name, &[4]), (Kind::Address, &[11]), (Kind::Phone, &[12])],
    ),
    (
        "CTD",
        &[(Kind::Name, &[2]), (Kind::Address, &[3]), (Kind::Phone, &[5])],
    ),
    (
        "STF",
        &[
            (Kind::Id, &[1, 2]),
            (Kind::Name, &[3]),
            (Kind::Phone, &[10]),
            (Kind::Address, &[11]),
        ],
    ),
];

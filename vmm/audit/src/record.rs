//! One record: its fields, its bounds, and its bytes.
//!
//! Whatever a muscle chose (a path, an unknown call's name) goes in as [`Value::Guest`] and is written as
//! its length and digest, or, when the operator asks for it, as escaped text of bounded length.

use std::fmt;

use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a record tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A bundle was measured into the host's TPM.
    Measure,
    /// A cell begins.
    Start,
    /// A capability was granted.
    Grant,
    /// A bundle or a request was refused before a cell began.
    Reject,
    /// A grant was used.
    Use,
    /// A use was refused.
    Deny,
    /// A grant was taken back.
    Revoke,
    /// A grant was made smaller.
    Narrow,
    /// The muscle broke a rule.
    Fault,
    /// The cell was given a new life, as if it had just been started.
    Reset,
    /// The cell is over.
    End,
    /// The log was repaired after a crash.
    Recover,
    /// Everything before was moved into another file.
    Rotate,
    /// A deployment of a service was made, changed or removed, or its authority read again; by whom.
    Manage,
    /// A key of this host was used by hand, or what is kept under one given up: recovery by the offline key, a muscle's state.
    Key,
}

/// What to record; the log adds number, time, chain.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What it tells of.
    pub kind: Kind,
    /// Kind of capability, as manifests name it.
    pub capability: Option<&'a str>,
    /// Name of the manifest's slot.
    pub slot: Option<&'a str>,
    /// What was done with it.
    pub op: Option<&'a str>,
    /// More, in this order; at most [`MAX_DETAILS`] are written.
    pub detail: &'a [(&'a str, Value<'a>)],
}

impl<'a> Event<'a> {
    /// An event about the cell as a whole.
    pub const fn of_cell(kind: Kind, detail: &'a [(&'a str, Value<'a>)]) -> Event<'a> {
        Event {
            kind,
            capability: None,
            slot: None,
            op: None,
            detail,
        }
    }
}

/// A detail's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value<'a> {
    /// A count or size.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// The host's own words; cut at [`MAX_TEXT`] bytes.
    Text(&'a str),
    /// 64 bits whose digits matter (a handle, an address), written as hexadecimal text.
    Bits(u64),
    /// Bytes that a muscle chose.
    Guest(&'a [u8]),
}

/// How [`Value::Guest`] is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GuestText {
    /// Length and SHA-256 only: nothing that a muscle chose can be read in the log, yet a guess can be checked.
    #[default]
    Redact,
    /// The first [`MAX_GUEST`] bytes, everything but printable ASCII escaped.
    Escape,
}

/// A SHA-256 digest, written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Hash(pub [u8; 32]);

impl Hash {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }

    /// Reads 64 lower-case hexadecimal digits.
    pub fn from_hex(digits: &[u8]) -> Option<Hash> {
        if digits.len() != 64 {
            return None;
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Some(digit - b'0'),
            b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        let mut out = [0u8; 32];
        for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
            let [high, low] = pair else { return None };
            *byte = (nibble(*high)? << 4) | nibble(*low)?;
        }
        Some(Hash(out))
    }

    fn hex(&self) -> [u8; 64] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut out = [0u8; 64];
        for (pair, byte) in out.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        out
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.hex()
            .iter()
            .try_for_each(|digit| fmt::Write::write_char(f, char::from(*digit)))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Where a log stands: what its next record follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of records.
    pub records: u64,
    /// Hash of the last one, zeros when there is none.
    pub hash: Hash,
}

impl Head {
    /// The head of an empty log.
    pub const EMPTY: Head = Head {
        records: 0,
        hash: Hash([0; 32]),
    };
}

/// Most bytes of a line, newline included.
pub const MAX_RECORD: usize = 16 * 1024;
/// Most details of a record.
pub const MAX_DETAILS: usize = 40;
/// Most bytes of the host's own text in one value.
pub const MAX_TEXT: usize = 512;
/// Most bytes of a muscle's text in one value.
pub const MAX_GUEST: usize = 256;

/// Between body and hash.
pub(crate) const HASH_MARK: &[u8] = b",\"hash\":\"";
/// Bytes after the body: mark, digits, quote, brace.
pub(crate) const HASH_TAIL: usize = HASH_MARK.len() + 64 + 2;

/// Who the record is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub cell: &'a str,
    pub muscle: &'a str,
}

/// Writes a whole line into `line` and gives the new head.
pub(crate) fn encode(
    line: &mut Vec<u8>,
    head: Head,
    time_ns: u64,
    subject: Subject<'_>,
    event: &Event<'_>,
    guest: GuestText,
) -> Result<Head, serde_json::Error> {
    let mut wire = WireRecord {
        seq: head.records,
        time: time_ns,
        cell: clip(subject.cell, MAX_TEXT),
        muscle: clip(subject.muscle, MAX_TEXT),
        kind: event.kind,
        capability: event.capability.map(|text| clip(text, MAX_TEXT)),
        slot: event.slot.map(|text| clip(text, MAX_TEXT)),
        op: event.op.map(|text| clip(text, MAX_TEXT)),
        detail: Details {
            entries: event.detail.get(..MAX_DETAILS).unwrap_or(event.detail),
            guest,
        },
        truncated: event.detail.len() > MAX_DETAILS,
        prev: head.hash,
    };
    line.clear();
    serde_json::to_writer(&mut *line, &wire)?;
    if line.len() + HASH_TAIL >= MAX_RECORD {
        wire.detail.entries = &[];
        wire.truncated = true;
        line.clear();
        serde_json::to_writer(&mut *line, &wire)?;
    }
    line.pop();
    let hash = Hash::of(line);
    line.extend_from_slice(HASH_MARK);
    line.extend_from_slice(&hash.hex());
    line.extend_from_slice(b"\"}\n");
    Ok(Head {
        records: head.records.saturating_add(1),
        hash,
    })
}

#[derive(Serialize)]
struct WireRecord<'a> {
    seq: u64,
    time: u64,
    cell: &'a str,
    muscle: &'a str,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    capability: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    op: Option<&'a str>,
    #[serde(skip_serializing_if = "Details::is_empty")]
    detail: Details<'a>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    truncated: bool,
    prev: Hash,
}

struct Details<'a> {
    entries: &'a [(&'a str, Value<'a>)],
    guest: GuestText,
}

impl Details<'_> {
    fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Serialize for Details<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.entries.len()))?;
        for (name, value) in self.entries {
            match value {
                Value::Number(number) => map.serialize_entry(name, number)?,
                Value::Flag(flag) => map.serialize_entry(name, flag)?,
                Value::Text(text) => map.serialize_entry(name, clip(text, MAX_TEXT))?,
                Value::Bits(bits) => map.serialize_entry(name, &format_args!("{bits:#x}"))?,
                Value::Guest(bytes) => map.serialize_entry(
                    name,
                    &Guest {
                        bytes,
                        how: self.guest,
                    },
                )?,
            }
        }
        map.end()
    }
}

struct Guest<'a> {
    bytes: &'a [u8],
    how: GuestText,
}

impl Serialize for Guest<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(2))?;
        map.serialize_entry("bytes", &self.bytes.len())?;
        match self.how {
            GuestText::Redact => map.serialize_entry("sha256", &Hash::of(self.bytes))?,
            GuestText::Escape => {
                let head = self.bytes.get(..MAX_GUEST).unwrap_or(self.bytes);
                map.serialize_entry("text", &format_args!("{}", head.escape_ascii()))?;
            }
        }
        map.end()
    }
}

/// The longest front of `text` of at most `max` bytes that is still text.
fn clip(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(event: &Event<'_>, guest: GuestText) -> String {
        let mut bytes = Vec::new();
        let subject = Subject {
            cell: "c1",
            muscle: "demo 1.0.0",
        };
        encode(&mut bytes, Head::EMPTY, 5, subject, event, guest).expect("plain data is JSON");
        String::from_utf8(bytes).expect("JSON is text")
    }

    #[test]
    fn a_record_has_the_form_that_the_documentation_draws() {
        let event = Event {
            kind: Kind::Use,
            capability: Some("files"),
            slot: Some("input"),
            op: Some("files.read"),
            detail: &[
                ("bytes", Value::Number(3)),
                ("handle", Value::Bits(0x1_0000_0002)),
            ],
        };
        let text = line(&event, GuestText::Redact);
        let zeros = "0".repeat(64);
        let body = format!(
            r#"{{"seq":0,"time":5,"cell":"c1","muscle":"demo 1.0.0","kind":"use","capability":"files","slot":"input","op":"files.read","detail":{{"bytes":3,"handle":"0x100000002"}},"prev":"{zeros}""#
        );
        let hash = Hash::of(body.as_bytes());
        assert_eq!(text, format!("{body},\"hash\":\"{hash}\"}}\n"));
    }

    #[test]
    fn what_a_muscle_chose_is_redacted_unless_asked_for() {
        let event = Event::of_cell(Kind::Deny, &[("path", Value::Guest(b"a\n\xffb\""))]);
        let redacted = line(&event, GuestText::Redact);
        assert!(redacted.contains(&format!(
            r#""path":{{"bytes":5,"sha256":"{}"}}"#,
            Hash::of(b"a\n\xffb\"")
        )));
        let escaped = line(&event, GuestText::Escape);
        assert!(
            escaped.contains(r#""path":{"bytes":5,"text":"a\\n\\xffb\\\""}"#),
            "{escaped}"
        );
    }

    #[test]
    fn long_values_are_cut_and_a_huge_record_loses_its_details() {
        let long = "é".repeat(MAX_TEXT);
        let cut = line(
            &Event::of_cell(Kind::Fault, &[("text", Value::Text(&long))]),
            GuestText::Redact,
        );
        assert!(cut.contains(&format!("\"{}\"", "é".repeat(MAX_TEXT / 2))));
        let wild = [0u8; MAX_GUEST];
        let many = [("bytes", Value::Guest(&wild)); MAX_DETAILS + 1];
        let huge = line(&Event::of_cell(Kind::Fault, &many), GuestText::Escape);
        assert!(huge.len() < 1024 && huge.contains("\"truncated\":true"), "{huge}");
    }

    #[test]
    fn hexadecimal_reads_back_and_refuses_the_rest() {
        let hash = Hash::of(b"x");
        assert_eq!(Hash::from_hex(hash.to_string().as_bytes()), Some(hash));
        assert_eq!(Hash::from_hex(hash.to_string().to_uppercase().as_bytes()), None);
        assert_eq!(Hash::from_hex(b"00"), None);
    }
}

//! Checking a whole log, line by line, from its first record.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::Deserialize;

use crate::error::{AuditError, Defect};
use crate::record::{HASH_MARK, HASH_TAIL, Hash, Head, Kind, MAX_RECORD};
use crate::rotate::archives;

/// What a whole and unbroken log holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Number of its first record; more than 0 when older ones were moved away and are not beside it.
    pub first: u64,
    /// Where it stands.
    pub head: Head,
    /// Bytes.
    pub bytes: u64,
}

/// Checks every line of the log at `path`, and of what was moved away before it and lies beside it.
///
/// # Errors
/// [`AuditError::Open`], [`AuditError::Read`], or [`AuditError::Broken`] at the first line that breaks a rule.
pub fn verify(path: &Path) -> Result<Summary, AuditError> {
    verify_watched(path, |_, _| ())
}

/// Checks every line of the log at `path`, and tells `watch` now and then how many bytes of how many are done.
///
/// # Errors
/// As [`verify`].
pub fn verify_watched(path: &Path, mut watch: impl FnMut(u64, u64)) -> Result<Summary, AuditError> {
    let (input, size) = open(path)?;
    verify_from(input, u64::MAX, |head, _, done| {
        if head.records.is_multiple_of(WATCH_EACH) {
            watch(done, size);
        }
    })
}

/// Checks the first `most` lines of the log at `path` (`u64::MAX`: all), and gives `each` of them, without its newline, to the caller with
/// where the log stood after it.
///
/// # Errors
/// As [`verify`].
pub fn verify_each(
    path: &Path,
    most: u64,
    mut each: impl FnMut(&Head, &[u8]),
) -> Result<Summary, AuditError> {
    verify_from(open(path)?.0, most, |head, line, _| each(head, line))
}

/// The log with what was moved away before it and lies beside it, as one, and its size.
fn open(path: &Path) -> Result<(impl BufRead, u64), AuditError> {
    let mut input: Box<dyn Read> = Box::new(std::io::empty());
    let mut size = 0u64;
    for path in archives(path)?.into_iter().chain([path.to_owned()]) {
        let file = File::open(&path).map_err(|source| AuditError::Open { path, source })?;
        size = size.saturating_add(file.metadata().map_err(AuditError::Read)?.len());
        input = Box::new(input.chain(file));
    }
    Ok((BufReader::with_capacity(64 * 1024, input), size))
}

/// Checks every line of a log that is in memory.
///
/// # Errors
/// [`AuditError::Broken`] at the first line that breaks a rule.
pub fn verify_bytes(bytes: &[u8]) -> Result<Summary, AuditError> {
    verify_from(bytes, u64::MAX, |_, _, _| ())
}

/// Records between two looks at how far the check is.
const WATCH_EACH: u64 = 1024;

fn verify_from(
    mut input: impl BufRead,
    most: u64,
    mut each: impl FnMut(&Head, &[u8], u64),
) -> Result<Summary, AuditError> {
    let mut head = Head::EMPTY;
    let mut first = 0;
    let mut offset = 0u64;
    let mut line = Vec::new();
    while head.records < most {
        line.clear();
        let limit = MAX_RECORD as u64 + 1;
        let taken = input
            .by_ref()
            .take(limit)
            .read_until(b'\n', &mut line)
            .map_err(AuditError::Read)?;
        if taken == 0 {
            break;
        }
        let number = head.records.saturating_add(1);
        let broken = |defect| AuditError::Broken {
            line: number,
            offset,
            defect,
        };
        let record = check_line(&line).map_err(broken)?;
        if offset == 0 && record.kind == Kind::Rotate {
            head = record.before();
            first = head.records;
        }
        record.follows(&head).map_err(broken)?;
        head = record.head();
        offset = offset.saturating_add(line.len() as u64);
        each(&head, line.strip_suffix(b"\n").unwrap_or(&line), offset);
    }
    Ok(Summary {
        first,
        head,
        bytes: offset,
    })
}

/// A line that is a record with a right hash.
#[derive(Debug)]
pub(crate) struct CheckedLine {
    /// What it tells of.
    pub kind: Kind,
    seq: u64,
    prev: Hash,
    hash: Hash,
}

impl CheckedLine {
    /// The head of a log that ends with this line.
    pub fn head(&self) -> Head {
        Head {
            records: self.seq.saturating_add(1),
            hash: self.hash,
        }
    }

    /// The head of a log that this line belongs after.
    pub fn before(&self) -> Head {
        Head {
            records: self.seq,
            hash: self.prev,
        }
    }

    /// Whether the line belongs after `head`.
    pub fn follows(&self, head: &Head) -> Result<(), Defect> {
        if self.seq != head.records {
            return Err(Defect::WrongSequence {
                expected: head.records,
                found: self.seq,
            });
        }
        if self.prev != head.hash {
            return Err(Defect::WrongPrevious);
        }
        Ok(())
    }
}

/// Checks one line, newline included, by itself.
pub(crate) fn check_line(line: &[u8]) -> Result<CheckedLine, Defect> {
    if line.len() > MAX_RECORD {
        return Err(Defect::TooLong { max: MAX_RECORD });
    }
    let Some((b'\n', text)) = line.split_last() else {
        return Err(Defect::Torn { bytes: line.len() });
    };
    let (body, tail) = text
        .len()
        .checked_sub(HASH_TAIL)
        .and_then(|at| text.split_at_checked(at))
        .ok_or(Defect::NoHash)?;
    let digits = tail
        .strip_prefix(HASH_MARK)
        .and_then(|rest| rest.strip_suffix(b"\"}"))
        .ok_or(Defect::NoHash)?;
    let hash = Hash::from_hex(digits).ok_or(Defect::NoHash)?;
    if Hash::of(body) != hash {
        return Err(Defect::WrongHash);
    }
    let wire: WireLine<'_> = serde_json::from_slice(text).map_err(|error| Defect::NotARecord {
        column: error.column(),
    })?;
    let prev = Hash::from_hex(wire.prev.as_bytes()).ok_or(Defect::NotARecord { column: 0 })?;
    Ok(CheckedLine {
        kind: wire.kind,
        seq: wire.seq,
        prev,
        hash,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "read to refuse lines that lack them or say them twice")]
struct WireLine<'a> {
    seq: u64,
    time: u64,
    cell: String,
    muscle: String,
    kind: Kind,
    #[serde(default)]
    capability: Option<String>,
    #[serde(default)]
    slot: Option<String>,
    #[serde(default)]
    op: Option<String>,
    #[serde(default)]
    detail: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    truncated: bool,
    prev: &'a str,
    hash: &'a str,
}

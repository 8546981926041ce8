//! Reading the end of a log: its head, and a line that a crash cut.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::error::{AuditError, Defect};
use crate::record::{Head, Kind, MAX_RECORD};
use crate::verify::check_line;

/// How a log ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Tail {
    /// Where its whole lines stand.
    pub head: Head,
    /// Bytes of its whole lines.
    pub whole: u64,
    /// What follows them: a record that was being written when the machine or process stopped. It was never
    /// answered to, since an append that did not finish is an error.
    pub torn: Vec<u8>,
}

/// Reads the end of a file of `length` bytes: checks its last two whole lines and that one follows the other.
pub(crate) fn read_tail(file: &File, length: u64) -> Result<Tail, AuditError> {
    let window = length.min(WINDOW as u64);
    let start = length - window;
    let mut bytes = vec![0u8; usize::try_from(window).unwrap_or(WINDOW)];
    file.read_exact_at(&mut bytes, start).map_err(AuditError::Read)?;
    tail_of(&bytes, start)
}

/// The same for bytes that are in memory and begin `start` bytes into the log.
pub(crate) fn tail_of(bytes: &[u8], start: u64) -> Result<Tail, AuditError> {
    let whole = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (lines, torn) = bytes.split_at_checked(whole).unwrap_or((bytes, &[]));
    let at = |offset: usize| start.saturating_add(offset as u64);
    let broken = |offset: usize, defect| AuditError::Broken {
        line: 1,
        offset: at(offset),
        defect,
    };
    if torn.len() > MAX_RECORD {
        return Err(broken(whole, Defect::TooLong { max: MAX_RECORD }));
    }
    let mut head = Head::EMPTY;
    if !lines.is_empty() {
        let last = last_line_start(lines, start).ok_or(broken(0, Defect::TooLong { max: MAX_RECORD }))?;
        let record = check_line(lines.get(last..).unwrap_or(&[])).map_err(|defect| broken(last, defect))?;
        let before = lines.get(..last).unwrap_or(&[]);
        if last == 0 && start == 0 && record.kind != Kind::Rotate {
            record
                .follows(&Head::EMPTY)
                .map_err(|defect| broken(last, defect))?;
        } else if let Some(first) = last_line_start(before, start) {
            let previous =
                check_line(before.get(first..).unwrap_or(&[])).map_err(|defect| broken(first, defect))?;
            record
                .follows(&previous.head())
                .map_err(|defect| broken(last, defect))?;
        }
        head = record.head();
    }
    Ok(Tail {
        head,
        whole: at(whole),
        torn: torn.to_vec(),
    })
}

/// Where the last whole line of `lines` starts; `None` when it has none, or none that surely starts in it.
fn last_line_start(lines: &[u8], start: u64) -> Option<usize> {
    let (_, text) = lines.split_last()?;
    match text.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => Some(at + 1),
        None => (start == 0).then_some(0),
    }
}

/// Two whole lines and a torn one, whatever their lengths.
const WINDOW: usize = 3 * MAX_RECORD + 1;

//! What can go wrong with the log. All of it is the host's failure, never a muscle's.

use std::io;

/// Why the log could not be opened, read or appended to.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The file could not be opened.
    #[error("cannot open the audit log {path}")]
    Open {
        /// The path as given.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The open file is not a regular file, so it cannot be read back.
    #[error("the audit log is not a regular file")]
    NotAFile,
    /// The open file was not opened for appending, so that a record could overwrite another.
    #[error("the audit log was not opened with O_APPEND and for reading and writing")]
    NotAppending,
    /// Another process holds the log for itself alone.
    #[error("the audit log is in use by another process")]
    InUse,
    /// Taking or giving back the file lock failed.
    #[error("cannot lock the audit log")]
    Lock(#[source] io::Error),
    /// Reading the log failed.
    #[error("cannot read the audit log")]
    Read(#[source] io::Error),
    /// Writing a record failed; the log is as it was before.
    #[error("cannot append to the audit log")]
    Append(#[source] io::Error),
    /// Writing failed half-way and cutting off the half failed too; nothing more is appended.
    #[error("cannot cut a half-written record off the audit log")]
    Truncate(#[source] io::Error),
    /// An earlier append failed beyond repair.
    #[error("the audit log takes no more records after a failed append")]
    Poisoned,
    /// Flushing to the disk failed.
    #[error("cannot flush the audit log to the disk")]
    Sync(#[source] io::Error),
    /// The file shrank or its lines do not follow from each other.
    #[error("the audit log is broken at line {line} (byte {offset}): {defect}")]
    Broken {
        /// Line, counted from 1; in a tail that was read alone, counted from the tail's first whole line.
        line: u64,
        /// Byte at which the line starts.
        offset: u64,
        /// Which rule it breaks.
        defect: Defect,
    },
    /// Moving older records into another file failed; it is finished when the log is opened next.
    #[error("cannot rotate the audit log")]
    Rotate(#[source] io::Error),
    /// Sequence numbers are used up.
    #[error("the audit log is full: no sequence number follows {last}")]
    Full {
        /// The last one.
        last: u64,
    },
    /// The process that keeps the log cannot be reached, or the record is too large for it.
    #[error("the process that keeps the audit log cannot be reached")]
    Line(#[source] io::Error),
    /// The process that keeps the log could not take the record, and says why where it runs.
    #[error("the process that keeps the audit log did not take the record")]
    NotTaken,
    /// A record could not be written as JSON.
    #[error("cannot write a record as JSON")]
    Encode(#[source] serde_json::Error),
}

/// Which rule of the chain a line breaks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// The line is longer than any record.
    #[error("the line is longer than {max} bytes")]
    TooLong {
        /// Most bytes of a line, newline included.
        max: usize,
    },
    /// The last line has no newline: a crash cut it.
    #[error("the last line is torn after {bytes} bytes")]
    Torn {
        /// Bytes that are there.
        bytes: usize,
    },
    /// The line does not end in a hash field.
    #[error("the line does not end in a hash")]
    NoHash,
    /// The line is not a record.
    #[error("the line is not a record: JSON error at column {column}")]
    NotARecord {
        /// Column that the JSON reader stopped at.
        column: usize,
    },
    /// The hash is not that of the line.
    #[error("the hash is not that of the line")]
    WrongHash,
    /// The line does not name the hash of the one before it.
    #[error("the line does not follow the one before it")]
    WrongPrevious,
    /// The sequence number is not one more than the one before.
    #[error("sequence number {found} where {expected} belongs")]
    WrongSequence {
        /// Number that belongs there.
        expected: u64,
        /// Number that stands there.
        found: u64,
    },
    /// The file is shorter than it was.
    #[error("the file was cut from {was} to {now} bytes")]
    Shrunk {
        /// Bytes it had.
        was: u64,
        /// Bytes it has.
        now: u64,
    },
}

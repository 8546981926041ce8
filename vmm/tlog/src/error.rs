//! What is wrong with a log, a note or a proof.

use std::io;
use std::path::PathBuf;

use referee_audit::AuditError;

/// Why something was not published, signed or believed.
#[derive(Debug, thiserror::Error)]
pub enum TlogError {
    /// A file cannot be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The audit log itself is broken.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The log has fewer records than were published.
    #[error("the log has {found} records, and {published} were published: its end was cut off")]
    Cut {
        /// How many it has.
        found: u64,
        /// How many there were.
        published: u64,
    },
    /// The log has other records than were published.
    #[error("record {record} is not the one that was published: the log was written anew")]
    Rewritten {
        /// The first that differs, counted from 0.
        record: u64,
    },
    /// Older records were moved away, and are not beside the log.
    #[error(
        "the log begins with record {first}: the files with the records before it must lie beside it (LOG.FIRST-LAST)"
    )]
    Missing {
        /// Number of the first that is there.
        first: u64,
    },
    /// A tile that must be there is not, or has the wrong length.
    #[error("tile {path}: {what}")]
    Tile {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
    /// A proof that a tree has a record, or is the beginning of another, does not hold.
    #[error("the {what} proof does not hold: {why}")]
    Proof {
        /// Which kind.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// A record or size outside the tree.
    #[error("there is no {what} {index} in a tree of {size} records")]
    OutOfRange {
        /// Record or tree.
        what: &'static str,
        /// Its number or size.
        index: u64,
        /// Size of the tree.
        size: u64,
    },
    /// A document is not in its format.
    #[error("{document}: {what}")]
    Malformed {
        /// Note, checkpoint, key, proof, request.
        document: &'static str,
        /// What is wrong.
        what: String,
    },
    /// A signature by a key that is known does not hold.
    #[error("the signature by {name} does not hold")]
    BadSignature {
        /// The key's name.
        name: String,
    },
    /// A key could not be made or could not sign.
    #[error("{0}")]
    Key(String),
}

impl TlogError {
    pub(crate) fn malformed(document: &'static str, what: impl Into<String>) -> TlogError {
        TlogError::Malformed {
            document,
            what: what.into(),
        }
    }
}

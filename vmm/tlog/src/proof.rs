//! That a record is in a log, in one file that needs nothing else (c2sp.org/tlog-proof): its number, the hashes beside its way to the
//! root, and the checkpoint with whatever signatures it has.

use std::fmt;

use crate::checkpoint::{Checkpoint, decimal};
use crate::error::TlogError;
use crate::hash::TreeHash;
use crate::note::Note;
use crate::tree::{Nodes, inclusion, verify_inclusion};

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";
/// A tree of 2^64 records has no longer way.
const HASHES_MAX: usize = 64;

/// A proof of inclusion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Number of the record, counted from 0.
    pub index: u64,
    /// From the leaf's sibling upwards.
    pub hashes: Vec<TreeHash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl InclusionProof {
    /// Makes the proof for the record with this number in the checkpoint's tree.
    ///
    /// # Errors
    /// [`TlogError::OutOfRange`], [`TlogError::Malformed`], those of `nodes`.
    pub fn make(nodes: &impl Nodes, index: u64, checkpoint: Note) -> Result<InclusionProof, TlogError> {
        let size = Checkpoint::parse(&checkpoint.text)?.head.size;
        Ok(InclusionProof {
            index,
            hashes: inclusion(nodes, index, size)?,
            checkpoint,
        })
    }

    /// Reads the file. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<InclusionProof, TlogError> {
        let no = |what: &str| TlogError::malformed("inclusion proof", what);
        let text = std::str::from_utf8(bytes).map_err(|_| no("is not UTF-8"))?;
        let (proof, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| no("has no empty line before its checkpoint"))?;
        let mut lines = proof.lines();
        if lines.next() != Some(FIRST_LINE) {
            return Err(no("does not begin with c2sp.org/tlog-proof@v1"));
        }
        let mut line = lines.next();
        // Extra data has no meaning here, and nothing vouches for it.
        if line.is_some_and(|line| line.starts_with("extra ")) {
            line = lines.next();
        }
        let index = line
            .and_then(|line| line.strip_prefix("index "))
            .and_then(decimal)
            .ok_or_else(|| no("has no line `index NUMBER`"))?;
        let hashes: Vec<TreeHash> = lines
            .map(TreeHash::from_base64)
            .collect::<Option<_>>()
            .ok_or_else(|| no("has a hash that is not 32 bytes of base64"))?;
        if hashes.len() > HASHES_MAX {
            return Err(no("has more than 64 hashes"));
        }
        Ok(InclusionProof {
            index,
            hashes,
            checkpoint: Note::parse(checkpoint.as_bytes())?,
        })
    }

    /// Whether it shows that the checkpoint's tree has this record at that place. Who signed the checkpoint is the caller's to check.
    ///
    /// # Errors
    /// [`TlogError::Proof`], [`TlogError::Malformed`].
    pub fn verify(&self, record: &[u8]) -> Result<Checkpoint, TlogError> {
        let checkpoint = Checkpoint::parse(&self.checkpoint.text)?;
        verify_inclusion(&checkpoint.head, self.index, record, &self.hashes)?;
        Ok(checkpoint)
    }
}

impl fmt::Display for InclusionProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{FIRST_LINE}\nindex {}", self.index)?;
        self.hashes.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

//! A witness: it remembers how far it saw a log grow, and cosigns a checkpoint only when a proof shows that nothing of that was taken
//! back (c2sp.org/tlog-witness, `add-checkpoint`). How requests come and answers go is the caller's: a pipe, `ssh`, a web server.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use sha2::{Digest, Sha256};

use crate::checkpoint::{Checkpoint, decimal};
use crate::cosignature::CosignerKeys;
use crate::error::TlogError;
use crate::files::{failed, read, replace};
use crate::hash::TreeHash;
use crate::note::{Note, NoteSignature, Verification, VerifierKey, signature_lines};
use crate::tree::{Nodes, TreeHead, consistency, verify_consistency};

/// C2SP allows no longer proof.
const PROOF_MAX: usize = 63;

/// What is asked of a witness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Size of the tree that the asker believes the witness cosigned last; 0 for none.
    pub old: u64,
    /// Proof of consistency from there.
    pub proof: Vec<TreeHash>,
    /// The signed checkpoint.
    pub checkpoint: Note,
}

impl Request {
    /// Makes the request for a log that the witness has seen up to `old` records.
    ///
    /// # Errors
    /// [`TlogError::OutOfRange`], [`TlogError::Malformed`], those of `nodes`.
    pub fn make(nodes: &impl Nodes, old: u64, checkpoint: Note) -> Result<Request, TlogError> {
        let size = Checkpoint::parse(&checkpoint.text)?.head.size;
        Ok(Request {
            old,
            proof: consistency(nodes, old, size)?,
            checkpoint,
        })
    }

    /// Reads the body of `add-checkpoint`.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Request, TlogError> {
        let no = |what: &str| TlogError::malformed("request to a witness", what);
        let text = std::str::from_utf8(bytes).map_err(|_| no("is not UTF-8"))?;
        let (head, checkpoint) = text
            .split_once("\n\n")
            .ok_or_else(|| no("has no empty line before its checkpoint"))?;
        let mut lines = head.lines();
        let old = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(decimal)
            .ok_or_else(|| no("does not begin with `old SIZE`"))?;
        let proof: Vec<TreeHash> = lines
            .map(TreeHash::from_base64)
            .collect::<Option<_>>()
            .ok_or_else(|| no("has a hash that is not 32 bytes of base64"))?;
        if proof.len() > PROOF_MAX {
            return Err(no("has more than 63 hashes"));
        }
        Ok(Request {
            old,
            proof,
            checkpoint: Note::parse(checkpoint.as_bytes())?,
        })
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old)?;
        self.proof.iter().try_for_each(|hash| writeln!(f, "{hash}"))?;
        write!(f, "\n{}", self.checkpoint)
    }
}

/// What a witness answers; the number is the status that a web server would send with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// 200: it cosigned.
    Cosigned(Vec<NoteSignature>),
    /// 404: it knows no log of that name.
    UnknownLog,
    /// 403: the log did not sign.
    NotSigned,
    /// 409: it cosigned another size last.
    Conflict {
        /// That size.
        size: u64,
    },
    /// 409: the same size with another root: somebody keeps two logs under one name.
    Split {
        /// What it cosigned.
        seen: TreeHead,
    },
    /// 422: the new tree does not begin with the old one, or the proof does not show it.
    NotConsistent(String),
    /// 400: the request is none.
    BadRequest(String),
}

impl Answer {
    /// The status of `add-checkpoint`.
    pub fn status(&self) -> u16 {
        match self {
            Answer::Cosigned(_) => 200,
            Answer::BadRequest(_) => 400,
            Answer::NotSigned => 403,
            Answer::UnknownLog => 404,
            Answer::Conflict { .. } | Answer::Split { .. } => 409,
            Answer::NotConsistent(_) => 422,
        }
    }

    /// Reads what a witness answered to a request that it accepted: lines of signature.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse_cosigned(bytes: &[u8]) -> Result<Vec<NoteSignature>, TlogError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| TlogError::malformed("answer of a witness", "is not UTF-8"))?;
        signature_lines(text)
    }
}

/// The text of the answer: signature lines, the size it knows, or why not.
impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Cosigned(lines) => lines.iter().try_for_each(|line| writeln!(f, "{line}")),
            Answer::UnknownLog => writeln!(f, "no log of that name is known here"),
            Answer::NotSigned => writeln!(f, "the log's key has not signed this"),
            Answer::Conflict { size } => writeln!(f, "{size}"),
            Answer::Split { seen } => {
                writeln!(
                    f,
                    "two logs under one name: at {} records the root was {}",
                    seen.size, seen.root
                )
            }
            Answer::NotConsistent(why) | Answer::BadRequest(why) => writeln!(f, "{why}"),
        }
    }
}

/// A witness with its memory, a file for each log.
pub struct Witness {
    directory: PathBuf,
    keys: CosignerKeys,
    logs: Vec<(String, VerifierKey)>,
}

impl Witness {
    /// A witness that knows these logs, each by its name and a key that signs for it. A log whose key changes is listed with both.
    pub fn new(directory: &Path, keys: CosignerKeys, logs: Vec<(String, VerifierKey)>) -> Witness {
        Witness {
            directory: directory.to_owned(),
            keys,
            logs,
        }
    }

    /// Checks one request, remembers the new tree on the disk, and only then gives the cosignatures.
    ///
    /// # Errors
    /// [`TlogError::File`] when its memory fails; whatever is wrong with the request is an [`Answer`].
    pub fn answer(&self, request: &[u8], now: u64) -> Result<Answer, TlogError> {
        let parsed = Request::parse(request).and_then(|request| {
            let checkpoint = Checkpoint::parse(&request.checkpoint.text)?;
            Ok((request, checkpoint))
        });
        let (request, checkpoint) = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return Ok(Answer::BadRequest(error.to_string())),
        };
        let mut keys = self
            .logs
            .iter()
            .filter(|(origin, _)| *origin == checkpoint.origin)
            .map(|(_, key)| key)
            .peekable();
        if keys.peek().is_none() {
            return Ok(Answer::UnknownLog);
        }
        if !keys
            .any(|key| matches!(key.verify(&request.checkpoint), Ok(found) if found != Verification::Missing))
        {
            return Ok(Answer::NotSigned);
        }
        let new = checkpoint.head;
        if request.old > new.size {
            return Ok(Answer::BadRequest(format!(
                "old size {} is larger than {}",
                request.old, new.size
            )));
        }
        // Held from reading to writing, so that no two requests see the same memory.
        let _lock = self.lock()?;
        let seen = self.seen(&checkpoint.origin)?;
        if request.old != seen.size {
            return Ok(Answer::Conflict { size: seen.size });
        }
        if seen.size == new.size && seen.root != new.root {
            return Ok(Answer::Split { seen });
        }
        if let Err(error) = verify_consistency(&seen, &new, &request.proof) {
            return Ok(Answer::NotConsistent(error.to_string()));
        }
        replace(
            &self.memory_of(&checkpoint.origin),
            checkpoint.to_string().as_bytes(),
        )?;
        Ok(Answer::Cosigned(self.keys.cosign(&request.checkpoint, now)?))
    }

    fn seen(&self, origin: &str) -> Result<TreeHead, TlogError> {
        match read(&self.memory_of(origin))? {
            None => Ok(TreeHead::empty()),
            Some(bytes) => {
                Checkpoint::parse(&String::from_utf8_lossy(&bytes)).map(|checkpoint| checkpoint.head)
            }
        }
    }

    /// A name that is one path component whatever the log is called.
    fn memory_of(&self, origin: &str) -> PathBuf {
        let digest: String = Sha256::digest(origin)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.directory.join(digest)
    }

    fn lock(&self) -> Result<File, TlogError> {
        let path = self.directory.join("lock");
        let lock = || {
            std::fs::create_dir_all(&self.directory)?;
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            flock(&file, FlockOperation::LockExclusive)?;
            Ok(file)
        };
        lock().map_err(|source| failed(&path, source))
    }
}

#[cfg(test)]
mod tests;

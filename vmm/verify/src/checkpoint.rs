//! Checkpoints of a published log: who signed them, what tree they speak of, and what is shown by proofs.

use std::fs;
use std::path::Path;

use anyhow::Context;
use referee_evidence::{Report, to_hex};
use referee_tlog::{
    Algorithm, Checkpoint, InclusionProof, Leaves, Note, TileDirectory, TlogError, Verification, VerifierKey,
    consistency as consistency_proof, root, verify_consistency,
};
use sha2::{Digest as _, Sha256};

use crate::cli::{ConsistencyArgs, InclusionArgs, SignerArgs};
use crate::evidence::{read, verdict};
use crate::voucher::{Known, known};

/// Who must have signed a checkpoint.
pub struct Signers<'a> {
    instance: Option<[u8; 32]>,
    /// The log's own keys, and whether they are the ones that evidence names.
    log: Option<Vec<VerifierKey>>,
    /// SHA-256 of the log's ML-DSA-44 key, by the evidence.
    named: Option<[u8; 32]>,
    witnesses: &'a [VerifierKey],
}

impl<'a> Signers<'a> {
    /// Those that the command line and the evidence name.
    ///
    /// # Errors
    /// When the file with the log's keys cannot be read.
    pub fn new(args: &'a SignerArgs, known: &Known) -> anyhow::Result<Signers<'a>> {
        let parse = |path: &Path| -> anyhow::Result<Vec<VerifierKey>> {
            let text = fs::read_to_string(path)?;
            Ok(text.lines().map(VerifierKey::parse).collect::<Result<_, _>>()?)
        };
        let log = args
            .log_keys
            .as_deref()
            .map(|path| parse(path).with_context(|| format!("keys {}", path.display())))
            .transpose()?;
        Ok(Signers {
            instance: known.key.as_ref().map(|key| key.ed25519),
            log,
            named: known.claims().and_then(|claims| claims.log_key),
            witnesses: &args.witness,
        })
    }

    /// Checks every signature that must be there.
    pub fn check(&self, report: &mut Report, note: &Note, checkpoint: &Checkpoint) {
        report.note("log-signature", self.log_signature(note, checkpoint));
        if let Some(keys) = &self.log {
            report.note("log-cosignature", self.log_cosignature(keys, note, checkpoint));
        }
        for key in self.witnesses {
            report.note("witness", cosigned(key, note));
        }
    }

    fn log_signature(&self, note: &Note, checkpoint: &Checkpoint) -> Result<((), String), TlogError> {
        let instance = self
            .instance
            .ok_or_else(|| TlogError::Key("no instance key is known to check it by".into()))?;
        let key = VerifierKey::new(&checkpoint.origin, Algorithm::Ed25519, &instance)?;
        match key.verify(note)? {
            Verification::Missing => Err(TlogError::Key(format!(
                "{} at {} records is not signed by instance key {}",
                checkpoint.origin,
                checkpoint.head.size,
                to_hex(&instance)
            ))),
            _ => Ok((
                (),
                format!(
                    "{} at {} records, by the instance key",
                    checkpoint.origin, checkpoint.head.size
                ),
            )),
        }
    }

    fn log_cosignature(
        &self,
        keys: &[VerifierKey],
        note: &Note,
        checkpoint: &Checkpoint,
    ) -> Result<((), String), TlogError> {
        let key = keys
            .iter()
            .find(|key| key.algorithm == Algorithm::CosignatureMlDsa44 && key.name == checkpoint.origin)
            .ok_or_else(|| {
                TlogError::Key(format!("the keys have no ML-DSA-44 key of {}", checkpoint.origin))
            })?;
        let vouched = match self.named {
            None => "which nothing vouches for",
            Some(named) if named == <[u8; 32]>::from(Sha256::digest(key.public())) => {
                "which the evidence names"
            }
            Some(_) => {
                return Err(TlogError::Key(
                    "the ML-DSA-44 key is not the one that the evidence names".into(),
                ));
            }
        };
        cosigned(key, note).map(|(_, when)| ((), format!("ML-DSA-44, {vouched}; {when}")))
    }
}

fn cosigned(key: &VerifierKey, note: &Note) -> Result<((), String), TlogError> {
    match key.verify(note)? {
        Verification::Missing => Err(TlogError::Key(format!("{} has not cosigned", key.name))),
        Verification::Signed => Ok(((), format!("{} has signed", key.name))),
        Verification::SignedAt(time) => Ok(((), format!("{} at {time} seconds since 1970", key.name))),
    }
}

/// Reads a checkpoint; that it is one is a finding.
///
/// # Errors
/// When the file cannot be read.
pub fn read_checkpoint(report: &mut Report, path: &Path) -> anyhow::Result<Option<(Note, Checkpoint)>> {
    let bytes = read(path, "checkpoint")?;
    let parsed = Note::parse(&bytes).and_then(|note| {
        let checkpoint = Checkpoint::parse(&note.text)?;
        let shown = format!("{}: {} records", checkpoint.origin, checkpoint.head.size);
        Ok(((note, checkpoint), shown))
    });
    Ok(report.note("checkpoint", parsed))
}

/// Whether the log begins with what the checkpoint was made of.
pub fn check_tree(report: &mut Report, leaves: &Leaves, checkpoint: &Checkpoint) {
    let (size, found) = (checkpoint.head.size, leaves.size());
    let result = match size > found {
        true => Err(TlogError::Cut {
            found,
            published: size,
        }),
        false => root(leaves, size).and_then(|root| match root == checkpoint.head.root {
            true => Ok((
                (),
                format!("the log's first {size} records of {found} have this root"),
            )),
            false => Err(TlogError::Key(format!(
                "the log's first {size} records have root {root}, not {}: other records were signed",
                checkpoint.head.root
            ))),
        }),
    };
    report.note("tree", result);
}

/// `referee-verify inclusion`.
///
/// # Errors
/// When a file cannot be read.
pub fn inclusion(args: &InclusionArgs) -> anyhow::Result<bool> {
    let mut known = known(&args.voucher)?;
    let mut report = std::mem::take(&mut known.report);
    let record = read(&args.record, "record")?;
    let record = record.strip_suffix(b"\n").unwrap_or(&record);
    let proof = InclusionProof::parse(&read(&args.proof, "proof")?);
    let shown = proof.and_then(|proof| {
        let checkpoint = proof.verify(record)?;
        let shown = format!("record {} of {}", proof.index, checkpoint.head.size);
        Ok(((proof, checkpoint), shown))
    });
    if let Some((proof, checkpoint)) = report.note("inclusion", shown) {
        Signers::new(&args.signers, &known)?.check(&mut report, &proof.checkpoint, &checkpoint);
    }
    finish(&report, &args.proof, args.json)
}

/// `referee-verify consistency`.
///
/// # Errors
/// When a file cannot be read.
pub fn consistency(args: &ConsistencyArgs) -> anyhow::Result<bool> {
    let mut known = known(&args.voucher)?;
    let mut report = std::mem::take(&mut known.report);
    let signers = Signers::new(&args.signers, &known)?;
    let old = read_checkpoint(&mut report, &args.old)?;
    let new = read_checkpoint(&mut report, &args.new)?;
    // The older one was checked when it came; its key may be one of before a rotation.
    if let (Some((_, old)), Some((note, new))) = (&old, &new) {
        signers.check(&mut report, note, new);
        report.note("consistency", grown(old, new, &args.tiles));
    }
    finish(&report, &args.new, args.json)
}

fn grown(old: &Checkpoint, new: &Checkpoint, tiles: &Path) -> Result<((), String), TlogError> {
    if old.origin != new.origin {
        return Err(TlogError::Key(format!(
            "{} and {} are two logs",
            old.origin, new.origin
        )));
    }
    let nodes = TileDirectory::new(tiles, new.head.size);
    let proof = consistency_proof(&nodes, old.head.size, new.head.size)?;
    verify_consistency(&old.head, &new.head, &proof)?;
    Ok((
        (),
        format!("grown from {} to {} records", old.head.size, new.head.size),
    ))
}

fn finish(report: &Report, what: &Path, json: bool) -> anyhow::Result<bool> {
    if json {
        let value = serde_json::json!({ "holds": report.holds(), "findings": report.findings });
        println!("{value:#}");
    } else {
        println!("{report}{}: {}", what.display(), verdict(report));
    }
    Ok(report.holds())
}

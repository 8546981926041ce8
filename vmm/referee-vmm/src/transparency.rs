//! `audit`: the log checked, published as a Merkle tree, and shown to witnesses.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context, bail};
use referee_attest::{Reply, Request, from_hex, to_hex};
use referee_audit::{AuditLog, Options};
use referee_tlog::{
    Answer, CHECKPOINT, Checkpoint, InclusionProof, Note, TileDirectory, TlogError, Verification,
    VerifierKey, consistency, publish, replace, save_checkpoint,
};

use crate::attest::{audit_head, host};
use crate::audit_show;
use crate::cli::{AuditAction, AuditArgs, CheckpointArgs};
use crate::ending::rejected;
use crate::inspect::{verify_log, write_out};
use crate::measured::{answered, host_tpm, named, unexpected};

/// Name of the file with what the TPM says about the newest checkpoint.
const ANCHOR: &str = "checkpoint.anchor";
/// Name of the file with the public keys that sign checkpoints.
const KEYS: &str = "keys";
/// Longest answer of a witness that is read.
const ANSWER_MAX: u64 = 1 << 20;

/// Does what `audit` is asked to.
///
/// # Errors
/// When the log is broken, was cut or written anew, or TPM and files do not serve.
pub fn audit(args: &AuditArgs) -> anyhow::Result<u8> {
    match &args.action {
        AuditAction::Verify { file } => verify_log(file),
        AuditAction::Show(args) => audit_show::show(args),
        AuditAction::Rotate { file } => {
            let rotate = || AuditLog::open(file, Options::default())?.rotate(file);
            let moved = rotate().with_context(|| format!("audit log {}", file.display()))?;
            write_out(
                match moved {
                    Some(archive) => format!("{}\n", archive.display()),
                    None => "there is nothing to move\n".into(),
                }
                .as_bytes(),
            )
        }
        AuditAction::Checkpoint(args) => checkpoint(args),
        AuditAction::Prove {
            record,
            tiles,
            output,
        } => {
            let (note, checkpoint) = newest(tiles)?;
            let nodes = TileDirectory::new(tiles, checkpoint.head.size);
            let proof = InclusionProof::make(&nodes, *record, note)?.to_string();
            match output {
                Some(path) => replace(path, proof.as_bytes()).map(|()| 0).map_err(Into::into),
                None => write_out(proof.as_bytes()),
            }
        }
        AuditAction::WitnessRequest { tiles, old } => {
            let (note, checkpoint) = newest(tiles)?;
            let nodes = TileDirectory::new(tiles, checkpoint.head.size);
            let request = referee_tlog::Request::make(&nodes, *old, note)?;
            write_out(request.to_string().as_bytes())
        }
        AuditAction::Cosign { tiles, witness } => cosign(tiles, witness),
    }
}

fn checkpoint(args: &CheckpointArgs) -> anyhow::Result<u8> {
    named(&args.tpm)?;
    let published = args.tiles.join(CHECKPOINT).exists();
    let origin = match (&args.origin, published) {
        (Some(origin), false) => origin.clone(),
        (given, true) => {
            let known = newest(&args.tiles)?.1.origin;
            if let Some(given) = given.as_ref().filter(|given| **given != known) {
                bail!("{}: the log there is {known}, not {given}", args.tiles.display());
            }
            known
        }
        (None, false) => bail!("the log has no name yet: --origin NAME, for example example.com/host1"),
    };
    let (records, _) = audit_head(&args.file)?;
    let leaves = publish(&args.file, records, &args.tiles)
        .map_err(contradicted)
        .with_context(|| format!("audit log {}", args.file.display()))?;
    let head = leaves.head()?;
    // One session for both: nobody raises the floor in between.
    let mut session = host_tpm(&args.tpm, &host(&args.authority)?)?
        .session()
        .context("TPM")?;
    let request = Request::LogFloor {
        origin: origin.clone(),
    };
    let floor = match answered(session.ask(&request))? {
        Reply::LogFloor { size } => size,
        other => return Err(unexpected(&other)),
    };
    // A log that is shorter has no proof; the process with the key says so.
    let proof = consistency(&leaves, floor.min(head.size), head.size)?;
    let request = Request::Checkpoint {
        origin,
        size: head.size,
        root: to_hex(&head.root.0),
        proof: proof.iter().map(|hash| to_hex(&hash.0)).collect(),
    };
    let Reply::Checkpoint { note, anchor, keys } = answered(session.ask(&request))? else {
        bail!("referee-tpm is of another version than this program");
    };
    let note = Note::parse(note.as_bytes())?;
    let anchor = from_hex(&anchor).context("referee-tpm's anchor is not in hexadecimal digits")?;
    // The checkpoint comes last: whoever sees it finds all that belongs to it.
    replace(&args.tiles.join(ANCHOR), &anchor)?;
    replace(
        &args.tiles.join(KEYS),
        format!("{}\n", keys.join("\n")).as_bytes(),
    )?;
    save_checkpoint(&args.tiles, &note)?;
    write_out(note.text.as_bytes())
}

/// A log that contradicts what was published is refused like a bundle that does not verify.
fn contradicted(error: TlogError) -> anyhow::Error {
    let name = match &error {
        TlogError::Cut { .. } => "audit-log-cut",
        TlogError::Rewritten { .. } => "audit-log-rewritten",
        TlogError::Audit(_) => "audit-broken",
        _ => return error.into(),
    };
    rejected(name, error.to_string()).into()
}

fn newest(tiles: &Path) -> anyhow::Result<(Note, Checkpoint)> {
    let path = tiles.join(CHECKPOINT);
    let read = || {
        let note = Note::parse(&fs::read(&path)?)?;
        let checkpoint = Checkpoint::parse(&note.text)?;
        anyhow::Ok((note, checkpoint))
    };
    read().with_context(|| format!("{}", path.display()))
}

fn cosign(tiles: &Path, witnesses: &[VerifierKey]) -> anyhow::Result<u8> {
    let (mut note, _) = newest(tiles)?;
    let mut answer = Vec::new();
    std::io::stdin()
        .take(ANSWER_MAX)
        .read_to_end(&mut answer)
        .context("the witness's answer on standard input")?;
    let lines = Answer::parse_cosigned(&answer).with_context(|| {
        format!(
            "the witness has not cosigned: {}",
            String::from_utf8_lossy(&answer).trim_end()
        )
    })?;
    let mut answered = Note {
        signatures: lines,
        ..note.clone()
    };
    for key in witnesses {
        if key.verify(&answered)? == Verification::Missing {
            bail!(
                "there is no signature by {} ({:?}) in the answer",
                key.name,
                key.algorithm
            );
        }
    }
    // Only lines by keys that were named are kept, in the place of older ones by the same keys.
    let ours = |line: &referee_tlog::NoteSignature| {
        witnesses
            .iter()
            .any(|key| key.name == line.name && key.id() == line.id)
    };
    answered.signatures.retain(ours);
    note.signatures.retain(|line| !ours(line));
    note.signatures.append(&mut answered.signatures);
    save_checkpoint(tiles, &note)?;
    write_out(format!("{} signatures\n", note.signatures.len()).as_bytes())
}

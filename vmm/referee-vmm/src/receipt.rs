//! A receipt on its way: the cell's process says what the run was, through a pipe; its parent, which may speak to the TPM, has it signed.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::Context;
use referee::{Digests, Outcome, Transcript, Usage, grants_digest, nondeterminism};
use referee_attest::{Facts, Reply, Request};
use referee_audit::Head;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec};
use referee_policy::{Decision, Grants};

use crate::cli::{AuthorityArgs, TpmArgs};
use crate::measured::{ask, from_hex, measured, unexpected};
use crate::session::Task;

/// Both ends, before the fork.
#[derive(Debug)]
pub struct Way {
    reader: PipeReader,
    writer: PipeWriter,
}

/// The cell's end.
#[derive(Debug)]
pub struct Sender {
    writer: PipeWriter,
    transcript: Transcript,
}

impl Way {
    /// Makes the pipe.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub fn new() -> anyhow::Result<Way> {
        let (reader, writer) = std::io::pipe().context("pipe")?;
        Ok(Way { reader, writer })
    }

    /// The end for the process that has the cell. The transcript begins with all that the cell is started with.
    pub fn sender(self, spec: &CellSpec, task: &Task) -> Sender {
        let (function, payload): (&[u8], &[u8]) = match task {
            Task::Main => (b"", b""),
            Task::Call { function, payload } => (function.as_bytes(), payload),
        };
        Sender {
            writer: self.writer,
            transcript: Transcript::of(&[&spec.argument_block, function, payload]),
        }
    }

    /// What the other process said; it must have ended. `None` when it ended without a word.
    ///
    /// # Errors
    /// When what it said makes no sense.
    pub fn facts(self) -> anyhow::Result<Option<Facts>> {
        let Way { mut reader, writer } = self;
        drop(writer);
        let mut text = Vec::new();
        reader.read_to_end(&mut text).context("receipt")?;
        if text.is_empty() {
            return Ok(None);
        }
        serde_json::from_slice(&text).map(Some).context("receipt")
    }
}

impl Sender {
    /// Descriptor that must stay open.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// The transcript that the cell's host writes.
    pub fn transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    /// Says what the run was.
    ///
    /// # Errors
    /// When the parent is gone.
    pub fn send(&mut self, run: &Run<'_>) -> anyhow::Result<()> {
        let outcome = match run.outcome {
            Outcome::Exited(code) => format!("exited {code}"),
            Outcome::Faulted(report) => format!("fault {}", report.fault.name()),
            Outcome::Answered => "answered".to_owned(),
            Outcome::Stopped => "stopped".to_owned(),
        };
        let answered: (&[u8], &[u8]) = match run.answer {
            None => (&[], &[]),
            Some(answer) => (&[answer.kind as u8], &answer.payload),
        };
        let Digests { input, output } =
            self.transcript
                .digests(&[outcome.as_bytes(), answered.0, answered.1]);
        let micros = |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let facts = Facts {
            bundle: measured(run.bundle),
            grants: grants_digest(run.decision, run.grants),
            policy: run.decision.policy_digest(),
            function: match run.task {
                Task::Main => None,
                Task::Call { function, .. } => Some(function.clone()),
            },
            input,
            output,
            outcome,
            wall_us: micros(run.usage.wall),
            cpu_us: micros(run.usage.cpu),
            exits: run.usage.exits,
            heap_bytes: run.usage.heap_bytes,
            log_records: run.head.records,
            log_hash: run.head.hash.to_string(),
            nondeterminism: nondeterminism(run.grants)
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
        self.writer
            .write_all(&serde_json::to_vec(&facts)?)
            .context("receipt")
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Run<'a> {
    /// What ran.
    pub bundle: &'a VerifiedBundle,
    /// What policy said.
    pub decision: &'a Decision,
    /// What was granted.
    pub grants: &'a Grants,
    /// What the cell was for.
    pub task: &'a Task,
    /// How it ended.
    pub outcome: &'a Outcome,
    /// What a call gave.
    pub answer: Option<&'a Answer>,
    /// What it used.
    pub usage: Usage,
    /// Where the log stands after it.
    pub head: Head,
}

/// Has the facts signed and writes the receipt.
///
/// # Errors
/// When the TPM or the file does not serve: the muscle has run, and there is no receipt of it.
pub fn write(path: &Path, facts: Facts, tpm: &TpmArgs, authority: &AuthorityArgs) -> anyhow::Result<()> {
    let reply = ask(
        tpm,
        authority,
        &Request::Receipt {
            facts: Box::new(facts),
        },
    )
    .context("the muscle has run, and there is no receipt of it")?;
    let Reply::Bytes { bytes } = reply else {
        return Err(unexpected(&reply));
    };
    let bytes = from_hex(&bytes).context("referee-tpm's answer is not in hexadecimal digits")?;
    std::fs::write(path, bytes).with_context(|| format!("receipt {}", path.display()))
}

//! A receipt on its way: the cell's process says what the run was, through a pipe; its parent, which may speak to the TPM, has it signed.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::Context;
use referee::receipt::{Planned, Ran, transcript};
use referee::{Outcome, Transcript, Usage};
use referee_attest::{Facts, Request};
use referee_audit::Head;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec};
use referee_policy::{Decision, Grants};

use crate::cli::TpmArgs;
use crate::measured::{HostIdentity, ask_document};
use crate::session::Task;

/// Both ends, before the fork, and what is known of the run by then: the cell's process is not asked about it.
#[derive(Debug)]
pub struct Way {
    reader: PipeReader,
    writer: PipeWriter,
    planned: Planned,
}

/// More than it ever says, and less than a pipe holds (pipe(7)).
const RAN_MAX: u64 = 32 << 10;

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
    pub fn new(
        bundle: &VerifiedBundle,
        decision: &Decision,
        grants: &Grants,
        task: &Task,
    ) -> anyhow::Result<Way> {
        let (reader, writer) = std::io::pipe().context("pipe")?;
        let function = match task {
            Task::Main => None,
            Task::Call { function, .. } => Some(function.as_str()),
        };
        Ok(Way {
            reader,
            writer,
            planned: Planned::new(bundle, decision, grants, function),
        })
    }

    /// The end for the process that has the cell. The transcript begins with all that the cell is started with.
    pub fn sender(self, spec: &CellSpec, task: &Task) -> Sender {
        let call = match task {
            Task::Main => None,
            Task::Call { function, payload } => Some((function.as_str(), payload.as_slice())),
        };
        Sender {
            writer: self.writer,
            transcript: transcript(spec, call),
        }
    }

    /// What the other process said; it must have ended. `None` when it ended without a word.
    ///
    /// # Errors
    /// When what it said makes no sense.
    pub fn facts(self) -> anyhow::Result<Option<Facts>> {
        drop(self.writer);
        let mut text = Vec::new();
        self.reader
            .take(RAN_MAX)
            .read_to_end(&mut text)
            .context("receipt")?;
        if text.is_empty() {
            return Ok(None);
        }
        let ran: Ran = serde_json::from_slice(&text).context("receipt")?;
        Ok(Some(self.planned.facts(ran)))
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
        let ran = Ran::new(&self.transcript, run.outcome, run.answer, &run.usage, &run.head);
        self.writer
            .write_all(&serde_json::to_vec(&ran)?)
            .context("receipt")
    }
}

/// What a run was.
#[derive(Debug)]
pub struct Run<'a> {
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
pub fn write(path: &Path, facts: Facts, tpm: &TpmArgs, host: &HostIdentity) -> anyhow::Result<()> {
    let request = Request::Receipt {
        facts: Box::new(facts),
    };
    let bytes =
        ask_document(tpm, host, &request).context("the muscle has run, and there is no receipt of it")?;
    std::fs::write(path, bytes).with_context(|| format!("receipt {}", path.display()))
}

/// Writes the facts as they are.
///
/// # Errors
/// When the file cannot be written.
pub fn write_unsigned(path: &Path, facts: &Facts) -> anyhow::Result<()> {
    let text = serde_json::to_vec(facts)?;
    std::fs::write(path, text).with_context(|| format!("transcript {}", path.display()))
}

//! What a run was, on its way: the cell's process says it through a pipe; its parent, which may speak to the TPM, can have it signed.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use referee_attest::Facts;
use referee_audit::Head;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec, Usage};
use referee_policy::{Decision, Grants};

use super::Task;
use crate::error::StartError;
use crate::outcome::Outcome;
use crate::receipt::{Planned, Ran, transcript};
use crate::transcript::Transcript;

/// Both ends, before the fork, and what is known of the run by then: the cell's process is not asked about it.
#[derive(Debug)]
pub(super) struct RunLine {
    reader: PipeReader,
    writer: PipeWriter,
    planned: Planned,
}

/// More than it ever says, and less than a pipe holds (pipe(7)).
const RAN_MAX: u64 = 32 << 10;

const HEARING: &str = "hearing what the run was";
const TELLING: &str = "telling what the run was";

/// The cell's end.
#[derive(Debug)]
pub(super) struct Sender {
    writer: PipeWriter,
    transcript: Transcript,
}

impl RunLine {
    /// Makes the pipe.
    ///
    /// # Errors
    /// When the host has no descriptors left.
    pub(super) fn new(
        bundle: &VerifiedBundle,
        decision: &Decision,
        grants: &Grants,
        task: &Task,
    ) -> Result<RunLine, StartError> {
        let (reader, writer) = std::io::pipe().map_err(StartError::host("making a pipe"))?;
        let function = match task {
            Task::Main => None,
            Task::Call { function, .. } => Some(function.as_str()),
        };
        Ok(RunLine {
            reader,
            writer,
            planned: Planned::new(bundle, decision, grants, function),
        })
    }

    /// The end for the process that has the cell. The transcript begins with all that the cell is started with.
    pub(super) fn sender(self, spec: &CellSpec, task: &Task) -> Sender {
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
    pub(super) fn facts(self) -> Result<Option<Facts>, StartError> {
        drop(self.writer);
        let mut text = Vec::new();
        self.reader
            .take(RAN_MAX)
            .read_to_end(&mut text)
            .map_err(StartError::host(HEARING))?;
        if text.is_empty() {
            return Ok(None);
        }
        let ran: Ran = serde_json::from_slice(&text).map_err(StartError::host(HEARING))?;
        Ok(Some(self.planned.facts(ran)))
    }
}

impl Sender {
    /// Descriptor that must stay open.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.writer.as_fd()
    }

    /// The transcript that the cell's host writes.
    pub(super) fn transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    /// Says what the run was.
    ///
    /// # Errors
    /// When the parent is gone.
    pub(super) fn send(&mut self, run: &Run<'_>) -> Result<(), StartError> {
        let ran = Ran::new(&self.transcript, run.outcome, run.answer, &run.usage, &run.head);
        let text = serde_json::to_vec(&ran).map_err(StartError::host(TELLING))?;
        self.writer.write_all(&text).map_err(StartError::host(TELLING))
    }
}

/// What a run was.
#[derive(Debug)]
pub(super) struct Run<'a> {
    /// How it ended.
    pub(super) outcome: &'a Outcome,
    /// What a call gave.
    pub(super) answer: Option<&'a Answer>,
    /// What it used.
    pub(super) usage: Usage,
    /// Where the log stands after it.
    pub(super) head: Head,
}

//! A receipt on its way: the cell's process says what the run was, through a pipe; its parent, which may speak to the TPM, has it signed.

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use anyhow::Context;
use referee::{Digests, Outcome, Transcript, Usage, grants_digest, nondeterminism};
use referee_attest::{Bundle, Facts, Request};
use referee_audit::Head;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec};
use referee_policy::{Decision, Grants};
use serde::{Deserialize, Serialize};

use crate::cli::TpmArgs;
use crate::measured::{HostIdentity, ask_document, measured};
use crate::session::Task;

/// Both ends, before the fork, and what is known of the run by then: the cell's process is not asked about it.
#[derive(Debug)]
pub struct Way {
    reader: PipeReader,
    writer: PipeWriter,
    bundle: Bundle,
    grants: [u8; 32],
    policy: [u8; 32],
    function: Option<String>,
    nondeterminism: Vec<String>,
}

/// What only the cell's process knows: what the run was.
#[derive(Debug, Serialize, Deserialize)]
struct Ran {
    input: [u8; 32],
    output: [u8; 32],
    outcome: String,
    wall_us: u64,
    cpu_us: u64,
    exits: u64,
    heap_bytes: u64,
    log_records: u64,
    log_hash: String,
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
        Ok(Way {
            reader,
            writer,
            bundle: measured(bundle),
            grants: grants_digest(decision, grants),
            policy: decision.policy_digest(),
            function: match task {
                Task::Main => None,
                Task::Call { function, .. } => Some(function.clone()),
            },
            nondeterminism: nondeterminism(grants).into_iter().map(str::to_owned).collect(),
        })
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
        Ok(Some(Facts {
            bundle: self.bundle,
            grants: self.grants,
            policy: self.policy,
            function: self.function,
            input: ran.input,
            output: ran.output,
            outcome: ran.outcome,
            wall_us: ran.wall_us,
            cpu_us: ran.cpu_us,
            exits: ran.exits,
            heap_bytes: ran.heap_bytes,
            log_records: ran.log_records,
            log_hash: ran.log_hash,
            nondeterminism: self.nondeterminism,
        }))
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
        let ran = Ran {
            input,
            output,
            outcome,
            wall_us: micros(run.usage.wall),
            cpu_us: micros(run.usage.cpu),
            exits: run.usage.exits,
            heap_bytes: run.usage.heap_bytes,
            log_records: run.head.records,
            log_hash: run.head.hash.to_string(),
        };
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

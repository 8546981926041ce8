//! The asking: starts the process, writes a line, waits for a line, and for no longer than is bearable.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use crate::protocol::{Open, Reply, Request, Rule};

/// Longest reply: evidence with a long log.
const REPLY_MAX: usize = 512 << 20;

/// Why there is no answer, or none that serves.
#[derive(Debug, Error)]
pub enum AttestError {
    /// The program is not there.
    #[error("{}: {source}; it belongs beside referee-vmm", program.display())]
    Missing {
        /// Where it should be.
        program: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A bundle or trust store must not be used.
    #[error("{message}")]
    Rejected {
        /// By which rule.
        rule: Rule,
        /// What, where and what to do.
        message: String,
    },
    /// It does not serve.
    #[error("{message}")]
    Failed {
        /// A stable name for machines.
        name: String,
        /// What, where and what to do.
        message: String,
    },
    /// It does not answer.
    #[error("the TPM did not answer within {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// It ended, or spoke in another way than agreed.
    #[error("referee-tpm ended or answered in a way that is not understood: {0}")]
    Broken(String),
}

impl AttestError {
    /// A stable name for machines.
    pub fn name(&self) -> &str {
        match self {
            AttestError::Failed { name, .. } => name,
            AttestError::Stalled(_) => "tpm-stalled",
            AttestError::Rejected { rule, .. } => rule.name(),
            AttestError::Missing { .. } | AttestError::Broken(_) => "tpm-process",
        }
    }
}

/// What a request gave.
pub type Answer = Result<Reply, AttestError>;

/// A running process that has the TPM. Dropping it ends the process in order.
#[derive(Debug)]
pub struct Attester {
    process: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    patience: Duration,
}

impl Attester {
    /// Starts `program` and opens the TPM.
    ///
    /// # Errors
    /// [`AttestError`].
    pub fn start(program: &Path, open: Open, patience: Duration) -> Result<Attester, AttestError> {
        let mut attester = Attester::spawn(program, patience)?;
        attester.ask(&Request::Open(Box::new(open)))?;
        Ok(attester)
    }

    /// Starts `program`, which is told nothing yet.
    ///
    /// # Errors
    /// [`AttestError::Missing`].
    pub fn spawn(program: &Path, patience: Duration) -> Result<Attester, AttestError> {
        let missing = |source| AttestError::Missing {
            program: program.to_owned(),
            source,
        };
        let mut process = Command::new(program)
            // The library would otherwise write into standard error what is in the error already.
            .env("TSS2_LOG", "all+none")
            // It gets to hold keys, and the library copies them around: whatever is freed is overwritten (mallopt(3), M_PERTURB), and
            // the cache before that is left out.
            .env(
                "GLIBC_TUNABLES",
                "glibc.malloc.perturb=165:glibc.malloc.tcache_count=0",
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(missing)?;
        let (input, output) = (process.stdin.take(), process.stdout.take());
        Ok(Attester {
            process,
            input,
            output,
            patience,
        })
    }

    /// Number of the process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`AttestError`]. After [`AttestError::Stalled`] the process is gone.
    pub fn ask(&mut self, request: &Request) -> Answer {
        let broken = |error: &dyn std::fmt::Display| AttestError::Broken(error.to_string());
        let mut line = serde_json::to_vec(request).map_err(|error| broken(&error))?;
        line.push(b'\n');
        let input = self.input.as_mut().ok_or_else(|| broken(&"it is gone"))?;
        input.write_all(&line).map_err(|error| broken(&error))?;
        let reply = self.line()?;
        match serde_json::from_slice(&reply).map_err(|error| broken(&error))? {
            Reply::Rejected { rule, message } => Err(AttestError::Rejected { rule, message }),
            Reply::Failed { name, message } => Err(AttestError::Failed { name, message }),
            reply => Ok(reply),
        }
    }

    /// Reads one line. There is no thread for it: whoever asks may be about to fork.
    fn line(&mut self) -> Result<Vec<u8>, AttestError> {
        let broken = |error: &dyn std::fmt::Display| AttestError::Broken(error.to_string());
        let output = self.output.as_mut().ok_or_else(|| broken(&"it is gone"))?;
        let until = Instant::now() + self.patience;
        let mut line = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(|error| broken(&error))?;
            let ready = poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&timeout));
            match ready {
                Ok(0) => {
                    self.input = None;
                    let _ = self.process.kill();
                    return Err(AttestError::Stalled(self.patience));
                }
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(broken(&error)),
            }
            let mut chunk = [0; 16 << 10];
            let count = output.read(&mut chunk).map_err(|error| broken(&error))?;
            line.extend(chunk.iter().take(count));
            if line.last() == Some(&b'\n') {
                return Ok(line);
            }
            if count == 0 || line.len() > REPLY_MAX {
                return Err(broken(&"it ended, or its answer does not"));
            }
        }
    }
}

impl Drop for Attester {
    fn drop(&mut self) {
        // The end of its input is the sign to put a software TPM to sleep and to go.
        self.input = None;
        let _ = self.process.wait();
    }
}

//! The notary's own life.

use std::io::{self, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use referee::HostTpm;
use referee::voucher::{Vouched, Voucher};
use referee_attest::{AttestError, Attester, Bundle, Reply, Request, from_hex, to_hex};
use referee_hv::process::{ChildProcess, Forked, Namespaces, exit_at_once, fork_into};
use referee_jail::FILTER_SOURCES;
use rustix::event::{PollFd, PollFlags, poll};

use crate::config::Tpm;
use crate::error::{NodeError, OrHost};
use crate::line::{frame, read};
use crate::manager::HandedOver;
use crate::notary::{Commission, Done, EvidenceFor, Job, Speaking, Verdict, now_ms};
use crate::nursery::{Trusted, passing};
use crate::vouching::{Asking, TpmAnswer};

/// How long a sign of life of the TPM is as good as a look.
const FRESH: Duration = Duration::from_secs(2);
/// How long whoever waits on a line may take to write or read.
const LINE_PATIENCE: Duration = Duration::from_secs(10);
/// How long the notary may take to finish what it is at when the node ends.
const END_WITHIN: Duration = Duration::from_secs(3);

/// The notary, running. Dropping it ends it.
pub(crate) struct Started {
    process: ChildProcess,
    /// The nursery's end of its line.
    pub line: OwnedFd,
}

/// Forks the notary off. The caller must have one thread. `listeners` are closed in it.
///
/// # Errors
/// When what this node is cannot be read, or the fork fails.
pub(crate) fn start(
    config: &Tpm,
    trusted: &Trusted,
    listeners: &mut HandedOver,
) -> Result<Started, NodeError> {
    let doing = "reading what this node is, to have it measured";
    let program = std::env::current_exe()
        .or_host(doing)?
        .with_file_name("referee-tpm");
    let (policy, trust, trust_version) = trusted.digests();
    let components = referee::identity(&program, &FILTER_SOURCES, policy, trust).or_host(doing)?;
    let notary = NotaryProcess {
        tpm: HostTpm::new(config.with_program(program)?, components, trust_version),
        patience: config.patience(),
        boot: String::new(),
        bundles: Vec::new(),
        answered: None,
    };
    let (ours, theirs) = passing::pair().or_host("making a line to the notary")?;
    match fork_into(Namespaces::NONE).or_host("forking the notary")? {
        Forked::Parent(process) => Ok(Started { process, line: ours }),
        Forked::Child(_) => {
            drop(ours);
            drop(std::mem::take(listeners));
            let code = match notary.serve(&theirs) {
                Ok(()) => 0,
                Err(error) => {
                    eprintln!("referee-vmm: the notary: {error}");
                    1
                }
            };
            exit_at_once(code)
        }
    }
}

impl Started {
    /// Gives the nursery's end of the line away, and keeps the process.
    pub(crate) fn split(self) -> (Running, OwnedFd) {
        (Running(self.process), self.line)
    }
}

/// The notary's process. Dropping it ends it, if possible between two questions.
pub(crate) struct Running(ChildProcess);

impl Drop for Running {
    fn drop(&mut self) {
        // The nursery is gone, so it ends when it has finished what it is at; a TPM that stalls is not waited for.
        let timeout = rustix::event::Timespec::try_from(END_WITHIN).ok();
        let _ = poll(
            &mut [PollFd::from_borrowed_fd(self.0.descriptor(), PollFlags::IN)],
            timeout.as_ref(),
        );
    }
}

struct NotaryProcess {
    tpm: HostTpm,
    patience: Duration,
    /// The TPM's life in which all of `bundles` are measured.
    boot: String,
    /// What was measured since the node started, in order; of a muscle by one key only the latest security epoch.
    bundles: Vec<Bundle>,
    /// When the TPM last answered as it should.
    answered: Option<Instant>,
}

impl NotaryProcess {
    /// Does one job after another until the nursery is gone.
    fn serve(mut self, socket: &OwnedFd) -> io::Result<()> {
        while let Some((job, lines)) = passing::receive::<Job>(socket)? {
            let missing = || io::Error::other("a job without a line");
            let line = UnixStream::from(lines.into_iter().next().ok_or_else(missing)?);
            line.set_read_timeout(Some(LINE_PATIENCE))?;
            line.set_write_timeout(Some(LINE_PATIENCE))?;
            let verdict = self.perform(&job, &line).unwrap_or_else(refused);
            let done = Done {
                number: job.number,
                measured: matches!(verdict, Verdict::Measured { .. }),
            };
            // Before the answer: whoever hears that a bundle is measured asks the nursery for a worker.
            passing::send(socket, &done, &[])?;
            let answer = frame(&verdict).or_else(|error| {
                let message = format!("the TPM's answer: {error}");
                frame(&Verdict::Failed { message })
            })?;
            // Who asked may have stopped waiting.
            let _ = (&line).write_all(&answer);
        }
        Ok(())
    }

    fn perform(&mut self, job: &Job, line: &UnixStream) -> Result<Verdict, AttestError> {
        if u128::from(now_ms().saturating_sub(job.given_ms)) > self.patience.as_millis() {
            // Those before it were not answered either, and whoever asked has waited as long as is bearable.
            return Err(AttestError::Stalled(self.patience));
        }
        match &job.commission {
            Commission::Measure { bundle, to_be_signed } => self.measure(bundle, *to_be_signed),
            Commission::Evidence => {
                let question = question::<EvidenceFor>(line)?;
                let request = Request::Evidence {
                    nonce: to_hex(&question.nonce),
                    spoke: std::collections::BTreeMap::new(),
                    audit_head: Some(question.audit_head),
                };
                match self.session()?.ask(&request)? {
                    Reply::Bytes { bytes } => from_hex(&bytes).map(Verdict::Given).ok_or_else(other_version),
                    _ => Err(other_version()),
                }
            }
            Commission::Speak(vouched) => self.speak(vouched, &question::<Speaking>(line)?),
            Commission::Look if self.answered.is_some_and(|at| at.elapsed() < FRESH) => {
                Ok(Verdict::AsMeasured)
            }
            Commission::Look => self.session().map(|_| Verdict::AsMeasured),
        }
    }

    fn measure(&mut self, bundle: &Bundle, to_be_signed: bool) -> Result<Verdict, AttestError> {
        let request = Request::Measure {
            bundle: bundle.clone(),
            to_be_signed,
        };
        let Reply::Measured { first } = self.session()?.ask(&request)? else {
            return Err(other_version());
        };
        self.bundles
            .retain(|known| known != bundle && !supersedes(bundle, known));
        self.bundles.push(bundle.clone());
        Ok(Verdict::Measured { first })
    }

    /// Asks for a muscle, which gets an answer whatever becomes of it.
    fn speak(&mut self, vouched: &Vouched, speaking: &Speaking) -> Result<Verdict, AttestError> {
        let mut session = self.session()?;
        let Asking {
            slot,
            kind,
            payload,
            after,
        } = &speaking.asking;
        let mut voucher = Voucher::of(&format!("call-{}", speaking.call), vouched.clone());
        if let Some(version) = after {
            voucher.knows(slot, version.clone());
        }
        let answer = voucher.answer(&mut |request| session.ask(request), *kind, payload);
        let (kind, bytes) = match answer {
            Ok((answer, bytes)) => (answer as u8, bytes),
            Err(error) => return Ok(Verdict::Told(TpmAnswer::failed(&error.to_string()))),
        };
        Ok(Verdict::Told(TpmAnswer {
            kind,
            bytes,
            version: voucher.known(slot).map(str::to_owned),
        }))
    }

    /// The TPM, with everything measured into it that was since the node started. It may have begun a new life since the last question (a software
    /// TPM that was restarted): then its registers know nothing of what runs here, and are told before anything else is asked.
    fn session(&mut self) -> Result<Attester, AttestError> {
        self.answered = None;
        let mut session = self.tpm.session()?;
        let Reply::Identified { boot } = session.ask(&Request::Identify)? else {
            return Err(other_version());
        };
        if boot != self.boot {
            for bundle in &self.bundles {
                session.ask(&Request::Measure {
                    bundle: bundle.clone(),
                    to_be_signed: false,
                })?;
            }
            self.boot = boot;
        }
        self.answered = Some(Instant::now());
        Ok(session)
    }
}

/// Whether a bundle puts another out of use: the same muscle by the same key, of a later security epoch.
pub(crate) fn supersedes(bundle: &Bundle, other: &Bundle) -> bool {
    let name = |bundle: &Bundle| bundle.muscle.split(' ').next().map(str::to_owned);
    bundle.signer == other.signer && bundle.epoch > other.epoch && name(bundle) == name(other)
}

/// What is asked on a line.
fn question<Q: serde::de::DeserializeOwned>(line: &UnixStream) -> Result<Q, AttestError> {
    let none = || AttestError::Broken("the question did not come".into());
    let mut buffer = Vec::new();
    read(&mut BufReader::new(line), &mut buffer)
        .ok()
        .flatten()
        .ok_or_else(none)
}

fn other_version() -> AttestError {
    AttestError::Broken("it is of another version than this program".into())
}

fn refused(error: AttestError) -> Verdict {
    match error {
        AttestError::Rejected { rule, message } => Verdict::Rejected {
            name: rule.name().to_owned(),
            message,
        },
        other => Verdict::Failed {
            message: format!("{}: {other}", other.name()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bundle(muscle: &str, signer: u8, epoch: u64) -> Bundle {
        Bundle {
            muscle: muscle.into(),
            digest: [0; 32],
            signer: [signer; 32],
            epoch,
        }
    }

    #[test]
    fn a_later_epoch_puts_the_same_muscle_by_the_same_key_out_of_use_and_nothing_else() {
        let new = bundle("risk 2.0.0", 1, 5);
        assert!(supersedes(&new, &bundle("risk 1.0.0", 1, 4)));
        for other in [
            bundle("risk 1.0.0", 1, 5),
            bundle("risk 1.0.0", 1, 6),
            bundle("risk 1.0.0", 2, 4),
            bundle("risks 1.0.0", 1, 4),
        ] {
            assert!(!supersedes(&new, &other), "{other:?}");
        }
    }
}

//! One muscle in a confined process of its own, as `referee-vmm run` has it: acquire, confine, load, run, record.
//!
//! ```text
//!   parent                                   child, in namespaces of its own
//!   ──────                                   ──────────────────────────────
//!   prepare: audit log, directories,
//!     sockets, console; measure
//!   run: /dev/kvm, fork ───────────────────► VM and vCPU; confine ─► Jailed
//!   wait, pass signals on                    first thread              I/O thread
//!                                            vCPU filter, check image, I/O filter, doorman
//!                                            load, run, record, conclude, exit
//!   exit code ◄───────────────────────────── exit code
//! ```
//!
//! A muscle that has broken out of its machine is then in a process without files, network, other processes and most system calls. The price is a
//! process for each run, and that **the program has one thread when [`Confined::run`] is called**: the child is a copy of that one alone.
//! `examples/confined.rs` is a whole program.

mod acquire;
mod life;
mod run_line;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use referee_attest::Facts;
use referee_audit::Sharing;
use referee_bundle::VerifiedBundle;
use referee_cell::{Answer, CellSpec};
use referee_hv::Kvm;
use referee_hv::process::{ChildExit, ChildProcess, Forked, Namespaces, fork_into};
use referee_jail::Origin;
pub use referee_jail::{FILTER_SOURCES as FILTERS, Removal};
use referee_policy::{Decision, Grants};

use self::acquire::Acquired;
pub use self::acquire::record_refusal;
use self::run_line::RunLine;
use crate::error::StartError;
use crate::inputs::Inputs;
use crate::outcome::Outcome;
use crate::tpm::HostTpm;
use crate::voucher::Voucher;

/// What the cell is for.
#[derive(Debug, Clone)]
pub enum Task {
    /// Run `main`.
    Main,
    /// Call a function.
    Call {
        /// The function.
        function: String,
        /// CBOR, arguments by name or position.
        payload: Vec<u8>,
    },
}

/// How a muscle is run.
#[derive(Debug, Clone)]
pub struct Options {
    /// The audit log; made when it is not there. Several programs may share one.
    pub audit: PathBuf,
    /// Whether each record is on the disk before its act is answered; otherwise the kernel has it, and the disk at the end.
    pub audit_sync: bool,
    /// Wall-clock time that it may take at most, in milliseconds; can only shorten what was granted.
    pub deadline_ms: Option<u64>,
    /// CPU time that it may take at most, in milliseconds; can only shorten what was granted.
    pub cpu_ms: Option<u64>,
    /// Whether nothing runs where a layer of confinement cannot be had; otherwise the log names the layer.
    pub require_confinement: bool,
    /// Whether what the run was is to be known afterwards, for a receipt ([`Ended::facts`]).
    pub observed: bool,
    /// Whether it is to be signed ([`Ended::receipt`]); then a TPM that cannot sign is a reason to run nothing.
    pub signed: bool,
    /// Entries that are left out of the system-call filters: for tests of them.
    #[doc(hidden)]
    pub seccomp_without: Vec<Removal>,
}

impl Options {
    /// Records that the kernel has before an act is answered, no limits beside those granted, nothing to be known afterwards.
    pub fn new(audit: impl Into<PathBuf>) -> Options {
        Options {
            audit: audit.into(),
            audit_sync: false,
            deadline_ms: None,
            cpu_ms: None,
            require_confinement: false,
            observed: false,
            signed: false,
            seccomp_without: Vec::new(),
        }
    }

    fn of_log(&self) -> referee_audit::Options {
        referee_audit::Options {
            sharing: Sharing::Shared,
            sync_each: self.audit_sync,
            ..referee_audit::Options::default()
        }
    }
}

/// What the program says about a run.
pub trait Report: Sync {
    /// Says how it ended, or why it came to nothing, and gives the exit code of the cell's process, in which this is called. By then it may
    /// be confined, so that little more than writing to standard output and standard error is allowed; the next thing it does is to exit.
    fn conclude(&self, end: Result<Conclusion, StartError>) -> u8;

    /// Called in the program's own process, on another thread, when the TPM does not serve what the muscle asks of it.
    fn tpm_failed(&self, why: &str) {
        let _ = why;
    }
}

/// How a run ended.
#[derive(Debug)]
pub struct Conclusion {
    /// How.
    pub outcome: Outcome,
    /// What a call was answered.
    pub answer: Option<Answer>,
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// What [`Report::conclude`] gave in the cell's process.
    pub code: u8,
    /// What the run was, if [`Options::observed`] or [`Options::signed`] asked for that and something ran.
    pub facts: Option<Facts>,
    tpm: Option<HostTpm>,
}

impl Ended {
    /// Has the host's TPM sign what the run was; nothing when nothing ran. `referee-verify receipt` reads it.
    ///
    /// # Errors
    /// When the TPM does not serve: the muscle has run, and there is no receipt of it.
    pub fn receipt(&self) -> Result<Option<Vec<u8>>, StartError> {
        match (&self.facts, &self.tpm) {
            (Some(facts), Some(tpm)) => tpm.sign(facts.clone()).map(Some),
            _ => Ok(None),
        }
    }
}

/// Everything that a run needs, opened and, where there is a TPM, measured.
#[derive(Debug)]
pub struct Confined<'a> {
    bundle: Arc<VerifiedBundle>,
    decision: &'a Decision,
    grants: Grants,
    spec: CellSpec,
    task: Task,
    acquired: Acquired,
    options: Options,
    tpm: Option<HostTpm>,
}

/// Time that the child has to end in order after a signal.
const GRACE: Duration = Duration::from_secs(2);

impl<'a> Confined<'a> {
    /// Makes a run out of a decision: opens what was granted, and has `tpm` measure the bundle. A refusal is recorded.
    ///
    /// # Errors
    /// [`StartError::Rejected`] when policy, the bundle's style or the TPM says no.
    pub fn prepare(
        bundle: Arc<VerifiedBundle>,
        decision: &'a Decision,
        task: Task,
        inputs: Inputs,
        options: Options,
        tpm: Option<HostTpm>,
    ) -> Result<Confined<'a>, StartError> {
        acquire::prepare(bundle, decision, task, inputs, options, tpm)
    }

    /// Runs it in a child and waits for the child's end. SIGINT, SIGTERM and SIGHUP, which are blocked meanwhile, are passed on and end the cell.
    ///
    /// # Errors
    /// [`StartError::Host`] when the host fails before or after the child; the child reports its own errors. Above all when the process has more than one
    /// thread.
    pub fn run(mut self, report: &dyn Report) -> Result<Ended, StartError> {
        let origin = Origin::capture().map_err(StartError::host("looking at this process"))?;
        let kvm = Kvm::open().map_err(StartError::host("opening KVM"))?;
        let line = match self.options.observed || self.options.signed {
            true => Some(RunLine::new(
                &self.bundle,
                self.decision,
                &self.grants,
                &self.task,
            )?),
            false => None,
        };
        let tpm = self.tpm.take();
        let voucher = self.acquired.tpm_line.take().map(|asked| {
            let voucher = Voucher::new(&self.acquired.cell, &self.bundle, self.decision, &self.grants);
            (voucher, asked)
        });
        match fork_into(Namespaces::ALL).map_err(StartError::host("making the cell's process"))? {
            Forked::Parent(child) => {
                // With it the child's end of the line: while it is open here, its end would never be noticed.
                drop(self);
                let end = attended(child, voucher, tpm.as_ref(), report)
                    .map_err(StartError::host("waiting for the cell's process"))?;
                Ok(Ended {
                    code: code_of(end)?,
                    facts: line.map(RunLine::facts).transpose()?.flatten(),
                    tpm,
                })
            }
            Forked::Child(child) => {
                // The parent's end.
                drop(voucher);
                let failed = life::live(self, &child, origin, kvm, line, report);
                std::process::exit(i32::from(report.conclude(Err(failed))))
            }
        }
    }
}

/// What the child's end means for this process.
fn code_of(end: ChildExit) -> Result<u8, StartError> {
    let killed = |why: String| {
        let what = "running the cell's process";
        Err(StartError::host(what)(std::io::Error::other(why)))
    };
    match end {
        ChildExit::Code(code) => Ok(u8::try_from(code).unwrap_or(crate::record::HOST_ERROR)),
        ChildExit::Signal(31) => {
            killed("it made a system call that its seccomp filter does not allow, and was killed".to_owned())
        }
        ChildExit::Signal(signal) => killed(format!("it was killed by signal {signal}")),
    }
}

/// Waits for the child, and meanwhile answers what its muscle asks of the TPM.
fn attended(
    child: ChildProcess,
    voucher: Option<(Voucher, UnixStream)>,
    tpm: Option<&HostTpm>,
    report: &dyn Report,
) -> std::io::Result<ChildExit> {
    let Some(((voucher, line), tpm)) = voucher.zip(tpm) else {
        return child.wait(GRACE);
    };
    std::thread::scope(|scope| {
        // Stop signals are blocked here since the fork, so they come to the one that waits. It ends when the child's end of the line is
        // closed, at the latest by the child's end.
        scope.spawn(move || voucher.serve(tpm, line, |why| report.tpm_failed(why)));
        child.wait(GRACE)
    })
}

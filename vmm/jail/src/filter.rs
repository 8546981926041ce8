//! The seccomp filters of the cell's process, one for each kind of thread.
//!
//! A filter belongs to the thread that installs it and to threads made by that one. Each thread thus
//! installs its own as its first act, and the first thread last of all, when the others exist.

use std::fmt;
use std::str::FromStr;

use seccompiler::{BpfProgram, sock_filter};

use crate::confine::Jailed;
use crate::error::JailError;
use crate::filter_set::{FilterSet, PolicyError};

include!(concat!(env!("OUT_DIR"), "/programs.rs"));

const VCPU_JSON: &str = include_str!("../../../policies/seccomp/vcpu.json");
const VCPU_FILES_JSON: &str = include_str!("../../../policies/seccomp/vcpu-files.json");
const WORKER_JSON: &str = include_str!("../../../policies/seccomp/worker.json");
const IO_JSON: &str = include_str!("../../../policies/seccomp/io.json");
const DEBUG_JSON: &str = include_str!("../../../policies/seccomp/debug.json");

/// The filters as they were compiled in, for whoever measures them.
pub const FILTER_SOURCES: [&str; 5] = [VCPU_JSON, VCPU_FILES_JSON, WORKER_JSON, IO_JSON, DEBUG_JSON];

/// Which thread a filter is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// The thread that runs the guest and performs capability acts.
    Vcpu {
        /// Whether a files grant exists.
        files: bool,
    },
    /// Every thread of a worker: it runs guests, performs capability acts, and makes and ends cells.
    Worker {
        /// Whether a files grant exists.
        files: bool,
    },
    /// The thread that serves outside programs.
    Io,
}

impl Filter {
    /// Returns the policy, with reasons, as in `policies/seccomp`.
    ///
    /// # Errors
    /// None in a build that passed its tests: the build script has read the same text.
    pub fn policy(self) -> Result<FilterSet, PolicyError> {
        let texts: &[&str] = match self {
            Self::Vcpu { files: false } => &[VCPU_JSON],
            Self::Vcpu { files: true } => &[VCPU_JSON, VCPU_FILES_JSON],
            Self::Worker { files: false } => &[VCPU_JSON, WORKER_JSON],
            Self::Worker { files: true } => &[VCPU_JSON, WORKER_JSON, VCPU_FILES_JSON],
            Self::Io => &[IO_JSON],
        };
        let mut policy = FilterSet::default();
        for text in texts {
            policy = policy.merged(FilterSet::from_json(text)?)?;
        }
        if cfg!(debug_assertions) {
            policy.merged(FilterSet::from_json(DEBUG_JSON)?)
        } else {
            Ok(policy)
        }
    }

    /// Returns the filter as compiled at build time: kills the process at what it does not list.
    #[must_use]
    pub fn program(self) -> Program {
        let instructions: &[(u16, u8, u8, u32)] = match self {
            Self::Vcpu { files: false } => &VCPU,
            Self::Vcpu { files: true } => &VCPU_FILES,
            Self::Worker { files: false } => &WORKER,
            Self::Worker { files: true } => &WORKER_FILES,
            Self::Io => &IO,
        };
        Program(
            instructions
                .iter()
                .map(|&(code, jt, jf, k)| sock_filter { code, jt, jf, k })
                .collect(),
        )
    }

    /// Compiles the policy now, less some entries, or with another answer to a violation.
    ///
    /// Removals for other threads are passed over, so that one list can be given to every thread.
    ///
    /// # Errors
    /// [`PolicyError::NoEntry`] if a removal names no entry.
    pub fn program_with(self, removals: &[Removal], violation: OnViolation) -> Result<Program, PolicyError> {
        let mut policy = self.policy()?;
        for removal in removals.iter().filter(|removal| removal.thread == self.thread()) {
            policy = policy.without(&removal.syscall, removal.nth)?;
        }
        policy.compile(violation.action()).map(Program)
    }

    fn thread(self) -> &'static str {
        match self {
            Self::Vcpu { .. } => "vcpu",
            Self::Worker { .. } => "worker",
            Self::Io => "io",
        }
    }
}

/// What the kernel does at a call that the filter does not list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnViolation {
    /// Kills the process with `SIGSYS`.
    Kill,
    /// Allows the call and writes it into the kernel's log: for finding out what a change needs.
    Log,
}

impl OnViolation {
    fn action(self) -> &'static str {
        match self {
            Self::Kill => "kill_process",
            Self::Log => "log",
        }
    }
}

/// One entry to be left out: `vcpu:read`, `io:ioctl`, or `vcpu:ioctl#1` for the second of a call's entries.
///
/// A removal only takes a permission away, so an option for it is harmless.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    thread: &'static str,
    syscall: String,
    nth: usize,
}

impl Removal {
    /// Returns the removals of each entry of a filter: what a test for dead entries goes through.
    ///
    /// # Errors
    /// As [`Filter::policy`].
    pub fn each(filter: Filter) -> Result<Vec<Self>, PolicyError> {
        let policy = filter.policy()?;
        let mut removals: Vec<Self> = Vec::with_capacity(policy.entries().len());
        for entry in policy.entries() {
            let nth = removals
                .iter()
                .filter(|one| one.syscall == entry.syscall())
                .count();
            removals.push(Self {
                thread: filter.thread(),
                syscall: entry.syscall().to_owned(),
                nth,
            });
        }
        Ok(removals)
    }
}

impl fmt::Display for Removal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}#{}", self.thread, self.syscall, self.nth)
    }
}

/// Why a text names no entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not of the form THREAD:CALL or THREAD:CALL#N with THREAD vcpu, worker or io")]
pub struct NotARemoval;

impl FromStr for Removal {
    type Err = NotARemoval;

    fn from_str(text: &str) -> Result<Self, NotARemoval> {
        let (thread, entry) = text.split_once(':').ok_or(NotARemoval)?;
        let thread = match thread {
            "vcpu" => "vcpu",
            "worker" => "worker",
            "io" => "io",
            _ => return Err(NotARemoval),
        };
        let (syscall, nth) = match entry.split_once('#') {
            Some((syscall, nth)) => (syscall, nth.parse().map_err(|_| NotARemoval)?),
            None => (entry, 0),
        };
        if syscall.is_empty() {
            return Err(NotARemoval);
        }
        Ok(Self {
            thread,
            syscall: syscall.to_owned(),
            nth,
        })
    }
}

/// A filter ready to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program(BpfProgram);

impl Program {
    /// Puts the calling thread, and every thread it makes from now on, under the filter. There is no way back.
    ///
    /// # Errors
    /// [`JailError::Install`].
    pub fn install(&self, _confined: &Jailed) -> Result<Installed, JailError> {
        seccompiler::apply_filter(&self.0).map_err(JailError::Install)?;
        Ok(Installed {
            instructions: self.0.len(),
            _of_this_thread: std::marker::PhantomData,
        })
    }

    /// Puts every thread of the process under the filter, those that run already too (`SECCOMP_FILTER_FLAG_TSYNC`).
    ///
    /// # Errors
    /// [`JailError::Install`].
    pub fn install_everywhere(&self, _confined: &Jailed) -> Result<(), JailError> {
        seccompiler::apply_filter_all_threads(&self.0).map_err(JailError::Install)
    }

    /// Returns the number of BPF instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.0.len()
    }
}

/// The proof that the thread which holds it is under a filter. It cannot be sent to another thread.
#[derive(Debug)]
pub struct Installed {
    instructions: usize,
    _of_this_thread: std::marker::PhantomData<*const ()>,
}

impl Installed {
    /// Returns the number of BPF instructions.
    #[must_use]
    pub fn instructions(&self) -> usize {
        self.instructions
    }
}

//! What ends or interrupts a call, by whose fault it is.

use std::io;
use std::path::PathBuf;

use muscle_abi::frame::ErrorCode;
use referee_audit::AuditError;

/// Why a call has no reply.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The muscle broke a rule that ends its cell.
    #[error(transparent)]
    Fault(Fault),
    /// The host failed.
    #[error(transparent)]
    Host(#[from] HostError),
    /// A signal came while the call waited. The caller looks at its deadline and makes the same call again,
    /// which goes on where it stopped, or ends the cell.
    #[error("interrupted by a signal")]
    Interrupted,
}

/// A rule that the muscle broke, at the price of its cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It wrote more output than a cell may.
    #[error("more than {limit} bytes of output")]
    OutputLimit {
        /// Bytes allowed.
        limit: u64,
    },
    /// It was refused too often; each refusal costs the operator a record.
    #[error("more than {limit} refused calls")]
    DenialLimit {
        /// Refusals allowed.
        limit: u32,
    },
}

/// The host's own failures.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The log took no record, so nothing was done.
    #[error("cannot record what a muscle does")]
    Audit(#[from] AuditError),
    /// The system gave no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    /// A granted directory cannot be opened.
    #[error("cannot open the directory {path} of slot `{slot}`")]
    OpenDirectory {
        /// The slot.
        slot: String,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file behind a serial port cannot be opened.
    #[error("cannot open {path} for the serial port of slot `{slot}`")]
    OpenSerial {
        /// The slot.
        slot: String,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard input, output or error cannot be duplicated.
    #[error("cannot take over the standard streams")]
    Streams(#[source] io::Error),
    /// A grant that needs an opened thing came without it.
    #[error("nothing was opened for slot `{slot}`")]
    NotAcquired {
        /// The slot.
        slot: String,
    },
    /// The process that asks the TPM is gone.
    #[error("the process that asks the TPM does not answer")]
    Tpm(#[source] io::Error),
    /// More slots than the table of grants has room for.
    #[error("{slots} slots are more than {}", muscle_abi::capability::SLOTS_MAX)]
    TooManySlots {
        /// Slots.
        slots: usize,
    },
    /// A slot's name is longer than the table of grants has room for.
    #[error("the slot name {slot:?} is too long")]
    SlotName {
        /// The name.
        slot: String,
    },
    /// Arguments were given to a muscle that has no grant to see them.
    #[error("the muscle has no `args` grant, so that it cannot be given {count} arguments")]
    ArgumentsNotGranted {
        /// How many were given.
        count: usize,
    },
    /// Arguments and environment are too large together.
    #[error("arguments and environment have {bytes} bytes, more than {limit}")]
    ArgumentsTooLarge {
        /// Bytes needed.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
}

/// Why a call is answered with an error, or not at all.
#[derive(Debug)]
pub(crate) enum Refusal<'p> {
    /// An error reply.
    Reply(CallError<'p>),
    /// No reply.
    Stop(Stop),
}

/// An error reply, with what it is about for the record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CallError<'p> {
    pub code: ErrorCode,
    pub message: &'static str,
    pub path: Option<&'p str>,
}

impl<'p> CallError<'p> {
    pub const fn new(code: ErrorCode, message: &'static str) -> CallError<'p> {
        CallError {
            code,
            message,
            path: None,
        }
    }

    pub const fn at(self, path: &'p str) -> CallError<'p> {
        CallError {
            path: Some(path),
            ..self
        }
    }
}

impl<'p> From<CallError<'p>> for Refusal<'p> {
    fn from(error: CallError<'p>) -> Refusal<'p> {
        Refusal::Reply(error)
    }
}

impl From<AuditError> for Refusal<'_> {
    fn from(error: AuditError) -> Self {
        Refusal::Stop(Stop::Host(HostError::Audit(error)))
    }
}

impl From<Fault> for Refusal<'_> {
    fn from(fault: Fault) -> Self {
        Refusal::Stop(Stop::Fault(fault))
    }
}

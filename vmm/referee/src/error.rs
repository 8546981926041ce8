//! What goes wrong, by whose fault it is.

use muscle_abi::frame::ErrorCode;
use referee_cell::{CellError, FaultReport};

/// Why a muscle was not admitted or a cell not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Bundle, trust store, policy or a binding says no.
    #[error("{message}")]
    Rejected {
        /// A stable name for machines.
        name: &'static str,
        /// What, where and what to do.
        message: String,
    },
    /// The host failed.
    #[error("{what}")]
    Host {
        /// What it failed at.
        what: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StartError {
    /// What it is, and each cause that does not stand in it already, after colons.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let said = error.to_string();
            if !text.ends_with(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        text
    }

    /// Wraps an error of the host.
    pub(crate) fn host<E: std::error::Error + Send + Sync + 'static>(
        what: &'static str,
    ) -> impl FnOnce(E) -> StartError {
        move |source| StartError::Host {
            what,
            source: Box::new(source),
        }
    }
}

impl From<referee_bundle::Rejected> for StartError {
    fn from(rejected: referee_bundle::Rejected) -> StartError {
        StartError::Rejected {
            name: rejected.name(),
            message: rejected.to_string(),
        }
    }
}

impl From<referee_policy::Rejected> for StartError {
    fn from(rejected: referee_policy::Rejected) -> StartError {
        StartError::Rejected {
            name: rejected.code(),
            message: rejected.to_string(),
        }
    }
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The function answered with an error of its own; the cell goes on.
    #[error("{message} [{}]", code.name())]
    Function {
        /// Its kind.
        code: ErrorCode,
        /// The muscle's words. Untrusted: escape them before a terminal shows them.
        message: String,
    },
    /// The arguments have no form in CBOR; nothing was called.
    #[error("the arguments cannot be encoded: {0}")]
    Arguments(String),
    /// Name and arguments are larger than a frame may be, or the name is empty or longer than 255 bytes; nothing was called.
    #[error("the call is too large for a frame of {limit} bytes")]
    TooLarge {
        /// Bytes that name and arguments may have together.
        limit: u32,
    },
    /// The result is not of the type that was asked for; the cell goes on.
    #[error("the answer is not of the expected type: {0}")]
    Answer(String),
    /// The muscle broke a rule or its time was over. The cell is over.
    #[error("the muscle broke a rule: {}", .0.fault)]
    Fault(Box<FaultReport>),
    /// The muscle exited with this code instead of answering. The cell is over.
    #[error("the muscle exited with code {0} and answered nothing")]
    Exited(u8),
    /// The call was cancelled. The cell is over.
    #[error("cancelled")]
    Cancelled,
    /// The cell ended before.
    #[error("the cell is over")]
    Over,
    /// The host failed. The cell is over.
    #[error(transparent)]
    Host(#[from] CellError),
    /// The log took no record. The cell is over.
    #[error("cannot record what a muscle does")]
    Audit(#[from] referee_audit::AuditError),
}

/// Why there is no receipt.
#[derive(Debug, thiserror::Error)]
pub enum ReceiptError {
    /// Nothing ran.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Nothing was called, or the host failed on the way.
    #[error(transparent)]
    Call(CallError),
    /// The muscle has run, and it could not be signed.
    #[error("the muscle has run, and there is no receipt of it")]
    Unsigned(#[source] StartError),
}

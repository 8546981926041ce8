//! What stops a cell's host side, sorted by who is at fault.

use thiserror::Error;

use crate::fault::MuscleFault;
use crate::host::CallStop;

/// Why serving a cell stopped.
#[derive(Debug, Error)]
pub enum Halt {
    /// The muscle broke a rule.
    #[error("the muscle broke a rule: {0}")]
    Fault(#[from] MuscleFault),
    /// A signal came while the host waited for something; look at the limits, then try again.
    #[error("interrupted")]
    Interrupted,
    /// The host failed.
    #[error(transparent)]
    Host(#[from] CellError),
}

impl From<CallStop> for Halt {
    fn from(stop: CallStop) -> Halt {
        match stop {
            CallStop::Interrupted => Halt::Interrupted,
            CallStop::OutputLimit { limit } => MuscleFault::OutputLimit { limit }.into(),
            CallStop::DenialLimit { limit } => MuscleFault::DenialLimit { limit }.into(),
            CallStop::Host(error) => CellError::from(error).into(),
        }
    }
}

/// The host could not do its part for a cell.
#[derive(Debug, Error)]
pub enum CellError {
    /// KVM or memory.
    #[error(transparent)]
    Hv(#[from] referee_hv::HvError),
    /// The memory limit leaves no room for what every cell has.
    #[error(
        "the memory limit of {limit} bytes is too small: image, stack, window, boot pages and rings take {needed}"
    )]
    MemoryLimit {
        /// Granted, in bytes.
        limit: u64,
        /// Needed before any heap, in bytes.
        needed: u64,
    },
    /// The image could not be copied into the cell although it had been checked.
    #[error("loading the image failed: {0}")]
    Load(#[source] linux_loader::loader::Error),
    /// A cell was to be reset that cannot be, see [`crate::LoadedCell::can_be_reset`].
    #[error("this cell cannot be reset")]
    NotResettable,
    /// The cell's processor is with a hot thread, and was not fetched back first.
    #[error("the cell's processor is lent")]
    Lent,
    /// The hot thread has ended with the cell's processor.
    #[error("the hot thread that ran the cell has ended")]
    HotThreadGone,
    /// A relocation points outside the image although it had been checked.
    #[error("relocation at image address {0:#x} is outside the image")]
    Relocation(u64),
    /// The vsock device refused an order of the host.
    #[error(transparent)]
    Vsock(#[from] referee_vsock::VsockError),
    /// A capability's act failed on the host.
    #[error(transparent)]
    Host(#[from] crate::host::HostFailure),
    /// The host's random numbers are not to be had.
    #[error("no random bytes from the host: {0}")]
    Random(getrandom::Error),
    /// A file or socket of the host failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
}

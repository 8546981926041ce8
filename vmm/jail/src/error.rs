//! Why a process could not be confined.

use std::path::PathBuf;

use rustix::io::Errno;

use crate::filter_set::PolicyError;
use crate::report::Layer;
use crate::side_channels::{Defence, Lacking};

/// Why a process could not be confined. Every one is a failure of the host, never of a muscle.
#[derive(Debug, thiserror::Error)]
pub enum JailError {
    /// A layer that the caller requires does not hold.
    #[error("this host does not allow the layer '{layer}', which is required: {errno}")]
    NotHeld {
        /// The layer.
        layer: Layer,
        /// What the kernel said; `ENOSYS` for a namespace that the fork did not make.
        errno: Errno,
    },
    /// A defence against side channels that the caller requires is not to be had.
    #[error("this host does not have the defence '{defence}', which is required: {why}")]
    Undefended {
        /// Which.
        defence: Defence,
        /// Why not.
        why: Lacking,
    },
    /// A layer that every host allows failed.
    #[error("could not apply the layer '{layer}': {errno}")]
    Failed {
        /// The layer.
        layer: Layer,
        /// What the kernel said.
        errno: Errno,
    },
    /// Capabilities are left after they were dropped.
    #[error(
        "capabilities are left after they were dropped: effective {effective:#x}, permitted {permitted:#x}"
    )]
    CapabilitiesLeft {
        /// The effective set, as bits.
        effective: u64,
        /// The permitted set, as bits.
        permitted: u64,
    },
    /// The process was not confined by a fork: it has more threads than one, or is its own origin.
    #[error("confinement starts while the process has {threads} threads; it must have one")]
    Threads {
        /// How many threads there are.
        threads: u64,
    },
    /// `/proc` could not be read, by which the process looks at itself.
    #[error("cannot read {path}: {errno}")]
    Proc {
        /// The file.
        path: &'static str,
        /// What the kernel said.
        errno: Errno,
    },
    /// A socket to be shown in the new root is not a Unix socket.
    #[error("{} is not a Unix socket", path.display())]
    NotASocket {
        /// The path given.
        path: PathBuf,
    },
    /// A socket to be shown in the new root cannot be opened.
    #[error("cannot reach the Unix socket {}: {errno}", path.display())]
    Socket {
        /// The path given.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// Sockets were to be shown in the new root, but this host does not allow one, so that their names
    /// would mean other files.
    #[error("{count} sockets are granted by name, which needs a root of our own, and this host allows none")]
    NoRootForSockets {
        /// How many sockets.
        count: usize,
    },
    /// A socket's name in the new root is empty, has a slash or a null byte, is "." or "..", or is longer than 64 bytes.
    #[error("socket number {index} has a name that is not a plain file name")]
    SocketName {
        /// Its place in the list, from 0.
        index: usize,
    },
    /// A seccomp policy is malformed.
    #[error("the seccomp policy is malformed")]
    Policy(#[from] PolicyError),
    /// The kernel refused a seccomp filter.
    #[error("the kernel refused the seccomp filter")]
    Install(#[source] seccompiler::Error),
}

//! Confinement: what the process that runs a cell gives up before it looks at a muscle's image.
//!
//! The layers, in the order in which [`confine`] applies them:
//!
//! ```text
//!   (made by the fork)   user, mount, pid, net, ipc, uts namespaces
//!   identity             one user and group, "nobody" inside
//!   empty root           a read-only tmpfs with nothing but granted Unix sockets; the old root detached
//!   granted directories  mounted in there, so that nothing is above them; read-only where granted so
//!   host name            "cell"
//!   descriptors          all closed but those on the keep list
//!   limits               core 0, open files, locked memory 0, message queues 0, threads
//!   capabilities         bounding, ambient, inheritable, permitted, effective: empty; securebits locked
//!   no new privileges    and not dumpable, so not traceable by its own user
//!   seccomp              per thread, by `Filter::install`, once the threads exist
//! ```
//!
//! The rule this crate keeps: **nothing is reported as held that was not seen to hold.** Namespaces
//! are compared with those from before the fork, capabilities are read back after they were dropped.
//! A layer that this host does not allow is named in the [`Confinement`], or is an error if the caller
//! asked for [`Require::All`].
//!
//! [`Jailed`] is the proof that `confine` came back; only it can make one, and loading a muscle asks for it.
#![forbid(unsafe_code)]

mod cache_partition;
mod confine;
mod core_scheduling;
mod descriptors;
mod directories;
mod error;
mod filter;
mod filter_set;
mod limits;
mod origin;
mod privileges;
mod report;
mod root;
mod side_channels;
mod speculation;

pub use cache_partition::Partition;
pub use confine::{JailConfig, Jailed, Require, confine};
pub use directories::DirectoryGrant;
pub use error::JailError;
pub use filter::{FILTER_SOURCES, Filter, Installed, NotARemoval, OnViolation, Program, Removal};
pub use filter_set::{Entry, FilterSet, PolicyError};
pub use limits::LimitConfig;
pub use origin::Origin;
pub use report::{Confinement, Layer, LayerState, Limit};
pub use root::SocketMount;
pub use side_channels::{Defence, Defended, Lacking, Wish, Wishes, defend, offered};

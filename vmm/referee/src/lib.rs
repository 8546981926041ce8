//! Referee as a library: run code that you do not trust inside your own program, each piece in a KVM guest of its own.
//!
//! ```text
//!   Config ─► Referee::open ─► admit ─► Muscle::permit ─► Permit::start ─► Cell::call
//!             KVM, trust,      verify,  policy, grants    VM, image,       one exit there and back
//!             policy, log      check                      record
//! ```
//!
//! Each stage takes what the one before gave, so none can be left out. There is no global state but the kick signal's
//! handler (`SIGRTMIN + 1`), which [`CellThread::enter`] installs; nothing panics; a [`Cell`] may move between threads.
//!
//! These cells live in **this** program's process, which is not confined for them. The
//! guest is held by the same page tables, grants and exits; but the second wall, the jail around the VMM, is missing.
//! Each cell's `start` record says so, and where a TPM is measured into ([`Config::tpm`]), the component `seccomp` is the digest of nothing. A muscle
//! that needs `vsock-listen` or `vsock-connect` cannot be embedded so.
//!
//! [`confined`] runs a muscle in a process of its own behind that second wall, as `referee-vmm run` does:
//!
//! ```text
//!   Authority::read ─► verify_file ─► decide ─► Confined::prepare ─► run ─► Ended
//! ```
//!
//! ```no_run
//! use referee::{CellThread, Config, Inputs, Referee};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let referee = Referee::open(&Config::new("trust.store", "audit.jsonl"))?;
//! let muscle = referee.admit_file("order-risk.muscle".as_ref())?;
//! let permit = muscle.permit(&[])?;
//! let mut cell = permit.start(Inputs::default())?;
//! let thread = CellThread::enter()?;
//! let limits: std::collections::BTreeMap<String, f64> = cell.call(&thread, "limits", &())?;
//! # Ok(())
//! # }
//! ```
//!
//! What was granted can be taken back, or made smaller, from any thread while a call runs: [`Permit::control`], [`Cell::control`].
//!
//! A muscle that keeps its memory from call to call can be kept as it stands, as bytes too, and other cells begin there: [`Cell::snapshot`],
//! [`Permit::begin_from`].
//!
//! `examples/portfolio.rs` is a whole program, which also offers functions of its own to the muscle ([`Functions`]);
//! `examples/ring.rs` has two muscles send each other messages ([`Permit::join_ring`]).
#![forbid(unsafe_code)]

mod authority;
mod broker_host;
mod canceller;
mod cell;
pub mod confined;
mod control;
mod engine;
mod error;
mod functions;
pub mod host;
mod inputs;
pub mod json;
mod kit;
mod muscle;
mod outcome;
mod pool;
mod powers;
pub mod receipt;
pub mod record;
mod ring;
mod root;
mod snapshot;
mod spec;
mod tpm;
mod transcript;
pub mod uses;
mod values;
pub mod voucher;

pub use authority::Authority;
pub use broker_host::BrokerHost;
pub use canceller::Canceller;
pub use cell::{Cell, CellThread, Progress};
pub use control::{ControlError, GrantControl, SlotStanding};
pub use engine::{Engine, Opened};
pub use error::{CallError, ReceiptError, StartError};
pub use functions::Functions;
pub use inputs::Inputs;
pub use muscle::{Loaded, Muscle, Permit, embeddable, leads_to_no_socket, needs_no_node};
pub use outcome::Outcome;
pub use powers::{grants_digest, nondeterminism};
pub use receipt::WithReceipt;
pub use referee_bundle::{Digest, ReadLimits, VerifiedBundle, read_bundle};
pub use referee_capabilities::{
    BrokerLimits, ChannelLine, ConsoleStreams, Delegation, Input, InputReader, Message, MessageAnswer,
    Outgoing, Output, OutputWriter, SharedBytes, TpmQuestion, TpmQuestions,
};
pub use referee_cell::{Answer, FaultReport, HotThread, MuscleFault, Usage};
pub use referee_policy::{
    Binding, Decision, Loan, Loans, Narrowing, NotNarrower, Power, Standing, Standings,
};
pub use root::{Config, Referee};
pub use snapshot::{NoSnapshot, Snapshot};
pub use spec::cell_spec;
pub use tpm::{HostTpm, Registers, Tpm, identity, measured};
pub use transcript::{Digests, Transcript};

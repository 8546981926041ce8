//! What the author of a muscle imports.
//!
//! ```ignore
//! #![no_std]
//! #![no_main]
//! use muscle::prelude::*;
//!
//! #[muscle::main]
//! fn main() -> muscle::Result<()> {
//!     let text = muscle::fs::dir("input")?.read_to_string("greeting.txt")?;
//!     println!("{text}");
//!     Ok(())
//! }
//! ```
//!
//! A muscle has only what its `Muscle.toml` asked for and its operator granted, each under the name of a slot; what it
//! has not is an [`Error`] with [`ErrorCode::Denied`]. `docs/authoring.md` leads through the first muscle.
//!
//! Everything here also compiles in an ordinary program of the host, so that a muscle's own tests can run there. Printing
//! works there; the rest answers that there is no cell.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod attest;
pub mod cbor;
pub mod channels;
pub mod clock;
pub mod fs;
pub mod functions;
pub mod io;
pub mod log;
pub mod pio;
pub mod prelude;
pub mod process;
pub mod random;
pub mod ring;
pub mod state;
pub mod testing;
pub mod vsock;

mod arguments;
mod host;
mod outcome;
mod slot;

pub use guest_runtime::Global;
pub use guest_runtime::rpc::CallError as Error;
pub use muscle_abi::frame::ErrorCode;
pub use muscle_macros::{export, main, receive};
pub use process::{ExitCode, args, env, program_name, vars};

/// A result whose error is one of the host's, or the muscle's own text.
pub type Result<T> = core::result::Result<T, Error>;

/// What the macros' expansions name. Not for authors.
#[doc(hidden)]
pub mod __private {
    pub use alloc::vec::Vec;

    pub use guest_runtime::{CallError, Entry, outside_a_cell};

    pub use crate::arguments::Arguments;
    pub use crate::outcome::{AnswerPlain, AnswerResult, Outcome, ReportDebug, ReportDisplay, ReportPlain};
}

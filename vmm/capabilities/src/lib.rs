//! One file per power: checks the grant, performs the act, records it.
//!
//! The one rule: **the grant is looked up before anything else is read.** [`Broker::call`] finds the handle in
//! the cell's table, matches the kind of grant with the operation, and only then decodes the payload.
//!
//! ```text
//!   frame ──► handle known? ──► grant fits operation? ──► payload decodes? ──► arguments allowed? ──► act
//!               │ StaleHandle     │ Denied                  │ BadArguments       │ Denied, Quota, …    │
//!               └───────────┬─────┴─────────────────────────┴────────────────────┘                    │
//!                     audit record, error reply                                     audit record, reply
//! ```
//!
//! Audit: what changes something (output, writing, removing) is recorded before it happens, what only looks is
//! recorded before the answer is given. If the log takes no record, nothing happens and nothing is answered. An act
//! that was recorded and then failed has a second record with the error.
//!
//! Everything is opened by [`Resources::acquire`], before the process confines itself; later only paths below
//! a granted directory are opened, relative to its descriptor.
#![forbid(unsafe_code)]

mod arguments;
mod attest;
mod broker;
mod channel;
mod clock;
mod console;
mod delegate;
mod error;
mod files;
mod functions;
mod handles;
mod live;
mod op;
mod payload;
mod pio;
mod ports;
mod quota;
mod random;
mod resources;
mod state;
mod tpm_line;
mod tpm_questions;

pub use arguments::argument_block;
pub use attest::{NONCE_BYTES, PUBLIC_KEY_MAX, USER_DATA_MAX};
pub use broker::{Broker, BrokerLimits, Slots};
pub use channel::{ChannelLine, Delegation, Message, MessageAnswer, Outgoing};
pub use clock::CellClock;
pub use console::{ConsoleStreams, Input, InputReader, Output, OutputWriter, SharedBytes};
pub use error::{Fault, HostError, Stop};
pub use functions::{HostFunction, HostFunctions};
pub use handles::{GrantTable, StaleHandle};
pub use live::LiveBroker;
pub use op::Op;
pub use ports::PortUse;
pub use random::{MAX_RANDOM, boot_seed};
pub use resources::Resources;
pub use tpm_line::{Answer, QUESTIONS_MAX, Question};
pub use tpm_questions::{TpmQuestion, TpmQuestions};

#[cfg(test)]
mod tests;

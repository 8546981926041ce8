//! Messages to and from another muscle, through memory that both cells see, with a `ring` slot on each side.
//!
//! ```ignore
//! let mut out = muscle::ring::sender("out")?;        // role = "send"
//! out.send(b"hello")?;
//!
//! let mut inbox = muscle::ring::receiver("in")?;     // role = "receive", in the other muscle
//! let mut buffer = [0; 4096];
//! let length = inbox.receive(&mut buffer)?;
//! ```
//! Nothing of what the other muscle sends is to be trusted but that it came from there: whole messages, in the order in which they were sent,
//! each copied out before it can be looked at.

use muscle_abi::capability::CapabilityKind;

pub use guest_runtime::ring::{Receiver, Sender};
pub use muscle_ring::RingError;

use crate::{Result, slot};

/// Opens the end of the ring in the slot `name` to send by.
///
/// # Errors
/// [`crate::ErrorCode::Denied`] when no slot of this name is granted, [`crate::ErrorCode::Invalid`] when it is no end to send by, or open already.
pub fn sender(name: &str) -> Result<Sender> {
    Sender::open(&slot::named(name, CapabilityKind::Ring)?)
}

/// Opens the end of the ring in the slot `name` to receive by.
///
/// # Errors
/// As [`sender`].
pub fn receiver(name: &str) -> Result<Receiver> {
    Receiver::open(&slot::named(name, CapabilityKind::Ring)?)
}

//! Both ends of a ring ([`muscle_abi::ring`] has where everything lies): one sender, one receiver, neither trusts the other.
//!
//! ```text
//!   sender                                        receiver
//!   ──────                                        ────────
//!   bytes into the data                           index of the sender: within bounds?
//!   fence (release)                               fence (acquire)
//!   own index ───────────────────────────────►    length, once: within what is there?
//!   fence (seq-cst)                               bytes out of the data
//!   the receiver sleeps? wake it                  fence (release)
//!                       ◄──────────────────────── own index
//!                                                 fence (seq-cst); the sender sleeps? wake it
//! ```
//! **Sleep.** Who finds nothing to do writes its sleep word, fences (seq-cst), looks once more, and only then waits. Who moved its index fences
//! (seq-cst) and looks at the sleep word. Of two such pairs of store and load at least one load sees the other's store, so either the first look
//! finds the move or the second finds the sleep; a wake that comes before the wait counts for it. A side wakes the other once for each sleep.
//!
//! **Trust.** An index of the other side is a claim: its distance from the own one is checked before it is used, and what is used is the copy that was
//! checked. A length is read once. Bytes are copied out before anybody looks at them. All access is by atomic words within slices, so whatever the
//! other side writes at whatever moment, the worst that comes of it is [`RingError::Damaged`] or other bytes in its own messages.
//!
//! **Epochs.** The host empties the ring when either side begins anew, and counts the epoch up. Indices and sleep words carry the epoch that they are of;
//! those of another count as none. Who notices hears [`RingError::Reset`] once and goes on in the new epoch.
//!
//! Loads of words that this side cannot write are relaxed, with a fence behind them: that is the kind of atomic load which the language
//! allows of read-only memory.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod data;
mod end;
mod error;
mod receiver;
mod sender;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests;

pub use end::{Bell, Memory};
pub use error::RingError;
pub use receiver::Receiver;
pub use sender::Sender;

//! Messages to other deployments of a node, with a `channel` slot for each way.
//!
//! ```ignore
//! // role = "send": into the queue of everybody who receives.
//! let receivers = muscle::channels::send("ticks", &tick)?;
//! // role = "request": to the one who receives, who answers.
//! let quote: Quote = muscle::channels::request("pricing", &order)?;
//!
//! // role = "receive", function = "on_tick": called with one message after another.
//! #[muscle::receive]
//! fn on_tick(tick: Tick) -> Result<(), String> {
//!     Ok(())
//! }
//! ```
//! Slots name no channel: the operator binds them, and policy has to grant both ends. What arrives is another muscle's word: believe it
//! no more than any other argument.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use muscle_abi::capability::{CapabilityKind, call as names};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorCode, Result, cbor, host, slot};

/// Sends one message by the slot `name`, and tells how many receivers it waits for: each takes it once at most, later. A message reaches
/// all of them or none.
///
/// # Errors
/// [`ErrorCode::Busy`] when a receiver has as much waiting as it may: it was sent to nobody, and may be sent again.
/// [`ErrorCode::TooLarge`] when it is longer than the slot or a receiver allows, [`ErrorCode::Quota`] when the slot has sent as many in
/// this call as it may.
pub fn send<M: Serialize + ?Sized>(name: &str, message: &M) -> Result<u32> {
    let grant = slot::named(name, CapabilityKind::Channel)?;
    let message = encoded(message)?;
    host::call(
        grant.handle,
        names::CHANNEL_SEND,
        |e| e.array(1)?.bytes(&message)?.ok(),
        |d| d.u32(),
    )
}

/// Sends one message by the slot `name` and waits for the receiver's answer.
///
/// # Errors
/// [`ErrorCode::Application`] with the receiver's own words; [`ErrorCode::NotFound`] when nobody receives, [`ErrorCode::Invalid`] when
/// several do or too many messages have led to this one; [`ErrorCode::Timeout`] when no answer came in time, [`ErrorCode::Io`] when the
/// receiver failed, [`ErrorCode::Busy`] when it takes none now; others as [`send`].
pub fn request<M: Serialize + ?Sized, R: DeserializeOwned>(name: &str, message: &M) -> Result<R> {
    let grant = slot::named(name, CapabilityKind::Channel)?;
    let message = encoded(message)?;
    let answer: core::result::Result<Vec<u8>, String> = host::call(
        grant.handle,
        names::CHANNEL_REQUEST,
        |e| e.array(1)?.bytes(&message)?.ok(),
        |d| {
            d.array()?;
            match d.bool()? {
                false => d.bytes().map(|bytes| Ok(Vec::from(bytes))),
                true => d.str().map(|words| Err(String::from(words))),
            }
        },
    )?;
    let value = answer.map_err(|words| Error::new(ErrorCode::Application, words))?;
    cbor::from_slice(&value).map_err(failed)
}

fn encoded<M: Serialize + ?Sized>(message: &M) -> Result<Vec<u8>> {
    cbor::to_vec(message).map_err(failed)
}

fn failed(error: cbor::Error) -> Error {
    Error::new(ErrorCode::BadArguments, error.to_string())
}

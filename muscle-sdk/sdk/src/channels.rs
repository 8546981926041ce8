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

use muscle_abi::capability::{CapabilityKind, call as names, delegate};
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

/// What is delegated of a grant; what is not said is as the grant has it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Part<'a> {
    /// `files`: for reading only.
    pub read_only: bool,
    /// `files`: only what is at or below this path, relative to the directory that is delegated.
    pub within: Option<&'a str>,
    /// `files`: bytes by which the receiver may grow what is there.
    pub max_bytes: Option<u64>,
    /// `files`: files and directories that the receiver may add.
    pub max_files: Option<u32>,
    /// `clock`: milliseconds only.
    pub coarse: bool,
}

impl Part<'_> {
    /// All that the grant has.
    pub const WHOLE: Part<'static> = Part {
        read_only: false,
        within: None,
        max_bytes: None,
        max_files: None,
        coarse: false,
    };
}

/// Delegates what is in this muscle's slot `own`, or a part of it, to the slot `to` of whoever receives on the channel in the slot `name`. When this is
/// answered, the receiver may use it: never more than this muscle may, nor than policy gave the receiver, and for as long as both have it. Once more
/// for the same slots changes what is delegated.
///
/// # Errors
/// [`ErrorCode::NotFound`] when nobody receives, or the receiver has no such slot that is delegated over the channel; [`ErrorCode::Denied`] when more would
/// be delegated than there is, or the grant is not one to be delegated; [`ErrorCode::Invalid`] when the slots are of two kinds or have nothing in common,
/// several receive, or it would come back to where it is from; [`ErrorCode::Exists`] when another muscle has delegated to the slot;
/// [`ErrorCode::Quota`] beyond [`muscle_abi::capability::delegate::CALL_MAX`] in a call; [`ErrorCode::Timeout`] when it is not known whether it is
/// done.
pub fn delegate(name: &str, own: &str, to: &str, part: &Part<'_>) -> Result<()> {
    let grant = slot::named(name, CapabilityKind::Channel)?;
    let flag = |said: bool, flag: u32| if said { flag } else { 0 };
    let flags = flag(part.read_only, delegate::READ_ONLY) | flag(part.coarse, delegate::COARSE);
    host::call(
        grant.handle,
        names::CHANNEL_DELEGATE,
        |e| {
            e.array(6)?
                .str(own)?
                .str(to)?
                .u32(flags)?
                .str(part.within.unwrap_or(delegate::EVERYWHERE))?
                .u64(part.max_bytes.unwrap_or(delegate::ALL_BYTES))?
                .u32(part.max_files.unwrap_or(delegate::ALL_FILES))?
                .ok()
        },
        host::nothing,
    )
}

/// Takes back what was delegated of the slot `own` to slots `to` over the channel in the slot `name`, and from whoever has it by them. When this is
/// answered, nobody uses it any more.
///
/// # Errors
/// [`ErrorCode::NotFound`] when nothing was delegated so; otherwise as [`delegate()`].
pub fn undelegate(name: &str, own: &str, to: &str) -> Result<()> {
    let grant = slot::named(name, CapabilityKind::Channel)?;
    host::call(
        grant.handle,
        names::CHANNEL_UNDELEGATE,
        |e| e.array(2)?.str(own)?.str(to)?.ok(),
        host::nothing,
    )
}

fn encoded<M: Serialize + ?Sized>(message: &M) -> Result<Vec<u8>> {
    cbor::to_vec(message).map_err(failed)
}

fn failed(error: cbor::Error) -> Error {
    Error::new(ErrorCode::BadArguments, error.to_string())
}

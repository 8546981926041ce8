//! Calls of the host: encoding arguments, decoding results.

use alloc::format;
use alloc::vec::Vec;
use core::convert::Infallible;

use guest_runtime::cell;
use minicbor::{Decoder, Encoder};

use crate::{Error, ErrorCode, Result};

/// An encoder into a vector, which cannot fail.
pub(crate) type Encoding = Encoder<Vec<u8>>;
/// What encoding returns.
pub(crate) type Encoded = core::result::Result<(), minicbor::encode::Error<Infallible>>;

/// Calls the host with the arguments that `arguments` writes, and reads its result with `result`.
pub(crate) fn call<R>(
    handle: u64,
    name: &str,
    arguments: impl FnOnce(&mut Encoding) -> Encoded,
    result: impl FnOnce(&mut Decoder<'_>) -> core::result::Result<R, minicbor::decode::Error>,
) -> Result<R> {
    let payload = encode(arguments);
    let answer = cell::with(|link| link.call(handle, name, &payload))?;
    result(&mut Decoder::new(&answer)).map_err(|error| {
        Error::new(
            ErrorCode::Io,
            format!("the host's answer to {name} cannot be read: {error}"),
        )
    })
}

/// Calls the host without waiting for its answer.
pub(crate) fn post(handle: u64, name: &str, arguments: impl FnOnce(&mut Encoding) -> Encoded) -> Result<()> {
    let payload = encode(arguments);
    cell::with(|link| link.post(handle, name, &payload))
}

/// Reads a result that says nothing.
pub(crate) fn nothing(decoder: &mut Decoder<'_>) -> core::result::Result<(), minicbor::decode::Error> {
    decoder.null()
}

fn encode(arguments: impl FnOnce(&mut Encoding) -> Encoded) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    // Writing to a `Vec` cannot fail.
    let _ = arguments(&mut encoder);
    encoder.into_writer()
}

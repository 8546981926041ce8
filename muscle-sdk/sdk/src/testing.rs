//! Calling exported functions as the host would, from a muscle's own tests.

use alloc::format;
use alloc::vec::Vec;

use guest_runtime::entries;

use crate::{Error, ErrorCode, Result};

/// Calls an exported function of this program by its name with the CBOR of its arguments, and returns the CBOR of its
/// result.
///
/// # Errors
/// What the caller would get: [`ErrorCode::UnknownFunction`], [`ErrorCode::BadArguments`],
/// [`ErrorCode::Application`].
pub fn call(name: &str, payload: &[u8]) -> Result<Vec<u8>> {
    let handler = entries::export(name).ok_or_else(|| {
        Error::new(
            ErrorCode::UnknownFunction,
            format!("this muscle exports no function `{name}`"),
        )
    })?;
    handler(payload)
}

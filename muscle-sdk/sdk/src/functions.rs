//! Functions of the program in which the cell is embedded, with a `functions` slot that names them.
//!
//! ```ignore
//! let price: f64 = muscle::functions::call("market", "price", "ACME")?;
//! ```

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use muscle_abi::capability::{CapabilityKind, call as names};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, ErrorCode, Result, cbor, host, slot};

/// Calls `function` of the slot `name` with one value (a tuple for several) and waits for what it gives.
///
/// # Errors
/// [`ErrorCode::Application`] with the function's own words, also when the argument is not of the type that it takes;
/// [`ErrorCode::Denied`] when the slot does not name it, [`ErrorCode::TooLarge`] when its result does not fit into one answer.
pub fn call<A: Serialize + ?Sized, R: DeserializeOwned>(
    name: &str,
    function: &str,
    argument: &A,
) -> Result<R> {
    let grant = slot::named(name, CapabilityKind::Functions)?;
    let failed = |error: cbor::Error| Error::new(ErrorCode::BadArguments, error.to_string());
    let argument = cbor::to_vec(argument).map_err(failed)?;
    let answer: core::result::Result<Vec<u8>, String> = host::call(
        grant.handle,
        names::FUNCTIONS_CALL,
        |e| e.array(2)?.str(function)?.bytes(&argument)?.ok(),
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

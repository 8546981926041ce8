//! CBOR (RFC 8949) by serde, in the form that JSON has: structs and maps by text keys, enums as their name or a map of
//! one, `Option` as value or null.
//!
//! What comes from outside began as JSON, where 3 may be meant as 3.0 and addresses or dates are text. So integers are
//! taken where a float is asked for, and types that have a readable form use it. The crates that offer CBOR for
//! serde do neither.

mod deserialize;
mod serialize;

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Why a value is not what was asked for, or cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(&self.0)
    }
}

impl core::error::Error for Error {}

impl serde::de::Error for Error {
    fn custom<T: core::fmt::Display>(message: T) -> Error {
        Error(message.to_string())
    }
}

impl serde::ser::Error for Error {
    fn custom<T: core::fmt::Display>(message: T) -> Error {
        Error(message.to_string())
    }
}

impl From<minicbor::decode::Error> for Error {
    fn from(error: minicbor::decode::Error) -> Error {
        Error(error.to_string())
    }
}

impl From<minicbor::encode::Error<core::convert::Infallible>> for Error {
    fn from(error: minicbor::encode::Error<core::convert::Infallible>) -> Error {
        Error(error.to_string())
    }
}

/// Reads one value.
///
/// # Errors
/// [`Error`] when the bytes are not one CBOR value, or the value is not a `T`.
pub fn from_slice<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, Error> {
    let mut deserializer = deserialize::Deserializer::new(bytes);
    let value = T::deserialize(&mut deserializer)?;
    deserializer.finish()?;
    Ok(value)
}

/// Writes one value.
///
/// # Errors
/// [`Error`] when the value's own serialisation fails.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut serializer = serialize::Serializer::new();
    value.serialize(&mut serializer)?;
    Ok(serializer.into_bytes())
}

#[cfg(test)]
mod tests;

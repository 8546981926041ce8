//! Arguments and results as CBOR (RFC 8949), by serde.

use std::sync::Arc;

use muscle_abi::frame::ErrorCode;
use referee_capabilities::HostFunction;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;

/// Writes arguments: a tuple or array is taken by position, a struct or map by name, anything else as the only argument.
pub(crate) fn write_arguments<A: Serialize + ?Sized>(
    arguments: &A,
    payload: &mut Vec<u8>,
) -> Result<(), CallError> {
    /// Major types of CBOR, in the upper three bits of the first byte.
    const ARRAY: u8 = 4;
    const MAP: u8 = 5;
    payload.clear();
    ciborium::into_writer(arguments, &mut *payload)
        .map_err(|error| CallError::Arguments(error.to_string()))?;
    match payload.first().map(|first| first >> 5) {
        Some(ARRAY | MAP) => {}
        // `()` is null: no arguments.
        _ if payload.as_slice() == [NULL] => *payload = vec![EMPTY_ARRAY],
        _ => payload.insert(0, ARRAY_OF_ONE),
    }
    Ok(())
}

const NULL: u8 = 0xf6;
const EMPTY_ARRAY: u8 = 0x80;
const ARRAY_OF_ONE: u8 = 0x81;

/// Reads a result of the muscle.
pub(crate) fn read_result<R: DeserializeOwned>(payload: &[u8]) -> Result<R, CallError> {
    let mut rest = payload;
    let value = ciborium::from_reader(&mut rest).map_err(|error| CallError::Answer(error.to_string()))?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(CallError::Answer(format!("{} bytes follow it", rest.len())))
    }
}

/// A host function over CBOR, from one over values.
pub(crate) fn function<A, R, E>(function: impl Fn(A) -> Result<R, E> + Send + Sync + 'static) -> HostFunction
where
    A: DeserializeOwned,
    R: Serialize,
    E: std::fmt::Display,
{
    Arc::new(move |argument: &[u8]| {
        let mut rest = argument;
        let argument = ciborium::from_reader(&mut rest).map_err(|error| format!("the argument: {error}"))?;
        if !rest.is_empty() {
            return Err(format!("the argument: {} bytes follow it", rest.len()));
        }
        let result = function(argument).map_err(|error| error.to_string())?;
        let mut bytes = Vec::new();
        ciborium::into_writer(&result, &mut bytes).map_err(|error| format!("the result: {error}"))?;
        Ok(bytes)
    })
}

/// Reads an error of the muscle: `[code, message]`.
pub(crate) fn read_error(payload: &[u8]) -> CallError {
    match read_result::<(u32, String)>(payload) {
        Ok((code, message)) => match ErrorCode::from_number(code) {
            Some(code) => CallError::Function { code, message },
            None => CallError::Answer(format!("an error of the unknown code {code}")),
        },
        Err(error) => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written<A: Serialize + ?Sized>(arguments: &A) -> Vec<u8> {
        let mut payload = vec![1, 2, 3];
        write_arguments(arguments, &mut payload).expect("have a form");
        payload
    }

    #[test]
    fn arguments_are_an_array_or_a_map() {
        assert_eq!(written(&()), [0x80]);
        assert_eq!(written(&5u8), [0x81, 5]);
        assert_eq!(written(&(5u8, "x")), [0x82, 5, 0x61, b'x']);
        assert_eq!(written(&[5u8, 6]), [0x82, 5, 6]);
        let named = std::collections::BTreeMap::from([("a", 1u8)]);
        assert_eq!(written(&named), [0xa1, 0x61, b'a', 1]);
    }

    #[test]
    fn what_is_no_whole_value_of_the_type_is_an_error() {
        for bad in [
            &[][..],
            &[0x01, 0x01],
            &[0x9f],
            &[0x7b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0x81; 300],
            &[0x61, b'x'],
        ] {
            assert!(
                matches!(read_result::<u64>(bad), Err(CallError::Answer(_))),
                "{bad:x?}"
            );
        }
        assert!(matches!(
            read_error(&[0x82, 0x18, 0xff, 0x60]),
            CallError::Answer(_)
        ));
        assert!(
            matches!(read_error(&[0x82, 1, 0x61, b'x']), CallError::Function { message, .. } if message == "x")
        );
    }
}

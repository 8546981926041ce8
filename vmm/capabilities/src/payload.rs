//! Payloads: CBOR arrays of arguments in, one CBOR value out.
//!
//! Reading copies nothing and allocates nothing. An array of another length, an argument of another type, a
//! string of indefinite length and trailing bytes are all [`ErrorCode::BadArguments`].

use minicbor::{Decoder, Encoder};
use muscle_abi::frame::ErrorCode;

use crate::error::CallError;

/// Reads a payload's arguments in their order.
#[derive(Debug)]
pub(crate) struct Arguments<'p> {
    decoder: Decoder<'p>,
}

impl<'p> Arguments<'p> {
    /// Begins to read an array of exactly `count` arguments.
    pub fn new(payload: &'p [u8], count: u64) -> Result<Arguments<'p>, CallError<'p>> {
        let mut decoder = Decoder::new(payload);
        match decoder.array() {
            Ok(Some(found)) if found == count => Ok(Arguments { decoder }),
            _ => Err(BAD),
        }
    }

    pub fn u32(&mut self) -> Result<u32, CallError<'p>> {
        self.decoder.u32().map_err(|_| BAD)
    }

    pub fn u64(&mut self) -> Result<u64, CallError<'p>> {
        self.decoder.u64().map_err(|_| BAD)
    }

    pub fn bytes(&mut self) -> Result<&'p [u8], CallError<'p>> {
        self.decoder.bytes().map_err(|_| BAD)
    }

    pub fn text(&mut self) -> Result<&'p str, CallError<'p>> {
        self.decoder.str().map_err(|_| BAD)
    }

    /// Nothing may follow.
    pub fn finish(self) -> Result<(), CallError<'p>> {
        match self.decoder.position() == self.decoder.input().len() {
            true => Ok(()),
            false => Err(BAD),
        }
    }
}

/// Writes `null`.
pub(crate) fn null(reply: &mut Vec<u8>) {
    reply.push(0xf6);
}

/// Writes with `minicbor`, whose writing into a vector cannot fail.
pub(crate) fn write(
    reply: &mut Vec<u8>,
    act: impl FnOnce(&mut Encoder<&mut Vec<u8>>) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) {
    let written = act(&mut Encoder::new(reply));
    debug_assert!(written.is_ok(), "a vector takes all bytes");
}

/// Writes an error's payload.
pub(crate) fn error(reply: &mut Vec<u8>, code: ErrorCode, message: &str) {
    write(reply, |out| out.array(2)?.u32(code as u32)?.str(message)?.ok());
}

/// Makes room in `reply` for a byte string of at most `max` bytes, lets `fill` put some there, and writes the
/// string's head in front. `fill` gives how many it put.
pub(crate) fn byte_string<E>(
    reply: &mut Vec<u8>,
    max: usize,
    fill: impl FnOnce(&mut [u8]) -> Result<usize, E>,
) -> Result<usize, E> {
    reply.clear();
    reply.resize(max.saturating_add(HEAD), 0);
    let Some((head, room)) = reply.split_first_chunk_mut::<HEAD>() else {
        return Ok(0);
    };
    let filled = fill(room)?.min(room.len());
    // RFC 8949 §3: major type 2, the length in the four bytes that follow.
    let [a, b, c, d] = u32::try_from(filled).unwrap_or(u32::MAX).to_be_bytes();
    *head = [0x5a, a, b, c, d];
    reply.truncate(filled.saturating_add(HEAD));
    Ok(filled)
}

const HEAD: usize = 5;
const BAD: CallError<'static> = CallError::new(
    ErrorCode::BadArguments,
    "the payload is not what the function takes",
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_payload_of_another_shape_is_refused() {
        let read = |payload: &[u8]| {
            let mut arguments = Arguments::new(payload, 2).ok()?;
            let pair = (arguments.u32().ok()?, arguments.bytes().ok()?.to_vec());
            arguments.finish().ok()?;
            Some(pair)
        };
        assert_eq!(read(&[0x82, 5, 0x41, 9]), Some((5, vec![9])));
        for bad in [
            &[][..],
            &[0x81, 5],
            &[0x83, 5, 0x41, 9, 1],
            &[0x82, 5, 0x41, 9, 0],
            &[0x82, 5, 0x41],
            &[0x82, 5, 0x61, b'x'],
            &[0x82, 0x20, 0x41, 9],
            &[0x82, 0x1b, 0, 0, 0, 1, 0, 0, 0, 0, 0x41, 9],
            &[0x9f, 5, 0x41, 9, 0xff],
            &[0x82, 5, 0x5f, 0x41, 9, 0xff],
            &[0x82, 5, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            &[0xa1, 5, 0x41, 9],
        ] {
            assert_eq!(read(bad), None, "{bad:x?}");
        }
    }

    proptest! {
        #[test]
        fn a_byte_string_reads_back(max in 0usize..300, fill in 0usize..400) {
            let mut reply = vec![1, 2, 3];
            let filled = byte_string(&mut reply, max, |room| {
                room.fill(7);
                Ok::<_, ()>(fill)
            });
            let expected = fill.min(max);
            prop_assert_eq!(filled, Ok(expected));
            let mut decoder = Decoder::new(&reply);
            prop_assert_eq!(decoder.bytes().ok(), Some(&vec![7; expected][..]));
            prop_assert_eq!(decoder.position(), reply.len());
        }
    }
}

//! Standard output, error and input, and the log.
//!
//! Output is posted: it goes into the transmit ring without an exit and reaches the host at the next exit, which may
//! be the muscle's last. Standard output is kept back until the end of a line.

use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};
use muscle_abi::capability::{CapabilityKind, call};
use muscle_abi::frame::ErrorCode;

use crate::rpc::CallError;
use crate::{boot, cell};

/// The two streams of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// Writes to a stream; standard output waits for the end of its line.
///
/// # Errors
/// What the host said to earlier output: it answers after the muscle has gone on.
pub fn write(stream: Stream, bytes: &[u8]) -> Result<(), CallError> {
    #[cfg(cell)]
    {
        live::write(stream, bytes)
    }
    #[cfg(not(cell))]
    {
        use std::io::Write;
        let result = match stream {
            Stream::Out => std::io::stdout().write_all(bytes),
            Stream::Err => std::io::stderr().write_all(bytes),
        };
        result.map_err(|error| CallError::new(ErrorCode::Io, alloc::format!("{error}")))
    }
}

/// Posts what standard output keeps back. Does nothing while the link to the host is in use.
pub fn flush() {
    #[cfg(cell)]
    live::flush();
}

/// Reads at most `max` bytes of standard input; empty at its end.
///
/// # Errors
/// What the host answered; [`ErrorCode::Denied`] without a console that has input.
pub fn read(max: u32) -> Result<Vec<u8>, CallError> {
    flush();
    let payload = encode(|e| e.array(1)?.u32(max)?.ok());
    let answer = cell::with(|link| link.call(handle()?, call::CONSOLE_IN, &payload))?;
    let bytes = Decoder::new(&answer).bytes().map(Vec::from);
    bytes.map_err(|_| CallError::new(ErrorCode::Io, "the host's answer to console.in is no byte string"))
}

/// Writes a log line; levels count from 1, error, to 5, trace.
///
/// # Errors
/// As [`write()`].
pub fn log(level: u8, target: &str, message: &str) -> Result<(), CallError> {
    let payload = encode(|e| e.array(3)?.u8(level)?.str(target)?.str(message)?.ok());
    cell::with(|link| link.post(handle()?, call::CONSOLE_LOG, &payload))
}

fn handle() -> Result<u64, CallError> {
    boot::grant_of(CapabilityKind::Console)
        .map(|grant| grant.handle)
        .ok_or_else(|| CallError::new(ErrorCode::Denied, "this muscle has no console"))
}

type Encoding = Encoder<Vec<u8>>;

/// Encodes into a new vector, which cannot fail.
fn encode(
    f: impl FnOnce(&mut Encoding) -> Result<(), minicbor::encode::Error<core::convert::Infallible>>,
) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    let _ = f(&mut encoder);
    encoder.into_writer()
}

/// Cuts output into what is posted now, up to the last end of a line or when too much is kept back, and what stays.
fn lines(kept: &mut Vec<u8>, bytes: &[u8]) -> Option<Vec<u8>> {
    let end = bytes
        .iter()
        .rposition(|byte| *byte == b'\n')
        .map_or(0, |at| at + 1);
    let (now, later) = bytes.split_at(end);
    if now.is_empty() && kept.len() + later.len() < KEEP_MAX {
        kept.extend_from_slice(later);
        return None;
    }
    let mut ready = core::mem::take(kept);
    ready.extend_from_slice(now);
    kept.extend_from_slice(later);
    Some(ready)
}

/// Most bytes of an unfinished line that are kept back.
const KEEP_MAX: usize = 4096;

#[cfg(cell)]
mod live {
    use alloc::vec::Vec;

    use muscle_abi::capability::call;

    use super::{Stream, encode, handle, lines};
    use crate::cell;
    use crate::rpc::CallError;
    use crate::single::Single;

    static KEPT: Single<Vec<u8>> = Single::new(Vec::new());

    pub(super) fn write(stream: Stream, bytes: &[u8]) -> Result<(), CallError> {
        if stream == Stream::Err {
            flush();
            return post(call::CONSOLE_ERR, bytes);
        }
        let ready = match KEPT.borrow() {
            Some(mut kept) => lines(&mut kept, bytes),
            None => None,
        };
        match ready {
            Some(ready) => post(call::CONSOLE_OUT, &ready),
            None => Ok(()),
        }
    }

    pub(super) fn flush() {
        let kept = KEPT.borrow().map(|mut kept| core::mem::take(&mut *kept));
        if let Some(kept) = kept.filter(|kept| !kept.is_empty()) {
            // Nobody is left to hear of it; the host has recorded the refusal.
            let _ = post(call::CONSOLE_OUT, &kept);
        }
    }

    fn post(name: &str, bytes: &[u8]) -> Result<(), CallError> {
        let mut result = Ok(());
        for chunk in bytes.chunks(CHUNK) {
            let payload = encode(|e| e.array(1)?.bytes(chunk)?.ok());
            let posted = cell::with(|link| link.post(handle()?, name, &payload));
            result = result.and(posted);
        }
        result
    }

    /// Most bytes of one call.
    const CHUNK: usize = 64 << 10;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_kept_until_the_end_of_a_line() {
        let mut kept = Vec::new();
        assert_eq!(lines(&mut kept, b"one"), None);
        assert_eq!(lines(&mut kept, b" two\nthr"), Some(b"one two\n".to_vec()));
        assert_eq!(lines(&mut kept, b"ee\n"), Some(b"three\n".to_vec()));
        assert!(kept.is_empty());
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut kept = Vec::new();
        let posted: usize = (0..100)
            .filter_map(|_| lines(&mut kept, &[b'x'; 100]))
            .map(|now| now.len())
            .sum();
        assert!(kept.len() <= KEEP_MAX);
        assert_eq!(posted + kept.len(), 10_000);
    }
}

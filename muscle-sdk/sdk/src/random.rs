//! Random bytes of the host, with a `random` slot.

use alloc::vec::Vec;

use muscle_abi::capability::{CapabilityKind, call};

use crate::{Error, ErrorCode, Result, host, slot};

/// Fills a buffer, with one call for each 64 KiB.
///
/// # Errors
/// [`ErrorCode::Denied`] without a `random` slot.
pub fn fill(buffer: &mut [u8]) -> Result<()> {
    let grant = slot::only(CapabilityKind::Random)?;
    for chunk in buffer.chunks_mut(CHUNK) {
        let length = u32::try_from(chunk.len()).unwrap_or(0);
        let bytes: Vec<u8> = host::call(
            grant.handle,
            call::RANDOM_FILL,
            |e| e.array(1)?.u32(length)?.ok(),
            |d| d.bytes().map(Vec::from),
        )?;
        if bytes.len() != chunk.len() {
            return Err(Error::new(
                ErrorCode::Io,
                "the host gave fewer random bytes than asked",
            ));
        }
        chunk.copy_from_slice(&bytes);
    }
    Ok(())
}

/// Random bytes as an array.
///
/// # Errors
/// As [`fill`].
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut out = [0; N];
    fill(&mut out)?;
    Ok(out)
}

/// A random number.
///
/// # Errors
/// As [`fill`].
pub fn number() -> Result<u64> {
    Ok(u64::from_le_bytes(bytes()?))
}

const CHUNK: usize = 64 << 10;

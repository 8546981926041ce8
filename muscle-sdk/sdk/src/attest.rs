//! Evidence of the host's TPM, with an `attest` slot: proof to somebody outside that this very muscle speaks.

use alloc::vec::Vec;

use muscle_abi::capability::{CapabilityKind, call};

use crate::{Result, host, slot};

/// Asks the host for evidence that carries `user_data` (at most 512 bytes), `nonce` (16 to 64 bytes, from whoever will check it, used
/// once) and `public_key` (at most 1024 bytes, of a key that the muscle made). Who the muscle is, the host says.
///
/// `referee-verify evidence` checks what comes back.
///
/// # Errors
/// [`crate::ErrorCode::Denied`] without an `attest` slot, [`crate::ErrorCode::BadArguments`] beyond the lengths above,
/// [`crate::ErrorCode::Io`] when the TPM gives none.
pub fn evidence(user_data: &[u8], nonce: &[u8], public_key: &[u8]) -> Result<Vec<u8>> {
    let grant = slot::only(CapabilityKind::Attest)?;
    host::call(
        grant.handle,
        call::ATTEST_EVIDENCE,
        |e| {
            e.array(3)?
                .bytes(user_data)?
                .bytes(nonce)?
                .bytes(public_key)?
                .ok()
        },
        |d| d.bytes().map(Vec::from),
    )
}

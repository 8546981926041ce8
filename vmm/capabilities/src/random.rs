//! Capability `random`: bytes from the system's generator (`getrandom`).

use referee_policy::Grants;

use crate::error::HostError;

/// Most bytes of one call.
pub const MAX_RANDOM: u32 = 64 * 1024;

/// The boot block's seed: random with a `random` grant, zeros without.
///
/// # Errors
/// [`HostError::Random`].
pub fn boot_seed(grants: &Grants) -> Result<[u8; 32], HostError> {
    let mut seed = [0; 32];
    if grants.allows_random() {
        fill(&mut seed)?;
    }
    Ok(seed)
}

pub(crate) fn fill(bytes: &mut [u8]) -> Result<(), HostError> {
    getrandom::fill(bytes).map_err(HostError::Random)
}

pub(crate) fn u32() -> Result<u32, HostError> {
    let mut bytes = [0; 4];
    fill(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

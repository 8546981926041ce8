//! Under what a sealed key opens: this identity, and this value of the counter.

use referee_evidence::{Bank, counter_name};
use sha2::{Digest as _, Sha256};

/// The policy's digest, as the TPM computes it (Part 3, 23.7 and 23.9).
pub fn opening_policy(identity_pcr: u32, identity: &[u8], counter: u32, epoch: u64) -> [u8; 32] {
    const POLICY_PCR: u32 = 0x0000_017F;
    const POLICY_NV: u32 = 0x0000_0149;
    const EQ: u16 = 0;
    let mut mask = [0u8; 3];
    if let Some(byte) = mask.get_mut((identity_pcr / 8) as usize) {
        *byte = 1 << (identity_pcr % 8);
    }
    let hash = |parts: &[&[u8]]| -> [u8; 32] { Sha256::digest(parts.concat()).into() };
    let selection = [
        &1u32.to_be_bytes()[..],
        &Bank::Sha256.number().to_be_bytes(),
        &[3],
        &mask,
    ]
    .concat();
    let pcr = hash(&[
        &[0; 32],
        &POLICY_PCR.to_be_bytes(),
        &selection,
        &hash(&[identity]),
    ]);
    let arguments = hash(&[&epoch.to_be_bytes(), &0u16.to_be_bytes(), &EQ.to_be_bytes()]);
    hash(&[&pcr, &POLICY_NV.to_be_bytes(), &arguments, &counter_name(counter)])
}

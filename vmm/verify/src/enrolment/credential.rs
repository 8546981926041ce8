//! TPM2_MakeCredential without a TPM (Part 1, 24.4 and B.10.4): a secret that only the TPM with this endorsement key opens, and only if
//! a key of this name is in it too.

use aes::Aes128;
use aes::cipher::KeyIvInit as _;
use anyhow::{Context, anyhow};
use hmac::{Hmac, KeyInit as _, Mac as _};
use referee_evidence::{Challenge, EndorsementKey};
use rsa::{BoxedUint, Oaep, PublicKey};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Draws a secret and wraps it.
pub fn make(endorsement: &EndorsementKey, name: &[u8]) -> anyhow::Result<(Challenge, Zeroizing<[u8; 32]>)> {
    let (mut secret, mut seed) = (Zeroizing::new([0; 32]), Zeroizing::new([0; 32]));
    for place in [&mut *secret, &mut *seed] {
        getrandom::fill(place).map_err(|error| anyhow!("no random bytes: {error}"))?;
    }
    let modulus =
        BoxedUint::from_be_slice(&endorsement.modulus, 2048).context("the endorsement key's modulus")?;
    let key = PublicKey::new(modulus, BoxedUint::from(65537u32)).context("the endorsement key")?;
    // The label has its terminating zero (B.4).
    let padding = Oaep::<Sha256>::new_with_label(&b"IDENTITY\0"[..]);
    let encrypted = key
        .encrypt(&mut getrandom::SysRng, padding, &*seed)
        .context("encrypting to the endorsement key")?;
    // TPM2B_DIGEST, encrypted with its length.
    let mut identity = [&32u16.to_be_bytes()[..], &*secret].concat();
    let symmetric: Zeroizing<[u8; 16]> = derived(&*seed, b"STORAGE\0", name)?;
    cfb_mode::Encryptor::<Aes128>::new(&(*symmetric).into(), &[0; 16].into()).encrypt(&mut identity);
    let integrity: Zeroizing<[u8; 32]> = derived(&*seed, b"INTEGRITY\0", &[])?;
    let mut mac = Hmac::<Sha256>::new_from_slice(&*integrity)?;
    mac.update(&identity);
    mac.update(name);
    let mac = mac.finalize().into_bytes();
    let credential = [&32u16.to_be_bytes()[..], &mac, &identity].concat();
    Ok((Challenge::new(credential, encrypted), secret))
}

/// KDFa (Part 1, 11.4.10.2) for at most one block of SHA-256; the label ends with its zero.
fn derived<const N: usize>(key: &[u8], label: &[u8], context: &[u8]) -> anyhow::Result<Zeroizing<[u8; N]>> {
    let bits = u32::try_from(N * 8)?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key)?;
    for part in [&1u32.to_be_bytes(), label, context, &bits.to_be_bytes()] {
        mac.update(part);
    }
    let block = Zeroizing::new(<[u8; 32]>::from(mac.finalize().into_bytes()));
    let mut out = Zeroizing::new([0; N]);
    let part = block.get(..N).context("more than one block")?;
    out.copy_from_slice(part);
    Ok(out)
}

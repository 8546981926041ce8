//! A secret for a muscle that evidence vouches for, by HPKE (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, single_shot_seal};
use referee_evidence::{Submodule, to_hex};

/// What sealing is also bound to, so that nothing sealed here opens for another purpose.
const INFO: &[u8] = b"referee secret 1";

/// Seals the secret to the one muscle of this name that speaks; the nonce is bound in. Whoever calls has checked the evidence.
///
/// # Errors
/// When there is no such muscle, its key is none, or a file does not serve; nothing is written then.
pub fn seal_to_speaker(
    spoke: &BTreeMap<String, Submodule>,
    to: &str,
    nonce: &[u8],
    secret: &Path,
    sealed: &Path,
) -> anyhow::Result<()> {
    let named = |spoke: &&Submodule| spoke.muscle.split(' ').next() == Some(to);
    let mut speakers = spoke.values().filter(named);
    let (Some(speaker), None) = (speakers.next(), speakers.next()) else {
        bail!("not exactly one muscle `{to}` speaks in this evidence, so nothing is sealed");
    };
    let key = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&speaker.public_key)
        .map_err(|error| anyhow!("the key of `{to}` is no X25519 key: {error}"))?;
    let secret = fs::read(secret).with_context(|| format!("secret {}", secret.display()))?;
    let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &key,
        INFO,
        &secret,
        nonce,
    )
    .map_err(|error| anyhow!("sealing: {error}"))?;
    let both = [&encapsulated.to_bytes()[..], &ciphertext].concat();
    fs::write(sealed, to_hex(&both) + "\n").with_context(|| format!("sealed secret {}", sealed.display()))
}

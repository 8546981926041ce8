//! HPKE keys: a secret for a muscle that evidence vouches for, and an offline key for recovery. By HPKE (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeS, Serializable as _, single_shot_seal};
use referee_evidence::{Submodule, to_hex};

/// What sealing is also bound to, so that nothing sealed here opens for another purpose.
const INFO: &[u8] = b"referee secret 1";

/// Makes an X25519 key pair and prints the public half.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn make_recovery_key(secret: &Path) -> anyhow::Result<bool> {
    let mut seed = zeroize::Zeroizing::new([0u8; 32]);
    getrandom::fill(&mut *seed).map_err(|error| anyhow!("no random bytes: {error}"))?;
    let (private, public) = X25519HkdfSha256::derive_keypair(&*seed);
    let text = zeroize::Zeroizing::new(to_hex(&private.to_bytes()) + "\n");
    write_secret(secret, text.as_bytes())?;
    println!("{}", to_hex(&public.to_bytes()));
    Ok(true)
}

/// Writes a file that only its owner reads, and that did not exist.
///
/// # Errors
/// When it exists or cannot be written.
pub fn write_secret(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().with_context(|| path.display().to_string())
}

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

//! The master key under an offline key, for when the TPM is gone or the identity was changed without notice: HPKE (RFC 9180),
//! DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, ChaCha20Poly1305.

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::X25519HkdfSha256;
use hpke::{
    Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _, single_shot_open, single_shot_seal,
};
use zeroize::Zeroizing;

use crate::error::TpmError;

/// What wrapping is also bound to, so that nothing wrapped here opens for another purpose.
const INFO: &[u8] = b"referee recovery 1";
/// Bytes of an encapsulated X25519 key (RFC 9180, 7.1).
const ENCAPSULATED: usize = 32;

type Public = <X25519HkdfSha256 as Kem>::PublicKey;
type Private = <X25519HkdfSha256 as Kem>::PrivateKey;

/// The key of this epoch, for whoever has the private half.
///
/// # Errors
/// [`TpmError::Request`] when the public key is none.
pub fn wrap(public: &[u8; 32], epoch: u64, master: &[u8; 32]) -> Result<Vec<u8>, TpmError> {
    let no = |error: hpke::HpkeError| TpmError::Request(format!("recovery key: {error}"));
    let public = Public::from_bytes(public).map_err(no)?;
    let (encapsulated, ciphertext) = single_shot_seal::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeS::Base,
        &public,
        INFO,
        master,
        &epoch.to_be_bytes(),
    )
    .map_err(no)?;
    Ok([&encapsulated.to_bytes()[..], &ciphertext].concat())
}

/// The key of this epoch again.
///
/// # Errors
/// [`TpmError::RecoveryRefused`] when it was wrapped for another key or epoch, or was changed.
pub fn unwrap(private: &[u8], epoch: u64, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, TpmError> {
    let no = |_| TpmError::RecoveryRefused { epoch };
    let private = Private::from_bytes(private).map_err(no)?;
    let (encapsulated, ciphertext) = wrapped
        .split_at_checked(ENCAPSULATED)
        .ok_or(TpmError::RecoveryRefused { epoch })?;
    let encapsulated = <X25519HkdfSha256 as Kem>::EncappedKey::from_bytes(encapsulated).map_err(no)?;
    let master = single_shot_open::<ChaCha20Poly1305, HkdfSha256, X25519HkdfSha256>(
        &OpModeR::Base,
        &private,
        &encapsulated,
        INFO,
        ciphertext,
        &epoch.to_be_bytes(),
    );
    let master = Zeroizing::new(master.map_err(no)?);
    let master = <[u8; 32]>::try_from(&master[..]).map_err(|_| TpmError::RecoveryRefused { epoch })?;
    Ok(Zeroizing::new(master))
}

//! Public keys, their algorithms, and the check of one signature.

use std::fmt;

use ed25519_dalek::VerifyingKey;
use ml_dsa::{EncodedVerifyingKey, MlDsa65};

use crate::cbor::Writer;
use crate::digest::{Digest, KeyId};
use crate::rejected::Rejected;

/// A signature algorithm by its COSE number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i64)]
pub enum Algorithm {
    /// ML-DSA-65 (FIPS 204, RFC 9964), with an empty context.
    MlDsa65 = -49,
    /// Ed25519, fully specified (RFC 9864).
    Ed25519 = -19,
}

impl Algorithm {
    /// The algorithm with this COSE number, if it is one of ours.
    pub const fn from_number(number: i64) -> Option<Algorithm> {
        match number {
            -49 => Some(Algorithm::MlDsa65),
            -19 => Some(Algorithm::Ed25519),
            _ => None,
        }
    }

    /// Its number in the COSE registry.
    pub const fn number(self) -> i64 {
        self as i64
    }

    /// Its name in the COSE registry.
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::MlDsa65 => "ML-DSA-65",
            Algorithm::Ed25519 => "Ed25519",
        }
    }

    /// Bytes of a public key.
    pub const fn public_key_bytes(self) -> usize {
        match self {
            Algorithm::MlDsa65 => 1952,
            Algorithm::Ed25519 => 32,
        }
    }

    /// Bytes of a signature.
    pub const fn signature_bytes(self) -> usize {
        match self {
            Algorithm::MlDsa65 => 3309,
            Algorithm::Ed25519 => 64,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// A public key of the right size and, for Ed25519, a point that is not weak.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey {
    algorithm: Algorithm,
    bytes: Vec<u8>,
    key_id: KeyId,
}

impl PublicKey {
    /// Takes the raw bytes of a public key.
    ///
    /// # Errors
    /// [`Rejected::KeyInvalid`] when the size is wrong, the bytes are no point of the curve, or the point has a
    /// small order, so that one signature would fit many messages.
    pub fn new(algorithm: Algorithm, bytes: &[u8]) -> Result<PublicKey, Rejected> {
        let sound = match algorithm {
            Algorithm::MlDsa65 => bytes.len() == algorithm.public_key_bytes(),
            Algorithm::Ed25519 => ed25519_point(bytes).is_some_and(|point| !point.is_weak()),
        };
        match sound {
            true => Ok(PublicKey {
                algorithm,
                bytes: bytes.to_owned(),
                key_id: thumbprint(algorithm, bytes),
            }),
            false => Err(Rejected::KeyInvalid {
                algorithm,
                size: bytes.len(),
            }),
        }
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's raw bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The key's COSE thumbprint.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// Checks a signature over a message.
    ///
    /// # Errors
    /// [`Rejected::SignatureInvalid`].
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> Result<(), Rejected> {
        let invalid = Rejected::SignatureInvalid {
            key_id: self.key_id(),
        };
        match self.algorithm {
            Algorithm::MlDsa65 => {
                let encoded = EncodedVerifyingKey::<MlDsa65>::try_from(&self.bytes[..]);
                let key = encoded.map(|encoded| ml_dsa::VerifyingKey::<MlDsa65>::decode(&encoded));
                let signature = ml_dsa::Signature::<MlDsa65>::try_from(signature);
                match (key, signature) {
                    (Ok(key), Ok(signature)) if key.verify_with_context(message, b"", &signature) => Ok(()),
                    _ => Err(invalid),
                }
            }
            Algorithm::Ed25519 => {
                let point = ed25519_point(&self.bytes).ok_or_else(|| invalid.clone())?;
                let signature =
                    ed25519_dalek::Signature::from_slice(signature).map_err(|_| invalid.clone())?;
                // Strict: no small-order point and no second form of the same signature.
                point.verify_strict(message, &signature).map_err(|_| invalid)
            }
        }
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "PublicKey({} {})", self.algorithm, self.key_id())
    }
}

/// SHA-256 over the key's required parameters in deterministic CBOR (RFC 9679 §3).
fn thumbprint(algorithm: Algorithm, bytes: &[u8]) -> KeyId {
    let mut key = Writer::new();
    key.map(3);
    match algorithm {
        // {kty: OKP, crv: Ed25519, x}; a label of -1 sorts after 1, since CBOR orders by bytes.
        Algorithm::Ed25519 => {
            key.i64(LABEL_KTY);
            key.i64(KTY_OKP);
            key.i64(LABEL_CRV);
            key.i64(CRV_ED25519);
            key.i64(LABEL_X);
        }
        // {kty: AKP, alg, pub}.
        Algorithm::MlDsa65 => {
            key.i64(LABEL_KTY);
            key.i64(KTY_AKP);
            key.i64(LABEL_ALG);
            key.i64(algorithm.number());
            key.i64(LABEL_PUB);
        }
    }
    key.bytes(bytes);
    KeyId(Digest::of(&key.into_bytes()).0)
}

fn ed25519_point(bytes: &[u8]) -> Option<VerifyingKey> {
    VerifyingKey::from_bytes(bytes.try_into().ok()?).ok()
}

// Labels and values of COSE keys, RFC 9053 §7 and RFC 9964 §3.
const LABEL_KTY: i64 = 1;
const LABEL_ALG: i64 = 3;
const LABEL_CRV: i64 = -1;
const LABEL_X: i64 = -2;
const LABEL_PUB: i64 = -1;
const KTY_OKP: i64 = 1;
const KTY_AKP: i64 = 7;
const CRV_ED25519: i64 = 6;

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 8032 §7.1, test 3: two bytes.
    const PUBLIC: &str = "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025";
    const SIGNATURE: &str = "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac\
                             18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a";

    fn hex(text: &str) -> Vec<u8> {
        let (left, right) = text.split_at(64);
        let mut out = Digest::from_hex(left).expect("hex").0.to_vec();
        if !right.is_empty() {
            out.extend(Digest::from_hex(right).expect("hex").0);
        }
        out
    }

    #[test]
    fn checks_a_signature_of_the_standard() {
        let key = PublicKey::new(Algorithm::Ed25519, &hex(PUBLIC)).expect("a key");
        assert_eq!(key.verify(&[0xaf, 0x82], &hex(SIGNATURE)), Ok(()));
        let invalid = Err(Rejected::SignatureInvalid { key_id: key.key_id() });
        assert_eq!(key.verify(&[0xaf, 0x83], &hex(SIGNATURE)), invalid);
        assert_eq!(key.verify(&[0xaf, 0x82], &hex(SIGNATURE)[..63]), invalid);
    }

    #[test]
    fn refuses_weak_and_misshapen_keys() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        for (algorithm, bytes) in [
            (Algorithm::Ed25519, &identity[..]),
            (Algorithm::Ed25519, &identity[..31]),
            (Algorithm::MlDsa65, &identity[..]),
        ] {
            assert_eq!(
                PublicKey::new(algorithm, bytes),
                Err(Rejected::KeyInvalid {
                    algorithm,
                    size: bytes.len()
                })
            );
        }
    }

    #[test]
    fn numbers_of_algorithms_are_their_own_inverse() {
        for algorithm in [Algorithm::MlDsa65, Algorithm::Ed25519] {
            assert_eq!(Algorithm::from_number(algorithm.number()), Some(algorithm));
        }
        assert_eq!(Algorithm::from_number(-8), None);
    }
}

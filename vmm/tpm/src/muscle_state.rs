//! The file of a muscle's state: sealed for one owner, one version and one place in the order in which it was saved.
//!
//! ```text
//!   [ header, salt: 32 bytes, AES-256-GCM-SIV(key, "referee state 1" ‖ header, bytes) ]
//!   header = [publisher, muscle, slot, version, sequence, digest of the bundle that saved, digest of the file before]
//!   key    = HKDF(K[version] ‖ salt, "file")
//! ```
//! The salt is new with each file, so that no key is used twice and the nonce is zero (RFC 8452 would bear even that). What is sealed is
//! as long as what was saved, which whoever sees the file learns.

use aes_gcm_siv::aead::{Aead as _, Payload};
use aes_gcm_siv::{Aes256GcmSiv, KeyInit as _, Nonce};
use hkdf::Hkdf;
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use referee_attest::StateOwner;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::error::TpmError;

const AAD: &[u8] = b"referee state 1";

/// What a state is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Header {
    #[n(0)]
    publisher: String,
    #[n(1)]
    muscle: String,
    #[n(2)]
    slot: String,
    /// Security epoch of the bundle that saved.
    #[n(3)]
    pub version: u64,
    /// How many times it was saved.
    #[n(4)]
    pub sequence: u64,
    /// SHA-256 of the bundle that saved.
    #[n(5)]
    #[cbor(with = "minicbor::bytes")]
    pub bundle: [u8; 32],
    /// SHA-256 of the file before; zeros before the first.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub before: [u8; 32],
}

impl Header {
    /// Of this owner.
    pub fn new(
        owner: &StateOwner,
        version: u64,
        sequence: u64,
        bundle: [u8; 32],
        before: [u8; 32],
    ) -> Header {
        Header {
            publisher: owner.publisher.clone(),
            muscle: owner.muscle.clone(),
            slot: owner.slot.clone(),
            version,
            sequence,
            bundle,
            before,
        }
    }

    fn is_of(&self, owner: &StateOwner) -> bool {
        (&self.publisher, &self.muscle, &self.slot) == (&owner.publisher, &owner.muscle, &owner.slot)
    }
}

#[derive(Encode, Decode)]
#[cbor(array)]
struct Parts {
    #[n(0)]
    header: ByteVec,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    salt: [u8; 32],
    #[n(2)]
    sealed: ByteVec,
}

/// Seals what was saved, by the key of its header's version.
///
/// # Errors
/// [`TpmError::Malformed`] when the host has no random bytes.
pub fn seal(key: &[u8; 32], header: &Header, bytes: &[u8]) -> Result<Vec<u8>, TpmError> {
    let no = |error: &dyn std::fmt::Display| TpmError::Malformed(format!("sealing a state: {error}"));
    let header = minicbor::to_vec(header).map_err(|error| no(&error))?;
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| no(&error))?;
    let aad = [AAD, &header].concat();
    let payload = Payload {
        msg: bytes,
        aad: &aad,
    };
    let sealed = cipher(key, &salt)
        .encrypt(&Nonce::default(), payload)
        .map_err(|error| no(&error))?;
    let parts = Parts {
        header: header.into(),
        salt,
        sealed: sealed.into(),
    };
    minicbor::to_vec(&parts).map_err(|error| no(&error))
}

/// A file whose header is not believed yet.
pub struct Sealed {
    header: Header,
    parts: Parts,
}

impl Sealed {
    /// Reads a file; `None` when it is none of this owner's.
    pub fn parse(file: &[u8], owner: &StateOwner) -> Option<Sealed> {
        let parts: Parts = minicbor::decode(file).ok()?;
        let header: Header = minicbor::decode(&parts.header).ok()?;
        header.is_of(owner).then_some(Sealed { header, parts })
    }

    /// The version whose key opens it.
    pub fn version(&self) -> u64 {
        self.header.version
    }

    /// What was saved, with what it is bound to; `None` when it was not sealed by this key.
    pub fn open(&self, key: &[u8; 32]) -> Option<(&Header, Zeroizing<Vec<u8>>)> {
        let aad = [AAD, &self.parts.header].concat();
        let payload = Payload {
            msg: &self.parts.sealed,
            aad: &aad,
        };
        let opened = cipher(key, &self.parts.salt).decrypt(&Nonce::default(), payload);
        Some((&self.header, Zeroizing::new(opened.ok()?)))
    }
}

fn cipher(key: &[u8; 32], salt: &[u8; 32]) -> Aes256GcmSiv {
    let mut file_key = Zeroizing::new([0; 32]);
    // HKDF-SHA256 gives up to 8160 bytes, so 32 are always given.
    let _ = Hkdf::<Sha256>::new(Some(salt), key).expand(b"file", &mut *file_key);
    Aes256GcmSiv::new(&(*file_key).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> StateOwner {
        StateOwner {
            publisher: "acme".into(),
            muscle: "memo".into(),
            slot: "notes".into(),
        }
    }

    fn header() -> Header {
        Header::new(&owner(), 3, 1, [1; 32], [0; 32])
    }

    #[test]
    fn what_was_sealed_opens_by_its_key_alone_and_is_not_in_the_file() {
        let file = seal(&[9; 32], &header(), b"a secret of the muscle").expect("seals");
        assert!(!file.windows(6).any(|window| window == b"secret"));
        let sealed = Sealed::parse(&file, &owner()).expect("is one");
        let (found, bytes) = sealed.open(&[9; 32]).expect("opens");
        assert_eq!((found, &bytes[..]), (&header(), &b"a secret of the muscle"[..]));
        assert!(sealed.open(&[8; 32]).is_none());
        let again = seal(&[9; 32], &header(), b"a secret of the muscle").expect("seals");
        assert_ne!(file, again);
    }

    #[test]
    fn no_changed_bit_opens() {
        let file = seal(&[9; 32], &header(), b"state").expect("seals");
        for at in 0..file.len() * 8 {
            let mut changed = file.clone();
            if let Some(byte) = changed.get_mut(at / 8) {
                *byte ^= 1 << (at % 8);
            }
            let opened = Sealed::parse(&changed, &owner());
            let opened = opened.as_ref().and_then(|sealed| sealed.open(&[9; 32]));
            // A bit of CBOR may be written in two ways; what it says is the same then, and is authenticated.
            if let Some((found, bytes)) = opened {
                assert_eq!((found, &bytes[..]), (&header(), &b"state"[..]), "bit {at}");
            }
        }
        for end in 0..file.len() {
            assert!(Sealed::parse(file.get(..end).unwrap_or_default(), &owner()).is_none());
        }
    }

    #[test]
    fn another_owners_file_is_none() {
        let file = seal(&[9; 32], &header(), b"state").expect("seals");
        for change in [
            |owner: &mut StateOwner| owner.publisher.push('x'),
            |owner: &mut StateOwner| owner.muscle.push('x'),
            |owner: &mut StateOwner| owner.slot.push('x'),
        ] {
            let mut other = owner();
            change(&mut other);
            assert!(Sealed::parse(&file, &other).is_none());
        }
    }
}

//! Names made of hash values: the digest of bytes and the id of a key.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// A SHA-256 value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Hashes bytes.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(Sha256::digest(bytes).into())
    }

    /// Hashes two runs of bytes as if they were one.
    pub fn of_two(first: &[u8], second: &[u8]) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(first);
        hasher.update(second);
        Digest(hasher.finalize().into())
    }

    /// Reads 64 hexadecimal digits, as `sha256sum` prints them.
    pub fn from_hex(text: &str) -> Option<Digest> {
        from_hex(text).map(Digest)
    }
}

/// A digest of bytes that come one after another.
#[derive(Debug, Clone, Default)]
pub struct Hashing(Sha256);

impl Hashing {
    /// Takes the next ones.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of all of them.
    pub fn digest(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// Id of a key: its COSE key thumbprint with SHA-256 (RFC 9679).
///
/// A hint where to look, never a proof of anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub [u8; 32]);

impl KeyId {
    /// Reads 64 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<KeyId> {
        from_hex(text).map(KeyId)
    }
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = [0u8; 32];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = (digit(*high)? << 4) | digit(*low)?;
    }
    Some(out)
}

macro_rules! shown_as_hex {
    ($type:ident) => {
        impl fmt::Display for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, concat!(stringify!($type), "({})"), self)
            }
        }
    };
}
shown_as_hex!(Digest);
shown_as_hex!(KeyId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_survives_a_round_trip() {
        let digest = Digest::of(b"abc");
        // FIPS 180-4, example of SHA-256.
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(Digest::from_hex(&digest.to_string()), Some(digest));
        assert_eq!(Digest::of_two(b"a", b"bc"), digest);
    }

    #[test]
    fn hex_of_another_length_or_with_other_signs_is_refused() {
        assert_eq!(Digest::from_hex(&"a".repeat(63)), None);
        assert_eq!(Digest::from_hex(&"g".repeat(64)), None);
        assert_eq!(Digest::from_hex(&"é".repeat(32)), None);
    }
}

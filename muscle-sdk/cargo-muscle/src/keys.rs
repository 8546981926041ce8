//! Key files: PKCS#8 for private keys, SubjectPublicKeyInfo for public ones, both in PEM, so that `openssl`
//! reads and makes them too.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use ed25519_dalek::pkcs8::KeypairBytes;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use referee_bundle::{Algorithm, KeyId, PublicKey, Rejected};

use crate::error::Error;

const PRIVATE: &str = "private key";
const PUBLIC: &str = "public key";

/// An Ed25519 private key.
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    /// Makes a key from the system's random bytes.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn generate() -> Result<PrivateKey, Error> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|source| Error::Random { source })?;
        Ok(PrivateKey::from_seed(&seed))
    }

    /// Makes the key of a 32-byte seed (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> PrivateKey {
        PrivateKey(SigningKey::from_bytes(seed))
    }

    /// Reads a PKCS#8 key in PEM form.
    ///
    /// # Errors
    /// [`Error::KeyText`].
    pub fn from_pem(text: &str) -> Result<PrivateKey, Error> {
        let key = SigningKey::from_pkcs8_pem(text).map_err(|_| Error::KeyText { wanted: PRIVATE })?;
        Ok(PrivateKey(key))
    }

    /// Writes the key as PKCS#8 in PEM form.
    ///
    /// # Errors
    /// [`Error::KeyText`] when the encoder refuses.
    pub fn to_pem(&self) -> Result<String, Error> {
        // Version 1 of the form, without the public key, because OpenSSL 3.0 reads no other.
        let pair = KeypairBytes {
            secret_key: self.0.to_bytes(),
            public_key: None,
        };
        let text = pair.to_pkcs8_pem(LineEnding::LF);
        text.map(|text| text.as_str().to_owned())
            .map_err(|_| Error::KeyText { wanted: PRIVATE })
    }

    /// Reads a private key's file.
    ///
    /// # Errors
    /// [`Error::File`], [`Error::KeyFile`].
    pub fn read(path: &Path) -> Result<PrivateKey, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
        PrivateKey::from_pem(&text).map_err(|_| Error::KeyFile {
            path: path.to_owned(),
            wanted: PRIVATE,
        })
    }

    /// Writes a private key's file that only its owner may read; it must not be there yet.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::File`].
    pub fn write_new(&self, path: &Path) -> Result<(), Error> {
        write_new(path, &self.to_pem()?, 0o600)
    }

    /// The public key.
    ///
    /// # Errors
    /// [`Rejected::KeyInvalid`], which no key made here is known to give.
    pub fn public_key(&self) -> Result<PublicKey, Rejected> {
        PublicKey::new(Algorithm::Ed25519, self.0.verifying_key().as_bytes())
    }

    /// The id of the public key.
    ///
    /// # Errors
    /// As [`PrivateKey::public_key`].
    pub fn key_id(&self) -> Result<KeyId, Rejected> {
        self.public_key().map(|key| key.key_id())
    }

    /// Signs a message.
    pub fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).to_bytes().to_vec()
    }
}

/// Reads a SubjectPublicKeyInfo in PEM form.
///
/// # Errors
/// [`Error::KeyText`].
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, Error> {
    let wrong = || Error::KeyText { wanted: PUBLIC };
    let key = VerifyingKey::from_public_key_pem(text).map_err(|_| wrong())?;
    PublicKey::new(Algorithm::Ed25519, key.as_bytes()).map_err(|_| wrong())
}

/// Writes an Ed25519 key as SubjectPublicKeyInfo in PEM form.
///
/// # Errors
/// [`Error::KeyText`] for a key of another algorithm.
pub fn public_key_to_pem(key: &PublicKey) -> Result<String, Error> {
    let wrong = || Error::KeyText { wanted: PUBLIC };
    let bytes = key.bytes().try_into().map_err(|_| wrong())?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| wrong())?;
    key.to_public_key_pem(LineEnding::LF).map_err(|_| wrong())
}

/// Reads a public key's file; a private key's file gives its public key.
pub(crate) fn read_public_key(path: &Path) -> Result<PublicKey, Error> {
    let text = std::fs::read_to_string(path).map_err(Error::file(path))?;
    let wrong = |_| Error::KeyFile {
        path: path.to_owned(),
        wanted: PUBLIC,
    };
    match PrivateKey::from_pem(&text) {
        Ok(private) => private.public_key().map_err(wrong),
        Err(_) => public_key_from_pem(&text).map_err(|_| Error::KeyFile {
            path: path.to_owned(),
            wanted: PUBLIC,
        }),
    }
}

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, text: &str, mode: u32) -> Result<(), Error> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file: File = file.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists {
            path: path.to_owned(),
        },
        _ => Error::file(path)(error),
    })?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(Error::file(path))
}

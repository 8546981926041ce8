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
use ml_dsa::{EncodedVerifyingKey, MlDsa65};
use referee_bundle::{Algorithm, KeyId, PublicKey, Rejected};

use crate::error::Error;

const PRIVATE: &str = "private key";
const PUBLIC: &str = "public key";

/// A private key.
pub enum PrivateKey {
    /// Ed25519.
    Ed25519(Box<SigningKey>),
    /// ML-DSA-65, kept as its seed.
    MlDsa65(Box<ml_dsa::SigningKey<MlDsa65>>),
}

impl PrivateKey {
    /// Makes a key from the system's random bytes.
    ///
    /// # Errors
    /// [`Error::Random`].
    pub fn generate(algorithm: Algorithm) -> Result<PrivateKey, Error> {
        let mut seed = [0u8; 32];
        getrandom::fill(&mut seed).map_err(|source| Error::Random { source })?;
        Ok(match algorithm {
            Algorithm::Ed25519 => PrivateKey::from_seed(&seed),
            Algorithm::MlDsa65 => PrivateKey::MlDsa65(Box::new(ml_dsa::SigningKey::from_seed(&seed.into()))),
        })
    }

    /// Makes the Ed25519 key of a 32-byte seed (RFC 8032).
    pub fn from_seed(seed: &[u8; 32]) -> PrivateKey {
        PrivateKey::Ed25519(Box::new(SigningKey::from_bytes(seed)))
    }

    /// Reads a PKCS#8 key in PEM form; one of ML-DSA-65 as its seed (RFC 9881, section 6).
    ///
    /// # Errors
    /// [`Error::KeyText`].
    pub fn from_pem(text: &str) -> Result<PrivateKey, Error> {
        if let Ok(key) = SigningKey::from_pkcs8_pem(text) {
            return Ok(PrivateKey::Ed25519(Box::new(key)));
        }
        ml_dsa::SigningKey::from_pkcs8_pem(text)
            .map(|key| PrivateKey::MlDsa65(Box::new(key)))
            .map_err(|_| Error::KeyText { wanted: PRIVATE })
    }

    /// Writes the key as PKCS#8 in PEM form.
    ///
    /// # Errors
    /// [`Error::KeyText`] when the encoder refuses.
    pub fn to_pem(&self) -> Result<String, Error> {
        let text = match self {
            // Version 1 of the form, without the public key, because OpenSSL 3.0 reads no other.
            PrivateKey::Ed25519(key) => KeypairBytes {
                secret_key: key.to_bytes(),
                public_key: None,
            }
            .to_pkcs8_pem(LineEnding::LF),
            PrivateKey::MlDsa65(key) => key.to_pkcs8_pem(LineEnding::LF),
        };
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
        match self {
            PrivateKey::Ed25519(key) => PublicKey::new(Algorithm::Ed25519, key.verifying_key().as_bytes()),
            PrivateKey::MlDsa65(key) => {
                PublicKey::new(Algorithm::MlDsa65, &key.expanded_key().verifying_key().encode())
            }
        }
    }

    /// The key's algorithm.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            PrivateKey::Ed25519(_) => Algorithm::Ed25519,
            PrivateKey::MlDsa65(_) => Algorithm::MlDsa65,
        }
    }

    /// The id of the public key.
    ///
    /// # Errors
    /// As [`PrivateKey::public_key`].
    pub fn key_id(&self) -> Result<KeyId, Rejected> {
        self.public_key().map(|key| key.key_id())
    }

    /// Signs a message. ML-DSA-65 signs without randomness (FIPS 204, 3.4), so that a bundle can be made again bit for bit.
    ///
    /// # Errors
    /// [`Error::Sign`], which no message is known to give.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        match self {
            PrivateKey::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
            PrivateKey::MlDsa65(key) => key
                .expanded_key()
                .sign_deterministic(message, b"")
                .map(|signature| signature.encode().to_vec())
                .map_err(|_| Error::Sign),
        }
    }
}

/// Reads a SubjectPublicKeyInfo in PEM form.
///
/// # Errors
/// [`Error::KeyText`].
pub fn public_key_from_pem(text: &str) -> Result<PublicKey, Error> {
    let wrong = || Error::KeyText { wanted: PUBLIC };
    if let Ok(key) = VerifyingKey::from_public_key_pem(text) {
        return PublicKey::new(Algorithm::Ed25519, key.as_bytes()).map_err(|_| wrong());
    }
    let key = ml_dsa::VerifyingKey::<MlDsa65>::from_public_key_pem(text).map_err(|_| wrong())?;
    PublicKey::new(Algorithm::MlDsa65, &key.encode()).map_err(|_| wrong())
}

/// Writes a key as SubjectPublicKeyInfo in PEM form.
///
/// # Errors
/// [`Error::KeyText`] when the encoder refuses.
pub fn public_key_to_pem(key: &PublicKey) -> Result<String, Error> {
    let wrong = || Error::KeyText { wanted: PUBLIC };
    match key.algorithm() {
        Algorithm::Ed25519 => {
            let bytes = key.bytes().try_into().map_err(|_| wrong())?;
            let key = VerifyingKey::from_bytes(bytes).map_err(|_| wrong())?;
            key.to_public_key_pem(LineEnding::LF).map_err(|_| wrong())
        }
        Algorithm::MlDsa65 => {
            let bytes = EncodedVerifyingKey::<MlDsa65>::try_from(key.bytes()).map_err(|_| wrong())?;
            let key = ml_dsa::VerifyingKey::<MlDsa65>::decode(&bytes);
            key.to_public_key_pem(LineEnding::LF).map_err(|_| wrong())
        }
    }
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

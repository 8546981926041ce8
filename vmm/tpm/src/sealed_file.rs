//! The file of an epoch: what the TPM sealed, the identity that it is sealed to, and the floors, which the sealed key authenticates.
//!
//! ```text
//!   { 0: TPM2B_PRIVATE, 1: TPMT_PUBLIC, 2: value of the identity's register, 3: floors, 4: HMAC-SHA256(epoch ‖ floors) }
//! ```
//! One file, so that they are replaced together. The epoch is in the HMAC, so that no table of another one fits.

use hmac::{Hmac, KeyInit as _, Mac as _};
use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sha2::Sha256;
use tss_esapi::structures::{Private, Public};
use tss_esapi::traits::{Marshall as _, UnMarshall as _};

use crate::commands::malformed;
use crate::error::TpmError;
use crate::floors::Floors;

#[derive(Encode, Decode)]
#[cbor(map)]
struct Parts {
    #[n(0)]
    private: ByteVec,
    #[n(1)]
    public: ByteVec,
    #[n(2)]
    identity: ByteVec,
    #[n(3)]
    floors: ByteVec,
    #[n(4)]
    tag: ByteVec,
}

/// The file, its floors not believed yet.
pub struct SealedFile {
    /// For TPM2_Load.
    pub private: Private,
    /// For TPM2_Load.
    pub public: Public,
    /// Value of the register that the policy names.
    pub identity: Vec<u8>,
    floors: Vec<u8>,
    tag: Vec<u8>,
}

impl SealedFile {
    /// What the TPM sealed to this identity.
    pub fn new(private: Private, public: Public, identity: Vec<u8>) -> SealedFile {
        SealedFile {
            private,
            public,
            identity,
            floors: Vec::new(),
            tag: Vec::new(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`TpmError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<SealedFile, TpmError> {
        let parts: Parts = minicbor::decode(bytes)
            .map_err(|error| TpmError::Malformed(format!("a sealed key's file: {error}")))?;
        Ok(SealedFile {
            private: Private::try_from(parts.private.to_vec()).map_err(malformed)?,
            public: Public::unmarshall(&parts.public).map_err(malformed)?,
            identity: parts.identity.to_vec(),
            floors: parts.floors.to_vec(),
            tag: parts.tag.to_vec(),
        })
    }

    /// The file in bytes, with these floors.
    ///
    /// # Errors
    /// [`TpmError::Malformed`] when the library cannot encode what it made.
    pub fn to_bytes(&self, key: &[u8; 32], epoch: u64, floors: &Floors) -> Result<Vec<u8>, TpmError> {
        let encoded = |error: &dyn std::fmt::Display| TpmError::Malformed(error.to_string());
        let floors = minicbor::to_vec(floors).map_err(|error| encoded(&error))?;
        let tag = mac(key, epoch, &floors)?.finalize().into_bytes().to_vec();
        let parts = Parts {
            private: self.private.value().to_vec().into(),
            public: self.public.marshall().map_err(malformed)?.into(),
            identity: self.identity.clone().into(),
            floors: floors.into(),
            tag: tag.into(),
        };
        minicbor::to_vec(&parts).map_err(|error| encoded(&error))
    }

    /// The floors, if this key made them for this epoch.
    ///
    /// # Errors
    /// [`TpmError::FloorsForged`].
    pub fn floors(&self, key: &[u8; 32], epoch: u64) -> Result<Floors, TpmError> {
        // Compared in constant time.
        mac(key, epoch, &self.floors)?
            .verify_slice(&self.tag)
            .map_err(|_| TpmError::FloorsForged { epoch })?;
        minicbor::decode(&self.floors).map_err(|error| TpmError::Malformed(format!("floors: {error}")))
    }
}

fn mac(key: &[u8; 32], epoch: u64, floors: &[u8]) -> Result<Hmac<Sha256>, TpmError> {
    let mut mac =
        Hmac::<Sha256>::new_from_slice(key).map_err(|error| TpmError::Malformed(error.to_string()))?;
    mac.update(&epoch.to_be_bytes());
    mac.update(floors);
    Ok(mac)
}

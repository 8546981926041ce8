//! The trust store: who may sign which muscles, decided by a document that root keys sign.
//!
//! The document is deterministic CBOR within a COSE_Sign block, with `external_aad` [`TRUST_STORE_AAD`]:
//!
//! ```text
//!   { 1: format, 2: version, 3: expires (Unix seconds),
//!     4: [threshold, [[algorithm, public key], …]],
//!     5: [[name, [[algorithm, public key, expires], …], [scope, …]], …],
//!     6: [revoked key id, …], 7: [revoked bundle digest, …], 8: [required algorithm, …] }
//! ```
//!
//! The roles follow The Update Framework: a document is good when a threshold of its own root keys signed it,
//! and version N+1 follows N when a threshold of N's root keys signed it too ([`TrustStore::followed_by`]).
//! It says which algorithms are required; a bundle cannot, so that no signature can be stripped from one.

mod document;

use crate::digest::{Digest, KeyId};
use crate::keys::{Algorithm, PublicKey};
use crate::rejected::Rejected;
use crate::signatures::{SignatureSet, to_be_signed};
use crate::unix_time::UnixTime;

pub use document::{Publisher, PublisherKey, RootDocument};

/// `external_aad` of a trust store's signatures; no signature of a bundle fits a trust store, nor the reverse.
pub const TRUST_STORE_AAD: &[u8] = b"referee trust store 1";

/// A root document whose signatures were checked. [`TrustStore::parse`] and its siblings alone make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustStore {
    document: RootDocument,
    digest: Digest,
}

/// Root keys that are known from elsewhere, and how many of them must have signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootPins {
    /// Ids of the keys.
    pub key_ids: Vec<KeyId>,
    /// Signatures needed, at least 1.
    pub threshold: u64,
}

/// What the trust store says about the key of one signature.
pub(crate) struct KnownKey<'a> {
    pub(crate) publisher: &'a Publisher,
    pub(crate) key: &'a PublisherKey,
}

impl TrustStore {
    /// Reads a trust store whose file is trusted, and checks that a threshold of its own root keys signed it.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn parse(bytes: &[u8], now: UnixTime) -> Result<TrustStore, Rejected> {
        let block = SignatureSet::decode(bytes)?;
        let document = RootDocument::decode(block.payload.as_deref().ok_or(Rejected::StoreUnsigned)?)?;
        let valid = valid_signatures(&block, &document.root_keys)?.len() as u64;
        if valid < document.root_threshold {
            return Err(Rejected::RootSignatures {
                valid,
                threshold: document.root_threshold,
            });
        }
        if document.expires <= now {
            return Err(Rejected::StoreExpired {
                expired: document.expires,
                now,
            });
        }
        Ok(TrustStore {
            document,
            digest: Digest::of(bytes),
        })
    }

    /// Reads a trust store whose file is not trusted: enough pinned root keys must have signed it as well.
    ///
    /// # Errors
    /// As [`TrustStore::parse`], and [`Rejected::PinnedSignatures`].
    pub fn parse_pinned(bytes: &[u8], pins: &RootPins, now: UnixTime) -> Result<TrustStore, Rejected> {
        let store = TrustStore::parse(bytes, now)?;
        let valid = valid_signatures(&SignatureSet::decode(bytes)?, &store.document.root_keys)?;
        enough_pinned(&valid, pins)?;
        Ok(store)
    }

    /// Reads the version that follows this one: its number is one higher and thresholds of the root keys of
    /// both versions signed it.
    ///
    /// # Errors
    /// As [`TrustStore::parse_pinned`], and [`Rejected::StoreOutOfSequence`].
    pub fn followed_by(&self, bytes: &[u8], now: UnixTime) -> Result<TrustStore, Rejected> {
        let next = TrustStore::parse(bytes, now)?;
        let valid = valid_signatures(&SignatureSet::decode(bytes)?, &self.document.root_keys)?;
        enough_pinned(&valid, &self.pins())?;
        // No version follows the last number that there is.
        let expected = self.document.version.saturating_add(1);
        match next.document.version == expected && self.document.version != expected {
            true => Ok(next),
            false => Err(Rejected::StoreOutOfSequence {
                found: next.document.version,
                expected,
            }),
        }
    }

    /// What the root keys signed.
    pub fn document(&self) -> &RootDocument {
        &self.document
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// This version's root keys and threshold.
    pub fn pins(&self) -> RootPins {
        RootPins {
            key_ids: self.document.root_keys.iter().map(PublicKey::key_id).collect(),
            threshold: self.document.root_threshold,
        }
    }

    /// Whether a key is revoked.
    pub fn is_key_revoked(&self, key_id: KeyId) -> bool {
        self.document.revoked_keys.binary_search(&key_id).is_ok()
    }

    /// Whether a bundle is revoked, by the digest of its file or of its content.
    pub fn is_bundle_revoked(&self, digest: Digest) -> bool {
        self.document.revoked_bundles.binary_search(&digest).is_ok()
    }

    /// Algorithms of which a bundle must carry a signature.
    pub fn required_algorithms(&self) -> &[Algorithm] {
        &self.document.required_algorithms
    }

    /// Finds a publisher's key by its id.
    pub(crate) fn known_key(&self, key_id: KeyId) -> Option<KnownKey<'_>> {
        self.document.publishers.iter().find_map(|publisher| {
            let key = publisher
                .keys
                .iter()
                .find(|key| key.public_key.key_id() == key_id)?;
            Some(KnownKey { publisher, key })
        })
    }
}

/// The ids of those keys whose signature in the block is valid.
///
/// A signature by any other key is passed over, because the version that replaces a root key is signed by the
/// old one as well. An invalid signature by a listed key is refused.
fn valid_signatures(block: &SignatureSet, keys: &[PublicKey]) -> Result<Vec<KeyId>, Rejected> {
    let payload = block.payload.as_deref().unwrap_or_default();
    let mut valid = Vec::new();
    for signature in &block.signatures {
        let Some(key) = keys.iter().find(|key| key.key_id() == signature.key_id) else {
            continue;
        };
        if key.algorithm() != signature.algorithm {
            return Err(Rejected::AlgorithmMismatch {
                key_id: signature.key_id,
                claimed: signature.algorithm,
                listed: key.algorithm(),
            });
        }
        let message = to_be_signed(signature.algorithm, signature.key_id, TRUST_STORE_AAD, payload);
        key.verify(&message, &signature.bytes)?;
        valid.push(signature.key_id);
    }
    Ok(valid)
}

fn enough_pinned(valid: &[KeyId], pins: &RootPins) -> Result<(), Rejected> {
    let threshold = pins.threshold.max(1);
    let valid = valid
        .iter()
        .filter(|key_id| pins.key_ids.contains(key_id))
        .count() as u64;
    match valid < threshold {
        true => Err(Rejected::PinnedSignatures { valid, threshold }),
        false => Ok(()),
    }
}

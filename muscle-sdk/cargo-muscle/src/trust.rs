//! Authors trust stores. Each change makes the next version, which root keys must sign again.
//!
//! A draft is a block whose signatures do not (yet) reach the threshold; only `TrustStore::parse` decides.

use referee_bundle::{
    Algorithm, Digest, KeyId, NameScope, PublicKey, Publisher, PublisherKey, RootDocument, SignatureSet,
    TRUST_STORE_AAD, UnixTime, is_publisher_name,
};

use crate::error::Error;
use crate::keys::PrivateKey;
use crate::sign::{insert, signature};

/// Makes version 1 without publishers, unsigned.
///
/// # Errors
/// [`Error::TrustStore`] when the threshold does not fit the keys.
pub fn init(root_keys: Vec<PublicKey>, threshold: u64, expires: UnixTime) -> Result<Vec<u8>, Error> {
    write(&RootDocument {
        version: 1,
        expires,
        root_threshold: threshold,
        root_keys,
        publishers: Vec::new(),
        revoked_keys: Vec::new(),
        revoked_bundles: Vec::new(),
        required_algorithms: vec![Algorithm::Ed25519],
    })
}

/// Adds a publisher, or another key and other scopes to the one of this name.
///
/// # Errors
/// [`Error::MuscleName`] and [`Error::TrustStore`].
pub fn add_publisher(
    store: &[u8],
    name: &str,
    keys: Vec<PublisherKey>,
    scopes: Vec<NameScope>,
) -> Result<Vec<u8>, Error> {
    if !is_publisher_name(name) {
        return Err(Error::MuscleName {
            name: name.to_owned(),
        });
    }
    change(store, |document| {
        let publisher = match document
            .publishers
            .iter_mut()
            .find(|publisher| publisher.name == name)
        {
            Some(publisher) => publisher,
            None => {
                document.publishers.push(Publisher {
                    name: name.to_owned(),
                    keys: Vec::new(),
                    scopes: Vec::new(),
                });
                document.publishers.last_mut()?
            }
        };
        // The same key again has another expiry.
        publisher
            .keys
            .retain(|old| keys.iter().all(|new| new.public_key != old.public_key));
        publisher.keys.extend(keys);
        publisher.scopes.extend(scopes);
        publisher.scopes.sort_by_key(NameScope::to_string);
        publisher.scopes.dedup();
        document
            .publishers
            .sort_by(|left, right| left.name.cmp(&right.name));
        Some(())
    })
}

/// Revokes a key, listed or not.
///
/// # Errors
/// [`Error::TrustStore`].
pub fn revoke_key(store: &[u8], key_id: KeyId) -> Result<Vec<u8>, Error> {
    change(store, |document| {
        document.revoked_keys.push(key_id);
        document.revoked_keys.sort_unstable();
        document.revoked_keys.dedup();
        Some(())
    })
}

/// Revokes a bundle by the digest of its file, or by that of its content whoever signs it.
///
/// # Errors
/// [`Error::TrustStore`].
pub fn revoke_bundle(store: &[u8], digests: &[Digest]) -> Result<Vec<u8>, Error> {
    change(store, |document| {
        document.revoked_bundles.extend(digests);
        document.revoked_bundles.sort_unstable();
        document.revoked_bundles.dedup();
        Some(())
    })
}

/// Says which algorithms every bundle must carry a signature of.
///
/// # Errors
/// [`Error::TrustStore`].
pub fn require(store: &[u8], mut algorithms: Vec<Algorithm>) -> Result<Vec<u8>, Error> {
    algorithms.sort_unstable();
    algorithms.dedup();
    change(store, |document| {
        document.required_algorithms = algorithms;
        Some(())
    })
}

/// Puts other root keys in the place of those there are.
///
/// # Errors
/// [`Error::TrustStore`] when the threshold does not fit the keys.
pub fn rotate_root(store: &[u8], root_keys: Vec<PublicKey>, threshold: u64) -> Result<Vec<u8>, Error> {
    change(store, |document| {
        document.root_keys = root_keys;
        document.root_threshold = threshold;
        Some(())
    })
}

/// Adds the signature of a root key, of this version or among `former`, the root keys of the version before.
///
/// # Errors
/// [`Error::NotARootKey`], [`Error::TrustStore`].
pub fn sign(store: &[u8], key: &PrivateKey, former: &[PublicKey]) -> Result<Vec<u8>, Error> {
    let (mut set, document) = read(store)?;
    let public = key.public_key().map_err(Error::trust_store)?;
    if !document.root_keys.contains(&public) && !former.contains(&public) {
        return Err(Error::NotARootKey {
            key_id: public.key_id(),
        });
    }
    let payload = set.payload.clone().unwrap_or_default();
    insert(&mut set, signature(key, TRUST_STORE_AAD, &payload)?);
    set.encode().map_err(Error::trust_store)
}

/// Takes a trust store apart without checking its signatures.
///
/// # Errors
/// [`Error::TrustStore`].
pub fn read(store: &[u8]) -> Result<(SignatureSet, RootDocument), Error> {
    let set = SignatureSet::decode(store).map_err(Error::trust_store)?;
    let payload = set.payload.as_deref().unwrap_or_default();
    let document = RootDocument::decode(payload).map_err(Error::trust_store)?;
    Ok((set, document))
}

/// Makes the next version; a draft that nobody signed keeps its number.
fn change(store: &[u8], edit: impl FnOnce(&mut RootDocument) -> Option<()>) -> Result<Vec<u8>, Error> {
    let (set, mut document) = read(store)?;
    if !set.signatures.is_empty() {
        document.version = document.version.checked_add(1).ok_or(Error::TooLarge)?;
    }
    edit(&mut document).ok_or(Error::TooLarge)?;
    write(&document)
}

fn write(document: &RootDocument) -> Result<Vec<u8>, Error> {
    document.check().map_err(Error::trust_store)?;
    let set = SignatureSet {
        payload: Some(document.encode()),
        signatures: Vec::new(),
    };
    set.encode().map_err(Error::trust_store)
}

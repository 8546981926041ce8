//! Signs a bundle, beside the signatures that it has.

use referee_bundle::{
    HEADER_SIZE, ReadLimits, SIGNATURES_PREFIX, Signature, SignatureSet, UnverifiedBundle, to_be_signed,
};

use crate::error::Error;
use crate::keys::PrivateKey;

/// Adds a signature, or replaces the one by the same key.
///
/// # Errors
/// [`Error::Bundle`] for what is no well-formed bundle, [`Error::NoRoom`].
pub fn sign(bundle: &[u8], key: &PrivateKey) -> Result<Vec<u8>, Error> {
    let parsed = UnverifiedBundle::parse(bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    let mut set = parsed.signatures().cloned().unwrap_or_default();
    let signature = signature(key, parsed.header_bytes(), parsed.manifest_bytes())?;
    insert(&mut set, signature);
    replace_signatures(&parsed, bundle, &set.encode().map_err(Error::bundle)?)
}

/// Takes all signatures off a bundle.
///
/// # Errors
/// [`Error::Bundle`] for what is no well-formed bundle.
pub fn remove_signatures(bundle: &[u8]) -> Result<Vec<u8>, Error> {
    let parsed = UnverifiedBundle::parse(bundle, &ReadLimits::default()).map_err(Error::bundle)?;
    replace_signatures(&parsed, bundle, &[])
}

/// Makes one signature over associated data and a payload.
pub(crate) fn signature(key: &PrivateKey, external_aad: &[u8], payload: &[u8]) -> Result<Signature, Error> {
    let key_id = key.key_id().map_err(Error::bundle)?;
    let algorithm = key.algorithm();
    let message = to_be_signed(algorithm, key_id, external_aad, payload);
    Ok(Signature {
        algorithm,
        key_id,
        bytes: key.sign(&message)?,
    })
}

/// Puts a signature at its place in the order of key ids.
pub(crate) fn insert(set: &mut SignatureSet, signature: Signature) {
    set.signatures.retain(|other| other.key_id != signature.key_id);
    set.signatures.push(signature);
    set.signatures.sort_by_key(|signature| signature.key_id);
}

fn replace_signatures(parsed: &UnverifiedBundle<'_>, bundle: &[u8], block: &[u8]) -> Result<Vec<u8>, Error> {
    let prefix = HEADER_SIZE + parsed.manifest_bytes().len();
    let start = prefix + SIGNATURES_PREFIX;
    let end = usize::try_from(parsed.header().body_offset).map_err(|_| Error::TooLarge)?;
    let size = u32::try_from(block.len()).map_err(|_| Error::TooLarge)?;
    let mut out = bundle.to_vec();
    let room = out.get_mut(prefix..end).ok_or(Error::TooLarge)?;
    room.fill(0);
    let no_room = Error::NoRoom {
        needed: block.len(),
        room: parsed.header().body_offset.saturating_sub(start as u64),
    };
    let (length, room) = room
        .split_first_chunk_mut::<SIGNATURES_PREFIX>()
        .ok_or(Error::TooLarge)?;
    *length = size.to_le_bytes();
    room.get_mut(..block.len()).ok_or(no_room)?.copy_from_slice(block);
    Ok(out)
}

//! The one way to a [`VerifiedBundle`].
//!
//! 1. Cut up the front by the fixed header: sizes, padding.
//! 2. Check every signature over the exact bytes of header and manifest, with keys from the trust store.
//! 3. Only then decode the manifest, and compare it with its own encoding.
//! 4. Check that the signer may sign this name and that the bundle is not revoked.
//! 5. Lay out the parts to the last byte of the file and compare their hashes.
//!
//! A signature that cannot be checked is refused even where another one would do, so that nobody can change
//! a byte of a bundle and have it accepted.

use std::ops::Range;

use crate::digest::{Digest, KeyId};
use crate::keys::Algorithm;
use crate::layout::Front;
use crate::limits::ReadLimits;
use crate::manifest::{Manifest, PartKind};
use crate::rejected::Rejected;
use crate::signatures::{Signature, SignatureSet, to_be_signed};
use crate::trust::{KnownKey, TrustStore};
use crate::unix_time::UnixTime;
use crate::unverified::checked_parts;

/// A bundle that a trusted publisher signed, with the very bytes that were checked.
#[derive(Debug)]
pub struct VerifiedBundle {
    bytes: Vec<u8>,
    manifest: Manifest,
    signer: Signer,
    digest: Digest,
    content_digest: Digest,
    parts: Vec<(PartKind, Range<usize>)>,
    limits: ReadLimits,
}

/// Who signed a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signer {
    /// The publisher's name in the trust store.
    pub publisher: String,
    /// The key of the Ed25519 signature.
    pub key_id: KeyId,
}

/// Checks a bundle against a trust store.
///
/// # Errors
/// [`Rejected`], one variant per rule.
pub fn verify(
    bytes: Vec<u8>,
    store: &TrustStore,
    limits: &ReadLimits,
    now: UnixTime,
) -> Result<VerifiedBundle, Rejected> {
    let front = Front::cut(&bytes, limits)?;
    if front.signatures.is_empty() {
        return Err(Rejected::Unsigned);
    }
    let block = SignatureSet::decode(front.signatures)?;
    let signed = check_signatures(&front, &block, store, now)?;
    let manifest = Manifest::decode(front.manifest, limits)?;
    if !signed.publisher_may_sign(&manifest.name) {
        return Err(Rejected::SignerOutOfScope {
            publisher: signed.signer.publisher,
            key_id: signed.signer.key_id,
            name: manifest.name,
        });
    }
    let digest = Digest::of(&bytes);
    let content_digest = Digest::of_two(front.header_bytes, front.manifest);
    if let Some(digest) = [digest, content_digest]
        .into_iter()
        .find(|digest| store.is_bundle_revoked(*digest))
    {
        return Err(Rejected::BundleRevoked { digest });
    }
    let parts = checked_parts(&bytes, front.header.body_offset, &manifest)?;
    let signer = signed.signer;
    Ok(VerifiedBundle {
        bytes,
        manifest,
        signer,
        digest,
        content_digest,
        parts,
        limits: *limits,
    })
}

impl VerifiedBundle {
    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Who signed it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// SHA-256 of the whole file, as `sha256sum` prints it.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// SHA-256 of header and manifest: all that is signed, and the same whoever signs.
    pub fn content_digest(&self) -> Digest {
        self.content_digest
    }

    /// The muscle's name.
    pub fn name(&self) -> &str {
        &self.manifest.name
    }

    /// The bytes of the image.
    pub fn image(&self) -> &[u8] {
        // `verify` makes no bundle without an image; an empty image is refused by `ImagePlan::check`.
        self.part(PartKind::Image).unwrap_or_default()
    }

    /// The bytes of a part, if the bundle has it.
    pub fn part(&self, kind: PartKind) -> Option<&[u8]> {
        let (_, range) = self.parts.iter().find(|(other, _)| *other == kind)?;
        self.bytes.get(range.clone())
    }

    /// The limits that it was read with.
    pub fn limits(&self) -> &ReadLimits {
        &self.limits
    }
}

/// What valid signatures say, before the manifest is believed.
struct Signed<'a> {
    signer: Signer,
    known: KnownKey<'a>,
}

impl Signed<'_> {
    fn publisher_may_sign(&self, name: &str) -> bool {
        self.known.publisher.may_sign(name)
    }
}

/// Checks every signature of the block, and that all required algorithms are among them.
fn check_signatures<'a>(
    front: &Front<'_>,
    block: &SignatureSet,
    store: &'a TrustStore,
    now: UnixTime,
) -> Result<Signed<'a>, Rejected> {
    if block.payload.is_some() {
        return Err(Rejected::SignatureMalformed {
            index: 0,
            field: "absent payload",
        });
    }
    let mut signed: Option<Signed<'a>> = None;
    for signature in &block.signatures {
        let known = check_signature(front, signature, store, now)?;
        let publisher = &known.publisher.name;
        if let Some(first) = signed
            .as_ref()
            .filter(|first| first.signer.publisher != *publisher)
        {
            return Err(Rejected::SignersDiffer {
                first: first.signer.publisher.clone(),
                second: publisher.clone(),
            });
        }
        if signed.is_none() || signature.algorithm == Algorithm::Ed25519 {
            signed = Some(Signed {
                signer: Signer {
                    publisher: publisher.clone(),
                    key_id: signature.key_id,
                },
                known,
            });
        }
    }
    let missing = |wanted: &&Algorithm| {
        !block
            .signatures
            .iter()
            .any(|signature| signature.algorithm == **wanted)
    };
    if let Some(algorithm) = store.required_algorithms().iter().find(missing) {
        return Err(match signed {
            None => Rejected::Unsigned,
            Some(_) => Rejected::AlgorithmMissing {
                algorithm: *algorithm,
            },
        });
    }
    signed.ok_or(Rejected::Unsigned)
}

fn check_signature<'a>(
    front: &Front<'_>,
    signature: &Signature,
    store: &'a TrustStore,
    now: UnixTime,
) -> Result<KnownKey<'a>, Rejected> {
    let key_id = signature.key_id;
    let revoked = store.is_key_revoked(key_id);
    let known = store.known_key(key_id).ok_or(match revoked {
        true => Rejected::SignerRevoked { key_id },
        false => Rejected::SignerUnknown { key_id },
    })?;
    let key = &known.key.public_key;
    if key.algorithm() != signature.algorithm {
        return Err(Rejected::AlgorithmMismatch {
            key_id,
            claimed: signature.algorithm,
            listed: key.algorithm(),
        });
    }
    let message = to_be_signed(signature.algorithm, key_id, front.header_bytes, front.manifest);
    key.verify(&message, &signature.bytes)?;
    if revoked {
        return Err(Rejected::SignerRevoked { key_id });
    }
    if known.key.expires <= now {
        return Err(Rejected::SignerExpired {
            key_id,
            expired: known.key.expires,
            now,
        });
    }
    Ok(known)
}

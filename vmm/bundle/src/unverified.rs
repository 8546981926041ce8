//! A bundle taken apart without a trust store, for tools that show, sign or make one. It proves nothing.

use std::ops::Range;

use crate::digest::Digest;
use crate::layout::{Front, Header, part_ranges};
use crate::limits::ReadLimits;
use crate::manifest::{Manifest, PartKind};
use crate::rejected::Rejected;
use crate::signatures::SignatureSet;

/// The pieces of a well-formed bundle that anybody may have made.
#[derive(Debug)]
pub struct UnverifiedBundle<'a> {
    bytes: &'a [u8],
    front: Front<'a>,
    manifest: Manifest,
    parts: Vec<(PartKind, Range<usize>)>,
    signatures: Option<SignatureSet>,
}

impl<'a> UnverifiedBundle<'a> {
    /// Takes a bundle apart and checks everything but its signatures.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule. A bundle without signatures is no error here.
    pub fn parse(bytes: &'a [u8], limits: &ReadLimits) -> Result<UnverifiedBundle<'a>, Rejected> {
        let front = Front::cut(bytes, limits)?;
        let signatures = match front.signatures.is_empty() {
            true => None,
            false => Some(SignatureSet::decode(front.signatures)?),
        };
        let manifest = Manifest::decode(front.manifest, limits)?;
        let parts = checked_parts(bytes, front.header.body_offset, &manifest)?;
        Ok(UnverifiedBundle {
            bytes,
            front,
            manifest,
            parts,
            signatures,
        })
    }

    /// The fixed header.
    pub fn header(&self) -> &Header {
        &self.front.header
    }

    /// The fixed header as it is in the file: `external_aad` of the signatures.
    pub fn header_bytes(&self) -> &'a [u8] {
        self.front.header_bytes
    }

    /// The manifest as it is in the file: payload of the signatures.
    pub fn manifest_bytes(&self) -> &'a [u8] {
        self.front.manifest
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signatures, unless there are none.
    pub fn signatures(&self) -> Option<&SignatureSet> {
        self.signatures.as_ref()
    }

    /// Each part's kind and its place in the file.
    pub fn parts(&self) -> &[(PartKind, Range<usize>)] {
        &self.parts
    }

    /// The bytes of a part.
    pub fn part(&self, kind: PartKind) -> Option<&'a [u8]> {
        let (_, range) = self.parts.iter().find(|(other, _)| *other == kind)?;
        self.bytes.get(range.clone())
    }

    /// SHA-256 of the whole file.
    pub fn digest(&self) -> Digest {
        Digest::of(self.bytes)
    }

    /// SHA-256 of header and manifest: all that is signed, and the same whoever signs.
    pub fn content_digest(&self) -> Digest {
        Digest::of_two(self.front.header_bytes, self.front.manifest)
    }
}

/// Finds the parts and compares each with its hash in the manifest.
pub(crate) fn checked_parts(
    bytes: &[u8],
    body_offset: u64,
    manifest: &Manifest,
) -> Result<Vec<(PartKind, Range<usize>)>, Rejected> {
    let ranges = part_ranges(bytes, body_offset, manifest.parts.iter().map(|part| part.size))?;
    let mut parts = Vec::with_capacity(ranges.len());
    for (index, (part, range)) in manifest.parts.iter().zip(ranges).enumerate() {
        let found = Digest::of(bytes.get(range.clone()).unwrap_or_default());
        if found != part.sha256 {
            return Err(Rejected::PartDigestMismatch {
                index,
                expected: part.sha256,
                found,
            });
        }
        parts.push((part.kind, range));
    }
    Ok(parts)
}

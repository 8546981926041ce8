//! Where things lie in a bundle file: the fixed header and the ranges that follow from it.
//!
//! ```text
//!        0  header, 64 bytes                    signed, as external_aad
//!             0   8  magic 89 "MUSCLE" 0A
//!             8   4  version of the format, 1
//!            12   4  size of the manifest
//!            16   8  offset of the body, a multiple of 4096
//!            24   8  size of the file
//!            32  32  zero
//!       64  manifest, CBOR                      signed, as payload
//!        …  size of the signatures, 4 bytes
//!        …  signatures, COSE_Sign
//!        …  zeros up to the body
//!     body  image, an ELF file                  its hash is in the manifest
//!        …  zeros up to the next multiple of 4096, and the next part, …
//!      end  right after the last byte of the last part
//! ```
//!
//! The room between manifest and body is chosen when the bundle is made, so that a second signature changes
//! neither the header nor the place of a part.

use std::ops::Range;

use crate::limits::ReadLimits;
use crate::rejected::{Document, Rejected};

/// First eight bytes of a bundle: not text, and damaged by any program that converts line ends.
pub const MAGIC: [u8; 8] = *b"\x89MUSCLE\n";
/// Bytes of the fixed header.
pub const HEADER_SIZE: usize = 64;
/// Bytes of the size in front of the signatures.
pub const SIGNATURES_PREFIX: usize = 4;
/// Every part begins at a multiple of this.
pub const PART_ALIGNMENT: u64 = 4096;
/// The version of the format that this crate reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Most bytes between manifest and body.
const SIGNATURE_ROOM_MAX: u64 = 64 << 10;

/// The fixed header, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the manifest.
    pub manifest_size: u32,
    /// Where the first part begins.
    pub body_offset: u64,
    /// Bytes of the whole file.
    pub file_size: u64,
}

impl Header {
    /// Reads the header; it does not look at how large the file really is.
    ///
    /// # Errors
    /// [`Rejected::WrongMagic`], [`Rejected::WrongFormatVersion`], [`Rejected::ReservedNotZero`].
    pub fn parse(bytes: &[u8; HEADER_SIZE]) -> Result<Header, Rejected> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, rest @ ..] = *bytes;
        let [v0, v1, v2, v3, s0, s1, s2, s3, rest @ ..] = rest;
        let [b0, b1, b2, b3, b4, b5, b6, b7, rest @ ..] = rest;
        let [f0, f1, f2, f3, f4, f5, f6, f7, reserved @ ..] = rest;
        let found = [m0, m1, m2, m3, m4, m5, m6, m7];
        if found != MAGIC {
            return Err(Rejected::WrongMagic { found });
        }
        let version = u32::from_le_bytes([v0, v1, v2, v3]);
        if version != FORMAT_VERSION {
            return Err(Rejected::WrongFormatVersion {
                found: version,
                supported: FORMAT_VERSION,
            });
        }
        if let Some(at) = reserved.iter().position(|byte| *byte != 0) {
            return Err(Rejected::ReservedNotZero {
                offset: HEADER_SIZE - reserved.len() + at,
            });
        }
        Ok(Header {
            manifest_size: u32::from_le_bytes([s0, s1, s2, s3]),
            body_offset: u64::from_le_bytes([b0, b1, b2, b3, b4, b5, b6, b7]),
            file_size: u64::from_le_bytes([f0, f1, f2, f3, f4, f5, f6, f7]),
        })
    }

    /// Writes the header.
    pub fn to_bytes(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0u8; HEADER_SIZE];
        let fields = MAGIC
            .into_iter()
            .chain(FORMAT_VERSION.to_le_bytes())
            .chain(self.manifest_size.to_le_bytes())
            .chain(self.body_offset.to_le_bytes())
            .chain(self.file_size.to_le_bytes());
        for (place, byte) in out.iter_mut().zip(fields) {
            *place = byte;
        }
        out
    }
}

/// The pieces of a bundle in front of its body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Front<'a> {
    pub(crate) header: Header,
    pub(crate) header_bytes: &'a [u8; HEADER_SIZE],
    pub(crate) manifest: &'a [u8],
    pub(crate) signatures: &'a [u8],
}

impl<'a> Front<'a> {
    /// Cuts up what lies in front of the body; checks every size and every byte of padding there.
    pub(crate) fn cut(bytes: &'a [u8], limits: &ReadLimits) -> Result<Front<'a>, Rejected> {
        let size = bytes.len() as u64;
        if size > limits.bundle_bytes {
            return Err(Rejected::TooLarge {
                document: Document::Bundle,
                size,
                limit: limits.bundle_bytes,
            });
        }
        let truncated = |needed: u64| Rejected::Truncated { size, needed };
        let (header_bytes, rest) = bytes
            .split_first_chunk::<HEADER_SIZE>()
            .ok_or_else(|| truncated(HEADER_SIZE as u64))?;
        let header = Header::parse(header_bytes)?;
        if size < header.file_size {
            return Err(truncated(header.file_size));
        }
        if size > header.file_size {
            return Err(Rejected::TrailingBytes {
                offset: header.file_size,
                extra: size - header.file_size,
            });
        }
        let manifest_size = at_most(
            "manifest size",
            header.manifest_size.into(),
            limits.manifest_bytes.into(),
        )?;
        let before_room = HEADER_SIZE as u64 + manifest_size + SIGNATURES_PREFIX as u64;
        at_least("body offset", header.body_offset, before_room)?;
        at_most(
            "body offset",
            header.body_offset,
            (before_room + SIGNATURE_ROOM_MAX).min(size),
        )?;
        if !header.body_offset.is_multiple_of(PART_ALIGNMENT) {
            return Err(Rejected::BodyUnaligned {
                offset: header.body_offset,
            });
        }
        let (manifest, rest) = split(rest, manifest_size).ok_or_else(|| truncated(before_room))?;
        let (prefix, rest) = rest
            .split_first_chunk::<SIGNATURES_PREFIX>()
            .ok_or_else(|| truncated(before_room))?;
        let room = header.body_offset - before_room;
        let signatures_size = at_most("signatures size", u32::from_le_bytes(*prefix).into(), room)?;
        let (room, _body) = split(rest, room).ok_or_else(|| truncated(header.body_offset))?;
        let (signatures, padding) =
            split(room, signatures_size).ok_or_else(|| truncated(header.body_offset))?;
        all_zero(padding, before_room + signatures_size)?;
        Ok(Front {
            header,
            header_bytes,
            manifest,
            signatures,
        })
    }
}

/// Lays parts of these sizes out from the body to exactly the end of the file, and checks the padding between.
pub(crate) fn part_ranges(
    bytes: &[u8],
    body_offset: u64,
    sizes: impl Iterator<Item = u64>,
) -> Result<Vec<Range<usize>>, Rejected> {
    let file_size = bytes.len() as u64;
    let mut ranges = Vec::new();
    let mut end = body_offset;
    for (index, size) in sizes.enumerate() {
        let outside = Rejected::PartOutsideFile { index, file_size };
        let start = end
            .checked_next_multiple_of(PART_ALIGNMENT)
            .ok_or_else(|| outside.clone())?;
        let past = start.checked_add(size).ok_or_else(|| outside.clone())?;
        let padding = slice(bytes, end..start).ok_or_else(|| outside.clone())?;
        all_zero(padding, end)?;
        let range = usize_range(start..past).filter(|range| range.end <= bytes.len());
        ranges.push(range.ok_or(outside)?);
        end = past;
    }
    match end == file_size {
        true => Ok(ranges),
        false => Err(Rejected::TrailingBytes {
            offset: end,
            extra: file_size.saturating_sub(end),
        }),
    }
}

/// The bytes of a range, or `None` when it does not lie within them.
pub(crate) fn slice(bytes: &[u8], range: Range<u64>) -> Option<&[u8]> {
    bytes.get(usize_range(range)?)
}

/// The same range as indices.
pub(crate) fn usize_range(range: Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

fn split(bytes: &[u8], at: u64) -> Option<(&[u8], &[u8])> {
    bytes.split_at_checked(usize::try_from(at).ok()?)
}

fn all_zero(padding: &[u8], offset: u64) -> Result<(), Rejected> {
    match padding.iter().position(|byte| *byte != 0) {
        Some(at) => Err(Rejected::PaddingNotZero {
            offset: offset.saturating_add(at as u64),
        }),
        None => Ok(()),
    }
}

fn at_most(field: &'static str, value: u64, limit: u64) -> Result<u64, Rejected> {
    match value > limit {
        true => Err(Rejected::SizeTooLarge { field, value, limit }),
        false => Ok(value),
    }
}

fn at_least(field: &'static str, value: u64, least: u64) -> Result<(), Rejected> {
    match value < least {
        true => Err(Rejected::SizeTooSmall { field, value, least }),
        false => Ok(()),
    }
}

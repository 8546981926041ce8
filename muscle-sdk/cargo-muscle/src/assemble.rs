//! Puts a manifest and its parts together into an unsigned bundle.

use referee_bundle::{
    Digest, ElfImage, HEADER_SIZE, Header, Manifest, PART_ALIGNMENT, Part, PartKind, ReadLimits,
    SIGNATURES_PREFIX, UnverifiedBundle, check_entry, encode_symbols,
};

use crate::error::Error;
use crate::exports::exports_of;
use crate::strip::strip;
use crate::symbols::symbols_of;

/// Room for signatures that every bundle gets at least: one Ed25519 and one ML-DSA-65, or 28 of Ed25519.
const SIGNATURE_ROOM: usize = 4096;

/// What goes into a bundle besides the manifest.
#[derive(Debug, Clone, Copy)]
pub struct Contents<'a> {
    /// The linked program; its symbols go into a part of their own and are stripped from the image.
    pub elf: &'a [u8],
    /// Bytes that the muscle brings along.
    pub data: Option<&'a [u8]>,
    /// How it was built.
    pub provenance: Option<&'a [u8]>,
}

/// Makes an unsigned bundle of a manifest and a linked program.
///
/// The manifest's entry, segments and parts are filled in, exports that the program lists are added, and its
/// slots are sorted.
///
/// # Errors
/// [`Error::Image`] when the program cannot be a muscle, [`Error::Bundle`] when the manifest breaks a rule.
pub fn assemble(manifest: Manifest, elf: &[u8]) -> Result<Vec<u8>, Error> {
    assemble_with(
        manifest,
        &Contents {
            elf,
            data: None,
            provenance: None,
        },
    )
}

/// Makes an unsigned bundle with more parts, see [`assemble`].
///
/// # Errors
/// As [`assemble`].
pub fn assemble_with(mut manifest: Manifest, contents: &Contents<'_>) -> Result<Vec<u8>, Error> {
    let limits = ReadLimits::default();
    let found = ElfImage::parse(contents.elf, &limits).map_err(Error::image)?;
    check_entry(found.entry, &found.segments).map_err(Error::image)?;
    // A file whose section headers cannot be followed is taken as it is.
    let image = strip(contents.elf).unwrap_or_else(|| contents.elf.to_vec());
    let symbols = encode_symbols(symbols_of(contents.elf, &found)).ok_or(Error::TooLarge)?;
    let stripped = ElfImage::parse(&image, &limits).map_err(Error::image)?;
    manifest.entry = stripped.entry;
    manifest.segments = stripped.segments;
    manifest.exports.extend(exports_of(contents.elf));
    manifest.exports.sort();
    manifest.exports.dedup();
    manifest.slots.sort_by(|left, right| left.name.cmp(&right.name));
    let parts = [
        (PartKind::Image, Some(&image[..])),
        (PartKind::Symbols, Some(&symbols[..])),
        (PartKind::Data, contents.data),
        (PartKind::Provenance, contents.provenance),
    ];
    let parts: Vec<_> = parts
        .into_iter()
        .filter_map(|(kind, bytes)| Some((kind, bytes?)))
        .collect();
    let bundle = pack(manifest, &parts)?;
    UnverifiedBundle::parse(&bundle, &limits).map_err(Error::bundle)?;
    Ok(bundle)
}

/// Lays a manifest and parts out as an unsigned bundle, checking nothing but sizes.
///
/// The manifest's list of parts is replaced by `parts`; all else stays as it is.
///
/// # Errors
/// [`Error::TooLarge`].
pub fn pack(mut manifest: Manifest, parts: &[(PartKind, &[u8])]) -> Result<Vec<u8>, Error> {
    let listed = parts.iter().map(|(kind, bytes)| {
        Ok(Part {
            kind: *kind,
            size: u64::try_from(bytes.len()).map_err(|_| Error::TooLarge)?,
            sha256: Digest::of(bytes),
        })
    });
    manifest.parts = listed.collect::<Result<_, Error>>()?;
    let manifest = manifest.encode();
    let aligned = |size: usize| -> Result<usize, Error> {
        let alignment = usize::try_from(PART_ALIGNMENT).map_err(|_| Error::TooLarge)?;
        size.checked_next_multiple_of(alignment).ok_or(Error::TooLarge)
    };
    let body_offset = aligned(HEADER_SIZE + manifest.len() + SIGNATURES_PREFIX + SIGNATURE_ROOM)?;
    let mut body = Vec::new();
    for (_, bytes) in parts {
        body.resize(aligned(body.len())?, 0);
        body.extend_from_slice(bytes);
    }
    let header = Header {
        manifest_size: u32::try_from(manifest.len()).map_err(|_| Error::TooLarge)?,
        body_offset: u64::try_from(body_offset).map_err(|_| Error::TooLarge)?,
        file_size: u64::try_from(body_offset + body.len()).map_err(|_| Error::TooLarge)?,
    };
    let mut bundle = header.to_bytes().to_vec();
    bundle.extend(manifest);
    bundle.resize(body_offset, 0);
    bundle.extend(body);
    Ok(bundle)
}

//! The image: a static-PIE ELF file that needs nothing but to be copied and moved to its address.
//!
//! [`ImagePlan::check`] is for after confinement, because it is the first to look into bytes whose form a
//! publisher chose freely. It follows what a loader reads (program headers and the dynamic table) and ignores
//! section headers, which are there for `readelf`, `objdump` and `gdb`.

mod dynamic;
mod elf;

use std::ops::Range;

use crate::layout::usize_range;
use crate::rejected::Rejected;
use crate::segments::{Permissions, Segment, check_entry};
use crate::verify::VerifiedBundle;

pub use elf::ElfImage;

/// How to load an image; every address and range in it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePlan {
    segments: Vec<PlannedSegment>,
    relocations: Vec<Relocation>,
    entry: u64,
    span: u64,
}

/// A segment in whole pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSegment {
    /// Addresses from the image's base, both multiples of the page; zero but for the copied bytes.
    pub pages: Range<u64>,
    /// What the muscle may do with them.
    pub permissions: Permissions,
    /// Where the copied bytes begin; within `pages`, as is their end.
    pub vaddr: u64,
    /// The bytes to copy, as a range of [`VerifiedBundle::image`].
    pub file: Range<usize>,
}

/// Put `base + addend` as 64 bits at `base + vaddr`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Relocation {
    /// Where, from the image's base; 8 bytes from here lie within one writable segment.
    pub vaddr: u64,
    /// What, from the image's base; at most the image's span.
    pub addend: u64,
}

impl ImagePlan {
    /// Checks the image of a verified bundle and that it is what the manifest says.
    ///
    /// # Errors
    /// [`Rejected`], one variant per rule.
    pub fn check(bundle: &VerifiedBundle) -> Result<ImagePlan, Rejected> {
        let manifest = bundle.manifest();
        let image = ElfImage::parse(bundle.image(), bundle.limits())?;
        if manifest.segments.len() != image.segments.len() {
            return Err(Rejected::SegmentCountMismatch {
                manifest: manifest.segments.len(),
                image: image.segments.len(),
            });
        }
        let mut pairs = manifest.segments.iter().zip(&image.segments);
        if let Some(index) = pairs.position(|(claimed, found)| claimed != found) {
            return Err(Rejected::SegmentMismatch { index });
        }
        if manifest.entry != image.entry {
            return Err(Rejected::EntryMismatch {
                manifest: manifest.entry,
                image: image.entry,
            });
        }
        check_entry(image.entry, &image.segments)?;
        Ok(ImagePlan {
            segments: image
                .segments
                .iter()
                .enumerate()
                .map(plan)
                .collect::<Result<_, _>>()?,
            relocations: image.relocations,
            entry: image.entry,
            span: image.span,
        })
    }

    /// The segments, in the order of addresses; no two share a page.
    pub fn segments(&self) -> &[PlannedSegment] {
        &self.segments
    }

    /// The relocations, to be applied after the segments were copied.
    pub fn relocations(&self) -> impl ExactSizeIterator<Item = Relocation> + '_ {
        self.relocations.iter().copied()
    }

    /// Address of the first instruction, from the image's base.
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// Bytes from the image's base to the end of its last page.
    pub fn span(&self) -> u64 {
        self.span
    }
}

fn plan((index, segment): (usize, &Segment)) -> Result<PlannedSegment, Rejected> {
    let overflow = || Rejected::SegmentOverflow { index };
    let end = segment.page_end().ok_or_else(overflow)?;
    let file_end = segment
        .file_offset
        .checked_add(segment.file_size)
        .ok_or_else(overflow)?;
    Ok(PlannedSegment {
        pages: segment.page_start()..end,
        permissions: segment.permissions,
        vaddr: segment.vaddr,
        file: usize_range(segment.file_offset..file_end).ok_or_else(overflow)?,
    })
}

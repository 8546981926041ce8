//! The memory map of an image, as the manifest lists it and as its ELF headers must repeat it.

use std::fmt;

use crate::rejected::Rejected;

/// Most segments of an image.
pub(crate) const SEGMENTS_MAX: u64 = 16;
const PAGE: u64 = muscle_abi::PAGE_SIZE;

/// What the muscle may do with a segment. Writable and executable together cannot be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum Permissions {
    /// Read only.
    R = 4,
    /// Read and execute.
    RX = 5,
    /// Read and write.
    RW = 6,
}

impl Permissions {
    /// Reads the bits of an ELF segment's flags (1 execute, 2 write, 4 read).
    ///
    /// # Errors
    /// [`Rejected::SegmentWritableExecutable`] and [`Rejected::SegmentPermissions`], naming the segment `index`.
    pub fn from_bits(index: usize, bits: u64) -> Result<Permissions, Rejected> {
        match bits {
            4 => Ok(Permissions::R),
            5 => Ok(Permissions::RX),
            6 => Ok(Permissions::RW),
            bits if bits & 3 == 3 => Err(Rejected::SegmentWritableExecutable { index }),
            bits => Err(Rejected::SegmentPermissions { index, bits }),
        }
    }

    /// The bits of an ELF segment's flags.
    pub const fn bits(self) -> u64 {
        self as u64
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Permissions::R => "r--",
            Permissions::RX => "r-x",
            Permissions::RW => "rw-",
        })
    }
}

/// One segment: bytes of the image at an address, and zeros after them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Segment {
    /// First address, from the image's base.
    pub vaddr: u64,
    /// Bytes in memory.
    pub mem_size: u64,
    /// Where its bytes are in the image.
    pub file_offset: u64,
    /// How many of its bytes are in the image; the rest is zero.
    pub file_size: u64,
    /// What the muscle may do with it.
    pub permissions: Permissions,
}

impl Segment {
    /// One past its last address, or `None` when that is no address.
    pub fn end(&self) -> Option<u64> {
        self.vaddr.checked_add(self.mem_size)
    }

    /// Whether `size` bytes from `vaddr` lie within it.
    pub fn holds(&self, vaddr: u64, size: u64) -> bool {
        let end = vaddr.checked_add(size);
        self.vaddr <= vaddr && end.is_some_and(|end| self.end().is_some_and(|own| end <= own))
    }

    /// Its first address rounded down to a page.
    pub(crate) fn page_start(&self) -> u64 {
        self.vaddr - self.vaddr % PAGE
    }

    /// Its end rounded up to a page.
    pub(crate) fn page_end(&self) -> Option<u64> {
        self.end()?.checked_next_multiple_of(PAGE)
    }
}

/// Checks a memory map over an image of `image_size` bytes; gives the end of its last page.
///
/// # Errors
/// One variant of [`Rejected`] for each rule, naming the segment's index: not empty, no overflow, inside the
/// image, no larger in the file than in memory, congruent to its place in the image, in order, no page shared
/// with another segment, and all within `span_limit`.
pub fn check_segments(segments: &[Segment], image_size: u64, span_limit: u64) -> Result<u64, Rejected> {
    let mut span = 0;
    for (index, segment) in segments.iter().enumerate() {
        if segment.mem_size == 0 {
            return Err(Rejected::SegmentEmpty { index });
        }
        let overflow = Rejected::SegmentOverflow { index };
        let page_end = segment.page_end().ok_or_else(|| overflow.clone())?;
        let file_end = segment
            .file_offset
            .checked_add(segment.file_size)
            .ok_or(overflow)?;
        if segment.file_size > segment.mem_size {
            return Err(Rejected::SegmentFileLarger {
                index,
                file_size: segment.file_size,
                mem_size: segment.mem_size,
            });
        }
        if file_end > image_size {
            return Err(Rejected::SegmentOutsideImage {
                index,
                file_end,
                image_size,
            });
        }
        if segment.vaddr % PAGE != segment.file_offset % PAGE {
            return Err(Rejected::SegmentUnaligned {
                index,
                vaddr: segment.vaddr,
                file_offset: segment.file_offset,
            });
        }
        if segment.page_start() < span {
            return Err(Rejected::SegmentsOverlap {
                index,
                vaddr: segment.vaddr,
                previous_end: span,
            });
        }
        if page_end > span_limit {
            return Err(Rejected::SpanTooLarge {
                index,
                end: page_end,
                limit: span_limit,
            });
        }
        span = page_end;
    }
    match segments.is_empty() {
        true => Err(Rejected::NoSegments),
        false => Ok(span),
    }
}

/// Refuses an entry that is not within the bytes of an executable segment.
///
/// # Errors
/// [`Rejected::EntryNotExecutable`].
pub fn check_entry(entry: u64, segments: &[Segment]) -> Result<(), Rejected> {
    let inside = |segment: &Segment| segment.permissions == Permissions::RX && segment.holds(entry, 1);
    match segments.iter().any(inside) {
        true => Ok(()),
        false => Err(Rejected::EntryNotExecutable { entry }),
    }
}

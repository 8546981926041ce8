//! Host mappings behind guest memory: one for each slot, cut into pieces that are looked at, and counted, by themselves.
//!
//! ```text
//!   slot of the guest      0x1000                                            0x9000
//!   mapping of the host    ├── piece ──┬── piece, common ──┬─────── piece ───────┤   adjacent in both
//! ```
//! A slot costs the kernel 24 KiB and a grace period of its readers, however small it is, so a cell should have few. A view of one piece
//! ([`crate::Vm::view`]) cannot reach its neighbours all the same.

use std::sync::Arc;

use vm_memory::bitmap::{Bitmap, NewBitmap, WithBitmapSlice};
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

use crate::common::Common;
use crate::error::HvError;

/// Guest memory, or a view of some of it.
pub type Memory = GuestMemoryMmap<Whole>;
/// One piece.
pub(crate) type Region = GuestRegionMmap<Whole>;

/// A piece of a slot.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// First guest-physical address: the end of the piece before it.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// What it holds; zeroes when there is nothing.
    pub common: Option<&'a Common>,
}

impl Piece<'_> {
    /// A piece of zeroes.
    pub fn zeroed(start: u64, bytes: u64) -> Piece<'static> {
        Piece {
            start,
            bytes,
            common: None,
        }
    }

    /// A piece that holds what other VMs hold, too.
    pub fn of(start: u64, common: &Common) -> Piece<'_> {
        Piece {
            start,
            bytes: common.length(),
            common: Some(common),
        }
    }
}

/// Has the mapping that a piece lies in live as long as the piece. (Where `vm-memory` has a bitmap of dirty pages, as that is what it keeps with
/// each region; none is marked here.)
#[derive(Debug, Clone, Default)]
pub struct Whole(#[expect(dead_code, reason = "it keeps, and is not read")] Option<Arc<MmapRegion>>);

impl WithBitmapSlice<'_> for Whole {
    type S = ();
}

impl Bitmap for Whole {
    fn mark_dirty(&self, _offset: usize, _len: usize) {}

    fn dirty_at(&self, _offset: usize) -> bool {
        false
    }

    fn slice_at(&self, _offset: usize) {}
}

impl NewBitmap for Whole {
    fn with_len(_len: usize) -> Whole {
        Whole::default()
    }
}

/// Maps the memory of a slot: the piece of a file, or private memory.
pub(crate) fn map(size: usize, place: Option<&FileOffset>) -> Result<Arc<MmapRegion>, HvError> {
    let mapped = match place {
        Some(place) => MmapRegion::from_file(place.clone(), size),
        None => MmapRegion::new(size),
    };
    mapped.map(Arc::new).map_err(|error| HvError::MapMemory {
        bytes: size as u64,
        source: FromRangesError::MmapRegion(error),
    })
}

/// The `size` bytes from `offset` on of a mapping, as guest memory at `start`. `place` is where in a file they are counted.
pub(crate) fn piece(
    whole: &Arc<MmapRegion>,
    offset: usize,
    size: usize,
    start: u64,
    place: Option<FileOffset>,
) -> Result<Region, HvError> {
    let bad_range = HvError::BadRange {
        start,
        bytes: size as u64,
    };
    if offset.checked_add(size).is_none_or(|end| end > whole.size()) {
        return Err(bad_range);
    }
    let mut builder = MmapRegionBuilder::new_with_bitmap(size, Whole(Some(Arc::clone(whole))))
        .with_mmap_prot(whole.prot())
        .with_mmap_flags(whole.flags());
    if let Some(place) = place {
        builder = builder.with_file_offset(place);
    }
    // SAFETY: `offset .. offset + size` was found to lie in `whole`, a mapping that the region itself keeps: it is in the `Whole`
    // that goes with it wherever it goes.
    let builder = unsafe { builder.with_raw_mmap_pointer(whole.as_ptr().wrapping_add(offset)) };
    let mapping = builder.build().map_err(|error| HvError::MapMemory {
        bytes: size as u64,
        source: FromRangesError::MmapRegion(error),
    })?;
    GuestRegionMmap::new(mapping, GuestAddress(start)).ok_or(bad_range)
}

//! The heap: talc over the region that the boot block names, growing by the `GROW` doorbell.
//!
//! The region has all its addresses from the start and memory behind the first part only. When that is used up the
//! source asks the VMM for as much again, so that a heap of n bytes has cost at most log2(n) exits.

use core::alloc::{GlobalAlloc, Layout};
use core::cell::Cell;

use talc::TalcCell;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

/// Asks for memory behind more of a heap.
pub(crate) trait Grower {
    /// Asks for `bytes` more; returns the length that the heap has now.
    fn grow(&mut self, bytes: usize) -> usize;
}

/// A heap that starts small and doubles.
#[derive(Debug)]
pub(crate) struct Growing<G: core::fmt::Debug> {
    region: Region,
    end: Option<core::ptr::NonNull<u8>>,
    grower: G,
}

/// Where a heap lies.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Region {
    /// First byte.
    pub(crate) start: *mut u8,
    /// Bytes with memory behind them.
    pub(crate) len: usize,
    /// Bytes at most.
    pub(crate) max: usize,
}

impl<G: Grower + core::fmt::Debug> Growing<G> {
    /// A heap that is claimed when it is first used.
    ///
    /// # Safety
    /// The region's `len` bytes, and those that `grower` says are there, may be used by this heap alone.
    pub(crate) const unsafe fn new(region: Region, grower: G) -> Growing<G> {
        Growing {
            region,
            end: None,
            grower,
        }
    }
}

// SAFETY: `acquire` uses nothing of the allocator but the `talc` it is given, and `Grower`s do not allocate.
unsafe impl<G: Grower + core::fmt::Debug> Source for Growing<G> {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let region = talc.source.region;
        if talc.source.end.is_none() {
            // SAFETY: `Growing::new` was promised that the region is this heap's alone; claimed once, as `end` says.
            talc.source.end = unsafe { talc.claim(region.start, region.len) };
            if talc.source.end.is_some() {
                return Ok(());
            }
        }
        let room = region.max.saturating_sub(region.len);
        let needed = layout
            .size()
            .saturating_add(layout.align())
            .saturating_add(HEADROOM);
        if room == 0 || layout.size() > room.saturating_add(region.len) {
            return Err(());
        }
        let len = talc
            .source
            .grower
            .grow(needed.max(region.len).min(room))
            .min(region.max);
        if len <= region.len {
            return Err(());
        }
        talc.source.region.len = len;
        let end = region.start.wrapping_add(len);
        talc.source.end = Some(match talc.source.end {
            // SAFETY: the grower said that memory is behind everything up to `end`; `old` is this heap's end.
            Some(old) => unsafe { talc.extend(old, end) },
            // SAFETY: as for the first claim, which failed because the region was too small.
            None => unsafe { talc.claim(region.start, len) }.ok_or(())?,
        });
        Ok(())
    }
}

/// The heap as a global allocator for one thread, which remembers what it could not give.
pub(crate) struct Heap<G: Grower + core::fmt::Debug> {
    talc: TalcCell<Growing<G>>,
    refused: Cell<usize>,
}

impl<G: Grower + core::fmt::Debug> Heap<G> {
    /// A heap over a source.
    pub(crate) const fn new(source: Growing<G>) -> Heap<G> {
        Heap {
            talc: TalcCell::new(source),
            refused: Cell::new(0),
        }
    }

    /// Replaces a source that nothing was allocated from.
    #[cfg(cell)]
    pub(crate) fn set_source(&self, source: Growing<G>) {
        self.talc.replace_source(source);
    }

    /// Bytes in use, and the size of the last allocation that failed.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.talc.counters().allocated_bytes, self.refused.get())
    }
}

// SAFETY: talc keeps `GlobalAlloc`'s contract; this only passes calls on and notes failures.
unsafe impl<G: Grower + core::fmt::Debug> GlobalAlloc for Heap<G> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`, which is talc's too.
        let at = unsafe { self.talc.alloc(layout) };
        if at.is_null() {
            self.refused.set(layout.size());
        }
        at
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { self.talc.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        let at = unsafe { self.talc.realloc(at, layout, new_size) };
        if at.is_null() {
            self.refused.set(new_size);
        }
        at
    }
}

/// Room for talc's own bookkeeping beside the largest allocation.
const HEADROOM: usize = 4096;

#[cfg(cell)]
pub(crate) mod live {
    use super::{Grower, Growing, Heap, Region};
    use crate::size::size;
    use crate::{boot, doorbell};

    /// Asks by doorbell.
    #[derive(Debug)]
    pub(crate) struct Doorbell;

    impl Grower for Doorbell {
        fn grow(&mut self, bytes: usize) -> usize {
            size(doorbell::grow(bytes as u64))
        }
    }

    /// [`Heap`] for the one thread of a cell.
    pub(crate) struct OneThread(Heap<Doorbell>);

    // SAFETY: one vCPU, one thread; see `single`.
    unsafe impl Sync for OneThread {}

    // SAFETY: passes every call on to `Heap`, which keeps the contract.
    unsafe impl core::alloc::GlobalAlloc for OneThread {
        unsafe fn alloc(&self, layout: core::alloc::Layout) -> *mut u8 {
            // SAFETY: the caller keeps the contract.
            unsafe { self.0.alloc(layout) }
        }

        unsafe fn dealloc(&self, at: *mut u8, layout: core::alloc::Layout) {
            // SAFETY: the caller keeps the contract.
            unsafe { self.0.dealloc(at, layout) }
        }

        unsafe fn realloc(&self, at: *mut u8, layout: core::alloc::Layout, new_size: usize) -> *mut u8 {
            // SAFETY: the caller keeps the contract.
            unsafe { self.0.realloc(at, layout, new_size) }
        }
    }

    const NO_HEAP: Region = Region {
        start: core::ptr::null_mut(),
        len: 0,
        max: 0,
    };

    // SAFETY: a region without bytes promises nothing.
    #[global_allocator]
    static HEAP: OneThread = OneThread(Heap::new(unsafe { Growing::new(NO_HEAP, Doorbell) }));

    /// Gives the allocator the heap of the boot block. Called once, before anything is allocated.
    pub(crate) fn start() {
        let Some(info) = boot::info() else { return };
        let region = Region {
            start: doorbell::pointer(info.heap_va),
            len: size(info.heap_len),
            max: size(info.heap_max),
        };
        // SAFETY: the VMM reserves `heap_max` bytes at `heap_va` for the heap, with memory behind the first
        // `heap_len` and behind what `GROW` says.
        HEAP.0.set_source(unsafe { Growing::new(region, Doorbell) });
    }

    /// Bytes in use, bytes at most, and the size of the last allocation that failed.
    pub(crate) fn usage() -> (usize, usize, usize) {
        let (in_use, refused) = HEAP.0.usage();
        let max = boot::info().map_or(0, |info| info.heap_max);
        (in_use, size(max), refused)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;

    /// Gives up to `max` bytes of a vector, and counts the requests.
    #[derive(Debug)]
    struct Counting {
        len: usize,
        max: usize,
        asked: Vec<usize>,
    }

    impl Grower for Counting {
        fn grow(&mut self, bytes: usize) -> usize {
            self.asked.push(bytes);
            self.len = (self.len + bytes.next_multiple_of(4096)).min(self.max);
            self.len
        }
    }

    fn new_heap(memory: &mut Vec<u8>, len: usize) -> Heap<Counting> {
        let region = Region {
            start: memory.as_mut_ptr(),
            len,
            max: memory.len(),
        };
        let grower = Counting {
            len,
            max: memory.len(),
            asked: Vec::new(),
        };
        // SAFETY: the vector outlives the heap in each test and is not touched otherwise.
        Heap::new(unsafe { Growing::new(region, grower) })
    }

    fn take(heap: &Heap<Counting>, size: usize) -> *mut u8 {
        let layout = Layout::from_size_align(size, 16).expect("a small layout");
        // SAFETY: the size is not zero.
        unsafe { heap.alloc(layout) }
    }

    #[test]
    fn heap_doubles_until_its_limit_and_then_refuses_with_the_size() {
        let mut memory = alloc::vec![0_u8; 1 << 20];
        let heap = new_heap(&mut memory, 16 << 10);
        let mut given = 0;
        while !take(&heap, 1000).is_null() {
            given += 1000;
        }
        assert!(given > 900 << 10, "only {given} bytes of 1 MiB could be used");
        let (in_use, refused) = heap.usage();
        assert!(in_use >= given);
        assert_eq!(refused, 1000);
    }

    #[test]
    fn one_allocation_above_the_present_length_grows_once() {
        let mut memory = alloc::vec![0_u8; 1 << 20];
        let heap = new_heap(&mut memory, 16 << 10);
        assert!(!take(&heap, 300 << 10).is_null());
        assert!(take(&heap, 2 << 20).is_null(), "more than the limit");
        assert_eq!(heap.usage().1, 2 << 20);
        assert!(!take(&heap, 100 << 10).is_null(), "a refusal does no harm");
    }

    #[test]
    fn heap_with_nothing_at_first_still_starts() {
        let mut memory = alloc::vec![0_u8; 1 << 20];
        let heap = new_heap(&mut memory, 0);
        assert!(!take(&heap, 64).is_null());
    }
}

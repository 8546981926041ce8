//! The memory that driver and device share, reached by offset.
//!
//! No Rust reference to it ever exists: index fields are accessed with atomics, everything else with volatile
//! accesses or raw copies. An offset outside the window is a bug of this crate and panics.

use core::sync::atomic::{AtomicU16, AtomicU32, Ordering};

/// The window: its place in the muscle's address space, and its guest-physical address for descriptors.
#[derive(Debug)]
pub(crate) struct Window {
    base: *mut u8,
    gpa: u64,
    len: usize,
}

impl Window {
    /// Takes over the memory at `base`.
    ///
    /// # Safety
    /// `base` is aligned to 16 bytes and `base..base + len` may be read and written for as long as the window lives,
    /// and nothing but this window and the device behind it accesses that memory.
    pub(crate) unsafe fn new(base: *mut u8, gpa: u64, len: usize) -> Window {
        Window { base, gpa, len }
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Guest-physical address of an offset.
    pub(crate) fn gpa(&self, offset: usize) -> u64 {
        self.gpa + offset as u64
    }

    /// Reads an index field that the device publishes with a release store.
    pub(crate) fn load_u16(&self, offset: usize) -> u16 {
        u16::from_le(self.atomic(offset).load(Ordering::Acquire))
    }

    /// Reads a 32-bit field that the host changes at any time, and publishes what it wrote before by it.
    pub(crate) fn load_u32(&self, offset: usize) -> u32 {
        u32::from_le(self.atomic_u32(offset).load(Ordering::Acquire))
    }

    /// Publishes a 32-bit field: everything written before is visible to whoever reads it.
    pub(crate) fn store_u32(&self, offset: usize, value: u32) {
        self.atomic_u32(offset).store(value.to_le(), Ordering::Release);
    }

    /// Publishes an index field: everything written before is visible to whoever reads it.
    pub(crate) fn store_u16(&self, offset: usize, value: u16) {
        self.atomic(offset).store(value.to_le(), Ordering::Release);
    }

    /// Reads a 32-bit field.
    pub(crate) fn read_u32(&self, offset: usize) -> u32 {
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: `at` checked that four bytes at `offset` lie in the window that `new` was promised.
        u32::from_le(unsafe { at.read_volatile() })
    }

    /// Writes a 16-bit field that no index publishes yet.
    pub(crate) fn write_u16(&self, offset: usize, value: u16) {
        let at = self.at(offset, 2).cast::<u16>();
        // SAFETY: as in `read_u32`, with two bytes.
        unsafe { at.write_volatile(value.to_le()) }
    }

    /// Writes a 32-bit field.
    pub(crate) fn write_u32(&self, offset: usize, value: u32) {
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: as in `read_u32`.
        unsafe { at.write_volatile(value.to_le()) }
    }

    /// Writes a 64-bit field.
    pub(crate) fn write_u64(&self, offset: usize, value: u64) {
        let at = self.at(offset, 8).cast::<u64>();
        // SAFETY: as in `read_u32`, with eight bytes.
        unsafe { at.write_volatile(value.to_le()) }
    }

    /// Copies bytes into a buffer that the device does not own at the time.
    pub(crate) fn copy_in(&self, offset: usize, bytes: &[u8]) {
        let at = self.place(offset, bytes.len());
        // SAFETY: `place` checked the range; `bytes` is not in the window, to which no reference exists.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) }
    }

    /// Copies bytes out of a buffer that the device has returned.
    pub(crate) fn copy_out(&self, offset: usize, bytes: &mut [u8]) {
        let at = self.place(offset, bytes.len());
        // SAFETY: as in `copy_in`.
        unsafe { core::ptr::copy_nonoverlapping(at, bytes.as_mut_ptr(), bytes.len()) }
    }

    fn atomic(&self, offset: usize) -> &AtomicU16 {
        let at = self.at(offset, 2).cast::<u16>();
        // SAFETY: `at` checked the range and the alignment; both sides access these fields with atomics only.
        unsafe { AtomicU16::from_ptr(at) }
    }

    fn atomic_u32(&self, offset: usize) -> &AtomicU32 {
        let at = self.at(offset, 4).cast::<u32>();
        // SAFETY: `at` checked the range and the alignment; both sides access these fields with atomics only.
        unsafe { AtomicU32::from_ptr(at) }
    }

    fn at(&self, offset: usize, len: usize) -> *mut u8 {
        assert!(
            offset.is_multiple_of(len),
            "offset {offset:#x} is not aligned to {len}"
        );
        self.place(offset, len)
    }

    fn place(&self, offset: usize, len: usize) -> *mut u8 {
        let end = offset.checked_add(len);
        assert!(
            end.is_some_and(|end| end <= self.len),
            "{len} bytes at {offset:#x} are not in a window of {} bytes",
            self.len
        );
        self.base.wrapping_add(offset)
    }
}

//! The driver's side of a split virtqueue (virtio 1.2, §2.7) with chains of one descriptor.
//!
//! ```text
//!   page + QUEUE_DESCRIPTORS   addr u64, len u32, flags u16, next u16      64 times
//!        + QUEUE_AVAILABLE     flags u16, idx u16, ring [u16; 64], used_event u16
//!        + QUEUE_USED          flags u16, idx u16, ring [{id u32, len u32}; 64], avail_event u16
//! ```

use muscle_abi::channel::{QUEUE_AVAILABLE, QUEUE_DESCRIPTORS, QUEUE_SIZE, QUEUE_USED};

use crate::size::size;
use crate::window::Window;

/// A queue in its page of the window.
#[derive(Debug)]
pub(crate) struct Queue {
    page: usize,
    /// One bit for each descriptor that the device does not own.
    free: u64,
    available: u16,
    used: u16,
}

/// Who writes a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Writer {
    /// The buffer carries a packet to the device.
    Driver,
    /// The buffer waits for a packet of the device.
    Device,
}

impl Queue {
    /// A queue whose page is all zeros, as the VMM hands it over; says that interrupts are not wanted.
    pub(crate) fn new(window: &Window, page: usize) -> Queue {
        window.write_u16(page + AVAILABLE_FLAGS, AVAILABLE_NO_INTERRUPT);
        Queue {
            page,
            free: u64::MAX,
            available: 0,
            used: 0,
        }
    }

    /// Gives a buffer to the device; returns its descriptor, or `None` when the device holds all of them.
    pub(crate) fn post(&mut self, window: &Window, offset: usize, len: u32, writer: Writer) -> Option<u16> {
        if self.free == 0 {
            return None;
        }
        let index = self.free.trailing_zeros() as usize;
        self.free &= !(1 << index);
        let descriptor = self.page + DESCRIPTORS + index * DESCRIPTOR_SIZE;
        window.write_u64(descriptor, window.gpa(offset));
        window.write_u32(descriptor + 8, len);
        window.write_u16(
            descriptor + 12,
            if writer == Writer::Device {
                DESCRIPTOR_WRITE
            } else {
                0
            },
        );
        let id = u16::try_from(index).unwrap_or(0);
        let slot = usize::from(self.available % QUEUE_SIZE);
        window.write_u16(self.page + AVAILABLE_RING + 2 * slot, id);
        self.available = self.available.wrapping_add(1);
        window.store_u16(self.page + AVAILABLE_INDEX, self.available);
        Some(id)
    }

    /// Whether the device has finished with a buffer.
    pub(crate) fn has_used(&self, window: &Window) -> bool {
        window.load_u16(self.page + USED_INDEX) != self.used
    }

    /// Takes back the next buffer that the device has finished with: its descriptor and the bytes written.
    pub(crate) fn take_used(&mut self, window: &Window) -> Option<(u16, u32)> {
        if !self.has_used(window) {
            return None;
        }
        let element = self.page + USED_RING + 8 * usize::from(self.used % QUEUE_SIZE);
        let id = window.read_u32(element);
        let len = window.read_u32(element + 4);
        self.used = self.used.wrapping_add(1);
        let index = u16::try_from(id).unwrap_or(u16::MAX);
        assert!(
            index < QUEUE_SIZE && self.free & (1 << index) == 0,
            "the device returned descriptor {id}, which it does not hold"
        );
        self.free |= 1 << index;
        Some((index, len))
    }
}

const DESCRIPTORS: usize = size(QUEUE_DESCRIPTORS);
const DESCRIPTOR_SIZE: usize = 16;
const DESCRIPTOR_WRITE: u16 = 2;
const AVAILABLE_FLAGS: usize = size(QUEUE_AVAILABLE);
const AVAILABLE_INDEX: usize = AVAILABLE_FLAGS + 2;
const AVAILABLE_RING: usize = AVAILABLE_FLAGS + 4;
const AVAILABLE_NO_INTERRUPT: u16 = 1;
const USED_INDEX: usize = size(QUEUE_USED) + 2;
const USED_RING: usize = size(QUEUE_USED) + 4;

const _: () = assert!(QUEUE_SIZE == 64, "`free` has one bit for each descriptor");

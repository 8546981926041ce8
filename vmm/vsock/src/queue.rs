//! One split queue: its configuration by the driver, and taking and returning chains.
//!
//! The ring arithmetic is `virtio_queue::Queue`'s. What is added here: every refusal has a name, nothing is
//! silently ignored, and a queue cannot change while it is ready.

use std::sync::atomic::Ordering;

use virtio_bindings::bindings::virtio_ring::VRING_AVAIL_F_NO_INTERRUPT;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

use crate::chain::Table;
use crate::error::{DeviceFault, QueuePart};

/// Most entries of a queue.
pub(crate) const QUEUE_SIZE_MAX: u16 = 256;
/// Number of the receive queue: device to driver.
pub(crate) const RECEIVE: u16 = 0;
/// Number of the transmit queue: driver to device.
pub(crate) const TRANSMIT: u16 = 1;
/// Number of the event queue; the device never has an event to put there.
pub(crate) const EVENTS: u16 = 2;

/// Alignment of descriptor table, available ring and used ring, virtio 1.2 §2.7.
const ALIGNMENTS: (u64, u64, u64) = (16, 2, 4);

/// A queue's addresses and size as the driver wrote them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Setup {
    pub(crate) size: u16,
    pub(crate) descriptors: u64,
    pub(crate) available: u64,
    pub(crate) used: u64,
}

/// A queue of the device.
#[derive(Debug)]
pub(crate) struct VirtQueue {
    index: u16,
    setup: Setup,
    ring: Queue,
    /// Whether the present `ring` was found to lie in the device's memory.
    checked: bool,
}

impl Clone for VirtQueue {
    fn clone(&self) -> VirtQueue {
        VirtQueue {
            index: self.index,
            setup: self.setup,
            // Every state that a queue is in was accepted by it, so it is accepted again.
            ring: Queue::try_from(self.ring.state()).unwrap_or_default(),
            checked: self.checked,
        }
    }
}

impl VirtQueue {
    /// Queue `index`, not ready.
    pub(crate) fn new(index: u16) -> VirtQueue {
        VirtQueue {
            index,
            setup: Setup {
                size: QUEUE_SIZE_MAX,
                descriptors: 0,
                available: 0,
                used: 0,
            },
            ring: Queue::default(),
            checked: false,
        }
    }

    /// Whether chains may be taken.
    pub(crate) fn ready(&self) -> bool {
        self.ring.ready()
    }

    /// Entries of the queue.
    pub(crate) fn size(&self) -> u16 {
        self.ring.size()
    }

    /// The configuration, for the driver to change; `offset` is the register it writes.
    pub(crate) fn setup(&mut self, offset: u64) -> Result<&mut Setup, DeviceFault> {
        if self.ready() {
            return Err(DeviceFault::QueueChangedWhileReady {
                queue: self.index,
                offset,
            });
        }
        Ok(&mut self.setup)
    }

    /// Takes the size that the driver wrote.
    pub(crate) fn set_size(&mut self, offset: u64, size: u32) -> Result<(), DeviceFault> {
        let queue = self.index;
        let setup = self.setup(offset)?;
        match u16::try_from(size) {
            Ok(size) if size.is_power_of_two() && size <= QUEUE_SIZE_MAX => {
                setup.size = size;
                Ok(())
            }
            Ok(_) | Err(_) => Err(DeviceFault::QueueSize {
                queue,
                size,
                most: QUEUE_SIZE_MAX,
            }),
        }
    }

    /// Makes the queue ready as configured. Where it lies is checked by [`VirtQueue::check_memory`].
    pub(crate) fn enable(&mut self) -> Result<(), DeviceFault> {
        let mut ring = Queue::new(QUEUE_SIZE_MAX).map_err(|_| self.bad_size())?;
        let setup = self.setup;
        ring.try_set_size(setup.size).map_err(|_| self.bad_size())?;
        let (descriptors, available, used) = ALIGNMENTS;
        ring.try_set_desc_table_address(GuestAddress(setup.descriptors))
            .map_err(|_| self.unaligned(QueuePart::Descriptors, setup.descriptors, descriptors))?;
        ring.try_set_avail_ring_address(GuestAddress(setup.available))
            .map_err(|_| self.unaligned(QueuePart::Available, setup.available, available))?;
        ring.try_set_used_ring_address(GuestAddress(setup.used))
            .map_err(|_| self.unaligned(QueuePart::Used, setup.used, used))?;
        ring.set_ready(true);
        self.ring = ring;
        self.checked = false;
        Ok(())
    }

    /// Makes the queue ready with a configuration that no driver wrote.
    pub(crate) fn enable_with(&mut self, setup: Setup) -> Result<(), DeviceFault> {
        self.setup = setup;
        self.enable()
    }

    /// Takes the queue out of service.
    pub(crate) fn disable(&mut self) {
        self.ring.set_ready(false);
    }

    /// Checks once that all of the queue lies in the device's memory.
    pub(crate) fn check_memory<M: GuestMemory>(&mut self, mem: &M) -> Result<(), DeviceFault> {
        if self.checked || !self.ready() {
            return Ok(());
        }
        let size = u64::from(self.size());
        let (read, write) = (Permissions::Read, Permissions::Write);
        for (part, address, length, access) in [
            (
                QueuePart::Descriptors,
                self.setup.descriptors,
                size.saturating_mul(16),
                read,
            ),
            (
                QueuePart::Available,
                self.setup.available,
                size.saturating_mul(2).saturating_add(6),
                read,
            ),
            (
                QueuePart::Used,
                self.setup.used,
                size.saturating_mul(8).saturating_add(6),
                write,
            ),
        ] {
            let count = usize::try_from(length).unwrap_or(usize::MAX);
            if !mem.check_range(GuestAddress(address), count, access) {
                return Err(self.outside(part, address, length));
            }
        }
        self.checked = true;
        Ok(())
    }

    /// How it was configured.
    pub(crate) fn configured(&self) -> Setup {
        self.setup
    }

    /// How far it has come: chains taken and chains given back, modulo 2¹⁶.
    pub(crate) fn progress(&self) -> (u16, u16) {
        (self.ring.next_avail(), self.ring.next_used())
    }

    /// Has it go on from there, whatever the driver's rings say.
    pub(crate) fn set_progress(&mut self, (taken, given_back): (u16, u16)) {
        self.ring.set_next_avail(taken);
        self.ring.set_next_used(given_back);
    }

    /// Where the queue's descriptors are.
    pub(crate) fn table(&self) -> Table {
        Table {
            queue: self.index,
            size: self.size(),
            address: GuestAddress(self.ring.desc_table()),
            device_writes: self.index != TRANSMIT,
        }
    }

    /// Whether the driver offers a chain, as far as can be told without looking closer.
    pub(crate) fn offers<M: GuestMemory>(&self, mem: &M) -> bool {
        let index = self.ring.avail_idx(mem, Ordering::Acquire);
        self.ready() && index.is_ok_and(|index| index.0 != self.ring.next_avail())
    }

    /// Takes the next available chain: the index of its first descriptor.
    pub(crate) fn take<M: GuestMemory>(&mut self, mem: &M) -> Result<Option<u16>, DeviceFault> {
        let (size, from) = (self.size(), self.ring.next_avail());
        let base = self.ring.avail_ring();
        let to = self
            .ring
            .avail_idx(mem, Ordering::Acquire)
            .map_err(|_| self.outside(QueuePart::Available, base, 4))?
            .0;
        let waiting = to.wrapping_sub(from);
        if waiting == 0 {
            return Ok(None);
        }
        if waiting > size {
            return Err(DeviceFault::AvailableJump {
                queue: self.index,
                from,
                to,
                size,
            });
        }
        let slot = from.checked_rem(size).unwrap_or(0);
        let address = base
            .saturating_add(4)
            .saturating_add(u64::from(slot).saturating_mul(2));
        let head: u16 = mem
            .load(GuestAddress(address), Ordering::Relaxed)
            .map_err(|_| self.outside(QueuePart::Available, address, 2))?;
        self.ring.set_next_avail(from.wrapping_add(1));
        Ok(Some(u16::from_le(head)))
    }

    /// Gives a chain back to the driver, with `written` bytes in it.
    pub(crate) fn give_back<M: GuestMemory>(
        &mut self,
        mem: &M,
        head: u16,
        written: u32,
    ) -> Result<(), DeviceFault> {
        let base = self.ring.used_ring();
        let length = u64::from(self.size()).saturating_mul(8).saturating_add(6);
        self.ring
            .add_used(mem, head, written)
            .map_err(|_| self.outside(QueuePart::Used, base, length))
    }

    /// Whether the driver wants to hear of chains given back.
    pub(crate) fn wants_interrupt<M: GuestMemory>(&self, mem: &M) -> Result<bool, DeviceFault> {
        let base = self.ring.avail_ring();
        let flags: u16 = mem
            .load(GuestAddress(base), Ordering::Relaxed)
            .map_err(|_| self.outside(QueuePart::Available, base, 2))?;
        Ok(u32::from(u16::from_le(flags)) & VRING_AVAIL_F_NO_INTERRUPT == 0)
    }

    fn bad_size(&self) -> DeviceFault {
        DeviceFault::QueueSize {
            queue: self.index,
            size: u32::from(self.setup.size),
            most: QUEUE_SIZE_MAX,
        }
    }

    fn unaligned(&self, part: QueuePart, address: u64, alignment: u64) -> DeviceFault {
        DeviceFault::QueueUnaligned {
            queue: self.index,
            part,
            address,
            alignment,
        }
    }

    fn outside(&self, part: QueuePart, address: u64, length: u64) -> DeviceFault {
        DeviceFault::QueueOutsideMemory {
            queue: self.index,
            part,
            address,
            length,
        }
    }
}

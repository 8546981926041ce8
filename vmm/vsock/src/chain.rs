//! One descriptor chain, checked: where a packet's bytes lie in guest memory.
//!
//! The chain is walked once. Every descriptor is copied out of guest memory, checked, and kept as a segment;
//! the guest's later changes to the descriptor table do not matter. `virtio_queue::DescriptorChain` is not
//! used because it ends silently where a fault has to be named, and follows indirect tables, which were not
//! negotiated.

use virtio_bindings::bindings::virtio_ring::{VRING_DESC_F_NEXT, VRING_DESC_F_WRITE};
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory, Permissions};

use crate::error::{DeviceFault, QueuePart};

const NEXT: u32 = VRING_DESC_F_NEXT;
const WRITE: u32 = VRING_DESC_F_WRITE;
const DESCRIPTOR_SIZE: u64 = 16;

/// Where a queue's descriptors are, and which way its buffers go.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) queue: u16,
    pub(crate) size: u16,
    pub(crate) address: GuestAddress,
    /// Whether the device writes the buffers (receive queue) or reads them (transmit queue).
    pub(crate) device_writes: bool,
}

/// A checked run of guest memory.
#[derive(Debug, Clone, Copy)]
struct Segment {
    address: GuestAddress,
    length: u32,
}

/// The segments of one chain. One `Chain` is kept and loaded again and again, so that its storage is
/// allocated once.
#[derive(Debug, Default, Clone)]
pub(crate) struct Chain {
    queue: u16,
    length: u64,
    segments: Vec<Segment>,
}

impl Chain {
    /// Bytes of all buffers together.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Walks the chain that begins at `head` and takes its place, checking every descriptor; the chain must
    /// hold at least `needed` bytes.
    pub(crate) fn load<M: GuestMemory>(
        &mut self,
        mem: &M,
        table: &Table,
        head: u16,
        needed: u64,
    ) -> Result<(), DeviceFault> {
        self.queue = table.queue;
        self.length = 0;
        self.segments.clear();
        let mut index = head;
        for _ in 0..table.size {
            let descriptor = table.descriptor(mem, index)?;
            let segment = table.check(mem, index, &descriptor)?;
            self.length = self.length.saturating_add(u64::from(segment.length));
            self.segments.push(segment);
            if !descriptor.has_next() {
                if self.length < needed {
                    return Err(DeviceFault::ChainTooShort {
                        queue: table.queue,
                        head,
                        length: self.length,
                        needed,
                    });
                }
                return Ok(());
            }
            index = descriptor.next();
        }
        Err(DeviceFault::DescriptorLoop {
            queue: table.queue,
            head,
            size: table.size,
        })
    }

    /// Fills `out` from the chain, beginning `skip` bytes into it.
    pub(crate) fn read<M: GuestMemory>(&self, mem: &M, skip: u64, out: &mut [u8]) -> Result<(), DeviceFault> {
        let mut rest = out;
        for (address, length) in self.places(skip) {
            let count = length.min(rest.len());
            let (part, later) = rest.split_at_mut_checked(count).unwrap_or_default();
            mem.read_slice(part, address)
                .map_err(|_| self.unreachable(address, count))?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.all_done(rest.len())
    }

    /// Writes `bytes` into the chain, beginning `skip` bytes into it.
    pub(crate) fn write<M: GuestMemory>(&self, mem: &M, skip: u64, bytes: &[u8]) -> Result<(), DeviceFault> {
        let mut rest = bytes;
        for (address, length) in self.places(skip) {
            let count = length.min(rest.len());
            let (part, later) = rest.split_at_checked(count).unwrap_or_default();
            mem.write_slice(part, address)
                .map_err(|_| self.unreachable(address, count))?;
            rest = later;
            if rest.is_empty() {
                break;
            }
        }
        self.all_done(rest.len())
    }

    /// The runs of memory behind the first `skip` bytes of the chain.
    fn places(&self, skip: u64) -> impl Iterator<Item = (GuestAddress, usize)> + '_ {
        let mut skip = skip;
        self.segments.iter().filter_map(move |segment| {
            let skipped = skip.min(u64::from(segment.length));
            skip = skip.saturating_sub(skipped);
            let length = u64::from(segment.length).saturating_sub(skipped);
            let address = segment.address.checked_add(skipped)?;
            (length > 0).then_some((address, usize::try_from(length).unwrap_or(usize::MAX)))
        })
    }

    /// Every caller asks for less than the chain holds; if one did not, the access is refused all the same.
    fn all_done(&self, left: usize) -> Result<(), DeviceFault> {
        if left == 0 {
            return Ok(());
        }
        Err(self.unreachable(GuestAddress(0), left))
    }

    fn unreachable(&self, address: GuestAddress, count: usize) -> DeviceFault {
        DeviceFault::BufferUnreachable {
            queue: self.queue,
            address: address.raw_value(),
            length: u64::try_from(count).unwrap_or(u64::MAX),
        }
    }
}

impl Table {
    /// Copies descriptor `index` out of guest memory.
    fn descriptor<M: GuestMemory>(&self, mem: &M, index: u16) -> Result<Descriptor, DeviceFault> {
        if index >= self.size {
            return Err(DeviceFault::DescriptorIndex {
                queue: self.queue,
                index,
                size: self.size,
            });
        }
        let offset = u64::from(index).saturating_mul(DESCRIPTOR_SIZE);
        let outside = DeviceFault::QueueOutsideMemory {
            queue: self.queue,
            part: QueuePart::Descriptors,
            address: self.address.raw_value().saturating_add(offset),
            length: DESCRIPTOR_SIZE,
        };
        let address = self.address.checked_add(offset).ok_or(outside)?;
        mem.read_obj(address).map_err(|_| outside)
    }

    /// Checks flags, direction and place of a descriptor.
    fn check<M: GuestMemory>(
        &self,
        mem: &M,
        index: u16,
        descriptor: &Descriptor,
    ) -> Result<Segment, DeviceFault> {
        let (queue, flags) = (self.queue, descriptor.flags());
        if u32::from(flags) & !(NEXT | WRITE) != 0 {
            return Err(DeviceFault::DescriptorFlags { queue, index, flags });
        }
        match (descriptor.is_write_only(), self.device_writes) {
            (true, false) => return Err(DeviceFault::DescriptorWriteOnly { queue, index }),
            (false, true) => return Err(DeviceFault::DescriptorReadOnly { queue, index }),
            (true, true) | (false, false) => {}
        }
        let (address, length) = (descriptor.addr(), descriptor.len());
        let access = if self.device_writes {
            Permissions::Write
        } else {
            Permissions::Read
        };
        let inside = match usize::try_from(length) {
            Ok(count) => mem.check_range(address, count, access),
            Err(_) => false,
        };
        if !inside {
            return Err(DeviceFault::DescriptorOutsideMemory {
                queue,
                index,
                address: address.raw_value(),
                length,
            });
        }
        Ok(Segment { address, length })
    }
}

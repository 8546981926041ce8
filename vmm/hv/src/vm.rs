//! One virtual machine and the memory it has.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use kvm_bindings::{KVM_MEM_READONLY, kvm_userspace_memory_region};
use kvm_ioctls::VmFd;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion, MmapRegion};

use crate::error::HvError;
use crate::kvm::Kvm;
use crate::mapping::{self, Memory, Piece, Region};
use crate::touched::CountedFile;
use crate::vcpu::Vcpu;

/// A VM with its memory slots.
///
/// The kernel keeps a VM alive while any of its descriptors is open, the vCPU's among them, and its slots
/// point into this process. So VM and vCPU both hold the mappings behind the slots, and field order closes descriptors first.
#[derive(Debug)]
pub struct Vm {
    fd: VmFd,
    memory: Memory,
    next_slot: u32,
    /// Where memory comes from, when its touched pages are counted.
    pub(crate) counted: Option<CountedFile>,
    backing: Arc<Backing>,
}

/// The mappings behind every slot that a VM ever had; unmapped when its last descriptor is closed.
#[derive(Debug, Default)]
pub(crate) struct Backing(Mutex<Vec<Arc<MmapRegion>>>);

impl Vm {
    pub(crate) fn new(fd: VmFd) -> Vm {
        Vm {
            fd,
            memory: Memory::new(),
            next_slot: 0,
            counted: None,
            backing: Arc::default(),
        }
    }

    /// Makes the VM's one vCPU, with the small CPUID table of `kvm`.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel refuses.
    pub fn create_vcpu(&self, kvm: &Kvm) -> Result<Vcpu, HvError> {
        let fd = self
            .fd
            .create_vcpu(0)
            .map_err(HvError::ioctl("KVM_CREATE_VCPU"))?;
        Vcpu::new(fd, kvm, Arc::clone(&self.backing))
    }

    /// Gives the guest `bytes` of zeroed memory at guest-physical `start`, in a slot of its own.
    ///
    /// # Errors
    /// [`HvError::BadRange`] for an empty, unaligned or overlapping range, [`HvError::MapMemory`],
    /// [`HvError::Ioctl`].
    pub fn add_memory(&mut self, start: u64, bytes: u64) -> Result<(), HvError> {
        self.add_slot(&[Piece::zeroed(start, bytes)], 0)
    }

    /// As [`Vm::add_memory`], but a store by the guest exits instead of changing it.
    ///
    /// # Errors
    /// As [`Vm::add_memory`].
    pub fn add_read_only_memory(&mut self, start: u64, bytes: u64) -> Result<(), HvError> {
        self.add_slot(&[Piece::zeroed(start, bytes)], KVM_MEM_READONLY)
    }

    /// Gives the guest adjacent pieces, each beginning where the one before ends, in one slot. A page of a common piece is copied when guest or host
    /// first writes to it, and is one with that of other VMs until then; such pages are not counted ([`Vm::touched`]).
    ///
    /// # Errors
    /// As [`Vm::add_memory`]; [`HvError::BadRange`] also for pieces that are not adjacent.
    pub fn add_pieces(&mut self, pieces: &[Piece<'_>]) -> Result<(), HvError> {
        self.add_slot(pieces, 0)
    }

    fn add_slot(&mut self, pieces: &[Piece<'_>], flags: u32) -> Result<(), HvError> {
        let start = pieces.first().map_or(0, |piece| piece.start);
        let mut end = start;
        for piece in pieces {
            size_of_range(piece.start, piece.bytes)?;
            let fits = piece.common.is_none_or(|common| common.length() == piece.bytes);
            if piece.start != end || !fits {
                return Err(HvError::BadRange {
                    start: piece.start,
                    bytes: piece.bytes,
                });
            }
            end += piece.bytes;
        }
        let bytes = end - start;
        let size = size_of_range(start, bytes)?;
        let place = self.counted.as_mut().map(|file| file.extend(bytes)).transpose()?;
        let whole = mapping::map(size, place.as_ref())?;
        let mut memory = self.memory.clone();
        for piece in pieces {
            let (from, size) = (piece.start - start, size_of_range(piece.start, piece.bytes)?);
            let offset = usize::try_from(from).map_err(|_| HvError::BadRange { start, bytes })?;
            let place = match (piece.common, &place) {
                (Some(common), _) => {
                    common.map_over(&whole, offset)?;
                    None
                }
                (None, Some(place)) => Some(FileOffset::from_arc(
                    Arc::clone(place.arc()),
                    place.start() + from,
                )),
                (None, None) => None,
            };
            let region = mapping::piece(&whole, offset, size, piece.start, place)?;
            memory = memory
                .insert_region(Arc::new(region))
                .map_err(|_| HvError::BadRange { start, bytes })?;
        }
        self.put_slot(whole, start, bytes, flags)?;
        self.memory = memory;
        Ok(())
    }

    /// Makes a slot of a mapping that is `bytes` long.
    pub(crate) fn put_slot(
        &mut self,
        whole: Arc<MmapRegion>,
        start: u64,
        bytes: u64,
        flags: u32,
    ) -> Result<(), HvError> {
        if u64::try_from(whole.size()).is_ok_and(|size| size < bytes) {
            return Err(HvError::BadRange { start, bytes });
        }
        let host_address = whole.as_ptr() as u64;
        self.backing
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(whole);
        let slot = kvm_userspace_memory_region {
            slot: self.next_slot,
            flags,
            guest_phys_addr: start,
            memory_size: bytes,
            userspace_addr: host_address,
        };
        // SAFETY: `host_address` is the start of a mapping of at least `bytes` bytes, as was looked at above; it is
        // owned by `self.backing`, from which nothing is ever removed and which the VM and its vCPU drop
        // after their descriptors, so it outlives the slot. No other slot covers it: each mapping comes here once.
        unsafe { self.fd.set_user_memory_region(slot) }
            .map_err(HvError::ioctl("KVM_SET_USER_MEMORY_REGION"))?;
        self.next_slot += 1;
        Ok(())
    }

    /// The VM's descriptor, which must stay open while the VM lives.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: `self.fd` owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }

    /// All memory of the guest.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Start and length of each piece.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, u64)> {
        self.memory
            .iter()
            .map(|region| (region.start_addr().0, region.len()))
    }

    /// A view of those pieces that start at one of `starts`: what a device may touch.
    pub fn view(&self, starts: impl Fn(u64) -> bool) -> Memory {
        let mut view = Memory::new();
        for region in self.memory.iter().filter(|region| starts(region.start_addr().0)) {
            let shared = Region::with_arc(region.get_mmap(), region.start_addr());
            if let Some(Ok(next)) = shared.map(|shared| view.insert_region(Arc::new(shared))) {
                view = next;
            }
        }
        view
    }

    /// Writes host bytes into guest memory.
    ///
    /// # Errors
    /// [`HvError::Access`] outside the VM's memory.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), HvError> {
        self.memory
            .write_slice(bytes, GuestAddress(address))
            .map_err(|_| HvError::Access {
                address,
                bytes: bytes.len(),
            })
    }

    /// Copies guest memory out.
    ///
    /// # Errors
    /// [`HvError::Access`] outside the VM's memory.
    pub fn read(&self, address: u64, bytes: &mut [u8]) -> Result<(), HvError> {
        let length = bytes.len();
        self.memory
            .read_slice(bytes, GuestAddress(address))
            .map_err(|_| HvError::Access {
                address,
                bytes: length,
            })
    }

    /// Has the kernel back a range with pages now, so that the guest's first stores to it do not fault.
    ///
    /// Failing is no error: the pages then come one by one.
    pub fn prefault(&self, start: u64, bytes: usize) {
        let Ok(slice) = self.memory.get_slice(GuestAddress(start), bytes) else {
            return;
        };
        let pointer = slice.ptr_guard_mut();
        // SAFETY: the range lies within one live mapping of this process (checked by `get_slice`), and
        // MADV_POPULATE_WRITE changes no byte of it (madvise(2)).
        let _ = unsafe { libc::madvise(pointer.as_ptr().cast(), bytes, libc::MADV_POPULATE_WRITE) };
    }
}

/// A range's length for `mmap`, if a slot can have it.
pub(crate) fn size_of_range(start: u64, bytes: u64) -> Result<usize, HvError> {
    let aligned = start.is_multiple_of(4096) && bytes.is_multiple_of(4096) && bytes > 0;
    match usize::try_from(bytes) {
        Ok(size) if aligned && start.checked_add(bytes).is_some() => Ok(size),
        _ => Err(HvError::BadRange { start, bytes }),
    }
}

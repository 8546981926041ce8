//! Memory that two VMs see, of which each may write another part, and the host as good as nothing.
//!
//! ```text
//!   Shared, a file without a name    page 0      page 1      page 2 …
//!   one VM                           ├─ writes ──┤├────── reads ─────┤
//!   the other VM                     ├────── reads ─────┤├─ writes ──┤
//!   this process                                  one word
//! ```
//! Each part is a mapping and a slot of its own. One that a VM may only read is mapped so (`PROT_READ`), and its slot is too
//! (`KVM_MEM_READONLY`): a store there finds no way to the page, whatever the guest's own tables say. The mappings are not part of the VM's memory as
//! the host sees it ([`Vm::memory`]): no device and no mistake of the VMM reads or writes there. The file's length is sealed.
//!
//! Where the VMs are in processes that do not trust each other, each part is a file of its own, and who may only read one has a descriptor
//! that is for reading alone ([`Shared::to_read`]): no mapping by it can be written, whoever has that process.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kvm_bindings::KVM_MEM_READONLY;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
    open,
};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};
use rustix::process::{Resource, getrlimit};
use vm_memory::mmap::FromRangesError;
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::error::HvError;
use crate::vm::{Vm, size_of_range};

/// What a VM may do with a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SharedAccess {
    /// Read.
    Read,
    /// Read and write.
    Write,
}

/// Memory that VMs share. Clones are the same.
#[derive(Debug, Clone)]
pub struct Shared {
    file: Arc<File>,
    length: u64,
}

/// One page of shared memory in this process, to write a word of.
#[derive(Debug)]
pub struct SharedWord(MmapRegion);

impl Shared {
    /// Memory of so many bytes, in whole pages, all zero; a page takes room once it is touched.
    ///
    /// # Errors
    /// [`HvError::System`] when no file is to be had, also when this process may only make small ones (`ulimit -f`).
    pub fn new(length: u64) -> Result<Shared, HvError> {
        size_of_range(0, length)?;
        // A file that grows beyond the limit would end the process by SIGXFSZ.
        if getrlimit(Resource::Fsize)
            .current
            .is_some_and(|most| most < length)
        {
            return Err(failed("ftruncate")(Errno::FBIG));
        }
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("ring", flags).map_err(failed("memfd_create"))?;
        ftruncate(&file, length).map_err(failed("ftruncate"))?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
            .map_err(failed("fcntl(F_ADD_SEALS)"))?;
        Ok(Shared {
            file: Arc::new(file.into()),
            length,
        })
    }

    /// The first word of the page at `offset`, to be written by this process and by none that is forked off it.
    ///
    /// # Errors
    /// [`HvError::BadRange`] when there is no such page, [`HvError::MapMemory`], [`HvError::System`].
    pub fn word(&self, offset: u64) -> Result<SharedWord, HvError> {
        let region = self.map(offset, PAGE, SharedAccess::Write)?;
        // SAFETY: the range is the mapping's own. In a child it is not there, and a child has no use for the value but to drop it, which
        // unmaps what is not mapped.
        unsafe { madvise(region.as_ptr().cast(), region.size(), Advice::LinuxDontFork) }
            .map_err(failed("madvise"))?;
        Ok(SharedWord(region))
    }

    /// The same memory by a descriptor for reading alone: a mapping by it can neither be made writable nor become it.
    ///
    /// # Errors
    /// [`HvError::System`] when there is no `/proc`, or no descriptor.
    pub fn to_read(&self) -> Result<Shared, HvError> {
        let path = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        let file = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(failed("open"))?;
        Ok(Shared {
            file: Arc::new(file.into()),
            length: self.length,
        })
    }

    /// The descriptor, for whoever keeps it open.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Has all pages of a range be zero, and takes their room back, whoever uses them meanwhile.
    ///
    /// # Errors
    /// [`HvError::System`], which a range inside the memory does not bring about.
    pub fn empty(&self, offset: u64, bytes: u64) -> Result<(), HvError> {
        let how = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&*self.file, how, offset, bytes).map_err(failed("fallocate"))
    }

    fn map(&self, offset: u64, bytes: u64, access: SharedAccess) -> Result<MmapRegion, HvError> {
        let size = size_of_range(offset, bytes)?;
        if offset.saturating_add(bytes) > self.length {
            return Err(HvError::BadRange { start: offset, bytes });
        }
        let protection = match access {
            SharedAccess::Read => libc::PROT_READ,
            SharedAccess::Write => libc::PROT_READ | libc::PROT_WRITE,
        };
        let place = FileOffset::from_arc(Arc::clone(&self.file), offset);
        let how = libc::MAP_SHARED | libc::MAP_NORESERVE;
        MmapRegion::<()>::build(Some(place), size, protection, how).map_err(|error| HvError::MapMemory {
            bytes,
            source: FromRangesError::MmapRegion(error),
        })
    }
}

impl SharedWord {
    /// Writes the word: what was done before is seen by who reads it.
    pub fn store(&self, value: u64) {
        // A mapping is never shorter than a page.
        if let Ok(word) = self.0.get_atomic_ref::<AtomicU64>(0) {
            word.store(value.to_le(), Ordering::SeqCst);
        }
    }
}

impl Vm {
    /// Gives the guest `bytes` of shared memory, from `offset` in it on, at guest-physical `start`, in a slot of its own.
    ///
    /// # Errors
    /// As [`Vm::add_memory`]; [`HvError::BadRange`] also for what is not in the shared memory.
    pub fn add_shared(
        &mut self,
        start: u64,
        shared: &Shared,
        offset: u64,
        bytes: u64,
        access: SharedAccess,
    ) -> Result<(), HvError> {
        size_of_range(start, bytes)?;
        let region = shared.map(offset, bytes, access)?;
        let flags = match access {
            SharedAccess::Read => KVM_MEM_READONLY,
            SharedAccess::Write => 0,
        };
        self.put_slot(Arc::new(region), start, bytes, flags)
    }
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> HvError {
    move |error| HvError::System {
        call,
        source: error.into(),
    }
}

const PAGE: u64 = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Kvm;
    use crate::probe::{BELL, BELL_VA, FROZEN, FROZEN_VA, FirstStop, TinyGuest};

    fn vm() -> Vm {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        kvm.create_vm().expect("a VM")
    }

    #[test]
    fn only_what_is_there_can_be_shared_and_nothing_twice_in_one_place() {
        let shared = Shared::new(3 * PAGE).expect("is made");
        let mut vm = vm();
        for (offset, bytes) in [
            (0, 4 * PAGE),
            (3 * PAGE, PAGE),
            (0, 0),
            (1, PAGE),
            (u64::MAX - PAGE + 1, PAGE),
        ] {
            let refused = vm.add_shared(PAGE, &shared, offset, bytes, SharedAccess::Read);
            assert!(
                matches!(refused, Err(HvError::BadRange { .. })),
                "{offset:#x} {bytes:#x}: {refused:?}"
            );
        }
        vm.add_shared(PAGE, &shared, PAGE, 2 * PAGE, SharedAccess::Read)
            .expect("is added");
        vm.add_shared(2 * PAGE, &shared, 0, PAGE, SharedAccess::Write)
            .expect_err("overlaps");
        shared.word(3 * PAGE).expect_err("is beyond the end");
        assert!(Shared::new(0).is_err() && Shared::new(100).is_err());
    }

    #[test]
    fn the_vmm_sees_nothing_of_it() {
        let shared = Shared::new(2 * PAGE).expect("is made");
        let mut vm = vm();
        vm.add_shared(PAGE, &shared, 0, 2 * PAGE, SharedAccess::Write)
            .expect("is added");
        vm.write(PAGE, &[1]).expect_err("is not the host's to write");
        vm.read(PAGE, &mut [0]).expect_err("is not the host's to read");
        assert_eq!(vm.pieces().count(), 0);
    }

    #[test]
    fn a_word_is_written_and_emptied_and_the_length_stays() {
        let shared = Shared::new(2 * PAGE).expect("is made");
        let word = shared.word(PAGE).expect("is there");
        word.store(7);
        let read = || {
            let mut bytes = [0; 8];
            rustix::io::pread(&*shared.file, &mut bytes, PAGE).expect("is read");
            u64::from_le_bytes(bytes)
        };
        assert_eq!(read(), 7);
        shared.empty(0, 2 * PAGE).expect("is emptied");
        assert_eq!(read(), 0);
        word.store(8);
        assert_eq!(read(), 8);
        for length in [PAGE, 3 * PAGE] {
            ftruncate(&*shared.file, length).expect_err("is sealed");
        }
    }

    #[test]
    fn memory_that_is_only_read_cannot_be_written_by_any_mapping_or_call() {
        let shared = Shared::new(2 * PAGE).expect("is made");
        let to_read = shared.to_read().expect("is opened");
        shared.word(0).expect("is there").store(5);
        let mut bytes = [0; 8];
        rustix::io::pread(to_read.descriptor(), &mut bytes, 0).expect("is the same memory");
        assert_eq!(u64::from_le_bytes(bytes), 5);
        let refused = to_read.word(0);
        assert!(matches!(refused, Err(HvError::MapMemory { .. })), "{refused:?}");
        to_read.empty(0, PAGE).expect_err("is for reading");
        rustix::io::pwrite(to_read.descriptor(), &[1], 0).expect_err("is for reading");
        let region = to_read.map(0, PAGE, SharedAccess::Read).expect("may be read");
        // SAFETY: the range is the mapping's own, which nobody uses.
        let made_writable = unsafe {
            rustix::mm::mprotect(
                region.as_ptr().cast(),
                region.size(),
                rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
            )
        };
        assert_eq!(made_writable, Err(Errno::ACCESS));
        let mut vm = vm();
        vm.add_shared(PAGE, &to_read, 0, PAGE, SharedAccess::Write)
            .expect_err("is for reading");
    }

    #[test]
    fn a_child_does_not_have_the_word_of_its_parent() {
        let word = Shared::new(PAGE).expect("is made").word(0).expect("is there");
        let range = format!("{:x}-", word.0.as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").expect("is there");
        let from = maps.lines().skip_while(|line| !line.starts_with(&range));
        let flags = from.skip(1).find(|line| line.starts_with("VmFlags"));
        assert!(flags.is_some_and(|flags| flags.contains(" dc")), "{flags:?}");
    }

    /// Stores to a shared page that its own tables let it write, then rings; what it stopped for first.
    fn first_stop_of_a_store(shared: &Shared, access: SharedAccess) -> FirstStop {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        // mov rax, FROZEN_VA; mov [rax], rax; mov [rdi+8], rdi
        let code = [
            0x48, 0xb8, 0, 0, 0, 0, 0x57, 0x55, 0, 0, 0x48, 0x89, 0x00, 0x48, 0x89, 0x7f, 0x08,
        ];
        let mut guest =
            TinyGuest::with_frozen(&kvm, &code, |vm| vm.add_shared(FROZEN, shared, 0, PAGE, access))
                .expect("makes a guest");
        guest.first_stop().expect("runs")
    }

    #[test]
    fn the_second_level_stops_a_store_to_what_a_vm_may_only_read() {
        let shared = Shared::new(PAGE).expect("is made");
        let written = || {
            let mut bytes = [0; 8];
            rustix::io::pread(&*shared.file, &mut bytes, 0).expect("is read");
            u64::from_le_bytes(bytes)
        };
        let stop = first_stop_of_a_store(&shared, SharedAccess::Read);
        assert_eq!(stop, FirstStop::Store(FROZEN, FROZEN_VA));
        assert_eq!(written(), 0);
        let stop = first_stop_of_a_store(&shared, SharedAccess::Write);
        assert_eq!(stop, FirstStop::Store(BELL + 8, BELL_VA));
        assert_eq!(written(), FROZEN_VA);
    }
}

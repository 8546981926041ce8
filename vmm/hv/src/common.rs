//! Memory that many VMs have alike and none writes to: kept once.
//!
//! ```text
//!   Common, a file without a name      page 0    page 1    page 2
//!   copy of one VM                       │         │       written: a page of its own
//!   copy of another                      │       written     │
//! ```
//! Each VM maps the file privately (`MAP_PRIVATE`, mmap(2)), so what one writes no other can see, nor the file, whoever writes it: the guest, the
//! host by mistake, or a processor that takes the walk of page tables for writing them, as SVM's nested paging does. A page that is
//! written to takes memory then, and that is all.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use vm_memory::mmap::{FromRangesError, MmapRegionError};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::error::HvError;
use crate::mapping;

/// What is common to VMs. Clones are the same.
#[derive(Debug, Clone)]
pub struct Common {
    file: Arc<File>,
    length: u64,
}

impl Common {
    /// Keeps these bytes, which fill whole pages and are some. `None` where this process may only make small files (`ulimit -f`): each VM then
    /// needs memory of its own.
    ///
    /// # Errors
    /// [`HvError::System`] when no file is to be had.
    pub fn keep(bytes: &[u8]) -> Result<Option<Common>, HvError> {
        // A file that grows beyond the limit would end the process by SIGXFSZ.
        if getrlimit(Resource::Fsize).current.is_some() {
            return Ok(None);
        }
        let no = |call| {
            move |error: Errno| HvError::System {
                call,
                source: error.into(),
            }
        };
        let file = memfd_create("common", MemfdFlags::CLOEXEC).map_err(no("memfd_create"))?;
        let length = bytes.len() as u64;
        ftruncate(&file, length).map_err(no("ftruncate"))?;
        let file = Arc::new(File::from(file));
        let place = FileOffset::from_arc(Arc::clone(&file), 0);
        mapping::map(bytes.len(), Some(&place))?
            .as_volatile_slice()
            .copy_from(bytes);
        Ok(Some(Common { file, length }))
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Puts a private mapping of it in the place of what `whole` has from `offset` on. Nobody may have used that yet.
    ///
    /// # Errors
    /// [`HvError::MapMemory`]; [`HvError::BadRange`] when it does not lie in there.
    pub(crate) fn map_over(&self, whole: &MmapRegion, offset: usize) -> Result<(), HvError> {
        let bytes = self.length;
        let bad_range = HvError::BadRange {
            start: offset as u64,
            bytes,
        };
        let Ok(size) = usize::try_from(bytes) else {
            return Err(bad_range);
        };
        if offset.checked_add(size).is_none_or(|end| end > whole.size()) {
            return Err(bad_range);
        }
        let at = whole.as_ptr().wrapping_add(offset);
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let how = libc::MAP_PRIVATE | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range lies in `whole`, which is mapped and owns it: it is unmapped with the rest. Its contents are replaced as by writing
        // to them, and guest memory is only ever read and written as bytes that may change at any time.
        let mapped = unsafe { libc::mmap(at.cast(), size, access, how, self.file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            let error = MmapRegionError::Mmap(std::io::Error::last_os_error());
            return Err(HvError::MapMemory {
                bytes,
                source: FromRangesError::MmapRegion(error),
            });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use vm_memory::{Bytes, GuestAddress};

    use super::*;
    use crate::kvm::Kvm;
    use crate::mapping::Piece;
    use crate::vm::Vm;

    const PAGE: usize = 4096;

    fn copy(kvm: &Kvm, common: &Common) -> Vm {
        let mut vm = kvm.create_vm().expect("a VM");
        vm.count_touched().expect("counts");
        let own = Piece::zeroed(0x1000 + common.length(), PAGE as u64);
        vm.add_pieces(&[Piece::of(0x1000, common), own])
            .expect("is added");
        vm
    }

    fn page(vm: &Vm, number: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        vm.read(0x1000 + number * PAGE as u64, &mut bytes)
            .expect("is memory");
        bytes
    }

    #[test]
    fn what_one_vm_writes_no_other_sees() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        let bytes = [vec![1; PAGE], vec![2; PAGE]].concat();
        let common = Common::keep(&bytes).expect("a file").expect("no limit");
        let (one, other) = (copy(&kvm, &common), copy(&kvm, &common));
        one.write(0x1000, &[9; PAGE]).expect("is memory");
        assert_eq!((page(&one, 0), page(&one, 1)), (vec![9; PAGE], vec![2; PAGE]));
        assert_eq!((page(&other, 0), page(&other, 1)), (vec![1; PAGE], vec![2; PAGE]));
        assert_eq!(page(&copy(&kvm, &common), 0), vec![1; PAGE]);
        assert_eq!(one.touched().expect("counts"), Some(0));
        one.write(0x3000, &[5]).expect("is memory");
        assert_eq!(one.touched().expect("counts"), Some(1));
        let mut own = Vec::new();
        let found = |page| {
            own.push(page);
            Ok(())
        };
        one.touched_pages(0x3000, PAGE as u64, found).expect("is a piece");
        assert_eq!(own, [0x3000]);
        assert_eq!(page(&other, 2), vec![0; PAGE]);
    }

    #[test]
    fn what_does_not_fill_pages_is_refused() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        let mut vm = kvm.create_vm().expect("a VM");
        for bytes in [1, PAGE + 1] {
            let common = Common::keep(&vec![7; bytes]).expect("a file").expect("no limit");
            let refused = vm
                .add_pieces(&[Piece::of(0x1000, &common)])
                .expect_err("is no slot");
            assert!(matches!(refused, HvError::BadRange { .. }), "{refused}");
        }
    }

    #[test]
    fn pieces_that_are_not_adjacent_or_none_are_refused() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        let mut vm = kvm.create_vm().expect("a VM");
        let (first, size) = (Piece::zeroed(0x1000, 0x1000), PAGE as u64);
        for second in [
            Piece::zeroed(0x3000, size),
            Piece::zeroed(0x1000, size),
            Piece::zeroed(0x2000, 1),
        ] {
            let refused = vm.add_pieces(&[first, second]).expect_err("is no slot");
            assert!(matches!(refused, HvError::BadRange { .. }), "{refused}");
        }
        vm.add_pieces(&[]).expect_err("is no slot");
        vm.add_pieces(&[first, Piece::zeroed(0x2000, size)])
            .expect("is a slot");
        vm.add_pieces(&[Piece::zeroed(0x2000, size)])
            .expect_err("overlaps");
    }

    #[test]
    fn a_view_of_a_piece_does_not_reach_its_neighbours_and_outlives_the_vm() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        let mut vm = kvm.create_vm().expect("a VM");
        let pieces = [0x1000, 0x2000, 0x3000].map(|start| Piece::zeroed(start, PAGE as u64));
        vm.add_pieces(&pieces).expect("is added");
        let view = vm.view(|start| start == 0x2000);
        drop(vm);
        view.write_slice(&[7; PAGE], GuestAddress(0x2000))
            .expect("is seen");
        view.write_slice(&[7; 2], GuestAddress(0x2fff))
            .expect_err("goes beyond it");
        view.write_slice(&[7], GuestAddress(0x1fff))
            .expect_err("is not seen");
        let mut byte = [0];
        view.read_slice(&mut byte, GuestAddress(0x2800)).expect("is seen");
        assert_eq!(byte, [7]);
    }
}

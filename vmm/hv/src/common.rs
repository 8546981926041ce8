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
use std::sync::Arc;

use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use vm_memory::mmap::{FromRangesError, MmapRegionBuilder};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

use crate::error::HvError;

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
        let common = Common {
            file: Arc::new(file.into()),
            length,
        };
        common
            .map(bytes.len(), libc::MAP_SHARED)?
            .as_volatile_slice()
            .copy_from(bytes);
        Ok(Some(common))
    }

    /// Length in bytes.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Maps `size` bytes of it, all that it has, for one VM.
    pub(crate) fn copy_on_write(&self, size: usize) -> Result<MmapRegion, HvError> {
        self.map(size, libc::MAP_PRIVATE)
    }

    fn map(&self, size: usize, how: i32) -> Result<MmapRegion, HvError> {
        MmapRegionBuilder::new(size)
            .with_mmap_prot(libc::PROT_READ | libc::PROT_WRITE)
            .with_mmap_flags(how | libc::MAP_NORESERVE)
            .with_file_offset(FileOffset::from_arc(Arc::clone(&self.file), 0))
            .build()
            .map_err(|error| HvError::MapMemory {
                bytes: self.length,
                source: FromRangesError::MmapRegion(error),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Kvm;
    use crate::vm::Vm;

    const PAGE: usize = 4096;

    fn copy(kvm: &Kvm, common: &Common) -> Vm {
        let mut vm = kvm.create_vm().expect("a VM");
        vm.count_touched().expect("counts");
        vm.add_copy(0x1000, common).expect("is added");
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
    }

    #[test]
    fn what_does_not_fill_pages_is_refused() {
        let kvm = Kvm::open().expect("these tests need /dev/kvm");
        let mut vm = kvm.create_vm().expect("a VM");
        for bytes in [1, PAGE + 1] {
            let common = Common::keep(&vec![7; bytes]).expect("a file").expect("no limit");
            let refused = vm.add_copy(0x1000, &common).expect_err("is no slot");
            assert!(matches!(refused, HvError::BadRange { .. }), "{refused}");
        }
    }
}

//! Which pages of guest memory anybody has touched, and, for next to nothing, whether any has been since.
//!
//! A VM that counts keeps all its memory in one file without a name (`memfd_create(2)`), which is empty at first. A page comes into
//! it when guest or host first touches it, and the file's size in blocks says how many there are:
//!
//! ```text
//!   fstat       as many pages as before?  then they are the same ones              0.6 us
//!   SEEK_DATA   which ones, run by run; also those that are swapped out            0.4 us and more for each run
//! ```
//! The count could lie if a page went away while another came. Only a page that nobody ever wrote can go away (the kernel may
//! drop it; it is zero): so **whoever remembers a count must have written to every page in it**, which a reset does.

use std::fs::File;
use std::sync::Arc;

use rustix::fs::{MemfdFlags, SeekFrom, fstat, ftruncate, memfd_create, seek};
use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};
use vm_memory::{FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::error::HvError;
use crate::vm::Vm;

const PAGE: u64 = 4096;
/// Blocks that `st_blocks` counts in a page; they have 512 bytes whatever the file system (stat(2)).
const BLOCKS: u64 = PAGE / 512;

/// The file behind a VM's memory.
#[derive(Debug)]
pub(crate) struct CountedFile {
    file: Arc<File>,
    length: u64,
}

impl CountedFile {
    /// A place for `bytes` more.
    pub(crate) fn extend(&mut self, bytes: u64) -> Result<FileOffset, HvError> {
        let start = self.length;
        let length = start.saturating_add(bytes);
        ftruncate(&*self.file, length).map_err(failed("ftruncate"))?;
        self.length = length;
        Ok(FileOffset::from_arc(Arc::clone(&self.file), start))
    }
}

impl Vm {
    /// Has touched pages counted, in all memory that is added from now on. Where this process may only make small files
    /// (`ulimit -f`) nothing is counted, and every page passes for touched.
    ///
    /// # Errors
    /// [`HvError::System`] when no file is to be had.
    pub fn count_touched(&mut self) -> Result<(), HvError> {
        // A file that grows beyond the limit would end the process by SIGXFSZ.
        if getrlimit(Resource::Fsize).current.is_none() {
            let file = memfd_create("cell", MemfdFlags::CLOEXEC).map_err(failed("memfd_create"))?;
            self.counted = Some(CountedFile {
                file: Arc::new(file.into()),
                length: 0,
            });
        }
        Ok(())
    }

    /// How many pages guest and host have touched so far; `None` when they are not counted.
    ///
    /// # Errors
    /// [`HvError::System`], which no argument can bring about.
    pub fn touched(&self) -> Result<Option<u64>, HvError> {
        let Some(counted) = &self.counted else {
            return Ok(None);
        };
        let blocks = fstat(&*counted.file).map_err(failed("fstat"))?.st_blocks;
        Ok(u64::try_from(blocks).ok().map(|blocks| blocks / BLOCKS))
    }

    /// Calls `found` with the guest-physical address of each page in `start .. start + bytes` that guest or host has touched. All
    /// others are zero: nobody has ever given them contents.
    ///
    /// # Errors
    /// [`HvError::Access`] when the range is not within one slot, [`HvError::System`].
    pub fn touched_pages(
        &self,
        start: u64,
        bytes: u64,
        mut found: impl FnMut(u64) -> Result<(), HvError>,
    ) -> Result<(), HvError> {
        let outside = || HvError::Access {
            address: start,
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
        };
        let region = self
            .memory()
            .find_region(GuestAddress(start))
            .ok_or_else(outside)?;
        let into_region = start - region.start_addr().0;
        if into_region.saturating_add(bytes) > region.len() {
            return Err(outside());
        }
        let mut all = |from: u64, to: u64| {
            (from..to)
                .step_by(4096)
                .try_for_each(|offset| found(start.saturating_add(offset)))
        };
        let Some(place) = region.file_offset() else {
            return all(0, bytes);
        };
        let first = place.start().saturating_add(into_region);
        let end = first.saturating_add(bytes);
        let mut at = first;
        while at < end {
            let data = match seek(place.file(), SeekFrom::Data(at)) {
                Ok(data) if data < end => data,
                // Nothing but a hole up to the file's end.
                Ok(_) | Err(Errno::NXIO) => break,
                Err(error) => return Err(failed("lseek")(error)),
            };
            let hole = seek(place.file(), SeekFrom::Hole(data)).map_err(failed("lseek"))?;
            at = hole.min(end);
            all(data.saturating_sub(first), at.saturating_sub(first))?;
        }
        Ok(())
    }
}

fn failed(call: &'static str) -> impl FnOnce(Errno) -> HvError {
    move |error| HvError::System {
        call,
        source: error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kvm::Kvm;

    fn vm(counts: bool) -> Vm {
        let mut vm = Kvm::open()
            .expect("these tests need /dev/kvm")
            .create_vm()
            .expect("a VM");
        if counts {
            vm.count_touched().expect("counts");
        }
        vm.add_memory(0, 4 * PAGE).expect("is added");
        vm.add_memory(1 << 20, 64 * PAGE).expect("is added");
        vm
    }

    fn pages(vm: &Vm, start: u64, count: u64) -> Vec<u64> {
        let mut pages = Vec::new();
        vm.touched_pages(start, count * PAGE, |page| {
            pages.push(page);
            Ok(())
        })
        .expect("is one slot");
        pages
    }

    #[test]
    fn each_page_counts_once_whoever_touches_it_and_however() {
        let vm = vm(true);
        let base = 1 << 20;
        assert_eq!(vm.touched().expect("counts"), Some(0));
        assert!(pages(&vm, base, 64).is_empty());
        vm.write(base + 5 * PAGE - 1, &[1, 2]).expect("is memory");
        vm.read(base + 9 * PAGE, &mut [0]).expect("is memory");
        vm.write(2 * PAGE, &[0]).expect("is memory");
        for _ in 0..2 {
            assert_eq!(vm.touched().expect("counts"), Some(4));
            assert_eq!(pages(&vm, base, 64), [4, 5, 9].map(|page| base + page * PAGE));
            vm.write(base + 5 * PAGE, &[0; 4096]).expect("is memory");
        }
        assert_eq!(pages(&vm, base + 5 * PAGE, 4), [base + 5 * PAGE]);
        assert_eq!(pages(&vm, 0, 4), [2 * PAGE]);
        vm.touched_pages(base, 65 * PAGE, |_| Ok(()))
            .expect_err("is more than the slot");
    }

    #[test]
    fn without_a_count_every_page_passes_for_touched() {
        let vm = vm(false);
        assert_eq!(vm.touched().expect("is no error"), None);
        assert_eq!(pages(&vm, 0, 4), [0, 1, 2, 3].map(|page| page * PAGE));
    }
}

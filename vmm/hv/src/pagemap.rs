//! Which pages of guest memory anybody has touched, by `/proc/self/pagemap`
//! (Linux `Documentation/admin-guide/mm/pagemap.rst`).

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryRegion};

use crate::error::HvError;
use crate::vm::Vm;

const PAGE: u64 = 4096;
/// The page is in memory, or in swap: in both cases it has contents.
const TOUCHED: u64 = 1 << 63 | 1 << 62;
/// Entries read at once.
const ENTRIES: usize = 512;

/// This process's page map. It stays that of the process that opened it.
#[derive(Debug)]
pub struct Pagemap(File);

impl Pagemap {
    /// Opens `/proc/self/pagemap`.
    ///
    /// # Errors
    /// [`HvError::System`] when there is no `/proc`.
    pub fn open() -> Result<Pagemap, HvError> {
        let file = File::open("/proc/self/pagemap").map_err(|source| HvError::System {
            call: "open(/proc/self/pagemap)",
            source,
        })?;
        Ok(Pagemap(file))
    }

    /// The descriptor, for a list of those that stay open.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Vm {
    /// Calls `found` with the guest-physical address of each page in `start .. start + bytes` that guest or host has written or
    /// read. All others are zero: nobody has ever given them contents.
    ///
    /// # Errors
    /// [`HvError::Access`] when the range is not within one slot, [`HvError::System`] when the map cannot be read.
    pub fn touched_pages(
        &self,
        pagemap: &Pagemap,
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
        let offset = start - region.start_addr().0;
        if offset.saturating_add(bytes) > region.len() {
            return Err(outside());
        }
        let mut host_page = (region.as_ptr() as u64 + offset) / PAGE;
        let mut guest_page = start;
        let mut left = usize::try_from(bytes / PAGE).map_err(|_| outside())?;
        let mut entries = [0u8; ENTRIES * 8];
        while left > 0 {
            let count = left.min(ENTRIES);
            let chunk = entries.get_mut(..count * 8).ok_or_else(outside)?;
            self::read(&pagemap.0, chunk, host_page * 8)?;
            for entry in chunk.as_chunks::<8>().0 {
                if u64::from_ne_bytes(*entry) & TOUCHED != 0 {
                    found(guest_page)?;
                }
                guest_page += PAGE;
            }
            host_page += count as u64;
            left -= count;
        }
        Ok(())
    }
}

fn read(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), HvError> {
    file.read_exact_at(bytes, offset)
        .map_err(|source| HvError::System {
            call: "pread(/proc/self/pagemap)",
            source,
        })
}

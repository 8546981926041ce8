//! The boot block, read once before anything else.

use alloc::string::String;
use alloc::vec::Vec;

use muscle_abi::boot::{BootInfo, Strings};
use muscle_abi::capability::{CapabilityKind, GrantEntry};

/// What the VMM said at entry, or `None` outside a cell.
pub fn info() -> Option<&'static BootInfo> {
    #[cfg(cell)]
    {
        live::info()
    }
    #[cfg(not(cell))]
    {
        None
    }
}

/// The grants of this cell, in the order of the manifest's slots.
pub fn grants() -> Vec<GrantEntry> {
    #[cfg(cell)]
    {
        live::grants()
    }
    #[cfg(not(cell))]
    {
        Vec::new()
    }
}

/// The first grant of a kind.
pub fn grant_of(kind: CapabilityKind) -> Option<GrantEntry> {
    grants().into_iter().find(|grant| grant.kind == kind as u32)
}

/// The command-line arguments; the first is the name of the bundle's file. Bytes that are not UTF-8 are replaced.
pub fn arguments() -> Vec<String> {
    strings(Strings::new(argument_block()))
}

/// The granted environment variables, each as `KEY=value`.
pub fn environment() -> Vec<String> {
    strings(Strings::new(argument_block()).and_then(Strings::next_run))
}

fn strings(run: Option<Strings<'_>>) -> Vec<String> {
    run.into_iter()
        .flatten()
        .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        .collect()
}

fn argument_block() -> &'static [u8] {
    #[cfg(cell)]
    {
        live::argument_block()
    }
    #[cfg(not(cell))]
    {
        &[]
    }
}

#[cfg(cell)]
pub(crate) use live::read;

#[cfg(cell)]
mod live {
    use core::cell::UnsafeCell;

    use alloc::vec::Vec;

    use muscle_abi::boot::{BOOT_SIZE, BootInfo};
    use muscle_abi::capability::{GRANT_ENTRY_SIZE, GrantEntry};

    use crate::doorbell::pointer;
    use crate::size::size;

    /// Written once by [`read`] before any other code of the muscle runs, then only read.
    struct Block(UnsafeCell<Option<BootInfo>>);

    // SAFETY: one vCPU, one thread; see `single`.
    unsafe impl Sync for Block {}

    static BLOCK: Block = Block(UnsafeCell::new(None));

    /// Reads the block at the address that the VMM passed.
    ///
    /// # Safety
    /// Called once, first of all, with the value of `rdi` at entry.
    pub(crate) unsafe fn read(block: *const [u8; BOOT_SIZE]) {
        // SAFETY: the VMM maps a boot block of this size at the address it passes in `rdi`.
        let bytes = unsafe { block.read() };
        let info = BootInfo::from_bytes(&bytes).filter(|info| info.abi_version == muscle_abi::ABI_VERSION);
        // SAFETY: nothing has read `BLOCK` yet, since this runs first.
        unsafe { *BLOCK.0.get() = info }
    }

    pub(super) fn info() -> Option<&'static BootInfo> {
        // SAFETY: no write happens after `read`, which came first.
        unsafe { (*BLOCK.0.get()).as_ref() }
    }

    pub(super) fn argument_block() -> &'static [u8] {
        info().map_or(&[], |info| bytes(info.args_va, info.args_len))
    }

    pub(super) fn grants() -> Vec<GrantEntry> {
        let Some(info) = info() else { return Vec::new() };
        let table = bytes(info.grants_va, info.grants_count * GRANT_ENTRY_SIZE as u64);
        table
            .as_chunks::<GRANT_ENTRY_SIZE>()
            .0
            .iter()
            .map(GrantEntry::from_bytes)
            .collect()
    }

    /// A region of the boot pages, which are read-only for as long as the cell lives.
    fn bytes(address: u64, len: u64) -> &'static [u8] {
        if len == 0 {
            return &[];
        }
        // SAFETY: the boot block names `len` readable bytes at `address`, which neither side writes after entry.
        unsafe { core::slice::from_raw_parts(pointer(address), size(len)) }
    }
}

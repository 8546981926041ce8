//! The boot block: addresses are read once before anything else, what differs between lives whenever it is asked for.
//!
//! A muscle may be frozen at its first park and go on in another cell (`READY` in `muscle_abi::doorbell`). There seed, arguments and grants
//! are others, and nothing of them may have been kept.

use alloc::string::String;
use alloc::vec::Vec;

use muscle_abi::boot::{BootInfo, Strings};
use muscle_abi::capability::{CapabilityKind, GrantEntry};

/// What the VMM said at entry, or `None` outside a cell. What may differ between lives is left out: [`seed`] and lengths of arguments
/// and grants are zero here.
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

/// Random bytes for this life, zeros without a `random` grant.
pub fn seed() -> [u8; 32] {
    #[cfg(cell)]
    {
        live::now().map_or([0; 32], |info| info.seed)
    }
    #[cfg(not(cell))]
    {
        [0; 32]
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

    use muscle_abi::boot::{BOOT_SIZE, BootInfo, SEED_OFFSET};
    use muscle_abi::capability::{GRANT_ENTRY_SIZE, GrantEntry};

    use crate::doorbell::pointer;
    use crate::size::size;

    /// Written once by [`read`] before any other code of the muscle runs, then only read.
    struct Block(UnsafeCell<Known>);

    struct Known {
        /// Where the block is.
        at: *const [u8; BOOT_SIZE],
        /// What of it is the same in every life.
        info: Option<BootInfo>,
    }

    // SAFETY: one vCPU, one thread; see `single`.
    unsafe impl Sync for Block {}

    static BLOCK: Block = Block(UnsafeCell::new(Known {
        at: core::ptr::null(),
        info: None,
    }));

    /// Reads the block at the address that the VMM passed.
    ///
    /// # Safety
    /// Called once, first of all, with the value of `rdi` at entry.
    pub(crate) unsafe fn read(block: *const [u8; BOOT_SIZE]) {
        // Not even copied, so that nothing of the seed stays behind on the stack.
        let mut bytes = [0; BOOT_SIZE];
        let (before_seed, _) = bytes.split_at_mut(SEED_OFFSET);
        // SAFETY: the VMM maps a boot block, of which this is the first part, at the address it passes in `rdi`.
        before_seed.copy_from_slice(&unsafe { block.cast::<[u8; SEED_OFFSET]>().read_volatile() });
        let info = BootInfo::from_bytes(&bytes)
            .filter(|info| info.abi_version == muscle_abi::ABI_VERSION)
            .map(|info| BootInfo {
                args_len: 0,
                grants_count: 0,
                ..info
            });
        // SAFETY: nothing has read `BLOCK` yet, since this runs first.
        unsafe { *BLOCK.0.get() = Known { at: block, info } }
    }

    fn known() -> &'static Known {
        // SAFETY: no write happens after `read`, which came first.
        unsafe { &*BLOCK.0.get() }
    }

    pub(super) fn info() -> Option<&'static BootInfo> {
        known().info.as_ref()
    }

    /// The block as it is in this life.
    pub(super) fn now() -> Option<BootInfo> {
        let known = known();
        known.info.as_ref()?;
        // SAFETY: there is a block of this size at the address, since `read` read it; the VMM writes it only between two lives.
        let bytes = unsafe { known.at.read_volatile() };
        BootInfo::from_bytes(&bytes)
    }

    pub(super) fn argument_block() -> &'static [u8] {
        now().map_or(&[], |info| bytes(info.args_va, info.args_len))
    }

    pub(super) fn grants() -> Vec<GrantEntry> {
        let Some(info) = now() else { return Vec::new() };
        let table = bytes(info.grants_va, info.grants_count * GRANT_ENTRY_SIZE as u64);
        table
            .as_chunks::<GRANT_ENTRY_SIZE>()
            .0
            .iter()
            .map(GrantEntry::from_bytes)
            .collect()
    }

    /// A region of the boot pages, which are read-only for as long as this life lasts.
    fn bytes(address: u64, len: u64) -> &'static [u8] {
        if len == 0 {
            return &[];
        }
        // SAFETY: the boot block names `len` readable bytes at `address`, which neither side writes after entry.
        unsafe { core::slice::from_raw_parts(pointer(address), size(len)) }
    }
}

//! What depends on the processor: the store that rings a doorbell, device registers, port I/O, the time-stamp
//! counter, and the `mem*` functions.

mod ports;

#[cfg(any(cell, test))]
mod memory;

use core::arch::asm;

pub use ports::{read_port, write_port};

/// Stores 64 bits with one `mov [address], register`, a form that any VMM can decode.
///
/// # Safety
/// `address` is a doorbell register: storing there makes the vCPU exit, and memory may have changed when it
/// returns.
pub(crate) unsafe fn store_doorbell(address: *mut u64, value: u64) {
    // SAFETY: the caller names a mapped doorbell register. Without `nomem` the compiler treats this as reading and
    // writing all memory, so that nothing moves across the exit.
    unsafe {
        asm!("mov qword ptr [{0}], {1}", in(reg) address, in(reg) value, options(nostack, preserves_flags))
    }
}

/// Stores 32 bits in a device register with one plain `mov`.
///
/// # Safety
/// As for [`store_doorbell`], for a register of a virtio-mmio device.
pub(crate) unsafe fn store_register(address: *mut u32, value: u32) {
    // SAFETY: as in `store_doorbell`.
    unsafe {
        asm!("mov dword ptr [{0}], {1:e}", in(reg) address, in(reg) value, options(nostack, preserves_flags))
    }
}

/// Loads 32 bits from a device register with one plain `mov`.
///
/// # Safety
/// As for [`store_register`].
pub(crate) unsafe fn load_register(address: *const u32) -> u32 {
    let value: u32;
    // SAFETY: as in `store_doorbell`.
    unsafe {
        asm!("mov {1:e}, dword ptr [{0}]", in(reg) address, out(reg) value, options(nostack, preserves_flags))
    }
    value
}

/// The time-stamp counter, ordered after all earlier loads.
pub fn time_stamp() -> u64 {
    let (low, high): (u64, u64);
    // SAFETY: `lfence` and `rdtsc` touch no memory. Where the VMM denies the counter this is a fault of the muscle.
    unsafe {
        asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack, preserves_flags))
    }
    low | (high << 32)
}

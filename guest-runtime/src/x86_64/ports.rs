//! Port I/O. In ring 3 the instruction traps; the VMM decodes it and asks the port's device, if it is granted.

use core::arch::asm;

/// Reads `width` bytes (1, 2 or 4; any other is taken as 4) from a port.
pub fn read_port(port: u16, width: u8) -> u32 {
    let value: u32;
    // SAFETY: port I/O touches no memory of the muscle; a port that is not granted ends the cell with a fault.
    unsafe {
        match width {
            1 => asm!("xor eax, eax", "in al, dx", in("dx") port, out("eax") value, options(nostack)),
            2 => asm!("xor eax, eax", "in ax, dx", in("dx") port, out("eax") value, options(nostack)),
            _ => asm!("in eax, dx", in("dx") port, out("eax") value, options(nostack)),
        }
    }
    value
}

/// Writes the low `width` bytes (1, 2 or 4; any other is taken as 4) of `value` to a port.
pub fn write_port(port: u16, width: u8, value: u32) {
    // SAFETY: as in `read_port`.
    unsafe {
        match width {
            1 => asm!("out dx, al", in("dx") port, in("eax") value, options(nostack)),
            2 => asm!("out dx, ax", in("dx") port, in("eax") value, options(nostack)),
            _ => asm!("out dx, eax", in("dx") port, in("eax") value, options(nostack)),
        }
    }
}

//! Port I/O. In ring 3 the instruction traps; the VMM decodes it and asks the port's device, if it is granted.

use core::arch::asm;

/// Reads a byte from a port.
pub fn read_port(port: u16) -> u8 {
    let value: u8;
    // SAFETY: port I/O touches no memory of the muscle; a port that is not granted ends the cell with a fault.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nostack)) }
    value
}

/// Writes a byte to a port.
pub fn write_port(port: u16, value: u8) {
    // SAFETY: as in `read_port`.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nostack)) }
}

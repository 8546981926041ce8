//! Decoding of the `in` or `out` that faulted in ring 3.
//!
//! User-mode port I/O always traps (the task state has no I/O map), so a granted port is served here: the
//! VMM decodes the instruction, asks the device, sets the result and goes on behind it. String forms (`ins`, `outs`) are
//! never granted. (AMD64 Architecture Programmer's Manual, volume 3: IN, OUT; opcodes E4–E7, EC–EF.)

use referee_hv::Registers;

/// One port access that a muscle tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortAccess {
    /// First port.
    pub port: u16,
    /// Bytes at once: 1, 2 or 4.
    pub width: u8,
    /// Whether it writes.
    pub write: bool,
    /// Bytes of the instruction.
    pub length: u8,
}

impl PortAccess {
    /// Decodes the instruction at the front of `code`, which holds up to 15 bytes.
    pub fn decode(code: &[u8], registers: &Registers) -> Option<PortAccess> {
        let (prefix, code) = match code {
            [0x66, rest @ ..] => (1u8, rest),
            _ => (0, code),
        };
        let wide = if prefix == 1 { 2 } else { 4 };
        let dx = u16::from_le_bytes([registers.rdx.to_le_bytes()[0], registers.rdx.to_le_bytes()[1]]);
        let (port, width, write, length) = match *code {
            [0xe4, port, ..] => (u16::from(port), 1, false, 2),
            [0xe5, port, ..] => (u16::from(port), wide, false, 2),
            [0xe6, port, ..] => (u16::from(port), 1, true, 2),
            [0xe7, port, ..] => (u16::from(port), wide, true, 2),
            [0xec, ..] => (dx, 1, false, 1),
            [0xed, ..] => (dx, wide, false, 1),
            [0xee, ..] => (dx, 1, true, 1),
            [0xef, ..] => (dx, wide, true, 1),
            _ => return None,
        };
        Some(PortAccess {
            port,
            width,
            write,
            length: length + prefix,
        })
    }

    /// The bytes that a write puts on the port, from `rax`.
    pub fn written(&self, registers: &Registers) -> u32 {
        let eax = low_half(registers.rax);
        match self.width {
            1 => eax & 0xff,
            2 => eax & 0xffff,
            _ => eax,
        }
    }

    /// `rax` after a read that gave `value`: 8- and 16-bit reads keep the upper bits, 32-bit ones clear them.
    pub fn merge_read(&self, rax: u64, value: u32) -> u64 {
        match self.width {
            1 => (rax & !0xff) | u64::from(value & 0xff),
            2 => (rax & !0xffff) | u64::from(value & 0xffff),
            _ => u64::from(value),
        }
    }
}

fn low_half(value: u64) -> u32 {
    u32::try_from(value & 0xffff_ffff).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(rax: u64, rdx: u64) -> Registers {
        Registers {
            rax,
            rdx,
            ..Registers::default()
        }
    }

    #[test]
    fn decodes_every_form() {
        let regs = registers(0, 0xffff_03f8);
        let access = |port, width, write, length| {
            Some(PortAccess {
                port,
                width,
                write,
                length,
            })
        };
        assert_eq!(
            PortAccess::decode(&[0xe4, 0x60], &regs),
            access(0x60, 1, false, 2)
        );
        assert_eq!(
            PortAccess::decode(&[0x66, 0xe5, 0x60], &regs),
            access(0x60, 2, false, 3)
        );
        assert_eq!(PortAccess::decode(&[0xe7, 0x80], &regs), access(0x80, 4, true, 2));
        assert_eq!(PortAccess::decode(&[0xee], &regs), access(0x3f8, 1, true, 1));
        assert_eq!(
            PortAccess::decode(&[0x66, 0xef], &regs),
            access(0x3f8, 2, true, 2)
        );
        assert_eq!(PortAccess::decode(&[0x6c], &regs), None, "ins is never granted");
        assert_eq!(PortAccess::decode(&[0xf3, 0x6e], &regs), None);
        assert_eq!(
            PortAccess::decode(&[0xe4], &regs),
            None,
            "cut off at the end of the code"
        );
        assert_eq!(PortAccess::decode(&[], &regs), None);
    }

    #[test]
    fn reads_keep_what_the_processor_keeps() {
        let one = PortAccess {
            port: 1,
            width: 1,
            write: false,
            length: 1,
        };
        assert_eq!(
            one.merge_read(0x1122_3344_5566_7788, 0xabcd),
            0x1122_3344_5566_77cd
        );
        assert_eq!(PortAccess { width: 4, ..one }.merge_read(u64::MAX, 5), 5);
        assert_eq!(
            PortAccess {
                width: 2,
                write: true,
                ..one
            }
            .written(&registers(0xdead_beef, 0)),
            0xbeef
        );
    }
}

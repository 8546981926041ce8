//! The supervisor's three pages: descriptor tables, trap stubs, trap stack.
//!
//! ```text
//!   offset   what                                                  ring 0 may
//!   0x0000   GDT (56 bytes) · TSS at 0x80 · IDT at 0x200            read
//!   0x1000   trap stubs, 8 bytes a vector                           execute
//!   0x2000   trap stack, grows down from 0x3000                     write
//! ```
//! All are supervisor pages: ring 3 reaches none. The processor pushes a trap frame onto the trap stack
//! and enters the vector's stub, which is one `out`, after which the VMM knows everything; ring 0 never runs another
//! instruction. Accessed and busy bits are set in advance, because the processor could not write them.

use muscle_abi::vector;

use crate::error::HvError;

/// Bytes of the supervisor's pages, a multiple of the page size.
pub const SYSTEM_PAGES_SIZE: u64 = 0x3000;
/// Offset of the descriptor tables.
pub const TABLES_OFFSET: u64 = 0x0000;
/// Offset of the trap stubs.
pub const STUBS_OFFSET: u64 = 0x1000;
/// Offset of the trap stack's page.
pub const TRAP_STACK_OFFSET: u64 = 0x2000;
/// First port of the stubs: vector `n` writes to port `TRAP_PORT + n`.
pub const TRAP_PORT: u16 = 0xc0;

pub(crate) const SELECTOR_KERNEL_CODE: u16 = 0x08;
pub(crate) const SELECTOR_USER_DATA: u16 = 0x18 | 3;
pub(crate) const SELECTOR_USER_CODE: u16 = 0x20 | 3;
pub(crate) const SELECTOR_TSS: u16 = 0x28;
pub(crate) const GDT_LIMIT: u16 = 7 * 8 - 1;
pub(crate) const IDT_LIMIT: u16 = vector::COUNT as u16 * 16 - 1;
pub(crate) const TSS_LIMIT: u32 = 103;
const TSS_OFFSET: u64 = 0x80;
const IDT_OFFSET: u64 = 0x200;
const STUB_SIZE: usize = 8;

/// Virtual addresses of the processor's structures.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemAddresses {
    /// Global descriptor table.
    pub gdt: u64,
    /// Interrupt descriptor table.
    pub idt: u64,
    /// Task state segment.
    pub task_state: u64,
}

/// Where the three pages are mapped; each has unmapped pages around it.
#[derive(Debug, Clone, Copy)]
pub struct SystemPages {
    /// Descriptor tables.
    pub tables_va: u64,
    /// Trap stubs.
    pub stubs_va: u64,
    /// Trap stack.
    pub trap_stack_va: u64,
}

impl SystemPages {
    /// What the processor's registers point at.
    pub fn addresses(&self) -> SystemAddresses {
        SystemAddresses {
            gdt: self.tables_va,
            idt: self.tables_va + IDT_OFFSET,
            task_state: self.tables_va + TSS_OFFSET,
        }
    }

    /// The bytes of all three pages.
    ///
    /// # Errors
    /// [`HvError::Layout`] when something does not fit, which no caller can bring about.
    pub fn to_bytes(&self) -> Result<Vec<u8>, HvError> {
        let mut bytes = vec![0u8; 0x3000];
        let tss = self.tables_va + TSS_OFFSET;
        let tss_low = TSS_LIMIT as u64
            | ((tss & 0x00ff_ffff) << 16)
            | (0x8b << 40) // present, ring 0, busy 64-bit TSS
            | ((tss & 0xff00_0000) << 32);
        let descriptors = [
            0,
            0x00af_9b00_0000_ffff, // ring-0 code, 64-bit, accessed
            0x00cf_9300_0000_ffff, // ring-0 data, accessed
            0x00cf_f300_0000_ffff, // ring-3 data, accessed
            0x00af_fb00_0000_ffff, // ring-3 code, 64-bit, accessed
            tss_low,
            tss >> 32,
        ];
        for (index, descriptor) in descriptors.iter().enumerate() {
            put(&mut bytes, index * 8, &descriptor.to_le_bytes())?;
        }
        // RSP0 at offset 4; an I/O map base beyond the limit denies every port (§12.2.5).
        let rsp0 = self.trap_stack_va + 0x1000;
        put(&mut bytes, 0x80 + 4, &rsp0.to_le_bytes())?;
        put(&mut bytes, 0x80 + 102, &104u16.to_le_bytes())?;
        for vector in 0..vector::COUNT {
            let stub = usize::from(vector) * STUB_SIZE;
            let handler = self.stubs_va + stub as u64;
            // Interrupt gate, present; only `int3` may be raised by an instruction of ring 3.
            let kind: u64 = if vector == 3 { 0xee } else { 0x8e };
            let low = (handler & 0xffff)
                | (u64::from(SELECTOR_KERNEL_CODE) << 16)
                | (kind << 40)
                | ((handler & 0xffff_0000) << 32);
            put(&mut bytes, 0x200 + usize::from(vector) * 16, &low.to_le_bytes())?;
            put(
                &mut bytes,
                0x208 + usize::from(vector) * 16,
                &(handler >> 32).to_le_bytes(),
            )?;
            // out imm8, al; then ud2, never reached.
            let port = TRAP_PORT.to_le_bytes()[0] + vector;
            put(
                &mut bytes,
                0x1000 + stub,
                &[0xe6, port, 0x0f, 0x0b, 0x0f, 0x0b, 0x0f, 0x0b],
            )?;
        }
        Ok(bytes)
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) -> Result<(), HvError> {
    let target = bytes
        .get_mut(at..at + value.len())
        .ok_or(HvError::Layout("system pages too small"))?;
    target.copy_from_slice(value);
    Ok(())
}

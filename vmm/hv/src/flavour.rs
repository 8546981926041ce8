//! What differs between kinds of KVM, in one place.
//!
//! | what a guest's ring 3 does | KVM on VT-x or SVM with nested paging | KVM-PVM (no nested paging) |
//! |---|---|---|
//! | `syscall` | `#UD`, because `EFER.SCE` is clear | jumps to `LSTAR`, which is 0, and stays in ring 3: `#PF` at 0 |
//! | `in`, `out` | `#GP`, because IOPL is 0 and the TSS has no map | `#GP` |
//! | `rdtsc` under `CR4.TSD` | `#GP` | runs |
//! | AVX-512, AMX beyond `XCR0` | `#UD` | runs where the processor has it |
//!
//! Nothing in a cell's safety rests on the rows that differ; reports use [`syscall_return_address`] so that
//! the same misdeed has the same name everywhere. `doctor` probes each row on the host at hand.

use crate::vcpu::Registers;

/// Where a `syscall` that jumped to address 0 would return to: `rcx`, when the registers look like one.
///
/// `syscall` saves the next instruction's address in `rcx` and the flags in `r11` (AMD64 Architecture
/// Programmer's Manual, volume 3, SYSCALL). The caller looks for the opcode `0f 05` just before it.
pub fn syscall_return_address(registers: &Registers) -> Option<u64> {
    (registers.rip == 0).then_some(registers.rcx)
}

/// The opcode of `syscall`.
pub const SYSCALL_OPCODE: [u8; 2] = [0x0f, 0x05];

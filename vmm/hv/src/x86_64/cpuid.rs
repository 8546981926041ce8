//! The small CPUID table of a cell, and what of the processor it may use.
//!
//! Only leaves that KVM itself consults (for CR4, EFER and XCR0 bits) or that portable code asks for are kept: the
//! fewer leaves, the cheaper a start, and the less a muscle learns about the host.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};

use crate::error::HvError;

/// Features that decide how a cell is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Features {
    /// Supervisor-mode execution prevention.
    pub smep: bool,
    /// Supervisor-mode access prevention.
    pub smap: bool,
    /// User-mode instruction prevention.
    pub umip: bool,
    /// Vector state that cells may use: bits of XCR0, 0 without XSAVE.
    pub xcr0: u64,
    /// Whether ring 3 can load all vector state by itself, whatever it may use: found out by [`crate::Kvm::probe_resume`].
    pub resumes: bool,
}

const LEAF_1_XSAVE: u32 = 1 << 26;
const LEAF_1_OSXSAVE: u32 = 1 << 27;
const LEAF_1_X2APIC: u32 = 1 << 21;
const LEAF_1_TSC_DEADLINE: u32 = 1 << 24;
const LEAF_1_HYPERVISOR: u32 = 1 << 31;
const LEAF_7_SMEP: u32 = 1 << 7;
const LEAF_7_FSGSBASE: u32 = 1 << 0;
const LEAF_7_SMAP: u32 = 1 << 20;
const LEAF_7_UMIP: u32 = 1 << 2;
const LEAF_7_PKU_OSPKE: u32 = (1 << 3) | (1 << 4);
/// x87, SSE, AVX and the three AVX-512 states; not PKRU, not AMX.
pub(crate) const XCR0_WANTED: u64 = 0b1110_0111;

/// Picks the leaves a cell needs out of what KVM supports.
///
/// # Errors
/// [`HvError::MissingCapability`] when the processor has no long mode, no NX, or too many leaves.
pub fn small_table(supported: &CpuId) -> Result<(CpuId, Features), HvError> {
    let find = |function: u32, index: u32| {
        supported
            .as_slice()
            .iter()
            .find(|entry| entry.function == function && entry.index == index)
            .copied()
    };
    let zero = |function: u32| kvm_cpuid_entry2 {
        function,
        ..kvm_cpuid_entry2::default()
    };
    let mut one = find(1, 0).unwrap_or(zero(1));
    let mut seven = find(7, 0).unwrap_or(zero(7));
    let extended = find(0x8000_0001, 0).unwrap_or(zero(0x8000_0001));
    if extended.edx & (1 << 29) == 0 || extended.edx & (1 << 20) == 0 {
        return Err(HvError::MissingCapability("long mode with no-execute pages"));
    }
    one.ecx &= !(LEAF_1_X2APIC | LEAF_1_TSC_DEADLINE | LEAF_1_OSXSAVE);
    one.ecx |= LEAF_1_HYPERVISOR;
    one.ebx &= 0x0000_ffff;
    seven.eax = 0;
    seven.ebx &= !LEAF_7_FSGSBASE;
    seven.ecx &= !LEAF_7_PKU_OSPKE;

    let xsave = find(0xd, 0).filter(|_| one.ecx & LEAF_1_XSAVE != 0);
    let offered = xsave.map_or(0, |leaf| u64::from(leaf.eax) | (u64::from(leaf.edx) << 32));
    let mut xcr0 = offered & XCR0_WANTED;
    if xcr0 & 0b1110_0000 != 0b1110_0000 {
        xcr0 &= 0b111;
    }
    if xcr0 & 0b11 != 0b11 {
        xcr0 = 0;
        one.ecx &= !LEAF_1_XSAVE;
    }
    let features = Features {
        smep: seven.ebx & LEAF_7_SMEP != 0,
        smap: seven.ebx & LEAF_7_SMAP != 0,
        umip: seven.ecx & LEAF_7_UMIP != 0,
        xcr0,
        resumes: false,
    };
    let mut leaf_0 = find(0, 0).unwrap_or(zero(0));
    leaf_0.eax = 0xd;
    let mut leaf_extended = find(0x8000_0000, 0).unwrap_or(zero(0x8000_0000));
    leaf_extended.eax = 0x8000_0008;
    let mut table = vec![leaf_0, one, seven, leaf_extended, extended];
    table.extend(find(0x8000_0008, 0));
    if xcr0 != 0 {
        table.extend(
            (0..=9)
                .filter(|index| *index != 8 && *index != 3 && *index != 4)
                .filter_map(|index| find(0xd, index)),
        );
    }
    let table =
        CpuId::from_entries(&table).map_err(|_| HvError::MissingCapability("a CPUID table this small"))?;
    Ok((table, features))
}

//! The register state in which a cell is entered: 64-bit long mode, ring 3.

use kvm_bindings::{kvm_segment, kvm_sregs};

use super::cpuid::Features;
use super::system::{SELECTOR_TSS, SELECTOR_USER_CODE, SELECTOR_USER_DATA, SystemAddresses};

/// Where a muscle is entered, and with which system structures under it.
#[derive(Debug, Clone, Copy)]
pub struct EntryState {
    /// First instruction, virtual.
    pub entry: u64,
    /// Initial stack pointer, virtual.
    pub stack_pointer: u64,
    /// Goes into `rdi`.
    pub argument: u64,
    /// Guest-physical address of the top page table.
    pub page_table_root: u64,
    /// Whether ring 3 may read the time-stamp counter, as far as this host enforces it.
    pub allow_tsc: bool,
    /// Descriptor tables and task state, virtual.
    pub system: SystemAddresses,
}

// Bits of control registers (AMD64 Architecture Programmer's Manual, volume 2, §3.1).
const CR0: u64 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_PG;
const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_ET: u64 = 1 << 4;
const CR0_NE: u64 = 1 << 5;
const CR0_WP: u64 = 1 << 16;
const CR0_AM: u64 = 1 << 18;
const CR0_PG: u64 = 1 << 31;
const CR4_TSD: u64 = 1 << 2;
const CR4_PAE: u64 = 1 << 5;
const CR4_OSFXSR: u64 = 1 << 9;
const CR4_OSXMMEXCPT: u64 = 1 << 10;
const CR4_UMIP: u64 = 1 << 11;
const CR4_OSXSAVE: u64 = 1 << 18;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;

/// System registers for ring 3, on top of what the vCPU had when it was made.
pub(crate) fn user_sregs(reset: &kvm_sregs, state: &EntryState, features: Features) -> kvm_sregs {
    let mut sregs = *reset;
    let data = segment(SELECTOR_USER_DATA, 0x3, 3);
    sregs.cs = kvm_segment {
        l: 1,
        db: 0,
        ..segment(SELECTOR_USER_CODE, 0xb, 3)
    };
    sregs.ss = data;
    sregs.ds = data;
    sregs.es = data;
    sregs.fs = data;
    sregs.gs = data;
    sregs.tr = kvm_segment {
        base: state.system.task_state,
        limit: super::system::TSS_LIMIT,
        selector: SELECTOR_TSS,
        type_: 0xb,
        present: 1,
        ..kvm_segment::default()
    };
    sregs.ldt = kvm_segment {
        unusable: 1,
        ..kvm_segment::default()
    };
    sregs.gdt.base = state.system.gdt;
    sregs.gdt.limit = super::system::GDT_LIMIT;
    sregs.idt.base = state.system.idt;
    sregs.idt.limit = super::system::IDT_LIMIT;
    sregs.cr0 = CR0;
    sregs.cr2 = 0;
    sregs.cr3 = state.page_table_root;
    sregs.cr4 = CR4_PAE
        | CR4_OSFXSR
        | CR4_OSXMMEXCPT
        | if state.allow_tsc { 0 } else { CR4_TSD }
        | if features.umip { CR4_UMIP } else { 0 }
        | if features.smep { CR4_SMEP } else { 0 }
        | if features.smap { CR4_SMAP } else { 0 }
        | if features.xcr0 != 0 { CR4_OSXSAVE } else { 0 };
    sregs.efer = EFER_LME | EFER_LMA | EFER_NXE;
    sregs
}

/// Whether ring 3's segments are those that it was entered with: a muscle that loaded others, or set a base, is told apart.
pub(crate) fn has_entry_segments(sregs: &kvm_sregs) -> bool {
    let is = |segment: &kvm_segment, selector| segment.selector == selector && segment.base == 0;
    is(&sregs.cs, SELECTOR_USER_CODE)
        && [&sregs.ss, &sregs.ds, &sregs.es, &sregs.fs, &sregs.gs]
            .into_iter()
            .all(|segment| is(segment, SELECTOR_USER_DATA))
}

fn segment(selector: u16, type_: u8, dpl: u8) -> kvm_segment {
    kvm_segment {
        base: 0,
        limit: 0xffff_ffff,
        selector,
        type_,
        present: 1,
        dpl,
        db: 1,
        s: 1,
        g: 1,
        ..kvm_segment::default()
    }
}

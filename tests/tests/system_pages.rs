//! Ring 3 against the supervisor's own pages, whose addresses a muscle is not told and cannot find out: here the tests
//! know them. Descriptor tables, task state, trap stubs, trap stack, the guards between them, and the page tables.

use referee_hv::probe::{BELL, BELL_VA, CODE_VA, DATA_VA, FirstStop, SYSTEM, SYSTEM_VA, TinyGuest};
use referee_hv::x86_64::system::{SYSTEM_PAGES_SIZE, SystemPages};
use referee_hv::{Exit, Kvm};

const STUBS_VA: u64 = SYSTEM_VA + 0x2000;
const TRAP_STACK_VA: u64 = SYSTEM_VA + 0x4000;

/// What can be aimed at: a name, an address, and whether something is mapped there.
fn targets() -> Vec<(&'static str, u64, bool)> {
    let pages = SystemPages {
        tables_va: SYSTEM_VA,
        stubs_va: STUBS_VA,
        trap_stack_va: TRAP_STACK_VA,
    };
    let addresses = pages.addresses();
    vec![
        ("GDT", addresses.gdt, true),
        ("ring-0 code descriptor", addresses.gdt + 8, true),
        ("TSS", addresses.task_state, true),
        ("RSP0", addresses.task_state + 4, true),
        ("IDT", addresses.idt, true),
        ("page-fault gate", addresses.idt + 14 * 16, true),
        ("last gate", addresses.idt + 31 * 16 + 8, true),
        ("first stub", STUBS_VA, true),
        ("page-fault stub", STUBS_VA + 14 * 8, true),
        ("last stub", STUBS_VA + 31 * 8, true),
        ("trap stack", TRAP_STACK_VA + 0x1000 - 48, true),
        ("trap stack's bottom", TRAP_STACK_VA, true),
        ("below the tables", SYSTEM_VA - 8, false),
        ("between tables and stubs", SYSTEM_VA + 0x1000, false),
        ("between stubs and trap stack", STUBS_VA + 0x1000, false),
        ("above the trap stack", TRAP_STACK_VA + 0x1000, false),
    ]
}

fn kvm() -> Kvm {
    Kvm::open().expect("these tests need /dev/kvm")
}

/// `mov rax, address`, then `rest`.
fn aim(address: u64, rest: &[u8]) -> Vec<u8> {
    let mut code = vec![0x48, 0xb8];
    code.extend(address.to_le_bytes());
    code.extend(rest);
    code
}

fn assert_page_fault(what: &str, code: &[u8], address: u64, rip: u64, error_code: u64) {
    let mut guest = TinyGuest::new(&kvm(), code).expect("makes a guest");
    let FirstStop::Trap(trap, at) = guest.first_stop().expect("runs") else {
        panic!("{what}: no trap")
    };
    assert_eq!(
        (trap.vector, trap.error_code, at, trap.rip, trap.cs & 3),
        (14, Some(error_code), address, rip, 3),
        "{what}"
    );
}

#[test]
fn ring_3_cannot_read_them() {
    for (what, address, mapped) in targets() {
        let code = aim(address, &[0x48, 0x8b, 0x18]); // mov rbx, [rax]
        assert_page_fault(what, &code, address, CODE_VA + 10, 4 | u64::from(mapped));
    }
}

#[test]
fn ring_3_cannot_write_them() {
    for (what, address, mapped) in targets() {
        let code = aim(address, &[0x48, 0x89, 0x18]); // mov [rax], rbx
        assert_page_fault(what, &code, address, CODE_VA + 10, 6 | u64::from(mapped));
    }
}

#[test]
fn ring_3_cannot_execute_them() {
    for (what, address, mapped) in targets() {
        let code = aim(address, &[0xff, 0xe0]); // jmp rax
        assert_page_fault(what, &code, address, address, 0x14 | u64::from(mapped));
    }
}

#[test]
fn ring_3_cannot_have_them_as_its_stack() {
    for (what, address, mapped) in targets() {
        // mov rsp, rax; push rax; the push stores 8 bytes lower
        let code = aim(address + 8, &[0x48, 0x89, 0xc4, 0x50]);
        assert_page_fault(what, &code, address, CODE_VA + 13, 6 | u64::from(mapped));
    }
}

#[test]
fn a_fault_with_the_stack_pointer_in_them_changes_nothing_there() {
    for (what, address, _) in targets().into_iter().filter(|(_, _, mapped)| *mapped) {
        let code = aim(address, &[0x48, 0x89, 0xc4, 0x0f, 0x0b]); // mov rsp, rax; ud2
        let mut guest = TinyGuest::new(&kvm(), &code).expect("makes a guest");
        let before = read_system(&guest, 0x2000);
        let FirstStop::Trap(trap, _) = guest.first_stop().expect("runs") else {
            panic!("{what}: no trap")
        };
        assert_eq!((trap.vector, trap.rsp, trap.cs & 3), (6, address, 3), "{what}");
        assert_eq!(
            before,
            read_system(&guest, 0x2000),
            "{what}: tables and stubs are as they were"
        );
    }
}

#[test]
fn page_tables_are_mapped_nowhere() {
    let guest = TinyGuest::new(&kvm(), &[0x0f, 0x0b]).expect("makes a guest");
    let root = SYSTEM + SYSTEM_PAGES_SIZE;
    let mut tables = vec![root];
    let mut leaves = Vec::new();
    walk(&guest, root, 3, &mut tables, &mut leaves);
    assert_eq!(leaves.len(), 7, "the seven pages of a tiny guest");
    for (gpa, length) in leaves {
        for table in &tables {
            assert!(
                table + 0x1000 <= gpa || gpa + length <= *table,
                "table {table:#x} is mapped by a page at {gpa:#x}"
            );
        }
    }
}

#[test]
fn nothing_is_writable_and_executable_and_nothing_of_ring_0_is_ring_3s() {
    let guest = TinyGuest::new(&kvm(), &[0x0f, 0x0b]).expect("makes a guest");
    let mut entries = Vec::new();
    leaf_entries(&guest, SYSTEM + SYSTEM_PAGES_SIZE, 3, &mut entries);
    for entry in entries {
        let (writable, user, executable) = (entry & 2 != 0, entry & 4 != 0, entry >> 63 == 0);
        assert!(!(writable && executable), "{entry:#x}");
        let system = (SYSTEM..SYSTEM + SYSTEM_PAGES_SIZE).contains(&(entry & ADDRESS));
        assert_eq!(user, !system, "{entry:#x}");
    }
}

#[test]
fn a_second_guest_does_not_see_the_first() {
    // mov [rdi+8], rbx would be a doorbell; first: mov rax, DATA_VA; mov [rax+64], rax; mov [rdi+8], rax
    let write = aim(DATA_VA, &[0x48, 0x89, 0x40, 0x40, 0x48, 0x89, 0x47, 0x08]);
    // mov rax, DATA_VA; mov rax, [rax+64]; mov [rdi+8], rax
    let read = aim(DATA_VA, &[0x48, 0x8b, 0x40, 0x40, 0x48, 0x89, 0x47, 0x08]);
    let kvm = kvm();
    let mut first = TinyGuest::new(&kvm, &write).expect("makes a guest");
    let mut second = TinyGuest::new(&kvm, &read).expect("makes a guest");
    assert_eq!(
        first.first_stop().expect("runs"),
        FirstStop::Store(BELL + 8, DATA_VA)
    );
    assert_eq!(second.first_stop().expect("runs"), FirstStop::Store(BELL + 8, 0));
}

#[test]
fn a_guest_that_is_gone_takes_the_other_ones_memory_with_it_never() {
    let kvm = kvm();
    let code = [0x48, 0x89, 0x7f, 0x08, 0xeb, 0xfa]; // 1: mov [rdi+8], rdi; jmp 1b
    let mut lasting = TinyGuest::new(&kvm, &code).expect("makes a guest");
    for _ in 0..20 {
        let mut passing = TinyGuest::new(&kvm, &code).expect("makes a guest");
        assert_eq!(
            passing.first_stop().expect("runs"),
            FirstStop::Store(BELL + 8, BELL_VA)
        );
        drop(passing);
        assert_eq!(
            lasting.first_stop().expect("runs"),
            FirstStop::Store(BELL + 8, BELL_VA)
        );
    }
}

#[test]
fn a_thousand_guests_leave_no_descriptor_and_no_mapping() {
    let kvm = kvm();
    let run = || {
        let mut guest = TinyGuest::new(&kvm, &[0x0f, 0x0b]).expect("makes a guest");
        assert!(!matches!(guest.vcpu.run().expect("runs"), Exit::Interrupted));
    };
    (0..50).for_each(|_| run());
    let before = (descriptors(), mappings());
    (0..1000).for_each(|_| run());
    let after = (descriptors(), mappings());
    assert!(
        after.0 <= before.0 + SLACK,
        "descriptors: {} before, {} after",
        before.0,
        after.0
    );
    assert!(
        after.1 <= before.1 + SLACK,
        "mappings: {} before, {} after",
        before.1,
        after.1
    );
}

/// Other tests of this program run beside, each with a few guests.
const SLACK: usize = 100;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("is there").count()
}

fn mappings() -> usize {
    std::fs::read_to_string("/proc/self/maps")
        .expect("is there")
        .lines()
        .count()
}

fn read_system(guest: &TinyGuest, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    guest.vm.read(SYSTEM, &mut bytes).expect("is memory");
    bytes
}

fn entries_of(guest: &TinyGuest, table: u64) -> Vec<u64> {
    let mut bytes = vec![0; 0x1000];
    guest.vm.read(table, &mut bytes).expect("tables are memory");
    bytes
        .chunks_exact(8)
        .map(|entry| u64::from_le_bytes(entry.try_into().expect("has 8 bytes")))
        .collect()
}

/// Collects all tables below one, and all pages that they map.
fn walk(guest: &TinyGuest, table: u64, level: u32, tables: &mut Vec<u64>, leaves: &mut Vec<(u64, u64)>) {
    for entry in entries_of(guest, table)
        .into_iter()
        .filter(|entry| entry & 1 != 0)
    {
        let at = entry & ADDRESS;
        if level == 0 || entry & 0x80 != 0 {
            leaves.push((at, 0x1000 << (9 * level)));
        } else {
            tables.push(at);
            walk(guest, at, level - 1, tables, leaves);
        }
    }
}

fn leaf_entries(guest: &TinyGuest, table: u64, level: u32, leaves: &mut Vec<u64>) {
    for entry in entries_of(guest, table)
        .into_iter()
        .filter(|entry| entry & 1 != 0)
    {
        if level == 0 || entry & 0x80 != 0 {
            leaves.push(entry);
        } else {
            leaf_entries(guest, entry & ADDRESS, level - 1, leaves);
        }
    }
}

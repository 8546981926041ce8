//! A guest of a few bytes in ring 3: entered, stopped by a doorbell, by a trap, by a timer.

use std::time::Duration;

use referee_hv::x86_64::paging::{Access, PageTables};
use referee_hv::x86_64::registers::EntryState;
use referee_hv::x86_64::system::{
    STUBS_OFFSET, SYSTEM_PAGES_SIZE, SystemPages, TABLES_OFFSET, TRAP_STACK_OFFSET,
};
use referee_hv::x86_64::trap::Trap;
use referee_hv::{Alarm, AlarmClock, Exit, Kvm, Vcpu, Vm};

const SYSTEM: u64 = 0x10_0000;
const CODE: u64 = 0x1000_0000;
const CODE_VA: u64 = 0x5555_0000_0000;
const BELL: u64 = 0x3f00_0000;
const BELL_VA: u64 = 0x6000_0000_0000;

fn machine(code: &[u8]) -> (Vm, Vcpu) {
    let kvm = Kvm::open().expect("this test needs /dev/kvm");
    let mut vm = kvm.create_vm().expect("creates a VM");
    let high = 0xffff_9000_0000_0000;
    let pages = SystemPages {
        tables_va: high,
        stubs_va: high + 0x2000,
        trap_stack_va: high + 0x4000,
    };
    let mut tables = PageTables::new(SYSTEM + SYSTEM_PAGES_SIZE);
    tables
        .map(
            pages.tables_va,
            SYSTEM + TABLES_OFFSET,
            0x1000,
            Access::SystemRead,
        )
        .expect("maps");
    tables
        .map(
            pages.stubs_va,
            SYSTEM + STUBS_OFFSET,
            0x1000,
            Access::SystemExecute,
        )
        .expect("maps");
    tables
        .map(
            pages.trap_stack_va,
            SYSTEM + TRAP_STACK_OFFSET,
            0x1000,
            Access::SystemReadWrite,
        )
        .expect("maps");
    tables
        .map(CODE_VA, CODE, 0x1000, Access::ReadExecute)
        .expect("maps");
    tables
        .map(BELL_VA, BELL, 0x1000, Access::ReadWrite)
        .expect("maps");
    let mut system = pages.to_bytes().expect("fits");
    system.extend(tables.to_bytes());
    vm.add_memory(SYSTEM, system.len() as u64).expect("adds memory");
    vm.write(SYSTEM, &system).expect("writes");
    vm.add_memory(CODE, 0x1000).expect("adds memory");
    vm.write(CODE, code).expect("writes");
    let mut vcpu = vm.create_vcpu(&kvm).expect("creates a vCPU");
    vcpu.enter_at(&EntryState {
        entry: CODE_VA,
        stack_pointer: 0,
        argument: BELL_VA,
        page_table_root: tables.root(),
        allow_tsc: false,
        system: pages.addresses(),
    });
    (vm, vcpu)
}

#[test]
fn doorbell_store_exits_with_address_and_value() {
    // mov rax, 0x1122334455667788; mov [rdi+8], rax; mov [rdi+16], rdi
    let code = [
        0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x48, 0x89, 0x47, 0x08, 0x48, 0x89, 0x7f,
        0x10,
    ];
    let (_vm, mut vcpu) = machine(&code);
    match vcpu.run().expect("runs") {
        Exit::MmioWrite { address, data } => {
            assert_eq!(address, BELL + 8);
            assert_eq!(data, 0x1122_3344_5566_7788u64.to_le_bytes());
        }
        other => panic!("unexpected {other:?}"),
    }
    assert!(vcpu.in_user_mode());
    match vcpu.run().expect("runs") {
        Exit::MmioWrite { address, data } => {
            assert_eq!(address, BELL + 16);
            assert_eq!(data, BELL_VA.to_le_bytes());
        }
        other => panic!("unexpected {other:?}"),
    }
}

fn trap_of(code: &[u8]) -> (Trap, Vcpu) {
    let (vm, mut vcpu) = machine(code);
    let port = match vcpu.run().expect("runs") {
        Exit::PortOut { port, length: 1 } => port,
        other => panic!("unexpected {other:?}"),
    };
    let vector = Trap::vector_of_port(port).expect("a stub's port");
    (Trap::read(&vm, SYSTEM, vector).expect("reads"), vcpu)
}

#[test]
fn invalid_opcode_reaches_its_stub_with_the_frame() {
    let (trap, _) = trap_of(&[0x90, 0x0f, 0x0b]);
    assert_eq!(
        (trap.vector, trap.error_code, trap.rip, trap.cs & 3),
        (6, None, CODE_VA + 1, 3)
    );
}

#[test]
fn supervisor_page_is_out_of_reach() {
    // mov rax, 0xffff900000000000; mov rbx, [rax]
    let (trap, vcpu) = trap_of(&[0x48, 0xb8, 0, 0, 0, 0, 0, 0x90, 0xff, 0xff, 0x48, 0x8b, 0x18]);
    assert_eq!((trap.vector, trap.error_code), (14, Some(5)));
    assert_eq!(vcpu.page_fault_address(), 0xffff_9000_0000_0000);
}

#[test]
fn port_io_of_ring_3_is_a_general_protection_fault() {
    // out 0xc3, al: the port of a stub, but from ring 3
    let (trap, _) = trap_of(&[0xe6, 0xc3]);
    assert_eq!((trap.vector, trap.error_code, trap.rip), (13, Some(0), CODE_VA));
}

#[test]
fn spinning_guest_is_stopped_by_either_clock() {
    for clock in [AlarmClock::Wall, AlarmClock::ThreadCpu] {
        let (_vm, mut vcpu) = machine(&[0xeb, 0xfe]);
        let armed = vcpu.kicker().arm().expect("arms");
        let _alarm = Alarm::start(&armed, clock, Duration::from_millis(20)).expect("starts");
        assert!(
            matches!(vcpu.run().expect("runs"), Exit::Interrupted),
            "{clock:?}"
        );
    }
}

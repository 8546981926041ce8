//! What this host's KVM really enforces, found out by running guests of a few bytes.
//!
//! A flag in CPUID or a capability bit is a promise; these are observations. `doctor` prints them, the tests of
//! a KVM flavour check them, and documentation may only promise what holds.

use crate::error::HvError;
use crate::exit::Exit;
use crate::kvm::Kvm;
use crate::vcpu::Vcpu;
use crate::vm::Vm;
use crate::x86_64::paging::{Access, PageTables};
use crate::x86_64::registers::EntryState;
use crate::x86_64::system::{STUBS_OFFSET, SYSTEM_PAGES_SIZE, SystemPages, TABLES_OFFSET, TRAP_STACK_OFFSET};
use crate::x86_64::trap::Trap;

/// Guest-physical address of the system slot.
pub const SYSTEM: u64 = 0x0010_0000;
/// Guest-physical address of the code page.
pub const CODE: u64 = 0x1000_0000;
/// Virtual address of the code page.
pub const CODE_VA: u64 = 0x5555_0000_0000;
/// Guest-physical address of a writable page.
pub const DATA: u64 = 0x1100_0000;
/// Virtual address of the writable page.
pub const DATA_VA: u64 = 0x5556_0000_0000;
/// Guest-physical address of a page in a read-only slot that the page tables call writable.
pub const FROZEN: u64 = 0x1200_0000;
/// Virtual address of that page.
pub const FROZEN_VA: u64 = 0x5557_0000_0000;
/// Guest-physical address with no memory.
pub const BELL: u64 = 0x3f00_0000;
/// Virtual address of that; `rdi` at entry.
pub const BELL_VA: u64 = 0x6000_0000_0000;
/// Virtual address of the descriptor tables.
pub const SYSTEM_VA: u64 = 0xffff_9000_0000_0000;

/// A guest of one code page, one data page and a doorbell.
#[derive(Debug)]
pub struct TinyGuest {
    /// Its machine.
    pub vm: Vm,
    /// Its processor, before the first instruction.
    pub vcpu: Vcpu,
}

/// How a tiny guest stopped first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FirstStop {
    /// An exception, with `CR2`.
    Trap(Trap, u64),
    /// A store without memory behind it: guest-physical address, value of up to 8 bytes.
    Store(u64, u64),
    /// Anything else.
    Else,
}

impl TinyGuest {
    /// Makes one that will run `code`, at most a page of it.
    ///
    /// # Errors
    /// [`HvError`].
    pub fn new(kvm: &Kvm, code: &[u8]) -> Result<TinyGuest, HvError> {
        TinyGuest::with_frozen(kvm, code, |vm| vm.add_read_only_memory(FROZEN, 0x1000))
    }

    /// The same with something else at `FROZEN`, which its tables let it write.
    pub(crate) fn with_frozen(
        kvm: &Kvm,
        code: &[u8],
        add_frozen: impl FnOnce(&mut Vm) -> Result<(), HvError>,
    ) -> Result<TinyGuest, HvError> {
        let mut vm = kvm.create_vm()?;
        let pages = SystemPages {
            tables_va: SYSTEM_VA,
            stubs_va: SYSTEM_VA + 0x2000,
            trap_stack_va: SYSTEM_VA + 0x4000,
        };
        let mut tables = PageTables::new(SYSTEM + SYSTEM_PAGES_SIZE);
        for (va, gpa, access) in [
            (pages.tables_va, SYSTEM + TABLES_OFFSET, Access::SystemRead),
            (pages.stubs_va, SYSTEM + STUBS_OFFSET, Access::SystemExecute),
            (
                pages.trap_stack_va,
                SYSTEM + TRAP_STACK_OFFSET,
                Access::SystemReadWrite,
            ),
            (CODE_VA, CODE, Access::ReadExecute),
            (DATA_VA, DATA, Access::ReadWrite),
            (FROZEN_VA, FROZEN, Access::ReadWrite),
            (BELL_VA, BELL, Access::ReadWrite),
        ] {
            tables.map(va, gpa, 0x1000, access)?;
        }
        let mut system = pages.to_bytes()?;
        system.extend(tables.to_bytes());
        vm.add_memory(SYSTEM, system.len() as u64)?;
        vm.write(SYSTEM, &system)?;
        vm.add_memory(CODE, 0x1000)?;
        vm.write(CODE, code)?;
        vm.add_memory(DATA, 0x1000)?;
        vm.write(DATA, &[0xc3; 16])?;
        add_frozen(&mut vm)?;
        let mut vcpu = vm.create_vcpu(kvm)?;
        vcpu.enter_at(&EntryState {
            entry: CODE_VA,
            stack_pointer: DATA_VA + 0x1000,
            argument: BELL_VA,
            page_table_root: tables.root(),
            allow_tsc: false,
            system: pages.addresses(),
        });
        Ok(TinyGuest { vm, vcpu })
    }

    /// Runs it to its first stop.
    ///
    /// # Errors
    /// [`HvError`].
    pub fn first_stop(&mut self) -> Result<FirstStop, HvError> {
        let vector = match self.vcpu.run()? {
            Exit::MmioWrite { address, data } => {
                let mut value = [0u8; 8];
                value.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
                return Ok(FirstStop::Store(address, u64::from_le_bytes(value)));
            }
            Exit::PortOut { port, .. } => Trap::vector_of_port(port),
            _ => None,
        };
        let Some(vector) = vector else {
            return Ok(FirstStop::Else);
        };
        Ok(FirstStop::Trap(
            Trap::read(&self.vm, SYSTEM, vector)?,
            self.vcpu.page_fault_address(),
        ))
    }
}

/// One observation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Observation {
    /// Short name.
    pub name: &'static str,
    /// What holding means.
    pub meaning: &'static str,
    /// Whether a cell's safety rests on it; the others are about what a muscle may learn.
    pub needed: bool,
    /// Whether it holds here.
    pub holds: bool,
}

/// Runs every probe on this host.
///
/// # Errors
/// [`HvError`] when even a tiny guest cannot be made.
pub fn observe(kvm: &Kvm) -> Result<Vec<Observation>, HvError> {
    PROBES
        .iter()
        .map(|probe| {
            let first = TinyGuest::new(kvm, probe.code)?.first_stop()?;
            let Probe {
                name,
                meaning,
                needed,
                ..
            } = *probe;
            Ok(Observation {
                name,
                meaning,
                needed,
                holds: (probe.expected)(first),
            })
        })
        .collect()
}

/// Whether `xrstor64` runs in ring 3 and comes back.
pub(crate) fn loads_vector_state(kvm: &Kvm) -> Result<bool, HvError> {
    // xor eax, eax; xor edx, edx (no component); mov rbx, FROZEN_VA (zeros); xrstor64 [rbx]; mov [rdi+8], rdi
    let code = [
        0x31, 0xc0, 0x31, 0xd2, 0x48, 0xbb, 0, 0, 0, 0, 0x57, 0x55, 0, 0, 0x48, 0x0f, 0xae, 0x2b, 0x48, 0x89,
        0x7f, 0x08,
    ];
    let first = TinyGuest::new(kvm, &code)?.first_stop()?;
    Ok(first == FirstStop::Store(BELL + 8, BELL_VA))
}

struct Probe {
    name: &'static str,
    meaning: &'static str,
    needed: bool,
    code: &'static [u8],
    expected: fn(FirstStop) -> bool,
}

fn traps(stop: FirstStop, vector: u8, error_code: Option<u64>) -> bool {
    matches!(stop, FirstStop::Trap(trap, _) if trap.vector == vector && trap.error_code == error_code && trap.cs & 3 == 3)
}

const PROBES: &[Probe] = &[
    Probe {
        name: "doorbell",
        meaning: "a store without memory behind it exits with its address and value",
        needed: true,
        // mov [rdi+8], rdi
        code: &[0x48, 0x89, 0x7f, 0x08],
        expected: |stop| stop == FirstStop::Store(BELL + 8, BELL_VA),
    },
    Probe {
        name: "no-execute",
        meaning: "data cannot be executed",
        needed: true,
        // mov rax, DATA_VA; jmp rax
        code: &[0x48, 0xb8, 0, 0, 0, 0, 0x56, 0x55, 0, 0, 0xff, 0xe0],
        expected: |stop| traps(stop, 14, Some(0x15)),
    },
    Probe {
        name: "read-only-page",
        meaning: "code cannot be written",
        needed: true,
        // mov rax, CODE_VA; mov [rax], rax
        code: &[0x48, 0xb8, 0, 0, 0, 0, 0x55, 0x55, 0, 0, 0x48, 0x89, 0x00],
        expected: |stop| traps(stop, 14, Some(7)),
    },
    Probe {
        name: "read-only-slot",
        meaning: "a read-only memory slot cannot be written even where the page tables allow it",
        needed: true,
        // mov rax, FROZEN_VA; mov [rax], rax
        code: &[0x48, 0xb8, 0, 0, 0, 0, 0x57, 0x55, 0, 0, 0x48, 0x89, 0x00],
        expected: |stop| stop == FirstStop::Store(FROZEN, FROZEN_VA),
    },
    Probe {
        name: "supervisor-page",
        meaning: "the system pages cannot be read from ring 3",
        needed: true,
        // mov rax, SYSTEM_VA; mov rbx, [rax]
        code: &[0x48, 0xb8, 0, 0, 0, 0, 0, 0x90, 0xff, 0xff, 0x48, 0x8b, 0x18],
        expected: |stop| traps(stop, 14, Some(5)),
    },
    Probe {
        name: "port-io",
        meaning: "user-mode port I/O traps",
        needed: true,
        // out 0xc3, al
        code: &[0xe6, 0xc3],
        expected: |stop| traps(stop, 13, Some(0)),
    },
    Probe {
        name: "privileged",
        meaning: "privileged instructions trap in ring 3",
        needed: true,
        // mov cr3, rax
        code: &[0x0f, 0x22, 0xd8],
        expected: |stop| traps(stop, 13, Some(0)),
    },
    Probe {
        name: "umip",
        meaning: "ring 3 cannot learn where the descriptor tables are (sgdt)",
        needed: false,
        // sgdt [rsp-16]
        code: &[0x0f, 0x01, 0x44, 0x24, 0xf0],
        expected: |stop| traps(stop, 13, Some(0)),
    },
    Probe {
        name: "syscall-denied",
        meaning: "`syscall` raises #UD (otherwise it faults at address 0, still in ring 3)",
        needed: false,
        code: &[0x0f, 0x05],
        expected: |stop| traps(stop, 6, None),
    },
    Probe {
        name: "timer-denied",
        meaning: "`rdtsc` traps when no fine clock is granted",
        needed: false,
        code: &[0x0f, 0x31],
        expected: |stop| traps(stop, 13, Some(0)),
    },
    Probe {
        name: "fsgsbase-denied",
        meaning: "`wrfsbase` traps",
        needed: false,
        // wrfsbase rax; ud2
        code: &[0xf3, 0x48, 0x0f, 0xae, 0xd0, 0x0f, 0x0b],
        expected: |stop| matches!(stop, FirstStop::Trap(trap, _) if trap.vector == 6 && trap.rip == CODE_VA),
    },
    Probe {
        name: "beyond-xcr0-denied",
        meaning: "register state that XCR0 leaves out (AMX tiles) cannot be used",
        needed: false,
        // tilerelease; ud2. A processor without AMX raises #UD as well, which is as good.
        code: &[0xc4, 0xe2, 0x78, 0x49, 0xc0, 0x0f, 0x0b],
        expected: |stop| matches!(stop, FirstStop::Trap(trap, _) if trap.vector == 6 && trap.rip == CODE_VA),
    },
    Probe {
        name: "random-denied",
        meaning: "`rdrand` traps, so that a muscle without a random grant is deterministic",
        needed: false,
        // rdrand rax; ud2
        code: &[0x48, 0x0f, 0xc7, 0xf0, 0x0f, 0x0b],
        expected: |stop| matches!(stop, FirstStop::Trap(trap, _) if trap.vector == 6 && trap.rip == CODE_VA),
    },
];

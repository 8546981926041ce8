//! Exceptions of ring 3: granted port I/O goes on, everything else is a fault with a report.

use referee_bundle::PartKind;
use referee_hv::x86_64::trap::Trap;
use referee_hv::{Registers, flavour};

use crate::cell::{Deed, LoadedCell};
use crate::dispatch::Action;
use crate::error::{CellError, Halt};
use crate::fault::MuscleFault;
use crate::host::Host;
use crate::layout::RegionKind;
use crate::pio::PortAccess;
use crate::report::{BacktraceEntry, FaultReport};

/// Vector of the general-protection exception, which user-mode port I/O raises.
const GENERAL_PROTECTION: u8 = 13;
/// Longest instruction in bytes (AMD64 Architecture Programmer's Manual, volume 3, §1.2).
const INSTRUCTION_MAX: usize = 15;
/// Most functions in a backtrace.
const BACKTRACE_MAX: usize = 32;

impl LoadedCell {
    /// Sorts an `out` of ring 0, which only a trap stub can have executed.
    pub(crate) fn trapped(&self, port: u16) -> Result<Deed, CellError> {
        let Some(vector) = Trap::vector_of_port(port).filter(|_| !self.machine.vcpu.in_user_mode()) else {
            return Ok(Err(MuscleFault::UnexpectedExit("an `out` to no stub's port")));
        };
        let trap = Trap::read(&self.machine.vm, self.machine.layout.system_gpa(), vector)?;
        if trap.vector == GENERAL_PROTECTION
            && trap.error_code == Some(0)
            && self.port_access(&trap).is_some()
        {
            return Ok(Ok(Action::Emulate(trap)));
        }
        let registers = self.machine.vcpu.registers();
        let interrupted = Registers {
            rip: trap.rip,
            ..registers
        };
        if let Some(after) = flavour::syscall_return_address(&interrupted)
            && self
                .code_at(after.wrapping_sub(2), 2)
                .ends_with(&flavour::SYSCALL_OPCODE)
        {
            return Ok(Err(MuscleFault::Syscall(after.wrapping_sub(2))));
        }
        if trap.vector == 6 && self.code_at(trap.rip, 2) == flavour::SYSCALL_OPCODE {
            return Ok(Err(MuscleFault::Syscall(trap.rip)));
        }
        Ok(Err(MuscleFault::Exception(trap)))
    }

    /// Performs the port access that trapped, when a grant covers it, and goes on behind it.
    pub(crate) fn emulate_port(&mut self, trap: &Trap) -> Result<(), Halt> {
        let Some(access) = self.port_access(trap) else {
            return Err(MuscleFault::Exception(*trap).into());
        };
        let mut registers = self.machine.vcpu.registers();
        let denied = MuscleFault::Port {
            port: access.port,
            width: access.width,
            write: access.write,
        };
        if access.write {
            let value = access.written(&registers);
            if !self.host.port_write(access.port, access.width, value)? {
                return Err(denied.into());
            }
        } else {
            let value = self.host.port_read(access.port, access.width)?;
            registers.rax = access.merge_read(registers.rax, value.ok_or(denied)?);
        }
        registers.rip = trap.rip.wrapping_add(u64::from(access.length));
        registers.rsp = trap.rsp;
        registers.rflags = trap.rflags;
        let entry = self.machine.entry;
        self.machine.vcpu.get()?.resume_user(&registers, &entry);
        Ok(())
    }

    fn port_access(&self, trap: &Trap) -> Option<PortAccess> {
        PortAccess::decode(
            &self.code_at(trap.rip, INSTRUCTION_MAX),
            &self.machine.vcpu.registers(),
        )
    }

    /// Up to `length` bytes of code at a virtual address; fewer at the end of the code, none outside it.
    fn code_at(&self, va: u64, length: usize) -> Vec<u8> {
        for length in (1..=length).rev() {
            let mut code = vec![0u8; length];
            let Some(gpa) = self.machine.layout.translate(va, length as u64) else {
                continue;
            };
            if self.machine.vm.read(gpa, &mut code).is_ok() {
                return code;
            }
        }
        Vec::new()
    }

    /// Everything known about a fault, with the registers of the last stop.
    pub(crate) fn report(&self, fault: MuscleFault) -> FaultReport {
        let vcpu = &self.machine.vcpu;
        let mut registers = vcpu.registers();
        // In a stub `rip`, `rsp` and the flags are ring 0's; the muscle's are in the trap frame.
        let at_stub = self.machine.layout.region(RegionKind::TrapStubs);
        if at_stub.is_some_and(|stubs| (stubs.va..stubs.va + stubs.length).contains(&registers.rip))
            && let Some(trap) = self.frame_at_stub(registers.rip)
        {
            registers.rip = trap.rip;
            registers.rsp = trap.rsp;
            registers.rflags = trap.rflags;
        }
        let layout = &self.machine.layout;
        let address = match &fault {
            MuscleFault::Exception(trap) if trap.vector == 14 => Some(vcpu.page_fault_address()),
            MuscleFault::Exception(trap) => Some(trap.rip),
            MuscleFault::Syscall(rip) => Some(*rip),
            MuscleFault::NoMemory { gpa, .. } => layout.virtual_of(*gpa),
            MuscleFault::HeapBeyondGrant { offset, .. } => Some(layout.va(RegionKind::Heap) + offset),
            _ => Some(registers.rip),
        };
        let location = address.map(|address| layout.locate(address));
        let backtrace = self.backtrace(&registers);
        FaultReport {
            fault,
            address,
            location,
            registers,
            backtrace,
        }
    }

    fn frame_at_stub(&self, rip: u64) -> Option<Trap> {
        let stubs = self.machine.layout.va(RegionKind::TrapStubs);
        let vector = u8::try_from(rip.checked_sub(stubs)? / 8)
            .ok()
            .filter(|v| *v < muscle_abi::vector::COUNT)?;
        Trap::read(&self.machine.vm, self.machine.layout.system_gpa(), vector).ok()
    }

    /// Follows the chain of frame pointers through the stack, as far as it makes sense.
    fn backtrace(&self, registers: &Registers) -> Vec<BacktraceEntry> {
        let layout = &self.machine.layout;
        let mut entries = Vec::new();
        entries.extend(self.symbolise(registers.rip));
        let mut frame = registers.rbp;
        let Some(stack) = layout.region(RegionKind::Stack) else {
            return entries;
        };
        while entries.len() < BACKTRACE_MAX && frame.is_multiple_of(8) {
            if !(stack.va..stack.va + stack.length).contains(&frame) {
                break;
            }
            let mut words = [0u8; 16];
            let Some(gpa) = layout.translate(frame, 16) else {
                break;
            };
            if self.machine.vm.read(gpa, &mut words).is_err() {
                break;
            }
            let (next, back) = words.split_at(8);
            let word = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
            // The call is the instruction before the return address.
            let Some(entry) = self.symbolise(word(back).wrapping_sub(1)) else {
                break;
            };
            entries.push(entry);
            if word(next) <= frame {
                break;
            }
            frame = word(next);
        }
        entries
    }

    fn symbolise(&self, va: u64) -> Option<BacktraceEntry> {
        let layout = &self.machine.layout;
        let location = layout.locate(va);
        if location.region != Some(RegionKind::Code) || location.side != crate::layout::Side::Inside {
            return None;
        }
        let image_address = va.checked_sub(layout.image_base())?;
        let found = self
            .image
            .bundle()
            .part(PartKind::Symbols)
            .and_then(|bytes| referee_bundle::SymbolTable::parse(bytes).ok())
            .and_then(|symbols| {
                symbols
                    .lookup(image_address)
                    .map(|(name, offset)| (name.to_owned(), offset))
            });
        Some(match found {
            Some((name, offset)) => BacktraceEntry {
                image_address,
                function: Some(name),
                offset,
            },
            None => BacktraceEntry {
                image_address,
                function: None,
                offset: 0,
            },
        })
    }
}

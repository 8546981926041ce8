//! The one processor of a cell: entered, stopped, and read through the shared run page.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::{Arc, OnceLock};

pub use kvm_bindings::kvm_regs as Registers;
use kvm_bindings::{kvm_sregs, kvm_xcr, kvm_xcrs, kvm_xsave};
use kvm_ioctls::{SyncReg, VcpuFd};

use crate::error::HvError;
use crate::exit::Exit;
use crate::kick::{Kicker, RunPage};
use crate::kvm::Kvm;
use crate::vm::{Backing, Vm};
use crate::x86_64::cpuid::Features;
use crate::x86_64::registers::{EntryState, has_entry_segments, user_sregs};
use crate::x86_64::resume::{self, Resume};

/// Pages of a muscle that freezing and thawing it need, as it has them mapped and by guest-physical address.
#[derive(Debug, Clone, Copy)]
pub struct FreezePlaces {
    /// Readable and executable; from now on it holds [`Frozen::page`].
    pub resume_va: u64,
    /// The same.
    pub resume_gpa: u64,
    /// Writable.
    pub scratch_va: u64,
    /// The same.
    pub scratch_gpa: u64,
    /// Without memory.
    pub bell_va: u64,
    /// The same.
    pub bell_gpa: u64,
}

/// A muscle's processor as it stood at one of its stops, from which it can go on any number of times.
#[derive(Debug, Clone)]
pub struct Frozen(Resume);

impl Frozen {
    /// Numbers in [`Frozen::registers`].
    pub const REGISTERS: usize = resume::WORDS;
    /// Bytes in [`Frozen::vectors`].
    pub const VECTORS: usize = resume::STATE_MAX;

    /// Contents of the resume page, which the muscle must have wherever it is thawed.
    pub fn page(&self) -> &[u8] {
        &*self.0.page
    }

    /// General registers, instruction pointer and flags, for [`Frozen::of_parts`].
    pub fn registers(&self) -> [u64; Frozen::REGISTERS] {
        self.0.words()
    }

    /// Vector registers in the processor's own form, for [`Frozen::of_parts`].
    pub fn vectors(&self) -> &[u8] {
        self.0.state()
    }

    /// Makes one of parts that may be anything: what goes on with it has no more than ring 3 has. `resume_va` is where the muscle has its
    /// resume page.
    pub fn of_parts(
        registers: &[u64; Frozen::REGISTERS],
        vectors: &[u8; Frozen::VECTORS],
        resume_va: u64,
    ) -> Frozen {
        Frozen(Resume::of_parts(registers, vectors, resume_va))
    }
}

/// A vCPU. Registers travel in the run page (`KVM_CAP_SYNC_REGS`), not by ioctl.
#[derive(Debug)]
pub struct Vcpu {
    fd: VcpuFd,
    run_page: RunPage,
    features: Features,
    reset_sregs: kvm_sregs,
    /// Dropped after `fd`, see [`crate::Vm`].
    _backing: Arc<Backing>,
}

impl Vcpu {
    pub(crate) fn new(mut fd: VcpuFd, kvm: &Kvm, backing: Arc<Backing>) -> Result<Vcpu, HvError> {
        fd.set_cpuid2(kvm.cpuid())
            .map_err(HvError::ioctl("KVM_SET_CPUID2"))?;
        let reset_sregs = fd.get_sregs().map_err(HvError::ioctl("KVM_GET_SREGS"))?;
        let features = kvm.features();
        if features.xcr0 != 0 {
            let mut xcrs = kvm_xcrs {
                nr_xcrs: 1,
                ..kvm_xcrs::default()
            };
            xcrs.xcrs[0] = kvm_xcr {
                xcr: 0,
                value: features.xcr0,
                ..kvm_xcr::default()
            };
            fd.set_xcrs(&xcrs).map_err(HvError::ioctl("KVM_SET_XCRS"))?;
        }
        fd.set_sync_valid_reg(SyncReg::Register);
        fd.set_sync_valid_reg(SyncReg::SystemRegister);
        let run_page = RunPage::of(&mut fd);
        Ok(Vcpu {
            fd,
            run_page,
            features,
            reset_sregs,
            _backing: backing,
        })
    }

    /// The vCPU's descriptor, which must stay open while the vCPU lives.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: `self.fd` owns the descriptor and lives as long as the borrow.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }

    /// Sets all registers for entry in ring 3; they take effect at the next [`Vcpu::run`].
    pub fn enter_at(&mut self, state: &EntryState) {
        let sregs = user_sregs(&self.reset_sregs, state, self.features);
        let shared = self.fd.sync_regs_mut();
        shared.sregs = sregs;
        shared.regs = Registers {
            rip: state.entry,
            rsp: state.stack_pointer,
            rdi: state.argument,
            rflags: 2,
            ..Registers::default()
        };
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// Has the guest go on in ring 3 with these registers, whatever ring it stopped in.
    pub fn resume_user(&mut self, registers: &Registers, state: &EntryState) {
        let sregs = user_sregs(&self.reset_sregs, state, self.features);
        let shared = self.fd.sync_regs_mut();
        shared.regs = *registers;
        shared.sregs = sregs;
        self.fd.set_sync_dirty_reg(SyncReg::Register);
        self.fd.set_sync_dirty_reg(SyncReg::SystemRegister);
    }

    /// Keeps the state of a muscle that has stopped in ring 3. `None` when not all of it can be kept: segments that it loaded, or a
    /// processor on which muscles cannot go on in this way ([`Kvm::probe_resume`]), or a muscle that was interrupted at it.
    ///
    /// Runs a few instructions in the muscle's place; it must be thawed before it goes on, and the scratch page has other contents.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel refuses.
    pub fn freeze(
        &mut self,
        vm: &Vm,
        places: &FreezePlaces,
        state: &EntryState,
    ) -> Result<Option<Frozen>, HvError> {
        // What the last exit left open is done at the next entry, or when the guest is entered only to be stopped at once (KVM API,
        // §5 `immediate_exit`); only then registers are what they will be.
        self.fd.set_kvm_immediate_exit(1);
        let Exit::Interrupted = self.run()? else {
            return Err(HvError::MissingCapability("entries that stop at once"));
        };
        if !self.features.resumes || !self.in_user_mode() || !has_entry_segments(&self.fd.sync_regs().sregs) {
            return Ok(None);
        }
        let registers = self.registers();
        vm.write(places.resume_gpa, &resume::SAVES)?;
        vm.write(places.scratch_gpa, &[0; 4096])?;
        let saving = Registers {
            rip: places.resume_va,
            rax: resume::KEPT,
            rdx: 0,
            rdi: places.scratch_va,
            rsi: places.bell_va,
            ..registers
        };
        self.resume_user(&saving, state);
        let saved = matches!(self.run()?, Exit::MmioWrite { address, .. } if address == places.bell_gpa);
        if !saved {
            self.resume_user(&registers, state);
            return Ok(None);
        }
        let mut vectors = [0; resume::STATE_MAX];
        vm.read(places.scratch_gpa, &mut vectors)?;
        let resume = Resume::new(&registers, &vectors, places.resume_va);
        vm.write(places.resume_gpa, &*resume.page)?;
        Ok(Some(Frozen(resume)))
    }

    /// Has ring 3 touch pages, so that the kernel has them at hand for it: `written` first, then `read`, as many as find room. No byte of
    /// them changes but those of the resume page. Whether it came to its end does not matter; the muscle must then be thawed.
    ///
    /// # Errors
    /// [`HvError`] when the kernel refuses.
    pub fn touch(
        &mut self,
        vm: &Vm,
        places: &FreezePlaces,
        written: &[u64],
        read: &[u64],
        state: &EntryState,
    ) -> Result<(), HvError> {
        let written = written.get(..resume::TOUCHED_MAX).unwrap_or(written);
        let room = resume::TOUCHED_MAX.saturating_sub(written.len());
        let read = read.get(..room).unwrap_or(read);
        let addresses = written.iter().chain(read);
        let table: Vec<u8> = addresses.flat_map(|address| address.to_le_bytes()).collect();
        vm.write(places.resume_gpa, &resume::TOUCHES)?;
        vm.write(places.resume_gpa + resume::TOUCHED as u64, &table)?;
        let registers = Registers {
            rip: places.resume_va,
            rsi: places.resume_va + resume::TOUCHED as u64,
            rcx: written.len() as u64,
            r8: read.len() as u64,
            rdx: places.bell_va,
            rflags: 2,
            ..Registers::default()
        };
        self.resume_user(&registers, state);
        self.run().map(|_| ())
    }

    /// Has the muscle go on from a state that was kept, whatever it did since; with the next [`Vcpu::run`].
    pub fn thaw(&mut self, frozen: &Frozen, state: &EntryState) {
        self.resume_user(&frozen.0.registers, state);
    }

    /// Has a muscle go on that was only just frozen here, by the registers that it still has; its resume page may be any.
    pub fn go_on(&mut self, frozen: &Frozen, state: &EntryState) {
        self.resume_user(&frozen.0.own_registers(), state);
    }

    /// Puts x87, SSE and every later extension into the state that they have after power-on.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel refuses.
    pub fn reset_extended_state(&mut self) -> Result<(), HvError> {
        // Offsets in 32-bit words of the standard form (Intel SDM volume 1, §13.4): control words of x87 and SSE, and
        // the bitmap of components that are not in their initial state. With the latter zero but for x87 and SSE, every
        // later component is initialised.
        const FCW: usize = 0;
        const MXCSR: usize = 6;
        const XSTATE_BV: usize = 128;
        let mut state = kvm_xsave::default();
        state.region[FCW] = 0x37f;
        state.region[MXCSR] = 0x1f80;
        state.region[XSTATE_BV] = 0b11;
        // SAFETY: the kernel reads more than this structure only for a guest that was permitted dynamically enabled
        // features (arch_prctl ARCH_REQ_XCOMP_GUEST_PERM), which this process never asks for.
        unsafe { self.fd.set_xsave(&state) }.map_err(HvError::ioctl("KVM_SET_XSAVE"))
    }

    /// The general registers as of the last stop.
    pub fn registers(&self) -> Registers {
        self.fd.sync_regs().regs
    }

    /// Address of the last page fault (`CR2`) as of the last stop.
    pub fn page_fault_address(&self) -> u64 {
        self.fd.sync_regs().sregs.cr2
    }

    /// Whether the last stop was in ring 3.
    pub fn in_user_mode(&self) -> bool {
        self.fd.sync_regs().sregs.cs.dpl == 3
    }

    /// Ticks of the guest's time-stamp counter in a millisecond.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel does not know.
    pub fn tsc_khz(&self) -> Result<u32, HvError> {
        self.fd.get_tsc_khz().map_err(HvError::ioctl("KVM_GET_TSC_KHZ"))
    }

    /// A handle by which other threads and signal handlers stop [`Vcpu::run`].
    pub fn kicker(&self) -> Kicker {
        Kicker::new(self.run_page)
    }

    /// Enters the guest and comes back with the reason why it stopped.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel cannot run the vCPU at all.
    pub fn run(&mut self) -> Result<Exit<'_>, HvError> {
        let stopped = self.run_once()?;
        Ok(self.exit(stopped))
    }

    /// As [`Vcpu::run`], for a thread that leaves it to another to look at why it stopped, with [`Vcpu::exit`].
    ///
    /// # Errors
    /// As [`Vcpu::run`].
    pub fn run_once(&mut self) -> Result<Stopped, HvError> {
        match self.fd.run() {
            Ok(_) => Ok(Stopped(How::Exit)),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                self.run_page.clear_immediate_exit();
                Ok(Stopped(How::Interrupted))
            }
            Err(error) if error.errno() == libc::EFAULT => Ok(Stopped(How::MemoryFault)),
            Err(source) => Err(HvError::Ioctl {
                ioctl: "KVM_RUN",
                source,
            }),
        }
    }

    /// Why the vCPU stopped, from the run page, which nothing has written since.
    pub fn exit(&mut self, stopped: Stopped) -> Exit<'_> {
        match stopped.0 {
            How::Exit => Exit::read(self.fd.get_kvm_run()),
            How::Interrupted => Exit::Interrupted,
            How::MemoryFault => Exit::MemoryFault,
        }
    }
}

/// That a vCPU stopped; [`Vcpu::exit`] says why.
#[derive(Debug, Clone, Copy)]
pub struct Stopped(How);

impl Stopped {
    /// Whether a signal or `immediate_exit` stopped it, and not the guest.
    pub fn is_interrupted(self) -> bool {
        matches!(self.0, How::Interrupted)
    }
}

#[derive(Debug, Clone, Copy)]
enum How {
    Exit,
    Interrupted,
    MemoryFault,
}

/// Whether another thread may run a vCPU without more ado. Before Linux 6.13 its first run there waits for a grace period of the kernel
/// (`synchronize_rcu` in `KVM_RUN`), which can take milliseconds.
pub fn vcpus_move_cheaply() -> bool {
    static CHEAPLY: OnceLock<bool> = OnceLock::new();
    *CHEAPLY.get_or_init(|| is_since(rustix::system::uname().release().to_bytes(), (6, 13)))
}

/// Whether a kernel's release, such as `6.18.4-amd64`, is this one or later.
fn is_since(release: &[u8], wanted: (u32, u32)) -> bool {
    let number = |part: &[u8]| {
        let digits = part.iter().take_while(|byte| byte.is_ascii_digit()).copied();
        String::from_utf8(digits.collect()).ok()?.parse::<u32>().ok()
    };
    let mut parts = release.split(|byte| *byte == b'.').map(number);
    match (parts.next().flatten(), parts.next().flatten()) {
        (Some(major), Some(minor)) => (major, minor) >= wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, since) in [
            ("6.18.4-amd64", true),
            ("6.13", true),
            ("6.13-rc1", true),
            ("6.9.12", false),
            ("7.0.0", true),
            ("5.15.0-91-generic", false),
            ("custom", false),
            ("", false),
        ] {
            assert_eq!(is_since(release.as_bytes(), (6, 13)), since, "{release}");
        }
    }
}

//! The one processor of a cell: entered, stopped, and read through the shared run page.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

pub use kvm_bindings::kvm_regs as Registers;
use kvm_bindings::{kvm_sregs, kvm_xcr, kvm_xcrs, kvm_xsave};
use kvm_ioctls::{SyncReg, VcpuExit, VcpuFd};

use crate::error::HvError;
use crate::exit::Exit;
use crate::kick::{Kicker, RunPage};
use crate::kvm::Kvm;
use crate::vm::Backing;
use crate::x86_64::cpuid::Features;
use crate::x86_64::registers::{EntryState, user_sregs};

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
        let run_page = self.run_page;
        match self.fd.run() {
            Ok(exit) => Ok(match exit {
                VcpuExit::MmioWrite(address, data) => Exit::MmioWrite { address, data },
                VcpuExit::MmioRead(address, data) => Exit::MmioRead { address, data },
                VcpuExit::IoOut(port, data) => Exit::PortOut {
                    port,
                    length: data.len(),
                },
                VcpuExit::IoIn(port, _) => Exit::PortIn { port },
                VcpuExit::Hlt => Exit::Halt,
                VcpuExit::Shutdown => Exit::Shutdown,
                VcpuExit::InternalError => Exit::InternalError {
                    suberror: run_page.internal_suberror(),
                },
                VcpuExit::FailEntry(reason, _) => Exit::EntryFailed { reason },
                VcpuExit::Intr => Exit::Interrupted,
                _ => Exit::Unexpected {
                    reason: run_page.exit_reason(),
                },
            }),
            Err(error) if error.errno() == libc::EINTR || error.errno() == libc::EAGAIN => {
                run_page.clear_immediate_exit();
                Ok(Exit::Interrupted)
            }
            Err(error) if error.errno() == libc::EFAULT => Ok(Exit::MemoryFault),
            Err(source) => Err(HvError::Ioctl {
                ioctl: "KVM_RUN",
                source,
            }),
        }
    }
}

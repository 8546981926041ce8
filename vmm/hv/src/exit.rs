//! Why the vCPU stopped, as our own type.
//!
//! It is read from the run page and not from what `VcpuFd::run` gives, because the thread that looks at it may be another than the
//! one that ran the vCPU. Numbers and fields are those of Linux, `include/uapi/linux/kvm.h`.

use kvm_bindings::{
    KVM_EXIT_FAIL_ENTRY, KVM_EXIT_HLT, KVM_EXIT_INTERNAL_ERROR, KVM_EXIT_INTR, KVM_EXIT_IO, KVM_EXIT_IO_OUT,
    KVM_EXIT_MEMORY_FAULT, KVM_EXIT_MMIO, KVM_EXIT_SHUTDOWN, kvm_run,
};

/// One stop of the vCPU. Borrowed slices lie in the shared run page; a read is answered by filling the
/// slice before the next run.
#[derive(Debug)]
pub enum Exit<'a> {
    /// A store to an address with no memory behind it, or to a read-only slot.
    MmioWrite {
        /// Guest-physical address.
        address: u64,
        /// Bytes stored.
        data: &'a [u8],
    },
    /// A load from an address with no memory behind it.
    MmioRead {
        /// Guest-physical address.
        address: u64,
        /// To be filled.
        data: &'a mut [u8],
    },
    /// An `out` by ring-0 code: the trap stubs, nothing else runs there.
    PortOut {
        /// The port.
        port: u16,
        /// How many bytes at once.
        length: usize,
    },
    /// An `in` by ring-0 code; no stub has one.
    PortIn {
        /// The port.
        port: u16,
    },
    /// `hlt` in ring 0; no stub has one.
    Halt,
    /// Triple fault.
    Shutdown,
    /// KVM could not emulate an instruction or gave up otherwise.
    InternalError {
        /// KVM's sub-error (Linux `Documentation/virt/kvm/api.rst`, `KVM_EXIT_INTERNAL_ERROR`).
        suberror: u32,
    },
    /// The guest reached memory in a way that KVM answers with `EFAULT`.
    MemoryFault,
    /// The processor refused to enter the guest.
    EntryFailed {
        /// The hardware's reason.
        reason: u64,
    },
    /// A signal or `immediate_exit` stopped the vCPU; the guest did nothing.
    Interrupted,
    /// Anything else, by KVM's number where it has one.
    Unexpected {
        /// `exit_reason` of the run page.
        reason: u32,
    },
}

impl Exit<'_> {
    /// The exit that a run page tells of after `KVM_RUN` came back.
    pub(crate) fn read(run: &mut kvm_run) -> Exit<'_> {
        let reason = run.exit_reason;
        let about = &mut run.__bindgen_anon_1;
        match reason {
            KVM_EXIT_MMIO => {
                // SAFETY: the reason says that the kernel filled this field, of which every bit pattern is valid.
                let mmio = unsafe { &mut about.mmio };
                let (address, length) = (mmio.phys_addr, mmio.len);
                let length = usize::try_from(length).unwrap_or(usize::MAX).min(mmio.data.len());
                let (data, _) = mmio.data.split_at_mut(length);
                match mmio.is_write {
                    0 => Exit::MmioRead { address, data },
                    _ => Exit::MmioWrite { address, data },
                }
            }
            KVM_EXIT_IO => {
                // SAFETY: as above.
                let io = unsafe { about.io };
                let length =
                    usize::from(io.size).saturating_mul(usize::try_from(io.count).unwrap_or(usize::MAX));
                match u32::from(io.direction) {
                    KVM_EXIT_IO_OUT => Exit::PortOut {
                        port: io.port,
                        length,
                    },
                    _ => Exit::PortIn { port: io.port },
                }
            }
            KVM_EXIT_HLT => Exit::Halt,
            KVM_EXIT_SHUTDOWN => Exit::Shutdown,
            KVM_EXIT_INTERNAL_ERROR => {
                // SAFETY: as above.
                let internal = unsafe { about.internal };
                Exit::InternalError {
                    suberror: internal.suberror,
                }
            }
            KVM_EXIT_FAIL_ENTRY => {
                // SAFETY: as above.
                let entry = unsafe { about.fail_entry };
                Exit::EntryFailed {
                    reason: entry.hardware_entry_failure_reason,
                }
            }
            KVM_EXIT_INTR => Exit::Interrupted,
            KVM_EXIT_MEMORY_FAULT => Exit::MemoryFault,
            reason => Exit::Unexpected { reason },
        }
    }
}

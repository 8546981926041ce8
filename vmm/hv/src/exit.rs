//! Why the vCPU stopped, as our own type.

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

//! The handle on `/dev/kvm`: opened once per process, it makes VMs.

use std::os::fd::{AsRawFd, BorrowedFd};

use kvm_bindings::{CpuId, KVM_API_VERSION, KVM_MAX_CPUID_ENTRIES};
use kvm_ioctls::Cap;

use crate::error::HvError;
use crate::probe;
use crate::vm::Vm;
use crate::x86_64::cpuid::{self, Features};

/// An open `/dev/kvm`, with what it supports asked once (that question costs more than making a VM).
#[derive(Debug)]
pub struct Kvm {
    fd: kvm_ioctls::Kvm,
    cpuid: CpuId,
    features: Features,
}

impl Kvm {
    /// Opens `/dev/kvm` and checks that it has what every cell needs.
    ///
    /// # Errors
    /// [`HvError::OpenKvm`], [`HvError::ApiVersion`], [`HvError::MissingCapability`].
    pub fn open() -> Result<Kvm, HvError> {
        let fd = kvm_ioctls::Kvm::new().map_err(HvError::OpenKvm)?;
        let found = fd.get_api_version();
        if u32::try_from(found) != Ok(KVM_API_VERSION) {
            return Err(HvError::ApiVersion {
                found,
                expected: KVM_API_VERSION,
            });
        }
        for (capability, name) in [
            (Cap::UserMemory, "KVM_CAP_USER_MEMORY"),
            (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
            (Cap::SyncRegs, "KVM_CAP_SYNC_REGS"),
        ] {
            if !fd.check_extension(capability) {
                return Err(HvError::MissingCapability(name));
            }
        }
        let supported = fd
            .get_supported_cpuid(KVM_MAX_CPUID_ENTRIES)
            .map_err(HvError::ioctl("KVM_GET_SUPPORTED_CPUID"))?;
        let (cpuid, features) = cpuid::small_table(&supported)?;
        Ok(Kvm { fd, cpuid, features })
    }

    /// Makes an empty VM.
    ///
    /// # Errors
    /// [`HvError::Ioctl`] when the kernel refuses.
    pub fn create_vm(&self) -> Result<Vm, HvError> {
        let fd = self.fd.create_vm().map_err(HvError::ioctl("KVM_CREATE_VM"))?;
        Ok(Vm::new(fd))
    }

    /// The descriptor, for a list of those that stay open.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open for as long as `self.fd`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.fd.as_raw_fd()) }
    }

    /// Finds out, by a guest of a few bytes, whether XRSTOR runs in ring 3. Where it does, muscles can be frozen on vCPUs that are made
    /// afterwards ([`crate::Vcpu::freeze`]).
    ///
    /// # Errors
    /// [`HvError`] when even a tiny guest cannot be made.
    pub fn probe_resume(&mut self) -> Result<(), HvError> {
        // A kind of KVM that does not show XSAVE may let it run, and then a muscle can use what it loads.
        self.features.resumes = probe::loads_vector_state(self)?;
        Ok(())
    }

    /// The CPUID table that every cell sees.
    pub fn cpuid(&self) -> &CpuId {
        &self.cpuid
    }

    /// What of the processor a cell may count on.
    pub fn features(&self) -> Features {
        self.features
    }

    /// Whether KVM has an optional capability, for `doctor`.
    pub fn has(&self, capability: Cap) -> bool {
        self.fd.check_extension(capability)
    }

    /// Most memory slots of one VM.
    pub fn max_slots(&self) -> usize {
        self.fd.get_nr_memslots()
    }
}

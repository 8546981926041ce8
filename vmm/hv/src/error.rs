//! What can go wrong on the host's side of KVM. A guest's misdeeds are never errors here.

use thiserror::Error;

/// The host, its KVM or its memory failed.
#[derive(Debug, Error)]
pub enum HvError {
    /// `/dev/kvm` cannot be opened.
    #[error("cannot open /dev/kvm: {0}; run `referee-vmm doctor` for what to do")]
    OpenKvm(#[source] kvm_ioctls::Error),
    /// The kernel speaks another KVM API.
    #[error("this kernel's KVM API has version {found}, Referee needs {expected}")]
    ApiVersion {
        /// What the kernel says.
        found: i32,
        /// What this crate is written for.
        expected: u32,
    },
    /// KVM lacks something that cells cannot do without.
    #[error("this kernel's KVM lacks {0}, which every cell needs")]
    MissingCapability(&'static str),
    /// An ioctl failed.
    #[error("KVM ioctl {ioctl} failed: {source}")]
    Ioctl {
        /// Name of the ioctl.
        ioctl: &'static str,
        /// The kernel's answer.
        #[source]
        source: kvm_ioctls::Error,
    },
    /// Memory for a guest cannot be had.
    #[error("cannot map {bytes} bytes of guest memory: {source}")]
    MapMemory {
        /// Size asked for.
        bytes: u64,
        /// Why not.
        #[source]
        source: vm_memory::mmap::FromRangesError,
    },
    /// A guest-physical range overlaps one that exists or is too large for this host.
    #[error("guest-physical range {start:#x} + {bytes:#x} cannot be added")]
    BadRange {
        /// First address.
        start: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// Reading or writing guest memory outside what the VM has.
    #[error("the VMM accessed guest-physical {address:#x} + {bytes:#x}, which is not memory")]
    Access {
        /// First address.
        address: u64,
        /// Length in bytes.
        bytes: usize,
    },
    /// The address-space plan does not fit the system slot or overlaps itself.
    #[error("cannot lay out the cell's address space: {0}")]
    Layout(&'static str),
    /// A timer, signal or memory call of the kernel failed.
    #[error("{call} failed: {source}")]
    System {
        /// Name of the call.
        call: &'static str,
        /// The kernel's answer.
        #[source]
        source: std::io::Error,
    },
}

impl HvError {
    /// An error of the C library's last call.
    pub(crate) fn last_os(call: &'static str) -> HvError {
        HvError::System {
            call,
            source: std::io::Error::last_os_error(),
        }
    }

    pub(crate) fn ioctl(ioctl: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> HvError {
        move |source| HvError::Ioctl { ioctl, source }
    }
}

//! The kind of KVM at hand, found out as `doctor` does: by running a guest of a few bytes.

use anyhow::Context;
use referee_hv::Kvm;

/// Kinds of KVM whose differences a guest can see; `referee_hv::flavour` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// VT-x or SVM with nested paging.
    NestedPaging,
    /// SVM with nested paging on a processor that QEMU emulates, which raises some exceptions otherwise than real ones.
    EmulatedNestedPaging,
    /// KVM-PVM: ring 3 runs on the host's own system registers.
    Pvm,
}

impl Flavour {
    /// Asks this host.
    ///
    /// # Errors
    /// When there is no usable `/dev/kvm`; the suite fails then, it does not skip.
    pub fn probe() -> anyhow::Result<Flavour> {
        let kvm = Kvm::open().context("these tests need /dev/kvm")?;
        let observed = referee_hv::probe::observe(&kvm)?;
        let denied = observed
            .iter()
            .find(|one| one.name == "syscall-denied")
            .context("no such probe")?;
        let processor = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        Ok(match (denied.holds, processor.contains("QEMU TCG")) {
            (true, true) => Flavour::EmulatedNestedPaging,
            (true, false) => Flavour::NestedPaging,
            (false, _) => Flavour::Pvm,
        })
    }
}

//! What this host has and enforces, found out and not assumed: what `referee-vmm doctor` shows.

pub use referee_hv::Kvm;
pub use referee_hv::probe::observe;
pub use referee_jail::offered;

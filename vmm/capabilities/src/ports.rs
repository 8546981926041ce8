//! Capabilities `vsock-listen` and `vsock-connect`: which grant covers a port. The connections themselves are
//! carried by the vsock device.

/// What is done with a vsock port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortUse {
    /// An outside program reaches the muscle.
    Accept,
    /// The muscle reaches an outside program.
    Connect,
}

impl PortUse {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            PortUse::Accept => "vsock.accept",
            PortUse::Connect => "vsock.connect",
        }
    }
}

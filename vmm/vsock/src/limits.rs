//! The context id of a cell, and how much its connections may cost the host.

use crate::error::VsockError;

/// A cell's context id, virtio 1.2 §5.10.4: 32 bits, none of the reserved values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cid(u64);

impl Cid {
    /// The lowest address that a guest may have (virtio 1.2, §5.10.4).
    pub const FIRST_GUEST: Cid = Cid(3);

    /// Takes the id for a cell.
    ///
    /// # Errors
    /// [`VsockError::ReservedCid`] for 0 (hypervisor), 1 (local), 2 (host), 2³²−1 (any) and larger ones.
    pub const fn new(cid: u64) -> Result<Cid, VsockError> {
        if cid <= muscle_abi::channel::HOST_CID || cid >= u32::MAX as u64 {
            return Err(VsockError::ReservedCid { cid });
        }
        Ok(Cid(cid))
    }

    /// The id as a number.
    pub const fn number(self) -> u64 {
        self.0
    }
}

/// What a cell's connections may cost the host, in connections and bytes.
///
/// A connection reserves both of its buffers when it begins, because the credit given to the guest is a
/// promise to buffer that much. A connection whose reservation does not fit is refused with a reset.
/// Memory behind a buffer is taken only as it fills, and kept for the next connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VsockLimits {
    /// Most connections at one time, in all states.
    pub max_connections: u32,
    /// Bytes from the guest that one connection holds until the host reads them; the `buf_alloc` it tells
    /// the guest.
    pub receive_buffer: u32,
    /// Bytes from the host that one connection holds until the guest takes them.
    pub send_buffer: u32,
    /// Bytes that all connections together may reserve.
    pub total_buffered: u64,
}

impl Default for VsockLimits {
    fn default() -> VsockLimits {
        VsockLimits {
            max_connections: 64,
            receive_buffer: 256 << 10,
            send_buffer: 256 << 10,
            total_buffered: 32 << 20,
        }
    }
}

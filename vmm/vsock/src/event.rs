//! What the device tells the host about its connections.

use crate::connection::Directions;
use crate::table::ConnId;

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CloseReason {
    /// Both sides were done: shut down in both directions and confirmed with a reset (§5.10.6.5).
    Orderly,
    /// The guest reset it.
    PeerReset,
    /// The guest refused what the host asked for.
    Refused,
    /// The guest sent more than its credit allowed, so the device reset it.
    CreditOverrun,
    /// The guest broke the rules of a connection in another way, so the device reset it.
    ProtocolError,
    /// The guest's driver reset the device.
    DeviceReset,
}

/// Something that happened to a connection. Each kind is told once until it is taken; for one connection
/// they come in the order in which the variants stand here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The guest asks for a connection; answer with `accept` or `refuse`.
    Request {
        /// The connection.
        conn: ConnId,
        /// Port on the host that the guest wants.
        host_port: u32,
        /// Port that the guest connects from.
        guest_port: u32,
    },
    /// The guest accepted a connection that the host asked for.
    Connected {
        /// The connection.
        conn: ConnId,
    },
    /// Bytes arrived since this event was last taken. Read them all, or remember that some are left.
    Readable {
        /// The connection.
        conn: ConnId,
    },
    /// A `write` took less than it was offered, and now there is room again.
    Writable {
        /// The connection.
        conn: ConnId,
    },
    /// The guest will not do this any more: `send` means that no bytes come after those already received,
    /// `receive` that written bytes are thrown away.
    PeerShutdown {
        /// The connection.
        conn: ConnId,
        /// All directions the guest has shut so far.
        shut: Directions,
    },
    /// The connection is over. What was received can still be read; with the last byte, or with `close`,
    /// the id becomes stale.
    Closed {
        /// The connection.
        conn: ConnId,
        /// Why it ended.
        reason: CloseReason,
    },
}

/// Events of one connection that the host has not taken yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct PendingEvents {
    pub(crate) request: bool,
    pub(crate) connected: bool,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) peer_shutdown: bool,
    pub(crate) closed: Option<CloseReason>,
}

impl PendingEvents {
    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        *self != PendingEvents::default()
    }
}

//! The driver of the vsock device (virtio 1.2, §5.10, stream sockets).
//!
//! ```text
//!   window + 0x4000   4 receive buffers of 512 bytes, 4 transmit buffers of 512 bytes: one page
//!          + 0x5000   half of the rest: large receive buffers; the other half: large transmit buffers
//! ```
//!
//! The first touch of a page of a fresh cell is dear, so a muscle that sends and receives little touches one page of
//! buffers. Large receive buffers are posted once a small one has come back full, and stay.
//!
//! The queues are polled; no interrupt is wanted and no `QueueNotify` is written, because the VMM drains every queue
//! at every exit. Waiting is: poll, and when there was nothing, ring `PARK`.

mod buffers;
mod connection;
mod device;
mod driver;
mod lane;
#[cfg(test)]
pub(crate) mod mock;
mod packet;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests;

pub use connection::ConnectionId;
pub use device::DeviceError;
pub use driver::{Bell, Driver, VsockError};

#[cfg(cell)]
pub(crate) use device::{Mmio, handshake};

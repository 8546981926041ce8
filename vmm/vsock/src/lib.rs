//! The channel between one cell and its host: a virtio-vsock device without any I/O.
//!
//! A [`Vsock`] is the whole device of one cell: the virtio-mmio registers (virtio 1.2, §4.2), the split
//! queues (§2.7), the packets and the stream connections with their credit (§5.10). It owns no socket, no
//! thread, no lock and no memory of the guest. Whoever runs the cell hands it register accesses and, after
//! every exit, a view of the guest memory that the device may touch; it hands back events and bytes.
//!
//! ```text
//!            guest                 |                        host
//!   registers  ── mmio exit ──►  mmio.rs ── prepared or handshake ──► queue.rs
//!   TX queue   ── drain ─► chain.rs ─► packet.rs ─► inbound.rs  ─► connection ─► events, read()
//!   RX queue   ◄─ drain ── chain.rs ◄─ packet.rs ◄─ outbound.rs ◄─ connection ◄─ accept(), write(), close()
//! ```
//!
//! The one rule: nothing that the guest writes can make the host panic, allocate without bound or work
//! without bound. A broken rule of the transport is a [`DeviceFault`] and ends the cell; a broken rule of
//! one connection resets that connection; whatever waits for the guest waits in storage that was reserved
//! before (see [`VsockLimits`]), and when that is full the device stops taking packets from the guest.
#![forbid(unsafe_code)]

mod byte_ring;
mod chain;
mod connection;
mod credit;
mod device;
mod error;
mod event;
mod inbound;
mod limits;
mod mmio;
mod outbound;
pub mod packet;
mod queue;
mod rest;
mod socket;
mod table;
#[cfg(test)]
mod tests;

pub use crate::connection::Directions;
pub use crate::device::{Counters, Notify, Progress, Vsock};
pub use crate::error::{DeviceFault, QueuePart, VsockError};
pub use crate::event::{CloseReason, Event};
pub use crate::limits::{Cid, VsockLimits};
pub use crate::rest::{AtRest, NotAtRest};
pub use crate::table::ConnId;

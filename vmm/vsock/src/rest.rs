//! A device with nothing on its way: the few numbers that tell it from one that was only prepared, and a device made of them.
//!
//! The numbers may come from anywhere. Addresses are none of them: queues are where [`Vsock::prepare`] puts them, and buffers as large as
//! the limits say. What is left to be wrong is how far queues and counters have come, which a guest could bring about by itself.

use vm_memory::GuestAddress;

use crate::connection::{Connection, Directions, State};
use crate::credit::Credit;
use crate::device::Vsock;
use crate::error::VsockError;
use crate::event::PendingEvents;
use crate::limits::{Cid, VsockLimits};
use crate::mmio::Registers;
use crate::table::{ConnId, Ports};

/// What a device at rest is, beside what [`Vsock::prepare`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtRest {
    /// Chains taken from the receive queue, and given back.
    pub receive: (u16, u16),
    /// The same of the transmit queue.
    pub transmit: (u16, u16),
    /// Whether the driver has not acknowledged that buffers were used.
    pub used_buffers: bool,
    /// The connection's ports: the guest's, the host's.
    pub ports: (u32, u32),
    /// Its counters of credit.
    pub credit: [u32; 5],
    /// Whether the guest was asked for credit and has given none since.
    pub asked_credit: bool,
}

/// Why a device is not at rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotAtRest {
    /// Its driver did a handshake of its own.
    #[error("its vsock device is not as it was handed over")]
    Device,
    /// There are other connections, or none.
    #[error("it has other connections than that of its calls, or none")]
    Connections,
    /// The connection has bytes, events or packets on their way, or ends.
    #[error("something is on its way between it and the host")]
    OnItsWay,
}

impl Vsock {
    /// What the device is, if it has one connection and nothing is on its way.
    ///
    /// # Errors
    /// [`NotAtRest`].
    pub fn at_rest(&self) -> Result<AtRest, NotAtRest> {
        let mut fresh = Registers::new(self.cid);
        let window = self.window.ok_or(NotAtRest::Device)?;
        fresh.prepare(window).map_err(|_| NotAtRest::Device)?;
        if !self.registers.is_prepared_as(&fresh) {
            return Err(NotAtRest::Device);
        }
        let used = |number: &u32| {
            self.table
                .get(*number)
                .is_some_and(|one| one.state != State::Free)
        };
        let number = match (self.table.count(), self.table.slot_numbers().find(used)) {
            (1, Some(number)) => number,
            _ => return Err(NotAtRest::Connections),
        };
        let connection = self.table.get(number).ok_or(NotAtRest::Connections)?;
        let counters = connection.credit.counters();
        match counters {
            Some(credit) if is_quiet(connection) && self.resets.is_empty() => Ok(AtRest {
                receive: self.registers.receive.progress(),
                transmit: self.registers.transmit.progress(),
                used_buffers: self.registers.has_used_buffers(),
                ports: (connection.guest_port, connection.host_port),
                credit,
                asked_credit: connection.asked_credit,
            }),
            _ => Err(NotAtRest::OnItsWay),
        }
    }

    /// A device with its queues in the window at `window` that is as one was that gave `rest`, and its connection.
    ///
    /// # Errors
    /// [`VsockError`] if the window is none, or the limits allow no connection.
    pub fn of_rest(
        cid: Cid,
        limits: VsockLimits,
        window: GuestAddress,
        rest: &AtRest,
    ) -> Result<(Vsock, ConnId), VsockError> {
        let mut device = Vsock::new(cid, limits);
        device.prepare(window)?;
        device.registers.receive.set_progress(rest.receive);
        device.registers.transmit.set_progress(rest.transmit);
        if rest.used_buffers {
            device.registers.used_buffers();
        }
        let (guest, host) = rest.ports;
        let number = device.table.begin(State::Established, Ports { guest, host })?;
        if let Some(connection) = device.table.get_mut(number) {
            let (capacity, _) = connection.credit.offer();
            connection.credit = Credit::at(capacity, rest.credit);
            connection.asked_credit = rest.asked_credit;
        }
        let connection = device.table.id(number).ok_or(VsockError::TooManyConnections {
            connections: device.table.count(),
        })?;
        Ok((device, connection))
    }
}

/// Whether a connection is established and nobody is owed anything.
fn is_quiet(connection: &Connection) -> bool {
    let nowhere = Directions::default();
    connection.state == State::Established
        && connection.received.is_empty()
        && connection.unsent.is_empty()
        && [connection.peer_shut, connection.shut, connection.shut_told] == [nowhere; 3]
        && connection.events == PendingEvents::default()
        && !connection.ended
        && !connection.detached
        && !connection.wants_room
        && connection.greeting.is_none()
        && !connection.owes_credit
}

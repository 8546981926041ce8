//! The device as the cell's owner sees it: register accesses, draining of the queues, reset.

use std::collections::VecDeque;

use muscle_abi::channel::QUEUES_OFFSET;
use vm_memory::{GuestAddress, GuestMemory};

use crate::chain::Chain;
use crate::error::{DeviceFault, VsockError};
use crate::event::CloseReason;
use crate::limits::{Cid, VsockLimits};
use crate::mmio::Registers;
use crate::packet::Header;
use crate::table::{Listed, Table};

/// Most resets that wait for the guest without belonging to a connection. When so many wait, no more
/// packets are taken from the guest.
pub(crate) const RESETS_MAX: usize = 64;

/// What a store to a register asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// Nothing.
    None,
    /// The driver rang for this queue (0 receive, 1 transmit, 2 events); `drain` serves all of them.
    Queue(u16),
    /// The driver reset the device; all connections were closed.
    Reset,
}

/// What a call of `drain` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Packets taken from the guest.
    pub received: u32,
    /// Packets given to the guest.
    pub delivered: u32,
    /// Packets wait and the guest offers no buffer for them.
    pub blocked: bool,
}

impl Progress {
    /// Whether anything moved.
    pub fn any(&self) -> bool {
        self.received > 0 || self.delivered > 0
    }
}

/// How often something happened that is not an event of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Packets taken from the guest.
    pub packets_received: u64,
    /// Packets given to the guest.
    pub packets_delivered: u64,
    /// Requests refused because a limit was reached.
    pub refused_by_limit: u64,
    /// Connections reset because the guest overran its credit.
    pub credit_overruns: u64,
    /// Connections reset because the guest broke another of their rules.
    pub protocol_errors: u64,
    /// Packets dropped because their source was not this cell.
    pub foreign_sources: u64,
    /// Packets answered with a reset because they were for nobody here.
    pub unknown_destinations: u64,
}

/// The virtio-vsock device of one cell.
///
/// It is owned by whoever runs the cell and does nothing by itself: call [`Vsock::drain`] after every exit
/// and after every `accept`, `write`, `read` or `close` whose effect the guest should see.
#[derive(Debug, Clone)]
pub struct Vsock {
    pub(crate) cid: Cid,
    pub(crate) registers: Registers,
    /// Where [`Vsock::prepare`] put the queues.
    pub(crate) window: Option<GuestAddress>,
    pub(crate) table: Table,
    /// Slots with packets to send, each once.
    pub(crate) to_send: VecDeque<u32>,
    /// Slots with events to take, each once.
    pub(crate) to_tell: VecDeque<u32>,
    /// Resets that belong to no connection, as complete headers.
    pub(crate) resets: VecDeque<Header>,
    /// The chain at hand; kept for its storage.
    pub(crate) chain: Chain,
    pub(crate) counters: Counters,
    /// Where the search for a port of a connection by the host begins.
    pub(crate) next_host_port: u32,
}

/// First port that the host connects from; below are services and what muscles were granted.
pub(crate) const FIRST_HOST_PORT: u32 = 1 << 30;

impl Vsock {
    /// A device after power-on, for the cell with this context id.
    pub fn new(cid: Cid, limits: VsockLimits) -> Vsock {
        Vsock {
            cid,
            registers: Registers::new(cid),
            window: None,
            table: Table::new(limits),
            to_send: VecDeque::new(),
            to_tell: VecDeque::new(),
            resets: VecDeque::new(),
            chain: Chain::default(),
            counters: Counters::default(),
            next_host_port: FIRST_HOST_PORT,
        }
    }

    /// Brings the device to `DRIVER_OK` with its queues as [`muscle_abi::channel`] places them in the window
    /// at `window`, so that the guest needs no handshake. Guest memory is not touched: the rings there
    /// must be zero, and whether they can be reached is checked by the first `drain`.
    ///
    /// # Errors
    /// [`VsockError::WindowAddress`] if the window is not on a page or does not fit the address space.
    pub fn prepare(&mut self, window: GuestAddress) -> Result<(), VsockError> {
        self.registers.prepare(window)?;
        self.window = Some(window);
        self.forget_connections();
        Ok(())
    }

    /// Brings the device back to what it was after [`Vsock::new`], and after [`Vsock::prepare`] if that was
    /// called. Connections vanish without events and all ids are stale; storage and counters are kept.
    pub fn reset(&mut self) {
        self.registers = Registers::new(self.cid);
        self.forget_connections();
        if let Some(window) = self.window {
            // It was accepted before, so it is accepted again.
            let prepared = self.registers.prepare(window);
            debug_assert_eq!(prepared, Ok(()));
        }
    }

    /// Becomes what the device was when `frozen` was cloned from it, for a guest whose memory goes back to that moment too: its
    /// connections are there again with their ids, and all others are stale. Takes no memory if it had as much already.
    pub fn go_back_to(&mut self, frozen: &Vsock) {
        self.cid = frozen.cid;
        self.registers = frozen.registers.clone();
        self.window = frozen.window;
        self.table.go_back_to(&frozen.table);
        self.to_send.clone_from(&frozen.to_send);
        self.to_tell.clone_from(&frozen.to_tell);
        self.resets.clone_from(&frozen.resets);
        self.counters = frozen.counters;
        self.next_host_port = frozen.next_host_port;
    }

    /// The cell's context id.
    pub fn cid(&self) -> Cid {
        self.cid
    }

    /// What has been counted since [`Vsock::new`].
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Connections that exist, in all states.
    pub fn connections(&self) -> u32 {
        self.table.count()
    }

    /// Answers a load from the register page; `offset` is in bytes from its start.
    ///
    /// # Errors
    /// A [`DeviceFault`] if there is no such register, if it is write-only, or not accessed with 4 bytes.
    pub fn mmio_read(&mut self, offset: u64, data: &mut [u8]) -> Result<(), DeviceFault> {
        let value = self.registers.read(offset, data.len())?;
        data.copy_from_slice(&value.to_le_bytes());
        Ok(())
    }

    /// Takes a store to the register page; `offset` is in bytes from its start.
    ///
    /// # Errors
    /// A [`DeviceFault`] if the register, its width, the value or the moment is wrong.
    pub fn mmio_write<M: GuestMemory>(
        &mut self,
        offset: u64,
        data: &[u8],
        mem: &M,
    ) -> Result<Notify, DeviceFault> {
        let notify = self.registers.write(offset, data, mem)?;
        if notify == Notify::Reset {
            self.end_connections();
        }
        Ok(notify)
    }

    /// Takes all packets that the guest offers and gives it all that wait for it, as far as its queues and
    /// the device's own bounds allow. At most one queue's worth of packets goes each way in a call.
    ///
    /// # Errors
    /// A [`DeviceFault`] if the guest broke a rule of the transport.
    pub fn drain<M: GuestMemory>(&mut self, mem: &M) -> Result<Progress, DeviceFault> {
        let mut progress = Progress::default();
        if !self.registers.running() {
            return Ok(progress);
        }
        self.registers.receive.check_memory(mem)?;
        self.registers.transmit.check_memory(mem)?;
        loop {
            let received = self.take_packets(mem, &mut progress)?;
            let delivered = self.give_packets(mem, &mut progress)?;
            // Giving resets away makes room to take more; nothing else does.
            if !(received && delivered) {
                break;
            }
        }
        if progress.received > 0 && self.registers.transmit.wants_interrupt(mem)?
            || progress.delivered > 0 && self.registers.receive.wants_interrupt(mem)?
        {
            self.registers.used_buffers();
        }
        Ok(progress)
    }

    /// Whether [`Vsock::drain`] would find something to do: a cheap question, for a guest that runs meanwhile.
    pub fn is_offered<M: GuestMemory>(&self, mem: &M) -> bool {
        self.registers.transmit.offers(mem) || self.registers.receive.offers(mem) && self.has_pending()
    }

    /// Whether the guest's receive queue is where [`Vsock::prepare`] put it.
    pub fn has_prepared_queue(&self) -> bool {
        let prepared = self.window.map(|window| window.0.saturating_add(QUEUES_OFFSET));
        self.registers.running() && prepared == Some(self.registers.receive.table().address.0)
    }

    /// Whether something waits for the guest that it could be given if it offered a buffer.
    pub fn has_pending(&self) -> bool {
        let has_packet = |&number: &u32| {
            self.table
                .get(number)
                .is_some_and(|connection| connection.next_packet().is_some())
        };
        !self.resets.is_empty() || self.to_send.iter().any(has_packet)
    }

    /// Drops all connections and all that waits, without telling anybody.
    fn forget_connections(&mut self) {
        self.table.clear();
        self.to_send.clear();
        self.to_tell.clear();
        self.resets.clear();
        self.next_host_port = FIRST_HOST_PORT;
    }

    /// Ends all connections because the driver has forgotten them.
    fn end_connections(&mut self) {
        self.resets.clear();
        for number in self.table.slot_numbers() {
            if self
                .table
                .get(number)
                .is_some_and(|connection| connection.on_wire())
            {
                self.end(number, CloseReason::DeviceReset);
            }
        }
    }

    /// Puts a slot into the list of those with packets to send, if it has one and is not there.
    pub(crate) fn schedule(&mut self, number: u32) {
        let due = self
            .table
            .get(number)
            .is_some_and(|connection| connection.next_packet().is_some());
        if due && self.table.list(number, Listed::ToSend) {
            self.to_send.push_back(number);
        }
    }

    /// Puts a slot into the list of those with events to take, if it has one and is not there.
    pub(crate) fn tell(&mut self, number: u32) {
        let due = self
            .table
            .get(number)
            .is_some_and(|connection| connection.events.any());
        if due && self.table.list(number, Listed::ToTell) {
            self.to_tell.push_back(number);
        }
    }

    /// Frees a slot that nobody needs any more.
    pub(crate) fn settle(&mut self, number: u32) {
        if self
            .table
            .get(number)
            .is_some_and(|connection| connection.spent())
        {
            self.table.free(number);
        }
    }
}

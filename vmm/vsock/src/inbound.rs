//! Packets from the guest: taking them out of the transmit queue, and what each does to a connection.
//!
//! Who a packet is for is decided in this order:
//!
//! 1. source not this cell: dropped and counted; an answer would go to somebody who did not ask;
//! 2. destination not the host, or type not stream: answered with RST (§5.10.6.4);
//! 3. no connection between these ports: REQUEST begins one, anything else is answered with RST;
//! 4. otherwise the connection decides.
//!
//! A RST is never answered.

use vm_memory::GuestMemory;

use crate::connection::{Connection, Directions, State};
use crate::device::{Progress, RESETS_MAX, Vsock};
use crate::error::DeviceFault;
use crate::event::CloseReason;
use crate::packet::{HEADER_SIZE, Header, Op, TYPE_STREAM};
use crate::table::Ports;

const HEADER_BYTES: u64 = 44;
const _: () = assert!(HEADER_SIZE == 44, "HEADER_BYTES is HEADER_SIZE");

impl Vsock {
    /// Takes packets until none is offered, resets back up, or a queue's worth was taken in this `drain`.
    /// Returns whether it stopped because resets backed up.
    pub(crate) fn take_packets<M: GuestMemory>(
        &mut self,
        mem: &M,
        progress: &mut Progress,
    ) -> Result<bool, DeviceFault> {
        if !self.registers.transmit.ready() {
            return Ok(false);
        }
        let table = self.registers.transmit.table();
        while progress.received < u32::from(table.size) {
            if self.resets.len() >= RESETS_MAX {
                return Ok(true);
            }
            let Some(head) = self.registers.transmit.take(mem)? else {
                return Ok(false);
            };
            self.chain.load(mem, &table, head, HEADER_BYTES)?;
            let mut bytes = [0; HEADER_SIZE];
            self.chain.read(mem, 0, &mut bytes)?;
            let header = Header::from_bytes(&bytes);
            let carried = self.chain.length().saturating_sub(HEADER_BYTES);
            if u64::from(header.len) > carried {
                return Err(DeviceFault::PayloadBeyondChain {
                    head,
                    claimed: header.len,
                    carried,
                });
            }
            self.handle(mem, &header)?;
            self.registers.transmit.give_back(mem, head, 0)?;
            progress.received = progress.received.saturating_add(1);
            self.counters.packets_received = self.counters.packets_received.saturating_add(1);
        }
        Ok(false)
    }

    /// Decides who a packet is for.
    fn handle<M: GuestMemory>(&mut self, mem: &M, header: &Header) -> Result<(), DeviceFault> {
        if header.src_cid != self.cid.number() {
            self.counters.foreign_sources = self.counters.foreign_sources.saturating_add(1);
            return Ok(());
        }
        if header.dst_cid != muscle_abi::channel::HOST_CID || header.kind != TYPE_STREAM {
            self.answer_with_reset(header);
            return Ok(());
        }
        let ports = Ports {
            guest: header.src_port,
            host: header.dst_port,
        };
        match self.table.find(ports) {
            Some(number) => self.handle_known(mem, header, number),
            None if header.op == Op::Request.number() => {
                self.begin_request(header, ports);
                Ok(())
            }
            None => {
                self.answer_with_reset(header);
                Ok(())
            }
        }
    }

    /// Answers a packet that belongs to no connection, unless it is itself a reset.
    fn answer_with_reset(&mut self, header: &Header) {
        if header.op == Op::Reset.number() {
            return;
        }
        self.counters.unknown_destinations = self.counters.unknown_destinations.saturating_add(1);
        self.push_reset(header);
    }

    fn push_reset(&mut self, header: &Header) {
        self.resets.push_back(Header {
            src_cid: header.dst_cid,
            dst_cid: header.src_cid,
            src_port: header.dst_port,
            dst_port: header.src_port,
            kind: header.kind,
            op: Op::Reset.number(),
            ..Header::default()
        });
    }

    /// Begins a connection that the guest asks for, if the limits allow it.
    fn begin_request(&mut self, header: &Header, ports: Ports) {
        let Ok(number) = self.table.begin(State::Requested, ports) else {
            self.counters.refused_by_limit = self.counters.refused_by_limit.saturating_add(1);
            self.push_reset(header);
            return;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        connection.events.request = true;
        if connection.credit.hear(header.buf_alloc, header.fwd_cnt).is_err() {
            self.fail(number, CloseReason::ProtocolError);
        }
        self.tell(number);
    }

    /// What a packet does to the connection it belongs to.
    fn handle_known<M: GuestMemory>(
        &mut self,
        mem: &M,
        header: &Header,
        number: u32,
    ) -> Result<(), DeviceFault> {
        let Some(connection) = self.table.get_mut(number) else {
            return Ok(());
        };
        let state = connection.state;
        let op = Op::from_number(header.op);
        if op == Some(Op::Reset) {
            let reason = end_by_guest(connection);
            self.end(number, reason);
            return Ok(());
        }
        if state == State::Resetting {
            return Ok(()); // sent before the guest could have seen the reset
        }
        if connection.credit.hear(header.buf_alloc, header.fwd_cnt).is_err() {
            self.fail(number, CloseReason::ProtocolError);
            return Ok(());
        }
        if connection.credit.sendable() > 0 {
            connection.asked_credit = false;
        }
        let greeted = connection.greeting.is_none();
        match (op, state) {
            (Some(Op::ReadWrite), State::Established) if greeted => self.receive(mem, header, number)?,
            (Some(Op::Shutdown), State::Established) if greeted => self.peer_shutdown(number, header.flags),
            (Some(Op::CreditUpdate), _) => {}
            (Some(Op::CreditRequest), _) => connection.owes_credit = true,
            (Some(Op::Response), State::Connecting) if greeted => {
                connection.state = State::Established;
                connection.events.connected = !connection.detached;
            }
            _ => self.fail(number, CloseReason::ProtocolError),
        }
        self.schedule(number);
        self.tell(number);
        Ok(())
    }

    /// Copies the bytes of a packet into the connection's buffer.
    fn receive<M: GuestMemory>(&mut self, mem: &M, header: &Header, number: u32) -> Result<(), DeviceFault> {
        let Some(connection) = self.table.get_mut(number) else {
            return Ok(());
        };
        let count = usize::try_from(header.len).unwrap_or(usize::MAX);
        if connection.peer_shut.send {
            self.fail(number, CloseReason::ProtocolError);
            return Ok(());
        }
        if connection.credit.arrive(header.len).is_err() || count > connection.received.room() {
            self.fail(number, CloseReason::CreditOverrun);
            return Ok(());
        }
        if !connection.keeps_arrivals() {
            connection.forward(count);
            return Ok(());
        }
        if count == 0 {
            return Ok(());
        }
        let (first, second) = connection.received.space(count);
        let first_len = u64::try_from(first.len()).unwrap_or(u64::MAX);
        self.chain.read(mem, HEADER_BYTES, first)?;
        self.chain
            .read(mem, HEADER_BYTES.saturating_add(first_len), second)?;
        connection.received.commit(count);
        connection.events.readable = true;
        Ok(())
    }

    /// Notes which directions the guest has shut; with both, the connection is over (§5.10.6.5).
    fn peer_shutdown(&mut self, number: u32, flags: u32) {
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        let shut = connection.peer_shut.with(Directions::from_flags(flags));
        if shut == connection.peer_shut {
            return;
        }
        connection.peer_shut = shut;
        if shut.receive {
            connection.unsent.clear();
            connection.wants_room = false;
            connection.events.writable = false;
        }
        if shut == Directions::BOTH {
            self.reset_connection(number, CloseReason::Orderly);
        } else {
            connection.events.peer_shutdown = !connection.detached;
        }
    }

    /// Resets a connection because the guest broke its rules.
    fn fail(&mut self, number: u32, reason: CloseReason) {
        let counter = match reason {
            CloseReason::CreditOverrun => &mut self.counters.credit_overruns,
            _ => &mut self.counters.protocol_errors,
        };
        *counter = counter.saturating_add(1);
        self.reset_connection(number, reason);
    }

    /// Has a reset sent to the guest and tells the host why.
    pub(crate) fn reset_connection(&mut self, number: u32, reason: CloseReason) {
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        connection.leave_wire();
        connection.state = State::Resetting;
        note_end(connection, reason);
        self.schedule(number);
        self.tell(number);
    }

    /// Takes a connection off the wire without a packet and tells the host why.
    pub(crate) fn end(&mut self, number: u32, reason: CloseReason) {
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        connection.leave_wire();
        note_end(connection, reason);
        self.table.release_ports(number);
        self.tell(number);
        self.settle(number);
    }
}

/// Why a reset by the guest ends a connection.
fn end_by_guest(connection: &Connection) -> CloseReason {
    if connection.state == State::Connecting {
        CloseReason::Refused
    } else if connection.shut_told == Directions::BOTH {
        CloseReason::Orderly
    } else {
        CloseReason::PeerReset
    }
}

/// Leaves the news for the host, unless it does not know the connection any more, or not yet.
fn note_end(connection: &mut Connection, reason: CloseReason) {
    if connection.events.request {
        connection.events.request = false;
        connection.detached = true;
    }
    if !connection.detached && !connection.ended {
        connection.events.closed = Some(reason);
    }
    connection.ended = true;
}

//! Packets to the guest: choosing the next one and writing it into a buffer of the receive queue.
//!
//! Resets that belong to no connection go first, then the connections with something to say take turns, a
//! packet each.

use vm_memory::GuestMemory;

use crate::connection::State;
use crate::device::{Progress, Vsock};
use crate::error::DeviceFault;
use crate::packet::{HEADER_SIZE, Header, Op, TYPE_STREAM};
use crate::table::Listed;

const HEADER_BYTES: u32 = 44;
const _: () = assert!(HEADER_SIZE == 44, "HEADER_BYTES is HEADER_SIZE");
/// Least bytes of a receive buffer: the header and one byte, or a stream could never move.
const CHAIN_LEAST: u64 = 45;
/// Most bytes in one packet, the usual bound of virtio-vsock drivers.
const PAYLOAD_MAX: u32 = 64 << 10;

impl Vsock {
    /// Gives packets to the guest until none waits, it offers no buffer, or a queue's worth was given in
    /// this `drain`. Returns whether any was given.
    pub(crate) fn give_packets<M: GuestMemory>(
        &mut self,
        mem: &M,
        progress: &mut Progress,
    ) -> Result<bool, DeviceFault> {
        if !self.registers.receive.ready() {
            progress.blocked = self.has_pending();
            return Ok(false);
        }
        let table = self.registers.receive.table();
        let before = progress.delivered;
        progress.blocked = false;
        while progress.delivered < u32::from(table.size) && self.find_pending() {
            let Some(head) = self.registers.receive.take(mem)? else {
                progress.blocked = true;
                break;
            };
            self.chain.load(mem, &table, head, CHAIN_LEAST)?;
            let payload = self.write_packet(mem)?;
            self.registers
                .receive
                .give_back(mem, head, HEADER_BYTES.saturating_add(payload))?;
            progress.delivered = progress.delivered.saturating_add(1);
            self.counters.packets_delivered = self.counters.packets_delivered.saturating_add(1);
        }
        Ok(progress.delivered > before)
    }

    /// Whether there is a packet to give; drops slots from the front of the list that have none any more.
    fn find_pending(&mut self) -> bool {
        if !self.resets.is_empty() {
            return true;
        }
        while let Some(&number) = self.to_send.front() {
            if self.next_op(number).is_some() {
                return true;
            }
            self.to_send.pop_front();
            self.table.unlist(number, Listed::ToSend);
        }
        false
    }

    fn next_op(&self, number: u32) -> Option<Op> {
        self.table
            .get(number)
            .and_then(|connection| connection.next_packet())
    }

    /// Writes the next packet into the chain at hand; returns the bytes behind its header.
    fn write_packet<M: GuestMemory>(&mut self, mem: &M) -> Result<u32, DeviceFault> {
        if let Some(header) = self.resets.pop_front() {
            self.chain.write(mem, 0, &header.to_bytes())?;
            return Ok(0);
        }
        let Some(number) = self.to_send.pop_front() else {
            return Ok(0);
        };
        self.table.unlist(number, Listed::ToSend);
        let Some(op) = self.next_op(number) else {
            return Ok(0);
        };
        let payload = self.write_connection_packet(mem, number, op)?;
        self.packet_given(number, op);
        Ok(payload)
    }

    fn write_connection_packet<M: GuestMemory>(
        &mut self,
        mem: &M,
        number: u32,
        op: Op,
    ) -> Result<u32, DeviceFault> {
        let Some(connection) = self.table.get_mut(number) else {
            return Ok(0);
        };
        let room = self.chain.length().saturating_sub(u64::from(HEADER_BYTES));
        let mut payload = 0;
        if op == Op::ReadWrite {
            let (first, second) = connection.unsent.runs();
            let bound = u32::try_from(room).unwrap_or(u32::MAX).min(PAYLOAD_MAX);
            let count = first.len().saturating_add(second.len());
            payload = u32::try_from(count)
                .unwrap_or(u32::MAX)
                .min(bound)
                .min(connection.credit.sendable());
            let count = usize::try_from(payload).unwrap_or(0);
            let first = first.get(..count).unwrap_or(first);
            let rest = count.saturating_sub(first.len());
            let at = u64::from(HEADER_BYTES);
            self.chain.write(mem, at, first)?;
            if let Some(second) = second.get(..rest).filter(|second| !second.is_empty()) {
                let at = at.saturating_add(u64::try_from(first.len()).unwrap_or(u64::MAX));
                self.chain.write(mem, at, second)?;
            }
            connection.unsent.consume(count);
            connection.credit.send(payload);
        }
        let flags = match op {
            Op::Shutdown => {
                connection.shut_told = connection.shut_told.with(connection.tellable_shut());
                connection.shut_told.flags()
            }
            _ => 0,
        };
        let (buf_alloc, fwd_cnt) = connection.credit.offer();
        let header = Header {
            src_cid: muscle_abi::channel::HOST_CID,
            dst_cid: self.cid.number(),
            src_port: connection.host_port,
            dst_port: connection.guest_port,
            len: payload,
            kind: TYPE_STREAM,
            op: op.number(),
            flags,
            buf_alloc,
            fwd_cnt,
        };
        self.chain.write(mem, 0, &header.to_bytes())?;
        Ok(payload)
    }

    /// What changes for a connection once a packet of it is with the guest.
    fn packet_given(&mut self, number: u32, op: Op) {
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        connection.credit.offered();
        connection.owes_credit = false;
        match op {
            Op::Request | Op::Response => connection.greeting = None,
            Op::CreditRequest => connection.asked_credit = true,
            Op::Reset => {
                connection.state = State::Dead;
                self.table.release_ports(number);
                self.settle(number);
                return;
            }
            Op::ReadWrite => {
                let half_empty = connection.unsent.len() <= connection.unsent.limit() / 2;
                if connection.wants_room && half_empty {
                    connection.wants_room = false;
                    connection.events.writable = true;
                }
            }
            Op::Shutdown | Op::CreditUpdate => {}
        }
        self.schedule(number);
        self.tell(number);
    }
}

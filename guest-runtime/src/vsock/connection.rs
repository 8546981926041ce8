//! One connection: its state, its received bytes, and the credit of both sides (virtio 1.2, §5.10.6.3).

use alloc::vec::Vec;
use core::num::Wrapping;

use super::packet::Header;

/// Names a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId {
    /// Port on our side.
    pub local_port: u32,
    /// The other side's context id.
    pub peer_cid: u64,
    /// Port on the other side.
    pub peer_port: u32,
}

/// How far a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// `REQUEST` is sent.
    Connecting,
    /// Both sides agreed.
    Open,
    /// We sent `SHUTDOWN` of both directions and forgot about it; waits for the other side's `RST`.
    Closing,
    /// The other side said `SHUTDOWN` of both directions.
    Finished,
    /// The other side said `RST`.
    Reset,
}

/// A connection. Counters wrap as the specification has it.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    received: Vec<u8>,
    taken: usize,
    /// Bytes that the reader has taken, ever.
    forwarded: Wrapping<u32>,
    /// `forwarded` as last told to the other side.
    told: Wrapping<u32>,
    peer_alloc: u32,
    peer_forwarded: Wrapping<u32>,
    sent: Wrapping<u32>,
    /// The other side will send no more.
    pub(super) peer_ended: bool,
    /// The other side will take no more.
    pub(super) peer_deaf: bool,
    /// We have said that we send no more.
    pub(super) ended: bool,
    /// We have asked for credit and got no packet since.
    pub(super) asked: bool,
}

impl Connection {
    pub(super) fn new(state: State) -> Connection {
        Connection {
            state,
            received: Vec::new(),
            taken: 0,
            forwarded: Wrapping(0),
            told: Wrapping(0),
            peer_alloc: 0,
            peer_forwarded: Wrapping(0),
            sent: Wrapping(0),
            peer_ended: false,
            peer_deaf: false,
            ended: false,
            asked: false,
        }
    }

    /// Bytes that wait for a reader.
    pub(super) fn waiting(&self) -> usize {
        self.received.len() - self.taken
    }

    /// Learns what every packet tells about the other side.
    pub(super) fn learn(&mut self, header: &Header) {
        self.peer_alloc = header.buf_alloc;
        self.peer_forwarded = Wrapping(header.fwd_cnt);
        self.asked = false;
    }

    /// Bytes that the other side will take now.
    pub(super) fn credit(&self) -> usize {
        let in_flight = (self.sent - self.peer_forwarded).0;
        self.peer_alloc.saturating_sub(in_flight) as usize
    }

    /// Counts bytes that a packet carries away.
    pub(super) fn count_sent(&mut self, bytes: u32) {
        self.sent += bytes;
    }

    /// Whether `bytes` more keep to the credit that we gave.
    pub(super) fn may_receive(&self, bytes: u32) -> bool {
        self.state == State::Open && !self.peer_ended && self.waiting() + bytes as usize <= BUFFER as usize
    }

    /// The place where received bytes are appended.
    pub(super) fn inbox(&mut self) -> &mut Vec<u8> {
        if self.taken > 0 && self.taken >= self.waiting() {
            self.received.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.received
    }

    /// Moves received bytes to the reader; how many.
    pub(super) fn take(&mut self, to: &mut [u8]) -> usize {
        let count = to.len().min(self.waiting());
        to[..count].copy_from_slice(&self.received[self.taken..self.taken + count]);
        self.taken += count;
        self.forwarded += u32::try_from(count).unwrap_or(0);
        if self.waiting() == 0 {
            self.received.clear();
            self.taken = 0;
            if self.received.capacity() > KEEP {
                self.received = Vec::new();
            }
        }
        count
    }

    /// Whether so much was read since the other side was last told that it should hear of it.
    pub(super) fn owes_credit(&self) -> bool {
        (self.forwarded - self.told).0 >= BUFFER / 2
    }

    /// Drops what was received and will not be read.
    pub(super) fn forget(&mut self) {
        self.received = Vec::new();
        self.taken = 0;
    }

    /// Fills in what every packet tells about us.
    pub(super) fn tell(&mut self, header: &mut Header) {
        header.buf_alloc = BUFFER;
        header.fwd_cnt = self.forwarded.0;
        self.told = self.forwarded;
    }
}

/// Bytes of each connection that may wait for a reader: what we announce as `buf_alloc`.
pub(super) const BUFFER: u32 = 256 << 10;
/// An emptied inbox larger than this is freed.
const KEEP: usize = 16 << 10;

//! A vsock device in memory: the host's side of the window, which acts when the driver rings.
//!
//! It reads and writes the queues by its own code and checks what the specification asks of a driver: chains that lie in
//! the window, whole headers, the right context ids, credit that is kept.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::num::Wrapping;

use muscle_abi::channel::{
    ANSWER_LANE_OFFSET, CALL_LANE_OFFSET, LANE_FRAME, LANE_READ, POLL_OFFSET, QUEUE_AVAILABLE, QUEUE_STRIDE,
    QUEUE_USED, QUEUES_OFFSET,
};

use super::packet::{HEADER_SIZE, Header, Operation, TYPE_STREAM};
use super::{Bell, Driver};
use crate::size::size;
use crate::window::Window;

pub(crate) const CID: u64 = 7;
pub(crate) const HOST: u64 = 2;
const GPA: u64 = 0x1_0000_0000;

/// The other end of one connection.
#[derive(Debug, Default)]
pub(crate) struct Peer {
    /// Bytes that came from the driver.
    pub(crate) inbox: Vec<u8>,
    /// Bytes that wait to go to the driver.
    pub(crate) outbox: Vec<u8>,
    /// Bytes that the peer is willing to hold.
    pub(crate) buf_alloc: u32,
    /// Whether the peer takes bytes out of its inbox as they come.
    pub(crate) reads: bool,
    received: Wrapping<u32>,
    forwarded: Wrapping<u32>,
    sent: Wrapping<u32>,
    driver_alloc: u32,
    driver_forwarded: Wrapping<u32>,
    pub(crate) is_open: bool,
    pub(crate) was_reset: bool,
    /// Flags of every `SHUTDOWN` that came.
    pub(crate) shutdown: u32,
}

/// What the device and the tests share.
pub(crate) struct Host {
    memory: *mut u8,
    len: usize,
    positions: [(u16, u16); 2],
    /// By the driver's port and the host's.
    pub(crate) peers: BTreeMap<(u32, u32), Peer>,
    /// Host ports that accept connections.
    pub(crate) open_ports: Vec<u32>,
    /// Packets that wait for a receive buffer.
    pub(crate) pending: Vec<(Header, Vec<u8>)>,
    /// `buf_alloc` of new peers.
    pub(crate) buf_alloc: u32,
    pub(crate) parks: usize,
    pub(crate) yields: usize,
    /// Every packet that came, without its bytes.
    pub(crate) packets: Vec<Header>,
    /// Receive buffers the driver has posted, by length.
    pub(crate) posted: Vec<u32>,
    /// Called at each exit after the transmit queue is drained.
    pub(crate) act: Option<fn(&mut Host)>,
}

/// The driver's bell.
#[derive(Clone)]
pub(crate) struct MockBell(pub(crate) Rc<RefCell<Host>>);

impl core::fmt::Debug for MockBell {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("MockBell")
    }
}

impl Bell for MockBell {
    fn park(&mut self) {
        let mut host = self.0.borrow_mut();
        host.parks += 1;
        host.exit();
        assert!(host.parks < 10_000, "the driver parks for ever");
    }

    fn yield_now(&mut self) {
        let mut host = self.0.borrow_mut();
        host.yields += 1;
        host.exit();
    }
}

/// A driver over a window of `len` bytes, and its host.
pub(crate) fn pair(len: usize) -> (Driver<MockBell>, Rc<RefCell<Host>>) {
    // Leaked: a test's window lives as long as the test.
    let memory: &'static mut [u128] = vec![0_u128; len / 16].leak();
    let memory = memory.as_mut_ptr().cast::<u8>();
    let host = Rc::new(RefCell::new(Host {
        memory,
        len,
        positions: [(0, 0); 2],
        peers: BTreeMap::new(),
        open_ports: vec![1],
        pending: Vec::new(),
        buf_alloc: 64 << 10,
        parks: 0,
        yields: 0,
        packets: Vec::new(),
        posted: Vec::new(),
        act: None,
    }));
    // SAFETY: the memory is leaked, aligned for `u128`, and used by this window and the mock device alone, in turns.
    let window = unsafe { Window::new(memory, GPA, len) };
    (Driver::new(window, CID, MockBell(host.clone())), host)
}

impl Host {
    /// What the VMM does at an exit.
    pub(crate) fn exit(&mut self) {
        self.drain_transmit();
        if let Some(act) = self.act {
            act(self);
        }
        self.fill_receive();
    }

    /// Says whether the driver should poll.
    pub(crate) fn set_poll_word(&mut self, value: u32) {
        self.put(size(POLL_OFFSET), &value.to_le_bytes());
    }

    /// Puts a frame into the lane of calls.
    pub(crate) fn call_by_lane(&mut self, number: u32, frame: &[u8]) {
        self.put(size(CALL_LANE_OFFSET + LANE_FRAME), frame);
        self.put(size(CALL_LANE_OFFSET), &number.to_le_bytes());
    }

    /// The lane of answers: the number there, whether calls are read from the lane, and the frame.
    pub(crate) fn answer_lane(&self) -> (u32, bool, Vec<u8>) {
        let at = size(ANSWER_LANE_OFFSET);
        let length = self.u32(at + size(LANE_FRAME)) + 24;
        let frame = self.bytes(GPA + ANSWER_LANE_OFFSET + LANE_FRAME, length);
        (self.u32(at), self.u32(at + size(LANE_READ)) == 1, frame)
    }

    /// Asks for a connection from `host_port` to a port on which the driver may listen.
    pub(crate) fn connect(&mut self, port: u32, host_port: u32) {
        let peer = self.new_peer();
        self.peers.insert((port, host_port), peer);
        self.send(port, host_port, Operation::Request, 0, &[]);
    }

    /// Queues a packet with whatever header a test wants.
    pub(crate) fn send_raw(&mut self, header: Header, bytes: &[u8]) {
        self.pending.push((header, bytes.to_vec()));
    }

    /// Queues a packet of a peer.
    pub(crate) fn send(&mut self, port: u32, host_port: u32, operation: Operation, flags: u32, bytes: &[u8]) {
        let peer = self.peers.get(&(port, host_port));
        let header = Header {
            source_cid: HOST,
            destination_cid: CID,
            source_port: host_port,
            destination_port: port,
            length: u32::try_from(bytes.len()).expect("a small packet"),
            kind: TYPE_STREAM,
            operation: operation as u16,
            flags,
            buf_alloc: peer.map_or(0, |peer| peer.buf_alloc),
            fwd_cnt: peer.map_or(0, |peer| peer.forwarded.0),
        };
        self.pending.push((header, bytes.to_vec()));
    }

    /// Takes bytes out of a peer's inbox, and tells the driver.
    pub(crate) fn take(&mut self, key: (u32, u32)) -> Vec<u8> {
        let peer = self.peers.get_mut(&key).expect("the peer exists");
        let bytes = core::mem::take(&mut peer.inbox);
        peer.forwarded = peer.received;
        self.send(key.0, key.1, Operation::CreditUpdate, 0, &[]);
        bytes
    }

    fn new_peer(&self) -> Peer {
        Peer {
            buf_alloc: self.buf_alloc,
            reads: true,
            ..Peer::default()
        }
    }

    fn handle(&mut self, header: Header, bytes: &[u8]) {
        assert_eq!((header.source_cid, header.destination_cid), (CID, HOST));
        assert_eq!(header.kind, TYPE_STREAM);
        assert_eq!(
            header.length as usize,
            bytes.len(),
            "the chain holds just the packet"
        );
        self.packets.push(header);
        let key = (header.source_port, header.destination_port);
        let operation = Operation::from_number(header.operation).expect("a known operation");
        if operation == Operation::Request {
            if !self.open_ports.contains(&key.1) {
                return self.send(key.0, key.1, Operation::Reset, 0, &[]);
            }
            let peer = self.new_peer();
            assert!(
                self.peers.insert(key, peer).is_none_or(|old| !old.is_open),
                "ports are not reused"
            );
            self.send(key.0, key.1, Operation::Response, 0, &[]);
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            if operation != Operation::Reset {
                self.send(key.0, key.1, Operation::Reset, 0, &[]);
            }
            return;
        };
        peer.driver_alloc = header.buf_alloc;
        peer.driver_forwarded = Wrapping(header.fwd_cnt);
        match operation {
            Operation::Request | Operation::Response => peer.is_open = true,
            Operation::Reset => (peer.is_open, peer.was_reset) = (false, true),
            Operation::Shutdown => {
                peer.shutdown |= header.flags;
                if peer.shutdown == 3 {
                    peer.is_open = false;
                    self.send(key.0, key.1, Operation::Reset, 0, &[]);
                }
            }
            Operation::ReadWrite => {
                peer.received += header.length;
                let held = (peer.received - peer.forwarded).0;
                assert!(
                    held <= peer.buf_alloc,
                    "the driver sends more than its credit: {held}"
                );
                peer.inbox.extend_from_slice(bytes);
                if peer.reads {
                    peer.forwarded = peer.received;
                }
            }
            Operation::CreditRequest => self.send(key.0, key.1, Operation::CreditUpdate, 0, &[]),
            Operation::CreditUpdate => {}
        }
    }

    fn drain_transmit(&mut self) {
        while let Some((id, address, len, flags)) = self.next_available(1) {
            assert_eq!(flags, 0, "one descriptor that the device reads");
            let bytes = self.bytes(address, len);
            let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>().expect("a whole header");
            let header = Header::from_bytes(header);
            self.handle(header, rest);
            self.complete(1, id, 0);
        }
    }

    fn fill_receive(&mut self) {
        loop {
            if self.pending.is_empty() {
                self.packetise();
            }
            if self.pending.is_empty() {
                return;
            }
            let Some((id, address, len, flags)) = self.next_available(0) else {
                return;
            };
            assert_eq!(flags, 2, "one descriptor that the device writes");
            self.posted.push(len);
            let room = len as usize - HEADER_SIZE;
            let (mut header, bytes) = self.pending.remove(0);
            let (now, later) = bytes.split_at(bytes.len().min(room));
            if !later.is_empty() {
                let mut rest = header;
                rest.length = u32::try_from(later.len()).expect("a small packet");
                self.pending.insert(0, (rest, later.to_vec()));
                header.length = u32::try_from(now.len()).expect("a small packet");
            }
            let packet = [&header.to_bytes()[..], now].concat();
            let at = self.place(address, len);
            // SAFETY: `place` checked that the buffer lies in the window.
            unsafe { core::ptr::copy_nonoverlapping(packet.as_ptr(), at, packet.len()) };
            self.complete(0, id, u32::try_from(packet.len()).expect("a small packet"));
        }
    }

    /// Makes a packet of bytes that a peer wants to send, as far as the driver's credit goes.
    fn packetise(&mut self) {
        let mut packets = Vec::new();
        for (key, peer) in &mut self.peers {
            let in_flight = (peer.sent - peer.driver_forwarded).0;
            let credit = peer.driver_alloc.saturating_sub(in_flight) as usize;
            let now = peer.outbox.len().min(credit);
            if peer.is_open && now > 0 {
                let bytes: Vec<u8> = peer.outbox.drain(..now).collect();
                peer.sent += u32::try_from(now).expect("credit has 32 bits");
                packets.push((*key, bytes));
            }
        }
        for ((port, host_port), bytes) in packets {
            self.send(port, host_port, Operation::ReadWrite, 0, &bytes);
        }
    }

    fn next_available(&mut self, queue: usize) -> Option<(u16, u64, u32, u16)> {
        let page = size(QUEUES_OFFSET) + queue * size(QUEUE_STRIDE);
        let ring = page + size(QUEUE_AVAILABLE);
        assert_eq!(self.u16(ring), 1, "no interrupts are wanted");
        let position = self.positions[queue].0;
        if self.u16(ring + 2) == position {
            return None;
        }
        self.positions[queue].0 = position.wrapping_add(1);
        let id = self.u16(ring + 4 + 2 * usize::from(position % 64));
        let descriptor = page + 16 * usize::from(id);
        let low = u64::from(self.u32(descriptor));
        let address = low | (u64::from(self.u32(descriptor + 4)) << 32);
        Some((id, address, self.u32(descriptor + 8), self.u16(descriptor + 12)))
    }

    fn complete(&mut self, queue: usize, id: u16, len: u32) {
        let ring = size(QUEUES_OFFSET) + queue * size(QUEUE_STRIDE) + size(QUEUE_USED);
        let position = self.positions[queue].1;
        let element = ring + 4 + 8 * usize::from(position % 64);
        self.put(element, &u32::from(id).to_le_bytes());
        self.put(element + 4, &len.to_le_bytes());
        self.positions[queue].1 = position.wrapping_add(1);
        self.put(ring + 2, &position.wrapping_add(1).to_le_bytes());
    }

    fn u16(&self, offset: usize) -> u16 {
        let bytes = self.bytes(GPA + offset as u64, 2);
        u16::from_le_bytes([bytes[0], bytes[1]])
    }

    fn u32(&self, offset: usize) -> u32 {
        let bytes = self.bytes(GPA + offset as u64, 4);
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn bytes(&self, address: u64, len: u32) -> Vec<u8> {
        let mut out = vec![0; len as usize];
        // SAFETY: `place` checked the range.
        unsafe { core::ptr::copy_nonoverlapping(self.place(address, len), out.as_mut_ptr(), out.len()) };
        out
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        let at = self.place(GPA + offset as u64, u32::try_from(bytes.len()).expect("small"));
        // SAFETY: `place` checked the range.
        unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()) };
    }

    fn place(&self, address: u64, len: u32) -> *mut u8 {
        let offset = size(address.checked_sub(GPA).expect("an address in the window"));
        assert!(
            offset + len as usize <= self.len,
            "{len} bytes at {offset:#x} leave the window"
        );
        self.memory.wrapping_add(offset)
    }
}

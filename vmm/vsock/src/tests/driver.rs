//! A small virtio-vsock driver: the guest's half of the queues, honest unless told otherwise.

use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use muscle_abi::channel::{
    BUFFERS_OFFSET, HOST_CID, QUEUE_AVAILABLE, QUEUE_SIZE, QUEUE_STRIDE, QUEUE_USED, QUEUES_OFFSET,
};

use crate::packet::{HEADER_SIZE, Header, Op, TYPE_STREAM};
use crate::{Cid, ConnId, DeviceFault, Event, Progress, Vsock, VsockLimits};

pub(super) const WINDOW: u64 = 0x10_0000;
pub(super) const WINDOW_LEN: usize = 8 << 20;
pub(super) const CID: u64 = 42;
pub(super) const NEXT: u16 = 1;
pub(super) const WRITE: u16 = 2;
pub(super) const RX: u16 = 0;
pub(super) const TX: u16 = 1;
const RX_BUFFERS: u64 = WINDOW + BUFFERS_OFFSET;
const RX_STRIDE: u64 = 8192;
const TX_BUFFERS: u64 = RX_BUFFERS + 64 * RX_STRIDE;
const TX_STRIDE: u64 = 68 << 10;

/// Limits small enough for a test to reach.
pub(super) const LIMITS: VsockLimits = VsockLimits {
    max_connections: 8,
    receive_buffer: 4096,
    send_buffer: 4096,
    total_buffered: 1 << 20,
};

/// The guest: its memory and what it knows of the queues.
pub(super) struct Driver {
    pub(super) mem: GuestMemoryMmap,
    /// Bytes of each receive buffer.
    pub(super) rx_size: u32,
    pub(super) available: [u16; 2],
    used: [u16; 2],
    rx_free: Vec<u16>,
    tx_free: Vec<u16>,
}

/// A device prepared for the driver, and the driver with all its receive buffers posted.
pub(super) fn start(limits: VsockLimits) -> (Vsock, Driver) {
    let (vsock, mut driver) = start_without_buffers(limits);
    driver.post_all();
    (vsock, driver)
}

/// The same, but the driver has posted no receive buffer.
pub(super) fn start_without_buffers(limits: VsockLimits) -> (Vsock, Driver) {
    let mut vsock = Vsock::new(Cid::new(CID).expect("not reserved"), limits);
    vsock.prepare(GuestAddress(WINDOW)).expect("aligned");
    (vsock, Driver::new())
}

impl Driver {
    pub(super) fn new() -> Driver {
        Driver {
            mem: GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), WINDOW_LEN)]).expect("memory"),
            rx_size: 4096,
            available: [0; 2],
            used: [0; 2],
            rx_free: (0..QUEUE_SIZE).rev().collect(),
            tx_free: (0..QUEUE_SIZE).rev().collect(),
        }
    }

    /// Writes a descriptor.
    pub(super) fn describe(&self, queue: u16, index: u16, address: u64, length: u32, flags: u16, next: u16) {
        let at = queue_page(queue) + 16 * u64::from(index);
        self.put(at, &address.to_le_bytes());
        self.put(at + 8, &length.to_le_bytes());
        self.put(at + 12, &flags.to_le_bytes());
        self.put(at + 14, &next.to_le_bytes());
    }

    /// Makes the chain at `head` available.
    pub(super) fn offer(&mut self, queue: u16, head: u16) {
        let ring = queue_page(queue) + QUEUE_AVAILABLE;
        let index = &mut self.available[usize::from(queue)];
        let at = ring + 4 + 2 * u64::from(*index % QUEUE_SIZE);
        *index = index.wrapping_add(1);
        let index = *index;
        self.put(at, &head.to_le_bytes());
        self.set_available_index(queue, index);
    }

    pub(super) fn set_available_index(&self, queue: u16, index: u16) {
        self.put(queue_page(queue) + QUEUE_AVAILABLE + 2, &index.to_le_bytes());
    }

    pub(super) fn set_available_flags(&self, queue: u16, flags: u16) {
        self.put(queue_page(queue) + QUEUE_AVAILABLE, &flags.to_le_bytes());
    }

    /// The chains that the device gave back since the last call, with the bytes written into each.
    pub(super) fn take_used(&mut self, queue: u16) -> Option<(u16, u32)> {
        let ring = queue_page(queue) + QUEUE_USED;
        let index: u16 = self.mem.read_obj(GuestAddress(ring + 2)).expect("in the window");
        let mine = &mut self.used[usize::from(queue)];
        if *mine == index {
            return None;
        }
        let at = ring + 4 + 8 * u64::from(*mine % QUEUE_SIZE);
        *mine = mine.wrapping_add(1);
        let head: u32 = self.mem.read_obj(GuestAddress(at)).expect("in the window");
        let length = self.mem.read_obj(GuestAddress(at + 4)).expect("in the window");
        Some((u16::try_from(head).expect("an index"), length))
    }

    /// Posts one receive buffer; whether there was one to post.
    pub(super) fn post_one(&mut self) -> bool {
        let Some(index) = self.rx_free.pop() else {
            return false;
        };
        self.describe(RX, index, rx_buffer(index), self.rx_size, WRITE, 0);
        self.offer(RX, index);
        true
    }

    /// Posts all receive buffers that are free.
    pub(super) fn post_all(&mut self) {
        while self.post_one() {}
    }

    /// Takes the next packet from the device, and leaves its buffer free.
    pub(super) fn receive(&mut self) -> Option<(Header, Vec<u8>)> {
        let (index, length) = self.take_used(RX)?;
        self.rx_free.push(index);
        let mut bytes = vec![0; usize::try_from(length).expect("small")];
        self.mem
            .read_slice(&mut bytes, GuestAddress(rx_buffer(index)))
            .expect("in the window");
        let (header, payload) = bytes.split_first_chunk::<HEADER_SIZE>().expect("a header");
        let header = Header::from_bytes(header);
        assert_eq!(payload.len(), usize::try_from(header.len).expect("small"));
        assert_eq!((header.src_cid, header.dst_cid), (HOST_CID, CID));
        Some((header, payload.to_vec()))
    }

    /// Gives a packet to the device; whether there was a free transmit buffer.
    pub(super) fn send(&mut self, header: Header, payload: &[u8]) -> bool {
        while let Some((index, length)) = self.take_used(TX) {
            assert_eq!(length, 0, "the device writes nothing into what it reads");
            self.tx_free.push(index);
        }
        let Some(index) = self.tx_free.pop() else {
            return false;
        };
        let at = TX_BUFFERS + TX_STRIDE * u64::from(index);
        self.put(at, &header.to_bytes());
        self.put(at + 44, payload);
        let length = u32::try_from(44 + payload.len()).expect("small");
        self.describe(TX, index, at, length, 0, 0);
        self.offer(TX, index);
        true
    }

    pub(super) fn put(&self, at: u64, bytes: &[u8]) {
        self.mem
            .write_slice(bytes, GuestAddress(at))
            .expect("in the window");
    }

    /// Sends a packet and has the device handle it.
    pub(super) fn tell(&mut self, vsock: &mut Vsock, header: Header, payload: &[u8]) {
        assert!(self.send(header, payload), "a transmit buffer is free");
        drain(vsock, self).expect("no fault");
    }

    /// The next packet from the device, its operation and its flags or length; the buffer is posted again.
    pub(super) fn hear(&mut self) -> Option<(Op, u32)> {
        let (header, _) = self.receive()?;
        self.post_all();
        let op = Op::from_number(header.op).expect("a known operation");
        Some((
            op,
            if op == Op::Shutdown {
                header.flags
            } else {
                header.len
            },
        ))
    }
}

pub(super) fn drain(vsock: &mut Vsock, driver: &Driver) -> Result<Progress, DeviceFault> {
    vsock.drain(&driver.mem)
}

/// A header from the guest's port to the host's, with plenty of credit.
pub(super) fn packet(op: Op, guest_port: u32, host_port: u32) -> Header {
    Header {
        src_cid: CID,
        dst_cid: HOST_CID,
        src_port: guest_port,
        dst_port: host_port,
        kind: TYPE_STREAM,
        op: op.number(),
        buf_alloc: 1 << 20,
        ..Header::default()
    }
}

/// A header for `len` bytes.
pub(super) fn data(guest_port: u32, host_port: u32, len: usize) -> Header {
    Header {
        len: u32::try_from(len).expect("small"),
        ..packet(Op::ReadWrite, guest_port, host_port)
    }
}

/// Has the guest connect from `guest_port` to `host_port`, and the host accept.
pub(super) fn establish(vsock: &mut Vsock, driver: &mut Driver, guest_port: u32, host_port: u32) -> ConnId {
    driver.tell(vsock, packet(Op::Request, guest_port, host_port), &[]);
    let Some(Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request is an event")
    };
    vsock.accept(conn);
    drain(vsock, driver).expect("no fault");
    assert_eq!(driver.hear(), Some((Op::Response, 0)));
    conn
}

pub(super) fn queue_page(queue: u16) -> u64 {
    WINDOW + QUEUES_OFFSET + QUEUE_STRIDE * u64::from(queue)
}

pub(super) fn rx_buffer(index: u16) -> u64 {
    RX_BUFFERS + RX_STRIDE * u64::from(index)
}

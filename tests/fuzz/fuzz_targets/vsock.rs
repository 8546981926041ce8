//! A guest that does anything at all to its registers, queues and packets, beside a host that uses what
//! connections come of it. The device must not panic, and must keep to its limits.
//!
//! The input is a script: one byte chooses a step, the bytes after it are the step's arguments. Two steps
//! build packets that are nearly right, so that the search gets past the transport.
#![no_main]

use libfuzzer_sys::fuzz_target;
use muscle_abi::channel::{
    BUFFERS_OFFSET, HOST_CID, QUEUE_AVAILABLE, QUEUE_SIZE, QUEUE_STRIDE, QUEUES_OFFSET,
};
use referee_vsock::packet::Header;
use referee_vsock::{Cid, ConnId, Directions, Event, Vsock, VsockLimits};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const WINDOW: u64 = 0x10_0000;
const WINDOW_LEN: usize = 0x1_0000;
const CID: u64 = 3;
const LIMITS: VsockLimits = VsockLimits {
    max_connections: 4,
    receive_buffer: 5000,
    send_buffer: 5000,
    total_buffered: 40_000,
};

/// Arguments from the rest of the input; zeros when it is used up.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn word(&mut self) -> u32 {
        u32::from(self.short()) << 16 | u32::from(self.short())
    }

    fn bytes(&mut self, count: usize) -> &[u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }
}

struct World {
    vsock: Vsock,
    mem: GuestMemoryMmap,
    conns: Vec<ConnId>,
    available: [u16; 2],
}

impl World {
    fn put(&self, offset: u64, bytes: &[u8]) {
        // What lies outside the window is no store of this guest's.
        let _ = self.mem.write_slice(bytes, GuestAddress(WINDOW + offset));
    }

    fn conn(&self, script: &mut Script<'_>) -> Option<ConnId> {
        let pick = usize::from(script.byte());
        self.conns.get(pick % self.conns.len().max(1)).copied()
    }

    /// Offers a descriptor for a buffer, in direction and place as a good driver does.
    fn offer(&mut self, queue: u16, length: u32) -> u64 {
        let page = QUEUES_OFFSET + QUEUE_STRIDE * u64::from(queue);
        let index = self.available[usize::from(queue)];
        self.available[usize::from(queue)] = index.wrapping_add(1);
        let slot = index % QUEUE_SIZE;
        let buffer = BUFFERS_OFFSET + 0x6000 * u64::from(queue) + 0x100 * u64::from(slot);
        let descriptor = page + 16 * u64::from(slot);
        self.put(descriptor, &(WINDOW + buffer).to_le_bytes());
        self.put(descriptor + 8, &length.to_le_bytes());
        self.put(
            descriptor + 12,
            &(if queue == 0 { 2u32 } else { 0 }).to_le_bytes(),
        );
        self.put(
            page + QUEUE_AVAILABLE + 4 + 2 * u64::from(slot),
            &slot.to_le_bytes(),
        );
        self.put(page + QUEUE_AVAILABLE + 2, &index.wrapping_add(1).to_le_bytes());
        buffer
    }

    fn step(&mut self, script: &mut Script<'_>) {
        match script.byte() % 16 {
            0 => {
                let offset = u64::from(script.short());
                let count = usize::from(script.byte());
                let bytes = script.bytes(count).to_vec();
                self.put(offset, &bytes);
            }
            1 | 2 => {
                let _ = self.vsock.drain(&self.mem);
            }
            3 => {
                let mut data = [0; 8];
                let width = usize::from(script.byte() % 9);
                let _ = self
                    .vsock
                    .mmio_read(u64::from(script.short()), &mut data[..width]);
            }
            4 => {
                let offset = u64::from(script.byte()) * 4;
                let _ = self
                    .vsock
                    .mmio_write(offset, &script.word().to_le_bytes(), &self.mem);
            }
            5 | 6 => {
                let length = u32::from(script.short());
                self.offer(0, length);
            }
            7..=9 => {
                let len = u32::from(script.short() % 5100);
                let header = Header {
                    src_cid: CID,
                    dst_cid: HOST_CID,
                    src_port: u32::from(script.byte() % 6),
                    dst_port: if script.byte() % 2 == 0 {
                        1
                    } else {
                        (1 << 30) + u32::from(script.byte() % 6)
                    },
                    len,
                    kind: 1,
                    op: u16::from(script.byte() % 9),
                    flags: u32::from(script.byte() % 4),
                    buf_alloc: u32::from(script.short()),
                    fwd_cnt: u32::from(script.short()),
                };
                let buffer = self.offer(1, 44 + len);
                self.put(buffer, &header.to_bytes());
            }
            10 => {
                while let Some(event) = self.vsock.next_event() {
                    match event {
                        Event::Request { conn, .. } if script.byte() % 4 != 0 => {
                            self.vsock.accept(conn);
                            self.conns.push(conn);
                        }
                        Event::Request { conn, .. } => self.vsock.refuse(conn),
                        Event::Closed { .. }
                        | Event::Connected { .. }
                        | Event::Readable { .. }
                        | Event::Writable { .. }
                        | Event::PeerShutdown { .. } => {}
                    }
                }
            }
            11 => {
                if let Ok(conn) = self.vsock.connect(u32::from(script.byte() % 6)) {
                    self.conns.push(conn);
                }
            }
            12 => {
                let Some(conn) = self.conn(script) else { return };
                let bytes = [7; 6000];
                let count = usize::from(script.short()).min(bytes.len());
                let room = self.vsock.writable(conn);
                assert_eq!(self.vsock.write(conn, &bytes[..count]), room.min(count));
            }
            13 => {
                let Some(conn) = self.conn(script) else { return };
                let waiting = self.vsock.readable(conn);
                let front = self.vsock.peek(conn).len();
                assert!(front <= waiting && (front > 0) == (waiting > 0));
                let mut out = [0; 600];
                assert_eq!(self.vsock.read(conn, &mut out), waiting.min(out.len()));
            }
            14 => {
                let Some(conn) = self.conn(script) else { return };
                match script.byte() % 5 {
                    0 => self.vsock.close(conn),
                    1 => self.vsock.abort(conn),
                    2 => self.vsock.shutdown(conn, Directions::SEND),
                    3 => self.vsock.shutdown(conn, Directions::RECEIVE),
                    _ => self.vsock.accept(conn),
                }
            }
            _ => {
                if script.byte() == 0 {
                    self.vsock.reset();
                    self.available = [0; 2];
                    self.put(0, &[0; 0x4000]);
                }
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut vsock = Vsock::new(Cid::new(CID).expect("not reserved"), LIMITS);
    vsock.prepare(GuestAddress(WINDOW)).expect("aligned");
    let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), WINDOW_LEN)]).expect("memory");
    let mut world = World {
        vsock,
        mem,
        conns: Vec::new(),
        available: [0; 2],
    };
    let mut script = Script(input);
    while !script.0.is_empty() {
        world.step(&mut script);
        assert!(world.vsock.connections() <= LIMITS.max_connections);
    }
});

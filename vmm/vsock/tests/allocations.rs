//! Between a request and its reply the device allocates nothing.

use muscle_abi::channel::{
    BUFFERS_OFFSET, HOST_CID, QUEUE_AVAILABLE, QUEUE_SIZE, QUEUE_STRIDE, QUEUES_OFFSET,
};
use referee_vsock::packet::{Header, Op, TYPE_STREAM};
use referee_vsock::{Cid, ConnId, Event, Vsock, VsockLimits};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const WINDOW: u64 = 0x10_0000;
const CID: u64 = 7;
const GUEST_PORT: u32 = 5000;
const REQUEST: usize = 900;
const REPLY: usize = 3000;

/// A guest that gives every buffer back at once, so that descriptor `n % 64` is always free.
struct Guest {
    mem: GuestMemoryMmap,
    available: [u16; 2],
    heard: u32,
}

impl Guest {
    fn put(&self, at: u64, bytes: &[u8]) {
        self.mem
            .write_slice(bytes, GuestAddress(at))
            .expect("in the window");
    }

    fn offer(&mut self, queue: u16, length: u32, flags: u16) {
        let page = WINDOW + QUEUES_OFFSET + QUEUE_STRIDE * u64::from(queue);
        let index = &mut self.available[usize::from(queue)];
        let slot = *index % QUEUE_SIZE;
        *index = index.wrapping_add(1);
        let index = *index;
        let descriptor = page + 16 * u64::from(slot);
        self.put(descriptor, &buffer(queue, slot).to_le_bytes());
        self.put(descriptor + 8, &length.to_le_bytes());
        self.put(descriptor + 12, &flags.to_le_bytes());
        self.put(
            page + QUEUE_AVAILABLE + 4 + 2 * u64::from(slot),
            &slot.to_le_bytes(),
        );
        self.put(page + QUEUE_AVAILABLE + 2, &index.to_le_bytes());
    }

    fn send(&mut self, op: Op, payload: &[u8]) {
        let header = Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: GUEST_PORT,
            dst_port: 1,
            len: u32::try_from(payload.len()).expect("small"),
            kind: TYPE_STREAM,
            op: op.number(),
            flags: 0,
            buf_alloc: 1 << 16,
            fwd_cnt: self.heard,
        };
        let at = buffer(1, self.available[1] % QUEUE_SIZE);
        self.put(at, &header.to_bytes());
        self.put(at + 44, payload);
        self.offer(1, 44 + header.len, 0);
    }
}

fn buffer(queue: u16, slot: u16) -> u64 {
    WINDOW + BUFFERS_OFFSET + 0x8_0000 * u64::from(queue) + 0x2000 * u64::from(slot)
}

/// One call: a request goes in, the guest answers, the answer comes out.
fn call(vsock: &mut Vsock, guest: &mut Guest, conn: ConnId, scratch: &mut [u8]) {
    assert_eq!(vsock.write(conn, &scratch[..REQUEST]), REQUEST);
    assert_eq!(vsock.drain(&guest.mem).map(|progress| progress.delivered), Ok(1));
    guest.heard += 900;
    guest.offer(0, 4096, 2);
    guest.send(Op::ReadWrite, &[9; REPLY]);
    assert_eq!(vsock.drain(&guest.mem).map(|progress| progress.received), Ok(1));
    assert_eq!(vsock.next_event(), Some(Event::Readable { conn }));
    assert_eq!(vsock.read(conn, scratch), REPLY);
}

#[test]
fn a_thousand_calls_allocate_nothing_after_the_first() {
    let mut vsock = Vsock::new(Cid::new(CID).expect("not reserved"), VsockLimits::default());
    vsock.prepare(GuestAddress(WINDOW)).expect("aligned");
    let mem = GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), 4 << 20)]).expect("memory");
    let mut guest = Guest {
        mem,
        available: [0; 2],
        heard: 0,
    };
    for _ in 0..32 {
        guest.offer(0, 4096, 2);
    }
    guest.send(Op::Request, &[]);
    vsock.drain(&guest.mem).expect("no fault");
    let Some(Event::Request { conn, .. }) = vsock.next_event() else {
        panic!("a request")
    };
    vsock.accept(conn);
    vsock.drain(&guest.mem).expect("no fault");
    guest.offer(0, 4096, 2);
    let mut scratch = vec![0; REPLY];
    call(&mut vsock, &mut guest, conn, &mut scratch);

    let counted = allocation_counter::measure(|| {
        for _ in 0..1000 {
            call(&mut vsock, &mut guest, conn, &mut scratch);
            // Credit updates take receive buffers too: one for every half of the default window.
            while vsock.has_pending() {
                vsock.drain(&guest.mem).expect("no fault");
                guest.offer(0, 4096, 2);
            }
        }
    });
    assert_eq!(counted.count_total, 0);
}

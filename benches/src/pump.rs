//! A vsock device with a connection, and a guest at its other end that answers each request.

use anyhow::{Context, bail, ensure};
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
const ANSWER: usize = 3000;
const RECEIVE: u16 = 0;
const TRANSMIT: u16 = 1;
/// Flag of a descriptor that the device writes.
const WRITE: u16 = 2;

/// Device and guest, connected.
pub struct Line {
    vsock: Vsock,
    guest: Guest,
    connection: ConnId,
    scratch: Vec<u8>,
}

impl Line {
    /// Has the guest connect and the host accept.
    pub fn connect() -> anyhow::Result<Line> {
        let mut vsock = Vsock::new(Cid::new(CID)?, VsockLimits::default());
        vsock.prepare(GuestAddress(WINDOW))?;
        let mut guest = Guest {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(WINDOW), 4 << 20)])?,
            available: [0; 2],
            heard: 0,
        };
        for _ in 0..QUEUE_SIZE / 2 {
            guest.offer(RECEIVE, 4096, WRITE)?;
        }
        guest.send(Op::Request, &[])?;
        vsock.drain(&guest.memory)?;
        let Some(Event::Request { conn, .. }) = vsock.next_event() else {
            bail!("the guest's request is no event")
        };
        vsock.accept(conn);
        vsock.drain(&guest.memory)?;
        guest.offer(RECEIVE, 4096, WRITE)?;
        Ok(Line {
            vsock,
            guest,
            connection: conn,
            scratch: vec![0; ANSWER],
        })
    }

    /// One request in and its answer out.
    pub fn call(&mut self) -> anyhow::Result<()> {
        let Line {
            vsock,
            guest,
            connection,
            scratch,
        } = self;
        let request = scratch.get(..REQUEST).context("room for a request")?;
        ensure!(
            vsock.write(*connection, request) == REQUEST,
            "the request does not fit"
        );
        vsock.drain(&guest.memory)?;
        guest.heard = guest.heard.wrapping_add(u32::try_from(REQUEST)?);
        guest.offer(RECEIVE, 4096, WRITE)?;
        guest.send(Op::ReadWrite, &[9; ANSWER])?;
        vsock.drain(&guest.memory)?;
        ensure!(vsock.next_event().is_some(), "the answer is no event");
        ensure!(
            vsock.read(*connection, scratch) == ANSWER,
            "the answer is not whole"
        );
        // Credit updates take receive buffers too.
        while vsock.has_pending() {
            vsock.drain(&guest.memory)?;
            guest.offer(RECEIVE, 4096, WRITE)?;
        }
        Ok(())
    }
}

/// A guest that gives every buffer back at once, so that descriptor `n % 64` is always free.
struct Guest {
    memory: GuestMemoryMmap,
    available: [u16; 2],
    heard: u32,
}

impl Guest {
    fn put(&self, at: u64, bytes: &[u8]) -> anyhow::Result<()> {
        Ok(self.memory.write_slice(bytes, GuestAddress(at))?)
    }

    fn offer(&mut self, queue: u16, length: u32, flags: u16) -> anyhow::Result<()> {
        let page = WINDOW + QUEUES_OFFSET + QUEUE_STRIDE * u64::from(queue);
        let index = self.available.get_mut(usize::from(queue)).context("a queue")?;
        let slot = *index % QUEUE_SIZE;
        *index = index.wrapping_add(1);
        let index = *index;
        let descriptor = page + 16 * u64::from(slot);
        self.put(descriptor, &buffer(queue, slot).to_le_bytes())?;
        self.put(descriptor + 8, &length.to_le_bytes())?;
        self.put(descriptor + 12, &flags.to_le_bytes())?;
        self.put(
            page + QUEUE_AVAILABLE + 4 + 2 * u64::from(slot),
            &slot.to_le_bytes(),
        )?;
        self.put(page + QUEUE_AVAILABLE + 2, &index.to_le_bytes())
    }

    fn send(&mut self, op: Op, payload: &[u8]) -> anyhow::Result<()> {
        let header = Header {
            src_cid: CID,
            dst_cid: HOST_CID,
            src_port: GUEST_PORT,
            dst_port: 1,
            len: u32::try_from(payload.len())?,
            kind: TYPE_STREAM,
            op: op.number(),
            flags: 0,
            buf_alloc: 1 << 16,
            fwd_cnt: self.heard,
        };
        let [_, transmit] = self.available;
        let at = buffer(TRANSMIT, transmit % QUEUE_SIZE);
        self.put(at, &header.to_bytes())?;
        self.put(at + 44, payload)?;
        self.offer(TRANSMIT, 44 + header.len, 0)
    }
}

fn buffer(queue: u16, slot: u16) -> u64 {
    WINDOW + BUFFERS_OFFSET + 0x8_0000 * u64::from(queue) + 0x2000 * u64::from(slot)
}

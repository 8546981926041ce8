//! The packet buffers in the window, and the two queues that carry them.

use alloc::vec::Vec;

use muscle_abi::channel::{
    BUFFERS_OFFSET, LANE_FRAME_MAX, POLL_OFFSET, QUEUE_SIZE, QUEUE_STRIDE, QUEUES_OFFSET,
};

use super::lane::Lane;
use super::packet::{HEADER_SIZE, Header};
use crate::queue::{Queue, Writer};
use crate::size::size;
use crate::window::Window;

/// The window cut into buffers.
#[derive(Debug)]
pub(super) struct Buffers {
    window: Window,
    lane: Lane,
    receive: Queue,
    transmit: Queue,
    /// The buffer behind each descriptor of the receive queue that the device holds.
    posted: [Buffer; QUEUE_SIZE as usize],
    /// The same for the transmit queue.
    sent: [Buffer; QUEUE_SIZE as usize],
    free_small: Vec<Buffer>,
    free_large: Vec<Buffer>,
    /// Large receive buffers that are not posted yet.
    spare: Vec<Buffer>,
}

/// A piece of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Buffer {
    offset: usize,
    len: usize,
}

/// A received packet: its header, and where its bytes lie until [`Buffers::give_back`].
#[derive(Debug)]
pub(super) struct Received {
    /// The header, copied out.
    pub(super) header: Header,
    offset: usize,
    payload_len: usize,
    buffer: Buffer,
    is_full: bool,
}

impl Buffers {
    /// Cuts up the window and posts the first receive buffers.
    pub(super) fn new(window: Window) -> Buffers {
        let receive = Queue::new(&window, size(QUEUES_OFFSET));
        let transmit = Queue::new(&window, size(QUEUES_OFFSET + QUEUE_STRIDE));
        let first = size(BUFFERS_OFFSET);
        let half = window.len().saturating_sub(first + PAGE) / 2;
        let large = if half >= 2 * LARGE { LARGE } else { PAGE };
        let count = (half / large).min(usize::from(QUEUE_SIZE) - SMALL_COUNT);
        let cut = |start: usize, size: usize, count: usize| {
            // The last is used first, so the lowest addresses are.
            (0..count).rev().map(move |index| Buffer {
                offset: start + index * size,
                len: size,
            })
        };
        let mut buffers = Buffers {
            receive,
            transmit,
            posted: [Buffer::default(); QUEUE_SIZE as usize],
            sent: [Buffer::default(); QUEUE_SIZE as usize],
            free_small: cut(first + SMALL_COUNT * SMALL, SMALL, SMALL_COUNT).collect(),
            free_large: cut(first + PAGE + count * large, large, count).collect(),
            spare: cut(first + PAGE, large, count).collect(),
            lane: Lane::default(),
            window,
        };
        for buffer in cut(first, SMALL, SMALL_COUNT).rev() {
            buffers.post(buffer);
        }
        buffers
    }

    /// The next packet that the device has delivered. One that is shorter than its header says, or than a header, is
    /// dropped.
    pub(super) fn receive(&mut self) -> Option<Received> {
        loop {
            let (id, written) = self.receive.take_used(&self.window)?;
            let buffer = self.posted[usize::from(id)];
            let written = (written as usize).min(buffer.len);
            let mut bytes = [0; HEADER_SIZE];
            if written >= HEADER_SIZE {
                self.window.copy_out(buffer.offset, &mut bytes);
                let header = Header::from_bytes(&bytes);
                let payload_len = header.length as usize;
                if payload_len <= written - HEADER_SIZE {
                    return Some(Received {
                        header,
                        offset: buffer.offset + HEADER_SIZE,
                        payload_len,
                        buffer,
                        is_full: written == buffer.len,
                    });
                }
            }
            self.post(buffer);
        }
    }

    /// Waits for the device to finish with a buffer for as long as the host wants the muscle to poll; whether it did.
    pub(super) fn poll(&self) -> bool {
        self.poll_until(|| false)
    }

    /// As [`Buffers::poll`], or for a call in the lane; one that is there is found whether the muscle is to poll or not.
    pub(super) fn poll_for_call(&self) -> bool {
        self.poll_until(|| self.lane.has_call(&self.window))
    }

    fn poll_until(&self, found: impl Fn() -> bool) -> bool {
        while self.window.load_u32(size(POLL_OFFSET)) != 0 {
            if found() || self.receive.has_used(&self.window) || self.transmit.has_used(&self.window) {
                return true;
            }
            core::hint::spin_loop();
        }
        found()
    }

    /// Tells the host that calls are taken from the lane.
    pub(super) fn announce_lane(&mut self) {
        self.lane.announce(&self.window);
    }

    /// Copies the frame of a call in the lane; its length.
    pub(super) fn take_from_lane(&mut self, frame: &mut [u8; LANE_FRAME_MAX]) -> Option<usize> {
        self.lane.take(&self.window, frame)
    }

    /// Answers the call that was taken from the lane last; false when the frame finds no room there.
    pub(super) fn answer_by_lane(&self, parts: &[&[u8]]) -> bool {
        self.lane.answer(&self.window, parts)
    }

    /// Bytes that a received packet carries.
    pub(super) fn append_payload(&self, packet: &Received, to: &mut Vec<u8>) {
        let start = to.len();
        to.resize(start + packet.payload_len, 0);
        self.window.copy_out(packet.offset, &mut to[start..]);
    }

    /// Gives a packet's buffer back to the device. A full one says that more is coming than small buffers are good for.
    pub(super) fn give_back(&mut self, packet: &Received) {
        if packet.is_full && !self.spare.is_empty() {
            while let Some(buffer) = self.spare.pop() {
                self.post(buffer);
            }
        }
        self.post(packet.buffer);
    }

    /// Takes back the transmit buffers that the device has read; whether there were any.
    pub(super) fn reclaim(&mut self) -> bool {
        let mut any = false;
        while let Some((id, _)) = self.transmit.take_used(&self.window) {
            let buffer = self.sent[usize::from(id)];
            let free = if buffer.len == SMALL {
                &mut self.free_small
            } else {
                &mut self.free_large
            };
            free.push(buffer);
            any = true;
        }
        any
    }

    /// How many bytes a packet sent now could carry, of `wanted`; `None` when every buffer is with the device.
    pub(super) fn room(&self, wanted: usize) -> Option<usize> {
        let fits_small = wanted <= SMALL - HEADER_SIZE;
        let buffer = match (self.free_small.last(), self.free_large.last()) {
            (Some(small), _) if fits_small => small,
            (_, Some(large)) => large,
            (Some(small), None) => small,
            (None, None) => return None,
        };
        Some(wanted.min(buffer.len - HEADER_SIZE))
    }

    /// Sends a packet whose bytes are the next `header.length` of `parts` after `skip`; false when no buffer is free.
    ///
    /// `header.length` is at most what [`Buffers::room`] answered for it.
    pub(super) fn send(&mut self, header: Header, parts: &[&[u8]], skip: usize) -> bool {
        let length = header.length as usize;
        let fits_small = length <= SMALL - HEADER_SIZE;
        let buffer = if fits_small { self.free_small.pop() } else { None };
        let Some(buffer) = buffer.or_else(|| self.free_large.pop()) else {
            return false;
        };
        self.window.copy_in(buffer.offset, &header.to_bytes());
        let (mut at, mut skip, mut left) = (buffer.offset + HEADER_SIZE, skip, length);
        for part in parts {
            let start = skip.min(part.len());
            skip -= start;
            let end = part.len().min(start + left);
            self.window.copy_in(at, &part[start..end]);
            at += end - start;
            left -= end - start;
        }
        // The buffers are at most 13 bits and the queue has more descriptors than there are buffers.
        let len = u32::try_from(HEADER_SIZE + length).unwrap_or(u32::MAX);
        let id = self
            .transmit
            .post(&self.window, buffer.offset, len, Writer::Driver);
        let id = id.expect("the queue has a descriptor for each transmit buffer");
        self.sent[usize::from(id)] = buffer;
        true
    }

    fn post(&mut self, buffer: Buffer) {
        let len = u32::try_from(buffer.len).unwrap_or(u32::MAX);
        let id = self
            .receive
            .post(&self.window, buffer.offset, len, Writer::Device);
        let id = id.expect("the queue has a descriptor for each receive buffer");
        self.posted[usize::from(id)] = buffer;
    }
}

const PAGE: usize = 4096;
const SMALL: usize = 512;
const SMALL_COUNT: usize = 4;
const LARGE: usize = 32 << 10;

const _: () = assert!(
    2 * SMALL * SMALL_COUNT == PAGE,
    "the small buffers share one page"
);

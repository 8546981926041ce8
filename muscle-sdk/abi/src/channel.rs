//! The window that muscle and device share, and the addresses used on the channel.
//!
//! ```text
//!   window + 0x0000  mailbox: word 0 answers GROW; from 64 on, text of an ABORT
//!          + 0x0800  queue 0, receive:  descriptors, then available ring, then used ring
//!          + 0x0f00  the poll word
//!          + 0x1000  queue 1, transmit: as queue 0
//!          + 0x16c0  the lane of calls
//!          + 0x1800  queue 2, events:   as queue 0
//!          + 0x1ec0  the lane of answers
//!          + 0x2000  packet buffers, the driver's to cut up
//! ```
//! What every muscle uses is in as few pages as it fits, all at the window's start: each first touch of a page, or of eight that follow
//! each other, can cost as much as an exit.
//!
//! When [`crate::boot::FLAG_DEVICE_READY`] is set the device is at `DRIVER_OK` with exactly these queues, each of
//! [`QUEUE_SIZE`] entries, and with the features `VIRTIO_F_VERSION_1` and `VIRTIO_VSOCK_F_STREAM`.
//! A driver that wants other queues resets the device and goes through the handshake of virtio 1.2, §3.1.

/// Offset in the window, in the page of queue 0, of a 32-bit word that the host may change at any time, if the queues are where it put them: while it is not 0, a muscle that has nothing to
/// do polls its queues instead of ringing [`crate::doorbell::PARK`] or [`crate::doorbell::READY`], as the host polls them too. It
/// need not: whatever it parks for is served as ever. In a new cell it is 0.
pub const POLL_OFFSET: u64 = 0xf00;
/// Offset in the window of the lane of calls, by which the host of a muscle that polls may make a small call without the queues: a number of 32 bits, then, at
/// [`LANE_FRAME`], one frame. The frame is there when the number is another than the last one that the muscle saw, which was 0 at first; the
/// host changes it when the call before it by the lane has been answered, and at no other time.
///
/// It does so only once [`LANE_READ`] says that the muscle reads calls there. Such a muscle looks whenever it waits for a call, whether it is to poll or
/// parks then.
pub const CALL_LANE_OFFSET: u64 = 0x16c0;
/// Offset in the window of the lane of answers, which the muscle alone writes. When the frame of an answer to a call by the lane stands at [`LANE_FRAME`], the number
/// of the call is stored (release) before it, at 0. An answer that does not fit, or that the muscle does not put there for another reason, goes
/// through the queues.
pub const ANSWER_LANE_OFFSET: u64 = 0x1ec0;
/// Offset in the lane of answers of a 32-bit word in which the muscle stores 1 when it reads calls from the lane.
pub const LANE_READ: u64 = 4;
/// Offset in a lane of its frame.
pub const LANE_FRAME: u64 = 8;
/// Most bytes that a frame in a lane may have, its header included.
pub const LANE_FRAME_MAX: usize = 312;
/// Offset in the window, of which the mailbox is the first part, of the text of an `ABORT`.
pub const MAILBOX_TEXT_OFFSET: u64 = 64;
/// Most bytes that an `ABORT` text may have.
pub const MAILBOX_TEXT_MAX: u64 = QUEUES_OFFSET - MAILBOX_TEXT_OFFSET;
/// Offset of queue 0 in the window; queue `n` lies `n` times [`QUEUE_STRIDE`] further on.
pub const QUEUES_OFFSET: u64 = 0x800;
/// From one queue to the next.
pub const QUEUE_STRIDE: u64 = 0x800;
/// Offset of the packet buffers in the window.
pub const BUFFERS_OFFSET: u64 = 0x2000;
/// Entries of each prepared queue.
pub const QUEUE_SIZE: u16 = 64;
/// Offset in a queue of its descriptor table (16 bytes an entry).
pub const QUEUE_DESCRIPTORS: u64 = 0;
/// Offset in a queue of its available ring.
pub const QUEUE_AVAILABLE: u64 = 16 * QUEUE_SIZE as u64;
/// Offset in a queue of its used ring (4-byte aligned).
pub const QUEUE_USED: u64 = QUEUE_AVAILABLE + 6 + 2 * QUEUE_SIZE as u64 + 2;

/// Context id of the host, virtio 1.2 §5.10.4.
pub const HOST_CID: u64 = 2;
/// Port of the RPC service on the host; the muscle connects to it first of all.
pub const RPC_PORT: u32 = 1;
/// The lowest port that a muscle may listen on or be granted; lower ones are the VMM's services.
pub const FIRST_MUSCLE_PORT: u32 = 1024;

const _: () = assert!(
    QUEUES_OFFSET + QUEUE_USED + 6 + 8 * QUEUE_SIZE as u64 <= POLL_OFFSET
        && POLL_OFFSET < QUEUES_OFFSET + QUEUE_STRIDE,
    "the poll word is behind queue 0 and before queue 1"
);
const _: () = assert!(
    QUEUES_OFFSET + QUEUE_STRIDE + QUEUE_USED + 6 + 8 * QUEUE_SIZE as u64 <= CALL_LANE_OFFSET
        && CALL_LANE_OFFSET + LANE_FRAME + LANE_FRAME_MAX as u64 <= QUEUES_OFFSET + 2 * QUEUE_STRIDE,
    "the lane of calls is behind queue 1 and before queue 2"
);
const _: () = assert!(
    ANSWER_LANE_OFFSET == CALL_LANE_OFFSET + QUEUE_STRIDE && CALL_LANE_OFFSET.is_multiple_of(64),
    "the lane of answers is behind queue 2, and each begins with a line of cache"
);
const _: () = assert!(
    QUEUES_OFFSET + 3 * QUEUE_STRIDE <= BUFFERS_OFFSET,
    "the queues end where the buffers begin"
);
const _: () = assert!(
    QUEUE_USED.is_multiple_of(4),
    "virtio 1.2 §2.7: used ring is 4-byte aligned"
);

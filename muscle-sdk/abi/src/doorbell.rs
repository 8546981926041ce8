//! The control page: stores that make the vCPU exit to the VMM.
//!
//! Every access must be one aligned 64-bit store; a load, another width or another offset is a fault.
//! The VMM drains all queues at every exit, whatever its cause.
//!
//! ```text
//!   0x00 PARK   nothing to do until something arrives; value: 0, or the time to wake at as
//!               nanoseconds of the cell's monotonic clock (needs a `clock` grant)
//!   0x08 EXIT   the muscle is done; value: exit code, 0 to 99
//!   0x10 ABORT  the muscle gives up; value: length of the message in the mailbox
//!   0x18 GROW   more heap, please; value: pages. The mailbox's first word then holds the heap's new
//!               length in bytes, unchanged when the grant allows no more
//!   0x20 YIELD  drain the queues and let me go on at once
//!   0x30 READY  PARK without a time, for a muscle that has started and waits for its first call, where
//!               `FLAG_READY_BELL` is set; value: any
//!   0x38 RING_WAIT  nothing to do until the other side of a ring rings; value: the grant's handle
//!   0x40 RING_WAKE  wakes the other side of a ring if it waits, or else when it waits next; value: the handle
//! ```

/// Register offsets in the control page.
pub const PARK: u64 = 0x00;
/// Ends the cell with an exit code.
pub const EXIT: u64 = 0x08;
/// Ends the cell with a message.
pub const ABORT: u64 = 0x10;
/// Asks for more heap.
pub const GROW: u64 = 0x18;
/// Lets the host drain the queues.
pub const YIELD: u64 = 0x20;
/// Parks, and promises that what the muscle knows is good for any other cell of its permit: of the boot block it has kept nothing but
/// addresses, the heap's length and its context id; seed, arguments and grants it reads from the block whenever it
/// needs them, and they may be others when the doorbell returns. Once a call has come it freezes nothing by itself; the promise holds all the same, for
/// an owner who has the muscle kept between two calls.
pub const READY: u64 = 0x30;
/// Waits for the other side of a ring. May return earlier.
pub const RING_WAIT: u64 = 0x38;
/// Wakes the other side of a ring, and goes on at once.
pub const RING_WAKE: u64 = 0x40;

//! The control doorbells, and what the muscle writes in the mailbox for them.

use muscle_abi::boot::FLAG_READY_BELL;
use muscle_abi::channel::{MAILBOX_TEXT_MAX, MAILBOX_TEXT_OFFSET};
use muscle_abi::{MAX_EXIT_CODE, PAGE_SIZE, doorbell};

use crate::boot;
use crate::size::size;
use crate::x86_64::store_doorbell;

/// Waits until the host has used a buffer of any queue, or until `wake_at_ns` of the cell's monotonic clock; 0
/// waits without limit. May return earlier.
pub fn park(wake_at_ns: u64) {
    ring(doorbell::PARK, wake_at_ns);
}

/// Waits for a call of the host, without limit. May return earlier, and, the first time, in another cell: what this runtime keeps of the
/// boot block is good there too, see [`boot::info`].
pub fn ready() {
    let knows = boot::info().is_some_and(|info| info.flags & FLAG_READY_BELL != 0);
    ring(if knows { doorbell::READY } else { doorbell::PARK }, 0);
}

/// Lets the host drain the queues and comes back at once.
pub fn yield_now() {
    ring(doorbell::YIELD, 0);
}

/// Waits until the other side of the ring with this handle rings; at once if it has since the last wait. May return earlier.
pub(crate) fn ring_wait(handle: u64) {
    ring(doorbell::RING_WAIT, handle);
}

/// Wakes the other side of the ring with this handle.
pub(crate) fn ring_wake(handle: u64) {
    ring(doorbell::RING_WAKE, handle);
}

/// Ends the cell. Codes above [`MAX_EXIT_CODE`] become that code, since larger ones are a fault.
pub fn exit(code: u8) -> ! {
    ring(doorbell::EXIT, u64::from(code).min(MAX_EXIT_CODE));
    halt()
}

/// Ends the cell with a text, of which the first [`MAILBOX_TEXT_MAX`] bytes are kept.
pub fn abort(text: &str) -> ! {
    let mut mailbox = Mailbox::new();
    let _ = core::fmt::Write::write_str(&mut mailbox, text);
    mailbox.abort()
}

/// Asks for `bytes` more heap (in whole pages) and returns the heap's new length in bytes.
pub(crate) fn grow(bytes: u64) -> u64 {
    let Some(info) = boot::info() else { return 0 };
    ring(doorbell::GROW, bytes.div_ceil(PAGE_SIZE));
    let answer = pointer(info.window_va).cast::<u64>();
    // SAFETY: the mailbox is the window's first page, mapped and aligned; the VMM wrote its first word before it let
    // the vCPU go on, and nothing else uses that word.
    u64::from_le(unsafe { answer.read_volatile() })
}

/// Writes text into the mailbox, byte by byte and without allocating.
pub(crate) struct Mailbox {
    text: *mut u8,
    len: usize,
}

impl Mailbox {
    /// Starts an empty text.
    pub(crate) fn new() -> Mailbox {
        let window = boot::info().map_or(0, |info| info.window_va);
        Mailbox {
            text: pointer(window).wrapping_add(size(MAILBOX_TEXT_OFFSET)),
            len: 0,
        }
    }

    /// Ends the cell with the text.
    pub(crate) fn abort(self) -> ! {
        ring(doorbell::ABORT, self.len as u64);
        halt()
    }

    /// Whether the text so far begins with `start`.
    #[cfg(cell)]
    pub(crate) fn starts_with(&self, start: &str) -> bool {
        self.len >= start.len()
            && start.bytes().enumerate().all(|(at, byte)| {
                // SAFETY: `at < start.len() <= len`, and `write_str` wrote `len` bytes there.
                unsafe { self.text.wrapping_add(at).read_volatile() == byte }
            })
    }

    /// Forgets the text.
    #[cfg(cell)]
    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }
}

impl core::fmt::Write for Mailbox {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        if boot::info().is_none() {
            return Err(core::fmt::Error);
        }
        for byte in text.bytes() {
            if self.len >= size(MAILBOX_TEXT_MAX) {
                return Err(core::fmt::Error);
            }
            // SAFETY: `len < MAILBOX_TEXT_MAX` keeps the byte inside the mailbox, which the VMM mapped at the window.
            unsafe { self.text.wrapping_add(self.len).write_volatile(byte) }
            self.len += 1;
        }
        Ok(())
    }
}

fn ring(register: u64, value: u64) {
    let Some(info) = boot::info() else { not_in_a_cell() };
    let address = pointer(info.doorbell_va + register).cast::<u64>();
    // SAFETY: the boot block names the doorbell page, and `register` is one of `muscle_abi::doorbell`'s.
    unsafe { store_doorbell(address, value) }
}

/// Reached only if the VMM let the muscle go on after its end.
fn halt() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Makes a pointer of an address from the boot block.
pub(crate) fn pointer(address: u64) -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(size(address))
}

#[cfg(cell)]
fn not_in_a_cell() -> ! {
    // SAFETY: `ud2` touches nothing; without a boot block there is no doorbell to ring, so the fault is the report.
    unsafe { core::arch::asm!("ud2", options(noreturn, nomem, nostack)) }
}

#[cfg(not(cell))]
fn not_in_a_cell() -> ! {
    panic!("a doorbell was rung outside a cell")
}

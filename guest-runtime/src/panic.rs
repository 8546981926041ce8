//! A panic ends the cell with its message, file and line in the mailbox.
#![cfg(cell)]

use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::doorbell::Mailbox;
use crate::{console, heap};

static PANICKING: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let again = PANICKING.swap(true, Ordering::Relaxed);
    let mut mailbox = Mailbox::new();
    let _ = write!(mailbox, "{}", info.message());
    if mailbox.starts_with(OUT_OF_MEMORY) {
        let (in_use, max, refused) = heap::live::usage();
        mailbox.clear();
        let _ = write!(
            mailbox,
            "out of memory: asked for {refused} bytes, {in_use} of {max} in use"
        );
    } else {
        if let Some(place) = info.location() {
            let _ = write!(mailbox, ", {}:{}:{}", place.file(), place.line(), place.column());
        }
        if !again {
            console::flush();
        }
    }
    mailbox.abort()
}

/// How `alloc::alloc::handle_alloc_error` begins its panic in programs without `std`.
const OUT_OF_MEMORY: &str = "memory allocation of ";

//! The first instruction of a muscle.
#![cfg(cell)]

use core::arch::naked_asm;

use muscle_abi::boot::{BOOT_SIZE, Style};

use crate::{boot, doorbell, entries, heap};

/// Entered by the VMM in ring 3 with `rdi` = address of the boot block, `rsp` = top of the stack, everything else zero.
///
/// Ends the chain of frame pointers, aligns the stack as the ABI wants it at a call, and never returns.
#[unsafe(naked)]
#[unsafe(no_mangle)]
extern "C" fn _start() -> ! {
    naked_asm!(
        "xor ebp, ebp",
        "and rsp, -16",
        "call {start}",
        "ud2",
        start = sym start,
    )
}

extern "C" fn start(block: *const [u8; BOOT_SIZE]) -> ! {
    // SAFETY: this is the first Rust code to run, and `block` is what the VMM passed in `rdi`.
    unsafe { boot::read(block) };
    heap::live::start();
    let style = boot::info().and_then(|info| Style::from_number(info.style));
    match style {
        Some(Style::Command) => match entries::main() {
            Some(main) => doorbell::exit(main()),
            None => doorbell::abort("the muscle has no main function; it can only be called"),
        },
        Some(Style::Reactor) => crate::cell::serve(),
        None => doorbell::abort("the boot block names no style that this muscle knows"),
    }
}

/// Referred to by the precompiled `core` and `alloc`, which can unwind. Never called: panics abort here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    doorbell::abort("a panic tried to unwind")
}

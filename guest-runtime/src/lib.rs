//! What runs in a cell below a muscle's own code.
//!
//! The VMM enters the image at `_start` in ring 3, with page tables, stack, heap and device ready; this
//! crate reads the boot block, brings the heap, drives the vsock device, speaks RPC frames over it and rings
//! the doorbells. It is the only guest crate with unsafe code: whatever touches an address that the VMM chose
//! is here, behind functions that are safe to call.
//!
//! ```text
//!   entry ── boot ── entries ──► the muscle's main, or serve
//!                                   │
//!                   console, cell::call, sockets
//!                                   │
//!                  rpc (frames) ── vsock::Driver ── queue ── window
//!                                   │
//!                               doorbell
//! ```
//!
//! One rule: the muscle's first instruction is not preceded by an exit. The connection to the host is made
//! when it is first used.
//!
//! `cfg(cell)` (see `build.rs`) is on when the build is for a cell. In any other build the same code compiles
//! and its logic is tested, but [`cell::with`] says that there is no cell.
#![no_std]
#![allow(unsafe_code)]
// Without a cell only tests use the driver and the heap.
#![cfg_attr(not(cell), allow(dead_code))]

extern crate alloc;
#[cfg(not(cell))]
extern crate std;

pub mod boot;
pub mod cell;
pub mod console;
pub mod doorbell;
pub mod entries;
pub mod ring;
pub mod rpc;
pub mod vsock;
pub mod x86_64;

mod entry;
mod global;
mod heap;
mod panic;
mod queue;
#[cfg(cell)]
mod single;
mod size;
mod window;

pub use entries::Entry;
pub use global::Global;
pub use rpc::{CallError, Handler};
pub use x86_64 as arch;

//! What a muscle and its VMM agree on, and nothing else.
//!
//! This crate is the one rule both sides share: addresses, doorbell registers, the boot block, RPC
//! frames, capability kinds and error codes. It has no dependencies, allocates nothing and contains no
//! unsafe code, so that the host may read a hostile guest's bytes with the same functions that the guest
//! used to write them.
//!
//! All integers are little-endian. `docs/abi.md` draws everything here.
#![no_std]
#![forbid(unsafe_code)]

pub mod boot;
pub mod capability;
pub mod channel;
pub mod doorbell;
pub mod frame;
pub mod vector;

/// Version of everything in this crate; a bundle built for another version is refused.
pub const ABI_VERSION: u32 = 2;

/// Size of a guest page in bytes.
pub const PAGE_SIZE: u64 = 4096;

/// Largest exit code that a muscle may return; larger ones are a fault.
///
/// Codes from 100 are the VMM's own, so that a shell script can tell the two apart.
pub const MAX_EXIT_CODE: u64 = 99;

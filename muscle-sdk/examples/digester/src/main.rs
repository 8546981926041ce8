//! Digests what `feeder` sends through a ring. It trusts nothing in there: whatever the sender writes, each message is copied
//! out whole, and a ring that makes no sense is an error like any other.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;

use sha2::{Digest, Sha256};

/// Receives messages up to an empty one, and says how many bytes they had and their SHA-256.
#[muscle::export]
fn digest() -> muscle::Result<(u64, String)> {
    let mut inbox = muscle::ring::receiver("in")?;
    let mut buffer = vec![0; 256 << 10];
    let (mut total, mut digest) = (0, Sha256::new());
    loop {
        let length = inbox.receive(&mut buffer)?;
        if length == 0 {
            return Ok((total, hex(&digest.finalize())));
        }
        total += length as u64;
        digest.update(buffer.get(..length).unwrap_or_default());
    }
}

/// The length of the next message.
#[muscle::export]
fn next() -> muscle::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let length = muscle::ring::receiver("in")?.receive(&mut buffer)?;
    Ok(length as u64)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

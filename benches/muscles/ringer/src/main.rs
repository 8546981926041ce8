//! One of two muscles with a ring in each direction: sends, takes and echoes so many messages.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec;

/// The longest message.
const LONGEST: usize = 256 << 10;

/// Sends `count` messages of `length` bytes.
#[muscle::export]
fn send(count: u64, length: u32) -> muscle::Result<()> {
    let message = vec![7; length as usize];
    let mut out = muscle::ring::sender("out")?;
    for _ in 0..count {
        out.send(&message)?;
    }
    Ok(())
}

/// Takes `count` messages.
#[muscle::export]
fn take(count: u64) -> muscle::Result<()> {
    let mut buffer = vec![0; LONGEST];
    let mut inbox = muscle::ring::receiver("in")?;
    for _ in 0..count {
        inbox.receive(&mut buffer)?;
    }
    Ok(())
}

/// Takes `count` messages and sends each back.
#[muscle::export]
fn echo(count: u64) -> muscle::Result<()> {
    let mut buffer = vec![0; LONGEST];
    let mut inbox = muscle::ring::receiver("in")?;
    let mut out = muscle::ring::sender("out")?;
    for _ in 0..count {
        let length = inbox.receive(&mut buffer)?;
        out.send(buffer.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// Sends `count` messages of `length` bytes, each when the one before has come back.
#[muscle::export]
fn trip(count: u64, length: u32) -> muscle::Result<()> {
    let mut message = vec![7; length as usize];
    let mut inbox = muscle::ring::receiver("in")?;
    let mut out = muscle::ring::sender("out")?;
    for _ in 0..count {
        out.send(&message)?;
        inbox.receive(&mut message)?;
    }
    Ok(())
}

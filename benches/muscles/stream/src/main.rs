//! Serves one program after the other, over the port of its slot. Each asks in 13 bytes, as often as it likes: what is to be done, how much, and
//! in messages of which length.
//!
//! ```text
//!   `i` count length   count bytes come; they are acknowledged by one
//!   `o` count length   count bytes go, written `length` at a time
//!   `e` count length   count messages come, and each goes back
//! ```
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use muscle::prelude::*;
use muscle::vsock::Stream;

/// The longest message.
const LONGEST: usize = 1 << 20;

#[muscle::main]
fn main() -> muscle::Result<()> {
    let listener = muscle::vsock::listen("stream")?;
    let mut buffer = vec![7; LONGEST];
    loop {
        let mut stream = listener.accept()?;
        while serve(&mut stream, &mut buffer)? {}
    }
}

/// Does what one request asks for; false when there is none more.
fn serve(stream: &mut Stream, buffer: &mut [u8]) -> muscle::Result<bool> {
    let mut request = [0; 13];
    if !fill(stream, &mut request)? {
        return Ok(false);
    }
    let [what, a, b, c, d, e, f, g, h, length @ ..] = request;
    let mut count = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let length = u32::from_le_bytes(length);
    let message = usize::try_from(length)
        .ok()
        .and_then(|length| buffer.get_mut(..length))
        .filter(|message| !message.is_empty())
        .ok_or_else(|| format!("no message can have {length} bytes"))?;
    match what {
        b'i' => {
            while count > 0 {
                let most = u64::from(length).min(count) as usize;
                match stream.read(&mut message[..most])? {
                    0 => return Ok(false),
                    some => count -= some as u64,
                }
            }
            stream.write(b"k")?;
        }
        b'o' => {
            while count > 0 {
                let some = u64::from(length).min(count);
                stream.write(&message[..some as usize])?;
                count -= some;
            }
        }
        b'e' => {
            for _ in 0..count {
                if !fill(stream, message)? {
                    return Ok(false);
                }
                stream.write(message)?;
            }
        }
        _ => return Err(format!("request {what} is not known").into()),
    }
    Ok(true)
}

/// Reads as many bytes as `to` has room for; false when the stream ended before.
fn fill(stream: &mut Stream, to: &mut [u8]) -> muscle::Result<bool> {
    let mut done = 0;
    while done < to.len() {
        match stream.read(&mut to[done..])? {
            0 => return Ok(false),
            some => done += some,
        }
    }
    Ok(true)
}

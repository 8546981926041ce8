//! Sends bytes to `digester` through a ring: no byte of them passes the host.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec;

use sha2::{Digest, Sha256};

/// Sends so many bytes in messages of so many each, the last one perhaps shorter, and says their SHA-256.
#[muscle::export]
fn feed(total: u64, each: u32) -> muscle::Result<String> {
    let mut out = muscle::ring::sender("out")?;
    let each = usize::try_from(each).unwrap_or(0).clamp(1, out.most());
    let mut message = vec![0; each];
    let mut digest = Sha256::new();
    let (mut left, mut state) = (total, 0x9e37_79b9_7f4a_7c15_u64);
    while left > 0 {
        let length = usize::try_from(left).unwrap_or(each).min(each);
        let Some(message) = message.get_mut(..length) else {
            break;
        };
        // Bytes that differ from message to message, for no more than storing them costs.
        for chunk in message.chunks_mut(8) {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            chunk
                .iter_mut()
                .zip(state.to_le_bytes())
                .for_each(|(to, from)| *to = from);
        }
        digest.update(&*message);
        out.send(message)?;
        left -= length as u64;
    }
    Ok(hex(&digest.finalize()))
}

/// Sends an empty message, which says that there are no more.
#[muscle::export]
fn finish() -> muscle::Result<()> {
    muscle::ring::sender("out")?.send(&[])?;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

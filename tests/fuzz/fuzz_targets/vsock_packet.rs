//! Any 44 bytes are a packet header, and writing it gives the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_vsock::packet::{HEADER_SIZE, Header};

fuzz_target!(|bytes: [u8; HEADER_SIZE]| {
    assert_eq!(Header::from_bytes(&bytes).to_bytes(), bytes);
});

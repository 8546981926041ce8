//! Any bytes are a snapshot or an error, no snapshot is written in two ways, and none takes more memory than it has bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_cell::Snapshot;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(snapshot) = Snapshot::from_bytes(bytes) {
        assert!(snapshot.to_bytes() == bytes);
    }
});

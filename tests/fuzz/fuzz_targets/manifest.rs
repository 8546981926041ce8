//! A manifest: no input panics, and each manifest has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::{Manifest, ReadLimits};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::decode(bytes, &ReadLimits::default()) {
        assert_eq!(manifest.encode(), bytes);
        assert!(!manifest.name.contains('/'));
    }
});

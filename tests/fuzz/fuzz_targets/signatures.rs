//! A COSE_Sign block: no input panics, and each block has one encoding.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::SignatureSet;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(set) = SignatureSet::decode(bytes) {
        assert_eq!(set.encode().expect("encodes again"), bytes);
    }
});

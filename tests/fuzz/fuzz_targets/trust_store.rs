//! A trust store: no input panics, and each document has one encoding. Its signatures are passed over, since no
//! fuzzer finds one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::{RootDocument, TrustStore, UnixTime};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(document) = RootDocument::decode(bytes) {
        assert_eq!(document.encode(), bytes);
        assert!(document.root_threshold >= 1);
    }
    let _ = TrustStore::parse(bytes, UnixTime(0));
});

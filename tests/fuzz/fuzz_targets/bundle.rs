//! A whole bundle: no input panics, and what is taken apart is exactly the input.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_bundle::{ReadLimits, UnverifiedBundle};

fuzz_target!(|bytes: &[u8]| {
    let Ok(bundle) = UnverifiedBundle::parse(bytes, &ReadLimits::default()) else {
        return;
    };
    let last = bundle.parts().last().expect("a bundle has an image");
    assert_eq!(last.1.end, bytes.len(), "a byte is in no part");
    assert_eq!(bundle.manifest().encode(), bundle.manifest_bytes());
});

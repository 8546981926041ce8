//! Policy files and bindings: no text makes the reader panic, and whatever it takes, the shipped schema fits.
#![no_main]

use libfuzzer_sys::fuzz_target;
use referee_policy::{Binding, PolicySet};

fuzz_target!(|text: &str| {
    let _ = PolicySet::parse(&[("fuzz.cedar", text)]);
    if let Ok(binding) = Binding::parse(text) {
        let again = format!("{}={}", binding.slot, binding.bound);
        assert_eq!(
            Binding::parse(&again).ok(),
            Some(binding),
            "what is printed reads back"
        );
    }
});

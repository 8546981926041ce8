//! Evidence and its event log: no input panics the check, and each document has one encoding.
#![no_main]

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use referee_evidence::{EventLog, Evidence, Reference, check};

const REFERENCE: &str = include_str!("../seeds/reference.toml");

fuzz_target!(|bytes: &[u8]| {
    static READ: OnceLock<Reference> = OnceLock::new();
    let reference = READ.get_or_init(|| Reference::parse(REFERENCE).expect("is a reference"));
    if let Ok(evidence) = Evidence::parse(bytes) {
        assert_eq!(evidence.to_bytes(), bytes);
    }
    if let Ok((log, torn)) = EventLog::parse(bytes) {
        assert!(bytes.starts_with(&log.to_bytes()));
        assert_eq!(log.to_bytes().len() + torn, bytes.len());
        let _ = log.to_json();
    }
    let _ = check(bytes, &[0xA5; 32], reference);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = Reference::parse(text);
    }
});

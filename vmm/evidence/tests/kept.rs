//! Evidence that was kept from a host: formats may grow, but what was given once must be checkable for good.

use referee_evidence::{Reference, check};

#[test]
fn kept_evidence_still_holds() {
    let evidence = include_bytes!("../../../tests/fuzz/corpus/evidence/signed");
    let reference = include_str!("../../../tests/fuzz/seeds/reference.toml");
    let reference = Reference::parse(reference).expect("is a reference");
    let report = check(evidence, &[0xA5; 32], &reference);
    assert!(report.holds(), "\n{report}");
}

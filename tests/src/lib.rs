//! The harness of the hostile suite: guests of a few instructions, each breaking one rule, run through the real
//! `referee-vmm` beside a well-behaved neighbour.
//!
//! ```text
//!   guests/GROUP/NAME.s ── Guest::read ──► what it expects ─────────────────────────────┐
//!          └── Workshop::bundle: cc, assemble, sign ──► NAME.muscle ── Trial::run ──► Ended ── check ──► verdict
//!                                                        neighbour before ─┘ └─ neighbour after, audit log
//! ```
//!
//! Everything that a guest needs stands in its own file: the rule, the slots, the options, the ending. Where kinds
//! of KVM differ, the file says so.
//!
//! The test programs also run where there is no compiler, as inside an emulated machine: `REFEREE_TEST_PREPARE=DIR`
//! has the hostile suite write all bundles to a folder and end; with `REFEREE_TEST_BUNDLES=DIR` and `REFEREE_BIN=FILE`
//! they use those and build nothing.
#![forbid(unsafe_code)]

mod assemble;
mod check;
mod expectation;
mod flavour;
mod guest;
mod header;
mod neighbour;
mod program;
mod scene;
mod shop;
mod trial;
mod workshop;

pub use check::{check, check_audit, check_report};
pub use expectation::{Expectation, FaultExpectation, ParseError};
pub use flavour::Flavour;
pub use guest::Guest;
pub use header::{Header, Streams};
pub use neighbour::Neighbour;
pub use program::{Ended, PATIENCE, Program};
pub use scene::Scene;
pub use shop::shop;
pub use trial::{Trial, Verdict};
pub use workshop::Workshop;

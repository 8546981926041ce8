//! What a host says about itself, and how somebody else checks it: **no TPM library, no virtual machine, no trust in the host.**
//!
//! ```text
//!   Evidence (one file)
//!   ├── token     COSE_Sign over EAT claims, by the instance key        claims.rs
//!   ├── quote     TPMS_ATTEST over PCRs; qualifying data = SHA-256(token)     tpm.rs
//!   ├── counter   TPMS_ATTEST over the anti-rollback counter; the same
//!   ├── key       TPMT_PUBLIC of the attestation key
//!   └── log       the events that the PCRs are made of                  event_log.rs
//!   + Reference (a file of the relying party)                           reference.rs
//!   + nonce (of the relying party, used once)
//!   ──► check ──► Report: what holds, what does not, and why            check.rs
//! ```
//! The host side, which has the TPM, is `vmm/attest`; it makes these formats with the same code that reads them here.
#![forbid(unsafe_code)]

mod anchor;
mod check;
mod claims;
mod enrolment;
mod error;
mod event_log;
mod evidence;
mod hex;
mod reader;
mod receipt;
mod reference;
mod report;
mod tpm;

pub use anchor::{Anchor, check_anchor};
pub use check::check;
pub use claims::{Claims, InstanceKey, Submodule, TOKEN_AAD, Token, TpmKind};
pub use enrolment::{Challenge, EndorsementKey, EnrolmentRequest};
pub use error::Malformed;
pub use event_log::{Bank, Content, Event, EventLog, PcrValues};
pub use evidence::{Certified, Evidence};
pub use hex::{from_hex, to_hex};
pub use receipt::{
    Cost, RECEIPT_AAD, Receipt, Repeated, SignedHead, check_log, check_receipt, check_receipt_fits,
    check_replay,
};
pub use reference::{
    COUNTER_ATTRIBUTES, CounterReference, KeyReference, Measurement, Reference, counter_name,
};
pub use report::{Finding, Report, Verdict};
pub use tpm::{AttestationKey, Attested, Body, NULL_PCRS_RESETTABLE};

//! How the VMM asks the process that has the TPM, `referee-tpm`: the words, and the asking.
//!
//! ```text
//!   referee-vmm ── Attester ──► referee-tpm ──► TPM
//!                  a line of JSON each way
//! ```
//! Nothing here knows what a TPM is; nothing there knows what a cell is.
#![forbid(unsafe_code)]

mod attester;
mod hex;
mod protocol;

pub use attester::{Answer, AttestError, Attester};
pub use hex::{from_hex, to_hex};
pub use protocol::{
    Bundle, Component, Facts, KeptState, Open, Registers, Reply, Request, Rule, Spoke, StateOwner,
};

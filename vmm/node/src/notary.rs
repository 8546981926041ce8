//! The notary: the process that asks the host's TPM, for the nursery and for nobody else.
//!
//! A TPM takes its time, and may stall for a minute. Neither the supervisor, which has clients, nor the nursery, which has workers to make and to reap, can
//! wait for it; so this process does, one question at a time. It starts `referee-tpm` for each and ends it, as everybody does who asks the TPM.
//!
//! ```text
//!   supervisor                        nursery                            notary                         TPM
//!   Measure + bundle, a line ───────► verify; the line, what was ──────► identity as it was? measure ──►
//!                                       verified                         log, flush, extend
//!                                     ◄──────────────────── measured ──┘
//!   ◄─────────────────────────────────────── the answer, on that line ─┘
//!   Spawn ──────────────────────────► only if the notary said so
//! ```
//! The supervisor cannot leave the measuring out, because it is the nursery that makes no worker without it; and it cannot have anything measured,
//! or said, of a bundle that the nursery has not verified.

mod client;
#[cfg(test)]
mod lies;
mod messages;
mod process;

pub(crate) use client::Notary;
pub(crate) use messages::{Commission, Done, EvidenceFor, Job, Speaking, Verdict, now_ms};
pub(crate) use process::{start, supersedes};

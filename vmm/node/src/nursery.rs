//! The nursery: the process that holds trust store, policies and `/dev/kvm`, and makes worker processes.
//!
//! It is forked off before the supervisor has a second thread, and stays single-threaded, so that it may fork ([`referee_hv::process`]). A
//! worker gets what was verified and decided by that fork, as values of the types that prove it; nothing of it travels as bytes
//! that somebody could have made up.
//!
//! ```text
//!   supervisor (API, log, state)          nursery (trust, policy, KVM)          worker (one deployment's cells)
//!   ────────────────────────────          ────────────────────────────          ──────────────────────────────
//!   Assess + bundle file      ──────────► verify, ask policy
//!                             ◄────────── Assessed: what is asked, what is granted, or why not
//!   Spawn + bundle, two lines ──────────► verify, ask policy, fork ───────────► open grants, confine, filter
//!                             ◄────────── Spawned                               parse image, load cells
//!   Measure + bundle, a line  ──────────► verify, have it measured by the notary ([`crate::notary`]), if the node has a TPM
//!   Run, Cancel               ◄─────────────── line of calls ─────────────────► Ready, Stopped, Output
//!   records                   ◄─────────────── line of the log ───────────────► taken
//!   Life begins, or is over   ──────────► say so in the worker's rings
//!   Reap                      ──────────► wait for it, kill it if it stays
//!                             ◄────────── Reaped: how it ended
//! ```
//!
//! One request is under way at a time. The supervisor is trusted to name bundles, bindings and limits, and cannot make the nursery grant
//! what policy does not.

mod client;
#[cfg(test)]
mod lies;
mod measured;
pub(crate) mod messages;
pub(crate) mod passing;
mod process;
mod rings;
mod trusted;

pub(crate) use client::Nursery;
pub(crate) use messages::{Assessment, Authority, Given, Order};
pub(crate) use process::start;
pub(crate) use rings::Handed;
pub(crate) use trusted::Trusted;

/// What tests that care for one figure take the others from.
#[cfg(test)]
pub(crate) fn blank_assessment() -> Assessment {
    Assessment {
        name: "demo".into(),
        version: "1.0.0".into(),
        description: String::new(),
        publisher: "acme".into(),
        key_id: "cd".repeat(32),
        security_epoch: 0,
        exports: vec!["f".into()],
        memory_bytes: 1 << 20,
        cpu_ms: 10,
        deadline_ms: 10,
        granted: Vec::new(),
        channels: Vec::new(),
        waits: std::collections::BTreeMap::new(),
        decision: "{}".into(),
    }
}

//! What a cell was granted, as one digest, and what of it keeps a run from being repeated.

use referee_policy::{Decision, Grants, Power};
use sha2::{Digest, Sha256};

/// SHA-256 over what was asked and bound for each granted slot, and over the limits.
pub fn grants_digest(decision: &Decision, grants: &Grants) -> [u8; 32] {
    let mut hash = Sha256::new();
    let mut add = |part: &str| {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    };
    for grant in grants.slots() {
        let item = decision.items().iter().find(|item| item.name == grant.slot());
        add(grant.slot());
        add(grant.power().kind().name());
        add(item.map_or("", |item| &item.asked));
        add(item.and_then(|item| item.bound.as_deref()).unwrap_or_default());
    }
    let limits = grants.limits();
    add(&format!(
        "{} {} {}",
        limits.memory_bytes, limits.cpu_ms, limits.deadline_ms
    ));
    hash.finalize().into()
}

/// Names of granted powers through which something comes in that a second run would not get: a run without any is deterministic, as far
/// as the processor lets it.
pub fn nondeterminism(grants: &Grants) -> Vec<&'static str> {
    let source = |power: &Power| match power {
        Power::Clock { .. }
        | Power::Random
        | Power::VsockListen { .. }
        | Power::VsockConnect { .. }
        | Power::Pio { .. }
        | Power::Attest
        | Power::State { .. }
        | Power::Functions { .. }
        | Power::Ring { .. }
        | Power::Channel { .. } => Some(power.kind().name()),
        Power::Console { .. } | Power::Args | Power::Env { .. } | Power::Files { .. } => None,
    };
    let mut sources: Vec<&str> = grants
        .slots()
        .iter()
        .filter_map(|grant| source(grant.power()))
        .collect();
    sources.sort_unstable();
    sources.dedup();
    sources
}

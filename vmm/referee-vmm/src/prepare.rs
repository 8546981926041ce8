//! The stages before anything of the machine exists: verify, then decide. Each takes what the one before gave.

use std::time::SystemTime;

use anyhow::Context;
use referee_bundle::{
    ReadLimits, TrustStore, UnixTime, VerifiedBundle, read_bundle, read_trust_store, verify,
};
use referee_policy::{Applicant, Binding, Decision, PolicySet, assess};

use crate::cli::{AuthorityArgs, BundleArgs};
use crate::ending::Rejection;

/// Reads and verifies the bundle against the trust store, which is given back for whoever measures it.
///
/// # Errors
/// [`Rejection`] when either says no.
pub fn verified(args: &BundleArgs) -> anyhow::Result<(VerifiedBundle, TrustStore)> {
    let limits = ReadLimits {
        bundle_bytes: args.max_bundle_bytes,
        ..ReadLimits::default()
    };
    let now = UnixTime::from(SystemTime::now());
    let store = trust_store(&args.authority, &limits, now)?;
    let bundle = read_bundle(&args.bundle, &limits)
        .and_then(|bytes| verify(bytes, &store, &limits, now))
        .map_err(Rejection::from)
        .with_context(|| format!("bundle {}", args.bundle.display()))?;
    Ok((bundle, store))
}

fn trust_store(args: &AuthorityArgs, limits: &ReadLimits, now: UnixTime) -> anyhow::Result<TrustStore> {
    read_trust_store(&args.trust, limits)
        .and_then(|bytes| TrustStore::parse(&bytes, now))
        .map_err(Rejection::from)
        .with_context(|| format!("trust store {}", args.trust.display()))
}

/// What decides on this host, as it is measured.
#[derive(Debug)]
pub struct Authority {
    /// Digest of the policies.
    pub policy: [u8; 32],
    /// Digest of the trust store.
    pub trust: [u8; 32],
    /// Version of the trust store.
    pub trust_version: u64,
}

impl Authority {
    /// Of these policies and this trust store.
    pub fn new(policy: [u8; 32], store: &TrustStore) -> Authority {
        Authority {
            policy,
            trust: store.digest().0,
            trust_version: store.document().version,
        }
    }
}

/// Reads what decides on this host.
///
/// # Errors
/// As [`verified`] and [`decision`].
pub fn authority(args: &AuthorityArgs) -> anyhow::Result<Authority> {
    let now = UnixTime::from(SystemTime::now());
    let store = trust_store(args, &ReadLimits::default(), now)?;
    let policies = if args.policy.is_empty() {
        PolicySet::shipped().context("the policies compiled into this program")?
    } else {
        loaded(args)?
    };
    Ok(Authority::new(policies.digest(), &store))
}

fn loaded(args: &AuthorityArgs) -> anyhow::Result<PolicySet> {
    let loaded = PolicySet::load(&args.policy).map_err(|error| Rejection {
        name: "policy-invalid",
        message: format!("policies: {error}"),
    });
    Ok(loaded?)
}

/// Asks policy about everything that the bundle's manifest asks for.
///
/// # Errors
/// When a policy file cannot be read or is no valid policy.
pub fn decision(args: &BundleArgs, bundle: &VerifiedBundle) -> anyhow::Result<Decision> {
    let policies = if args.authority.policy.is_empty() {
        PolicySet::shipped_for(bundle.manifest()).context("the policies compiled into this program")?
    } else {
        loaded(&args.authority)?
    };
    // A path that does not resolve is left as it was given: the decision names it.
    let bindings: Vec<Binding> = args
        .bindings
        .iter()
        .map(|binding| binding.clone().resolve())
        .collect::<Result<_, _>>()
        .map_err(|error| Rejection {
            name: "binding-invalid",
            message: error.to_string(),
        })?;
    Ok(assess(&Applicant::of(bundle), &bindings, &policies))
}

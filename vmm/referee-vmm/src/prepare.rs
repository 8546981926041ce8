//! The stages before anything of the machine exists: verify, then decide. Each takes what the one before gave.

use std::time::SystemTime;

use anyhow::Context;
use referee_bundle::{
    ReadLimits, TrustStore, UnixTime, VerifiedBundle, read_bundle, read_trust_store, verify,
};
use referee_policy::{Applicant, Binding, Decision, PolicySet, assess};

use crate::cli::BundleArgs;
use crate::ending::Rejection;

/// Reads and verifies the bundle against the trust store.
///
/// # Errors
/// [`Rejection`] when either says no.
pub fn verified(args: &BundleArgs) -> anyhow::Result<VerifiedBundle> {
    let limits = ReadLimits {
        bundle_bytes: args.max_bundle_bytes,
        ..ReadLimits::default()
    };
    let now = UnixTime::from(SystemTime::now());
    let store = read_trust_store(&args.trust, &limits)
        .and_then(|bytes| TrustStore::parse(&bytes, now))
        .map_err(Rejection::from)
        .with_context(|| format!("trust store {}", args.trust.display()))?;
    read_bundle(&args.bundle, &limits)
        .and_then(|bytes| verify(bytes, &store, &limits, now))
        .map_err(Rejection::from)
        .with_context(|| format!("bundle {}", args.bundle.display()))
}

/// Asks policy about everything that the bundle's manifest asks for.
///
/// # Errors
/// When a policy file cannot be read or is no valid policy.
pub fn decision(args: &BundleArgs, bundle: &VerifiedBundle) -> anyhow::Result<Decision> {
    let policies = if args.policy.is_empty() {
        PolicySet::shipped_for(bundle.manifest()).context("the policies compiled into this program")?
    } else {
        PolicySet::load(&args.policy).map_err(|error| Rejection {
            name: "policy-invalid",
            message: format!("policies: {error}"),
        })?
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

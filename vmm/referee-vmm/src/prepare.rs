//! What the command line names, for the library's stages.

use referee::{Authority, Binding, Decision, ReadLimits, VerifiedBundle};

use crate::cli::{AuthorityArgs, BundleArgs};
use crate::ending::rejected;

/// Reads what decides on this host.
///
/// # Errors
/// [`referee::StartError`].
pub fn authority(args: &AuthorityArgs, limits: ReadLimits) -> anyhow::Result<Authority> {
    Ok(Authority::read(&args.trust, &args.policy, limits)?)
}

/// Reads and verifies the bundle, by an authority that is given back.
///
/// # Errors
/// [`referee::StartError`].
pub fn verified(args: &BundleArgs) -> anyhow::Result<(Authority, VerifiedBundle)> {
    let limits = ReadLimits {
        bundle_bytes: args.max_bundle_bytes,
        ..ReadLimits::default()
    };
    let authority = authority(&args.authority, limits)?;
    let bundle = authority.verify_file(&args.bundle)?;
    Ok((authority, bundle))
}

/// Asks policy about everything that the bundle's manifest asks for.
///
/// # Errors
/// [`referee::StartError`]; a binding that leads nowhere is one too.
pub fn decision(
    args: &BundleArgs,
    authority: &Authority,
    bundle: &VerifiedBundle,
) -> anyhow::Result<Decision> {
    // A path that does not resolve is left as it was given: the decision names it.
    let bindings: Vec<Binding> = args
        .bindings
        .iter()
        .map(|binding| binding.clone().resolve())
        .collect::<Result<_, _>>()
        .map_err(|error| rejected("binding-invalid", error.to_string()))?;
    Ok(authority.decide(bundle, &bindings)?)
}

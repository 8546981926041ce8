//! Whom to trust and what policy permits: the stages before anything of a machine exists. Each takes what the one before gave.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use referee_bundle::{
    ReadLimits, Rejected, TrustStore, UnixTime, VerifiedBundle, read_bundle, read_trust_store, verify,
};
use referee_policy::{Applicant, Binding, Decision, PolicySet, assess};

use crate::error::StartError;

/// Who may sign, and what is permitted.
#[derive(Debug)]
pub struct Authority {
    trust_store: TrustStore,
    /// None are those compiled into this library.
    policies: Option<PolicySet>,
    limits: ReadLimits,
}

impl Authority {
    /// Reads the trust store as of now, and policy files and folders; when none are named, those compiled into this library count.
    ///
    /// # Errors
    /// [`StartError::Rejected`].
    pub fn read(
        trust_store: &Path,
        policies: &[PathBuf],
        limits: ReadLimits,
    ) -> Result<Authority, StartError> {
        let now = UnixTime::from(SystemTime::now());
        let trust_store = read_trust_store(trust_store, &limits)
            .and_then(|bytes| TrustStore::parse(&bytes, now))
            .map_err(at("trust store", trust_store))?;
        let policies = match policies {
            [] => None,
            sources => Some(PolicySet::load(sources).map_err(invalid)?),
        };
        Ok(Authority {
            trust_store,
            policies,
            limits,
        })
    }

    /// Verifies a bundle as of now.
    ///
    /// # Errors
    /// [`StartError::Rejected`] names the rule.
    pub fn verify(&self, bundle: Vec<u8>) -> Result<VerifiedBundle, StartError> {
        Ok(self.verified(bundle)?)
    }

    /// As [`Authority::verify`], of a file.
    ///
    /// # Errors
    /// As [`Authority::verify`]; a file over the limit is refused before it is read.
    pub fn verify_file(&self, path: &Path) -> Result<VerifiedBundle, StartError> {
        let bytes = read_bundle(path, &self.limits);
        bytes
            .and_then(|bytes| self.verified(bytes))
            .map_err(at("bundle", path))
    }

    fn verified(&self, bundle: Vec<u8>) -> Result<VerifiedBundle, Rejected> {
        let now = UnixTime::from(SystemTime::now());
        verify(bundle, &self.trust_store, &self.limits, now)
    }

    /// Asks policy about everything that a bundle's manifest asks for, with each slot bound to a real thing. What is refused is in the decision, with why.
    ///
    /// # Errors
    /// [`StartError`] when the policies compiled into this library cannot be read.
    pub fn decide(&self, bundle: &VerifiedBundle, bindings: &[Binding]) -> Result<Decision, StartError> {
        let assessed = |policies: &PolicySet| assess(&Applicant::of(bundle), bindings, policies);
        match &self.policies {
            Some(policies) => Ok(assessed(policies)),
            // Only what this manifest needs of them is made ready.
            None => PolicySet::shipped_for(bundle.manifest())
                .map(|policies| assessed(&policies))
                .map_err(invalid),
        }
    }

    /// All policies that count.
    ///
    /// # Errors
    /// [`StartError`] when the policies compiled into this library cannot be read.
    pub(crate) fn policies(&self) -> Result<PolicySet, StartError> {
        match &self.policies {
            Some(policies) => Ok(policies.clone()),
            None => PolicySet::shipped().map_err(invalid),
        }
    }

    /// Digest of all policies that count, as decisions have it and as it is measured.
    ///
    /// # Errors
    /// As [`Authority::decide`].
    pub fn policy_digest(&self) -> Result<[u8; 32], StartError> {
        Ok(self.policies()?.digest())
    }

    /// Digest of the trust store.
    pub fn trust_digest(&self) -> [u8; 32] {
        self.trust_store.digest().0
    }

    /// Version of the trust store.
    pub fn trust_version(&self) -> u64 {
        self.trust_store.document().version
    }
}

/// A refusal, with the file that it is about.
fn at(what: &'static str, path: &Path) -> impl FnOnce(Rejected) -> StartError {
    move |rejected| StartError::Rejected {
        name: rejected.name(),
        message: format!("{what} {}: {rejected}", path.display()),
    }
}

fn invalid(error: impl std::fmt::Display) -> StartError {
    StartError::Rejected {
        name: "policy-invalid",
        message: format!("policies: {error}"),
    }
}

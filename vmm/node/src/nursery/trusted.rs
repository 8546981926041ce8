//! Whom to trust and what is permitted, read from the disk when the node starts and at each reload.

use std::time::SystemTime;

use referee_bundle::{ReadLimits, TrustStore, UnixTime, read_trust_store};
use referee_policy::PolicySet;

use crate::error::NodeError;
use crate::nursery::messages::Authority;

/// Whom to trust and what is permitted.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(super) store: TrustStore,
    pub(super) policies: PolicySet,
}

impl Trusted {
    /// Reads both.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(crate) fn read(authority: &Authority) -> Result<Trusted, NodeError> {
        let now = UnixTime::from(SystemTime::now());
        let store = read_trust_store(&authority.trust_store, &ReadLimits::default())
            .and_then(|bytes| TrustStore::parse(&bytes, now))
            .map_err(|rejected| NodeError::Rejected {
                name: rejected.name().to_owned(),
                message: format!("trust store {}: {rejected}", authority.trust_store.display()),
            })?;
        let policies = if authority.policies.is_empty() {
            PolicySet::shipped()
        } else {
            PolicySet::load(&authority.policies)
        }
        .map_err(|error| NodeError::Rejected {
            name: "policy-invalid".into(),
            message: format!("policies: {error}"),
        })?;
        Ok(Trusted { store, policies })
    }

    /// Digests of policies and trust store, and the trust store's version, as they are measured.
    pub(crate) fn digests(&self) -> ([u8; 32], [u8; 32], u64) {
        (
            self.policies.digest(),
            self.store.digest().0,
            self.store.document().version,
        )
    }

    /// Refuses what would be measured as something else: the registers hold one identity until the host is restarted.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(super) fn must_be_measured_as(&self, other: &Trusted) -> Result<(), NodeError> {
        let ((policy, trust, _), (other_policy, other_trust, _)) = (self.digests(), other.digests());
        let differs = match (policy == other_policy, trust == other_trust) {
            (true, true) => return Ok(()),
            (false, true) => "the policies are",
            (true, false) => "the trust store is",
            (false, false) => "policies and trust store are",
        };
        Err(NodeError::Rejected {
            name: "identity-differs".into(),
            message: format!(
                "{differs} not what was measured into the TPM when the node started, and a register cannot be taken back: announce the change                  (`referee-vmm tpm prepare-update`) and restart the host"
            ),
        })
    }
}

//! Floors: the least security epoch of each muscle, and of the trust store, that may still be used here.
//!
//! A floor goes up when something newer is used, and with it the counter, so that no copy of the disk brings the older back. It goes up
//! **for the key that signed**, and by a bounded step: whoever steals a publisher's key can neither lock the owner's next key out nor
//! run the numbers to their end.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use referee_attest::{Bundle, Rule};
use referee_evidence::to_hex;

/// How far a security epoch may be ahead of its floor.
pub const STEP_MAX: u64 = 256;

/// The table.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Floors {
    /// By muscle and key id of the signer.
    #[n(0)]
    muscles: BTreeMap<String, u64>,
    /// Version of the trust store.
    #[n(1)]
    trust: u64,
}

/// Why something older, or too new, is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BelowFloor {
    /// The rule.
    pub rule: Rule,
    /// What, where and what to do.
    pub message: String,
}

impl Floors {
    /// The table after this trust store was used; `None` when nothing changes.
    ///
    /// # Errors
    /// [`BelowFloor`] when a newer one was used before.
    pub fn with_trust(&self, version: u64) -> Result<Option<Floors>, BelowFloor> {
        if version < self.trust {
            return Err(BelowFloor {
                rule: Rule::TrustStoreRolledBack,
                message: format!(
                    "trust store: version {version}, and version {} was used on this host before: somebody put an older one back",
                    self.trust
                ),
            });
        }
        let trust = version;
        Ok((version > self.trust).then(|| Floors {
            trust,
            ..self.clone()
        }))
    }

    /// The table after this bundle ran; `None` when nothing changes.
    ///
    /// # Errors
    /// [`BelowFloor`] when its security epoch is below its floor, or more than [`STEP_MAX`] above.
    pub fn with_bundle(&self, bundle: &Bundle) -> Result<Option<Floors>, BelowFloor> {
        let muscle = bundle.muscle.split(' ').next().unwrap_or_default();
        let key = format!("{muscle} {}", to_hex(&bundle.signer));
        let floor = self.muscles.get(&key).copied().unwrap_or(0);
        let epoch = bundle.epoch;
        if epoch < floor {
            return Err(BelowFloor {
                rule: Rule::EpochRolledBack,
                message: format!(
                    "{}: its security epoch is {epoch}, and one of epoch {floor} by the same key ran on this host before; \
                     ask its publisher for a newer bundle",
                    bundle.muscle
                ),
            });
        }
        if epoch - floor > STEP_MAX {
            return Err(BelowFloor {
                rule: Rule::EpochJump,
                message: format!(
                    "{}: its security epoch is {epoch}, more than {STEP_MAX} above the {floor} that this host has seen by the same key: \
                     a mistake, or a stolen key that would lock later bundles out",
                    bundle.muscle
                ),
            });
        }
        Ok((epoch > floor).then(|| {
            let mut next = self.clone();
            next.muscles.insert(key, epoch);
            next
        }))
    }
}

//! Floors: the least security epoch of each muscle, and of the trust store, that may still be used here.
//!
//! A floor goes up when something newer is used, and with it the counter, so that no copy of the disk brings the older back. It goes up
//! **for the key that signed**, and by a bounded step: whoever steals a publisher's key can neither lock the owner's next key out nor
//! run the numbers to their end.
//!
//! Audit logs have floors too: how far each was when a checkpoint of it was signed. The next one is signed only for a log that begins
//! with that.

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};
use referee_attest::{Bundle, KeptState, Rule, StateOwner};
use referee_evidence::to_hex;
use referee_tlog::{TreeHash, TreeHead, verify_consistency};
use sha2::{Digest as _, Sha256};

use crate::muscle_state::Header;

/// How far a security epoch may be ahead of its floor.
pub const STEP_MAX: u64 = 256;
/// How many audit logs a host may have.
const LOGS_MAX: usize = 64;
/// How many states of muscles a host may keep, and how many of one publisher.
const STATES_MAX: usize = 256;
const STATES_OF_PUBLISHER_MAX: usize = 64;

/// The table, and what else is kept with the master key.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Floors {
    /// By muscle and key id of the signer.
    #[n(0)]
    muscles: BTreeMap<String, u64>,
    /// Version of the trust store.
    #[n(1)]
    trust: u64,
    /// By name of the audit log.
    #[n(2)]
    #[cbor(default)]
    logs: BTreeMap<String, LogFloor>,
    /// Public half of the offline key for which the master key is wrapped.
    #[n(3)]
    #[cbor(default)]
    recovery: Option<RecoveryKey>,
    /// When the master key was made, in seconds since 1970.
    #[n(4)]
    #[cbor(default)]
    rotated_at: u64,
    /// By [`state_id`].
    #[n(5)]
    #[cbor(default)]
    states: BTreeMap<String, StateFloor>,
}

/// The one version of a muscle's state that counts.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct StateFloor {
    #[n(0)]
    publisher: String,
    #[n(1)]
    muscle: String,
    #[n(2)]
    slot: String,
    /// How many times it was saved.
    #[n(3)]
    pub sequence: u64,
    /// Security epoch of the bundle that saved it.
    #[n(4)]
    pub version: u64,
    /// Bytes that were saved.
    #[n(5)]
    pub bytes: u64,
    /// SHA-256 of its file.
    #[n(6)]
    #[cbor(with = "minicbor::bytes")]
    pub digest: [u8; 32],
    /// Drawn for each save, and kept when a rotation seals it anew: what one who saves must have known.
    #[n(7)]
    #[cbor(with = "minicbor::bytes")]
    pub id: [u8; 16],
}

impl StateFloor {
    /// Of a file with this header and digest.
    pub fn new(
        owner: &StateOwner,
        header: &Header,
        bytes: u64,
        digest: [u8; 32],
        id: [u8; 16],
    ) -> StateFloor {
        StateFloor {
            publisher: owner.publisher.clone(),
            muscle: owner.muscle.clone(),
            slot: owner.slot.clone(),
            sequence: header.sequence,
            version: header.version,
            bytes,
            digest,
            id,
        }
    }

    /// Whose it is.
    pub fn owner(&self) -> StateOwner {
        StateOwner {
            publisher: self.publisher.clone(),
            muscle: self.muscle.clone(),
            slot: self.slot.clone(),
        }
    }

    /// Name of its file: of its content, so that what is written next lies beside it until it counts.
    pub fn file(&self) -> String {
        let id = state_id(&self.owner());
        let (id, digest) = (id.get(..32), to_hex(self.digest.get(..16).unwrap_or_default()));
        format!("{STATE_PREFIX}{}-{digest}", id.unwrap_or_default())
    }
}

/// How names of files with a muscle's state begin.
pub const STATE_PREFIX: &str = "state-";

/// SHA-256 of an owner, in hexadecimal digits.
pub fn state_id(owner: &StateOwner) -> String {
    let mut hash = Sha256::new();
    for part in [&owner.publisher, &owner.muscle, &owner.slot] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    to_hex(&hash.finalize())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(transparent)]
struct RecoveryKey(
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    [u8; 32],
);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
struct LogFloor {
    #[n(0)]
    size: u64,
    #[n(1)]
    #[cbor(with = "minicbor::bytes")]
    root: [u8; 32],
}

/// Why something older, too new, or not continued is not used.
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

    /// The table with a master key that was made now.
    pub fn rotated(&self, now: u64) -> Floors {
        Floors {
            rotated_at: now,
            ..self.clone()
        }
    }

    /// When the master key was made, in seconds since 1970.
    pub fn rotated_at(&self) -> u64 {
        self.rotated_at
    }

    /// The table with this offline key, or none.
    pub fn with_recovery(&self, public: Option<[u8; 32]>) -> Floors {
        Floors {
            recovery: public.map(RecoveryKey),
            ..self.clone()
        }
    }

    /// Public half of the offline key.
    pub fn recovery(&self) -> Option<[u8; 32]> {
        self.recovery.map(|key| key.0)
    }

    /// The state of this owner.
    pub fn state(&self, owner: &StateOwner) -> Option<&StateFloor> {
        self.states.get(&state_id(owner))
    }

    /// All states.
    pub fn states(&self) -> impl Iterator<Item = &StateFloor> {
        self.states.values()
    }

    /// All states, as they are shown.
    pub fn kept_states(&self) -> Vec<KeptState> {
        let shown = |floor: &StateFloor| KeptState {
            owner: floor.owner(),
            sequence: floor.sequence,
            epoch: floor.version,
            bytes: floor.bytes,
        };
        self.states().map(shown).collect()
    }

    /// The table in which this version of a state counts; `None` when there are too many states.
    pub fn with_state(&self, floor: StateFloor) -> Option<Floors> {
        let id = state_id(&floor.owner());
        let of_publisher = self
            .states()
            .filter(|kept| kept.publisher == floor.publisher)
            .count();
        if !self.states.contains_key(&id)
            && (self.states.len() >= STATES_MAX || of_publisher >= STATES_OF_PUBLISHER_MAX)
        {
            return None;
        }
        let mut next = self.clone();
        next.states.insert(id, floor);
        Some(next)
    }

    /// The table without this owner's state; `None` when there is none.
    pub fn without_state(&self, owner: &StateOwner) -> Option<Floors> {
        let mut next = self.clone();
        next.states.remove(&state_id(owner))?;
        Some(next)
    }

    /// How far this audit log was when a checkpoint of it was signed last.
    pub fn log(&self, origin: &str) -> TreeHead {
        self.logs
            .get(origin)
            .map_or_else(TreeHead::empty, |floor| TreeHead {
                size: floor.size,
                root: TreeHash(floor.root),
            })
    }

    /// The table after a checkpoint of this log was signed; `None` when nothing changes.
    ///
    /// # Errors
    /// [`BelowFloor`] when the log does not begin with what was signed before, or there are too many logs.
    pub fn with_log(
        &self,
        origin: &str,
        head: TreeHead,
        proof: &[TreeHash],
    ) -> Result<Option<Floors>, BelowFloor> {
        let no = |message: String| BelowFloor {
            rule: Rule::LogRolledBack,
            message,
        };
        let floor = self.log(origin);
        if head.size < floor.size {
            return Err(no(format!(
                "audit log {origin}: {} records, and {} were signed on this host before: its end was cut off, or an older disk was put back",
                head.size, floor.size
            )));
        }
        verify_consistency(&floor, &head, proof).map_err(|error| {
            no(format!(
                "audit log {origin}: it does not begin with the {} records that were signed on this host before: {error}",
                floor.size
            ))
        })?;
        if !self.logs.contains_key(origin) && self.logs.len() >= LOGS_MAX {
            return Err(no(format!(
                "audit log {origin}: a host may have {LOGS_MAX} logs, and has them"
            )));
        }
        Ok((head.size > floor.size).then(|| {
            let mut next = self.clone();
            let floor = LogFloor {
                size: head.size,
                root: head.root.0,
            };
            next.logs.insert(origin.to_owned(), floor);
            next
        }))
    }
}

//! The master key of the epoch: sealed in the TPM to this identity and to the counter. **The increment is the commit.**
//!
//! ```text
//!   commit:  carry: the same key and floors sealed for e+1 → file on disk → TPM2_NV_Increment
//!            change: what is new sealed for e+2 → file on disk → TPM2_NV_Increment → delete what is before
//!   open:    read the counter → that file → PolicyPCR(identity) ∧ PolicyNV(counter = e) → unseal
//!
//!   rotate:  a commit of a new key        raise:   a commit of the same key with higher floors
//!
//!   epoch-E       what is sealed, and the floors, in one file (sealed_file.rs)
//!   epoch-E.next  the same key sealed to the identity that is expected after an update
//!   state-ID-…    what a muscle keeps (states.rs); the floors say which file of it counts
//!   recovery-E    the same key wrapped for an offline key, if there is one (recovery.rs)
//! ```
//! Killed anywhere, the counter says which file counts; a file of an earlier epoch never opens again, whoever kept a copy.
//!
//! Why twice: a change that was killed before its increment leaves a file that is good for the next epoch. Were the next change sealed for
//! that epoch too, whoever kept the first file could put it in place of the second. So what is new is sealed only for an epoch that
//! nothing can have been sealed for before: the one after an epoch that this very commit began.

use ed25519_dalek::{Signer as _, SigningKey};
use hkdf::Hkdf;
use ml_dsa::{Keypair as _, MlDsa65};
use referee_bundle::Algorithm;
use sha2::Sha256;
use tss_esapi::tss2_esys::{ESYS_TR, ESYS_TR_RH_OWNER};
use zeroize::Zeroizing;

use referee_evidence::COUNTER_ATTRIBUTES;
use referee_tlog::CosignerKeys;

use crate::commands::NV_WRITTEN;
use crate::error::TpmError;
use crate::esys::Esys;
use crate::floors::Floors;
use crate::opening_policy::opening_policy;
use crate::sealed_file::SealedFile;
use crate::software::SoftwareTpm;
use crate::state::State;
use crate::statements::now;
use crate::states::{delete_others, seal_all_anew};
use crate::templates;

/// Where TCG's provisioning guidance puts the storage root key (version 1.0, 7.8).
const STORAGE_ROOT: u32 = 0x8100_0001;
const PREFIX: &str = "epoch-";
const RECOVERY: &str = "recovery-";
/// Purpose of the key that authenticates the floors.
const FLOORS: &[u8] = b"referee floors 1";

/// Keys of one epoch, in memory only, and what is kept under them.
pub struct Keys {
    /// The epoch.
    pub epoch: u64,
    /// Least versions of what may run.
    pub floors: Floors,
    master: Zeroizing<[u8; 32]>,
}

impl Keys {
    /// The instance key.
    pub fn instance(&self) -> InstanceKey {
        InstanceKey {
            ed25519: SigningKey::from_bytes(&derived(&self.master, b"referee instance key 1")),
            ml_dsa: derived(&self.master, b"referee instance key 1 ml-dsa-65"),
        }
    }

    /// Where the keys for this owner's state begin.
    pub(crate) fn ladder(&self, owner: &str) -> Zeroizing<[u8; 32]> {
        derived(&self.master, format!("referee state ladder 1 {owner}").as_bytes())
    }

    /// The keys by which this host cosigns checkpoints of the audit log with this name.
    ///
    /// # Errors
    /// [`TpmError::Request`] when the name cannot be one.
    pub fn log(&self, origin: &str) -> Result<CosignerKeys, TpmError> {
        let ed25519 = derived(&self.master, b"referee log key 1 ed25519");
        let ml_dsa = derived(&self.master, b"referee log key 1 ml-dsa-44");
        CosignerKeys::from_seeds(origin, &ed25519, &ml_dsa)
            .map_err(|error| TpmError::Request(error.to_string()))
    }
}

/// The key that signs tokens and receipts, by both halves, and checkpoints, by the first.
pub struct InstanceKey {
    ed25519: SigningKey,
    /// Seed of the second half, which is made when it is needed.
    ml_dsa: Zeroizing<[u8; 32]>,
}

impl InstanceKey {
    /// The first half's public part, by which the key is called.
    pub fn public(&self) -> [u8; 32] {
        self.ed25519.verifying_key().to_bytes()
    }

    /// Both public parts.
    pub fn both(&self) -> referee_evidence::InstanceKey {
        referee_evidence::InstanceKey {
            ed25519: self.public(),
            ml_dsa: Some(self.second().verifying_key().encode().to_vec()),
        }
    }

    /// Signs with one half.
    pub fn sign(&self, algorithm: Algorithm, bytes: &[u8]) -> Vec<u8> {
        match algorithm {
            Algorithm::Ed25519 => self.ed25519.sign(bytes).to_bytes().to_vec(),
            Algorithm::MlDsa65 => self.second().sign(bytes).encode().to_vec(),
        }
    }

    fn second(&self) -> Box<ml_dsa::SigningKey<MlDsa65>> {
        Box::new(ml_dsa::SigningKey::from_seed(&(*self.ml_dsa).into()))
    }
}

/// Sealed keys beside a TPM.
pub struct Vault<'a> {
    state: &'a State,
    index: u32,
    identity_pcr: u32,
    identity_value: Vec<u8>,
    software: Option<&'a SoftwareTpm>,
}

impl<'a> Vault<'a> {
    /// For the identity that is measured now.
    pub fn new(
        state: &'a State,
        index: u32,
        identity_pcr: u32,
        identity_value: Vec<u8>,
        software: Option<&'a SoftwareTpm>,
    ) -> Vault<'a> {
        Vault {
            state,
            index,
            identity_pcr,
            identity_value,
            software,
        }
    }

    /// Makes counter and first key.
    ///
    /// # Errors
    /// [`TpmError::AlreadyInitialised`]; [`TpmError::RolledBack`] when the counter has run but its key is not here, unless `replace`.
    pub fn initialise(&self, esys: &mut Esys, replace: bool) -> Result<Keys, TpmError> {
        let counter = match esys.find(self.index)? {
            Some(counter) => self.sound(esys, counter)?,
            None => {
                let counter = esys.define_counter(self.index)?;
                esys.increment(counter)?;
                counter
            }
        };
        // A crash may have come between definition and first increment; such a counter cannot be read.
        let epoch = match esys.counter(counter) {
            Ok(epoch) => epoch,
            Err(_) => {
                esys.increment(counter)?;
                esys.counter(counter)?
            }
        };
        if self.state.read(&file(epoch))?.is_some() && !replace {
            return Err(TpmError::AlreadyInitialised { epoch });
        }
        if !self.epochs()?.is_empty() && !replace {
            return Err(self.rolled_back(epoch)?);
        }
        // What is replaced may still be somewhere, and must not open again.
        if replace {
            esys.increment(counter)?;
        }
        let keys = fresh(esys.counter(counter)?, &Floors::default())?;
        self.seal(esys, &keys, &self.identity_value, &file(keys.epoch))?;
        self.state.remove(&prepared(epoch))?;
        self.clean(&keys)?;
        Ok(keys)
    }

    /// The counter's object and value.
    ///
    /// # Errors
    /// [`TpmError::NotInitialised`].
    pub fn counter(&self, esys: &Esys) -> Result<(ESYS_TR, u64), TpmError> {
        let counter = esys.find(self.index)?.ok_or(TpmError::NotInitialised)?;
        let counter = self.sound(esys, counter)?;
        Ok((counter, esys.counter(counter)?))
    }

    /// The index, if it is a counter of ours; whether it was written yet is another matter.
    fn sound(&self, esys: &Esys, counter: ESYS_TR) -> Result<ESYS_TR, TpmError> {
        match (esys.nv_attributes(counter)? ^ COUNTER_ATTRIBUTES) & !NV_WRITTEN {
            0 => Ok(counter),
            _ => Err(TpmError::CounterUnsound { index: self.index }),
        }
    }

    /// Opens the keys of the epoch that the counter says.
    ///
    /// # Errors
    /// [`TpmError::NotInitialised`], [`TpmError::RolledBack`], [`TpmError::KeyClosed`].
    pub fn open(&self, esys: &mut Esys) -> Result<Keys, TpmError> {
        let (counter, epoch) = self.counter(esys)?;
        let Some(current) = self.state.read(&file(epoch))? else {
            return Err(match self.epochs()?.is_empty() {
                true => TpmError::NotInitialised,
                false => self.rolled_back(epoch)?,
            });
        };
        let keys = match (
            self.unseal(esys, counter, epoch, &current),
            self.state.read(&prepared(epoch))?,
        ) {
            (Err(TpmError::KeyClosed { .. }), Some(next)) => {
                let keys = self.unseal(esys, counter, epoch, &next)?;
                // The update has happened: what was prepared for is what is now.
                self.state.rename(&prepared(epoch), &file(epoch))?;
                keys
            }
            (opened, _) => opened?,
        };
        self.clean(&keys)?;
        Ok(keys)
    }

    fn unseal(&self, esys: &mut Esys, counter: ESYS_TR, epoch: u64, bytes: &[u8]) -> Result<Keys, TpmError> {
        let closed = |error: TpmError| match error {
            TpmError::Refused { code, why, .. } if denies(code) => TpmError::KeyClosed { epoch, why },
            other => other,
        };
        let sealed = SealedFile::parse(bytes)?;
        let parent = storage_root(esys)?;
        let object = esys
            .load(parent, &sealed.private, &sealed.public)
            .map_err(closed)?;
        let session = esys.policy_session(parent)?;
        let policies = esys
            .policy_pcr(session, self.identity_pcr)
            .and_then(|()| esys.policy_counter(session, counter, epoch));
        let opened = policies
            .and_then(|()| esys.unseal(object, session))
            .map_err(closed);
        esys.flush(session);
        esys.flush(object);
        let opened = opened?;
        let master = <[u8; 32]>::try_from(&opened[..])
            .map(Zeroizing::new)
            .map_err(|_| TpmError::Malformed(format!("a key of {} bytes", opened.len())))?;
        let floors = sealed.floors(&derived(&master, FLOORS), epoch)?;
        Ok(Keys {
            epoch,
            floors,
            master,
        })
    }

    /// Makes a new key in a later epoch.
    ///
    /// # Errors
    /// Those of the TPM and the files; the old key stays good until the increment.
    pub fn rotate(&self, esys: &mut Esys, current: &Keys) -> Result<Keys, TpmError> {
        let mut next = fresh(current.epoch.saturating_add(2), &current.floors)?;
        next.floors = seal_all_anew(self.state, current, &next)?;
        self.commit(esys, current, next)
    }

    /// Takes the key along into a later epoch, in which these floors hold.
    ///
    /// # Errors
    /// As [`Vault::rotate`].
    pub fn raise(&self, esys: &mut Esys, current: &Keys, floors: Floors) -> Result<Keys, TpmError> {
        let next = Keys {
            epoch: current.epoch.saturating_add(2),
            floors,
            master: current.master.clone(),
        };
        self.commit(esys, current, next)
    }

    /// Has `next` count, two epochs after `current`.
    fn commit(&self, esys: &mut Esys, current: &Keys, next: Keys) -> Result<Keys, TpmError> {
        let carried = Keys {
            epoch: current.epoch.saturating_add(1),
            floors: current.floors.clone(),
            master: current.master.clone(),
        };
        self.advance(esys, current, &carried)?;
        self.advance(esys, &carried, &next)?;
        // It counts already; what is left lying is deleted when it is opened next.
        let _ = self.clean(&next);
        Ok(next)
    }

    /// From one epoch to the next.
    fn advance(&self, esys: &mut Esys, current: &Keys, next: &Keys) -> Result<(), TpmError> {
        let (counter, _) = self.counter(esys)?;
        // An update that was prepared must not be lost to a rotation before it.
        if let Some(bytes) = self.state.read(&prepared(current.epoch))? {
            let identity = SealedFile::parse(&bytes)?.identity;
            self.seal(esys, next, &identity, &prepared(next.epoch))?;
        }
        self.seal(esys, next, &self.identity_value, &file(next.epoch))?;
        self.wrap(next)?;
        esys.increment(counter)?;
        // Before anything that counted until now is deleted.
        self.software.map_or(Ok(()), SoftwareTpm::flush)
    }

    /// Opens the newest key that was wrapped with its private half, and takes it along into an epoch of this TPM and this identity.
    ///
    /// # Errors
    /// [`TpmError::NothingToRecover`], [`TpmError::RecoveryRefused`], [`TpmError::FloorsForged`].
    pub fn recover(&self, esys: &mut Esys, private: &[u8]) -> Result<Keys, TpmError> {
        let nothing = || TpmError::NothingToRecover {
            directory: self.state.directory().to_owned(),
        };
        let epoch = self.epochs()?.into_iter().max().ok_or_else(nothing)?;
        let (Some(sealed), Some(wrapped)) =
            (self.state.read(&file(epoch))?, self.state.read(&recovery(epoch))?)
        else {
            return Err(nothing());
        };
        let master = crate::recovery::unwrap(private, epoch, &wrapped)?;
        let floors = SealedFile::parse(&sealed)?.floors(&derived(&master, FLOORS), epoch)?;
        let counter = match esys.find(self.index)? {
            Some(counter) => self.sound(esys, counter)?,
            None => esys.define_counter(self.index)?,
        };
        // Beyond whatever this TPM has sealed before, and never below the epoch that is given up: names of files stay in order.
        esys.increment(counter)?;
        let keys = Keys {
            epoch: esys.counter(counter)?,
            floors,
            master,
        };
        self.wrap(&keys)?;
        self.seal(esys, &keys, &self.identity_value, &file(keys.epoch))?;
        self.clean(&keys)?;
        Ok(keys)
    }

    /// Writes the key for the offline key, if there is one.
    fn wrap(&self, keys: &Keys) -> Result<(), TpmError> {
        let Some(public) = keys.floors.recovery() else {
            return Ok(());
        };
        let wrapped = crate::recovery::wrap(&public, keys.epoch, &keys.master)?;
        self.state.write(&recovery(keys.epoch), &wrapped)
    }

    /// Seals the key also to the identity that is expected after an update.
    ///
    /// # Errors
    /// Those of the TPM and the files.
    pub fn prepare(&self, esys: &mut Esys, keys: &Keys, expected: &[u8]) -> Result<(), TpmError> {
        self.seal(esys, keys, expected, &prepared(keys.epoch))
    }

    fn seal(&self, esys: &mut Esys, keys: &Keys, identity: &[u8], name: &str) -> Result<(), TpmError> {
        let policy = opening_policy(self.identity_pcr, identity, self.index, keys.epoch);
        let parent = storage_root(esys)?;
        let (private, public) = esys.seal(parent, &templates::sealed(&policy)?, &*keys.master)?;
        let sealed = SealedFile::new(private, public, identity.to_vec());
        let bytes = sealed.to_bytes(&derived(&keys.master, FLOORS), keys.epoch, &keys.floors)?;
        self.state.write(name, &bytes)
    }

    fn epochs(&self) -> Result<Vec<u64>, TpmError> {
        let names = self.state.names(PREFIX)?;
        Ok(names
            .iter()
            .filter_map(|name| name.strip_prefix(PREFIX)?.parse().ok())
            .collect())
    }

    /// Deletes what is of another epoch or does not count, and unfinished files.
    fn clean(&self, keys: &Keys) -> Result<(), TpmError> {
        let epoch = keys.epoch;
        for name in self.state.names(PREFIX)? {
            if name != file(epoch) && name != prepared(epoch) {
                self.state.remove(&name)?;
            }
        }
        for name in self.state.names(RECOVERY)? {
            if name != recovery(epoch) {
                self.state.remove(&name)?;
            }
        }
        delete_others(self.state, &keys.floors)
    }

    fn rolled_back(&self, counter: u64) -> Result<TpmError, TpmError> {
        let found: Vec<String> = self.epochs()?.iter().map(u64::to_string).collect();
        Ok(TpmError::RolledBack {
            counter,
            found: found.join(", "),
            directory: self.state.directory().to_owned(),
        })
    }
}

fn file(epoch: u64) -> String {
    format!("{PREFIX}{epoch}")
}

fn recovery(epoch: u64) -> String {
    format!("{RECOVERY}{epoch}")
}

fn prepared(epoch: u64) -> String {
    format!("{PREFIX}{epoch}.next")
}

/// Whether a response code says that a policy, a parent or an authorization does not fit, as an error about a parameter, handle or session
/// does and TPM_RC_POLICY; not that the TPM is out of memory, locked or broken (Part 2, 6.6.3).
fn denies(code: u32) -> bool {
    const FORMAT_ONE: u32 = 0x080;
    const RC_POLICY: u32 = 0x126;
    code & FORMAT_ONE != 0 || code == RC_POLICY
}

/// A key for one purpose (RFC 5869).
pub(crate) fn derived(master: &[u8; 32], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    // HKDF-SHA256 gives up to 8160 bytes, so 32 are always given.
    let _ = Hkdf::<Sha256>::new(None, master).expand(purpose, &mut *key);
    key
}

fn fresh(epoch: u64, floors: &Floors) -> Result<Keys, TpmError> {
    let mut master = Zeroizing::new([0; 32]);
    getrandom::fill(&mut *master)
        .map_err(|error| TpmError::Malformed(format!("no random bytes from the host: {error}")))?;
    Ok(Keys {
        epoch,
        floors: floors.rotated(now()),
        master,
    })
}

pub(crate) fn storage_root(esys: &mut Esys) -> Result<ESYS_TR, TpmError> {
    if let Some(found) = esys.find(STORAGE_ROOT)? {
        return Ok(found);
    }
    let (made, _) = esys.primary(ESYS_TR_RH_OWNER, &templates::storage_root()?)?;
    let kept = esys.persist(made, STORAGE_ROOT)?;
    esys.flush(made);
    Ok(kept)
}

//! What muscles keep from run to run. **The TPM's increment is the commit here too**: the floors name the one file of a state that counts,
//! so a file that was put back from a copy is none.
//!
//! ```text
//!   save:    seal → new file on disk → floors that name it, in the next epoch → delete the old file
//!   rotate:  all files sealed anew under the new master key, beside the old ones → floors that name them → delete the old files
//! ```

use referee_attest::{Bundle, Reply, Rule, StateOwner};
use referee_evidence::to_hex;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::error::TpmError;
use crate::esys::Esys;
use crate::floors::{BelowFloor, Floors, STATE_PREFIX, StateFloor, state_id};
use crate::ladder::{Rung, TOP};
use crate::measure::Measured;
use crate::muscle_state::{Header, Sealed, seal};
use crate::service::bytes;
use crate::session::Session;
use crate::state::State;
use crate::vault::Keys;

/// As manifests have it.
const STATE_MAX: u64 = 256 << 10;
const SLOT_NAME_MAX: usize = 32;

impl Session {
    /// What this owner saved, for a bundle of this security epoch.
    ///
    /// # Errors
    /// [`TpmError::StateLost`]; [`TpmError::Rejected`] when a bundle of a later epoch saved it; those of the key.
    pub(crate) fn load_state(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        owner: &StateOwner,
        epoch: u64,
    ) -> Result<Reply, TpmError> {
        let keys = self.vault(measured).open(esys)?;
        let Some(floor) = keys.floors.state(owner) else {
            return Ok(Reply::State {
                sequence: 0,
                version: String::new(),
                bytes: None,
            });
        };
        not_newer(floor, owner, epoch)?;
        let rung = rung(&keys, owner, epoch)?;
        let (_, opened) = open(self.directory(), floor, &rung)?;
        Ok(Reply::State {
            sequence: floor.sequence,
            version: to_hex(&floor.id),
            bytes: Some(to_hex(&opened)),
        })
    }

    /// Replaces what this owner saved.
    ///
    /// # Errors
    /// As [`Session::load_state`]; [`TpmError::StateConflict`], [`TpmError::TooManyStates`].
    pub(crate) fn save_state(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        owner: &StateOwner,
        bundle: &Bundle,
        after: Option<String>,
        text: &str,
    ) -> Result<Reply, TpmError> {
        let saved = Zeroizing::new(bytes(text)?);
        if saved.len() as u64 > STATE_MAX || owner.slot.len() > SLOT_NAME_MAX {
            return Err(TpmError::Request(format!(
                "a state has at most {STATE_MAX} bytes, and its slot's name {SLOT_NAME_MAX}"
            )));
        }
        let vault = self.vault(measured);
        let keys = vault.open(esys)?;
        let floor = keys.floors.state(owner);
        let found = floor.map_or(0, |floor| floor.sequence);
        let present = floor.map_or(String::new(), |floor| to_hex(&floor.id));
        if after.is_some_and(|after| after != present) {
            return Err(TpmError::StateConflict { found });
        }
        if let Some(floor) = floor {
            not_newer(floor, owner, bundle.epoch)?;
        }
        let header = Header::new(
            owner,
            bundle.epoch,
            found.saturating_add(1),
            bundle.digest,
            floor.map_or([0; 32], |floor| floor.digest),
        );
        let rung = rung(&keys, owner, bundle.epoch)?;
        let mut id = [0; 16];
        getrandom::fill(&mut id)
            .map_err(|error| TpmError::Malformed(format!("no random bytes from the host: {error}")))?;
        let next = write(self.directory(), owner, &header, &rung.key(), &saved, id)?;
        let (sequence, version) = (next.sequence, to_hex(&next.id));
        let floors = keys.floors.with_state(next).ok_or(TpmError::TooManyStates)?;
        vault.raise(esys, &keys, floors)?;
        Ok(Reply::State {
            sequence,
            version,
            bytes: None,
        })
    }

    /// Gives up what this owner saved.
    ///
    /// # Errors
    /// [`TpmError::NoSuchState`], those of the key.
    pub(crate) fn forget_state(
        &self,
        esys: &mut Esys,
        measured: &Measured<'_>,
        owner: &StateOwner,
    ) -> Result<Keys, TpmError> {
        let vault = self.vault(measured);
        let keys = vault.open(esys)?;
        let floors = keys.floors.without_state(owner).ok_or(TpmError::NoSuchState)?;
        vault.raise(esys, &keys, floors)
    }
}

/// The floors of the next master key: every state sealed under it, in files beside the present ones.
///
/// # Errors
/// [`TpmError::StateLost`]; nothing was given up then.
pub fn seal_all_anew(directory: &State, current: &Keys, next: &Keys) -> Result<Floors, TpmError> {
    let mut floors = next.floors.clone();
    for floor in current.floors.states() {
        let owner = floor.owner();
        let (header, opened) = open(directory, floor, &rung(current, &owner, floor.version)?)?;
        let key = rung(next, &owner, floor.version)?.key();
        let moved = write(directory, &owner, &header, &key, &opened, floor.id)?;
        floors = floors.with_state(moved).ok_or(TpmError::TooManyStates)?;
    }
    Ok(floors)
}

/// Deletes files of states that do not count.
///
/// # Errors
/// [`TpmError::State`].
pub fn delete_others(directory: &State, floors: &Floors) -> Result<(), TpmError> {
    let kept: Vec<String> = floors.states().map(StateFloor::file).collect();
    for name in directory.names(STATE_PREFIX)? {
        if !kept.contains(&name) {
            directory.remove(&name)?;
        }
    }
    Ok(())
}

fn rung(keys: &Keys, owner: &StateOwner, version: u64) -> Result<Rung, TpmError> {
    Rung::top(keys.ladder(&state_id(owner)))
        .down_to(version)
        .ok_or(TpmError::BeyondLadder {
            epoch: version,
            most: TOP,
        })
}

fn not_newer(floor: &StateFloor, owner: &StateOwner, epoch: u64) -> Result<(), TpmError> {
    if floor.version <= epoch {
        return Ok(());
    }
    Err(TpmError::Rejected(BelowFloor {
        rule: Rule::StateNewer,
        message: format!(
            "the state `{}` of {}: a bundle of security epoch {} saved it, and one of epoch {epoch} does not open it; run a newer bundle, \
             or give the state up: referee-vmm tpm forget-state",
            owner.slot, owner.muscle, floor.version
        ),
    }))
}

/// Opens the file that counts.
fn open(
    directory: &State,
    floor: &StateFloor,
    rung: &Rung,
) -> Result<(Header, Zeroizing<Vec<u8>>), TpmError> {
    let owner = floor.owner();
    let lost = |why: &str| TpmError::StateLost {
        owner: Box::new(owner.clone()),
        sequence: floor.sequence,
        why: why.to_owned(),
        directory: directory.directory().to_owned(),
    };
    let name = floor.file();
    let file = directory
        .read(&name)?
        .ok_or_else(|| lost(&format!("{name} is not there")))?;
    if <[u8; 32]>::from(Sha256::digest(&file)) != floor.digest {
        return Err(lost(&format!("{name} was changed")));
    }
    let sealed = Sealed::parse(&file, &owner).ok_or_else(|| lost("it is none of this muscle's"))?;
    let key = rung
        .down_to(sealed.version())
        .ok_or_else(|| lost("it is of a later version than was noted"))?
        .key();
    let (header, opened) = sealed
        .open(&key)
        .ok_or_else(|| lost("its key does not open it"))?;
    Ok((header.clone(), opened))
}

/// Writes a file that does not count yet.
fn write(
    directory: &State,
    owner: &StateOwner,
    header: &Header,
    key: &[u8; 32],
    saved: &[u8],
    id: [u8; 16],
) -> Result<StateFloor, TpmError> {
    let file = seal(key, header, saved)?;
    let digest = Sha256::digest(&file).into();
    let floor = StateFloor::new(owner, header, saved.len() as u64, digest, id);
    directory.write(&floor.file(), &file)?;
    Ok(floor)
}

//! Grants of running cells: looked at, taken back, made smaller.
//!
//! What is taken back stays so: for calls that are under way, for the next life of each cell, for cells from a template, and for those that are started
//! later. The order is always: recorded, in force for whatever begins, waited until nothing is under way that began before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use referee_audit::{AuditError, AuditSink, Event, Kind, Value};
use referee_capabilities::LiveBroker;
use referee_policy::{Grant, Grants, Loan, Loans, Narrowing, NotNarrower, Power, Standings};

use crate::canceller::Shared as Runner;

/// How long to wait for a use that is under way, unless [`GrantControl::with_patience`] says otherwise.
const PATIENCE: Duration = Duration::from_secs(2);

/// Takes grants back, or makes them smaller, of all cells of a permit or of one cell, from any thread, while calls run. Clones are the same.
#[derive(Debug, Clone)]
pub struct GrantControl {
    ledger: Arc<Ledger>,
    /// None for all cells of the permit.
    cell: Option<u64>,
    patience: Duration,
}

/// A slot, as policy gave it and as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotStanding {
    /// The slot.
    pub slot: String,
    /// What policy gave.
    pub granted: Power,
    /// What is left; `None` for nothing, also while a slot waits for somebody to delegate to it.
    pub left: Option<Power>,
}

/// Why a grant is not taken back, or not made smaller.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no such slot, or what is asked for would not be less. Nothing has changed.
    #[error(transparent)]
    Rejected(#[from] NotNarrower),
    /// The log took no record. Nothing has changed.
    #[error("cannot record what is done to a grant")]
    Audit(#[from] AuditError),
    /// No use that begins from now on has the grant; one that began before is not over yet, and does not let itself be interrupted.
    #[error(
        "slot `{slot}` is changed for every further use, and one that began before goes on; cancel the call to end it"
    )]
    UnderWay {
        /// The slot.
        slot: String,
    },
}

/// What is done to a grant.
enum Act<'a> {
    Revoke,
    Narrow(&'a Narrowing),
}

/// What is left of a permit's grants, and who has them.
#[derive(Debug)]
pub(crate) struct Ledger {
    granted: Grants,
    /// Without a cell's name.
    audit: AuditSink,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    standings: Standings,
    /// What is lent to slots that are delegated.
    loans: Loans,
    /// One more with each change.
    changes: u64,
    cells: BTreeMap<u64, Held>,
    next: u64,
}

/// A cell that there is.
#[derive(Debug)]
struct Held {
    /// What was taken from it alone.
    standings: Standings,
    /// None while it has no start record, or is over.
    audit: Option<AuditSink>,
    runner: Arc<Runner>,
    /// None while it has no life.
    life: Option<LiveBroker>,
}

/// A cell's entry, for as long as the cell is there.
#[derive(Debug)]
pub(crate) struct Entry {
    ledger: Arc<Ledger>,
    number: u64,
}

/// What is left for a cell, and as of which change.
pub(crate) struct Left {
    pub grants: Grants,
    changes: u64,
}

impl Ledger {
    pub(crate) fn new(
        granted: Grants,
        audit: AuditSink,
        (standings, loans): (Standings, Loans),
    ) -> Arc<Ledger> {
        Arc::new(Ledger {
            granted,
            audit,
            state: Mutex::new(State {
                standings,
                loans,
                ..State::default()
            }),
        })
    }

    pub(crate) fn control(self: &Arc<Ledger>) -> GrantControl {
        GrantControl {
            ledger: Arc::clone(self),
            cell: None,
            patience: PATIENCE,
        }
    }

    /// Enters a cell.
    pub(crate) fn enter(self: &Arc<Ledger>, runner: Arc<Runner>) -> Arc<Entry> {
        let mut state = self.lock();
        let number = state.next;
        state.next = state.next.wrapping_add(1);
        let held = Held {
            standings: Standings::default(),
            audit: None,
            runner,
            life: None,
        };
        state.cells.insert(number, held);
        Arc::new(Entry {
            ledger: Arc::clone(self),
            number,
        })
    }

    fn grant(&self, slot: &str) -> Result<&Grant, NotNarrower> {
        self.granted.slot(slot).ok_or_else(|| NotNarrower::NoSuchSlot {
            slot: slot.to_owned(),
            slots: self
                .granted
                .slots()
                .iter()
                .map(|grant| grant.slot().to_owned())
                .collect(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing between two changes of the state can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    pub(crate) fn control(&self) -> GrantControl {
        GrantControl {
            cell: Some(self.number),
            ..self.ledger.control()
        }
    }

    /// Says that another cell takes its place, run by whoever has this; what was taken from the one before is taken from it.
    pub(crate) fn renew(&self, runner: Arc<Runner>) {
        if let Some(held) = self.ledger.lock().cells.get_mut(&self.number) {
            held.runner = runner;
        }
    }

    /// Says that its start is recorded: what is done to its grants from here on is one of its records.
    pub(crate) fn begins(&self, audit: AuditSink) {
        if let Some(held) = self.ledger.lock().cells.get_mut(&self.number) {
            held.audit = Some(audit);
        }
    }

    /// Says that its end is about to be recorded, after which it has no more records; and lets go of its life.
    pub(crate) fn ends(&self) {
        let life = match self.ledger.lock().cells.get_mut(&self.number) {
            Some(held) => {
                held.audit = None;
                held.life.take()
            }
            None => None,
        };
        // What it has open is closed without the lock.
        drop(life);
    }

    /// What the cell's next life is to have of `grants`, which may be narrower than the permit's in their limits.
    pub(crate) fn left(&self, grants: &Grants) -> Left {
        let state = self.ledger.lock();
        Left {
            grants: left_for(&state, Some(self.number), grants),
            changes: state.changes,
        }
    }

    /// Enters the life that the cell has from now on, made of what was left then; what was taken since is taken from it.
    pub(crate) fn lives(&self, left: &Left, broker: LiveBroker) {
        let mut state = self.ledger.lock();
        if state.changes != left.changes {
            let now = left_for(&state, Some(self.number), &self.ledger.granted);
            for grant in left.grants.slots() {
                broker.leave(grant.slot(), now.slot(grant.slot()).cloned());
            }
        }
        let before = match state.cells.get_mut(&self.number) {
            Some(held) => held.life.replace(broker),
            None => None,
        };
        drop(state);
        drop(before);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.ledger.lock().cells.remove(&self.number);
    }
}

impl GrantControl {
    /// How long to wait for a use that is under way when a grant changes; 2 s otherwise.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> GrantControl {
        self.patience = patience;
        self
    }

    /// Each slot, as policy gave it and as it is now.
    pub fn slots(&self) -> Vec<SlotStanding> {
        let state = self.ledger.lock();
        let left = left_for(&state, self.cell, &self.ledger.granted);
        let standing = |grant: &Grant| SlotStanding {
            slot: grant.slot().to_owned(),
            granted: grant.power().clone(),
            left: left
                .slot(grant.slot())
                .filter(|left| left.waits().is_none())
                .map(|left| left.power().clone()),
        };
        self.ledger.granted.slots().iter().map(standing).collect()
    }

    /// Takes a grant back for good. When this returns, no use of it is under way, every further use is refused, and what came of it is closed: open files,
    /// directories. What a muscle was told when its life began (arguments, environment, its seed) it still knows; the next life is not told.
    ///
    /// # Errors
    /// [`ControlError`]. To take back what was taken back before is no error.
    pub fn revoke(&self, slot: &str) -> Result<(), ControlError> {
        self.act(slot, &Act::Revoke)
    }

    /// Makes a grant smaller for good; in force when this returns, as for [`GrantControl::revoke`].
    ///
    /// # Errors
    /// [`ControlError::Rejected`] says what would be wider.
    pub fn narrow(&self, slot: &str, narrowing: &Narrowing) -> Result<(), ControlError> {
        self.act(slot, &Act::Narrow(narrowing))
    }

    /// Has all cells of the permit have what another muscle lends to a slot, instead of what it lent before; in force when this returns, as for
    /// [`GrantControl::revoke`]. One that is older than what is lent already changes nothing. What is lent is more than policy gave only in words: a slot
    /// has what is in both. Whoever lends it records it.
    ///
    /// # Errors
    /// [`ControlError::Rejected`] when there is no such slot, or it is not one to which anything is delegated; [`ControlError::UnderWay`].
    pub fn lend(&self, slot: &str, loan: Loan) -> Result<(), ControlError> {
        let grant = self.ledger.grant(slot)?;
        if grant.delegated().is_none() {
            let slot = slot.to_owned();
            return Err(NotNarrower::NotDelegated { slot }.into());
        }
        let changed = {
            let mut state = self.ledger.lock();
            // An older one waits too until the newer is in force.
            state.loans.put(slot, loan);
            self.have(&mut state, slot)
        };
        self.settle(slot, &changed)
    }

    fn act(&self, slot: &str, act: &Act<'_>) -> Result<(), ControlError> {
        let changed = self.put_in_force(slot, act)?;
        self.settle(slot, &changed)
    }

    /// Waits until no use is under way that began before a change.
    fn settle(&self, slot: &str, changed: &[(LiveBroker, Arc<Runner>)]) -> Result<(), ControlError> {
        let until = Instant::now() + self.patience;
        let settled = changed
            .iter()
            .map(|(broker, runner)| broker.settle(until, || runner.runner.kick()));
        // Each is waited for, whatever came of those before.
        match settled.fold(true, |all, one| all & one) {
            true => Ok(()),
            false => Err(ControlError::UnderWay {
                slot: slot.to_owned(),
            }),
        }
    }

    /// Records the change and has it hold for all that begins; gives the lives that it is about.
    fn put_in_force(
        &self,
        slot: &str,
        act: &Act<'_>,
    ) -> Result<Vec<(LiveBroker, Arc<Runner>)>, ControlError> {
        let granted = &self.ledger.granted;
        let grant = self.ledger.grant(slot)?;
        if matches!((act, grant.power()), (Act::Revoke, Power::Ring { .. })) {
            let slot = slot.to_owned();
            return Err(NotNarrower::Mapped { slot }.into());
        }
        let mut state = self.ledger.lock();
        // What is lent to it may be less, and says nothing about how much it may have.
        let now = own_of(&state, self.cell, granted);
        match (act, now.slot(slot)) {
            // It is in force; whoever did it may still be waiting, and so does this.
            (Act::Revoke, _) => {}
            (Act::Narrow(_), None) => {
                return Err(NotNarrower::Revoked {
                    slot: slot.to_owned(),
                }
                .into());
            }
            (Act::Narrow(narrowing), Some(left)) => drop(narrowing.of(slot, left.power())?),
        }
        let concerned = |number: &u64| self.cell.is_none_or(|cell| cell == *number);
        if now.slot(slot).is_some() {
            if self.cell.is_none() {
                record(&self.ledger.audit, grant, act)?;
            }
            for (_, held) in state.cells.iter().filter(|(number, _)| concerned(number)) {
                if let Some(audit) = &held.audit {
                    record(audit, grant, act)?;
                }
            }
        }
        let change = |standings: &mut Standings| match act {
            Act::Revoke => standings.revoke(slot),
            Act::Narrow(narrowing) => standings.narrow(slot, narrowing),
        };
        match self.cell {
            None => change(&mut state.standings),
            Some(cell) => {
                if let Some(held) = state.cells.get_mut(&cell) {
                    change(&mut held.standings);
                }
            }
        }
        Ok(self.have(&mut state, slot))
    }

    /// Has the cells that this is about have what a slot has now, and gives their lives.
    fn have(&self, state: &mut State, slot: &str) -> Vec<(LiveBroker, Arc<Runner>)> {
        state.changes = state.changes.wrapping_add(1);
        let concerned = |number: &u64| self.cell.is_none_or(|cell| cell == *number);
        let mut changed = Vec::new();
        for (number, held) in state.cells.iter().filter(|(number, _)| concerned(number)) {
            if let Some(broker) = &held.life {
                let left = left_for(state, Some(*number), &self.ledger.granted);
                broker.leave(slot, left.slot(slot).cloned());
                changed.push((broker.clone(), Arc::clone(&held.runner)));
            }
        }
        changed
    }
}

/// What is left of grants: for a cell, or for one that takes nothing of its own.
fn left_for(state: &State, cell: Option<u64>, grants: &Grants) -> Grants {
    left_with(state, &state.loans, cell, grants)
}

/// The same of what they may have, whatever is lent.
fn own_of(state: &State, cell: Option<u64>, grants: &Grants) -> Grants {
    left_with(state, &Loans::default(), cell, grants)
}

fn left_with(state: &State, loans: &Loans, cell: Option<u64>, grants: &Grants) -> Grants {
    let left = grants.left(&state.standings, loans);
    match cell.and_then(|cell| state.cells.get(&cell)) {
        Some(held) if !held.standings.is_empty() => left.left(&held.standings, loans),
        _ => left,
    }
}

fn record(audit: &AuditSink, grant: &Grant, act: &Act<'_>) -> Result<(), AuditError> {
    let to = match act {
        Act::Revoke => String::new(),
        Act::Narrow(narrowing) => narrowing.to_string(),
    };
    let detail = [("to", Value::Text(&to))];
    audit.record(&Event {
        kind: match act {
            Act::Revoke => Kind::Revoke,
            Act::Narrow(_) => Kind::Narrow,
        },
        capability: Some(grant.power().kind().name()),
        slot: Some(grant.slot()),
        op: None,
        detail: match act {
            Act::Revoke => &[],
            Act::Narrow(_) => &detail,
        },
    })
}

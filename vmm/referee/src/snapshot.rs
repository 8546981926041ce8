//! A muscle as it stands between two calls, and cells that begin there.

use std::sync::Arc;
use std::time::Duration;

use referee_bundle::Digest;
use referee_cell::{CellError, Snapshot as Kept, SnapshotError, Template, Unfit, Unsound};

use crate::cell::{Cell, CellThread};
use crate::error::{CallError, StartError};
use crate::muscle::Permit;

/// A muscle with its memory, as [`Cell::snapshot`] found it. Holds every secret that the muscle has.
#[derive(Debug, Clone)]
pub struct Snapshot {
    kept: Kept,
    id: Option<Digest>,
}

/// Why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum NoSnapshot {
    /// The muscle cannot be kept as it stands; the cell goes on.
    #[error("the muscle cannot be kept as it stands: {0}")]
    Unsound(Unsound),
    /// It did not come to wait for a call. [`CallError`] says whether the cell goes on.
    #[error(transparent)]
    Call(CallError),
}

impl From<CallError> for NoSnapshot {
    fn from(error: CallError) -> NoSnapshot {
        NoSnapshot::Call(error)
    }
}

/// Where a permit's cells begin.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub template: Arc<Template>,
    /// The snapshot's SHA-256, for the log.
    pub id: String,
    /// What the cell's clock shows there.
    pub monotonic: Duration,
}

impl Snapshot {
    pub(crate) fn of(kept: Kept) -> Snapshot {
        Snapshot { kept, id: None }
    }

    /// The SHA-256 of its bytes, by which the log names it.
    pub fn id(&self) -> Digest {
        self.id.unwrap_or_else(|| Digest::of(&self.kept.to_bytes()))
    }

    /// The SHA-256 of the bundle that it was made of.
    pub fn bundle(&self) -> Digest {
        self.kept.bundle()
    }

    /// It as bytes, for a file or another program of this version on a processor like this one.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.kept.to_bytes()
    }

    /// Writes those bytes piece by piece.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_to(&self, out: &mut impl std::io::Write) -> std::io::Result<()> {
        self.kept.write_to(out)
    }

    /// Reads bytes that may be anything. What they say is held against bundle and grants by [`Permit::begin_from`].
    ///
    /// # Errors
    /// [`StartError::Rejected`] with the name `snapshot-damaged`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Snapshot, StartError> {
        let kept = Kept::from_bytes(bytes).map_err(|damaged| StartError::Rejected {
            name: "snapshot-damaged",
            message: format!("the snapshot is damaged: {damaged}"),
        })?;
        Ok(Snapshot {
            kept,
            id: Some(Digest::of(bytes)),
        })
    }

    /// Most bytes of a snapshot of a muscle whose cells have so much memory.
    pub fn most_bytes(memory_bytes: u64) -> u64 {
        let pages = memory_bytes.div_ceil(muscle_abi::PAGE_SIZE);
        // What it was told at its start is in its memory once more.
        pages
            .saturating_mul(Kept::PAGE)
            .saturating_add(memory_bytes.min(u64::from(u32::MAX)))
            .saturating_add(Kept::OVERHEAD)
    }
}

/// A snapshot's refusal by its name.
pub(crate) fn snapshot_unfit(unfit: Unfit) -> StartError {
    let name = match unfit {
        Unfit::Bundle => "snapshot-of-another-bundle",
        Unfit::Rings => "snapshot-with-rings",
        Unfit::Damaged(_) => "snapshot-damaged",
        Unfit::Style | Unfit::Clock | Unfit::Sizes | Unfit::Told => "snapshot-unfit",
    };
    StartError::Rejected {
        name,
        message: format!("no cell can begin at the snapshot: {unfit}"),
    }
}

impl Permit {
    /// The same grants, for cells that begin at a snapshot and not at the muscle's start-up: in their first life, and after each [`Cell::reset`]. Any number
    /// of them. Handles, seed and counters are their own, the monotonic clock goes on; what the muscle keeps in its memory they have alike, its
    /// generators of random numbers and its secrets too. Files that it had open are closed to it.
    ///
    /// # Errors
    /// [`StartError::Rejected`] when the snapshot is of another bundle (`snapshot-of-another-bundle`), was made under other limits, with a finer or
    /// coarser clock or, by a muscle that does not read them anew, with other arguments or grants (`snapshot-unfit`); when there are rings
    /// (`snapshot-with-rings`), or it says what cannot be (`snapshot-damaged`).
    pub fn begin_from(&self, snapshot: &Snapshot) -> Result<Permit, StartError> {
        let template = match self.grants().rings().next() {
            Some(_) => Err(Unfit::Rings),
            None => snapshot.kept.template(self.image(), &self.spec()?),
        };
        match template {
            Ok(template) => Ok(self.beginning_at(Beginning {
                template,
                id: snapshot.id().to_string(),
                monotonic: snapshot.kept.monotonic(),
            })),
            Err(unfit) => Err(self.engine().refusal(snapshot_unfit(unfit), &self.title())?),
        }
    }
}

impl Cell {
    /// Keeps the muscle as it stands between two calls, for [`Permit::begin_from`]. The cell goes on as before. A muscle that is still at something, or has not
    /// run yet, is first run until it waits for a call, within the time of one.
    ///
    /// # Errors
    /// [`NoSnapshot::Unsound`] says what stands against it: a muscle that was told handles or a seed and never rang `READY`, above all.
    pub fn snapshot(&mut self, thread: &CellThread) -> Result<Snapshot, NoSnapshot> {
        self.snapshot_within(thread, None)
    }

    /// As [`Cell::snapshot`], for a host that lets many cells take turns: a muscle that does not wait for a call is run for no longer than about `budget`, and is
    /// refused if it does not wait then.
    ///
    /// # Errors
    /// As [`Cell::snapshot`].
    pub fn snapshot_within(
        &mut self,
        thread: &CellThread,
        budget: Option<Duration>,
    ) -> Result<Snapshot, NoSnapshot> {
        self.come_to_rest(thread, budget)?;
        match self.loaded()?.snapshot() {
            Ok(kept) => Ok(Snapshot::of(kept)),
            Err(SnapshotError::Unsound(unsound)) => Err(NoSnapshot::Unsound(unsound)),
            Err(SnapshotError::Cell(error)) => Err(self.fail(error).into()),
        }
    }

    /// Runs the muscle until it waits, unless it does.
    fn come_to_rest(&mut self, thread: &CellThread, budget: Option<Duration>) -> Result<(), NoSnapshot> {
        if self.has_begun() || self.loaded()?.is_answering() {
            return Err(NoSnapshot::Unsound(Unsound::Call));
        }
        let cooled: Result<(), CellError> = self.loaded()?.cool();
        if let Err(error) = cooled {
            return Err(self.fail(error).into());
        }
        let cell = self.loaded()?;
        if cell.is_at_rest() {
            return Ok(());
        }
        cell.renew_time();
        match budget {
            None => self.run_to_park(thread)?,
            Some(budget) => self.run_towards_park(thread, budget)?,
        }
        Ok(())
    }
}

//! Machines made ahead, cells loaded ahead, and dead ones taken apart: all off the caller's path.
//!
//! ```text
//!   start ── take ────► [ loaded cells of this permit ] ◄── load ─┐
//!         └─ take ────► [ shells ] ◄──────────────────── make ────┤ pool thread
//!   drop  ── bury ────► [ dead cells, records not flushed ] ──────┘ destroy, fdatasync
//! ```
//! A shell is a VM and a vCPU that have never had memory or run an instruction; a loaded cell has run nothing but its own muscle's
//! start-up (`kit.rs`). Each is used once: no machine ever serves two cells, let alone two publishers. What a cell was is destroyed
//! with all its memory.
//!
//! Waking a thread costs whoever does it as much as a call: an interrupt to another processor. So the thread is not woken while
//! there is something left to take: for a second after the last start or end it looks by itself, every few milliseconds, and
//! only then sleeps until it is needed.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use referee_audit::{AuditError, AuditSink};
use referee_cell::{LoadedCell, Shell, Template};
use referee_hv::{Kvm, VcpuThread};

use crate::error::StartError;
use crate::kit::{Hands, Recipe};

/// Most dead cells that wait for their burial; a further one is destroyed by whoever drops it.
const DEAD_MAX: usize = 64;
/// How long nobody must have taken or dropped anything before the pool works: making and destroying machines takes locks of the
/// kernel that a starting cell waits for. It works at once when there is nothing left to take.
const QUIET: Duration = Duration::from_millis(1);
/// How long at most the dead wait for quiet, and records for the disk.
const OVERDUE: Duration = Duration::from_millis(15);
/// How long the thread looks by itself whether there is work, and the longest time between two looks.
const ATTENTIVE: Duration = Duration::from_secs(1);
const NAP: Duration = Duration::from_millis(5);

/// The pool of one [`crate::Referee`].
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    kvm: Arc<Kvm>,
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    shells: Vec<Shell>,
    /// What is loaded ahead, by the number of its permit.
    kits: BTreeMap<u64, Kit>,
    dead: Vec<LoadedCell>,
    /// The log, when records of ended cells may not be on the disk yet.
    unflushed: Option<AuditSink>,
    /// Flushing failed, and nobody was told yet.
    flush_failure: Option<AuditError>,
    /// Making something failed; the next caller makes its own and hears why.
    failed: bool,
    stop: bool,
    /// The thread sleeps until it is woken.
    asleep: bool,
    /// When something was taken or dropped last.
    disturbed: Option<Instant>,
    /// When the first of the dead, or of the records not flushed, came.
    due_since: Option<Instant>,
}

/// Cells of one permit.
struct Kit {
    size: usize,
    /// Taken out while the thread loads by it.
    recipe: Option<Box<Recipe>>,
    ready: Vec<LoadedCell>,
    /// What its cells begin from, once that is known.
    template: Option<Arc<Template>>,
    /// What its cells begin from is to be made anew, those that are being made included.
    distrusted: bool,
}

impl fmt::Debug for Kit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kit")
            .field("size", &self.size)
            .field("ready", &self.ready.len())
            .finish_non_exhaustive()
    }
}

/// What was made for cells of a permit.
#[derive(Debug)]
pub(crate) enum Ahead {
    /// A cell, which must be given a life.
    Cell(Box<LoadedCell>),
    /// What cells begin from.
    Template(Arc<Template>),
}

/// What the pool's thread does next.
enum Work {
    Make,
    Load(u64, Box<Recipe>),
    Destroy(Box<LoadedCell>),
    Flush(AuditSink),
}

impl Pool {
    /// A pool that keeps `size` shells ready. Its thread is at work when this returns, so that what only a thread's beginning needs may
    /// be forbidden from then on.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub(crate) fn new(kvm: Arc<Kvm>, size: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            kvm,
            size,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let worker = Arc::clone(&shared);
        let (begun, has_begun) = std::sync::mpsc::channel();
        let builder = std::thread::Builder::new().name("referee-pool".into());
        let thread = builder.spawn(move || {
            // Without it, cells are made all the same, but none is started ahead.
            let vcpus = VcpuThread::enter().ok();
            // Nobody waits when the thread's maker is gone, and then nobody needs to know.
            let _ = begun.send(());
            worker.work(vcpus.as_ref());
        })?;
        has_begun.recv().map_err(std::io::Error::other)?;
        Ok(Pool {
            shared,
            thread: Some(thread),
        })
    }

    /// A shell made ahead, or one made now.
    ///
    /// # Errors
    /// When one must be made and the kernel refuses.
    pub(crate) fn take_shell(&self) -> Result<Shell, StartError> {
        let shell = self.take(|state| state.shells.pop());
        let made = |shared: &Shared| Shell::create(&shared.kvm);
        shell
            .map_or_else(|| made(&self.shared), Ok)
            .map_err(StartError::host("making a virtual machine"))
    }

    /// What there is of this permit: a cell that was loaded ahead, or, when all are taken, what another can begin from.
    pub(crate) fn take_ahead(&self, permit: u64) -> Option<Ahead> {
        self.take(|state| {
            let kit = state.kits.get_mut(&permit)?;
            let cell = kit.ready.pop().map(|cell| Ahead::Cell(Box::new(cell)));
            cell.or_else(|| kit.template.clone().map(Ahead::Template))
        })
    }

    fn take<T>(&self, from: impl FnOnce(&mut State) -> Option<T>) -> Option<T> {
        let mut state = self.shared.lock();
        let taken = from(&mut state);
        state.failed = false;
        state.disturbed = Some(Instant::now());
        self.shared.wake(state);
        taken
    }

    /// Says why records of an earlier cell did not reach the disk, once.
    ///
    /// # Errors
    /// That failure.
    pub(crate) fn check_log(&self) -> Result<(), StartError> {
        match self.shared.lock().flush_failure.take() {
            None => Ok(()),
            Some(failure) => Err(StartError::host("flushing the audit log")(failure)),
        }
    }

    /// Keeps `size` cells of a permit loaded, by `recipe`.
    pub(crate) fn keep_loaded(&self, permit: u64, size: usize, recipe: Recipe) {
        let kit = Kit {
            size,
            recipe: Some(Box::new(recipe)),
            ready: Vec::new(),
            template: None,
            distrusted: false,
        };
        let replaced = self.shared.lock().kits.insert(permit, kit);
        self.shared.changed.notify_one();
        drop(replaced);
    }

    /// Has a permit's cells begin from something new.
    pub(crate) fn distrust(&self, permit: u64) {
        let mut state = self.shared.lock();
        if let Some(kit) = state.kits.get_mut(&permit) {
            kit.distrusted = true;
            kit.template = None;
            let spoilt = std::mem::take(&mut kit.ready);
            state.dead.extend(spoilt);
            state.due_since.get_or_insert_with(Instant::now);
            self.shared.wake(state);
        }
    }

    /// Keeps no more cells of a permit.
    pub(crate) fn forget(&self, permit: u64) {
        let forgotten = self.shared.lock().kits.remove(&permit);
        drop(forgotten);
    }

    /// Destroys a cell and puts its records onto the disk, elsewhere if there is room.
    ///
    /// # Errors
    /// When the log cannot be flushed here. What fails elsewhere is told by [`Pool::check_log`].
    pub(crate) fn bury(&self, cell: Box<LoadedCell>, audit: &AuditSink) -> Result<(), AuditError> {
        let mut state = self.shared.lock();
        if state.dead.len() < DEAD_MAX && !state.stop {
            let now = Instant::now();
            state.dead.push(*cell);
            state.unflushed.get_or_insert_with(|| audit.clone());
            state.disturbed = Some(now);
            state.due_since.get_or_insert(now);
            self.shared.wake(state);
            return Ok(());
        }
        drop(state);
        drop(cell);
        audit.sync()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, nothing of it is needed any more.
            let _ = thread.join();
        }
        let unflushed = self.shared.lock().unflushed.take();
        if let Some(audit) = unflushed {
            self.shared.flush(&audit);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No change of the state can panic half-way, so it is whole after a panic elsewhere.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state, and wakes the thread if it would not look soon enough by itself.
    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let wakes = state.asleep || state.lacks(self.size) || state.dead.len() > DEAD_MAX / 2;
        state.asleep &= !wakes;
        drop(state);
        if wakes {
            self.changed.notify_one();
        }
    }

    fn work(&self, thread: Option<&VcpuThread>) {
        while let Some(work) = self.next() {
            match work {
                Work::Make => match Shell::create(&self.kvm) {
                    Ok(shell) => self.lock().shells.push(shell),
                    Err(_) => self.lock().failed = true,
                },
                Work::Load(permit, recipe) => self.load(permit, recipe, thread),
                Work::Destroy(cell) => drop(cell),
                Work::Flush(audit) => self.flush(&audit),
            }
        }
    }

    fn load(&self, permit: u64, mut recipe: Box<Recipe>, thread: Option<&VcpuThread>) {
        let made = recipe.make(&Hands {
            thread,
            shell: &|| Shell::create(&self.kvm),
            stop: &|| self.is_unwanted(permit),
        });
        let mut state = self.lock();
        state.failed |= made.is_err();
        // Forgotten, or replaced, meanwhile: then the cell is of no use.
        if let Some(kit) = state.kits.get_mut(&permit)
            && kit.recipe.is_none()
        {
            if kit.distrusted {
                kit.distrusted = false;
                recipe.begin_anew();
            } else {
                kit.template = recipe.template().cloned();
                kit.ready.extend(made.ok());
            }
            kit.recipe = Some(recipe);
        }
    }

    fn is_unwanted(&self, permit: u64) -> bool {
        let state = self.lock();
        let kit = state.kits.get(&permit);
        state.stop || kit.is_none_or(|kit| kit.recipe.is_some() || kit.distrusted)
    }

    fn flush(&self, audit: &AuditSink) {
        if let Err(failure) = audit.sync() {
            self.lock().flush_failure = Some(failure);
        }
    }

    /// Waits for something to do; nothing more once the pool is dropped.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let elapsed = |since: Option<Instant>| since.map_or(Duration::MAX, |at| at.elapsed());
            let quiet_in = QUIET.saturating_sub(elapsed(state.disturbed));
            let overdue = state.due_since.is_some_and(|since| since.elapsed() >= OVERDUE);
            if let Some(work) = state.make(self.size, quiet_in.is_zero()) {
                return Some(work);
            }
            if (quiet_in.is_zero() || overdue)
                && let Some(work) = state.clean()
            {
                return Some(work);
            }
            let idle = elapsed(state.disturbed);
            let nap = if state.wants(self.size) || state.due_since.is_some() {
                Some(quiet_in.max(QUIET))
            } else {
                (idle < ATTENTIVE).then(|| idle.clamp(QUIET, NAP))
            };
            state = match nap {
                Some(nap) => {
                    self.changed
                        .wait_timeout(state, nap)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
                None => {
                    state.asleep = true;
                    self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
                }
            };
        }
    }
}

impl State {
    /// What is to be made: what there is none of at once, everything else when it is quiet.
    fn make(&mut self, size: usize, quiet: bool) -> Option<Work> {
        if self.failed {
            return None;
        }
        let may = |ready: usize, size: usize| ready < size && (ready == 0 || quiet);
        for (permit, kit) in &mut self.kits {
            if kit.distrusted
                && let Some(recipe) = &mut kit.recipe
            {
                recipe.begin_anew();
                kit.distrusted = false;
            }
            if may(kit.ready.len(), kit.size)
                && let Some(recipe) = kit.recipe.take()
            {
                return Some(Work::Load(*permit, recipe));
            }
        }
        may(self.shells.len(), size).then_some(Work::Make)
    }

    /// What is to be cleaned up. One flush serves for all that ended meanwhile.
    fn clean(&mut self) -> Option<Work> {
        if let Some(audit) = self.unflushed.take() {
            return Some(Work::Flush(audit));
        }
        let dead = self.dead.pop();
        if self.dead.is_empty() {
            self.due_since = None;
        }
        dead.map(|cell| Work::Destroy(Box::new(cell)))
    }

    fn wants(&self, size: usize) -> bool {
        let kits = || self.kits.values().any(|kit| kit.ready.len() < kit.size);
        !self.failed && (self.shells.len() < size || kits())
    }

    /// Whether there is none left of something that should be kept.
    fn lacks(&self, size: usize) -> bool {
        let empty = |ready: usize, size: usize| ready == 0 && size > 0;
        empty(self.shells.len(), size) || self.kits.values().any(|kit| empty(kit.ready.len(), kit.size))
    }
}

//! Virtual machines made ahead, and dead ones taken apart, both off the caller's path.
//!
//! ```text
//!   start ── take ──► [ shell shell shell ] ◄── make ── pool thread
//!   drop  ── bury ──► [ dead cell, … ] ────── destroy ──┘
//! ```
//! A shell is a VM and a vCPU that have never had memory or run an instruction. It is used once: no shell ever serves two cells, let
//! alone two publishers. What a cell was is destroyed with all its memory.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use referee_audit::{AuditError, AuditSink};
use referee_cell::{LoadedCell, Shell};
use referee_hv::Kvm;

use crate::error::StartError;

/// Most dead cells that wait for their burial; a further one is destroyed by whoever drops it.
const DEAD_MAX: usize = 64;

/// The shells of one [`crate::Referee`].
#[derive(Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    kvm: Kvm,
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    ready: Vec<Shell>,
    dead: Vec<LoadedCell>,
    /// The log, when records of ended cells may not be on the disk yet.
    unflushed: Option<AuditSink>,
    /// Flushing failed, and nobody was told yet.
    flush_failure: Option<AuditError>,
    /// Making a shell failed; the next caller makes its own and hears why.
    failed: bool,
    stop: bool,
    /// When something was taken or dropped last.
    disturbed: Option<Instant>,
}

/// How long nobody must have taken or dropped anything before the pool works: making and destroying machines takes locks of the
/// kernel that a starting cell waits for. It works at once when there is nothing left to take.
const QUIET: Duration = Duration::from_millis(1);

/// What the pool's thread does next.
enum Work {
    Make,
    Destroy(Box<LoadedCell>),
    Flush(AuditSink),
}

impl Pool {
    /// A pool that keeps `size` shells ready; with none there is no thread, and every cell makes its own.
    ///
    /// # Errors
    /// When no thread is to be had.
    pub(crate) fn new(kvm: Kvm, size: usize) -> std::io::Result<Pool> {
        let shared = Arc::new(Shared {
            kvm,
            size,
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let thread = if size > 0 {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name("referee-pool".into());
            Some(builder.spawn(move || shared.work())?)
        } else {
            None
        };
        Ok(Pool { shared, thread })
    }

    /// A shell made ahead, or one made now.
    ///
    /// # Errors
    /// When one must be made and the kernel refuses, or when records of an earlier cell did not reach the disk.
    pub(crate) fn take(&self) -> Result<Shell, StartError> {
        if self.thread.is_some() {
            let mut state = self.shared.lock();
            if let Some(failure) = state.flush_failure.take() {
                return Err(StartError::host("flushing the audit log")(failure));
            }
            let shell = state.ready.pop();
            state.failed = false;
            state.disturbed = Some(Instant::now());
            drop(state);
            self.shared.changed.notify_one();
            if let Some(shell) = shell {
                return Ok(shell);
            }
        }
        Shell::create(&self.shared.kvm).map_err(StartError::host("making a virtual machine"))
    }

    /// Destroys a cell and puts its records onto the disk, elsewhere if there is room.
    ///
    /// # Errors
    /// When the log cannot be flushed here. What fails elsewhere is the next [`Pool::take`]'s error.
    pub(crate) fn bury(&self, cell: Box<LoadedCell>, audit: &AuditSink) -> Result<(), AuditError> {
        if self.thread.is_some() {
            let mut state = self.shared.lock();
            if state.dead.len() < DEAD_MAX && !state.stop {
                state.dead.push(*cell);
                state.unflushed.get_or_insert_with(|| audit.clone());
                state.disturbed = Some(Instant::now());
                drop(state);
                self.shared.changed.notify_one();
                return Ok(());
            }
        }
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
        // Every change of the state is one statement, so a panic elsewhere leaves it whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(work) = self.next() {
            match work {
                Work::Make => {
                    let made = Shell::create(&self.kvm);
                    let mut state = self.lock();
                    match made {
                        Ok(shell) => state.ready.push(shell),
                        Err(_) => state.failed = true,
                    }
                }
                Work::Destroy(cell) => drop(cell),
                Work::Flush(audit) => self.flush(&audit),
            }
        }
    }

    fn flush(&self, audit: &AuditSink) {
        if let Err(failure) = audit.sync() {
            self.lock().flush_failure = Some(failure);
        }
    }

    /// Waits for something to do; nothing more once the pool is dropped. Shells come first: somebody may wait for one.
    fn next(&self) -> Option<Work> {
        let mut state = self.lock();
        loop {
            if state.stop {
                return None;
            }
            let wanted = state.ready.len() < self.size && !state.failed;
            let quiet_in = state
                .disturbed
                .map_or(Duration::ZERO, |at| QUIET.saturating_sub(at.elapsed()));
            if wanted && (state.ready.is_empty() || quiet_in.is_zero()) {
                return Some(Work::Make);
            }
            // One flush serves for all that ended meanwhile.
            if quiet_in.is_zero()
                && let Some(audit) = state.unflushed.take()
            {
                return Some(Work::Flush(audit));
            }
            if quiet_in.is_zero()
                && let Some(cell) = state.dead.pop()
            {
                return Some(Work::Destroy(Box::new(cell)));
            }
            if wanted || state.unflushed.is_some() || !state.dead.is_empty() {
                state = self
                    .changed
                    .wait_timeout(state, quiet_in)
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

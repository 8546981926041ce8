//! Ending a cell's call from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};
use std::time::Instant;

use referee_hv::Runner;

/// What a cell shares with those who may cancel it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cancelled: AtomicBool,
    pub(crate) runner: Runner,
    /// Held only while the cell waits for a time, or for another cell.
    waiting: Mutex<()>,
    woken: Condvar,
    /// Whom the embedding program wants woken when another cell wakes this one.
    waker: Mutex<Option<Waker>>,
}

/// Ends a cell's call from another thread.
#[derive(Debug, Clone)]
pub struct Canceller(pub(crate) Arc<Shared>);

impl Canceller {
    /// Has the present call, or the next one if there is none, return [`crate::CallError::Cancelled`] soon. The cell is then over:
    /// its muscle was stopped wherever it was.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.0.runner.kick();
        // Taken, so that a cell which is about to wait has either seen the flag or hears the call.
        drop(self.0.held());
        self.0.woken.notify_all();
    }

    /// Has the present [`crate::Cell::advance`] return [`crate::Progress::Preempted`] soon, if there is one.
    pub fn interrupt(&self) {
        self.0.runner.kick();
    }
}

impl Shared {
    /// Whether somebody wants the call to end.
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    /// Waits until a time, or a canceller.
    pub(crate) fn wait(&self, until: Instant) {
        self.wait_for(Some(until), || false);
    }

    /// Waits until something is so, of which this is woken, or a time, or a canceller.
    pub(crate) fn wait_for(&self, until: Option<Instant>, is_so: impl Fn() -> bool) {
        let mut held = self.held();
        while !is_so() && !self.is_cancelled() {
            let Some(until) = until else {
                held = self.woken.wait(held).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            held = self
                .woken
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Has `waker` woken, too, whenever another cell wakes this one.
    pub(crate) fn wake_by(&self, waker: Option<Waker>) {
        let old = std::mem::replace(
            &mut *self.waker.lock().unwrap_or_else(PoisonError::into_inner),
            waker,
        );
        drop(old);
    }

    fn held(&self) -> MutexGuard<'_, ()> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Shared {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Taken, so that a cell which is about to wait has either seen what it waits for or hears the call.
        drop(self.held());
        self.woken.notify_all();
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

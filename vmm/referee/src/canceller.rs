//! Ending a cell's call from another thread.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use referee_hv::Runner;

/// What a cell shares with those who may cancel it.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cancelled: AtomicBool,
    pub(crate) runner: Runner,
    /// Held only while the cell waits for a time.
    waiting: Mutex<()>,
    woken: Condvar,
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
        drop(self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
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
        let mut held = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.is_cancelled() {
                return;
            }
            held = self
                .woken
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

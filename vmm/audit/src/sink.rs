//! The log as one cell sees it: several threads may hold it, each record names the cell.
//!
//! Flushes are shared: whoever comes while one is under way waits for the next, which is then everybody's (group commit).
//!
//! ```text
//!   thread 1   append ─► flush ───────────────┐
//!   thread 2       append ─► wait ─────────────► flush ──────┐  of both
//!   thread 3            append ─► wait ────────► (done by 2) ┘
//! ```

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::AuditError;
use crate::log::AuditLog;
use crate::record::{Event, Head};

/// A log with a cell's name on it; clones share the log.
#[derive(Debug, Clone)]
pub struct AuditSink {
    log: Arc<Mutex<AuditLog>>,
    flushed: Arc<Flushed>,
    cell: Arc<str>,
    muscle: Arc<str>,
}

/// What is on the disk, and who waits for it.
#[derive(Debug, Default)]
struct Flushed {
    flushes: Mutex<Flushes>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Flushes {
    /// How many records are on the disk.
    done: u64,
    /// Whether somebody is flushing.
    under_way: bool,
}

impl AuditSink {
    /// Makes `log` record for `cell`, which runs `muscle` (`name version` as people read it).
    pub fn new(log: AuditLog, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            log: Arc::new(Mutex::new(log)),
            flushed: Arc::default(),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// The same log under another cell's name.
    pub fn for_cell(&self, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            log: Arc::clone(&self.log),
            flushed: Arc::clone(&self.flushed),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// The cell whose records these are.
    pub fn cell(&self) -> &str {
        &self.cell
    }

    /// Appends one record; when this returns, the kernel has it, and the disk if the log's options say so.
    ///
    /// # Errors
    /// As [`AuditLog::append`]; the act must then not be answered.
    pub fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        let syncs_each = self.with(|log| {
            log.append_unsynced(&self.cell, &self.muscle, event)
                .map(|()| log.syncs_each())
        })?;
        match syncs_each {
            true => self.sync(),
            false => Ok(()),
        }
    }

    /// Sees to it that everything appended so far is on the disk: by a flush of its own, or by one that began after it was appended.
    ///
    /// # Errors
    /// [`AuditError::Sync`]. The log takes no more records then: what a flush that failed has lost, a later one does not bring back.
    pub fn sync(&self) -> Result<(), AuditError> {
        let wanted = self.head().records;
        {
            let mut flushes = self.flushes();
            loop {
                if flushes.done >= wanted {
                    return Ok(());
                }
                if !flushes.under_way {
                    break;
                }
                flushes = self
                    .flushed
                    .changed
                    .wait(flushes)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            flushes.under_way = true;
        }
        let (file, records) = self.with(|log| (log.file(), log.head().records));
        // The log is not held meanwhile, so that others append what the next flush is for.
        let result = file.map_or(Ok(()), |file| file.sync_data());
        let mut flushes = self.flushes();
        flushes.under_way = false;
        if result.is_ok() {
            flushes.done = records;
        }
        drop(flushes);
        // All of them: most find that theirs was in it, and one does the next.
        self.flushed.changed.notify_all();
        result.map_err(|error| {
            self.with(AuditLog::poison);
            AuditError::Sync(error)
        })
    }

    /// Where the log stands.
    pub fn head(&self) -> Head {
        self.with(|log| log.head())
    }

    /// Everything written so far, when the log is in memory; `None` when it is a file.
    pub fn memory(&self) -> Option<Vec<u8>> {
        self.with(|log| log.memory().map(<[u8]>::to_vec))
    }

    fn flushes(&self) -> MutexGuard<'_, Flushes> {
        self.flushed
            .flushes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, act: impl FnOnce(&mut AuditLog) -> T) -> T {
        // A panic while the lock is held leaves the log's head as it was or moved on, never between.
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

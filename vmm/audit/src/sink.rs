//! The log as one cell sees it: several threads may hold it, each record names the cell.
//!
//! Flushes are shared: whoever comes while one is under way waits for the next, which is then everybody's (group commit).
//!
//! ```text
//!   thread 1   append ─► flush ───────────────┐
//!   thread 2       append ─► wait ─────────────► flush ──────┐  of both
//!   thread 3            append ─► wait ────────► (done by 2) ┘
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::AuditError;
use crate::log::AuditLog;
use crate::record::{Event, Head};

/// A log with a cell's name on it; clones share the log.
#[derive(Debug, Clone)]
pub struct AuditSink {
    log: Arc<Mutex<AuditLog>>,
    /// How many records are on the disk, held while a flush is under way.
    flushed: Arc<Mutex<u64>>,
    cell: Arc<str>,
    muscle: Arc<str>,
}

impl AuditSink {
    /// Makes `log` record for `cell`, which runs `muscle` (`name version` as people read it).
    pub fn new(log: AuditLog, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            log: Arc::new(Mutex::new(log)),
            flushed: Arc::new(Mutex::new(0)),
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
        let mut flushed = self.flushed.lock().unwrap_or_else(PoisonError::into_inner);
        if *flushed >= wanted {
            return Ok(());
        }
        let (file, records) = self.with(|log| (log.file(), log.head().records));
        if let Some(file) = file {
            // The log is not held meanwhile, so that others append what the next flush is for.
            file.sync_data().map_err(|error| {
                self.with(AuditLog::poison);
                AuditError::Sync(error)
            })?;
        }
        *flushed = records;
        Ok(())
    }

    /// Where the log stands.
    pub fn head(&self) -> Head {
        self.with(|log| log.head())
    }

    /// Everything written so far, when the log is in memory; `None` when it is a file.
    pub fn memory(&self) -> Option<Vec<u8>> {
        self.with(|log| log.memory().map(<[u8]>::to_vec))
    }

    fn with<T>(&self, act: impl FnOnce(&mut AuditLog) -> T) -> T {
        // A panic while the lock is held leaves the log's head as it was or moved on, never between.
        act(&mut self.log.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

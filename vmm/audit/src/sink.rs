//! The log as one cell sees it: several threads may hold it, each record names the cell.

use std::sync::{Arc, Mutex, PoisonError};

use crate::error::AuditError;
use crate::log::AuditLog;
use crate::record::{Event, Head};

/// A log with a cell's name on it; clones share the log.
#[derive(Debug, Clone)]
pub struct AuditSink {
    log: Arc<Mutex<AuditLog>>,
    cell: Arc<str>,
    muscle: Arc<str>,
}

impl AuditSink {
    /// Makes `log` record for `cell`, which runs `muscle` (`name version` as people read it).
    pub fn new(log: AuditLog, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            log: Arc::new(Mutex::new(log)),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// The same log under another cell's name.
    pub fn for_cell(&self, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            log: Arc::clone(&self.log),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// Appends one record; when this returns, the kernel has it.
    ///
    /// # Errors
    /// As [`AuditLog::append`]; the act must then not be answered.
    pub fn record(&self, event: &Event<'_>) -> Result<(), AuditError> {
        self.with(|log| log.append(&self.cell, &self.muscle, event))
    }

    /// Flushes the log to the disk.
    ///
    /// # Errors
    /// [`AuditError::Sync`].
    pub fn sync(&self) -> Result<(), AuditError> {
        self.with(|log| log.sync())
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

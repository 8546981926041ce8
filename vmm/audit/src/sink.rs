//! The log as one cell sees it: several threads may hold it, each record names the cell.
//!
//! Flushes are shared: whoever comes while one is under way waits for the next, which is then everybody's (group commit).
//!
//! ```text
//!   thread 1   append ─► flush ───────────────┐
//!   thread 2       append ─► wait ─────────────► flush ──────┐  of both
//!   thread 3            append ─► wait ────────► (done by 2) ┘
//! ```

use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crate::error::AuditError;
use crate::line::{Line, Request, SentRecord};
use crate::log::AuditLog;
use crate::record::{Event, Head};

/// A log with a cell's name on it; clones share the log.
#[derive(Debug, Clone)]
pub struct AuditSink {
    to: Arc<Destination>,
    cell: Arc<str>,
    muscle: Arc<str>,
}

/// Where records go.
#[derive(Debug)]
enum Destination {
    Log {
        log: Mutex<AuditLog>,
        flushed: Flushed,
        trouble: Trouble,
    },
    Line(Mutex<Line>),
}

/// Records and flushes that failed.
#[derive(Debug, Default)]
struct Trouble {
    failures: AtomicU64,
    /// Why the last one failed; none when it did not.
    last: Mutex<Option<String>>,
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
            to: Arc::new(Destination::Log {
                log: Mutex::new(log),
                flushed: Flushed::default(),
                trouble: Trouble::default(),
            }),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// Records into a log that the process at the other end of `stream` keeps, see [`crate::line`].
    pub fn over(stream: UnixStream, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            to: Arc::new(Destination::Line(Mutex::new(Line::new(stream)))),
            cell: cell.into(),
            muscle: muscle.into(),
        }
    }

    /// The same log under another cell's name.
    pub fn for_cell(&self, cell: &str, muscle: &str) -> AuditSink {
        AuditSink {
            to: Arc::clone(&self.to),
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
        match &*self.to {
            Destination::Line(line) => {
                let record = SentRecord::new(&self.cell, &self.muscle, event);
                lock(line).ask(&Request::Record(record))
            }
            Destination::Log {
                log,
                flushed,
                trouble,
            } => {
                let appended = {
                    let mut log = lock(log);
                    log.append_unsynced(&self.cell, &self.muscle, event)
                        .map(|()| log.syncs_each())
                };
                trouble.note(match appended {
                    Ok(true) => flushed.sync(log),
                    other => other.map(drop),
                })
            }
        }
    }

    /// Sees to it that everything appended so far is on the disk: by a flush of its own, or by one that began after it was appended.
    ///
    /// # Errors
    /// [`AuditError::Sync`]. The log takes no more records then: what a flush that failed has lost, a later one does not bring back.
    pub fn sync(&self) -> Result<(), AuditError> {
        match &*self.to {
            Destination::Line(line) => lock(line).ask(&Request::Sync),
            Destination::Log {
                log,
                flushed,
                trouble,
            } => trouble.note(flushed.sync(log)),
        }
    }

    /// Where the log stands; where it stood at the last record of this process, when another process keeps it.
    pub fn head(&self) -> Head {
        match &*self.to {
            Destination::Line(line) => lock(line).head(),
            Destination::Log { log, .. } => lock(log).head(),
        }
    }

    /// Why the last record or flush failed; `None` when it did not, and when another process keeps the log.
    pub fn trouble(&self) -> Option<String> {
        match &*self.to {
            Destination::Line(_) => None,
            Destination::Log { trouble, .. } => lock(&trouble.last).clone(),
        }
    }

    /// How many records and flushes have failed; 0 when another process keeps the log.
    pub fn failures(&self) -> u64 {
        match &*self.to {
            Destination::Line(_) => 0,
            Destination::Log { trouble, .. } => trouble.failures.load(Ordering::Relaxed),
        }
    }

    /// Everything written so far, when the log is in memory; `None` when it is elsewhere.
    pub fn memory(&self) -> Option<Vec<u8>> {
        match &*self.to {
            Destination::Line(_) => None,
            Destination::Log { log, .. } => lock(log).memory().map(<[u8]>::to_vec),
        }
    }
}

impl Trouble {
    fn note(&self, result: Result<(), AuditError>) -> Result<(), AuditError> {
        let why = result
            .as_ref()
            .err()
            .map(|error| match std::error::Error::source(error) {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            });
        if why.is_some() {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        *lock(&self.last) = why;
        result
    }
}

impl Flushed {
    fn sync(&self, log: &Mutex<AuditLog>) -> Result<(), AuditError> {
        let wanted = lock(log).head().records;
        {
            let mut flushes = lock(&self.flushes);
            loop {
                if flushes.done >= wanted {
                    return Ok(());
                }
                if !flushes.under_way {
                    break;
                }
                flushes = self.changed.wait(flushes).unwrap_or_else(PoisonError::into_inner);
            }
            flushes.under_way = true;
        }
        let (file, records) = {
            let log = lock(log);
            (log.file(), log.head().records)
        };
        // The log is not held meanwhile, so that others append what the next flush is for.
        let result = file.map_or(Ok(()), |file| file.sync_data());
        let mut flushes = lock(&self.flushes);
        flushes.under_way = false;
        if result.is_ok() {
            flushes.done = records;
        }
        drop(flushes);
        // All of them: most find that theirs was in it, and one does the next.
        self.changed.notify_all();
        result.map_err(|error| {
            lock(log).poison();
            AuditError::Sync(error)
        })
    }
}

/// A panic while a lock is held leaves the log's head as it was or moved on, never between.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

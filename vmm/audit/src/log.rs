//! Appending: one `write` a record, a lock only where several processes share the file.
//!
//! Processes that share a log interleave like this, so that no two records follow the same one:
//!
//! 1. take the file lock (`flock`); 2. has the file grown since my last record? then read its new tail;
//! 3. write my record after the head; 4. give the lock back.
//!
//! A log may be rotated under a process that has it open (`rotate.rs`): it finds the file shorter, sees that it begins with a record that
//! says so, and goes on.
//!
//! The lock belongs to the open file. A process that forks shares it with its child, so that parent and
//! child must not append at the same time through one [`AuditLog`]; each opens its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, OFlags};

use crate::error::{AuditError, Defect};
use crate::record::{Event, GuestText, Hash, Head, Kind, MAX_RECORD, Subject, Value, encode};
use crate::rotate;
use crate::tail::{Tail, read_tail};
use crate::verify::{CheckedLine, check_line};

/// Who else may append to the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sharing {
    /// Other processes too: a lock and a look at the file's length around each record.
    #[default]
    Shared,
    /// This process alone, for as long as the log is open: one `write` a record and nothing else.
    Sole,
}

/// How to keep the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Who else may append.
    pub sharing: Sharing,
    /// Flush each record to the disk (`fdatasync`) before the act is answered.
    pub sync_each: bool,
    /// How bytes that a muscle chose are written.
    pub guest: GuestText,
}

/// An open log. It holds its file and never opens a path again, so it works after confinement.
#[derive(Debug)]
pub struct AuditLog {
    store: Store,
    options: Options,
    head: Head,
    length: u64,
    line: Vec<u8>,
    poisoned: bool,
}

#[derive(Debug)]
enum Store {
    File(Arc<File>),
    Memory(Vec<u8>),
}

impl AuditLog {
    /// Opens the log at `path`, making it (mode 0600) when it is not there; checks its last records and
    /// repairs a line that a crash cut, with a record that says so.
    ///
    /// # Errors
    /// [`AuditError`]; a log whose last records do not follow from each other is [`AuditError::Broken`].
    pub fn open(path: &Path, options: Options) -> Result<AuditLog, AuditError> {
        AuditLog::from_file(AuditLog::open_file(path)?, options)
    }

    /// Opens the log's file as [`AuditLog::from_file`] wants it, making it when it is not there, and finishes a rotation that a crash
    /// interrupted.
    ///
    /// # Errors
    /// [`AuditError::Open`], [`AuditError::Rotate`].
    pub fn open_file(path: &Path) -> Result<File, AuditError> {
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
            .open(path)
            .map_err(|source| AuditError::Open {
                path: path.to_owned(),
                source,
            })?;
        rotate::finish_locked(path, &file)?;
        Ok(file)
    }

    /// Moves all records so far into a file beside the log at `path`, which this must be, and goes on with one that says so. Gives the file's
    /// name; `None` when there is nothing to move.
    ///
    /// # Errors
    /// [`AuditError::Rotate`]; what was begun is finished when the log is opened next.
    pub fn rotate(&mut self, path: &Path) -> Result<Option<PathBuf>, AuditError> {
        self.locked(|log| {
            log.catch_up()?;
            let (Some(file), Some(first)) = (log.file(), log.first()?) else {
                return Ok(None);
            };
            let (first, last) = (first.before().records, log.head.records.saturating_sub(1));
            if first == last {
                return Ok(None);
            }
            let archive = rotate::archive_of(path, first, last);
            rotate::copy_to(&archive, &file, log.length).map_err(AuditError::Rotate)?;
            let detail = [("bytes", Value::Number(log.length))];
            let event = Event::of_cell(Kind::Rotate, &detail);
            let subject = Subject { cell: "", muscle: "" };
            let guest = log.options.guest;
            let next = encode(&mut log.line, log.head, now_ns(), subject, &event, guest)
                .map_err(AuditError::Encode)?;
            rotate::begin(path, &file, &log.line).map_err(AuditError::Rotate)?;
            log.head = next;
            log.length = log.line.len() as u64;
            Ok(Some(archive))
        })
    }

    /// The file's first record; `None` when it has none.
    fn first(&self) -> Result<Option<CheckedLine>, AuditError> {
        let Store::File(file) = &self.store else {
            return Ok(None);
        };
        let mut bytes = vec![0; MAX_RECORD];
        let got = file.read_at(&mut bytes, 0).map_err(AuditError::Read)?;
        bytes.truncate(got);
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            return Ok(None);
        };
        let broken = |defect| AuditError::Broken {
            line: 1,
            offset: 0,
            defect,
        };
        check_line(bytes.get(..=end).unwrap_or_default())
            .map(Some)
            .map_err(broken)
    }

    /// Whether a file that became shorter was rotated: it begins with a record that says so, and none of ours is missing before it.
    fn was_rotated(&self) -> bool {
        let Ok(Some(first)) = self.first() else {
            return false;
        };
        let before = first.before();
        first.kind == Kind::Rotate && (before.records > self.head.records || before == self.head)
    }

    /// The same on a file that somebody else opened, with `O_APPEND` and for reading and writing.
    ///
    /// # Errors
    /// As [`AuditLog::open`], and [`AuditError::NotAppending`].
    pub fn from_file(file: File, options: Options) -> Result<AuditLog, AuditError> {
        let flags = rustix::fs::fcntl_getfl(&file).map_err(|error| AuditError::Read(error.into()))?;
        if !flags.contains(OFlags::APPEND | OFlags::RDWR) {
            return Err(AuditError::NotAppending);
        }
        if !file.metadata().map_err(AuditError::Read)?.is_file() {
            return Err(AuditError::NotAFile);
        }
        let mut log = AuditLog {
            store: Store::File(Arc::new(file)),
            options,
            head: Head::EMPTY,
            length: 0,
            line: Vec::with_capacity(1024),
            poisoned: false,
        };
        match options.sharing {
            Sharing::Shared => log.locked(AuditLog::recover)?,
            Sharing::Sole => {
                log.lock(FlockOperation::NonBlockingLockExclusive)?;
                log.recover()?;
            }
        }
        Ok(log)
    }

    /// A log that is kept in memory, for tests and for callers that keep their records elsewhere.
    pub fn in_memory(options: Options) -> AuditLog {
        AuditLog {
            store: Store::Memory(Vec::new()),
            options,
            head: Head::EMPTY,
            length: 0,
            line: Vec::with_capacity(1024),
            poisoned: false,
        }
    }

    /// Appends one record about `cell`, which runs `muscle`. When this returns, the kernel has it (and with
    /// [`Options::sync_each`] the disk).
    ///
    /// # Errors
    /// [`AuditError`]; the log then stands as before, or takes no more records ([`AuditError::Poisoned`]).
    pub fn append(&mut self, cell: &str, muscle: &str, event: &Event<'_>) -> Result<(), AuditError> {
        self.append_unsynced(cell, muscle, event)?;
        if self.options.sync_each {
            self.sync()
        } else {
            Ok(())
        }
    }

    /// The same, whatever [`Options::sync_each`] says: the caller sees to the disk.
    pub(crate) fn append_unsynced(
        &mut self,
        cell: &str,
        muscle: &str,
        event: &Event<'_>,
    ) -> Result<(), AuditError> {
        if self.poisoned {
            return Err(AuditError::Poisoned);
        }
        let subject = Subject { cell, muscle };
        if self.is_shared() {
            self.locked(|log| {
                log.catch_up()?;
                log.put(subject, event)
            })
        } else {
            self.put(subject, event)
        }
    }

    /// Flushes everything appended so far to the disk (`fdatasync`).
    ///
    /// # Errors
    /// [`AuditError::Sync`].
    pub fn sync(&self) -> Result<(), AuditError> {
        match &self.store {
            Store::File(file) => file.sync_data().map_err(AuditError::Sync),
            Store::Memory(_) => Ok(()),
        }
    }

    /// Whether each record must be on the disk before its act is answered.
    pub(crate) fn syncs_each(&self) -> bool {
        self.options.sync_each
    }

    /// The file, to be flushed without holding the log.
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        match &self.store {
            Store::File(file) => Some(Arc::clone(file)),
            Store::Memory(_) => None,
        }
    }

    /// Takes no more records.
    pub(crate) fn poison(&mut self) {
        self.poisoned = true;
    }

    /// Reads the tail again, after a forked child has appended through the same open file.
    ///
    /// # Errors
    /// As [`AuditLog::open`].
    pub fn refresh(&mut self) -> Result<(), AuditError> {
        if self.is_shared() {
            self.locked(AuditLog::catch_up)
        } else {
            self.catch_up()
        }
    }

    /// Where the log stands. Keep it elsewhere to notice later that records were cut off the end.
    pub fn head(&self) -> Head {
        self.head
    }

    /// Everything written so far, when the log is in memory.
    pub fn memory(&self) -> Option<&[u8]> {
        match &self.store {
            Store::File(_) => None,
            Store::Memory(bytes) => Some(bytes),
        }
    }

    fn is_shared(&self) -> bool {
        matches!(self.store, Store::File(_)) && self.options.sharing == Sharing::Shared
    }

    /// Writes one record after the head, which must be the file's.
    fn put(&mut self, subject: Subject<'_>, event: &Event<'_>) -> Result<(), AuditError> {
        if self.head.records == u64::MAX {
            return Err(AuditError::Full { last: u64::MAX });
        }
        let next = encode(
            &mut self.line,
            self.head,
            now_ns(),
            subject,
            event,
            self.options.guest,
        )
        .map_err(AuditError::Encode)?;
        match &mut self.store {
            Store::Memory(bytes) => bytes.extend_from_slice(&self.line),
            Store::File(file) => {
                if let Err(error) = file.as_ref().write_all(&self.line) {
                    // A full disk may have taken half a line: cut it off, or let no record follow it.
                    self.poisoned = true;
                    file.set_len(self.length).map_err(AuditError::Truncate)?;
                    self.poisoned = false;
                    return Err(AuditError::Append(error));
                }
            }
        }
        self.head = next;
        self.length = self.length.saturating_add(self.line.len() as u64);
        Ok(())
    }

    /// Moves to the file's head when another process has appended since.
    fn catch_up(&mut self) -> Result<(), AuditError> {
        let length = self.file_length()?;
        if length == self.length {
            Ok(())
        } else {
            self.recover()
        }
    }

    /// Reads the tail; cuts off a torn line and records that.
    fn recover(&mut self) -> Result<(), AuditError> {
        let Store::File(file) = &self.store else {
            return Ok(());
        };
        let length = self.file_length()?;
        if length < self.length && !self.was_rotated() {
            let defect = Defect::Shrunk {
                was: self.length,
                now: length,
            };
            return Err(AuditError::Broken {
                line: self.head.records,
                offset: length,
                defect,
            });
        }
        let Tail { head, whole, torn } = read_tail(file, length)?;
        (self.head, self.length) = (head, whole);
        if torn.is_empty() {
            return Ok(());
        }
        file.set_len(whole).map_err(AuditError::Truncate)?;
        let digest = Hash::of(&torn).to_string();
        let detail = [
            ("cut_bytes", Value::Number(torn.len() as u64)),
            ("cut_at", Value::Number(whole)),
            ("cut_sha256", Value::Text(&digest)),
        ];
        let subject = Subject { cell: "", muscle: "" };
        self.put(subject, &Event::of_cell(Kind::Recover, &detail))
    }

    fn file_length(&self) -> Result<u64, AuditError> {
        match &self.store {
            Store::File(file) => {
                let length = file.metadata().map_err(AuditError::Read)?.len();
                Ok(length)
            }
            Store::Memory(bytes) => Ok(bytes.len() as u64),
        }
    }

    fn locked<T>(
        &mut self,
        act: impl FnOnce(&mut AuditLog) -> Result<T, AuditError>,
    ) -> Result<T, AuditError> {
        self.lock(FlockOperation::LockExclusive)?;
        let result = act(self);
        let unlocked = self.lock(FlockOperation::Unlock);
        let value = result?;
        unlocked.map(|()| value)
    }

    fn lock(&self, operation: FlockOperation) -> Result<(), AuditError> {
        let Store::File(file) = &self.store else {
            return Ok(());
        };
        rustix::io::retry_on_intr(|| rustix::fs::flock(file, operation)).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => AuditError::InUse,
            other => AuditError::Lock(io::Error::from(other)),
        })
    }
}

/// Nanoseconds since 1970 by the system's clock; read through the vDSO, without a system call.
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;

//! Rotation: the log's lines so far are moved into a file beside it, and the log goes on with the same chain in the same file, so that
//! processes which hold it open, confined or not, go on too.
//!
//! ```text
//!   locked:  LOG ─ copy ─► LOG.FIRST-LAST (flushed)        records FIRST to LAST
//!            LOG.rotating ◄─ the record that LOG begins with now (flushed)
//!            LOG ─ emptied, and begun with that record
//!            LOG.rotating ─ removed
//! ```
//! Somebody else who may make files in that folder must not have the log emptied, or another file overwritten: what is written is always a new
//! file, and `LOG.rotating` counts only if the log's owner made it and the records that it moves are there.
//!
//! Killed anywhere, [`finish_locked`] finds `LOG.rotating` and does the rest; whoever opens the log calls [`finish_locked`]. A process that holds the log and finds
//! it shorter goes on only if it begins with such a record, no earlier than its own last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};

use crate::error::AuditError;
use crate::record::MAX_RECORD;
use crate::tail::read_tail;
use crate::verify::check_line;

/// Ending of the file that says that a rotation is under way.
const ROTATING: &str = ".rotating";

/// Where older records of a log were moved to, oldest first.
///
/// # Errors
/// [`AuditError::Read`] when the folder cannot be read.
pub fn archives(log: &Path) -> Result<Vec<PathBuf>, AuditError> {
    let folder = folder_of(log);
    let Some(name) = log.file_name().and_then(|name| name.to_str()) else {
        return Ok(Vec::new());
    };
    let is_archive = |file: &str| {
        let numbers = file.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
        let numbers = numbers.and_then(|numbers| numbers.split_once('-'));
        let number = |text: &str| text.len() == 20 && text.bytes().all(|digit| digit.is_ascii_digit());
        numbers.is_some_and(|(first, last)| number(first) && number(last))
    };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(AuditError::Read)? {
        let entry = entry.map_err(AuditError::Read)?;
        if entry.file_name().to_str().is_some_and(is_archive) {
            found.push(entry.path());
        }
    }
    // Twenty digits sort as numbers do.
    found.sort();
    Ok(found)
}

/// The name of an archive.
pub(crate) fn archive_of(log: &Path, first: u64, last: u64) -> PathBuf {
    with_ending(log, &format!(".{first:020}-{last:020}"))
}

/// Copies what the log has, and flushes it.
pub(crate) fn copy_to(archive: &Path, mut log: &File, length: u64) -> io::Result<()> {
    let mut to = new_file(archive)?;
    io::Seek::seek(&mut log, io::SeekFrom::Start(0))?;
    let copied = io::copy(&mut log.take(length), &mut to)?;
    if copied != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    to.sync_all()?;
    File::open(folder_of(archive))?.sync_all()
}

/// Says on the disk that a rotation is under way, then does it, or what is left of it. The log must be locked.
pub(crate) fn begin(log: &Path, file: &File, line: &[u8]) -> io::Result<()> {
    let sign = with_ending(log, ROTATING);
    let beside = with_ending(log, ".rotating.new");
    let mut new = new_file(&beside)?;
    new.write_all(line)?;
    new.sync_all()?;
    fs::rename(&beside, &sign)?;
    File::open(folder_of(log))?.sync_all()?;
    finish(log, file)
}

/// Finishes a rotation that was begun, if there is one.
///
/// # Errors
/// [`AuditError::InUse`], [`AuditError::Lock`], [`AuditError::Rotate`].
pub(crate) fn finish_locked(log: &Path, file: &File) -> Result<(), AuditError> {
    if fs::symlink_metadata(with_ending(log, ROTATING)).is_err() {
        return Ok(());
    }
    let lock = |operation| flock(file, operation).map_err(|error| AuditError::Lock(error.into()));
    lock(FlockOperation::LockExclusive)?;
    let finished = finish(log, file).map_err(AuditError::Rotate);
    lock(FlockOperation::Unlock)?;
    finished
}

/// Finishes a rotation that was begun. The log must be locked.
fn finish(log: &Path, mut file: &File) -> io::Result<()> {
    let sign = with_ending(log, ROTATING);
    let Some(line) = own_line(&sign, file)? else {
        return Ok(());
    };
    let record =
        check_line(&line).map_err(|defect| io::Error::other(format!("{}: {defect}", sign.display())))?;
    let mut begins = vec![0; line.len()];
    io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
    let begun = file.read_exact(&mut begins).is_ok() && begins == line;
    if !begun {
        // Emptied already, or still whole; anything else is somebody else's, and is not thrown away.
        let length = file.metadata()?.len();
        let head_of = |file: &File, length| {
            read_tail(file, length)
                .map(|tail| tail.head)
                .map_err(io::Error::other)
        };
        let moved = moved_to(log, record.before().records)?;
        let is_moved = head_of(&moved, moved.metadata()?.len())? == record.before();
        if !is_moved || (length > 0 && head_of(file, length)? != record.before()) {
            return Err(io::Error::other(format!(
                "{} does not continue the log: somebody wrote to it meanwhile",
                sign.display()
            )));
        }
        file.set_len(0)?;
        file.write_all(&line)?;
        file.sync_all()?;
    }
    fs::remove_file(&sign)?;
    File::open(folder_of(log))?.sync_all()
}

/// The line in the file that says that a rotation is under way; `None` when there is none by the log's owner.
fn own_line(sign: &Path, log: &File) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(sign);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // A symbolic link is nothing that we made.
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Ok(None);
        }
        opened => opened?,
    };
    let status = file.metadata()?;
    if !status.is_file() || status.uid() != log.metadata()?.uid() {
        return Ok(None);
    }
    let mut line = Vec::new();
    file.take(MAX_RECORD as u64).read_to_end(&mut line)?;
    Ok(Some(line))
}

/// The archive whose last record is the one before this number.
fn moved_to(log: &Path, records: u64) -> io::Result<File> {
    let ending = format!("-{:020}", records.saturating_sub(1));
    let found = archives(log).map_err(io::Error::other)?;
    let path = found
        .into_iter()
        .find(|path| path.to_string_lossy().ends_with(&ending))
        .ok_or_else(|| io::Error::other("the file with the records that were moved is missing"))?;
    File::open(path)
}

/// A file that nobody else made, whatever was there.
fn new_file(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

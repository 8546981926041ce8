//! Rotation: the log's lines so far are moved into a file beside it, and the log goes on with the same chain in the same file, so that
//! processes which hold it open, confined or not, go on too.
//!
//! ```text
//!   locked:  LOG ─ copy ─► LOG.FIRST-LAST (flushed)        records FIRST to LAST
//!            LOG.rotating ◄─ the record that LOG begins with now (flushed)
//!            LOG ─ emptied, and begun with that record
//!            LOG.rotating ─ removed
//! ```
//! Killed anywhere, [`finish_locked`] finds `LOG.rotating` and does the rest; whoever opens the log calls [`finish_locked`]. A process that holds the log and finds
//! it shorter goes on only if it begins with such a record, no earlier than its own last.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::AuditError;
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
    let mut to = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(archive)?;
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
    let mut new = File::create(&beside)?;
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
    if !with_ending(log, ROTATING).exists() {
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
    let line = match fs::read(&sign) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    let record =
        check_line(&line).map_err(|defect| io::Error::other(format!("{}: {defect}", sign.display())))?;
    let mut begins = vec![0; line.len()];
    io::Seek::seek(&mut file, io::SeekFrom::Start(0))?;
    let begun = file.read_exact(&mut begins).is_ok() && begins == line;
    if !begun {
        // Emptied already, or still whole; anything else is somebody else's, and is not thrown away.
        let length = file.metadata()?.len();
        let head = read_tail(file, length).map_err(io::Error::other)?.head;
        if length > 0 && head != record.before() {
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

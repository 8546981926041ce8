//! Files beside the TPM: the event log of this boot, and sealed keys. One process at a time has them.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::error::TpmError;
use referee_evidence::{Event, EventLog};

const LOG: &str = "boot.cel";

/// The directory, locked.
pub struct State {
    directory: PathBuf,
    _lock: File,
}

impl State {
    /// Opens the directory, makes it if need be, and waits for whoever has it.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn open(directory: &Path) -> Result<State, TpmError> {
        let no = |source| TpmError::State {
            path: directory.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(no)?;
        let lock = private()
            .write(true)
            .create(true)
            .truncate(false)
            .open(directory.join("lock"))
            .map_err(no)?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|error| no(error.into()))?;
        Ok(State {
            directory: directory.to_owned(),
            _lock: lock,
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Where the log is.
    pub fn log_path(&self) -> PathBuf {
        self.directory.join(LOG)
    }

    /// The log of this boot, without what a crash left of a record that was being written: that was never extended.
    ///
    /// # Errors
    /// [`TpmError::State`], [`TpmError::LogBroken`].
    pub fn log(&self) -> Result<EventLog, TpmError> {
        let path = self.log_path();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(TpmError::State { path, source }),
        };
        let (log, torn) = EventLog::parse(&bytes).map_err(|error| TpmError::LogBroken {
            path: path.clone(),
            why: error.to_string(),
        })?;
        if torn > 0 {
            let kept = bytes.len() - torn;
            let file = OpenOptions::new().write(true).open(&path);
            file.and_then(|file| {
                file.set_len(kept as u64)?;
                file.sync_all()
            })
            .map_err(|source| TpmError::State { path, source })?;
        }
        Ok(log)
    }

    /// Appends a record; when this returns, it is on the disk.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn append(&self, event: &Event) -> Result<(), TpmError> {
        let path = self.log_path();
        let write = || {
            let mut file = private().append(true).create(true).open(&path)?;
            file.write_all(&event.to_bytes())?;
            file.sync_all()?;
            self.sync()
        };
        write().map_err(|source| TpmError::State {
            path: path.clone(),
            source,
        })
    }

    /// Puts the log of an earlier boot aside.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn archive_log(&self, boot: &str) -> Result<(), TpmError> {
        let path = self.log_path();
        match fs::rename(&path, self.directory.join(format!("boot-{boot}.cel"))).and_then(|()| self.sync()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TpmError::State { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Reads a file whole; `None` when there is none.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, TpmError> {
        let path = self.directory.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(TpmError::State { path, source }),
        }
    }

    /// Writes a file whole or not at all; when this returns, it is on the disk under its name.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TpmError> {
        let path = self.directory.join(name);
        let unfinished = self.directory.join(format!("{name}.tmp"));
        let write = || {
            let mut file = private()
                .write(true)
                .create(true)
                .truncate(true)
                .open(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            self.sync()
        };
        write().map_err(|source| TpmError::State {
            path: path.clone(),
            source,
        })
    }

    /// Gives a file another name, under which nothing else is then.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn rename(&self, from: &str, to: &str) -> Result<(), TpmError> {
        let path = self.directory.join(to);
        fs::rename(self.directory.join(from), &path)
            .and_then(|()| self.sync())
            .map_err(|source| TpmError::State { path, source })
    }

    /// Names of files that begin so; what is no file was not put there by this program.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn names(&self, prefix: &str) -> Result<Vec<String>, TpmError> {
        let no = |source| TpmError::State {
            path: self.directory.clone(),
            source,
        };
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(no)? {
            let entry = entry.map_err(no)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(prefix) && entry.file_type().map_err(no)?.is_file() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Removes a file; one that is gone already is as good.
    ///
    /// # Errors
    /// [`TpmError::State`].
    pub fn remove(&self, name: &str) -> Result<(), TpmError> {
        let path = self.directory.join(name);
        match fs::remove_file(&path).and_then(|()| self.sync()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(TpmError::State { path, source: error })
            }
            _ => Ok(()),
        }
    }

    fn sync(&self) -> std::io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }
}

/// Options of a file that only its owner may read.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).mode(0o600);
    options
}

//! Files that are there whole or not at all, after a crash too.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use crate::error::TlogError;

/// Writes a file beside its place, flushes it, and moves it there; makes the folders above. When this returns, it is on the disk.
///
/// # Errors
/// [`TlogError::File`].
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), TlogError> {
    let write = || {
        let above = path.parent().filter(|above| !above.as_os_str().is_empty());
        let folder = above.unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let mut beside = path.as_os_str().to_owned();
        beside.push(".new");
        let mut file = File::create(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(folder)?.sync_all()
    };
    write().map_err(|source| failed(path, source))
}

/// Reads a file whole; `None` when there is none.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, TlogError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(path, error)),
    }
}

pub fn failed(path: &Path, source: io::Error) -> TlogError {
    TlogError::File {
        path: path.to_owned(),
        source,
    }
}

//! Snapshots of muscles: files by their SHA-256, which hold what the muscles had in memory, and a row for each.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use referee_bundle::{Digest, Hashing};
use serde::{Deserialize, Serialize};

use super::Store;
use crate::error::{NodeError, OrHost};

const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");

/// A snapshot as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSnapshot {
    /// SHA-256 of the bundle, 64 hexadecimal digits.
    pub bundle: String,
    /// The deployment that it was made of.
    pub deployment: String,
    /// Seconds since 1970.
    pub made_at: u64,
    /// Its file's.
    pub bytes: u64,
}

/// A file that becomes a snapshot, or is gone when this is dropped.
#[derive(Debug)]
pub(crate) struct Aside {
    path: PathBuf,
    file: File,
    hashing: Hashing,
    bytes: u64,
}

impl Aside {
    /// Writes the next bytes.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), NodeError> {
        self.file.write_all(bytes).or_host("writing a snapshot")?;
        self.hashing.update(bytes);
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        self.bytes = self.bytes.saturating_add(length);
        Ok(())
    }

    /// Bytes that were written.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The SHA-256 of what was written, all of which is on the disk then.
    ///
    /// # Errors
    /// Those of the disk.
    pub(crate) fn finish(&mut self) -> Result<Digest, NodeError> {
        self.file.sync_all().or_host("writing a snapshot")?;
        Ok(std::mem::take(&mut self.hashing).digest())
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // It has another name if it was kept; what stays in any case is swept at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the folder, if it is not there, and lets nobody else in.
pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

impl Store {
    /// All snapshots, by their SHA-256.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the database cannot be read.
    pub(crate) fn snapshots(&self) -> Result<Vec<(String, KeptSnapshot)>, NodeError> {
        let doing = "reading snapshots";
        let read = self.database.begin_read().or_host(doing)?;
        let table = match read.open_table(SNAPSHOTS) {
            // None was made yet.
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            other => other.or_host(doing)?,
        };
        let mut all = Vec::new();
        for entry in table.iter().or_host(doing)? {
            let (id, value) = entry.or_host(doing)?;
            let kept = serde_json::from_slice(value.value()).or_host("reading a snapshot")?;
            all.push((id.value().to_owned(), kept));
        }
        Ok(all)
    }

    /// One of them.
    ///
    /// # Errors
    /// As [`Store::snapshots`].
    pub(crate) fn snapshot(&self, id: &str) -> Result<Option<KeptSnapshot>, NodeError> {
        let doing = "reading a snapshot";
        let read = self.database.begin_read().or_host(doing)?;
        let table = match read.open_table(SNAPSHOTS) {
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            other => other.or_host(doing)?,
        };
        match table.get(id).or_host(doing)? {
            None => Ok(None),
            Some(value) => serde_json::from_slice(value.value()).or_host(doing).map(Some),
        }
    }

    /// Begins the file of a snapshot, aside.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn begin_snapshot(&self, number: u64) -> Result<Aside, NodeError> {
        let path = self.snapshots.join(format!(".{number}.new"));
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).or_host("writing a snapshot")?;
        Ok(Aside {
            path,
            file,
            hashing: Hashing::default(),
            bytes: 0,
        })
    }

    /// Keeps a snapshot that was written and finished under its SHA-256; when this returns, it is on the disk.
    ///
    /// # Errors
    /// [`NodeError::Host`]; then there is nothing of it.
    pub(crate) fn keep_snapshot(
        &self,
        aside: &Aside,
        id: &str,
        kept: &KeptSnapshot,
    ) -> Result<(), NodeError> {
        let doing = "keeping a snapshot";
        let row = serde_json::to_vec(kept).or_host(doing)?;
        let place = self.snapshot_path(id);
        let renamed = || -> io::Result<()> {
            fs::rename(&aside.path, &place)?;
            File::open(&self.snapshots)?.sync_all()
        };
        let in_table = || {
            let write = self.database.begin_write().or_host(doing)?;
            {
                let mut table = write.open_table(SNAPSHOTS).or_host(doing)?;
                table.insert(id, row.as_slice()).or_host(doing)?;
            }
            write.commit().or_host(doing)
        };
        renamed()
            .or_host(doing)
            .and_then(|()| in_table())
            .inspect_err(|_| {
                // The failure is told; what stays in any case is swept at the next start.
                let _ = fs::remove_file(&place);
            })
    }

    /// Forgets a snapshot and removes its file; when this returns, the disk has it so.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn forget_snapshot(&self, id: &str) -> Result<(), NodeError> {
        let doing = "forgetting a snapshot";
        let write = self.database.begin_write().or_host(doing)?;
        {
            let mut table = write.open_table(SNAPSHOTS).or_host(doing)?;
            table.remove(id).or_host(doing)?;
        }
        write.commit().or_host(doing)?;
        match fs::remove_file(self.snapshot_path(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NodeError::host(doing)(error)),
            _ => Ok(()),
        }
    }

    /// Opens a snapshot's file.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when it is not there.
    pub(crate) fn open_snapshot(&self, id: &str) -> Result<File, NodeError> {
        File::open(self.snapshot_path(id)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => no_snapshot(id),
            _ => NodeError::host("opening a snapshot")(error),
        })
    }

    /// Removes files that are no snapshot's.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn sweep_snapshots(&self) -> Result<(), NodeError> {
        let doing = "removing files that are no snapshot's";
        let kept = self.snapshots()?;
        for entry in fs::read_dir(&self.snapshots).or_host(doing)? {
            let entry = entry.or_host(doing)?;
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.strip_suffix(".snapshot"));
            if id.is_none_or(|id| !kept.iter().any(|(one, _)| one == id)) {
                fs::remove_file(entry.path()).or_host(doing)?;
            }
        }
        Ok(())
    }

    fn snapshot_path(&self, id: &str) -> PathBuf {
        self.snapshots.join(format!("{id}.snapshot"))
    }
}

/// What is said of one that is not there to begin at.
pub(crate) fn no_snapshot(id: &str) -> NodeError {
    NodeError::Rejected {
        name: "no-snapshot".into(),
        message: format!("there is no snapshot {id} here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: u64) -> KeptSnapshot {
        KeptSnapshot {
            bundle: "ab".repeat(32),
            deployment: "desk".into(),
            made_at: 7,
            bytes,
        }
    }

    fn files(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder.join("snapshots")).expect("there");
        entries
            .map(|entry| entry.expect("readable").file_name().into_string().expect("text"))
            .collect()
    }

    #[test]
    fn what_was_kept_is_there_after_opening_anew_and_for_nobody_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        assert_eq!(store.snapshots().expect("read"), []);
        let mut aside = store.begin_snapshot(1).expect("begins");
        aside.write(b"some ").expect("written");
        aside.write(b"memory").expect("written");
        let id = aside.finish().expect("on the disk").to_string();
        assert_eq!(id, Digest::of(b"some memory").to_string());
        assert_eq!(aside.bytes(), 11);
        store.keep_snapshot(&aside, &id, &kept(11)).expect("kept");
        drop(aside);
        let path = directory.path().join("snapshots").join(format!("{id}.snapshot"));
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o600);
        assert_eq!(mode(&directory.path().join("snapshots")), 0o700);
        drop(store);
        let again = Store::open(directory.path()).expect("opens");
        again.sweep_snapshots().expect("swept");
        assert_eq!(again.snapshots().expect("read"), [(id.clone(), kept(11))]);
        assert_eq!(fs::read(path).expect("there"), b"some memory");
        again.forget_snapshot(&id).expect("forgotten");
        assert_eq!(again.snapshot(&id).expect("read"), None);
        assert!(again.open_snapshot(&id).is_err());
        assert!(files(directory.path()).is_empty());
    }

    #[test]
    fn what_was_not_finished_leaves_nothing() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Store::open(directory.path()).expect("opens");
        let mut aside = store.begin_snapshot(1).expect("begins");
        aside.write(b"some").expect("written");
        assert_eq!(files(directory.path()), [".1.new"]);
        drop(aside);
        assert!(files(directory.path()).is_empty());
        // As a crash leaves them: aside, and renamed without a row.
        for name in [".7.new", &format!("{}.snapshot", "cd".repeat(32))] {
            fs::write(directory.path().join("snapshots").join(name), b"by").expect("written");
        }
        store.sweep_snapshots().expect("swept");
        assert!(files(directory.path()).is_empty());
    }
}

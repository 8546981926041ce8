//! The folder of one trial: what the guest's file wants to be there, the audit log, nothing else.

use std::fs;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::header::Header;

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Scene {
    folder: tempfile::TempDir,
}

impl Scene {
    /// Makes the folder with a guest's files, links and sockets.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn set(header: &Header) -> anyhow::Result<Scene> {
        let folder = tempfile::Builder::new().prefix("referee-hostile-").tempdir()?;
        let place = |name: &str| -> anyhow::Result<PathBuf> {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
            Ok(path)
        };
        for (name, text) in &header.files {
            fs::write(place(name)?, text)?;
        }
        for (name, target) in &header.links {
            std::os::unix::fs::symlink(target, place(name)?)?;
        }
        for name in &header.sockets {
            // The file outlives the listener.
            UnixListener::bind(place(name)?)?;
        }
        Ok(Scene { folder })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The audit log's file.
    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("audit.jsonl")
    }

    /// Looks whether the files outside of the guest's directory are as they were, and nothing is there that
    /// neither the guest's file nor the log accounts for.
    ///
    /// # Errors
    /// Names what has changed.
    pub fn check_untouched(&self, header: &Header) -> anyhow::Result<()> {
        for (name, text) in header.files.iter().filter(|(name, _)| !name.contains('/')) {
            let now = fs::read_to_string(self.folder.path().join(name))
                .with_context(|| format!("{name} is gone"))?;
            if now != *text {
                bail!("{name} was changed");
            }
        }
        for entry in fs::read_dir(self.folder.path())? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let known = header
                .files
                .iter()
                .chain(&header.links)
                .map(|(path, _)| path)
                .chain(&header.sockets)
                .any(|path| path.split('/').next() == Some(&name));
            if !known && name != "audit.jsonl" {
                bail!("the run left {name} behind");
            }
        }
        Ok(())
    }
}

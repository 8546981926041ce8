//! One guest: a file that says which rule it breaks and what must happen.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use crate::header::Header;

/// A guest's file.
#[derive(Debug, Clone)]
pub struct Guest {
    /// The folder that it is in.
    pub group: String,
    /// The file's name without `.s`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
    /// What it says about itself.
    pub header: Header,
}

impl Guest {
    /// Reads one file.
    ///
    /// # Errors
    /// When it cannot be read or its header is not understood.
    pub fn read(path: &Path) -> anyhow::Result<Guest> {
        let part = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).map(str::to_owned);
        let group =
            part(path.parent().and_then(Path::file_name)).context("a guest is in a group's folder")?;
        let name = part(path.file_stem()).context("a guest has a name")?;
        let source = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let header = Header::parse(&source).with_context(|| path.display().to_string())?;
        Ok(Guest {
            group,
            name,
            path: path.to_owned(),
            header,
        })
    }

    /// Reads all guests below a folder, in the order of their names.
    ///
    /// # Errors
    /// As [`Guest::read`]; no guest at all is an error, too.
    pub fn all(folder: &Path) -> anyhow::Result<Vec<Guest>> {
        let mut guests = Vec::new();
        for group in entries(folder)? {
            if group.is_dir() {
                for file in entries(&group)? {
                    guests.push(Guest::read(&file)?);
                }
            }
        }
        if guests.is_empty() {
            bail!("there are no guests in {}", folder.display());
        }
        Ok(guests)
    }

    /// The muscle's name in the manifest.
    pub fn muscle_name(&self) -> String {
        format!("hostile.{}.{}", self.group, self.name)
    }
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let list = fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut paths = list
        .map(|entry| Ok(entry?.path()))
        .collect::<anyhow::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

//! Where the muscles of benches/muscles are, which scripts/bench.sh builds and signs.

use std::path::PathBuf;

use anyhow::Context;

/// What was built.
#[derive(Debug)]
pub struct Muscles {
    pub folder: Option<PathBuf>,
    pub program: Option<PathBuf>,
}

impl Muscles {
    /// A file in the folder.
    pub fn file(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.folder.as_ref();
        Ok(folder
            .context("this row needs --muscles: scripts/bench.sh builds them")?
            .join(name))
    }

    /// The floor of what muscles compute.
    pub fn native(&self) -> anyhow::Result<PathBuf> {
        self.file("native")
    }

    /// The program `referee-vmm`.
    pub fn program(&self) -> anyhow::Result<&PathBuf> {
        self.program
            .as_ref()
            .context("this row needs --program: scripts/bench.sh names it")
    }
}

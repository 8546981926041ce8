//! A memory control group, in which the kernel counts what its processes take of it, its own tables for them included. Where none
//! can be made, nothing is counted in this way.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A group of the bench's own; removed when dropped, if its processes have ended.
pub struct Group {
    folder: PathBuf,
    usage: PathBuf,
}

/// Where control groups are mounted, of the first kind and of the second, and their file that says how much is taken.
const KINDS: [(&str, &str); 2] = [
    ("/sys/fs/cgroup/memory", "memory.usage_in_bytes"),
    ("/sys/fs/cgroup", "memory.current"),
];

impl Group {
    /// Makes one, if this process may.
    pub fn make() -> Option<Group> {
        KINDS.into_iter().find_map(|(root, file)| {
            let folder = Path::new(root).join(format!("referee-bench-{}", std::process::id()));
            let usage = folder.join(file);
            fs::create_dir(&folder).ok()?;
            let group = Group { folder, usage };
            group.usage.exists().then_some(group)
        })
    }

    /// Takes a process in; what it took before is not counted.
    pub fn take(&self, process: u32) -> anyhow::Result<()> {
        fs::write(self.folder.join("cgroup.procs"), process.to_string())
            .with_context(|| self.folder.display().to_string())
    }

    /// The file that says how much is taken.
    pub fn usage(&self) -> &Path {
        &self.usage
    }

    /// Bytes taken.
    pub fn taken(&self) -> anyhow::Result<f64> {
        Ok(fs::read_to_string(&self.usage)?.trim().parse()?)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // An empty group that stays behind takes next to nothing.
        let _ = fs::remove_dir(&self.folder);
    }
}

//! What memory this host has, or the control group that the node is in (cgroups(7)), and whether there is swap to move idle cells to.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::system::sysinfo;

/// Memory of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostMemory {
    /// All of the machine's, in bytes.
    pub total_bytes: u64,
    /// The least limit of a control group above this process, if there is one.
    pub limit_bytes: Option<u64>,
    /// Swap or zram that this process may use, in bytes.
    pub swap_bytes: u64,
}

impl HostMemory {
    /// Looks at this host. A control group that cannot be read has no limit.
    #[must_use]
    pub fn look() -> HostMemory {
        // Not from /proc/meminfo, which the service's sandbox hides.
        let machine = sysinfo();
        let bytes = |units: u64| units.saturating_mul(machine.mem_unit.into());
        HostMemory::of(bytes(machine.totalram), bytes(machine.totalswap), Path::new("/"))
    }

    /// What processes may have together.
    pub(crate) fn usable_bytes(&self) -> u64 {
        self.limit_bytes.unwrap_or(u64::MAX).min(self.total_bytes)
    }

    /// Whether there is swap.
    #[must_use]
    pub fn has_swap(&self) -> bool {
        self.swap_bytes > 0
    }

    /// A machine with so much memory and swap, and the control groups below this folder.
    fn of(total_bytes: u64, swap_bytes: u64, root: &Path) -> HostMemory {
        let text = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
        let groups = Groups::of(&text, root);
        HostMemory {
            total_bytes,
            limit_bytes: groups.least(["memory.max", "memory.limit_in_bytes"]),
            swap_bytes: swap_bytes.min(groups.least(["memory.swap.max", ""]).unwrap_or(u64::MAX)),
        }
    }
}

/// Where the control groups of this process are, version 2 and version 1.
struct Groups {
    unified: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Groups {
    /// From `/proc/self/cgroup`: lines of `ID:CONTROLLERS:PATH`, in version 2 with neither number nor controllers.
    fn of(text: &str, root: &Path) -> Groups {
        let path = |wanted: fn(&str) -> bool| {
            let mut lines = text.lines().map(|line| line.splitn(3, ':'));
            lines.find_map(|mut parts| {
                let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
                wanted(controllers).then(|| path.trim_start_matches('/').to_owned())
            })
        };
        let above = |mount: &str, path: Option<String>| {
            let mount = root.join("sys/fs/cgroup").join(mount);
            let Some(path) = path else {
                return Vec::new();
            };
            // A group is bound by all that it lies in.
            let whole = mount.join(path);
            whole
                .ancestors()
                .take_while(|group| group.starts_with(&mount))
                .map(Path::to_path_buf)
                .collect()
        };
        let unified = path(str::is_empty);
        let mut all = above("", unified.clone());
        all.extend(above("unified", unified));
        Groups {
            unified: all,
            memory: above(
                "memory",
                path(|names| names.split(',').any(|name| name == "memory")),
            ),
        }
    }

    /// The least number in any file of this name, by version 2 and version 1. `max` is none, as is what is larger than any machine.
    fn least(&self, [unified, memory]: [&str; 2]) -> Option<u64> {
        let of = |groups: &[PathBuf], file: &str| {
            let read = |group: &PathBuf| {
                let text = fs::read_to_string(group.join(file)).ok()?;
                text.trim().parse::<u64>().ok().filter(|bytes| *bytes < NONE)
            };
            groups.iter().filter_map(read).min()
        };
        of(&self.unified, unified)
            .into_iter()
            .chain(of(&self.memory, memory))
            .min()
    }
}

/// Version 1 says so, less a page or some, where there is no limit.
const NONE: u64 = 1 << 62;

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> HostMemory {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("has one")).expect("is made");
            fs::write(path, text).expect("is written");
        }
        HostMemory::of(2_048_000, 307_200, root.path())
    }

    #[test]
    fn without_a_group_the_machine_is_the_limit() {
        let found = host(&[]);
        assert_eq!((found.total_bytes, found.limit_bytes), (2_048_000, None));
        assert_eq!((found.usable_bytes(), found.swap_bytes), (2_048_000, 307_200));
    }

    #[test]
    fn the_narrowest_group_above_is_the_limit_in_either_version() {
        let two = host(&[
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "5000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.swap.max", "0\n"),
        ]);
        assert_eq!((two.limit_bytes, two.swap_bytes), (Some(5000), 0));
        assert!(!two.has_swap());
        let one = host(&[
            ("proc/self/cgroup", "4:cpu,memory:/x\n0::/\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "7000\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!((one.limit_bytes, one.has_swap()), (Some(7000), true));
    }

    #[test]
    fn what_is_no_number_is_no_limit_and_this_host_has_memory() {
        let found = host(&[
            ("proc/self/cgroup", "nonsense\n::\n0::/../..\n0::/a\n"),
            ("sys/fs/cgroup/memory.max", "much\n"),
        ]);
        assert_eq!((found.usable_bytes(), found.limit_bytes), (2_048_000, None));
        assert!(HostMemory::look().usable_bytes() > 0);
    }
}

//! A part of the last-level cache for a process (resctrl, the kernel's `resctrl.rst`).
//!
//! ```text
//!   /sys/fs/resctrl/info/L3/cbm_mask        which parts there are, one bit each
//!                  /schemata                L3:0=fffff;1=fffff   those of everybody else, one mask for each cache
//!                  /referee-NAME/schemata   L3:0=003ff;1=003ff   those of one publisher
//!                  /referee-NAME/tasks      its processes
//! ```
//! A partition keeps its processes from *displacing* what others have in the cache, and others, as far as they have partitions too, from displacing
//! theirs. A line that is in the cache is found by anybody who reads it.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::getpid;
use serde::{Deserialize, Serialize};

use crate::side_channels::Lacking;

/// Where the kernel has them.
const ROOT: &str = "/sys/fs/resctrl";
/// Most bytes of a folder's name.
const NAME_MAX: usize = 200;

/// A part of the cache, under a name. Processes with the same name share it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    name: String,
    share: Share,
}

/// Which part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Share {
    /// From one percentage to another.
    Percent(u32, u32),
    /// These bits.
    Mask(u64),
}

impl Partition {
    /// From one percentage of the cache to another. None if that is no part.
    #[must_use]
    pub fn part(name: &str, from: u32, to: u32) -> Option<Partition> {
        (from < to && to <= 100).then(|| Partition {
            name: name.to_owned(),
            share: Share::Percent(from, to),
        })
    }

    /// The parts of a mask. None if that is empty or has a gap, which most processors refuse.
    #[must_use]
    pub fn mask(name: &str, mask: u64) -> Option<Partition> {
        let run = mask.checked_shr(mask.trailing_zeros()).unwrap_or(0);
        (mask != 0 && run & run.wrapping_add(1) == 0).then(|| Partition {
            name: name.to_owned(),
            share: Share::Mask(mask),
        })
    }

    /// Makes the partition if it is not there, and puts the calling process into it.
    pub(crate) fn enter(&self) -> Result<(), Lacking> {
        self.enter_below(Path::new(ROOT))
    }

    fn enter_below(&self, root: &Path) -> Result<(), Lacking> {
        let cache = Cache::look(root)?;
        let mask = cache.mask(self.share)?;
        let group = root.join(folder(&self.name)?);
        match fs::create_dir(&group) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(file(&group)(error));
            }
            _ => {}
        }
        let schemata = group.join("schemata");
        let masks: Vec<String> = cache.ids.iter().map(|id| format!("{id}={mask:x}")).collect();
        write(&schemata, &format!("L3:{}\n", masks.join(";")))?;
        let found = masks_of(&schemata)?;
        if found.len() != cache.ids.len() || found.iter().any(|(_, found)| *found != mask) {
            return Err(Lacking::NotSeen);
        }
        let tasks = group.join("tasks");
        let own = getpid().as_raw_nonzero().to_string();
        write(&tasks, &own)?;
        let members = read(&tasks)?;
        match members.lines().any(|line| line.trim() == own) {
            true => Ok(()),
            false => Err(Lacking::NotSeen),
        }
    }
}

/// Whether this host has such partitions, and lets this process make some.
pub(crate) fn offered() -> Result<(), Lacking> {
    offered_below(Path::new(ROOT))
}

fn offered_below(root: &Path) -> Result<(), Lacking> {
    Cache::look(root)?;
    rustix::fs::access(root, rustix::fs::Access::WRITE_OK).map_err(|errno| Lacking::File {
        path: root.to_path_buf(),
        errno,
    })
}

/// The last-level cache as the kernel describes it.
#[derive(Debug, PartialEq, Eq)]
struct Cache {
    whole: u64,
    least: u32,
    ids: Vec<u32>,
}

impl Cache {
    fn look(root: &Path) -> Result<Cache, Lacking> {
        let number = |name: &str, radix: u32| {
            let path = root.join("info/L3").join(name);
            let text = read(&path)?;
            u64::from_str_radix(text.trim(), radix).map_err(|_| Lacking::Unreadable { path })
        };
        let (whole, least) = (number("cbm_mask", 16)?, number("min_cbm_bits", 10)?);
        let masks = masks_of(&root.join("schemata"))?;
        Ok(Cache {
            whole,
            least: u32::try_from(least).unwrap_or(u32::MAX),
            ids: masks.into_iter().map(|(id, _)| id).collect(),
        })
    }

    fn mask(&self, share: Share) -> Result<u64, Lacking> {
        let wanted = match share {
            Share::Mask(mask) => mask,
            Share::Percent(from, to) => {
                let count = self.whole.count_ones();
                let below = |percent: u32| {
                    let bits = count * percent.min(100) / 100;
                    1_u64.checked_shl(bits).map_or(u64::MAX, |bit| bit - 1)
                };
                (below(to) & !below(from)) << self.whole.trailing_zeros().min(63)
            }
        };
        if wanted.count_ones() < self.least.max(1) || wanted & !self.whole != 0 {
            return Err(Lacking::Share {
                wanted,
                whole: self.whole,
                least: self.least,
            });
        }
        Ok(wanted)
    }
}

/// The masks of the line `L3:ID=MASK;…`.
fn masks_of(path: &Path) -> Result<Vec<(u32, u64)>, Lacking> {
    let text = read(path)?;
    let line = text.lines().find_map(|line| line.trim().strip_prefix("L3:"));
    let parse = |one: &str| {
        let (id, mask) = one.split_once('=')?;
        Some((
            id.trim().parse().ok()?,
            u64::from_str_radix(mask.trim(), 16).ok()?,
        ))
    };
    let masks: Option<Vec<_>> = line.and_then(|line| line.split(';').map(parse).collect());
    masks.ok_or_else(|| Lacking::Unreadable {
        path: path.to_path_buf(),
    })
}

/// A folder's name, the same for no two names: whatever is no letter, digit or hyphen is written as a number.
fn folder(name: &str) -> Result<String, Lacking> {
    let mut folder = String::from("referee-");
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' => folder.push(byte.into()),
            other => folder.push_str(&format!("_{other:02x}")),
        }
    }
    match folder.len() <= NAME_MAX && !name.is_empty() {
        true => Ok(folder),
        false => Err(Lacking::Name {
            name: name.to_owned(),
        }),
    }
}

fn read(path: &Path) -> Result<String, Lacking> {
    fs::read_to_string(path).map_err(file(path))
}

fn write(path: &PathBuf, text: &str) -> Result<(), Lacking> {
    fs::write(path, text).map_err(file(path))
}

fn file(path: &Path) -> impl FnOnce(std::io::Error) -> Lacking {
    let path = path.to_path_buf();
    move |error| Lacking::File {
        path,
        errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks as the kernel's, with 20 parts in each of two caches.
    struct Fake(PathBuf);

    impl Fake {
        fn make(name: &str) -> Fake {
            let root = std::env::temp_dir().join(format!("referee-cache-{}-{name}", std::process::id()));
            fs::create_dir_all(root.join("info/L3")).expect("is made");
            for (path, text) in [
                ("info/L3/cbm_mask", "fffff\n"),
                ("info/L3/min_cbm_bits", "2\n"),
                ("schemata", "    L3:0=fffff;1=fffff\n    MB:0=100;1=100\n"),
            ] {
                fs::write(root.join(path), text).expect("is written");
            }
            Fake(root)
        }
    }

    impl Drop for Fake {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn a_process_is_put_into_its_part_of_each_cache() {
        let fake = Fake::make("enter");
        offered_below(&fake.0).expect("is offered");
        let partition = Partition::part("acme corp", 0, 25).expect("is a part");
        for _ in 0..2 {
            partition.enter_below(&fake.0).expect("enters");
        }
        let group = fake.0.join("referee-acme_20corp");
        let read = |name: &str| fs::read_to_string(group.join(name)).expect("is there");
        assert_eq!(read("schemata"), "L3:0=1f;1=1f\n");
        assert_eq!(read("tasks"), std::process::id().to_string());
    }

    #[test]
    fn shares_do_not_overlap_and_what_is_no_share_is_refused() {
        let fake = Fake::make("shares");
        let cache = Cache::look(&fake.0).expect("is described");
        let mask = |from, to| {
            let partition = Partition::part("a", from, to).expect("is a part");
            cache.mask(partition.share)
        };
        let parts = [mask(0, 25), mask(25, 60), mask(60, 100)].map(|part| part.expect("is a part"));
        assert_eq!(parts, [0x1f, 0xfe0, 0xff000]);
        assert!(
            matches!(
                mask(0, 5),
                Err(Lacking::Share {
                    wanted: 1,
                    least: 2,
                    ..
                })
            ),
            "one bit is too few"
        );
        let given = |mask| Partition::mask("a", mask).map(|partition| cache.mask(partition.share));
        assert_eq!(given(0xf0), Some(Ok(0xf0)));
        assert!(
            matches!(given(0x30_0000), Some(Err(Lacking::Share { .. }))),
            "is beyond the cache"
        );
        assert_eq!(given(0), None);
        assert_eq!(given(0b101), None);
        assert_eq!(given(u64::MAX).map(|mask| mask.is_ok()), Some(false));
        assert_eq!(Partition::part("a", 5, 5), None);
        assert_eq!(Partition::part("a", 0, 101), None);
    }

    #[test]
    fn what_is_not_there_or_not_understood_is_said_with_its_path() {
        let nowhere = Path::new("/nothing/there");
        let error = offered_below(nowhere).expect_err("is not there").to_string();
        assert!(error.starts_with("/nothing/there/info/L3/cbm_mask: "), "{error}");
        let fake = Fake::make("odd");
        for odd in ["", "L3CODE:0=ff\n", "L3:0=ff;1\n", "L3:x=ff\n", "L3:0=xyz\n"] {
            fs::write(fake.0.join("schemata"), odd).expect("is written");
            let partition = Partition::part("a", 0, 50).expect("is a part");
            let refused = partition.enter_below(&fake.0);
            assert!(
                matches!(refused, Err(Lacking::Unreadable { .. })),
                "{odd}: {refused:?}"
            );
        }
    }

    #[test]
    fn no_two_names_have_one_folder_and_none_leaves_the_root() {
        assert_eq!(folder("a_b").as_deref(), Ok("referee-a_5fb"));
        assert_eq!(folder("../x").as_deref(), Ok("referee-_2e_2e_2fx"));
        assert!(folder("").is_err());
        assert!(folder(&"ä".repeat(100)).is_err());
    }
}

//! What the kernel can do for a process against those who share a core with it, each as far as the operator wants it and this host has it.
//!
//! ```text
//!   core-scheduling     nothing but this process runs on the other threads of its core     core_scheduling.rs
//!   indirect-branches   what others trained is not followed at an indirect branch          speculation.rs
//!   store-bypass        a load does not run ahead of stores whose address is not known     speculation.rs
//!   l1d-flush           the first-level data cache is emptied when another process runs    speculation.rs
//!   cache-partition     a part of the last-level cache that no other partition has         cache_partition.rs
//! ```
//! The rule is that of [`crate::confine`]: nothing counts as held that was not seen to hold. All of it belongs to a process or is inherited by its
//! threads, so [`defend`] comes before these are made, and before the root is left, as the cache's partitions are files.

use std::fmt;
use std::path::PathBuf;

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::cache_partition::{self, Partition};
use crate::error::JailError;
use crate::{core_scheduling, speculation};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Defence {
    /// Nothing else runs on the other threads of its core.
    CoreScheduling,
    /// Indirect branches are not predicted by what others did.
    IndirectBranches,
    /// Loads do not pass stores.
    StoreBypass,
    /// The first-level data cache is emptied when another process has the core.
    L1dFlush,
    /// It has a part of the last-level cache.
    CachePartition,
}

impl Defence {
    /// All of them.
    pub const ALL: [Defence; 5] = [
        Defence::CoreScheduling,
        Defence::IndirectBranches,
        Defence::StoreBypass,
        Defence::L1dFlush,
        Defence::CachePartition,
    ];

    /// Returns its name, as in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Defence::CoreScheduling => "core-scheduling",
            Defence::IndirectBranches => "indirect-branches",
            Defence::StoreBypass => "store-bypass",
            Defence::L1dFlush => "l1d-flush",
            Defence::CachePartition => "cache-partition",
        }
    }
}

impl fmt::Display for Defence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How much one is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wish {
    /// Not at all.
    #[default]
    Off,
    /// Where the host has it.
    Prefer,
    /// Without it nothing runs.
    Require,
}

/// How much each is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wishes {
    /// Core scheduling.
    pub core_scheduling: Wish,
    /// Indirect branches.
    pub indirect_branches: Wish,
    /// Store bypass.
    pub store_bypass: Wish,
    /// Emptying the first-level data cache.
    pub l1d_flush: Wish,
    /// A part of the last-level cache.
    pub cache: Wish,
    /// Which part. Without one, `cache` means nothing.
    pub partition: Option<Partition>,
}

impl Wishes {
    fn of(&self, defence: Defence) -> Wish {
        match defence {
            Defence::CoreScheduling => self.core_scheduling,
            Defence::IndirectBranches => self.indirect_branches,
            Defence::StoreBypass => self.store_bypass,
            Defence::L1dFlush => self.l1d_flush,
            Defence::CachePartition if self.partition.is_none() => Wish::Off,
            Defence::CachePartition => self.cache,
        }
    }
}

/// Why a host does not have it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Lacking {
    /// The kernel was built without it, is too old, or refuses it.
    #[error("the kernel refuses {call}: {errno}")]
    Refused {
        /// What it was asked.
        call: &'static str,
        /// What it said.
        errno: Errno,
    },
    /// Whoever started the kernel left no choice.
    #[error("the kernel does not let a process choose ({hint})")]
    NoChoice {
        /// What would.
        hint: &'static str,
    },
    /// The kernel ends whoever asks for it on a core with two threads.
    #[error(
        "cores have two threads (simultaneous multithreading is on), and the kernel ends whoever asks for it there"
    )]
    Siblings,
    /// It was asked for, and is not so.
    #[error("the kernel took it and it does not hold")]
    NotSeen,
    /// A file of the partitions cannot be read or written.
    #[error("{}: {errno}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// A file of the partitions says something else than the kernel's documentation.
    #[error("{} has no line or number that is understood", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
    },
    /// The part is none that this cache can give.
    #[error("the cache gives parts of at least {least} and within mask {whole:#x}, and {wanted:#x} is none")]
    Share {
        /// What was asked for, one bit a part.
        wanted: u64,
        /// All that there are.
        whole: u64,
        /// The fewest in one partition.
        least: u32,
    },
    /// The name has letters or a length that a folder's cannot have.
    #[error("`{name}` cannot be the name of a partition")]
    Name {
        /// The name.
        name: String,
    },
}

/// What was done for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defended {
    /// Was asked for and holds.
    pub held: Vec<Defence>,
    /// Was preferred, and this host does not have it.
    pub missing: Vec<(Defence, Lacking)>,
}

impl Defended {
    /// The names of those that are missing, separated by spaces.
    #[must_use]
    pub fn missing_names(&self) -> String {
        let names: Vec<&str> = self.missing.iter().map(|(defence, _)| defence.name()).collect();
        names.join(" ")
    }
}

/// Does for the calling process what is wanted. It must have one thread, and should be about to confine itself.
///
/// # Errors
/// [`JailError::Undefended`] when something is required that this host does not have.
pub fn defend(wishes: &Wishes) -> Result<Defended, JailError> {
    let mut defended = Defended::default();
    for defence in Defence::ALL {
        let wish = wishes.of(defence);
        if wish == Wish::Off {
            continue;
        }
        match (apply(defence, wishes.partition.as_ref()), wish) {
            (Ok(()), _) => defended.held.push(defence),
            (Err(why), Wish::Require) => return Err(JailError::Undefended { defence, why }),
            (Err(why), _) => defended.missing.push((defence, why)),
        }
    }
    Ok(defended)
}

/// Says of each whether this host has it, and changes nothing.
#[must_use]
pub fn offered() -> Vec<(Defence, Result<(), Lacking>)> {
    let offers = |defence| match defence {
        Defence::CoreScheduling => core_scheduling::offered(),
        Defence::IndirectBranches => speculation::offered(speculation::Kind::IndirectBranches),
        Defence::StoreBypass => speculation::offered(speculation::Kind::StoreBypass),
        Defence::L1dFlush => speculation::offered(speculation::Kind::L1dFlush),
        Defence::CachePartition => cache_partition::offered(),
    };
    Defence::ALL.map(|defence| (defence, offers(defence))).to_vec()
}

fn apply(defence: Defence, partition: Option<&Partition>) -> Result<(), Lacking> {
    match (defence, partition) {
        (Defence::CoreScheduling, _) => core_scheduling::apply(),
        (Defence::IndirectBranches, _) => speculation::apply(speculation::Kind::IndirectBranches),
        (Defence::StoreBypass, _) => speculation::apply(speculation::Kind::StoreBypass),
        (Defence::L1dFlush, _) => speculation::apply(speculation::Kind::L1dFlush),
        (Defence::CachePartition, Some(partition)) => partition.enter(),
        // Nobody wishes for it then.
        (Defence::CachePartition, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wish: Wish) -> Wishes {
        Wishes {
            core_scheduling: wish,
            indirect_branches: wish,
            store_bypass: wish,
            l1d_flush: wish,
            cache: wish,
            partition: Partition::part("tests", 0, 50),
        }
    }

    #[test]
    fn what_is_not_wanted_is_neither_held_nor_missing() {
        assert_eq!(defend(&Wishes::default()).expect("goes on"), Defended::default());
        let without_a_part = Wishes {
            cache: Wish::Require,
            ..Wishes::default()
        };
        assert_eq!(defend(&without_a_part).expect("goes on"), Defended::default());
    }

    /// On a thread of its own, which is what this changes; core scheduling is for a whole process and is not among them.
    #[test]
    fn what_this_host_lacks_is_missing_by_name_where_preferred_and_refused_where_required() {
        let lacked: Vec<Defence> = offered()
            .into_iter()
            .filter_map(|(defence, offer)| offer.is_err().then_some(defence))
            .collect();
        for defence in lacked {
            let only = |wish| {
                let mut wishes = Wishes {
                    partition: all(wish).partition,
                    ..Wishes::default()
                };
                match defence {
                    Defence::CoreScheduling => wishes.core_scheduling = wish,
                    Defence::IndirectBranches => wishes.indirect_branches = wish,
                    Defence::StoreBypass => wishes.store_bypass = wish,
                    Defence::L1dFlush => wishes.l1d_flush = wish,
                    Defence::CachePartition => wishes.cache = wish,
                }
                std::thread::spawn(move || defend(&wishes)).join().expect("ends")
            };
            let preferred = only(Wish::Prefer).expect("goes on");
            assert_eq!(
                (preferred.held.len(), preferred.missing_names().as_str()),
                (0, defence.name())
            );
            let refused = only(Wish::Require).expect_err("does not go on");
            let message = refused.to_string();
            assert!(message.contains(defence.name()), "{message}");
        }
    }

    #[test]
    fn wishes_are_read_by_their_names() {
        for (text, wish) in [
            ("\"off\"", Wish::Off),
            ("\"prefer\"", Wish::Prefer),
            ("\"require\"", Wish::Require),
        ] {
            assert_eq!(serde_json::from_str::<Wish>(text).expect("is one"), wish);
        }
        serde_json::from_str::<Wish>("\"yes\"").expect_err("is none");
    }
}

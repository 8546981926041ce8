//! How much a cell may add to a directory.
//!
//! The quota is on growth: bytes by which files got longer, and files and directories that were made, since the
//! cell began. What was there before is not counted (that would mean reading the whole tree at every start); taking away
//! gives back, but never below zero. So a directory is never larger than it was by more than the quota:
//!
//! ```text
//!   growth of the tree ≤ used ≤ quota
//!     more by n:  both rise by n, if used + n ≤ quota
//!     less by n:  growth falls by n, used falls by n or to 0
//! ```
//!
//! A file that the cell has open cannot be removed by it, and one with several names gives nothing back: in both
//! cases the disk would keep the bytes.

/// What a cell has added, and may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    used: u64,
    max: u64,
}

impl Quota {
    pub const fn new(max: u64) -> Quota {
        Quota { used: 0, max }
    }

    /// Lowers it to at most this; never raises it. What was used before is not taken back, and nothing more fits.
    pub fn narrow(&mut self, max: u64) {
        self.max = self.max.min(max);
    }

    /// Has it be this, more or less than it was. What was used stays used.
    pub fn set(&mut self, max: u64) {
        self.max = max;
    }

    /// Whether `more` fits.
    pub fn allows(&self, more: u64) -> bool {
        self.used.checked_add(more).is_some_and(|used| used <= self.max)
    }

    /// Counts a change from `before` to `after`.
    pub fn moved(&mut self, before: u64, after: u64) {
        self.used = match after.checked_sub(before) {
            Some(more) => self.used.saturating_add(more),
            None => self.used.saturating_sub(before - after),
        };
    }

    #[cfg(test)]
    fn used(&self) -> u64 {
        self.used
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_tree_never_grows_by_more_than_the_quota(max in 0u64..100, steps in proptest::collection::vec((0u64..60, 0u64..60), 0..50)) {
            let mut quota = Quota::new(max);
            let start: u64 = 1000;
            let mut tree = start;
            for (before, after) in steps {
                if after > before && !quota.allows(after - before) {
                    continue;
                }
                tree = tree + after - before.min(tree + after);
                quota.moved(before, after);
                prop_assert!(quota.used() <= max);
                prop_assert!(tree <= start + max);
            }
        }

        #[test]
        fn a_narrower_quota_allows_nothing_more(max: u64, less: u64, used: u64, more: u64) {
            let mut quota = Quota::new(max);
            quota.moved(0, used.min(max));
            let before = quota;
            quota.narrow(less);
            prop_assert!(!quota.allows(more) || before.allows(more));
            prop_assert!(!quota.allows(more) || used.min(max).saturating_add(more) <= less);
        }

        #[test]
        fn the_quota_is_exact(max: u64, first: u64) {
            let mut quota = Quota::new(max);
            prop_assert_eq!(quota.allows(first), first <= max);
            if first <= max {
                quota.moved(0, first);
                prop_assert!(quota.allows(max - first));
                prop_assert!(!quota.allows((max - first).saturating_add(1)) || max == u64::MAX);
            }
        }
    }
}

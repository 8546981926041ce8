//! How long things take: counts of durations in classes that are the same for everything and never change, so that what was counted at two
//! times can be subtracted, and what different nodes counted be added.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The upper bound of each class but the last, which has none, in microseconds.
pub const BOUNDS_US: [u64; 18] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

const CLASSES: usize = BOUNDS_US.len() + 1;

/// Durations that are still being counted.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; CLASSES],
    sum_us: AtomicU64,
}

/// Durations as they were counted.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Distribution {
    /// How many were within each class of [`BOUNDS_US`], and how many above the last bound.
    pub counts: Vec<u64>,
    /// All of them together, in microseconds.
    pub sum_us: u64,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&self, duration: Duration) {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US.partition_point(|bound| *bound < micros);
        if let Some(count) = self.counts.get(class) {
            count.fetch_add(1, Ordering::Relaxed);
            self.sum_us.fetch_add(micros, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub(crate) fn read(&self) -> Distribution {
        let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Distribution {
            counts: counts.collect(),
            sum_us: self.sum_us.load(Ordering::Relaxed),
        }
    }
}

impl Distribution {
    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts
            .iter()
            .fold(0, |sum: u64, count| sum.saturating_add(*count))
    }

    /// What came after `earlier`, which was counted by the same; everything, if that was counted by another.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let differences = self.counts.iter().enumerate().map(|(class, count)| {
            let before = earlier.counts.get(class).copied().unwrap_or(0);
            count.checked_sub(before)
        });
        let counts: Option<Vec<u64>> = differences.collect();
        match (counts, self.sum_us.checked_sub(earlier.sum_us)) {
            (Some(counts), Some(sum_us)) => Distribution { counts, sum_us },
            _ => self.clone(),
        }
    }

    /// The duration that this part of all, 0 to 1, did not exceed, as far as the classes tell: the bound of the class in which it lies.
    /// None when nothing was counted. What lies above the last bound counts as that bound.
    pub fn quantile(&self, part: f64) -> Option<Duration> {
        let mut left = self.rank(part)?;
        for (class, count) in self.counts.iter().enumerate() {
            if *count >= left {
                let bound = BOUNDS_US.get(class).or(BOUNDS_US.last())?;
                return Some(Duration::from_micros(*bound));
            }
            left -= *count;
        }
        None
    }

    /// Which of all, in their order, is the one asked for; the first is 1.
    fn rank(&self, part: f64) -> Option<u64> {
        let count = self.count();
        // Within the count, so neither sign nor size are lost; that a count beyond 2^53 is rounded does not matter.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let rank = (count as f64 * part.clamp(0.0, 1.0)).ceil() as u64;
        (count > 0).then(|| rank.clamp(1, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(micros: &[u64]) -> Distribution {
        let histogram = Histogram::default();
        for micros in micros {
            histogram.observe(Duration::from_micros(*micros));
        }
        histogram.read()
    }

    #[test]
    fn a_bound_belongs_to_its_class() {
        let counted = of(&[0, 100, 101, 60_000_000, 60_000_001]);
        assert_eq!(counted.counts.first(), Some(&2));
        assert_eq!(counted.counts.get(1), Some(&1));
        assert_eq!(counted.counts.get(CLASSES - 2..), Some([1, 1].as_slice()));
        assert_eq!(counted.sum_us, 120_000_202);
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(of(&[]).quantile(0.5), None);
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn what_came_since_is_a_difference_and_after_a_new_beginning_everything() {
        let (early, late) = (of(&[50, 5000]), of(&[50, 5000, 70]));
        assert_eq!(late.since(&early), of(&[70]));
        assert_eq!(early.since(&late), early);
        assert_eq!(late.since(&Distribution::default()), late);
    }

    proptest! {
        #[test]
        fn a_quantile_is_the_bound_above_the_true_one(mut micros in prop::collection::vec(0u64..80_000_000, 1..200), parts in 0u32..=64) {
            let found = of(&micros).quantile(f64::from(parts) / 64.0).expect("something was counted");
            micros.sort_unstable();
            // Of 64 parts, because these are exact in binary.
            let rank = (micros.len() * usize::try_from(parts).expect("small")).div_ceil(64).max(1);
            let exact = micros[rank - 1];
            let bound = BOUNDS_US.iter().find(|bound| **bound >= exact).or(BOUNDS_US.last()).expect("has one");
            prop_assert_eq!(found, Duration::from_micros(*bound));
        }
    }
}

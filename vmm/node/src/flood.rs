//! How much a worker may have recorded: so that one which a muscle took over, or a muscle that never stops using what it may use, does not fill the
//! disk of all.
//!
//! Two bounds, both in bytes as they come over the line: a rate, with room for a burst of some seconds, and an allowance for each call.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the log adds to each record: number, time, hashes.
const EACH: u64 = 256;
/// Seconds of the rate that may come at once.
const BURST: u64 = 8;
/// What a worker may have recorded without any call: cells that are loaded ahead, and what follows its last call.
const CALLS_AHEAD: u64 = 8;

/// What a worker may have recorded.
#[derive(Debug, Clone)]
pub(crate) struct Allowance {
    /// Bytes each second; 0: any.
    pub per_second: u64,
    /// Bytes for each call; 0: any.
    pub per_call: u64,
    /// Calls that the worker was given.
    pub calls: Arc<AtomicU64>,
}

/// Counts what a worker has recorded.
#[derive(Debug)]
pub(crate) struct Meter {
    allowance: Allowance,
    /// Bytes that may come now.
    left: u64,
    at: Instant,
    /// All bytes that came.
    sum: u64,
}

/// Which bound a worker went beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beyond {
    /// That of each second, in bytes.
    Second(u64),
    /// That of each call, in bytes.
    Call(u64),
}

impl Meter {
    pub(crate) fn new(allowance: Allowance, now: Instant) -> Meter {
        Meter {
            left: allowance.per_second.saturating_mul(BURST),
            allowance,
            at: now,
            sum: 0,
        }
    }

    /// Takes a record of so many bytes into account.
    ///
    /// # Errors
    /// [`Beyond`] when that is more than there may be.
    pub(crate) fn count(&mut self, bytes: usize, now: Instant) -> Result<(), Beyond> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(EACH);
        let Allowance {
            per_second, per_call, ..
        } = self.allowance;
        self.sum = self.sum.saturating_add(bytes);
        let calls = self.allowance.calls.load(Ordering::Acquire);
        if per_call > 0 && self.sum > per_call.saturating_mul(calls.saturating_add(CALLS_AHEAD)) {
            return Err(Beyond::Call(per_call));
        }
        if per_second == 0 {
            return Ok(());
        }
        let passed = now.saturating_duration_since(self.at);
        self.at = now;
        self.left = self
            .left
            .saturating_add(grown(per_second, passed))
            .min(per_second.saturating_mul(BURST));
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Beyond::Second(per_second)),
        }
    }
}

/// Bytes that a rate gives in this time.
fn grown(per_second: u64, passed: Duration) -> u64 {
    let bytes = u128::from(per_second).saturating_mul(passed.as_nanos()) / 1_000_000_000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn meter(per_second: u64, per_call: u64, calls: u64, now: Instant) -> Meter {
        let calls = Arc::new(AtomicU64::new(calls));
        let allowance = Allowance {
            per_second,
            per_call,
            calls,
        };
        Meter::new(allowance, now)
    }

    #[test]
    fn a_call_more_is_an_allowance_more() {
        let now = Instant::now();
        let mut meter = meter(0, 1000, 0, now);
        for _ in 0..8 {
            meter.count(1000 - 256, now).expect("is allowed");
        }
        assert_eq!(meter.count(1, now), Err(Beyond::Call(1000)));
        meter.allowance.calls.fetch_add(1, Ordering::Release);
        meter.count(1, now).expect("there is a call more");
    }

    #[test]
    fn without_bounds_anything_may_come() {
        let now = Instant::now();
        let mut meter = meter(0, 0, 0, now);
        for _ in 0..1000 {
            meter.count(usize::MAX, now).expect("is allowed");
        }
    }

    proptest! {
        #[test]
        fn no_more_comes_than_the_rate_and_one_burst(steps in prop::collection::vec((0..5_000_usize, 0..2_000_u64), 1..200)) {
            let begun = Instant::now();
            let (mut meter, mut passed, mut sum) = (meter(10_000, 0, 0, begun), 0, 0);
            for (bytes, millis) in steps {
                passed += millis;
                if meter.count(bytes, begun + Duration::from_millis(passed)).is_ok() {
                    sum += u64::try_from(bytes).expect("is small") + 256;
                } else {
                    // Whoever keeps to the rate is not refused: there was less left than this.
                    prop_assert!(meter.left < u64::try_from(bytes).expect("is small") + 256);
                }
                prop_assert!(sum <= 10_000 * BURST + 10 * passed, "{sum} in {passed} ms");
            }
        }
    }
}

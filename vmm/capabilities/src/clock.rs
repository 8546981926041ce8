//! Capability `clock`: the time, as fine as granted.
//!
//! A coarse clock rounds down to whole milliseconds. That keeps a muscle from timing the host through *this* call;
//! whether it can read the processor's counter itself is up to what the processor can deny (`docs/threat-model.md`).
//!
//! The monotonic clock counts from the cell's start, so that it does not tell the host's uptime. Both are read
//! through the vDSO: no system call.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use referee_policy::ClockGrade;

/// The cell's clock.
#[derive(Debug, Clone, Copy)]
pub struct CellClock {
    start: Instant,
}

impl CellClock {
    /// A clock that starts now.
    pub fn start() -> CellClock {
        CellClock {
            start: Instant::now(),
        }
    }

    /// A clock that shows this much now, and goes on.
    pub fn showing(monotonic: Duration) -> CellClock {
        let now = Instant::now();
        CellClock {
            // This host's clock goes back beyond its own start.
            start: now.checked_sub(monotonic).unwrap_or(now),
        }
    }

    /// Nanoseconds since the start.
    pub fn monotonic_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// When the cell's clock shows `monotonic_ns`; `None` when no clock ever will.
    pub fn instant_of(&self, monotonic_ns: u64) -> Option<Instant> {
        self.start.checked_add(Duration::from_nanos(monotonic_ns))
    }

    /// Nanoseconds since 1970 and since the start, as fine as `grade` allows.
    pub fn now(&self, grade: ClockGrade) -> (u64, u64) {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let unix_ns = u64::try_from(unix.as_nanos()).unwrap_or(u64::MAX);
        (rounded(unix_ns, grade), rounded(self.monotonic_ns(), grade))
    }
}

/// Nanoseconds in the steps of a coarse clock.
pub(crate) const COARSE_STEP_NS: u64 = 1_000_000;

fn rounded(ns: u64, grade: ClockGrade) -> u64 {
    match grade {
        ClockGrade::Coarse => ns - ns % COARSE_STEP_NS,
        ClockGrade::Fine => ns,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coarse_clock_shows_whole_milliseconds_and_a_fine_one_more() {
        assert_eq!(rounded(1_999_999, ClockGrade::Coarse), 1_000_000);
        assert_eq!(rounded(1_999_999, ClockGrade::Fine), 1_999_999);
        let clock = CellClock::start();
        let (unix, since) = clock.now(ClockGrade::Coarse);
        assert_eq!((unix % COARSE_STEP_NS, since % COARSE_STEP_NS), (0, 0));
        assert!(
            unix > 1_600_000_000_000_000_000 && since < 60_000_000_000,
            "counts from the start"
        );
        assert!(
            clock
                .instant_of(u64::MAX)
                .is_none_or(|late| late > Instant::now())
        );
    }

    #[test]
    fn a_clock_goes_on_from_where_another_stood_however_long_it_had_run() {
        for years in [0, 1, 100, 500] {
            let stood = Duration::from_secs(years * 365 * 24 * 3600);
            let clock = CellClock::showing(stood);
            let since = Duration::from_nanos(clock.monotonic_ns());
            assert!(
                since >= stood && since < stood + Duration::from_secs(60),
                "{years}"
            );
            let at = clock
                .instant_of(clock.monotonic_ns() + 1_000_000_000)
                .expect("is one");
            assert!(at > Instant::now());
        }
    }
}

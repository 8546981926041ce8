//! The time, with a `clock` slot.
//!
//! Each question is a call of the host. With a fine clock a [`Stopwatch`] asks the time-stamp counter instead.

use core::time::Duration;

use guest_runtime::{arch, boot, cell, doorbell};
use muscle_abi::capability::{CapabilityKind, call};

use crate::{Result, host, slot};

/// A moment, as two readings of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since 1970-01-01 00:00 UTC.
    pub unix: Duration,
    /// Time since the cell was made; never goes back.
    pub monotonic: Duration,
}

/// Asks the host for the time, as fine as the grant allows.
///
/// # Errors
/// [`crate::ErrorCode::Denied`] without a `clock` slot.
pub fn now() -> Result<Now> {
    let grant = slot::only(CapabilityKind::Clock)?;
    host::call(
        grant.handle,
        call::CLOCK_NOW,
        |e| e.array(0)?.ok(),
        |d| {
            d.array()?;
            Ok(Now {
                unix: Duration::from_nanos(d.u64()?),
                monotonic: Duration::from_nanos(d.u64()?),
            })
        },
    )
}

/// Waits, without using the processor.
///
/// # Errors
/// As [`now`].
pub fn sleep(duration: Duration) -> Result<()> {
    let until = now()?.monotonic.saturating_add(duration);
    let until_ns = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX).max(1);
    while now()?.monotonic < until {
        cell::with(|link| {
            if !link.driver.poll() {
                doorbell::park(until_ns);
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Measures durations without asking the host each time.
#[derive(Debug, Clone, Copy)]
pub enum Stopwatch {
    /// By the time-stamp counter: its value at the start, and its ticks in a millisecond.
    Counter(u64, u64),
    /// By asking the host: its monotonic time at the start.
    Host(Duration),
}

impl Stopwatch {
    /// Starts a stopwatch: with a fine clock without an exit.
    ///
    /// # Errors
    /// As [`now`].
    pub fn start() -> Result<Stopwatch> {
        match boot::info().map(|info| info.tsc_khz) {
            Some(khz) if khz > 0 => Ok(Stopwatch::Counter(arch::time_stamp(), khz)),
            _ => Ok(Stopwatch::Host(now()?.monotonic)),
        }
    }

    /// Time since the start.
    ///
    /// # Errors
    /// As [`now`].
    pub fn elapsed(&self) -> Result<Duration> {
        match *self {
            Stopwatch::Counter(start, khz) => Ok(ticks(arch::time_stamp().saturating_sub(start), khz)),
            Stopwatch::Host(start) => Ok(now()?.monotonic.saturating_sub(start)),
        }
    }
}

fn ticks(count: u64, khz: u64) -> Duration {
    let nanoseconds = u128::from(count) * 1_000_000 / u128::from(khz.max(1));
    Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_become_time_without_overflow() {
        assert_eq!(ticks(3_000_000, 3_000_000), Duration::from_millis(1));
        assert_eq!(ticks(u64::MAX, 1), Duration::from_nanos(u64::MAX));
        assert_eq!(ticks(5, 0), Duration::from_millis(5));
    }

    #[test]
    fn without_a_cell_there_is_no_clock() {
        assert_eq!(now().map_err(|error| error.code), Err(crate::ErrorCode::Denied));
    }
}

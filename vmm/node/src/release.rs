//! When a reply leaves, for deployments whose replies leave at fixed times: on ticks counted from the arrival of the request.
//!
//! ```text
//!   arrival ├────────┼────────┼────────┤  ticks
//!           │ runs ───► done  ► leaves │   how long it ran within a tick is not to be seen
//! ```
//! Whoever asks learns how many ticks a call took and no more. Errors wait as results do, and figures in headers are whole ticks, too.

use std::time::Duration;

use tokio::time::Instant;

/// The longest tick, in milliseconds.
pub(crate) const TICK_MAX_MS: u64 = 60_000;

/// When a reply that is done after so long leaves, counted from the arrival of its request: at the next tick, the first at the earliest.
pub(crate) fn leaves_after(done: Duration, tick: Duration) -> Duration {
    let Some(ticks) = done.as_nanos().checked_div(tick.as_nanos()) else {
        return done;
    };
    // Done on a tick is too late for it.
    let nanos = (ticks + 1).saturating_mul(tick.as_nanos());
    let billion = 1_000_000_000;
    let (seconds, rest) = (nanos / billion, nanos % billion);
    Duration::new(
        u64::try_from(seconds).unwrap_or(u64::MAX),
        u32::try_from(rest).unwrap_or(0),
    )
}

/// Waits until what is done now may leave. What has no tick leaves at once.
pub(crate) async fn release(arrived: Instant, tick: Option<Duration>) {
    if let Some(tick) = tick {
        tokio::time::sleep_until(arrived + leaves_after(arrived.elapsed(), tick)).await;
    }
}

/// A time as whole ticks, upwards: what a header may say.
pub(crate) fn in_ticks(time: Duration, tick: Duration) -> Duration {
    let less = time.saturating_sub(Duration::from_nanos(1));
    leaves_after(less, tick)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_reply_leaves_on_the_next_tick(done in 0..10_u64.pow(15), tick_ms in 1..=TICK_MAX_MS) {
            let (done, tick) = (Duration::from_nanos(done), Duration::from_millis(tick_ms));
            let leaves = leaves_after(done, tick);
            prop_assert_eq!(leaves.as_nanos() % tick.as_nanos(), 0);
            prop_assert!(leaves > done && leaves <= done + tick);
        }

        #[test]
        fn what_happens_within_a_tick_is_not_to_be_seen(ticks in 0..10_000_u64, one in 0..1_000_000_u64, other in 0..1_000_000_u64, tick_ms in 1..=TICK_MAX_MS) {
            let tick = Duration::from_millis(tick_ms);
            let begins = tick.saturating_mul(u32::try_from(ticks).unwrap_or(0));
            // Parts of a tick, of a million.
            let at = |part: u64| begins + Duration::from_nanos(tick_ms * part);
            prop_assert_eq!(leaves_after(at(one), tick), leaves_after(at(other), tick));
            // A figure of something that took up to so long says no more.
            let said = in_ticks(at(one) + Duration::from_nanos(1), tick);
            prop_assert_eq!(said, begins + tick);
        }
    }

    #[test]
    fn ends_of_the_range() {
        let tick = Duration::from_millis(5);
        assert_eq!(leaves_after(Duration::ZERO, tick), tick);
        assert_eq!(leaves_after(tick, tick), tick * 2);
        assert_eq!(in_ticks(Duration::ZERO, tick), tick);
        assert_eq!(in_ticks(tick, tick), tick);
        assert_eq!(leaves_after(tick, Duration::ZERO), tick);
        assert_eq!(leaves_after(Duration::MAX, tick).as_secs(), u64::MAX);
    }
}

//! How long a turn is: short enough that everybody who waits has one in each round, long enough that switching stays a small part of
//! it. Where both cannot be, switching wins, for it is lost to all.

use crate::config::Config;
use crate::time::{Fraction, Span};

#[derive(Clone, Copy, Debug)]
pub(crate) struct SliceLength {
    /// The average cost of a switch, sixteen times, so that small differences are not rounded away.
    cost_16: Span,
    /// A single sample counts for no more than this: a machine that stood still says nothing about switching.
    most: Span,
}

impl SliceLength {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            cost_16: config.preemption_cost * 16,
            most: config.preemption_cost * 8,
        }
    }

    /// Counts a slice that held its slot for `overhead` longer than it ran.
    pub(crate) fn measure(&mut self, overhead: Span) {
        let forgotten = Span::from_ns(self.cost_16.as_ns() / 16);
        self.cost_16 = self.cost_16 - forgotten + overhead.min(self.most);
    }

    pub(crate) fn cost(&self) -> Span {
        Span::from_ns(self.cost_16.as_ns() / 16)
    }

    /// The length of a turn while `runnable` tasks want one.
    pub(crate) fn length(&self, config: &Config, runnable: usize) -> Span {
        let (slots, runnable) = (widen(config.slots), widen(runnable).max(1));
        let turn = Span::from_ns((config.round * slots).as_ns() / runnable);
        let worthwhile = u128::from(self.cost().as_ns()) * u128::from(Fraction::WHOLE.as_ppb())
            / u128::from(config.switching.as_ppb().max(1));
        let worthwhile = Span::from_ns(u64::try_from(worthwhile).unwrap_or(u64::MAX));
        turn.max(worthwhile).clamp(config.slice_min, config.slice_max)
    }
}

fn widen(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_shrink_with_those_who_wait_and_grow_with_the_cost() {
        let config = Config {
            preemption_cost: Span::from_us(20),
            slice_max: Span::from_ms(20),
            ..Config::for_slots(2)
        };
        let mut length = SliceLength::new(&config);
        assert_eq!(length.length(&config, 0), Span::from_ms(20));
        assert_eq!(length.length(&config, 2), Span::from_ms(20));
        assert_eq!(length.length(&config, 50), Span::from_ms(4));
        assert_eq!(
            length.length(&config, 1000),
            Span::from_ms(1),
            "20 µs are 2 % of it"
        );
        for _ in 0..400 {
            length.measure(Span::from_us(4));
        }
        assert_eq!(length.cost(), Span::from_us(4));
        assert_eq!(
            length.length(&config, 1000),
            Span::from_us(500),
            "never less than slice_min"
        );
        for _ in 0..400 {
            length.measure(Span::from_us(100));
        }
        assert_eq!(length.length(&config, 1000), Span::from_ms(5));
        for _ in 0..400 {
            length.measure(Span::from_ms(1000));
        }
        assert_eq!(
            length.cost(),
            Span::from_us(160),
            "a sample counts for eight times the stated cost"
        );
        assert_eq!(length.length(&config, 1000), Span::from_ms(8));
    }
}

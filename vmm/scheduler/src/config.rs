//! What the operator says about the machine, and what is promised in return. Checked once, when the scheduler is made.

use thiserror::Error;

use crate::time::{Fraction, Span};

/// How many cells run at once, how long their turns are, and the costs that the guarantees count with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Cells that may run at the same time.
    pub slots: usize,
    /// The shortest turn of a fair or background task.
    pub slice_min: Span,
    /// The longest one, which a task has that nobody waits for.
    pub slice_max: Span,
    /// In which time every runnable fair task should have its turn; turns get shorter, down to `slice_min`, to keep it.
    pub round: Span,
    /// The part of a slot's time that may go into switching: turns get longer, up to `slice_max`, to keep it.
    pub switching: Fraction,
    /// The most that starting or resuming a task and taking it off again costs a slot, message to message.
    pub preemption_cost: Span,
    /// The most that a slice goes on after it should have stopped: after its budget's end, or after the moment at which
    /// somebody more urgent was due, lateness of the caller's timer included.
    pub stop_latency: Span,
    /// The part of each slot's time that may be promised to real-time tasks. The rest is left to the others.
    pub real_time_share: Fraction,
}

impl Config {
    /// A start for `slots` slots; measure costs on the machine before promising deadlines.
    pub const fn for_slots(slots: usize) -> Self {
        Self {
            slots,
            slice_min: Span::from_us(500),
            slice_max: Span::from_ms(10),
            round: Span::from_ms(100),
            switching: Fraction::percent(2),
            preemption_cost: Span::from_us(100),
            stop_latency: Span::from_us(250),
            real_time_share: Fraction::percent(70),
        }
    }

    pub(crate) fn check(self) -> Result<Self, ConfigError> {
        if self.slots == 0 || self.slots > MOST_SLOTS {
            return Err(ConfigError::Slots {
                slots: self.slots,
                most: MOST_SLOTS,
            });
        }
        if self.slice_min.is_zero() || self.slice_min > self.slice_max || self.slice_max > LONGEST {
            return Err(ConfigError::Slices {
                min: self.slice_min,
                max: self.slice_max,
                longest: LONGEST,
            });
        }
        if self.round.is_zero() {
            return Err(ConfigError::Round);
        }
        if self.switching == Fraction::ZERO {
            return Err(ConfigError::Switching);
        }
        if self.real_time_share > MOST_REAL_TIME {
            return Err(ConfigError::RealTimeShare {
                share: self.real_time_share,
                most: MOST_REAL_TIME,
            });
        }
        Ok(self)
    }
}

/// Why a configuration is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// No slots, or too many.
    #[error("there are {slots} slots; there must be 1 to {most}")]
    Slots {
        /// As given.
        slots: usize,
        /// The most there may be.
        most: usize,
    },
    /// The bounds of a slice are in the wrong order, nothing, or too long.
    #[error(
        "slices from {min} to {max}: the shortest must be more than nothing, the longest no shorter and at most {longest}"
    )]
    Slices {
        /// `slice_min` as given.
        min: Span,
        /// `slice_max` as given.
        max: Span,
        /// The longest that there may be.
        longest: Span,
    },
    /// `round` is nothing.
    #[error("the round is no time at all")]
    Round,
    /// `switching` is nothing, which no turn is long enough for.
    #[error("no part of the time may go into switching")]
    Switching,
    /// So much for real-time tasks that nobody else gets on.
    #[error("real-time tasks may have {share} of a slot; at most {most} can be promised")]
    RealTimeShare {
        /// As given.
        share: Fraction,
        /// The most there may be.
        most: Fraction,
    },
}

const MOST_SLOTS: usize = 1024;
/// Beyond this, waiting for a turn is no longer sharing.
const LONGEST: Span = Span::from_ms(10_000);
/// The admission test looks at intervals up to a bound that grows without end as this nears the whole.
const MOST_REAL_TIME: Fraction = Fraction::percent(95);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_no_machine_can_be() {
        let good = Config::for_slots(2);
        assert_eq!(good.check(), Ok(good));
        assert_eq!(
            Config { slots: 0, ..good }.check(),
            Err(ConfigError::Slots {
                slots: 0,
                most: MOST_SLOTS
            })
        );
        let (min, max) = (Span::from_ms(2), Span::from_ms(1));
        assert_eq!(
            Config {
                slice_min: min,
                slice_max: max,
                ..good
            }
            .check(),
            Err(ConfigError::Slices {
                min,
                max,
                longest: LONGEST
            })
        );
        assert_eq!(
            Config {
                round: Span::ZERO,
                ..good
            }
            .check(),
            Err(ConfigError::Round)
        );
        assert_eq!(
            Config {
                switching: Fraction::ZERO,
                ..good
            }
            .check(),
            Err(ConfigError::Switching)
        );
        let share = Fraction::percent(96);
        assert_eq!(
            Config {
                real_time_share: share,
                ..good
            }
            .check(),
            Err(ConfigError::RealTimeShare {
                share,
                most: MOST_REAL_TIME
            })
        );
    }
}

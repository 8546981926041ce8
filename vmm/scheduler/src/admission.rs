//! Whether the deadlines of a slot's real-time tasks can all be kept: the processor demand criterion for earliest deadline first,
//! with the costs of a machine that is not ideal.
//!
//! A task with budget C, relative deadline D and period T is counted as
//!
//! ```text
//! C' = C + 2·preemption_cost + stop_latency     own start, resumption of whom it interrupts, end of its slice
//! h(t) = Σ (⌊(t − D) / T⌋ + 1) · C'             over tasks with D ≤ t: what is due in an interval of length t at worst
//! ```
//! and a slot is good if ΣC'/T ≤ real_time_share and, for every t, `stop_latency + h(t) ≤ t`: whoever is in the way when the interval
//! begins takes no longer to stop. Not every t has to be looked at. None beyond (stop_latency + Σ(T − D)·C'/T) / (1 − ΣC'/T) can fail,
//! and going down from there one may jump from t to `stop_latency + h(t)`: h does not fall, so all between is good (Zhang and Burns,
//! "Schedulability Analysis for Real-Time Systems with EDF Scheduling", 2009).

use crate::config::Config;
use crate::real_time::Timing;
use crate::time::{Fraction, Span};

/// What a real-time task needs of its slot, costs included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Demand {
    cost: Span,
    deadline: Span,
    period: Span,
}

impl Demand {
    pub(crate) fn new(timing: Timing, config: &Config) -> Self {
        let cost = timing.budget + config.preemption_cost * 2 + config.stop_latency;
        Self {
            cost,
            deadline: timing.deadline,
            period: timing.period,
        }
    }

    /// The part of its slot's time that it may need in the long run.
    pub(crate) fn share(&self) -> Fraction {
        Fraction::of(self.cost, self.period)
    }

    fn due_within(&self, t: u128) -> u128 {
        let (cost, deadline, period) = self.wide();
        if t < deadline {
            0
        } else {
            ((t - deadline) / period + 1) * cost
        }
    }

    /// The last deadline at or before `t`, if jobs are released at 0, T, 2T…
    fn last_deadline(&self, t: u128) -> Option<u128> {
        let (_, deadline, period) = self.wide();
        (t >= deadline).then(|| deadline + (t - deadline) / period * period)
    }

    fn wide(&self) -> (u128, u128, u128) {
        let wide = |span: Span| u128::from(span.as_ns());
        (wide(self.cost), wide(self.deadline), wide(self.period).max(1))
    }
}

/// Why a set of tasks does not fit a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    Share,
    Deadline { within: Span, demand: Span },
    Undecided { steps: usize },
}

/// Whether all `demands` together can be promised on one slot.
pub(crate) fn fits(demands: &[Demand], config: &Config) -> Result<(), Unfit> {
    decide_within(MOST_WORK / demands.len().max(1), demands, config)
}

fn decide_within(steps: usize, demands: &[Demand], config: &Config) -> Result<(), Unfit> {
    let share: Fraction = demands.iter().map(Demand::share).sum();
    if share > config.real_time_share {
        return Err(Unfit::Share);
    }
    let blocking = u128::from(config.stop_latency.as_ns());
    let due_within = |t: u128| blocking + demands.iter().map(|demand| demand.due_within(t)).sum::<u128>();
    let last_deadline = |t: u128| demands.iter().filter_map(|demand| demand.last_deadline(t)).max();

    let mut next = last_deadline(bound(demands, share, blocking));
    for _ in 0..steps {
        let Some(t) = next else { return Ok(()) };
        let demand = due_within(t);
        if demand > t {
            return Err(Unfit::Deadline {
                within: narrow(t),
                demand: narrow(demand),
            });
        }
        next = last_deadline(if demand < t { demand } else { t - 1 });
    }
    Err(Unfit::Undecided { steps })
}

/// The length beyond which no interval can fail, rounded up.
fn bound(demands: &[Demand], share: Fraction, blocking: u128) -> u128 {
    let whole = u128::from(Fraction::WHOLE.as_ppb());
    let carried: u128 = demands
        .iter()
        .map(|demand| {
            u128::from((demand.period - demand.deadline).as_ns()) * u128::from(demand.share().as_ppb())
        })
        .sum();
    let free = whole.saturating_sub(u128::from(share.as_ppb())).max(1);
    (blocking * whole + carried).div_ceil(free)
}

fn narrow(ns: u128) -> Span {
    Span::from_ns(u64::try_from(ns).unwrap_or(u64::MAX))
}

/// Steps times tasks. Sets of real programs are decided in tens of steps; the limit is so that a stranger who knows of a set that is not
/// cannot keep the caller busy.
const MOST_WORK: usize = 100_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn config(latency_ns: u64, cost_ns: u64, percent: u32) -> Config {
        Config {
            stop_latency: Span::from_ns(latency_ns),
            preemption_cost: Span::from_ns(cost_ns),
            real_time_share: Fraction::percent(percent),
            ..Config::for_slots(1)
        }
    }

    fn demand(budget: u64, deadline: u64, period: u64, config: &Config) -> Demand {
        let [budget, deadline, period] = [budget, deadline, period].map(Span::from_ns);
        Demand::new(
            Timing {
                period,
                budget,
                deadline,
            },
            config,
        )
    }

    #[test]
    fn a_demand_counts_two_switches_and_a_late_stop() {
        let config = config(7, 10, 95);
        let one = demand(100, 500, 1000, &config);
        assert_eq!(one.cost, Span::from_ns(127));
        assert_eq!(one.share(), Fraction::from_ppb(127_000_000));
        assert_eq!(
            [499, 500, 1499, 1500].map(|t| one.due_within(t)),
            [0, 127, 127, 254]
        );
        assert_eq!(
            [499, 500, 1700].map(|t| one.last_deadline(t)),
            [None, Some(500), Some(1500)]
        );
    }

    #[test]
    fn more_than_the_share_does_not_fit() {
        let config = config(0, 0, 70);
        let task = demand(35, 100, 100, &config);
        assert_eq!(fits(&[task, task], &config), Ok(()));
        assert_eq!(
            fits(&[task, task, demand(1, 1000, 1000, &config)], &config),
            Err(Unfit::Share)
        );
    }

    #[test]
    fn two_tight_deadlines_at_once_do_not_fit() {
        let config = config(0, 0, 70);
        let task = demand(60, 100, 1000, &config);
        assert_eq!(fits(&[task], &config), Ok(()));
        let late = Unfit::Deadline {
            within: Span::from_ns(100),
            demand: Span::from_ns(120),
        };
        assert_eq!(fits(&[task, task], &config), Err(late));
    }

    #[test]
    fn whoever_is_in_the_way_counts() {
        let exactly = config(40, 0, 70);
        assert_eq!(fits(&[demand(20, 100, 1000, &exactly)], &exactly), Ok(()));
        let slower = config(41, 0, 70);
        let late = Unfit::Deadline {
            within: Span::from_ns(100),
            demand: Span::from_ns(102),
        };
        assert_eq!(fits(&[demand(20, 100, 1000, &slower)], &slower), Err(late));
    }

    #[test]
    fn a_question_without_end_is_answered_no() {
        let config = config(0, 0, 95);
        let tasks = [demand(45, 70, 100, &config), demand(450, 900, 1000, &config)];
        assert_eq!(
            decide_within(2, &tasks, &config),
            Err(Unfit::Undecided { steps: 2 })
        );
        assert_eq!(decide_within(200, &tasks, &config), Ok(()));
    }

    proptest! {
        #[test]
        fn it_agrees_with_looking_at_every_interval(
            tasks in prop::collection::vec((1_u64..8, 0_u64..30, 0_u64..20), 1..6),
            latency in 0_u64..3,
        ) {
            let config = config(latency, 0, 95);
            let tasks: Vec<_> =
                tasks.iter().map(|(c, d, t)| demand(*c, c + d, c + d + t, &config)).collect();
            let share: Fraction = tasks.iter().map(Demand::share).sum();
            let brute = share <= config.real_time_share
                && (1..4000_u128).all(|t| {
                    let due: u128 = tasks.iter().map(|task| task.due_within(t)).sum();
                    due == 0 || u128::from(latency) + due <= t
                });
            prop_assert_eq!(fits(&tasks, &config).is_ok(), brute);
        }
    }
}

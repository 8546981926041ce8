//! A real-time task's reservation, and the queue of a slot that has some.
//!
//! A reservation is a server of constant bandwidth: whatever its task does, it has at most `budget` between a release and the next,
//! which is at least `period` later. A job that is done early gives up the rest of its budget; keeping it for a wake-up before the
//! next release would ask for more within a shorter time than was admitted. What a job took beyond its budget is owed by the next.

use crate::admission::Demand;
use crate::heap::Heap;
use crate::time::{Fraction, Span, Time};

/// What a real-time task wants: `budget` in every `period`, within `deadline` of its release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The least time between two releases.
    pub period: Span,
    /// How long it may run after each.
    pub budget: Span,
    /// By when after its release it has had that; no longer than the period.
    pub deadline: Span,
}

impl Timing {
    /// The longest period that may be asked for.
    pub const LONGEST_PERIOD: Span = Span::from_ms(86_400_000);

    pub(crate) fn is_in_order(&self) -> bool {
        !self.budget.is_zero()
            && self.budget <= self.deadline
            && self.deadline <= self.period
            && self.period <= Self::LONGEST_PERIOD
    }
}

#[derive(Debug)]
pub(crate) struct Reservation {
    pub(crate) timing: Timing,
    /// The slot that it was promised on, and runs on always.
    pub(crate) slot: usize,
    released: Option<Time>,
    due: Time,
    left: Span,
    owed: Span,
    /// Whether the cost of starting the next slice was counted at admission: a job's first, or one after it was interrupted.
    start_is_counted: bool,
}

impl Reservation {
    pub(crate) fn new(timing: Timing, slot: usize) -> Self {
        Self {
            timing,
            slot,
            released: None,
            due: Time::ZERO,
            left: Span::ZERO,
            owed: Span::ZERO,
            start_is_counted: true,
        }
    }

    pub(crate) fn due(&self) -> Time {
        self.due
    }

    pub(crate) fn left(&self) -> Span {
        self.left
    }

    /// When a job that is asked for at `now` may be released.
    pub(crate) fn next_release(&self, now: Time) -> Time {
        now.max(self.earliest())
    }

    /// Begins a job, as of `at`.
    pub(crate) fn release(&mut self, at: Time) {
        let owed = Span::from_ns(self.owed.as_ns() % self.timing.budget.as_ns().max(1));
        // A whole period in which it asked for nothing pays for everything.
        let owed = if at >= self.earliest() + self.timing.period {
            Span::ZERO
        } else {
            owed
        };
        self.released = Some(at);
        self.due = at + self.timing.deadline;
        self.left = self.timing.budget - owed;
        self.owed = Span::ZERO;
        self.start_is_counted = true;
    }

    /// Takes what a slice of at most `budget` cost from what is left. Holding a slot counts as running in it, except for a start that was
    /// counted at admission, so a worker gains nothing by saying less than the truth.
    pub(crate) fn charge(&mut self, budget: Span, used: Span, held: Span, preemption_cost: Span) {
        let start = if self.start_is_counted {
            preemption_cost
        } else {
            Span::ZERO
        };
        let charged = (held - start).max(used.min(held.max(budget)));
        self.owed += charged - self.left;
        self.left = self.left - charged;
        self.start_is_counted = false;
    }

    /// The slice was ended early for somebody more urgent, who was admitted with the cost of resuming this one.
    pub(crate) fn interrupted(&mut self) {
        self.start_is_counted = true;
    }

    fn earliest(&self) -> Time {
        let skipped = self.owed.as_ns() / self.timing.budget.as_ns().max(1);
        match self.released {
            Some(released) => released + self.timing.period * skipped.saturating_add(1),
            None => Time::ZERO,
        }
    }
}

/// The real-time side of a slot: who was promised time on it, and whose job is released.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    /// Released jobs, by deadline and then by release.
    pub(crate) ready: Heap<(Time, u64)>,
    members: Vec<(usize, Demand)>,
    /// Removed members. What they had may still delay others, so it is given to nobody before the slot has no job left.
    departed: Vec<Demand>,
}

impl Promises {
    pub(crate) fn demands(&self) -> impl Iterator<Item = Demand> {
        self.members
            .iter()
            .map(|(_, demand)| *demand)
            .chain(self.departed.iter().copied())
    }

    pub(crate) fn reserved(&self) -> Fraction {
        self.demands().map(|demand| demand.share()).sum()
    }

    pub(crate) fn join(&mut self, task: usize, demand: Demand) {
        self.members.push((task, demand));
    }

    pub(crate) fn depart(&mut self, task: usize) {
        if let Some(position) = self.members.iter().position(|(member, _)| *member == task) {
            let (_, demand) = self.members.swap_remove(position);
            self.departed.push(demand);
        }
    }

    /// The slot has no job left, so the past weighs on nobody. Says whether that freed anything.
    pub(crate) fn forget_departed(&mut self) -> bool {
        let any = !self.departed.is_empty();
        self.departed.clear();
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Span = Span::from_ms(1);

    fn at(ms: u64) -> Time {
        Time::ZERO + MS * ms
    }

    fn reservation() -> Reservation {
        Reservation::new(
            Timing {
                period: MS * 100,
                budget: MS * 10,
                deadline: MS * 50,
            },
            0,
        )
    }

    #[test]
    fn a_job_has_its_budget_and_deadline_from_its_release() {
        let mut task = reservation();
        assert_eq!(task.next_release(at(7)), at(7));
        task.release(at(7));
        assert_eq!((task.due(), task.left()), (at(57), MS * 10));
        task.charge(MS * 10, MS * 4, MS * 4, Span::ZERO);
        assert_eq!(task.left(), MS * 6);
        assert_eq!(task.next_release(at(20)), at(107));
        assert_eq!(task.next_release(at(500)), at(500));
        task.release(at(107));
        assert_eq!(task.left(), MS * 10, "what was not used is not kept");
    }

    #[test]
    fn an_overrun_is_owed_by_the_next_jobs() {
        let mut task = reservation();
        task.release(at(0));
        task.charge(MS * 10, MS * 34, MS * 34, Span::ZERO);
        assert_eq!(task.left(), Span::ZERO);
        assert_eq!(task.next_release(at(35)), at(300), "two periods pay for 20 ms");
        task.release(at(300));
        assert_eq!(task.left(), MS * 6, "and the third for 4");
    }

    #[test]
    fn a_quiet_period_pays_for_an_overrun() {
        let mut task = reservation();
        task.release(at(0));
        task.charge(MS * 10, MS * 14, MS * 14, Span::ZERO);
        task.release(at(200));
        assert_eq!(task.left(), MS * 10);
    }

    #[test]
    fn only_starts_that_were_counted_are_free() {
        let mut task = reservation();
        task.release(at(0));
        task.charge(MS * 10, MS * 2, MS * 3, MS);
        assert_eq!(task.left(), MS * 8);
        task.charge(MS * 8, MS * 2, MS * 3, MS);
        assert_eq!(
            task.left(),
            MS * 5,
            "it stopped of its own accord and pays for starting again"
        );
        task.interrupted();
        task.charge(MS * 5, MS, MS * 2, MS);
        assert_eq!(task.left(), MS * 4);
    }

    #[test]
    fn a_worker_cannot_talk_its_task_out_of_what_it_held() {
        let mut task = reservation();
        task.release(at(0));
        task.charge(MS * 10, Span::ZERO, MS * 9, MS);
        assert_eq!(task.left(), MS * 2);
        task.charge(MS * 2, Span::from_ns(u64::MAX), MS, MS);
        assert_eq!(
            (task.left(), task.owed),
            (Span::ZERO, Span::ZERO),
            "nor into owing what it did not"
        );
    }
}

//! A tenant's cap: so much slot time in every period, and no more.
//!
//! Periods are windows of the caller's clock, `[k·period, (k+1)·period)`. A slice reserves its budget before it starts, so that
//! several slots cannot spend the same time. What is spent beyond the quota, by slices that stop late or by real-time tasks, whose
//! promise goes before the cap, is owed to the next windows.

use crate::time::{Span, Time};

/// A limit on a tenant's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cap {
    /// What it may have in each period; more than the period itself if it may have several slots.
    pub quota: Span,
    /// How often it has it anew.
    pub period: Span,
}

/// A cap and what is left of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quota {
    pub(crate) cap: Cap,
    window: u64,
    spent: Span,
    reserved: Span,
}

impl Quota {
    pub(crate) fn new(cap: Cap, now: Time) -> Self {
        let mut quota = Self {
            cap,
            window: 0,
            spent: Span::ZERO,
            reserved: Span::ZERO,
        };
        quota.window = quota.window_of(now);
        quota
    }

    /// The same account under another cap.
    pub(crate) fn changed(self, cap: Cap, now: Time) -> Self {
        let fresh = Self::new(cap, now);
        Self {
            spent: self.spent,
            reserved: self.reserved,
            ..fresh
        }
    }

    /// What may be given to a slice now; nothing if it is less than `least`, which is not worth a switch.
    pub(crate) fn available(&mut self, least: Span, now: Time) -> Span {
        self.roll(now);
        let left = self.cap.quota - self.spent - self.reserved;
        let least = least.min(Span::from_ns(self.cap.quota.as_ns().div_ceil(4)));
        if left < least { Span::ZERO } else { left }
    }

    pub(crate) fn reserve(&mut self, budget: Span) {
        self.reserved += budget;
    }

    /// A slice that had reserved `budget` spent `charged`.
    pub(crate) fn settle(&mut self, budget: Span, charged: Span, now: Time) {
        self.roll(now);
        self.reserved = self.reserved - budget;
        self.spent += charged;
    }

    /// When there is more, at the earliest.
    pub(crate) fn next_window(&self) -> Time {
        Time::ZERO + self.cap.period * self.window.saturating_add(1)
    }

    fn roll(&mut self, now: Time) {
        let window = self.window_of(now);
        let passed = window.saturating_sub(self.window);
        self.spent = self.spent - self.cap.quota * passed;
        self.window = self.window.max(window);
    }

    fn window_of(&self, now: Time) -> u64 {
        now.as_ns() / self.cap.period.as_ns().max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP: Cap = Cap {
        quota: Span::from_ms(50),
        period: Span::from_ms(100),
    };
    const LEAST: Span = Span::from_ms(1);

    fn at(ms: u64) -> Time {
        Time::ZERO + Span::from_ms(ms)
    }

    #[test]
    fn a_reserved_budget_is_not_given_twice() {
        let mut quota = Quota::new(CAP, at(230));
        assert_eq!(quota.available(LEAST, at(230)), Span::from_ms(50));
        quota.reserve(Span::from_ms(40));
        assert_eq!(quota.available(LEAST, at(231)), Span::from_ms(10));
        quota.settle(Span::from_ms(40), Span::from_ms(5), at(240));
        assert_eq!(quota.available(LEAST, at(240)), Span::from_ms(45));
    }

    #[test]
    fn what_was_overspent_is_owed_and_what_was_saved_is_not_kept() {
        let mut quota = Quota::new(CAP, at(0));
        quota.settle(Span::ZERO, Span::from_ms(70), at(60));
        assert_eq!(quota.available(LEAST, at(99)), Span::ZERO);
        assert_eq!(quota.next_window(), at(100));
        assert_eq!(quota.available(LEAST, at(100)), Span::from_ms(30));
        assert_eq!(quota.available(LEAST, at(900)), Span::from_ms(50));
    }

    #[test]
    fn a_rest_that_is_not_worth_a_switch_is_left() {
        let mut quota = Quota::new(CAP, at(0));
        quota.settle(Span::ZERO, Span::from_us(49_500), at(60));
        assert_eq!(quota.available(LEAST, at(60)), Span::ZERO);
        let small = Cap {
            quota: Span::from_us(400),
            ..CAP
        };
        assert_eq!(
            Quota::new(small, at(0)).available(LEAST, at(0)),
            Span::from_us(400)
        );
    }

    #[test]
    fn a_clock_that_jumps_is_survived() {
        let mut quota = Quota::new(CAP, at(500));
        quota.settle(Span::ZERO, Span::from_ms(1000), at(500));
        assert_eq!(quota.available(LEAST, at(100)), Span::ZERO);
        assert_eq!(quota.available(LEAST, Time::from_ns(u64::MAX)), Span::from_ms(50));
    }
}

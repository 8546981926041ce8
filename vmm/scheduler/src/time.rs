//! Points in time and lengths of it, in whole nanoseconds. All arithmetic saturates: whatever a caller says, nothing overflows.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Mul, Sub};

/// A point on the caller's monotonic clock, in nanoseconds since any start that does not change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The clock's start.
    pub const ZERO: Self = Self(0);

    /// The point `ns` nanoseconds after the clock's start.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the clock's start.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is before it.
    pub const fn since(self, earlier: Self) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Span> for Time {
    type Output = Self;

    fn add(self, span: Span) -> Self {
        Self(self.0.saturating_add(span.0))
    }
}

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span(u64);

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);

    /// `ns` nanoseconds.
    pub const fn from_ns(ns: u64) -> Self {
        Self(ns)
    }

    /// `us` microseconds.
    pub const fn from_us(us: u64) -> Self {
        Self(us.saturating_mul(1_000))
    }

    /// `ms` milliseconds.
    pub const fn from_ms(ms: u64) -> Self {
        Self(ms.saturating_mul(1_000_000))
    }

    /// The length in nanoseconds.
    pub const fn as_ns(self) -> u64 {
        self.0
    }

    /// Whether this is no time at all.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl Add for Span {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Mul<u64> for Span {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Span {
    fn sum<I: Iterator<Item = Self>>(spans: I) -> Self {
        spans.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            ns if ns < 1_000 => write!(f, "{ns} ns"),
            ns if ns < 1_000_000 => write!(f, "{}.{:03} µs", ns / 1_000, ns % 1_000),
            ns => write!(f, "{}.{:03} ms", ns / 1_000_000, ns % 1_000_000 / 1_000),
        }
    }
}

/// A part of a whole, in parts per billion. Of several slots' time it may be more than one whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fraction(u64);

impl Fraction {
    /// Nothing of it.
    pub const ZERO: Self = Self(0);
    /// All of it.
    pub const WHOLE: Self = Self(1_000_000_000);

    /// `percent` hundredths.
    pub const fn percent(percent: u32) -> Self {
        Self(percent as u64 * 10_000_000)
    }

    /// `parts` billionths.
    pub const fn from_ppb(parts: u64) -> Self {
        Self(parts)
    }

    /// The parts per billion.
    pub const fn as_ppb(self) -> u64 {
        self.0
    }

    /// What part of `whole` is `part`, rounded up; of nothing, more than there can be.
    pub fn of(part: Span, whole: Span) -> Self {
        let parts = u128::from(part.0) * u128::from(Self::WHOLE.0);
        let ratio = if whole.0 == 0 {
            u128::MAX
        } else {
            parts.div_ceil(u128::from(whole.0))
        };
        Self(u64::try_from(ratio).unwrap_or(u64::MAX))
    }
}

impl Add for Fraction {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Fraction {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl Mul<u64> for Fraction {
    type Output = Self;

    fn mul(self, times: u64) -> Self {
        Self(self.0.saturating_mul(times))
    }
}

impl Sum for Fraction {
    fn sum<I: Iterator<Item = Self>>(fractions: I) -> Self {
        fractions.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:02} %",
            self.0 / 10_000_000,
            self.0 % 10_000_000 / 100_000
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_times_saturate() {
        assert_eq!(
            Time::from_ns(u64::MAX) + Span::from_ms(1),
            Time::from_ns(u64::MAX)
        );
        assert_eq!(Time::from_ns(5).since(Time::from_ns(9)), Span::ZERO);
        assert_eq!(Span::from_ms(u64::MAX) * 2, Span::from_ns(u64::MAX));
        assert_eq!(
            Fraction::of(Span::from_ns(1), Span::ZERO),
            Fraction::from_ppb(u64::MAX)
        );
    }

    #[test]
    fn fractions_round_against_whoever_asks() {
        assert_eq!(
            Fraction::of(Span::from_ns(1), Span::from_ns(3)),
            Fraction::from_ppb(333_333_334)
        );
        assert_eq!(Fraction::percent(100), Fraction::WHOLE);
    }

    #[test]
    fn figures_are_written_for_people() {
        assert_eq!(Span::from_ns(999).to_string(), "999 ns");
        assert_eq!(Span::from_ns(1_050).to_string(), "1.050 µs");
        assert_eq!(Span::from_us(12_345).to_string(), "12.345 ms");
        assert_eq!(Fraction::percent(7).to_string(), "7.00 %");
    }
}

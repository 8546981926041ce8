//! Prices and values in ten-thousandths, so that sums are exact.

use serde::{Deserialize, Serialize};

/// An amount of money: a number with at most four decimals, from 0.0001 to 100 000 000 as a price.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Money(u64);

impl Money {
    /// An amount in whole units.
    pub const fn units(units: u64) -> Money {
        Money(units.saturating_mul(SCALE))
    }

    /// This price for so many pieces.
    pub fn times(self, quantity: u64) -> Money {
        Money(self.0.saturating_mul(quantity))
    }

    /// The sum.
    pub fn plus(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    /// By how many hundredths of a percent this differs from `reference`, which is not zero.
    pub fn distance_bps(self, reference: Money) -> u64 {
        let distance = u128::from(self.0.abs_diff(reference.0)) * 10_000;
        let bps = distance / u128::from(reference.0.max(1));
        u64::try_from(bps).unwrap_or(u64::MAX)
    }
}

impl TryFrom<f64> for Money {
    type Error = &'static str;

    fn try_from(number: f64) -> Result<Money, &'static str> {
        if !(0.0001..=100_000_000.0).contains(&number) {
            return Err("an amount is a number from 0.0001 to 100000000");
        }
        let scaled = number * SCALE as f64;
        // The range makes it positive and small; adding a half rounds.
        let rounded = (scaled + 0.5) as u64;
        if (scaled - rounded as f64).abs() > 0.01 {
            return Err("an amount has at most four decimals");
        }
        Ok(Money(rounded))
    }
}

impl From<Money> for f64 {
    fn from(money: Money) -> f64 {
        money.0 as f64 / SCALE as f64
    }
}

impl core::fmt::Display for Money {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}.{:04}", self.0 / SCALE, self.0 % SCALE)
    }
}

const SCALE: u64 = 10_000;

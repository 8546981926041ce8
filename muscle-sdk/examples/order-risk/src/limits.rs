//! The limits, and changing one by its name.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Money;

/// What an order may be, and what an account may hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Most pieces of one order.
    pub order_quantity: u64,
    /// Most value of one order.
    pub order_value: Money,
    /// Most pieces of one symbol that an account may be long or short.
    pub position: u64,
    /// Most value that an account may have traded, both ways together.
    pub gross_value: Money,
    /// Furthest that a price may be from the last accepted one of its symbol, in hundredths of a percent.
    pub price_band_bps: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            order_quantity: 5_000,
            order_value: Money::units(250_000),
            position: 8_000,
            gross_value: Money::units(2_000_000),
            price_band_bps: 500,
        }
    }
}

/// Why a limit was not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitError {
    /// No limit has this name.
    Unknown(String),
    /// The limit is a whole number, and this is none.
    NotWhole,
    /// The limit is an amount of money; carries why this is none.
    NotMoney(&'static str),
}

impl core::fmt::Display for LimitError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LimitError::Unknown(name) => write!(
                f,
                "no limit is named `{name}`; there are order_quantity, order_value, position, gross_value, price_band_bps"
            ),
            LimitError::NotWhole => write!(f, "this limit is a whole number from 0 to 1000000000"),
            LimitError::NotMoney(reason) => f.write_str(reason),
        }
    }
}

impl core::error::Error for LimitError {}

impl Limits {
    /// Changes the limit of this name.
    ///
    /// # Errors
    /// [`LimitError`]; nothing is changed then.
    pub fn set(&mut self, name: &str, value: f64) -> Result<(), LimitError> {
        let money = || Money::try_from(value).map_err(LimitError::NotMoney);
        match name {
            "order_quantity" => self.order_quantity = whole(value)?,
            "order_value" => self.order_value = money()?,
            "position" => self.position = whole(value)?,
            "gross_value" => self.gross_value = money()?,
            "price_band_bps" => self.price_band_bps = whole(value)?,
            _ => return Err(LimitError::Unknown(name.into())),
        }
        Ok(())
    }
}

fn whole(value: f64) -> Result<u64, LimitError> {
    let number = value as u64;
    if (0.0..=1e9).contains(&value) && number as f64 == value {
        Ok(number)
    } else {
        Err(LimitError::NotWhole)
    }
}

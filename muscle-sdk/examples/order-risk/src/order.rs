//! An order as it comes in.

use alloc::string::String;

use serde::{Deserialize, Serialize};

use crate::Money;

/// Which way an order goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    /// Adds to the position.
    Buy,
    /// Takes from it.
    Sell,
}

/// An order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Unique for ever.
    pub id: String,
    /// Who trades.
    pub account: String,
    /// What.
    pub symbol: String,
    /// Which way.
    pub side: Side,
    /// How many pieces.
    pub quantity: u64,
    /// At what price a piece.
    pub price: Money,
}

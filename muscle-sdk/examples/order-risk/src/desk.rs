//! The book of what was accepted, and the decision about the next order.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::{Limits, Money, Order, Side};

/// A desk: its limits and its book.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    /// What is allowed.
    pub limits: Limits,
    seen: BTreeSet<String>,
    last_prices: BTreeMap<String, Money>,
    accounts: BTreeMap<String, Account>,
}

#[derive(Debug, Clone, Default)]
struct Account {
    gross: Money,
    positions: BTreeMap<String, i64>,
}

/// What an account has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exposure {
    /// Whose it is.
    pub account: String,
    /// Value of everything traded, both ways together.
    pub gross_value: Money,
    /// Pieces of each symbol, below zero when short.
    pub positions: BTreeMap<String, i64>,
}

/// What becomes of an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// The order's id; empty when the order could not be read.
    pub id: String,
    /// Whether it may go to the market.
    pub accepted: bool,
    /// Every limit that it breaks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Reason>,
    /// The account's position in the symbol afterwards.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<i64>,
}

/// Why an order is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum Reason {
    /// The line is no order.
    Malformed {
        /// Where and why.
        text: String,
    },
    /// An order with this id was accepted before.
    Duplicate,
    /// Nothing is ordered.
    NothingOrdered,
    /// Too many pieces.
    OrderQuantity {
        /// Pieces ordered.
        quantity: u64,
        /// Pieces at most.
        limit: u64,
    },
    /// Too dear.
    OrderValue {
        /// Its value.
        value: Money,
        /// Value at most.
        limit: Money,
    },
    /// The account would hold or owe too many pieces.
    Position {
        /// What it would have.
        position: i64,
        /// At most, either way.
        limit: u64,
    },
    /// The account would have traded too much.
    GrossValue {
        /// What it would have traded.
        value: Money,
        /// At most.
        limit: Money,
    },
    /// The price is too far from the last one.
    PriceBand {
        /// Its distance in hundredths of a percent.
        distance_bps: u64,
        /// At most.
        limit: u64,
    },
}

impl Desk {
    /// Decides about an order, and books it if it is accepted.
    pub fn check(&mut self, order: &Order) -> Decision {
        let account = self.accounts.get(&order.account);
        let held = account
            .and_then(|account| account.positions.get(&order.symbol))
            .copied()
            .unwrap_or(0);
        let quantity = i64::try_from(order.quantity).unwrap_or(i64::MAX);
        let position = match order.side {
            Side::Buy => held.saturating_add(quantity),
            Side::Sell => held.saturating_sub(quantity),
        };
        let value = order.price.times(order.quantity);
        let gross = account
            .map_or(Money::default(), |account| account.gross)
            .plus(value);

        let reasons = self.broken(order, position, value, gross);
        let accepted = reasons.is_empty();
        if accepted {
            self.seen.insert(order.id.clone());
            self.last_prices.insert(order.symbol.clone(), order.price);
            let account = self.accounts.entry(order.account.clone()).or_default();
            account.gross = gross;
            account.positions.insert(order.symbol.clone(), position);
        }
        Decision {
            id: order.id.clone(),
            accepted,
            reasons,
            position: Some(if accepted { position } else { held }),
        }
    }

    /// Decides about an order written in JSON. What is no order is refused.
    pub fn check_line(&mut self, line: &str) -> Decision {
        match serde_json::from_str::<Order>(line) {
            Ok(order) => self.check(&order),
            Err(error) => Decision {
                id: String::new(),
                accepted: false,
                reasons: alloc::vec![Reason::Malformed {
                    text: error.to_string()
                }],
                position: None,
            },
        }
    }

    /// What an account has.
    pub fn exposure(&self, account: &str) -> Exposure {
        let known = self.accounts.get(account);
        Exposure {
            account: account.into(),
            gross_value: known.map_or(Money::default(), |account| account.gross),
            positions: known.map_or(BTreeMap::new(), |account| account.positions.clone()),
        }
    }

    fn broken(&self, order: &Order, position: i64, value: Money, gross: Money) -> Vec<Reason> {
        let limits = &self.limits;
        let mut reasons = Vec::new();
        if self.seen.contains(&order.id) {
            reasons.push(Reason::Duplicate);
        }
        if order.quantity == 0 {
            reasons.push(Reason::NothingOrdered);
        }
        if order.quantity > limits.order_quantity {
            reasons.push(Reason::OrderQuantity {
                quantity: order.quantity,
                limit: limits.order_quantity,
            });
        }
        if value > limits.order_value {
            reasons.push(Reason::OrderValue {
                value,
                limit: limits.order_value,
            });
        }
        if position.unsigned_abs() > limits.position {
            reasons.push(Reason::Position {
                position,
                limit: limits.position,
            });
        }
        if gross > limits.gross_value {
            reasons.push(Reason::GrossValue {
                value: gross,
                limit: limits.gross_value,
            });
        }
        if let Some(last) = self.last_prices.get(&order.symbol) {
            let distance_bps = order.price.distance_bps(*last);
            if distance_bps > limits.price_band_bps {
                reasons.push(Reason::PriceBand {
                    distance_bps,
                    limit: limits.price_band_bps,
                });
            }
        }
        reasons
    }
}

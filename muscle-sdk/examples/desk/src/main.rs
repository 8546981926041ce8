//! Keeps the last price of each symbol as ticks come in, and quotes orders. It is deployed with one cell that keeps its memory, or each
//! message would find an empty book.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;

use muscle::prelude::*;
use serde::Deserialize;

/// A price of something.
#[derive(Deserialize)]
struct Tick {
    symbol: String,
    price: f64,
}

/// What somebody wants.
#[derive(Deserialize)]
struct Order {
    symbol: String,
    quantity: u32,
}

/// Symbols that are kept: whoever sends others must not fill the memory.
const SYMBOLS_MAX: usize = 1000;

static BOOK: muscle::Global<BTreeMap<String, f64>> = muscle::Global::new(BTreeMap::new());

/// Takes a tick.
#[muscle::receive]
fn on_tick(tick: Tick) -> Result<(), String> {
    if !tick.price.is_finite() || tick.price <= 0.0 {
        return Err(format!("{} has no price", tick.symbol));
    }
    BOOK.with(|book| {
        if book.len() >= SYMBOLS_MAX && !book.contains_key(&tick.symbol) {
            return Err(format!("{} is one symbol too many", tick.symbol));
        }
        book.insert(tick.symbol, tick.price);
        Ok(())
    })
}

/// Answers what an order would cost.
#[muscle::receive]
fn on_order(order: Order) -> Result<f64, String> {
    let price = BOOK.with(|book| book.get(&order.symbol).copied());
    let price = price.ok_or_else(|| format!("{} is not traded here", order.symbol))?;
    Ok(price * f64::from(order.quantity))
}

/// What a hundred pieces are worth at a tick's price: the second half of a pipeline.
#[muscle::export]
fn value(tick: Tick) -> f64 {
    tick.price * 100.0
}

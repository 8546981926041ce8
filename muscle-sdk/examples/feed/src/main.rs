//! Reads ticks, as a line `SYMBOL PRICE` has them, and publishes them; asks a desk what an order would cost. It knows neither who hears
//! the ticks nor who answers: the operator binds its two channels.
#![no_std]
#![no_main]

use muscle::prelude::*;
use serde::{Deserialize, Serialize};

/// A price of something.
#[derive(Serialize)]
struct Tick {
    symbol: String,
    price: f64,
}

/// What somebody may want.
#[derive(Serialize, Deserialize)]
struct Order {
    symbol: String,
    quantity: u32,
}

/// Reads a line.
#[muscle::export]
fn parse(line: String) -> Result<Tick, String> {
    let mut words = line.split_whitespace();
    let (Some(symbol), Some(price), None) = (words.next(), words.next(), words.next()) else {
        return Err(format!("`{line}` is not SYMBOL PRICE"));
    };
    let price = price
        .parse::<f64>()
        .ok()
        .filter(|price| price.is_finite() && *price > 0.0);
    let price = price.ok_or_else(|| format!("`{line}` has no price"))?;
    Ok(Tick {
        symbol: symbol.into(),
        price,
    })
}

/// Publishes each line's tick, and tells how many desks heard the last one.
#[muscle::export]
fn publish(lines: Vec<String>) -> muscle::Result<u32> {
    let mut heard = 0;
    for line in lines {
        let tick = parse(line).map_err(|why| muscle::Error::new(muscle::ErrorCode::Application, why))?;
        heard = muscle::channels::send("ticks", &tick)?;
    }
    Ok(heard)
}

/// What the desk asks for an order.
#[muscle::export]
fn ask(order: Order) -> muscle::Result<f64> {
    muscle::channels::request("orders", &order)
}

//! Values holdings at prices that the embedding program knows: the muscle cannot reach a market, only ask for a price.
#![no_std]
#![no_main]

extern crate alloc;

use alloc::collections::BTreeMap;

use muscle::prelude::*;

/// What holdings are worth together: how many of each, by symbol.
#[muscle::export]
fn worth(holdings: BTreeMap<String, u32>) -> muscle::Result<f64> {
    let mut sum = 0.0;
    for (symbol, count) in &holdings {
        let price: f64 = muscle::functions::call("market", "price", symbol)?;
        sum += price * f64::from(*count);
    }
    Ok(sum)
}

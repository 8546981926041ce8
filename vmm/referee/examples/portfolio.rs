//! A program that embeds the example muscle `portfolio` and offers it prices.
//!
//!     cargo run -p referee --example portfolio -- trust.store portfolio.muscle ACME=4 BOLT=10

use std::collections::BTreeMap;
use std::error::Error;

use referee::{CellThread, Config, Functions, Inputs, Referee};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust_store, bundle, holdings @ ..] = &arguments[..] else {
        return Err("portfolio TRUST_STORE BUNDLE SYMBOL=COUNT…".into());
    };
    let holdings = holdings.iter().map(|text| {
        let (symbol, count) = text.split_once('=').ok_or("a holding is SYMBOL=COUNT")?;
        Ok((symbol.to_owned(), count.parse()?))
    });
    let holdings: BTreeMap<String, u32> = holdings.collect::<Result<_, Box<dyn Error>>>()?;

    let mut functions = Functions::default();
    functions.register("price", |symbol: String| match symbol.as_str() {
        "ACME" => Ok(12.5),
        "BOLT" => Ok(0.75),
        other => Err(format!("{other} is not traded here")),
    });

    let referee = Referee::open(&Config::new(trust_store, "portfolio-audit.jsonl"))?;
    let muscle = referee.admit_file(bundle.as_ref())?;
    let permit = muscle.permit(&[])?;
    let mut cell = permit.start(Inputs {
        functions,
        ..Inputs::default()
    })?;
    // A thread says once that cells will run on it.
    let thread = CellThread::enter()?;
    let worth: f64 = cell.call(&thread, "worth", &(holdings,))?;
    println!("worth {worth}");
    Ok(())
}

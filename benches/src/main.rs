//! `referee-bench`: times what Referee does, each row beside its floor, measured in turns in one run.
//!
//! A machine that drifts drifts for both: the rounds of a row and of its floor alternate, and the ratio is that of the medians.
#![forbid(unsafe_code)]

mod audit_rows;
mod call_rows;
mod compare;
mod compute_rows;
mod floor;
mod muscles;
mod ring_rows;
mod rows;
mod stream_rows;
mod table;
mod tpm_rows;

use std::path::PathBuf;

use anyhow::Context;
use clap::Parser;

use crate::rows::{Bench, ROWS};
use crate::table::Measured;

/// Times what Referee does, each row beside its floor.
#[derive(Debug, Parser)]
struct Arguments {
    /// Write the rows as JSON: an array of {name, unit, median, p99, n, floor, ratio}.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Compare ratios with those of a file that --json wrote, and fail when one is worse.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// How many times as much as recorded a ratio may be.
    #[arg(long, default_value_t = 1.25)]
    bound: f64,
    /// Samples of each row.
    #[arg(long, default_value_t = 1000)]
    samples: usize,
    /// The program that measures the floors.
    #[arg(long, value_name = "FILE")]
    floor: PathBuf,
    /// The folder with the muscles of benches/muscles, their trust store and the program `native`.
    #[arg(long, value_name = "DIR")]
    muscles: Option<PathBuf>,
    /// The program `referee-vmm`, for the rows about streams.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// Rows to measure; all when none is named.
    rows: Vec<String>,
}

/// Rounds in which a row and its floor take turns.
const ROUNDS: usize = 10;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    for name in &arguments.rows {
        if !ROWS.iter().any(|row| row.name == name) {
            let known: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
            anyhow::bail!("no row {name}; there are {}", known.join(", "));
        }
    }
    let mut bench = Bench::new(arguments.muscles, arguments.program)?;
    let mut measured = Vec::new();
    table::head();
    for row in &ROWS {
        if !arguments.rows.is_empty() && !arguments.rows.iter().any(|name| name == row.name) {
            continue;
        }
        let each = (arguments.samples / row.cost / ROUNDS).max(3);
        let (mut samples, mut floors) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            (row.measure)(&mut bench, each, &mut samples).context(row.name)?;
            if let Some(mode) = row.floor {
                floors.extend(match mode.strip_prefix("native ") {
                    Some(work) => floor::measure(&bench.muscles.native()?, work, each)?,
                    None => floor::measure(&arguments.floor, mode, each)?,
                });
            }
        }
        let result = Measured::of(row.name, samples, floors);
        table::line(&result, row.what);
        measured.push(result);
    }
    if let Some(path) = arguments.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&measured)?)
            .with_context(|| path.display().to_string())?;
    }
    match arguments.compare {
        Some(path) => compare::with(&path, arguments.bound, &measured),
        None => Ok(()),
    }
}

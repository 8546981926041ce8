//! What a muscle computes, beside an ordinary program that is built of the same crate with the same flags and does the same.

use std::process::Command;

use anyhow::{Context, ensure};
use referee::{Config, Inputs, Referee};

use crate::rows::{Bench, timed};

/// Work of some milliseconds, in one call.
pub fn computed(bench: &mut Bench, count: usize, samples: &mut Vec<f64>, work: &str) -> anyhow::Result<()> {
    if bench.compute.is_none() {
        let log = bench.folder.path().join("compute.jsonl");
        let config = Config::new(bench.muscles.file("trust.store")?, log);
        let muscle = Referee::open(&config)?.admit_file(&bench.muscles.file("compute.muscle")?)?;
        bench.compute = Some(muscle.permit(&[])?.start(Inputs::default())?);
    }
    let native = Command::new(bench.muscles.native()?).args([work, "0"]).output()?;
    let expected: u64 = String::from_utf8(native.stdout)?
        .trim()
        .parse()
        .context("the program's result")?;
    let cell = bench.compute.as_mut().context("a cell")?;
    // The first touches the memory.
    let mut result: u64 = cell.call(&bench.thread, work, &())?;
    for _ in 0..count {
        ensure!(
            result == expected,
            "muscle and program came to {result} and {expected}"
        );
        result = timed(samples, || cell.call(&bench.thread, work, &()))?;
    }
    Ok(())
}

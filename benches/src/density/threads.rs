//! Calls by several threads, each with a cell of its own.

use std::path::Path;
use std::sync::Barrier;
use std::time::Instant;

use anyhow::Context;
use referee::{Cell, CellThread, Inputs};

use crate::worker;

#[path = "../floor.rs"]
mod floor;

/// Calls between two looks at the clock, by each thread.
const BATCH: usize = 100;
/// Looks in each round.
const LOOKS: usize = 20;
/// Rounds in which calls and doorbells take turns.
const ROUNDS: usize = 10;

/// The time that passes for each call when `number` threads call, and for each doorbell when as many ring, in nanoseconds.
pub fn measure(folder: &Path, program: &Path, number: usize) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let permit = worker::permit(folder)?;
    let mut cells: Vec<Cell> = Vec::new();
    for _ in 0..number {
        cells.push(permit.start(Inputs::default())?);
    }
    let (mut calls, mut doorbells) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        calls.extend(round(&mut cells)?);
        doorbells.extend(floor::measure(
            program,
            &format!("threads-{number}"),
            LOOKS * BATCH,
        )?);
    }
    Ok((calls, doorbells))
}

fn round(cells: &mut [Cell]) -> anyhow::Result<Vec<f64>> {
    let each = (BATCH * cells.len()) as f64;
    let barrier = Barrier::new(cells.len() + 1);
    std::thread::scope(|scope| {
        let threads: Vec<_> = cells
            .iter_mut()
            .map(|cell| {
                let barrier = &barrier;
                scope.spawn(move || calls(cell, barrier))
            })
            .collect();
        let mut times = Vec::new();
        for _ in 0..LOOKS {
            barrier.wait();
            let begun = Instant::now();
            barrier.wait();
            times.push(begun.elapsed().as_secs_f64() * 1e9 / each);
        }
        for thread in threads {
            thread.join().ok().context("a thread panicked")??;
        }
        Ok(times)
    })
}

/// Keeps in step with the others even when a call fails, so that nobody waits for ever; then says how it failed.
fn calls(cell: &mut Cell, barrier: &Barrier) -> anyhow::Result<()> {
    let thread = CellThread::enter().map_err(anyhow::Error::from);
    let mut call = || -> anyhow::Result<()> {
        let thread = thread.as_ref().map_err(|error| anyhow::anyhow!("{error}"))?;
        cell.call_encoded(thread, "echo", &worker::NOTHING)?;
        Ok(())
    };
    let mut result = (0..20).try_for_each(|_| call());
    for _ in 0..LOOKS {
        barrier.wait();
        if result.is_ok() {
            result = (0..BATCH).try_for_each(|_| call());
        }
        barrier.wait();
    }
    result
}

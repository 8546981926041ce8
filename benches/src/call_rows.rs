//! Calls: what one costs, alone and after a reset, with much to carry, with a function of the host, and cancelled.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use referee::{CallError, Functions, Inputs};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::rows::{Bench, NOTHING, nanoseconds, timed};

/// A reset, then a call that makes `pages` dirty.
pub fn reset_touched(
    bench: &mut Bench,
    count: usize,
    samples: &mut Vec<f64>,
    pages: u16,
) -> anyhow::Result<()> {
    let mut cell = bench.touches.start(Inputs::default())?;
    let [high, low] = pages.to_be_bytes();
    let arguments = [0x81, 0x19, high, low];
    for warm_up in (0..count + 5).map(|round| round < 5) {
        let mut unused = Vec::new();
        let samples = if warm_up { &mut unused } else { &mut *samples };
        timed(samples, || -> anyhow::Result<()> {
            cell.reset(Inputs::default())?;
            cell.call_encoded(&bench.thread, "f", &arguments)?;
            Ok(())
        })?;
    }
    Ok(())
}

/// A call with a byte string of 1 MiB.
pub fn call_1m(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let mut cell = bench.sinks.start(Inputs::default())?;
    let mut payload = vec![0x81, 0x5a, 0x00, 0x10, 0x00, 0x00];
    payload.resize(6 + (1 << 20), 7);
    cell.call_encoded(&bench.thread, "f", &payload)?;
    for _ in 0..count {
        timed(samples, || cell.call_encoded(&bench.thread, "f", &payload))?;
    }
    Ok(())
}

/// A call whose muscle calls a function that does nothing.
pub fn host_call(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let mut functions = Functions::default();
    functions.register("same", |number: u8| Ok::<u8, String>(number));
    let inputs = Inputs {
        functions,
        ..Inputs::default()
    };
    let mut cell = bench.relays.start(inputs)?;
    for _ in 0..20 {
        cell.call_encoded(&bench.thread, "f", &NOTHING)?;
    }
    for _ in 0..count {
        timed(samples, || cell.call_encoded(&bench.thread, "f", &NOTHING))?;
    }
    Ok(())
}

/// An empty call.
pub fn call(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    calls(bench, count, samples, &NOTHING)
}

/// An empty call of a hot cell.
pub fn call_exitless(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    hot_calls(bench, count, samples, &NOTHING)
}

/// The same with 1 KiB there and back.
pub fn call_exitless_1k(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    hot_calls(bench, count, samples, &kilobyte())
}

fn hot_calls(bench: &mut Bench, count: usize, samples: &mut Vec<f64>, payload: &[u8]) -> anyhow::Result<()> {
    let Bench { hot, thread, .. } = bench;
    // The hot thread has the second core.
    let anywhere = sched_getaffinity(None)?;
    let mut first = CpuSet::new();
    first.set(0);
    sched_setaffinity(None, &first)?;
    let mut echoed = Vec::new();
    // Calls that had an exit, because somebody else had a processor meanwhile, count as well.
    for warm_up in (0..count + 50).map(|round| round < 50) {
        let mut unused = Vec::new();
        let samples = if warm_up { &mut unused } else { &mut *samples };
        echoed = timed(samples, || hot.call_encoded(thread, "echo", payload))?;
    }
    sched_setaffinity(None, &anywhere)?;
    ensure!(echoed == payload, "the echo is another");
    Ok(())
}

/// A call with 1 KiB there and back.
pub fn call_1k(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    calls(bench, count, samples, &kilobyte())
}

/// One byte string of 1024 bytes in an array.
fn kilobyte() -> Vec<u8> {
    let mut payload = vec![0x81, 0x59, 0x04, 0x00];
    payload.resize(4 + 1024, 7);
    payload
}

fn calls(bench: &mut Bench, count: usize, samples: &mut Vec<f64>, payload: &[u8]) -> anyhow::Result<()> {
    for _ in 0..20 {
        bench.echo.call_encoded(&bench.thread, "echo", payload)?;
    }
    for _ in 0..count {
        let answer = timed(samples, || {
            bench.echo.call_encoded(&bench.thread, "echo", payload)
        })?;
        ensure!(answer == payload, "the echo is another");
    }
    Ok(())
}

/// A reset, then a call.
pub fn reset_call(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let Bench { echo, thread, .. } = bench;
    for _ in 0..count {
        timed(samples, || -> anyhow::Result<()> {
            echo.reset(Inputs::default())?;
            echo.call_encoded(thread, "echo", &NOTHING)?;
            Ok(())
        })?;
    }
    Ok(())
}

/// The end of a call that another thread cancels.
pub fn kill(bench: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    for _ in 0..count {
        let mut cell = bench.spins.start(Inputs::default())?;
        let canceller = cell.canceller();
        let (sender, receiver) = mpsc::channel();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(2));
            let _ = sender.send(Instant::now());
            canceller.cancel();
        });
        let ended = cell.call_encoded(&bench.thread, "f", &NOTHING);
        let now = Instant::now();
        ensure!(
            matches!(ended, Err(CallError::Cancelled)),
            "not cancelled: {ended:?}"
        );
        let cancelled: Instant = receiver.recv().context("the other thread")?;
        samples.push(nanoseconds(now.saturating_duration_since(cancelled)));
        let _ = other.join();
    }
    Ok(())
}

//! What the audit log costs: a record in the file, a record on the disk, and eight threads that share their flushes.

use std::time::Instant;

use anyhow::Context;
use referee_audit::{AuditLog, AuditSink, Event, Kind, Options, Sharing, Value};

use crate::rows::{Bench, nanoseconds, timed};

const THREADS: usize = 8;

fn sink(folder: &tempfile::TempDir, sync_each: bool) -> anyhow::Result<AuditSink> {
    let options = Options {
        sharing: Sharing::Sole,
        sync_each,
        ..Options::default()
    };
    let log = AuditLog::open(&folder.path().join("audit.jsonl"), options)?;
    Ok(AuditSink::new(log, "0123456789abcdef", "bench 1.0.0"))
}

fn record(sink: &AuditSink) -> anyhow::Result<()> {
    let detail = [("bytes", Value::Number(64))];
    let event = Event {
        capability: Some("console"),
        slot: Some("console"),
        op: Some("console.out"),
        ..Event::of_cell(Kind::Use, &detail)
    };
    Ok(sink.record(&event)?)
}

fn records(count: usize, samples: &mut Vec<f64>, sync_each: bool) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sink = sink(&folder, sync_each)?;
    (0..count).try_for_each(|_| timed(samples, || record(&sink)))
}

/// Records that the kernel has.
pub fn written(_: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    records(count, samples, false)
}

/// Records that the disk has.
pub fn flushed(_: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    records(count, samples, true)
}

/// The time for each record when eight threads have theirs on the disk before they go on.
pub fn shared(_: &mut Bench, count: usize, samples: &mut Vec<f64>) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let sink = sink(&folder, true)?;
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|_| scope.spawn(|| (0..count).try_for_each(|_| record(&sink))))
            .collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().ok().context("a thread panicked")?)
    })?;
    samples.push(nanoseconds(begun.elapsed()) / (THREADS * count) as f64);
    Ok(())
}

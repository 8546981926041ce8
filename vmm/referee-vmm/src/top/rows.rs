//! What two looks at a node make of each deployment.

use std::time::{Duration, Instant};

use referee_node::{Shown, Stats};

use crate::node::state;

/// A look at a node.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When.
    pub at: Instant,
    /// Its deployments.
    pub shown: Vec<Shown>,
    /// Its figures, where they may be seen.
    pub stats: Option<Stats>,
}

/// A deployment between two looks.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// `idle`, `ready`, `paused`; `failing` when its worker is replaced later and later.
    pub state: String,
    /// Calls that ended.
    pub calls_per_second: f64,
    /// Within which half of them ended; none when none did.
    pub p50: Option<Duration>,
    /// Within which all but one in a hundred ended.
    pub p99: Option<Duration>,
    /// Broken rules since the node started.
    pub faults: u64,
    /// Calls that have a cell.
    pub running: usize,
    /// Calls that may.
    pub cells: usize,
    /// Of the time of one slot, how much its calls had, in percent.
    pub slot_percent: f64,
    /// Calls that wait for a cell.
    pub waiting: usize,
    /// What is otherwise than it used to be, in words.
    pub alerts: Vec<String>,
}

/// Compares two looks. A deployment that is new, or was made anew, is compared with nothing.
pub fn rows(before: &Sample, now: &Sample) -> Vec<Row> {
    let seconds = now.at.saturating_duration_since(before.at).as_secs_f64();
    let rows = now.shown.iter().map(|shown| {
        let same = |one: &&Shown| one.name == shown.name && one.generation == shown.generation;
        let earlier = before.shown.iter().find(same);
        row(earlier, shown, seconds)
    });
    rows.collect()
}

fn row(earlier: Option<&Shown>, shown: &Shown, seconds: f64) -> Row {
    let called = match earlier {
        Some(earlier) => shown.called.since(&earlier.called),
        None => shown.called.clone(),
    };
    let used_us = shown
        .counted
        .used_us
        .saturating_sub(earlier.map_or(0, |earlier| earlier.counted.used_us));
    let rate = |amount: u64| match earlier {
        Some(_) if seconds > 0.0 => number(amount) / seconds,
        // Nobody knows since when.
        _ => 0.0,
    };
    let mut alerts: Vec<String> = shown
        .anomalies
        .iter()
        .map(|anomaly| anomaly.reason.clone())
        .collect();
    if shown.worker_failures > 0 {
        alerts.push(format!(
            "its worker failed {} times in a row",
            shown.worker_failures
        ));
    }
    Row {
        name: shown.name.clone(),
        state: match shown.worker_failures {
            0 | 1 => state(shown.state).to_owned(),
            _ => "failing".to_owned(),
        },
        calls_per_second: rate(called.count()),
        p50: called.quantile(0.5),
        p99: called.quantile(0.99),
        faults: shown.counted.faults,
        running: shown.running,
        cells: shown.settings.cells,
        slot_percent: rate(used_us) / 1e4,
        waiting: shown.waiting,
        alerts,
    }
}

fn number(count: u64) -> f64 {
    // That a count beyond 2^53 is rounded does not matter.
    count as f64
}

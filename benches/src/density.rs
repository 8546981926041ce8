//! `referee-density-bench`: many cells at a time, beside as many bare VMs: how fast they are made, and what each takes while it does nothing.
//!
//! ```text
//!   this program ── begins ──► workers, each this program again: library opened, muscle permitted, no cell yet   ═ memory is read
//!                ── "go" ────► as many at a time as there are processors make their cells: start, one call, park
//!                ── all done ► nobody does anything                                                           ═ memory is read
//! ```
//! The floor (`benches/floor/many.c`) goes the same way with bare VMs. A process has 128 of either at most: changing a mapping takes
//! the kernel longer for each VM that the process has.
#![forbid(unsafe_code)]

mod compare;
#[path = "density/group.rs"]
mod group;
#[path = "density/memory.rs"]
mod memory;
mod table;
#[path = "density/threads.rs"]
mod threads;
#[path = "density/worker.rs"]
mod worker;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Parser;
use referee_tests::Workshop;

use crate::group::Group;
use crate::table::Measured;
use crate::worker::{Making, Worker};

/// Many cells at a time, beside as many bare VMs.
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
    /// Cells at a time.
    #[arg(long, default_value_t = 2000)]
    cells: usize,
    /// Times that all of them are made.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The program that measures the floors of many.
    #[arg(long, value_name = "FILE", required_unless_present = "worker")]
    floor: Option<PathBuf>,
    /// Be a worker that makes cells of the bundle and trust store in this folder.
    #[arg(long, value_name = "DIR", hide = true)]
    worker: Option<PathBuf>,
    /// How a worker makes its cells.
    #[arg(long, default_value = "started", hide = true)]
    making: Making,
}

/// Most cells of one process.
const EACH: usize = 128;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.worker {
        return worker::work(folder, arguments.cells, arguments.making);
    }
    let floor = arguments.floor.as_deref().context("--floor is missing")?;
    let folder = tempfile::tempdir()?;
    worker::prepare(&Workshop::open(folder.path())?, folder.path())?;

    table::head();
    let mut rows = Vec::new();
    let mut print = |row: Measured, what: &str| {
        table::line(&row, what);
        rows.push(row);
    };
    for number in [1, 2] {
        let (calls, doorbells) = threads::measure(folder.path(), floor, number)?;
        print(
            Measured::of(&format!("threads_{number}"), calls, doorbells),
            "time for each empty call, by threads with a cell each; floor: doorbells, by threads with a VM each",
        );
    }

    let (mut started, mut loaded, mut bare) = (Many::default(), Many::default(), Many::default());
    for _ in 0..arguments.rounds.max(1) {
        started.add(crowd(folder.path(), arguments.cells, Making::Started)?);
        bare.add(bare_crowd(floor, arguments.cells)?);
        loaded.add(crowd(folder.path(), arguments.cells, Making::Loaded)?);
    }
    print(
        Measured::of("density_create", started.each.clone(), bare.each.clone()),
        "each of many cells, started and called once; floor: each of as many bare VMs, to its first doorbell",
    );
    print(
        Measured::of("density_rate", started.means.clone(), bare.means.clone()),
        "the same, mean of each process",
    );
    print(
        Measured::of("density_loaded_rate", loaded.means.clone(), bare.means.clone()),
        "the same of cells that begin from one template",
    );
    for crowd in [&mut started, &mut loaded, &mut bare] {
        memory::sum_up(&mut crowd.memory);
    }
    for (name, crowd) in [("idle_memory", &started), ("idle_loaded", &loaded)] {
        print(
            Measured::in_unit("KiB", name, crowd.taken(), bare.taken()),
            "memory that an idle cell takes, the kernel's for it included; floor: that of an idle bare VM",
        );
    }
    memory::explain(&[("started", &started), ("loaded", &loaded), ("bare", &bare)]);
    if let Some(path) = arguments.json {
        std::fs::write(&path, serde_json::to_vec_pretty(&rows)?)
            .with_context(|| path.display().to_string())?;
    }
    match arguments.compare {
        Some(path) => compare::with(&path, arguments.bound, &rows),
        None => Ok(()),
    }
}

/// What was measured of many.
#[derive(Debug, Default)]
pub struct Many {
    /// Making each, in nanoseconds.
    each: Vec<f64>,
    /// The mean of each process.
    means: Vec<f64>,
    /// KiB for each, by where they are counted; a figure for each round.
    memory: BTreeMap<String, Vec<f64>>,
}

impl Many {
    fn add(&mut self, mut other: Many) {
        self.each.append(&mut other.each);
        self.means.append(&mut other.means);
        for (name, mut values) in other.memory {
            self.memory.entry(name).or_default().append(&mut values);
        }
    }

    /// As its control group counts it, which nobody else's doings change; of the whole system, where there is none.
    fn taken(&self) -> Vec<f64> {
        let group = self.memory.get("= group");
        group.or(self.memory.get("= taken")).cloned().unwrap_or_default()
    }
}

/// Reads lines of a name and a number: times, which there are many of, and bytes, which are shared out among `count`.
fn read(text: &str, count: usize) -> anyhow::Result<Many> {
    let mut many = Many::default();
    for line in text.lines() {
        let (name, number) = line.rsplit_once(' ').context("a line of no two words")?;
        let number: f64 = number.parse().with_context(|| line.to_owned())?;
        match name {
            "each" => many.each.push(number),
            "mean" => many.means.push(number),
            _ => many
                .memory
                .entry(name.to_owned())
                .or_default()
                .push(number / 1024.0 / count as f64),
        }
    }
    Ok(many)
}

/// Bare VMs.
fn bare_crowd(floor: &Path, count: usize) -> anyhow::Result<Many> {
    let group = Group::make();
    let mut command = Command::new(floor);
    command
        .args(["density", &count.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(group) = &group {
        command.env("FLOOR_USAGE", group.usage());
    }
    let mut child = command.spawn().with_context(|| floor.display().to_string())?;
    if let Some(group) = &group {
        group.take(child.id())?;
    }
    // It waits for this, so that all its children are in the group.
    let told = child
        .stdin
        .take()
        .context("no standard input")?
        .write_all(b"go\n");
    let output = child.wait_with_output()?;
    ensure!(
        output.status.success(),
        "the floor failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    told?;
    read(&String::from_utf8(output.stdout)?, count)
}

/// Cells.
fn crowd(folder: &Path, count: usize, making: Making) -> anyhow::Result<Many> {
    let group = Group::make();
    let mut workers = Vec::new();
    let mut left = count;
    while left > 0 {
        let cells = left.min(EACH);
        workers.push(Worker::begin(folder, cells, making, group.as_ref())?);
        left -= cells;
    }
    let before = memory::system()?;
    let group_before = group.as_ref().map(Group::taken).transpose()?;
    let at_a_time = std::thread::available_parallelism()?.get();
    let mut text = String::new();
    for index in 0..workers.len() + at_a_time {
        if let Some(done) = index.checked_sub(at_a_time) {
            text.push_str(&workers[done].result()?);
        }
        if let Some(next) = workers.get_mut(index) {
            next.go()?;
        }
    }
    // What the kernel frees a little later is freed by then, as in the floor.
    std::thread::sleep(Duration::from_secs(1));
    let after = memory::system()?;
    if let (Some(group), Some(before)) = (&group, group_before) {
        text.push_str(&format!("= group {}\n", group.taken()? - before));
    }
    for (name, bytes) in after {
        let before = before.get(name).copied().unwrap_or_default();
        text.push_str(&format!("{name} {}\n", bytes - before));
    }
    // What workers said of the same mapping is one sum.
    let mut sums: BTreeMap<&str, f64> = BTreeMap::new();
    let mut lines = String::new();
    for line in text.lines() {
        match line.rsplit_once(' ') {
            Some((name, bytes)) if name.starts_with("in ") => {
                *sums.entry(name).or_default() += bytes.parse::<f64>()?
            }
            _ => {
                lines.push_str(line);
                lines.push('\n');
            }
        }
    }
    for (name, bytes) in sums {
        lines.push_str(&format!("{name} {bytes}\n"));
    }
    for worker in workers {
        worker.end()?;
    }
    read(&lines, count)
}

//! What memory the system has left, what a process has of which mappings, and a table that says where a cell's memory is.

use std::collections::BTreeMap;
use std::fs;

use crate::Many;

/// Lines of `/proc/meminfo` that tell of cells.
const NAMES: [&str; 10] = [
    "MemFree",
    "Buffers",
    "Cached",
    "AnonPages",
    "Shmem",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "Slab",
    "VmallocUsed",
];

/// What is free, and what is page cache and could be at once.
const NOT_TAKEN: [&str; 3] = ["MemFree", "Buffers", "Cached"];
/// What is known to be taken. Kernel stacks are part of what `VmallocUsed` counts.
const TAKEN: [&str; 6] = [
    "AnonPages",
    "Shmem",
    "PageTables",
    "SecPageTables",
    "Slab",
    "VmallocUsed",
];

/// Adds to each round's figures what was taken by it altogether, and how much of that nobody counts.
pub fn sum_up(memory: &mut BTreeMap<String, Vec<f64>>) {
    let of = |name: &str| memory.get(name).cloned().unwrap_or_default();
    let rounds = of("MemFree").len();
    let sum = |names: &[&str], round: usize| -> f64 {
        names.iter().filter_map(|name| of(name).get(round).copied()).sum()
    };
    // Memory with a name in Shmem is in Cached, too.
    let taken: Vec<f64> = (0..rounds)
        .map(|round| sum(&["Shmem"], round) - sum(&NOT_TAKEN, round))
        .collect();
    let rest = taken
        .iter()
        .enumerate()
        .map(|(round, taken)| taken - sum(&TAKEN, round))
        .collect();
    memory.insert("= taken".to_owned(), taken);
    memory.insert("= not counted".to_owned(), rest);
}

/// Bytes by name, of the whole system.
pub fn system() -> anyhow::Result<BTreeMap<&'static str, f64>> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let mut found = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split([':', ' ']).filter(|word| !word.is_empty());
        let (Some(name), Some(kib)) = (words.next(), words.next()) else {
            continue;
        };
        if let Some(name) = NAMES.into_iter().find(|known| *known == name) {
            found.insert(name, kib.parse::<f64>()? * 1024.0);
        }
    }
    Ok(found)
}

/// Bytes of this process by kind of mapping: its cells' own memory, their copies of what is common to them, and everything else that is
/// no file's.
pub fn mappings() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    let text = fs::read_to_string("/proc/self/smaps")?;
    let mut file = "";
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            file = words.nth(4).unwrap_or_default();
            continue;
        }
        let kind = match (first, file) {
            ("Rss:", name) if name.starts_with("/memfd:cell") => "cells' own memory",
            ("Anonymous:", name) if name.starts_with("/memfd:common") => "copies of common",
            ("Anonymous:", name) if !name.starts_with("/memfd:cell") => "the program's own",
            _ => continue,
        };
        let kib: f64 = words.next().unwrap_or_default().parse()?;
        *found.entry(kind.into()).or_default() += kib * 1024.0;
    }
    Ok(found)
}

/// Prints how many KiB each of these takes for one cell.
pub fn explain(crowds: &[(&str, &Many)]) {
    let names = crowds.iter().flat_map(|(_, crowd)| crowd.memory.keys());
    let mut names: Vec<&String> = names.collect();
    names.sort();
    names.dedup();
    print!("\n{:<22}", "KiB for each");
    for (title, _) in crowds {
        print!(" {title:>9}");
    }
    println!();
    for name in names {
        print!("{name:<22}");
        for (_, crowd) in crowds {
            let mut values = crowd.memory.get(name).cloned().unwrap_or_default();
            values.sort_by(f64::total_cmp);
            match values.get(values.len() / 2) {
                Some(median) => print!(" {median:>9.1}"),
                None => print!(" {:>9}", "-"),
            }
        }
        println!();
    }
}

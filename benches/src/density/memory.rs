//! What memory the system has left, what a process has of which mappings, and a table that says where a cell's memory is.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Context;

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

/// The slots of a cell, in the order in which they are added to its file.
const SLOTS: [&str; 5] = ["system", "image", "private", "window", "heap"];

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

/// Bytes of this process by kind of mapping: each slot of its cells, and all that belongs to nobody else.
pub fn mappings() -> anyhow::Result<BTreeMap<String, f64>> {
    let mut found: BTreeMap<String, f64> = BTreeMap::new();
    // Mappings of one cell's file, by inode: where in the file, and how much of it has memory.
    let mut cells: BTreeMap<u64, Vec<(u64, f64)>> = BTreeMap::new();
    let text = fs::read_to_string("/proc/self/smaps")?;
    let mut cell = None;
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let first = words.next().unwrap_or_default();
        if !first.ends_with(':') {
            let words: Vec<&str> = words.collect();
            cell = match words.as_slice() {
                [_, offset, _, inode, name, ..] if name.starts_with("/memfd:cell") => {
                    Some((u64::from_str_radix(offset, 16)?, inode.parse::<u64>()?))
                }
                _ => None,
            };
            continue;
        }
        let bytes = words
            .next()
            .and_then(|kib| kib.parse::<f64>().ok())
            .map(|kib| kib * 1024.0);
        match (first, bytes, cell) {
            ("Rss:", Some(bytes), Some((offset, inode))) => {
                cells.entry(inode).or_default().push((offset, bytes))
            }
            ("Anonymous:", Some(bytes), None) => *found.entry("anonymous".into()).or_default() += bytes,
            _ => {}
        }
    }
    for mut slots in cells.into_values() {
        slots.sort_by_key(|(offset, _)| *offset);
        for (index, (_, bytes)) in slots.into_iter().enumerate() {
            let name = SLOTS
                .get(index)
                .context("a cell with more slots than are known")?;
            *found.entry((*name).to_owned()).or_default() += bytes;
        }
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

//! A node with many deployments and many idle cells: what its supervisor takes, and how soon it is ready with them.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use referee_bundle::Digest;
use serde_json::json;

use crate::{Node, connect, send};

/// Cells that one of the deployments in use has loaded.
const CELLS_EACH: usize = 100;
/// How long the cells may take to be there.
const PATIENCE: Duration = Duration::from_secs(600);
/// Enough of the host for cells that touch little of what they may have.
const MEMORY: &str = "[memory]\nbudget_bytes = 1099511627776\n";

/// Deploys one bundle under so many names, has some of them keep cells loaded, and prints the rows.
///
/// # Errors
/// When the node does not do as it should.
pub async fn measure(
    program: &Path,
    folder: &Path,
    (trust_store, bundle): (&Path, &Path),
    (deployments, cells): (usize, usize),
) -> anyhow::Result<()> {
    let in_use = cells.div_ceil(CELLS_EACH);
    ensure!(
        in_use <= deployments,
        "{cells} cells need {in_use} deployments, as each has {CELLS_EACH}"
    );
    let (empty, full) = (folder.join("empty"), folder.join("full"));
    for each in [&empty, &full] {
        fs::create_dir(each)?;
    }
    let bytes = fs::read(bundle)?;
    let digest = Digest::of(&bytes).to_string();
    let node = Node::start_with(program, &full, trust_store, MEMORY)?;
    let mut client = connect(&node.socket).await?;
    send(&mut client, "PUT", &format!("/v1/bundles/{digest}"), bytes).await?;
    let begun = Instant::now();
    for number in 0..deployments {
        let settings = match number < in_use {
            true => json!({"cells": CELLS_EACH, "ahead": CELLS_EACH, "fresh": false}),
            false => json!({"cells": 4}),
        };
        let body = json!({"bundle": digest, "settings": settings}).to_string();
        send(
            &mut client,
            "PUT",
            &format!("/v1/deployments/d{number}"),
            body.into(),
        )
        .await?;
    }
    let each = begun.elapsed() / u32::try_from(deployments)?;
    println!("many: {deployments} deployments");
    println!("  {:<44} {:>10.1} ms", "deploying one more", millis(each));
    drop(node);

    let bare = ready_after(program, &empty, trust_store)?.1;
    let (node, ready) = ready_after(program, &full, trust_store)?;
    println!(
        "  {:<44} {:>10.1} ms",
        "start to ready, none deployed",
        millis(bare)
    );
    println!(
        "  {:<44} {:>10.1} ms",
        "start to ready with all of them",
        millis(ready)
    );
    print_resident("supervisor, all deployed", &node)?;

    let before = available()?;
    let begun = Instant::now();
    let mut client = connect(&node.socket).await?;
    for number in 0..in_use {
        let path = format!("/v1/deployments/d{number}/call/echo");
        send(&mut client, "POST", &path, crate::ARGUMENTS.to_vec()).await?;
    }
    let wanted = in_use * CELLS_EACH;
    let mut there = 0;
    while there < wanted {
        ensure!(
            begun.elapsed() < PATIENCE,
            "{there} of {wanted} cells are there after {} s",
            PATIENCE.as_secs()
        );
        thread::sleep(Duration::from_millis(500));
        there = machines(node.process.id())?;
    }
    println!("  {:<44} {there:>10}", "idle cells");
    println!(
        "  {:<44} {:>10.1} s",
        "until they were there",
        begun.elapsed().as_secs_f64()
    );
    let taken = before.saturating_sub(available()?);
    println!(
        "  {:<44} {:>10} KiB",
        "memory for each, workers and all",
        taken / u64::try_from(there)?
    );
    print_resident("supervisor, with the cells", &node)
}

/// Starts a node and waits until it is ready; how long that took.
fn ready_after(program: &Path, folder: &Path, trust_store: &Path) -> anyhow::Result<(Node, Duration)> {
    let begun = Instant::now();
    let node = Node::start_with(program, folder, trust_store, MEMORY)?;
    Ok((node, begun.elapsed()))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn print_resident(what: &str, node: &Node) -> anyhow::Result<()> {
    let status = fs::read_to_string(format!("/proc/{}/status", node.process.id()))?;
    let kib = figure(&status, "VmRSS:").context("a process has memory")?;
    println!(
        "  {what:<44} {:>10.1} MiB",
        f64::from(u32::try_from(kib)?) / 1024.0
    );
    Ok(())
}

/// Memory of the host that is to be had, in KiB.
fn available() -> anyhow::Result<u64> {
    figure(&fs::read_to_string("/proc/meminfo")?, "MemAvailable:").context("a host has memory")
}

fn figure(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Virtual machines of a process's descendants.
fn machines(of: u32) -> anyhow::Result<usize> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(process) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // It may have ended this moment.
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        if let Some(parent) = figure(&status, "PPid:") {
            parents.push((process, u32::try_from(parent)?));
        }
    }
    let mut family = vec![of];
    let mut at = 0;
    while let Some(parent) = family.get(at).copied() {
        family.extend(
            parents
                .iter()
                .filter(|(_, of)| *of == parent)
                .map(|(process, _)| *process),
        );
        at += 1;
    }
    let mut found = 0;
    for process in family {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{process}/fd")) else {
            continue;
        };
        let targets = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
        found += targets
            .filter(|target| target.as_os_str() == "anon_inode:kvm-vm")
            .count();
    }
    if found == 0 && family_is_hidden(of) {
        bail!("the node's processes are not to be looked into: run this as their user or as root");
    }
    Ok(found)
}

fn family_is_hidden(of: u32) -> bool {
    fs::read_dir(format!("/proc/{of}/fd")).is_err()
}

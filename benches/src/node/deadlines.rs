//! A real-time deployment beside cells that never stop computing: how many of its deadlines are met, and whether those cells share what is left as their
//! weights say.
//!
//! The floor of a deadline is the same call on the same node before the others begin.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::{Node, ask, children, connect, percentile, send};

/// How often the real-time deployment is called, and by when each call is to be answered.
const PERIOD: Duration = Duration::from_millis(10);
/// What it was promised. Twice as often as it is called: a call that came late, which a client's timer does, would else push all later ones on.
const PRIORITY: &str = "--priority=real-time:5000/1000";
/// Weights of the two deployments that compute.
const SHARES: [u32; 2] = [1, 3];
/// Calls under way before anything is measured: each has its cell by then.
const WARM_UP: Duration = Duration::from_secs(5);
/// The publisher may promise as much as a slot does, and cells touch little of what they may have.
const CONFIGURATION: &str =
    "[tenants.suite]\nreal_time_percent = 70\n[memory]\nbudget_bytes = 1099511627776\n";
const CALL: &str = "/v1/deployments/clockwork/call/echo";

/// What the deployment is measured beside, and for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub spinners: usize,
    /// As `cells.slots` of the configuration.
    pub slots: usize,
    pub time: Duration,
}

/// Measures, and prints the rows.
///
/// # Errors
/// When the node does not do as it should.
pub async fn measure(
    program: &Path,
    folder: &Path,
    trust_store: &Path,
    (echoes, acts): (&Path, &Path),
    Load {
        spinners,
        slots,
        time,
    }: Load,
) -> anyhow::Result<()> {
    let configuration = format!("[cells]\nslots = {slots}\n{CONFIGURATION}");
    let node = Node::start_with(program, folder, trust_store, &configuration)?;
    node.deploy(
        program,
        echoes,
        "clockwork",
        &[PRIORITY, "--cells", "1", "--keep-memory"],
    )?;
    let mut client = connect(&node.socket).await?;
    for _ in 0..100 {
        ask(&mut client, CALL).await?;
    }
    let mut alone = periods(&node, time).await?;
    let each = spinners.div_ceil(SHARES.len());
    let mut workers = Vec::new();
    for shares in SHARES {
        let before = of_nursery(&node)?;
        let (name, cells) = (format!("spins-{shares}"), each.to_string());
        let priority = format!("--priority=fair:{shares}");
        node.deploy(program, acts, &name, &[&priority, "--cells", &cells])?;
        for _ in 0..each {
            let mut client = connect(&node.socket).await?;
            let path = format!("/v1/deployments/{name}/call/spin");
            // They end with the node.
            tokio::spawn(async move { send(&mut client, "POST", &path, vec![0x80]).await });
        }
        tokio::time::sleep(WARM_UP).await;
        let mut new = of_nursery(&node)?;
        new.retain(|process| !before.contains(process));
        ensure!(
            new.len() == 1,
            "{name} has {} workers: fewer cells, please",
            new.len()
        );
        workers.extend(new);
    }
    let before = computed(&workers)?;
    let mut beside = periods(&node, time).await?;
    let after = computed(&workers)?;

    println!("a call each 10 ms, microseconds       median      p99      max   deadlines met");
    for (name, samples) in [
        ("alone", &mut alone),
        (&format!("beside {} cells that spin", each * 2), &mut beside),
    ] {
        let met = samples.iter().filter(|taken| **taken <= PERIOD).count();
        println!(
            "  {name:<34} {:>8.0} {:>8.0} {:>8.0}   {:.2} % of {}",
            percentile(samples, 50),
            percentile(samples, 99),
            percentile(samples, 100),
            percent(met, samples.len()),
            samples.len()
        );
    }
    // Connections that nobody uses for a while are closed.
    let mut client = connect(&node.socket).await?;
    let late = send(&mut client, "GET", "/v1/stats", Vec::new()).await?;
    let late: serde_json::Value = serde_json::from_slice(&late)?;
    println!(
        "  {:<34} {:>8}",
        "jobs that the scheduler calls late", late["tenants"]["suite"]["late"]
    );
    let had: Vec<u64> = before
        .iter()
        .zip(&after)
        .map(|(before, after)| after - before)
        .collect();
    println!("processor time of the cells that spin    ticks    share   wanted");
    let all = had.iter().sum::<u64>();
    for (shares, had) in SHARES.iter().zip(&had) {
        println!(
            "  weight {shares:<30} {had:>8} {:>6.1} % {:>6.1} %",
            percent(usize::try_from(*had)?, usize::try_from(all)?),
            percent(
                usize::try_from(*shares)?,
                usize::try_from(SHARES.iter().sum::<u32>())?
            )
        );
    }
    Ok(())
}

/// Calls at each period's beginning; how long after it the answer was there. A call that is later than its period takes the next ones with it: their
/// times count from when they should have been made.
async fn periods(node: &Node, time: Duration) -> anyhow::Result<Vec<Duration>> {
    let mut client = connect(&node.socket).await?;
    let (begun, mut samples) = (Instant::now(), Vec::new());
    let mut at = begun;
    while at - begun < time {
        at += PERIOD;
        tokio::time::sleep_until(at.into()).await;
        ask(&mut client, CALL).await?;
        samples.push(at.elapsed());
    }
    Ok(samples)
}

/// The node's workers.
fn of_nursery(node: &Node) -> anyhow::Result<Vec<u32>> {
    let nursery = children(node.process.id())?;
    let nursery = nursery.first().context("a node has a nursery")?;
    children(*nursery)
}

/// Processor time of processes in ticks, guests included (proc_pid_stat(5), `utime` and `stime`).
fn computed(processes: &[u32]) -> anyhow::Result<Vec<u64>> {
    let of = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
        let (_, fields) = stat.rsplit_once(')').context("a process has a name")?;
        let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
        let mut next = || {
            times
                .next()
                .context("a process has used time")?
                .map_err(anyhow::Error::from)
        };
        Ok(next()? + next()?)
    };
    processes.iter().map(of).collect()
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn percent(part: usize, of: usize) -> f64 {
    100.0 * part as f64 / of as f64
}

//! How the node is: whether it takes calls, and what is not as it should be although it does.
//!
//! What can be seen at once is looked at when somebody asks. The nursery, the TPM and the file systems are looked at all the time instead, because
//! each may not answer.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::statvfs;
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};
use utoipa::ToSchema;

use crate::line::Rest;
use crate::memory::HostMemory;
use crate::node::Node;
use crate::relief::rest;

/// How often nursery and file systems are looked at.
const EACH: Duration = Duration::from_secs(2);
/// How long the nursery may leave a question unanswered: a large bundle takes it a while.
const NURSERY_PATIENCE: Duration = Duration::from_secs(10);
/// So many failures of a worker in a row are no accident.
const FAILURES: u32 = 2;
/// Most deployments that a message names.
const NAMED_MAX: usize = 8;

/// How the node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// That it answers at all.
    pub live: bool,
    /// Whether it takes calls.
    pub ready: bool,
    /// What is not as it should be.
    pub degraded: Vec<Degradation>,
    /// Memory that is given out.
    #[serde(default)]
    pub memory: MemoryShown,
}

/// Memory that is given out, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MemoryShown {
    /// That cells and workers may have at once.
    pub budget_bytes: u64,
    /// That they may take now.
    pub taken_bytes: u64,
    /// That all deployments may take with every cell that they may have.
    pub promised_bytes: u64,
    /// What becomes of cells that nobody calls on this host: `swap` or `drop`.
    pub idle_cells: String,
}

impl MemoryShown {
    fn of(node: &Node) -> MemoryShown {
        let figures = node.memory().figures();
        MemoryShown {
            budget_bytes: figures.budget,
            taken_bytes: figures.taken,
            promised_bytes: figures.promised,
            idle_cells: match rest(&HostMemory::look()) {
                Rest::Asleep => "swap",
                Rest::Dropped => "drop",
            }
            .to_owned(),
        }
    }
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Degradation {
    /// A stable name for machines, one of those in `docs/operating.md`.
    pub name: String,
    /// What, where and what to do.
    pub message: String,
}

/// The audit log took no record.
const LOG: &str = "log-not-written";
/// The nursery does not answer.
const NURSERY: &str = "nursery-silent";
/// Workers fail again and again.
const WORKERS: &str = "worker-back-off";
/// The file system of the state is nearly full.
const STATE_DISK: &str = "state-disk-nearly-full";
/// The file system of the audit log is nearly full.
const LOG_DISK: &str = "log-disk-nearly-full";

/// The budget of memory is nearly given out.
const MEMORY: &str = "memory-nearly-out";

/// The host's TPM does not serve.
const TPM: &str = "tpm-not-serving";

/// All names that a [`Degradation`] may have.
pub(crate) const NAMES: [&str; 7] = [LOG, NURSERY, WORKERS, STATE_DISK, LOG_DISK, MEMORY, TPM];

/// What is looked at all the time.
#[derive(Debug, Default)]
pub(crate) struct Watch(Mutex<Seen>);

#[derive(Debug, Clone, Default)]
struct Seen {
    /// Since when a question to the nursery has had no answer.
    asked: Option<Instant>,
    /// Why the nursery gave none.
    refused: Option<String>,
    /// Why the TPM does not serve.
    tpm: Option<String>,
    disks: Disks,
}

/// The file systems that the node writes to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Disks {
    /// Of the state; none when it cannot be told.
    pub state: Option<Disk>,
    /// Of the audit log.
    pub log: Option<Disk>,
}

/// A file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Disk {
    /// That the node may still take.
    pub free: u64,
    /// Altogether.
    pub size: u64,
}

impl Watch {
    /// The file systems, as they were when they were last looked at.
    pub(crate) fn disks(&self) -> Disks {
        self.lock().disks
    }

    /// Why the TPM does not serve, as it was looked at last.
    pub(crate) fn tpm(&self) -> Option<String> {
        self.lock().tpm.clone()
    }

    pub(crate) fn set_tpm(&self, trouble: Option<String>) {
        self.lock().tpm = trouble;
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Health {
    /// How this node is now.
    pub(crate) fn of(node: &Node) -> Health {
        let seen = node.watch().lock().clone();
        let mut degraded = Vec::new();
        let mut say = |name: &str, message: String| {
            degraded.push(Degradation {
                name: name.to_owned(),
                message,
            });
        };
        let config = node.config();
        if let Some(why) = node.audit().trouble() {
            let file = config.audit.file.display();
            say(
                LOG,
                format!("the audit log {file} took no record, so nothing can run: {why}"),
            );
        }
        if let Some(why) = silence(&seen, Instant::now()) {
            say(
                NURSERY,
                format!("{why}; no worker can be started; restart the node"),
            );
        }
        if let Some(why) = &seen.tpm {
            say(
                TPM,
                format!(
                    "{why}; what was measured goes on, nothing new is deployed, and there is no evidence"
                ),
            );
        }
        let failing: Vec<(String, u32)> = node
            .deployments()
            .iter()
            .map(|deployment| (deployment.name.clone(), deployment.failures()))
            .filter(|(_, failures)| *failures >= FAILURES)
            .collect();
        if !failing.is_empty() {
            say(WORKERS, back_off(&failing));
        }
        let least = config.health.free_bytes;
        for (name, disk, path) in [
            (STATE_DISK, seen.disks.state, &config.state),
            (LOG_DISK, seen.disks.log, &config.audit.file),
        ] {
            if let Some(disk) = disk.filter(|disk| disk.free < least) {
                let path = path.display();
                let free = disk.free;
                say(
                    name,
                    format!("{free} bytes are free for {path}, less than health.free_bytes = {least}"),
                );
            }
        }
        if node.memory().is_near_end() {
            let figures = node.memory().figures();
            say(
                MEMORY,
                format!(
                    "cells may take {} of the {} bytes of memory.budget_bytes, so those that nobody calls make room; \
                     raise the budget, or give deployments fewer cells",
                    figures.taken, figures.budget
                ),
            );
        }
        Health {
            live: true,
            ready: !node.is_draining(),
            degraded,
            memory: MemoryShown::of(node),
        }
    }
}

/// Why the nursery counts as silent, if it does.
fn silence(seen: &Seen, now: Instant) -> Option<String> {
    if let Some(why) = &seen.refused {
        return Some(format!("the nursery does not answer: {why}"));
    }
    let since = now.saturating_duration_since(seen.asked?);
    (since > NURSERY_PATIENCE).then(|| format!("the nursery has not answered for {} s", since.as_secs()))
}

fn back_off(failing: &[(String, u32)]) -> String {
    let named: Vec<String> = failing
        .iter()
        .take(NAMED_MAX)
        .map(|(name, failures)| format!("{name} ({failures} times in a row)"))
        .collect();
    let more = match failing.len().saturating_sub(NAMED_MAX) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "workers fail and are replaced later and later: {}{more}; see the journal",
        named.join(", ")
    )
}

/// Looks at the file systems once.
pub(crate) async fn look(node: &Node) {
    let config = node.config().clone();
    let look = move || Disks {
        state: disk(&config.state),
        log: disk(&config.audit.file),
    };
    if let Ok(disks) = tokio::task::spawn_blocking(look).await {
        node.watch().lock().disks = disks;
    }
}

/// Looks at nursery and file systems for as long as the service lives.
pub(crate) async fn watch(node: Node) {
    // One that hangs must not keep the other from being looked at.
    tokio::join!(watch_disks(&node), watch_nursery(&node), node.watch_tpm());
}

async fn watch_disks(node: &Node) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        look(node).await;
    }
}

async fn watch_nursery(node: &Node) {
    let mut ticks = ticks();
    loop {
        ticks.tick().await;
        node.watch().lock().asked = Some(Instant::now());
        let answer = node.nursery().greet().await;
        let mut seen = node.watch().lock();
        seen.asked = None;
        seen.refused = answer.err().map(|error| error.with_causes());
    }
}

fn ticks() -> Interval {
    let mut ticks = tokio::time::interval(EACH);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn disk(path: &Path) -> Option<Disk> {
    let found = statvfs(path).ok()?;
    Some(Disk {
        // What is kept for root (statvfs(3)) does not count.
        free: found.f_bavail.saturating_mul(found.f_frsize),
        size: found.f_blocks.saturating_mul(found.f_frsize),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nursery_is_silent_when_it_refuses_or_takes_too_long() {
        let now = Instant::now();
        let asked = |ago: Duration| Seen {
            asked: now.checked_sub(ago),
            ..Seen::default()
        };
        assert_eq!(silence(&Seen::default(), now), None);
        assert_eq!(silence(&asked(NURSERY_PATIENCE), now), None);
        let late = silence(&asked(NURSERY_PATIENCE + Duration::from_secs(2)), now);
        assert_eq!(late.as_deref(), Some("the nursery has not answered for 12 s"));
        let refused = Seen {
            refused: Some("broken pipe".into()),
            ..Seen::default()
        };
        assert!(silence(&refused, now).is_some_and(|why| why.ends_with("broken pipe")));
    }

    #[test]
    fn a_message_names_some_and_counts_the_rest() {
        let all: Vec<(String, u32)> = (0..10).map(|number| (format!("d{number}"), 3)).collect();
        let message = back_off(&all);
        assert!(message.contains("d0 (3 times in a row), d1"), "{message}");
        assert!(
            message.contains(" and 2 more;") && !message.contains("d8"),
            "{message}"
        );
    }

    #[test]
    fn a_file_system_has_a_size_and_a_path_that_is_not_there_has_none() {
        let here = disk(Path::new("/")).expect("is there");
        assert!(here.free <= here.size && here.size > 0);
        assert_eq!(disk(Path::new("/nothing/there")), None);
    }
}

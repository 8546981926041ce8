//! Resource limits, soft and hard alike, so that they cannot be raised again.

use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::report::Limit;

/// What the cell's process needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitConfig {
    /// How many descriptors it may open beyond those it keeps.
    pub more_descriptors: u64,
    /// How many threads it may have, the first one counted.
    pub threads: u64,
    /// The largest size in bytes to which it may write any file, the audit log included; `None`: not limited.
    pub file_bytes: Option<u64>,
}

/// Applies the limits that every host allows. `first_free` is one above the highest descriptor kept.
pub(crate) fn apply(config: LimitConfig, first_free: u64) -> Result<Vec<Limit>, Errno> {
    let mut limits = vec![
        (Resource::Core, "core", 0),
        // The limit is on descriptor numbers, not on how many are open (getrlimit(2)).
        (
            Resource::Nofile,
            "open-files",
            first_free.saturating_add(config.more_descriptors),
        ),
        (Resource::Memlock, "locked-memory", 0),
        (Resource::Msgqueue, "message-queues", 0),
    ];
    if let Some(bytes) = config.file_bytes {
        limits.push((Resource::Fsize, "file-size", bytes));
    }
    limits
        .into_iter()
        .map(|(resource, name, value)| set(resource, name, value))
        .collect()
}

/// Limits the number of threads.
///
/// Meaningful only in a user namespace of its own: elsewhere the kernel counts every process of the
/// user, so that a small number would forbid our own threads.
pub(crate) fn apply_threads(config: LimitConfig) -> Result<Limit, Errno> {
    set(Resource::Nproc, "threads", config.threads)
}

/// Sets a limit to a value, or to the hard limit in force if that is lower: an unprivileged process cannot raise it.
fn set(resource: Resource, name: &'static str, wanted: u64) -> Result<Limit, Errno> {
    let hard = rustix::process::getrlimit(resource).maximum;
    let value = hard.map_or(wanted, |hard| hard.min(wanted));
    setrlimit(
        resource,
        Rlimit {
            current: Some(value),
            maximum: Some(value),
        },
    )?;
    Ok(Limit {
        resource: name,
        value,
    })
}

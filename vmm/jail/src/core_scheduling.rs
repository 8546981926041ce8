//! Core scheduling: a process with a cookie shares a core's threads at one moment with none that has another cookie, or none.
//!
//! The kernel keeps the cookie with each thread of the process (`PR_SCHED_CORE`, prctl(2)), and gives it to those that are made later. One that is
//! made here is no other process's, so not even two workers of one publisher run beside each other on a core.

use rustix::io::Errno;
use rustix::process::getpid;
use rustix::thread::{CoreSchedulingScope, core_scheduling_cookie, create_core_scheduling_cookie};

use crate::side_channels::Lacking;

/// Whether there is a choice at all: `EINVAL` from a kernel that is built without it, `ENODEV` where no core has two threads.
pub(crate) fn offered() -> Result<(), Lacking> {
    match cookie() {
        // There is nobody to share a core with.
        Err(Errno::NODEV) => Ok(()),
        other => other.map(drop).map_err(refused("PR_SCHED_CORE_GET")),
    }
}

/// Gives the calling process a cookie of its own, and looks whether it has one.
pub(crate) fn apply() -> Result<(), Lacking> {
    offered()?;
    match create_core_scheduling_cookie(getpid(), CoreSchedulingScope::ThreadGroup) {
        Err(Errno::NODEV) => return Ok(()),
        other => other.map_err(refused("PR_SCHED_CORE_CREATE"))?,
    }
    match cookie().map_err(refused("PR_SCHED_CORE_GET"))? {
        0 => Err(Lacking::NotSeen),
        _ => Ok(()),
    }
}

fn cookie() -> Result<u64, Errno> {
    core_scheduling_cookie(getpid(), CoreSchedulingScope::Thread)
}

fn refused(call: &'static str) -> impl FnOnce(Errno) -> Lacking {
    move |errno| Lacking::Refused { call, errno }
}

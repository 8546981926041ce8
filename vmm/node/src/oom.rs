//! Whom the kernel ends first when memory is out (proc_pid_oom_score_adj(5)): workers, before anybody else on the host.
//!
//! Raising a process's score needs no privilege; lowering it does, so supervisor and nursery have what the service manager gave them
//! (`OOMScoreAdjust=`). A control group with `memory.oom.group` ends all of the service at once instead; the packaged unit sets `OOMPolicy=continue`.

use std::fs;

use crate::error::{NodeError, OrHost};

/// Before all others.
const FIRST: i32 = 1000;
const FILE: &str = "/proc/self/oom_score_adj";

/// Makes the calling process the first to go, and looks whether it is.
///
/// # Errors
/// [`NodeError::Host`].
pub(crate) fn go_first() -> Result<(), NodeError> {
    let doing = "having the kernel end workers first when memory is out";
    fs::write(FILE, FIRST.to_string()).or_host(doing)?;
    let found = fs::read_to_string(FILE).or_host(doing)?;
    if found.trim() == FIRST.to_string() {
        return Ok(());
    }
    Err(NodeError::host(
        "having the kernel end workers first when memory is out",
    )(format!("{FILE} is {} and not {FIRST}", found.trim())))
}

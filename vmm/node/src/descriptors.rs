//! Open files: each worker has two lines, each client a connection. The usual limit of 1024 is for programs that use select(2).

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises this process's limit as far as it may, and gives what it is. What is forked inherits it; workers lower theirs.
pub(crate) fn raise_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // It goes on with what it has.
        Err(_) => limit.current,
    }
}

//! `referee-tpm`: the one process that speaks to the host's TPM, on behalf of `referee-vmm`, which starts it, asks, and ends it.
//!
//! It is a process of its own because a TPM may stall, because its library is large and in C, and because no run without a TPM should
//! pay for linking it (docs/adr/0015-tpm-process.md). It reads requests from standard input and writes replies to standard output;
//! their form is `vmm/attest/src/protocol.rs`.
//!
//! ```text
//!   service ─► session ┬─► measure     log, flush, extend        ─► state   files, locked
//!                      ├─► vault       keys of the epoch, floors ─► esys    the library  ─► TPM
//!                      ├─► statements  evidence, receipts           software: swtpm, started and put to sleep
//!                      ├─► checkpoints of audit logs
//!                      └─► enrolment: endorsement key, its certificates, a verifier's challenge
//! ```
// Unsafe code is allowed where the C library is called: in `esys.rs` and where the TPM's commands are.
#![deny(unsafe_code)]

mod checkpoints;
mod commands;
mod enrolment;
mod error;
#[allow(unsafe_code)]
mod esys;
mod floors;
mod ladder;
mod measure;
mod muscle_state;
#[allow(unsafe_code)]
mod nv;
#[allow(unsafe_code)]
mod objects;
mod opening_policy;
#[allow(unsafe_code)]
mod quotes;
mod recovery;
#[allow(unsafe_code)]
mod registers;
mod sealed_file;
mod service;
mod session;
mod software;
mod state;
mod statements;
mod states;
mod templates;
mod vault;
mod watch;

use std::fs::File;
use std::os::fd::AsFd;
use std::process::ExitCode;

/// Keeps keys out of core dumps, out of other processes of the same user, and, as far as this process may lock memory, out of swap.
fn hide() {
    use rustix::mm::{MlockAllFlags, mlockall};
    use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    // None of these is needed for anything else to be right, and a host may forbid the last.
    let _ = setrlimit(Resource::Core, none);
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE);
}

fn unbuffered(stream: impl AsFd) -> std::io::Result<File> {
    stream.as_fd().try_clone_to_owned().map(File::from)
}

fn main() -> ExitCode {
    if std::env::args_os().len() > 1 {
        eprintln!("referee-tpm takes no arguments: referee-vmm starts it. See referee-vmm tpm --help");
        return ExitCode::from(2);
    }
    // Before memory is locked, which a thread would have to have some of.
    watch::start();
    hide();
    // The library's own streams keep what passes in buffers.
    let streams = unbuffered(std::io::stdin()).and_then(|input| Ok((input, unbuffered(std::io::stdout())?)));
    match streams.and_then(|(input, output)| service::serve(input, output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("referee-tpm: {error}");
            ExitCode::FAILURE
        }
    }
}

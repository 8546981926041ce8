//! `referee-verify`: the relying party's program. It has no TPM library, opens no device and no socket, and believes nothing that
//! it did not check.
#![forbid(unsafe_code)]

mod checkpoint;
mod cli;
mod enrolment;
mod evidence;
mod log;
mod receipt;
mod replay;
mod seal;
mod voucher;
mod witness;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

/// Everything that was checked holds.
const HOLDS: u8 = 0;
/// Something does not hold.
const FAILS: u8 = 1;
/// Nothing was checked: wrong command line, or a file that cannot be read.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed the same way as errors, but are none.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { HOLDS });
        }
    };
    let result = match cli.command {
        Command::Evidence(args) => evidence::run(&args),
        Command::Receipt(args) => receipt::run(&args),
        Command::Log(args) => log::run(&args),
        Command::Inclusion(args) => checkpoint::inclusion(&args),
        Command::Consistency(args) => checkpoint::consistency(&args),
        Command::Challenge(args) => enrolment::challenge(&args),
        Command::Enrolled(args) => enrolment::enrolled(&args),
        Command::RecoveryKey { secret } => seal::make_recovery_key(&secret),
        Command::Witness(args) => witness::run(&args),
        Command::WitnessKey { name, secret } => witness::make_key(&name, &secret),
    };
    match result {
        Ok(true) => ExitCode::from(HOLDS),
        Ok(false) => ExitCode::from(FAILS),
        Err(error) => {
            eprintln!("referee-verify: {error:#}");
            ExitCode::from(USAGE)
        }
    }
}

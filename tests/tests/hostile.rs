//! The hostile suite: one test for each file below `guests/`.
//!
//! `REFEREE_TEST_PREPARE=DIR` makes it write everything that a machine without a compiler needs, and end.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial as Test};
use referee_tests::{Flavour, Program, Trial, Workshop};

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the hostile suite cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::from_args();
    let workshop = Workshop::open(Path::new(env!("CARGO_TARGET_TMPDIR")))?;
    if let Some(target) = std::env::var_os("REFEREE_TEST_PREPARE") {
        let count = workshop.prepare(Path::new(&target))?;
        println!("{count} guests are in {}", Path::new(&target).display());
        return Ok(ExitCode::SUCCESS);
    }
    let mut guests = workshop.guests()?;
    // These are never alone: tests/rings and tests/node run them.
    guests.retain(|guest| guest.header.ring().is_none() && !guest.header.on_node);
    if arguments.list {
        let tests = guests
            .iter()
            .map(|guest| Test::test(test_name(guest), || Ok(())))
            .collect();
        return Ok(libtest_mimic::run(&arguments, tests).exit_code());
    }
    let trial = Arc::new(Trial {
        workshop,
        program: Program::locate()?,
        flavour: Flavour::probe()?,
    });
    let tests = guests
        .into_iter()
        .map(|guest| {
            let trial = Arc::clone(&trial);
            Test::test(test_name(&guest), move || {
                trial.judge(&guest).map_err(|error| format!("{error:#}").into())
            })
        })
        .collect();
    Ok(libtest_mimic::run(&arguments, tests).exit_code())
}

fn test_name(guest: &referee_tests::Guest) -> String {
    format!("{}::{}", guest.group, guest.name)
}

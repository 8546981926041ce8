//! `cargo muscle …`: the author's tool at the command line.
#![forbid(unsafe_code)]

use std::io::Write as _;
use std::process::ExitCode;

use cargo_muscle::commands::{Arguments, run};
use clap::Parser as _;

fn main() -> ExitCode {
    // Cargo runs `cargo-muscle muscle …` for `cargo muscle …`.
    let mut arguments: Vec<_> = std::env::args_os().collect();
    if arguments.get(1).is_some_and(|first| first == "muscle") {
        arguments.remove(1);
    }
    match run(&Arguments::parse_from(arguments).command) {
        Ok(text) => match std::io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            // Nobody reads any more, as with `| head`.
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

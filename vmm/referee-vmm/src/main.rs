//! `referee-vmm`: wires the stages together and holds no logic of its own.
//!
//! ```text
//!   cli ─► prepare::verified ─► prepare::decision ─► Confined::prepare ─► Confined::run ─► exit code
//!          bytes → VerifiedBundle   → Decision         open, measure         fork, confine, load, run, record
//! ```
#![forbid(unsafe_code)]

mod attest;
mod audit_show;
mod cli;
mod deploy;
mod doctor;
mod ending;
mod grants;
mod inspect;
mod measured;
mod node;
mod prepare;
mod run;
mod snapshots;
mod stream;
mod terminal;
mod top;
mod transparency;
mod values;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use hyper::Method;
use referee::confined::Task;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are printed the same way as errors, but are none.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { ending::USAGE } else { 0 });
        }
    };
    terminal::look();
    let json = match &cli.command {
        Command::Run(args) => args.cell.json,
        Command::Call(args) => args.cell.json,
        _ => false,
    };
    let result = match cli.command {
        Command::Run(args) => run::run(&args.bundle, &args.cell, &args.arguments, Task::Main),
        Command::Call(args) if args.deployment().is_some() => {
            let name = args.deployment().unwrap_or_default();
            match args.stream {
                true => stream::call(&args.host, name, &args),
                false => node::call(&args.host, name, &args),
            }
        }
        Command::Call(args) if args.stream => Err(node::no_node_to_stream()),
        Command::Call(args) if args.retry.is_some() => Err(node::no_node_to_retry()),
        Command::Call(args) => values::read_arguments(&args.arguments).and_then(|payload| {
            run::run(
                &args.bundle,
                &args.cell,
                &[],
                Task::Call {
                    function: args.function,
                    payload,
                },
            )
        }),
        Command::Explain(args) => inspect::explain(&args),
        Command::Doctor(args) => doctor::examine(args.json),
        Command::Audit(args) => transparency::audit(&args),
        Command::Attest(args) => attest::attest(&args),
        Command::Tpm(args) => attest::tpm(&args),
        Command::Serve(args) => node::serve(&args),
        Command::Config(args) => node::config(&args.action),
        Command::Deploy(args) => deploy::deploy(&args),
        Command::Pipeline(args) => deploy::pipeline(&args.action),
        Command::Ps(args) => node::ps(&args),
        Command::Top(args) => top::top(&args),
        Command::Grants(args) => grants::grants(&args),
        Command::Logs(args) => node::logs(&args),
        Command::Pause(args) => node::act(Method::POST, &args, "pause"),
        Command::Resume(args) => node::act(Method::POST, &args, "resume"),
        Command::Kill(args) => node::act(Method::POST, &args, "kill"),
        Command::Snapshot(args) => snapshots::keep(&args),
        Command::Snapshots(args) => snapshots::snapshots(&args),
        Command::Remove(args) => node::act(Method::DELETE, &args, ""),
        Command::Reload(args) => node::reload(&args),
        Command::Version => inspect::version(),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "referee-vmm", &mut script);
            inspect::write_out(&script)
        }
        Command::Man => manual(),
    };
    let _ = std::io::stdout().flush();
    ExitCode::from(result.unwrap_or_else(|error| ending::of_error(&error, json)))
}

fn manual() -> anyhow::Result<u8> {
    let mut page = Vec::new();
    let command = Cli::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let man = clap_mangen::Man::new(sub.clone().bin_name(format!("referee-vmm {}", sub.get_name())));
        man.render_name_section(&mut page)?;
        man.render_description_section(&mut page)?;
        man.render_options_section(&mut page)?;
        man.render_extra_section(&mut page)?;
    }
    inspect::write_out(&page)
}

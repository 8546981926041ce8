//! A program that runs a muscle's `main` in a confined process of its own, and says how it ended.
//!
//!     cargo run -p referee --example confined -- trust.store hello.muscle world

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use referee::confined::{Conclusion, Confined, Options, Report, Task};
use referee::{Authority, ConsoleStreams, Inputs, Outcome, ReadLimits, StartError};

struct Say;

impl Report for Say {
    fn conclude(&self, end: Result<Conclusion, StartError>) -> u8 {
        match end.map(|conclusion| conclusion.outcome) {
            Ok(Outcome::Exited(code)) => {
                eprintln!("it exited with {code}");
                code
            }
            Ok(Outcome::Faulted(report)) => {
                eprintln!("it broke a rule: {}", report.fault);
                102
            }
            Ok(Outcome::Answered | Outcome::Stopped) => 105,
            Err(error) => {
                eprintln!("{}", error.with_causes());
                104
            }
        }
    }
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [trust_store, bundle, ..] = &arguments[..] else {
        return Err("confined TRUST_STORE BUNDLE ARGUMENT…".into());
    };
    let authority = Authority::read(Path::new(trust_store), &[], ReadLimits::default())?;
    let verified = Arc::new(authority.verify_file(Path::new(bundle))?);
    let decision = authority.decide(&verified, &[])?;
    let inputs = Inputs {
        // The first is the program's name, which here is the bundle.
        arguments: arguments
            .iter()
            .skip(1)
            .map(|text| text.clone().into_bytes())
            .collect(),
        console: ConsoleStreams::stdio()?,
        ..Inputs::default()
    };
    let options = Options::new("confined-audit.jsonl");
    let confined = Confined::prepare(verified, &decision, Task::Main, inputs, options, None)?;
    // The process must have one thread here: this is where it forks.
    let ended = confined.run(&Say)?;
    Ok(ExitCode::from(ended.code))
}

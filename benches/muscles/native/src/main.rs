//! `native WORK COUNT`: the time of each of COUNT repetitions in nanoseconds, one a line; for none, what is computed.
#![forbid(unsafe_code)]

use std::process::ExitCode;
use std::time::Instant;

use work::Work;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(name), Some(Ok(count))) = (
        arguments.next(),
        arguments.next().map(|count| count.parse::<u32>()),
    ) else {
        eprintln!("native: name the work and how many times it is to be done");
        return ExitCode::from(100);
    };
    let mut work = Work::new();
    let mut act = || match name.as_str() {
        "sha256" => Some(work.sha256()),
        "matmul" => Some(work.matmul()),
        "json" => work.json(),
        _ => None,
    };
    // The first touches the memory.
    let Some(result) = act() else {
        eprintln!("native: there is no work {name}, or it could not be done");
        return ExitCode::from(100);
    };
    if count == 0 {
        println!("{result}");
    }
    for _ in 0..count {
        let begun = Instant::now();
        let again = act();
        println!("{}", begun.elapsed().as_nanos());
        if again != Some(result) {
            eprintln!("native: {name} came to another result");
            return ExitCode::from(1);
        }
    }
    ExitCode::SUCCESS
}

//! As a command: one order in JSON on each line of standard input, one decision on each line of standard output,
//! totals on standard error. As a reactor: `check`, `limits`, `set_limit`, `exposure`.
#![no_std]
#![no_main]

use muscle::prelude::*;
use order_risk::Desk;

#[muscle::main]
fn main() -> muscle::Result<()> {
    let mut desk = Desk::default();
    let (mut accepted, mut total) = (0, 0);
    let mut out = String::new();
    for line in muscle::io::stdin().lines() {
        let line = line?;
        if line.trim().is_empty() {
            continue;
        }
        let decision = desk.check_line(&line);
        total += 1;
        accepted += usize::from(decision.accepted);
        out.push_str(&serde_json::to_string(&decision).map_err(|error| error.to_string())?);
        out.push('\n');
        if out.len() > ENOUGH {
            print!("{out}");
            out.clear();
        }
    }
    print!("{out}");
    eprintln!(
        "{total} orders, {accepted} accepted, {} refused",
        total - accepted
    );
    Ok(())
}

/// Bytes of decisions that are printed at a time: each print is one record in the host's log.
const ENOUGH: usize = 16 << 10;

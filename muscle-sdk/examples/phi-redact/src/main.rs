//! As a command: text on standard input, the same without identifiers on standard output, counts on standard error.
//! As a reactor: `redact`.
#![no_std]
#![no_main]

use muscle::prelude::*;
use phi_redact::redact_text;

#[muscle::main]
fn main() -> muscle::Result<()> {
    let text = muscle::io::stdin().read_to_string()?;
    let redacted = redact_text(&text).map_err(|error| error.to_string())?;
    print!("{}", redacted.text);
    eprintln!("{}", redacted.format.name());
    for (kind, count) in &redacted.counts {
        eprintln!("{count:6} {kind}");
    }
    Ok(())
}

//! Remembers from run to run what it is told: `memo` lists it, `memo WORDS…` adds a line.
#![no_std]
#![no_main]

use muscle::prelude::*;

#[muscle::main]
fn main() -> muscle::Result<()> {
    let mut notes = match muscle::state::load("notes")? {
        Some(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        None => String::new(),
    };
    let words = muscle::args();
    if !words.is_empty() {
        notes.push_str(&words.join(" "));
        notes.push('\n');
        muscle::state::save("notes", notes.as_bytes())?;
    }
    print!("{notes}");
    Ok(())
}

//! `thumbnail INPUT OUTPUT [LONGEST]`: makes a small PNG of a file in the slot `input`.
#![no_std]
#![no_main]

use muscle::prelude::*;

#[muscle::main]
fn main() -> muscle::Result<()> {
    let args = muscle::args();
    let (input, output, longest) = match &args[..] {
        [input, output] => (input, output, 256),
        [input, output, longest] => (input, output, parse(longest)?),
        _ => return Err("usage: thumbnail INPUT OUTPUT [LONGEST]".into()),
    };
    let file = muscle::fs::dir("input")?.read(input)?;
    let made = thumbnail::thumbnail(&file, longest).map_err(|error| format!("{input}: {error}"))?;
    muscle::fs::dir("output")?.write(output, &made.png)?;
    let ((width, height), (new_width, new_height)) = (made.before, made.after);
    println!(
        "{input}: {width}x{height}, {} bytes -> {output}: {new_width}x{new_height}, {} bytes",
        file.len(),
        made.png.len()
    );
    Ok(())
}

fn parse(text: &str) -> muscle::Result<usize> {
    match text.parse() {
        Ok(longest) if (1..=4096).contains(&longest) => Ok(longest),
        _ => Err(format!("the longest side is a number from 1 to 4096, not `{text}`").into()),
    }
}

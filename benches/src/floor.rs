//! The floors, from `benches/floor/floor.c`, which shares no code with Referee.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

/// Runs one floor; the times are nanoseconds.
pub fn measure(program: &Path, mode: &str, count: usize) -> anyhow::Result<Vec<f64>> {
    let output = Command::new(program)
        .args([mode, &count.to_string()])
        .output()
        .with_context(|| program.display().to_string())?;
    ensure!(
        output.status.success(),
        "the floor {mode} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(line.parse()?)).collect()
}

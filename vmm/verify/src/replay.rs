//! Running something again: `referee-vmm` on this machine, in a cell like any other, says what the run was.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use referee_attest::Facts;
use referee_evidence::Repeated;

/// Codes of `referee-vmm` from which on nothing of the muscle ended: usage, rejected. A fault is an outcome like another.
const NOTHING_RAN: [i32; 3] = [100, 101, 104];

/// Runs a command of `referee-vmm` and gives what is compared of the run.
///
/// # Errors
/// When it is neither `run` nor `call`, or nothing ran.
pub fn run_again(command: &[OsString]) -> anyhow::Result<Repeated> {
    let (verb, words) = command.split_first().context("a command after --")?;
    if verb != "run" && verb != "call" {
        bail!("{} cannot be replayed: `run` or `call` can", verb.display());
    }
    let folder = tempfile::tempdir().context("a folder for the replay")?;
    let transcript = folder.path().join("transcript");
    let program = program()?;
    let status = Command::new(&program)
        .arg(verb)
        .arg("--transcript")
        .arg(&transcript)
        .args(words)
        // A log of its own: this machine's is no concern of the replay.
        .env("REFEREE_AUDIT", folder.path().join("audit.jsonl"))
        .stdout(Stdio::null())
        .status()
        .with_context(|| program.display().to_string())?;
    let text = match std::fs::read(&transcript) {
        Ok(text) if !status.code().is_some_and(|code| NOTHING_RAN.contains(&code)) => text,
        _ => bail!(
            "the replay did not run: {} ended with {status}",
            program.display()
        ),
    };
    let facts: Facts = serde_json::from_slice(&text).context("what referee-vmm says of the replay")?;
    Ok(Repeated {
        bundle: facts.bundle.digest,
        input: facts.input,
        output: facts.output,
        outcome: facts.outcome,
    })
}

/// The program beside this one. None is looked for elsewhere: what answers here decides what a receipt is compared with.
fn program() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()
        .map_err(|error| anyhow!("where this program lies: {error}"))?
        .with_file_name("referee-vmm");
    if !beside.exists() {
        bail!(
            "a replay needs {}: install referee-vmm in the same folder as this program",
            beside.display()
        );
    }
    Ok(beside)
}

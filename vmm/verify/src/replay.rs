//! Running something again: `referee-vmm` on this machine, in a cell like any other, says what the run was.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, anyhow, bail};
use referee_attest::Facts;
use referee_evidence::{Cost, Receipt};

/// Codes of `referee-vmm` from which on nothing of the muscle ended: usage, rejected. A fault is an outcome like another.
const NOTHING_RAN: [i32; 3] = [100, 101, 104];

/// Runs a command of `referee-vmm` and gives what the run was, in the form of a receipt that nobody signed.
///
/// # Errors
/// When it is neither `run` nor `call`, or nothing ran.
pub fn run_again(command: &[OsString]) -> anyhow::Result<Receipt> {
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
    Ok(unsigned(facts))
}

/// The program beside this one, or the one that is found.
fn program() -> anyhow::Result<PathBuf> {
    let name = "referee-vmm";
    let beside = std::env::current_exe()
        .map_err(|error| anyhow!("where this program lies: {error}"))?
        .with_file_name(name);
    Ok(if beside.exists() { beside } else { name.into() })
}

fn unsigned(facts: Facts) -> Receipt {
    Receipt {
        format: 1,
        muscle: facts.bundle.muscle,
        bundle: facts.bundle.digest,
        signer: facts.bundle.signer,
        security_epoch: facts.bundle.epoch,
        grants: facts.grants,
        policy: facts.policy,
        function: facts.function,
        input: facts.input,
        output: facts.output,
        outcome: facts.outcome,
        cost: Cost {
            wall_us: facts.wall_us,
            cpu_us: facts.cpu_us,
            exits: facts.exits,
            heap_bytes: facts.heap_bytes,
        },
        issued_at: 0,
        log_records: facts.log_records,
        log_hash: [0; 32],
        nondeterminism: facts.nondeterminism,
        epoch: 0,
    }
}

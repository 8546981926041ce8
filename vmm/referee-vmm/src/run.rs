//! `run` and `call` of a bundle: the library's stages in order, and what is printed at the end.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use referee::confined::{Conclusion, Confined, Ended, Options, Report, Task, record_refusal};
use referee::{BrokerLimits, ConsoleStreams, Inputs, Outcome, StartError};

use crate::cli::{BundleArgs, CellArgs};
use crate::measured::{HostIdentity, host_tpm};
use crate::{ending, prepare, values};

/// Verifies, decides, opens, measures, runs. None can be skipped, because each takes what the one before gave.
///
/// # Errors
/// When nothing ran, or there is no receipt of what did; how a muscle ended is printed.
pub fn run(
    bundle_args: &BundleArgs,
    args: &CellArgs,
    arguments: &[String],
    task: Task,
) -> anyhow::Result<u8> {
    let options = options(args);
    let recorded = |error: anyhow::Error| match error.downcast::<StartError>() {
        Ok(refused) => record_refusal(refused, &options).into(),
        Err(error) => error,
    };
    let (authority, bundle) = prepare::verified(bundle_args).map_err(recorded)?;
    let decision = prepare::decision(bundle_args, &authority, &bundle).map_err(recorded)?;
    let tpm = match &args.tpm.tpm {
        Some(_) => {
            let identity = HostIdentity::new(decision.policy_digest(), &authority)?;
            Some(host_tpm(&args.tpm, &identity)?)
        }
        None => None,
    };
    let inputs = inputs(&bundle_args.bundle, args, arguments)?;
    let confined = Confined::prepare(Arc::new(bundle), &decision, task, inputs, options, tpm)?;
    let ended = confined.run(&OnTerminal { json: args.json })?;
    write_down(&ended, args)?;
    Ok(ended.code)
}

fn options(args: &CellArgs) -> Options {
    Options {
        audit_sync: args.audit_sync,
        deadline_ms: args.deadline_ms,
        cpu_ms: args.cpu_ms,
        require_confinement: args.require_confinement,
        observed: args.transcript.is_some(),
        signed: args.receipt.is_some(),
        seccomp_without: args.seccomp_without.clone(),
        ..Options::new(&args.audit)
    }
}

fn inputs(bundle: &Path, args: &CellArgs, arguments: &[String]) -> anyhow::Result<Inputs> {
    let program = bundle.file_name().unwrap_or_default().to_string_lossy();
    let arguments = std::iter::once(program.as_ref()).chain(arguments.iter().map(String::as_str));
    Ok(Inputs {
        arguments: arguments.map(|text| text.as_bytes().to_vec()).collect(),
        environment: args
            .env
            .iter()
            .map(|(name, value)| (name.clone(), value.clone().into_bytes()))
            .collect(),
        console: ConsoleStreams::stdio().context("standard streams")?,
        limits: BrokerLimits {
            output_bytes: args.max_output_bytes,
            ..BrokerLimits::default()
        },
        ..Inputs::default()
    })
}

/// Writes what is to be had of the run.
fn write_down(ended: &Ended, args: &CellArgs) -> anyhow::Result<()> {
    if let (Some(path), Some(facts)) = (&args.transcript, &ended.facts) {
        let text = serde_json::to_vec(facts)?;
        std::fs::write(path, text).with_context(|| format!("transcript {}", path.display()))?;
    }
    if let Some(path) = &args.receipt
        && let Some(bytes) = ended
            .receipt()
            .context("the muscle has run, and there is no receipt of it")?
    {
        std::fs::write(path, bytes).with_context(|| format!("receipt {}", path.display()))?;
    }
    Ok(())
}

/// Says how a run ended, on standard output and standard error.
struct OnTerminal {
    json: bool,
}

impl Report for OnTerminal {
    fn conclude(&self, end: Result<Conclusion, StartError>) -> u8 {
        let Conclusion { outcome, answer } = match end {
            Ok(conclusion) => conclusion,
            Err(error) => return ending::of_error(&error.into(), self.json),
        };
        if let Some(answer) = answer {
            return values::print_answer(&answer, self.json);
        }
        match outcome {
            Outcome::Exited(code) => code,
            Outcome::Faulted(report) => ending::of_fault(&report, self.json),
            Outcome::Answered => 0,
            Outcome::Stopped => ending::STOPPED,
        }
    }

    fn tpm_failed(&self, why: &str) {
        eprintln!("referee-vmm: the TPM does not serve the muscle: {why}");
    }
}

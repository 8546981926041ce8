//! What this host is, and the TPM asked about it: identity, the measuring of a bundle before it runs, evidence.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use referee::confined::FILTERS;
use referee::{Authority, HostTpm, Registers, StartError, Tpm};
use referee_attest::{Answer, AttestError, Attester, Component, Reply, Request, from_hex};

use crate::cli::{AuthorityArgs, TpmArgs};

/// What this host is, as it is measured: made once, from what decided and not from what lies at its path by then.
#[derive(Debug)]
pub struct HostIdentity {
    components: Vec<Component>,
    trust_version: u64,
}

impl HostIdentity {
    /// Of this program, with what decides here; `policy` is the digest of the policies.
    ///
    /// # Errors
    /// Those of reading the programs.
    pub fn new(policy: [u8; 32], authority: &Authority) -> anyhow::Result<HostIdentity> {
        let trust = authority.trust_digest();
        Ok(HostIdentity {
            components: referee::identity(&program()?, &FILTERS, policy, trust)?,
            trust_version: authority.trust_version(),
        })
    }

    /// Its components, in the order in which they are measured.
    pub fn components(&self) -> &[Component] {
        &self.components
    }
}

/// Asks the TPM one thing.
///
/// # Errors
/// [`AttestError`], and those of reading what this host is.
pub fn ask(args: &TpmArgs, host: &HostIdentity, request: &Request) -> anyhow::Result<Reply> {
    answered(host_tpm(args, host)?.ask(request))
}

/// An answer; a refusal by a rule is one like those of bundles.
///
/// # Errors
/// [`StartError`], [`AttestError`].
pub fn answered(answer: Answer) -> anyhow::Result<Reply> {
    match answer {
        Err(AttestError::Rejected { rule, message }) => Err(StartError::Rejected {
            name: rule.name(),
            message,
        }
        .into()),
        answer => answer.context("TPM"),
    }
}

/// The TPM that the command line names, as this host asks it.
///
/// # Errors
/// When it names none.
pub fn host_tpm(args: &TpmArgs, host: &HostIdentity) -> anyhow::Result<HostTpm> {
    let tpm = Tpm {
        name: named(args)?.to_owned(),
        program: program()?,
        state: args.tpm_state.clone(),
        registers: Registers {
            identity: args.identity_pcr,
            muscles: args.muscle_pcr,
            allow_resettable: args.allow_resettable_registers,
        },
        counter: args.tpm_counter,
        patience: patience(args),
    };
    Ok(HostTpm::new(tpm, host.components.clone(), host.trust_version))
}

/// Asks for a document.
///
/// # Errors
/// As [`ask`].
pub fn ask_document(args: &TpmArgs, host: &HostIdentity, request: &Request) -> anyhow::Result<Vec<u8>> {
    match ask(args, host, request)? {
        Reply::Bytes { bytes } => {
            from_hex(&bytes).context("referee-tpm's answer is not in hexadecimal digits")
        }
        other => Err(unexpected(&other)),
    }
}

/// What another program would be measured as, asked of it.
///
/// # Errors
/// When it does not run, or is none of ours.
pub fn identity_of(program: &Path, authority: &AuthorityArgs) -> anyhow::Result<Vec<Component>> {
    let shown = program.display();
    let mut command = Command::new(program);
    command
        .args(["tpm", "identity", "--json", "--trust"])
        .arg(&authority.trust);
    for policy in &authority.policy {
        command.arg("--policy").arg(policy);
    }
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| shown.to_string())?;
    if !output.status.success() {
        bail!(
            "{shown} does not say what it would be measured as: {}",
            output.status
        );
    }
    serde_json::from_slice(&output.stdout)
        .with_context(|| format!("what {shown} says it would be measured as"))
}

/// Lets a software TPM start as after a reset.
///
/// # Errors
/// [`AttestError`]; a hardware TPM is refused.
pub fn restart(args: &TpmArgs) -> anyhow::Result<()> {
    let request = Request::Restart {
        tpm: named(args)?.to_owned(),
    };
    let mut attester = Attester::spawn(&program()?, patience(args)).context("TPM")?;
    attester.ask(&request).context("TPM")?;
    Ok(())
}

/// The stable name of a refusal by the TPM's process, if an error is one.
pub fn refusal_name(error: &anyhow::Error) -> Option<&str> {
    let refusals = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<AttestError>());
    refusals.map(AttestError::name).next()
}

/// What was answered makes no sense here.
pub fn unexpected(reply: &Reply) -> anyhow::Error {
    anyhow!("referee-tpm is of another version than this program: it answered {reply:?}")
}

/// The TPM that the command line names.
///
/// # Errors
/// When it names none.
pub fn named(args: &TpmArgs) -> anyhow::Result<&str> {
    args.tpm.as_deref().ok_or_else(|| {
        anyhow!(
            "no TPM is named: --tpm device:/dev/tpmrm0, or swtpm:DIR for one that is a program of this host"
        )
    })
}

fn patience(args: &TpmArgs) -> Duration {
    Duration::from_secs(args.tpm_patience)
}

/// The program that has the TPM, which lies beside this one.
fn program() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe().context("where this program lies")?;
    Ok(this.with_file_name("referee-tpm"))
}

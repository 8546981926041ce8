//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use referee_evidence::from_hex;

/// Checks what a Referee host says about itself.
#[derive(Debug, Parser)]
#[command(name = "referee-verify", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to check.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Check the evidence that `referee-vmm attest` wrote.
    #[command(after_help = EVIDENCE_EXAMPLES)]
    Evidence(EvidenceArgs),
    /// Check a receipt that `run` or `call` wrote, and compare it with another one of the same run.
    #[command(after_help = RECEIPT_EXAMPLES)]
    Receipt(ReceiptArgs),
    /// Check an audit log, and that nothing of it is missing that evidence or receipts know of.
    #[command(after_help = LOG_EXAMPLES)]
    Log(LogArgs),
}

/// `evidence`.
#[derive(Debug, Args)]
pub struct EvidenceArgs {
    /// The evidence.
    pub file: PathBuf,
    /// The nonce that you gave out, in hexadecimal digits. Give each out once.
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    pub nonce: Nonce,
    /// What you hold to be good, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub reference: PathBuf,
    /// Only when everything holds: seal the secret in this file to the key of the muscle that speaks in the evidence.
    #[arg(long, value_name = "FILE", requires = "sealed", requires = "to")]
    pub secret: Option<PathBuf>,
    /// Where the sealed secret goes, in hexadecimal digits.
    #[arg(long, value_name = "FILE", requires = "secret")]
    pub sealed: Option<PathBuf>,
    /// Name of the muscle that may have it.
    #[arg(long, value_name = "MUSCLE", requires = "secret")]
    pub to: Option<String>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
    /// Also write the parts as files that tpm2_checkquote and openssl read into this directory, which must not exist.
    #[arg(long, value_name = "DIR")]
    pub extract: Option<PathBuf>,
}

/// `receipt`.
#[derive(Debug, Args)]
pub struct ReceiptArgs {
    /// The receipt.
    pub file: PathBuf,
    /// Who vouches for it.
    #[command(flatten)]
    pub voucher: VoucherArgs,
    /// A receipt of the same bundle and input, run again, here or elsewhere: must have the same output. By whom it is signed is not
    /// checked.
    #[arg(long, value_name = "FILE")]
    pub replay: Option<PathBuf>,
    /// Print the findings and the receipt as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What says whose an instance key is.
#[derive(Debug, Args)]
pub struct VoucherArgs {
    /// Evidence of the host, which names its instance key; it is checked first.
    #[arg(
        long,
        value_name = "FILE",
        requires = "nonce",
        requires = "reference",
        conflicts_with = "instance_key"
    )]
    pub evidence: Option<PathBuf>,
    /// The nonce of that evidence.
    #[arg(long, value_name = "HEX", value_parser = nonce)]
    pub nonce: Option<Nonce>,
    /// What you hold to be good, a TOML file.
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// The instance key, in hexadecimal digits, when you know it from evidence that you checked earlier.
    #[arg(long, value_name = "HEX", required_unless_present = "evidence", value_parser = key)]
    pub instance_key: Option<Key>,
}

/// `log`.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// The audit log.
    pub file: PathBuf,
    /// Who vouches for what is known of the log.
    #[command(flatten)]
    pub voucher: VoucherArgs,
    /// A receipt by the same instance key: what it says of the log must be in it. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub receipt: Vec<PathBuf>,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A public key.
#[derive(Debug, Clone)]
pub struct Key(pub [u8; 32]);

fn key(text: &str) -> Result<Key, String> {
    let bytes = from_hex(text).and_then(|bytes| bytes.try_into().ok());
    bytes
        .map(Key)
        .ok_or_else(|| "an instance key has 64 hexadecimal digits".into())
}

/// A nonce of at least 16 bytes.
#[derive(Debug, Clone)]
pub struct Nonce(pub Vec<u8>);

fn nonce(text: &str) -> Result<Nonce, String> {
    match from_hex(text) {
        Some(bytes) if (16..=64).contains(&bytes.len()) => Ok(Nonce(bytes)),
        Some(bytes) => Err(format!("{} bytes; a nonce has 16 to 64", bytes.len())),
        None => Err("not hexadecimal digits".into()),
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  everything holds
  1  something does not hold; each line says what
  2  nothing was checked: wrong command line, or a file that cannot be read";

const EVIDENCE_EXAMPLES: &str = "\
Examples:
  nonce=$(openssl rand -hex 32)          # here; send it to the host
  referee-vmm attest --nonce $nonce …    # there
  referee-verify evidence host.evidence --nonce $nonce --reference reference.toml";

const RECEIPT_EXAMPLES: &str = "\
Examples:
  referee-vmm run --receipt first.receipt phi-redact.muscle < note.txt
  referee-verify receipt first.receipt --evidence host.evidence --nonce $nonce --reference reference.toml
  referee-vmm run --receipt second.receipt phi-redact.muscle < note.txt      # on a machine of your own
  referee-verify receipt first.receipt --instance-key 5b1c… --replay second.receipt";

const LOG_EXAMPLES: &str = "\
Examples:
  referee-verify log audit.jsonl --evidence host.evidence --nonce $nonce --reference reference.toml
  referee-verify log audit.jsonl --instance-key 5b1c… --receipt monday.receipt --receipt tuesday.receipt";

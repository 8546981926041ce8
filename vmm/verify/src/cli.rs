//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use referee_evidence::from_hex;
use referee_tlog::VerifierKey;

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
    /// Check that a record is in a published log, by a proof and without the log.
    #[command(after_help = INCLUSION_EXAMPLES)]
    Inclusion(InclusionArgs),
    /// Check that a published log has only grown from one checkpoint to another.
    Consistency(ConsistencyArgs),
    /// Check a host's endorsement certificate, and make a challenge that only its TPM can answer.
    #[command(after_help = CHALLENGE_EXAMPLES)]
    Challenge(ChallengeArgs),
    /// Compare the answer to a challenge, and print the host's attestation key for your reference.
    Enrolled(EnrolledArgs),
    /// Make an offline key for recovery, and print its public half.
    RecoveryKey {
        /// Where the secret goes; must not exist yet. Keep it away from the host.
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
    /// Be a witness: answer one request from standard input on standard output.
    #[command(after_help = WITNESS_EXAMPLES)]
    Witness(WitnessArgs),
    /// Make a witness's keys, and print the public ones.
    WitnessKey {
        /// The witness's name; by convention a URL without scheme.
        name: String,
        /// Where the secret goes; must not exist yet.
        #[arg(long, value_name = "FILE")]
        secret: PathBuf,
    },
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
    pub compare: Option<PathBuf>,
    /// Run it again here: what follows `--` is a command of `referee-vmm`, and standard input is the muscle's.
    #[arg(long, requires = "command")]
    pub replay: bool,
    /// Print the findings and the receipt as JSON.
    #[arg(long)]
    pub json: bool,
    /// `run` or `call`, with options, bundle and arguments.
    #[arg(last = true, value_name = "COMMAND", requires = "replay")]
    pub command: Vec<OsString>,
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
    /// A checkpoint: the log must begin with what it was made of. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub checkpoint: Vec<PathBuf>,
    /// What the TPM says about the last of the checkpoints.
    #[arg(long, value_name = "FILE", requires = "checkpoint", requires = "reference")]
    pub anchor: Option<PathBuf>,
    /// Who must have signed the checkpoints.
    #[command(flatten)]
    pub signers: SignerArgs,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Who must have signed a checkpoint, beside the instance key.
#[derive(Debug, Args)]
pub struct SignerArgs {
    /// The log's own keys as it publishes them: then its ML-DSA-44 key must have signed too.
    #[arg(long, value_name = "FILE")]
    pub log_keys: Option<PathBuf>,
    /// A witness's public key. May be given several times; all must have cosigned.
    #[arg(long, value_name = "KEY", value_parser = VerifierKey::parse)]
    pub witness: Vec<VerifierKey>,
}

/// `inclusion`.
#[derive(Debug, Args)]
pub struct InclusionArgs {
    /// The record: a line of the log.
    pub record: PathBuf,
    /// The proof that `referee-vmm audit prove` wrote.
    pub proof: PathBuf,
    /// Who vouches for the log.
    #[command(flatten)]
    pub voucher: VoucherArgs,
    /// Who must have signed.
    #[command(flatten)]
    pub signers: SignerArgs,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `consistency`.
#[derive(Debug, Args)]
pub struct ConsistencyArgs {
    /// The older checkpoint, which you checked when you got it: its signatures are not looked at again.
    pub old: PathBuf,
    /// The newer one.
    pub new: PathBuf,
    /// The published log, or a copy of its tiles.
    #[arg(long, value_name = "DIR")]
    pub tiles: PathBuf,
    /// Who vouches for the log.
    #[command(flatten)]
    pub voucher: VoucherArgs,
    /// Who must have signed the newer one.
    #[command(flatten)]
    pub signers: SignerArgs,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `challenge`.
#[derive(Debug, Args)]
pub struct ChallengeArgs {
    /// What `referee-vmm tpm enrol` wrote.
    pub request: PathBuf,
    /// Certificates of authorities that you trust to sign for TPMs, PEM. May be given several times.
    #[arg(long, value_name = "FILE", required = true)]
    pub ca: Vec<PathBuf>,
    /// Revocation list of an authority, DER or PEM. With any, each authority on the way must have one, and nothing on them is
    /// taken. May be given several times.
    #[arg(long, value_name = "FILE")]
    pub crl: Vec<PathBuf>,
    /// These authorities sign for TPMs that are programs; the key is listed as one of those.
    #[arg(long)]
    pub software: bool,
    /// Where the challenge for the host goes.
    #[arg(long, value_name = "FILE")]
    pub challenge: PathBuf,
    /// Where what you expect goes; keep it to yourself. Must not exist yet.
    #[arg(long, value_name = "FILE")]
    pub expect: PathBuf,
}

/// `enrolled`.
#[derive(Debug, Args)]
pub struct EnrolledArgs {
    /// What `challenge` wrote for you.
    pub expect: PathBuf,
    /// What the host answered, in hexadecimal digits.
    pub answer: String,
}

/// `witness`.
#[derive(Debug, Args)]
pub struct WitnessArgs {
    /// The secret that `witness-key` made.
    #[arg(long, value_name = "FILE")]
    pub secret: PathBuf,
    /// Directory in which it remembers how far it saw each log.
    #[arg(long, value_name = "DIR")]
    pub memory: PathBuf,
    /// A public key by which a log signs, its name being the log's. May be given several times, also for one log.
    #[arg(long, value_name = "KEY", required = true, value_parser = VerifierKey::parse)]
    pub log: Vec<VerifierKey>,
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
  # Again, on a machine of your own:
  referee-verify receipt first.receipt --instance-key 5b1c… --replay -- run --trust trust.store phi-redact.muscle < note.txt";

const LOG_EXAMPLES: &str = "\
Examples:
  referee-verify log audit.jsonl --evidence host.evidence --nonce $nonce --reference reference.toml
  referee-verify log audit.jsonl --instance-key 5b1c… --receipt monday.receipt --receipt tuesday.receipt
  referee-verify log audit.jsonl --evidence host.evidence --nonce $nonce --reference reference.toml \\
      --checkpoint published/checkpoint --anchor published/checkpoint.anchor --log-keys published/keys";

const INCLUSION_EXAMPLES: &str = "\
Examples:
  referee-vmm audit prove 120 --tiles published -o 120.tlog-proof         # there
  sed -n 121p audit.jsonl > record.json
  referee-verify inclusion record.json 120.tlog-proof --instance-key 5b1c… --log-keys published/keys";

const CHALLENGE_EXAMPLES: &str = "\
Examples:
  referee-vmm tpm enrol -o host.enrol                                                             # there
  referee-verify challenge host.enrol --ca maker.pem --challenge host.challenge --expect host.expect
  referee-vmm tpm activate host.challenge                                                         # there; prints the answer
  referee-verify enrolled host.expect 6f1c… >> reference.toml";

const WITNESS_EXAMPLES: &str = "\
Examples:
  referee-verify witness-key witness.example.com/w1 --secret witness.key > witness.pub
  referee-verify witness --secret witness.key --memory seen --log \"$(head -1 published/keys)\" < request

Exit codes:
  0  cosigned: the lines go into the checkpoint
  1  not cosigned: standard output has the answer, standard error its status (c2sp.org/tlog-witness)
  2  nothing was checked";

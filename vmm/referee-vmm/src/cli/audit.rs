//! The command line of `audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use referee_tlog::VerifierKey;

use crate::cli::{AuthorityArgs, HostArgs, TpmArgs};

/// `audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// What to do with the log.
    #[command(subcommand)]
    pub action: AuditAction,
}

/// What `audit` can do.
#[derive(Debug, Subcommand)]
pub enum AuditAction {
    /// Recompute every hash and check the chain.
    Verify {
        /// The log.
        file: PathBuf,
    },
    /// Print records of a node's log as they stand, for checking them elsewhere.
    Show(ShowArgs),
    /// Move all records so far into a file beside the log, and go on; cells that are running go on too.
    Rotate {
        /// The log.
        file: PathBuf,
    },
    /// Publish the log as a Merkle tree, and have its head signed by this host's keys and certified by its TPM.
    #[command(after_help = CHECKPOINT_EXAMPLES)]
    Checkpoint(CheckpointArgs),
    /// Write the proof that one record is in the published log.
    Prove {
        /// Number of the record, as its `seq` says.
        record: u64,
        /// Where the log is published.
        #[arg(long, value_name = "DIR")]
        tiles: PathBuf,
        /// Where the proof goes; standard output without it.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Write what a witness is to be asked: to cosign the newest checkpoint.
    WitnessRequest {
        /// Where the log is published.
        #[arg(long, value_name = "DIR")]
        tiles: PathBuf,
        /// How many records the witness saw last; it says so when it is another number.
        #[arg(long, value_name = "RECORDS", default_value_t = 0)]
        old: u64,
    },
    /// Add a witness's answer, from standard input, to the newest checkpoint.
    Cosign {
        /// Where the log is published.
        #[arg(long, value_name = "DIR")]
        tiles: PathBuf,
        /// A public key of the witness. May be given several times; all must have signed.
        #[arg(long, value_name = "KEY", required = true, value_parser = VerifierKey::parse)]
        witness: Vec<VerifierKey>,
    },
}

/// `audit show`.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// Only records after the one with this number.
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// At most so many [default: all that there are].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Go on with what comes.
    #[arg(long, short)]
    pub follow: bool,
}

/// `audit checkpoint`.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// The log.
    pub file: PathBuf,
    /// Where the log is published: a directory that a web server can hand out as it is.
    #[arg(long, value_name = "DIR")]
    pub tiles: PathBuf,
    /// The log's name, the same for ever; by convention a URL without scheme, as `example.com/host1`. Needed the first time only.
    #[arg(long, value_name = "NAME")]
    pub origin: Option<String>,
    /// Policies and trust store, which are part of what this host is.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// The TPM.
    #[command(flatten)]
    pub tpm: TpmArgs,
}

const CHECKPOINT_EXAMPLES: &str = "\
Examples:
  referee-vmm audit checkpoint referee-audit.jsonl --tiles published --origin example.com/host1
  referee-vmm audit witness-request --tiles published | ssh witness referee-verify witness … \\
      | referee-vmm audit cosign --tiles published --witness \"$(cat witness.pub)\"";

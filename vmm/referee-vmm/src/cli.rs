//! The command line: argv in, a checked request out. Everything the rest of the program needs is here; nothing
//! else reads arguments.

mod audit;
mod node;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use referee::Binding;
use referee::confined::Removal;

pub use audit::{AuditAction, AuditArgs, CheckpointArgs, ShowArgs};
pub use node::{
    ConfigAction, ConfigArgs, DeployArgs, GrantsArgs, HostArgs, LogsArgs, NamedArgs, PipelineAction,
    PipelineArgs, PsArgs, ServeArgs, SnapshotArgs, SnapshotsArgs, TopArgs,
};

/// Runs signed code that you do not trust, each piece in a virtual machine of its own, with only the powers
/// that its manifest asked for and your policy granted.
#[derive(Debug, Parser)]
#[command(name = "referee-vmm", version, after_help = EXIT_CODES, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a muscle's main until it exits.
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Call one exported function of a muscle and print its result as JSON: of a bundle, in a cell made for it; or of a deployment of a
    /// node, written @NAME.
    #[command(after_help = CALL_EXAMPLES)]
    Call(CallArgs),
    /// Show what a muscle asks for, what policy says to it, and why.
    #[command(after_help = EXPLAIN_EXAMPLES)]
    Explain(ExplainArgs),
    /// Check this host: KVM, what it enforces, limits; and say what to do about what is missing.
    Doctor(DoctorArgs),
    /// Check an audit log, rotate it, publish it for others to check.
    Audit(AuditArgs),
    /// Have the TPM say what this host is and what ran on it, for somebody who does not trust it.
    #[command(after_help = ATTEST_EXAMPLES)]
    Attest(AttestArgs),
    /// Set up and look after what this host keeps in its TPM.
    #[command(after_help = TPM_EXAMPLES)]
    Tpm(TpmCommandArgs),
    /// Keep muscles deployed and have their functions called through an API, until a signal.
    Serve(ServeArgs),
    /// Look at a node's configuration.
    Config(ConfigArgs),
    /// Deploy a bundle on a node, or all that a file names.
    #[command(after_help = DEPLOY_EXAMPLES)]
    Deploy(DeployArgs),
    /// Call deployments one after another under one name.
    Pipeline(PipelineArgs),
    /// List what a node has deployed.
    Ps(PsArgs),
    /// Watch what a node has deployed: calls, how long they take, faults, alerts.
    Top(TopArgs),
    /// Show what the slots of a deployment have; take a grant back from its running cells, or make it smaller.
    Grants(GrantsArgs),
    /// Print what a deployment's muscles wrote.
    Logs(LogsArgs),
    /// Let a deployment take no calls.
    Pause(NamedArgs),
    /// Let a paused deployment take calls again.
    Resume(NamedArgs),
    /// End a deployment's cells and every call that is under way.
    Kill(NamedArgs),
    /// Keep a deployment's memory as it stands between two calls, and print the name under which `deploy --snapshot` begins there.
    Snapshot(SnapshotArgs),
    /// List what was kept of deployments' memory, or give one up.
    Snapshots(SnapshotsArgs),
    /// Remove a deployment.
    Remove(NamedArgs),
    /// Have a node read its trust store and policies again.
    Reload(HostArgs),
    /// Print the version and what this build speaks.
    Version,
    /// Print a completion script for a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Whose word counts on this host; part of its identity.
#[derive(Debug, Clone, Args)]
pub struct AuthorityArgs {
    /// The trust store: who may sign what.
    #[arg(
        long,
        global = true,
        env = "REFEREE_TRUST",
        value_name = "FILE",
        default_value = "/etc/referee/trust.store"
    )]
    pub trust: PathBuf,
    /// Policies: Cedar files, or folders of them. Without it those compiled in decide.
    #[arg(
        long,
        global = true,
        env = "REFEREE_POLICY",
        value_name = "PATH",
        value_delimiter = ':'
    )]
    pub policy: Vec<PathBuf>,
}

/// Which TPM, and how it is used.
#[derive(Debug, Args)]
pub struct TpmArgs {
    /// The TPM: device:/dev/tpmrm0; swtpm:DIR, a program that is made and started as needed; or tcti:CONF, as its library
    /// writes it. With it, nothing runs that was not measured first.
    #[arg(long, global = true, env = "REFEREE_TPM", value_name = "TPM")]
    pub tpm: Option<String>,
    /// Where the event log and sealed keys are [default: /var/lib/referee/tpm, or within the software TPM's DIR].
    #[arg(long, global = true, env = "REFEREE_TPM_STATE", value_name = "DIR")]
    pub tpm_state: Option<PathBuf>,
    /// Register of this host's identity.
    #[arg(long, global = true, value_name = "N", default_value_t = 14, value_parser = clap::value_parser!(u32).range(0..24))]
    pub identity_pcr: u32,
    /// Register of the bundles that run.
    #[arg(long, global = true, value_name = "N", default_value_t = 13, value_parser = clap::value_parser!(u32).range(0..24))]
    pub muscle_pcr: u32,
    /// Use registers although any program of this host can set them back (16 and 23).
    #[arg(long, global = true)]
    pub allow_resettable_registers: bool,
    /// NV index of the anti-rollback counter, in hexadecimal digits.
    #[arg(long, global = true, value_name = "HEX", default_value = "01800100", value_parser = parse_index)]
    pub tpm_counter: u32,
    /// Give the TPM up when it has not answered for so long.
    #[arg(long, global = true, value_name = "S", default_value_t = 60)]
    pub tpm_patience: u64,
}

/// `attest`.
#[derive(Debug, Args)]
pub struct AttestArgs {
    /// Which TPM.
    #[command(flatten)]
    pub tpm: TpmArgs,
    /// Who decides here.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// The verifier's nonce: 16 to 64 bytes in hexadecimal digits.
    #[arg(long, value_name = "HEX", value_parser = parse_nonce)]
    pub nonce: String,
    /// Also state where this audit log ends.
    #[arg(long, env = "REFEREE_AUDIT", value_name = "FILE")]
    pub audit: Option<PathBuf>,
    /// Have the node give evidence that --host names, by its TPM; what is said here of TPM, trust store, policies and audit log does not count then.
    #[arg(long)]
    pub node: bool,
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// Write the evidence here.
    #[arg(long, short, value_name = "FILE")]
    pub output: PathBuf,
}

/// `tpm`.
#[derive(Debug, Args)]
pub struct TpmCommandArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: TpmAction,
    /// Which TPM.
    #[command(flatten)]
    pub tpm: TpmArgs,
    /// Who decides here.
    #[command(flatten)]
    pub authority: AuthorityArgs,
}

/// What `tpm` can do.
#[derive(Debug, Subcommand)]
pub enum TpmAction {
    /// Make the anti-rollback counter and the first key, sealed to this identity.
    Init {
        /// Although there is a key that cannot be opened; what it protected is lost.
        #[arg(long)]
        replace: bool,
    },
    /// Write what a verifier needs to become sure that this TPM's attestation key is in a TPM.
    Enrol {
        /// Where it goes.
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Open a verifier's challenge, and print the answer.
    Activate {
        /// The challenge.
        challenge: PathBuf,
    },
    /// Have the master key wrapped for an offline key too, from now on; without KEY for none.
    SetRecovery {
        /// Public half, as `referee-verify recovery-key` printed it.
        key: Option<String>,
    },
    /// Take the key over with the offline key: after the TPM died, or the identity changed without `prepare-update`.
    Recover {
        /// The secret that `referee-verify recovery-key` made. Take it away afterwards.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The audit log that tells of it.
        #[arg(
            long,
            env = "REFEREE_AUDIT",
            value_name = "FILE",
            default_value = "referee-audit.jsonl"
        )]
        audit: PathBuf,
    },
    /// Say what there is: TPM, epoch, keys, events of this boot.
    Status {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a new key and count the epoch up; the old key never opens again.
    Rotate {
        /// Only if the present key is older than this, as 30d or 12h.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        older_than: Option<Duration>,
    },
    /// Before an update of the program, the trust store or the policies: seal the key also to what comes after it, so that it opens
    /// when the host has been restarted. The new trust store and policies are named by --next-trust and --next-policy.
    PrepareUpdate {
        /// The program that will run; this one when left out.
        #[arg(long, value_name = "FILE")]
        next_program: Option<PathBuf>,
        /// The trust store that will decide.
        #[arg(long, value_name = "FILE")]
        next_trust: Option<PathBuf>,
        /// The policies that will decide.
        #[arg(long, value_name = "PATH", value_delimiter = ':')]
        next_policy: Vec<PathBuf>,
    },
    /// Say what this program would be measured as.
    Identity {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write down this host as it is, as the reference that referee-verify compares later evidence with.
    Reference,
    /// Give up what a muscle saved in a `state` slot; `tpm status` lists what is kept.
    ForgetState {
        /// The publisher, as the trust store names it.
        #[arg(long, value_name = "NAME")]
        publisher: String,
        /// The muscle.
        #[arg(long, value_name = "NAME")]
        muscle: String,
        /// Its slot.
        #[arg(long, value_name = "NAME")]
        slot: String,
        /// The audit log that tells of it.
        #[arg(
            long,
            env = "REFEREE_AUDIT",
            value_name = "FILE",
            default_value = "referee-audit.jsonl"
        )]
        audit: PathBuf,
    },
    /// Let a software TPM start as after a reset; a hardware TPM does that with its host.
    Restart,
}

/// What every command that opens a bundle takes.
#[derive(Debug, Args)]
pub struct BundleArgs {
    /// The bundle, NAME.muscle.
    pub bundle: PathBuf,
    /// Who decides.
    #[command(flatten)]
    pub authority: AuthorityArgs,
    /// Bind a slot to a thing of this host: NAME=dir:/path:ro, NAME=dir:/path:rw, NAME=unix:/path.sock,
    /// NAME=serial:stdout, NAME=serial:file:/path.
    #[arg(long = "bind", short = 'b', value_name = "NAME=THING", value_parser = Binding::parse)]
    pub bindings: Vec<Binding>,
    /// Refuse bundles larger than this many bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_bundle_bytes: u64,
}

/// What every command that runs a cell takes.
#[derive(Debug, Args)]
pub struct CellArgs {
    /// Measuring.
    #[command(flatten)]
    pub tpm: TpmArgs,
    /// Write a signed receipt of the run into this file; needs a TPM with a key (`tpm init`).
    #[arg(long, value_name = "FILE", requires = "tpm")]
    pub receipt: Option<PathBuf>,
    /// Write what the run was into this file, unsigned, as JSON: for comparing with a receipt.
    #[arg(long, value_name = "FILE")]
    pub transcript: Option<PathBuf>,
    /// Set an environment variable that the muscle was granted.
    #[arg(long = "env", short = 'e', value_name = "KEY=VALUE", value_parser = parse_variable)]
    pub env: Vec<(String, String)>,
    /// Append the audit records to this file.
    #[arg(
        long,
        env = "REFEREE_AUDIT",
        value_name = "FILE",
        default_value = "referee-audit.jsonl"
    )]
    pub audit: PathBuf,
    /// Have each audit record on the disk before its act is answered, not only in the file.
    #[arg(long)]
    pub audit_sync: bool,
    /// End the muscle after this many milliseconds; can only shorten what was granted.
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// End the muscle after this many milliseconds of CPU time; can only shorten what was granted.
    #[arg(long, value_name = "MS")]
    pub cpu_ms: Option<u64>,
    /// End the muscle when it has written more than this many bytes to the console.
    #[arg(long, value_name = "BYTES", default_value_t = 64 << 20)]
    pub max_output_bytes: u64,
    /// Refuse to run where a layer of confinement cannot be had, instead of naming it in the audit log.
    #[arg(long)]
    pub require_confinement: bool,
    /// Print faults and refusals as JSON on standard error.
    #[arg(long)]
    pub json: bool,
    /// Leave out an entry of a seccomp filter: THREAD:CALL or THREAD:CALL#N.
    #[arg(long, hide = true, value_name = "ENTRY")]
    pub seccomp_without: Vec<Removal>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Bundle, trust and policy.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// How to run.
    #[command(flatten)]
    pub cell: CellArgs,
    /// Arguments for the muscle.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<String>,
}

/// `call`.
#[derive(Debug, Args)]
pub struct CallArgs {
    /// Bundle, trust and policy.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// How to run.
    #[command(flatten)]
    pub cell: CellArgs,
    /// The node, when a deployment is called.
    #[command(flatten)]
    pub host: HostArgs,
    /// Of a deployment: let the node make the call again, at most N times, when its worker ended under way. Only for calls that may
    /// have their effect twice.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=10))]
    pub retry: Option<u32>,
    /// Of a deployment: standard input and output of this program are the muscle's, as they come, whatever their length. The function's result,
    /// if it has one, is printed to standard error as JSON.
    #[arg(long, conflicts_with_all = ["retry", "json"])]
    pub stream: bool,
    /// The exported function.
    pub function: String,
    /// Arguments as JSON: an object by name, an array by position; `-` reads them from standard input.
    #[arg(default_value = "[]")]
    pub arguments: String,
}

impl CallArgs {
    /// The deployment that is called, if it is one.
    pub fn deployment(&self) -> Option<&str> {
        self.bundle.bundle.to_str()?.strip_prefix('@')
    }
}

/// `explain`.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// Bundle, trust and policy.
    #[command(flatten)]
    pub bundle: BundleArgs,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("not of the form KEY=VALUE".into()),
    }
}

fn parse_nonce(text: &str) -> Result<String, String> {
    let digits = text.bytes().all(|digit| digit.is_ascii_hexdigit());
    match digits && text.len().is_multiple_of(2) && (32..=128).contains(&text.len()) {
        true => Ok(text.to_owned()),
        false => Err("a nonce has 16 to 64 bytes, as 32 to 128 hexadecimal digits".into()),
    }
}

fn parse_index(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 16) {
        // Part 2, 7.2: the first byte of an NV index's handle is 01.
        Ok(index) if index >> 24 == 1 => Ok(index),
        _ => Err("an NV index has eight hexadecimal digits and begins with 01".into()),
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0–99  the muscle's own
  100   the command line is wrong; nothing ran
  101   rejected: bundle, trust store or policy says no; nothing ran
  102   fault: the muscle broke a rule and was ended
  103   the muscle's deadline or CPU time was over
  104   the host failed
  105   SIGINT, SIGTERM or SIGHUP ended the muscle";

const RUN_EXAMPLES: &str = "\
Examples:
  referee-vmm run --trust trust.store hello.muscle world
  referee-vmm run --trust trust.store --bind input=dir:photos:ro --bind output=dir:small:rw \\
      thumbnail.muscle cat.jpg cat.png 256";

const CALL_EXAMPLES: &str = "\
Examples:
  referee-vmm call --trust trust.store order-risk.muscle limits
  referee-vmm call --trust trust.store phi-redact.muscle redact '{\"text\": \"call 555-0100\"}'
  referee-vmm call @order-risk limits                     # of a deployment
  referee-vmm call @squeeze compress --stream <log >log.z # its input and output";

const DEPLOY_EXAMPLES: &str = "\
Examples:
  referee-vmm serve --config /etc/referee/node.toml &
  referee-vmm deploy order-risk.muscle
  referee-vmm deploy --name thumbs --bind input=dir:/srv/photos:ro --cells 8 thumbnail.muscle
  referee-vmm call @order-risk limits";

const EXPLAIN_EXAMPLES: &str = "\
Examples:
  referee-vmm explain --trust trust.store thumbnail.muscle
  referee-vmm explain --trust trust.store --bind input=dir:photos:ro --json thumbnail.muscle";

const ATTEST_EXAMPLES: &str = "\
Examples:
  referee-vmm attest --tpm device:/dev/tpmrm0 --nonce 00112233445566778899aabbccddeeff -o host.evidence
  referee-vmm attest --node --nonce 00112233445566778899aabbccddeeff -o node.evidence
  referee-verify evidence host.evidence --nonce 00112233445566778899aabbccddeeff --reference reference.toml";

const TPM_EXAMPLES: &str = "\
Examples:
  export REFEREE_TPM=device:/dev/tpmrm0        # or swtpm:DIR, where there is none
  referee-vmm tpm init
  referee-vmm run hello.muscle                 # measured first
  referee-vmm tpm reference > reference.toml   # for whoever verifies";

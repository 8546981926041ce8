//! Arguments of the service and of its clients.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Subcommand};

/// Which node.
#[derive(Debug, Clone, Args)]
pub struct HostArgs {
    /// The node's API: a Unix socket, or https://NAME:PORT of another host.
    #[arg(
        long,
        env = "REFEREE_HOST",
        value_name = "HOST",
        default_value = referee_node::DEFAULT_SOCKET
    )]
    pub host: OsString,
    /// For a node of another host: this client's certificate, PEM.
    #[arg(long, env = "REFEREE_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// Its private key, PEM; a file that nobody but its owner may read.
    #[arg(long, env = "REFEREE_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// Certificates of the authority that the node's certificate is of, PEM.
    #[arg(long, env = "REFEREE_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The configuration, TOML; without it every default.
    #[arg(long, env = "REFEREE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `config`.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: ConfigAction,
}

/// What `config` does.
#[derive(Debug, Subcommand)]
pub enum ConfigAction {
    /// Print the configuration with every default; or say what is wrong with the file.
    Print(ServeArgs),
    /// Print the API's OpenAPI document, as GET /v1/openapi.json gives it.
    Openapi,
}

/// `deploy`.
#[derive(Debug, Args)]
pub struct DeployArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// The bundle, NAME.muscle.
    #[arg(required_unless_present = "file")]
    pub bundle: Option<PathBuf>,
    /// Instead: deploy all that this TOML file names, with its settings, and define its pipelines.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["bundle", "name", "bindings", "cells", "ahead", "keep_memory", "deadline_ms", "cpu_ms", "release_ms", "priority", "snapshot", "json"]
    )]
    pub file: Option<PathBuf>,
    /// The deployment's name; the bundle's file name without .muscle when left out. A name that is taken gets the new bundle, and
    /// stays paused if it is.
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Bind a slot to a thing of the node's host, as `run` takes it.
    #[arg(long = "bind", short = 'b', value_name = "NAME=THING")]
    pub bindings: Vec<String>,
    /// Calls that may be under way at once, each in a cell of its own.
    #[arg(long, value_name = "N", default_value_t = referee_node::Settings::default().cells)]
    pub cells: usize,
    /// Cells that are kept loaded ahead.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ahead: usize,
    /// Let a cell keep its memory from call to call, instead of giving each call one as it was just started.
    #[arg(long)]
    pub keep_memory: bool,
    /// End each call after this many milliseconds; can only shorten what was granted.
    #[arg(long, value_name = "MS")]
    pub deadline_ms: Option<u64>,
    /// End each call after this many milliseconds of CPU time; can only shorten what was granted.
    #[arg(long, value_name = "MS")]
    pub cpu_ms: Option<u64>,
    /// Let replies leave only on ticks of so many milliseconds, counted from the arrival of each request, so that how long a call took is not
    /// to be seen.
    #[arg(long, value_name = "MS")]
    pub release_ms: Option<u64>,
    /// Let grants that were revoked or narrowed under this name be whole again; otherwise they stay as they are.
    #[arg(long)]
    pub reset_grants: bool,
    /// When its calls have a processor: fair, fair:SHARES, background, real-time:PERIOD/BUDGET, or
    /// real-time:PERIOD/BUDGET/DEADLINE in microseconds.
    #[arg(long, value_name = "CLASS", default_value = "fair")]
    pub priority: referee_node::Priority,
    /// Let its cells begin from this snapshot, which must be of the same bundle, and not at the muscle's start.
    #[arg(long, value_name = "ID")]
    pub snapshot: Option<String>,
    /// Print the deployment as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `snapshot`.
#[derive(Debug, Args)]
pub struct SnapshotArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// The deployment, of one cell that keeps its memory.
    pub name: String,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `snapshots`.
#[derive(Debug, Args)]
pub struct SnapshotsArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// Give this one up, for good; refused while a deployment begins from it.
    #[arg(long, value_name = "ID", conflicts_with = "json")]
    pub remove: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `pipeline`.
#[derive(Debug, Args)]
pub struct PipelineArgs {
    /// What to do.
    #[command(subcommand)]
    pub action: PipelineAction,
}

/// What `pipeline` does.
#[derive(Debug, Subcommand)]
pub enum PipelineAction {
    /// List the pipelines.
    Ls(HostArgs),
    /// Define one, or give one other steps.
    Define {
        /// Which node.
        #[command(flatten)]
        host: HostArgs,
        /// The pipeline's name.
        name: String,
        /// DEPLOYMENT/FUNCTION | DEPLOYMENT/FUNCTION: what one answers, the next is called with.
        steps: String,
    },
    /// Call one and print its last step's result as JSON.
    Call {
        /// Which node.
        #[command(flatten)]
        host: HostArgs,
        /// The pipeline.
        name: String,
        /// The first step's arguments as JSON: an object by name, an array by position; `-` reads them from standard input.
        #[arg(default_value = "[]")]
        arguments: String,
    },
    /// Remove one; its deployments stay.
    Remove(NamedArgs),
}

/// `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// Only this one, with what policy said about it.
    pub name: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// Print one table and end.
    #[arg(long)]
    pub once: bool,
    /// How long to wait between two looks, in milliseconds; rates are of that time.
    #[arg(long, value_name = "MS", default_value_t = 1000)]
    pub interval_ms: u64,
}

/// `grants`.
#[derive(Debug, Args)]
pub struct GrantsArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// The deployment.
    pub name: String,
    /// Take this slot's grant back for good, from cells that run calls too.
    #[arg(long, value_name = "SLOT", conflicts_with = "narrow")]
    pub revoke: Option<String>,
    /// Make this slot's grant smaller for good, as the options after it say.
    #[arg(long, value_name = "SLOT")]
    pub narrow: Option<String>,
    /// files: nothing may be changed any more.
    #[arg(long, requires = "narrow")]
    pub read_only: bool,
    /// files: only what is at or below this path, relative to the granted directory.
    #[arg(long, value_name = "PATH", requires = "narrow")]
    pub within: Option<String>,
    /// files: bytes by which a cell may grow what is there. state: bytes that are kept.
    #[arg(long, value_name = "BYTES", requires = "narrow")]
    pub max_bytes: Option<u64>,
    /// files: files and directories that a cell may add.
    #[arg(long, value_name = "N", requires = "narrow")]
    pub max_files: Option<u32>,
    /// env: only these names.
    #[arg(long, value_name = "NAME,…", value_delimiter = ',', requires = "narrow")]
    pub names: Option<Vec<String>>,
    /// console: no input.
    #[arg(long, requires = "narrow")]
    pub no_input: bool,
    /// clock: milliseconds only.
    #[arg(long, requires = "narrow")]
    pub coarse: bool,
    /// Print JSON.
    #[arg(long, conflicts_with = "revoke")]
    pub json: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// The deployment.
    pub name: String,
    /// Go on with what comes.
    #[arg(long, short)]
    pub follow: bool,
}

/// `pause`, `resume`, `kill`, `remove`.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// Which node.
    #[command(flatten)]
    pub host: HostArgs,
    /// The deployment.
    pub name: String,
}

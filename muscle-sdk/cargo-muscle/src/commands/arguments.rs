//! The command line: every option with its help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use referee_bundle::Algorithm;

/// Makes, signs and looks at muscles, the programs that Referee runs.
#[derive(Debug, Parser)]
#[command(
    name = "cargo-muscle",
    bin_name = "cargo muscle",
    version,
    after_help = "Examples:
  cargo muscle new thumbnail --sdk ~/referee/muscle-sdk/sdk
  cargo muscle keygen me
  cargo muscle build --key me.key
  cargo muscle inspect thumbnail.muscle

Run `cargo muscle <command> --help` for the examples of a command."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key pair: NAME.key, which only you can read, and NAME.pub
    Keygen(Keygen),
    /// Make the folder of a new muscle
    New(New),
    /// Build a muscle and put it into a bundle
    Build(Build),
    /// Sign a bundle
    Sign(Sign),
    /// Show what is in a bundle, trusted or not
    Inspect(Inspect),
    /// Check a bundle against a trust store
    Verify(Verify),
    /// Write trust stores: who may sign which muscles
    #[command(subcommand)]
    Trust(TrustCommand),
}

/// Options of `keygen`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle keygen me               writes me.key and me.pub
  cargo muscle keygen keys/root        writes keys/root.key and keys/root.pub
  cargo muscle keygen --algorithm ml-dsa-65 me-pq")]
pub struct Keygen {
    /// What kind of key
    #[arg(long, value_name = "NAME", default_value = "ed25519", value_parser = algorithm)]
    pub algorithm: Algorithm,
    /// Path of both files without their endings
    pub name: PathBuf,
}

/// Options of `new`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle new hello --sdk ~/referee/muscle-sdk/sdk
  MUSCLE_SDK=~/referee/muscle-sdk/sdk cargo muscle new com.example.prices --reactor")]
pub struct New {
    /// The muscle's name: lower-case letters, digits, `-` and `.`
    pub name: String,
    /// Export functions that the host calls, not a `main`
    #[arg(long)]
    pub reactor: bool,
    /// Folder of the crate `muscle-sdk`
    #[arg(long, env = "MUSCLE_SDK", visible_alias = "sdk-path", value_name = "FOLDER")]
    pub sdk: Option<PathBuf>,
    /// Folder to make; the name's last label unless given
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
}

/// Options of `build`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle build                           makes NAME.muscle here, unsigned
  cargo muscle build --key me.key              signs it too
  cargo muscle build -p thumbnail -o /tmp/thumbnail.muscle
  cargo muscle build --elf program --settings Muscle.toml")]
pub struct Build {
    /// Sign with this private key; may be given several times, for signatures of several algorithms
    #[arg(long = "key", value_name = "FILE")]
    pub keys: Vec<PathBuf>,
    /// Where to write the bundle; NAME.muscle in this folder unless given
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Folder to run cargo in
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    pub folder: PathBuf,
    /// Package of a workspace
    #[arg(short, long, value_name = "NAME")]
    pub package: Option<String>,
    /// Program of a package that has several
    #[arg(long, value_name = "NAME")]
    pub bin: Option<String>,
    /// Features to turn on
    #[arg(short = 'F', long, value_name = "NAMES", value_delimiter = ',')]
    pub features: Vec<String>,
    /// Build without optimisation
    #[arg(long)]
    pub debug: bool,
    /// Take this linked program and do not run cargo
    #[arg(long, value_name = "FILE", requires = "settings", conflicts_with_all = ["package", "bin", "features", "debug"])]
    pub elf: Option<PathBuf>,
    /// Muscle.toml; the one beside the package's Cargo.toml unless given
    #[arg(long, value_name = "FILE")]
    pub settings: Option<PathBuf>,
    /// Bytes for the muscle to bring along
    #[arg(long, value_name = "FILE")]
    pub data: Option<PathBuf>,
    /// A statement of how it was built, to go into the bundle
    #[arg(long, value_name = "FILE")]
    pub provenance: Option<PathBuf>,
}

/// Options of `sign`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle sign --key me.key hello.muscle
  cargo muscle sign --key second.key hello.muscle    adds a second signature")]
pub struct Sign {
    /// The private key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// The bundle, which is changed in place
    pub bundle: PathBuf,
    /// Where to write it instead
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Options of `inspect`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle inspect hello.muscle
  cargo muscle inspect --json hello.muscle | jq .slots")]
pub struct Inspect {
    /// The bundle
    pub bundle: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `verify`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle verify hello.muscle --trust trust.store

Exit code 101 means that the bundle or the trust store is refused.")]
pub struct Verify {
    /// The bundle
    pub bundle: PathBuf,
    /// The trust store
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// Check as if it were this time: 2027-01-31, 2027-01-31T12:00:00Z, or a span from now such as 30d
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with a trust store.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// Make a trust store without publishers
    Init(TrustInit),
    /// Let somebody sign muscles of some names
    AddPublisher(TrustAddPublisher),
    /// Revoke a publisher's key
    RevokeKey(TrustRevokeKey),
    /// Revoke one bundle
    RevokeBundle(TrustRevokeBundle),
    /// Say which algorithms every bundle must carry a signature of
    Require(TrustRequire),
    /// Put other root keys in the place of those there are
    RotateRoot(TrustRotateRoot),
    /// Check that a trust store is the one that follows another
    Follows(TrustFollows),
    /// Add the signature of another root key
    Sign(TrustSign),
    /// Show what is in a trust store
    Show(TrustShow),
}

/// The root keys that sign a change.
#[derive(Debug, Args)]
pub struct RootKeys {
    /// Sign with this root key; may be given several times
    #[arg(long = "root-key", value_name = "FILE")]
    pub root_keys: Vec<PathBuf>,
}

/// Options of `trust init`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust init trust.store --root-key root.key --expires 365d
  cargo muscle trust init trust.store --root-key a.key --root-pub b.pub --root-pub c.pub --threshold 2 --expires 2027-12-31")]
pub struct TrustInit {
    /// The trust store to make
    pub store: PathBuf,
    #[command(flatten)]
    /// Root keys that sign at once.
    pub signers: RootKeys,
    /// Public key of a root key that signs later; may be given several times
    #[arg(long = "root-pub", value_name = "FILE")]
    pub root_public_keys: Vec<PathBuf>,
    /// How many root keys must sign
    #[arg(long, default_value_t = 1)]
    pub threshold: u64,
    /// When it expires: 2027-01-31, 2027-01-31T12:00:00Z, or a span from now such as 365d
    #[arg(long, value_name = "TIME")]
    pub expires: String,
}

/// Options of `trust add-publisher`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust add-publisher trust.store --name example --key me.pub --scope 'com.example.*' --expires 365d --root-key root.key

The same name again adds keys and scopes to the publisher.")]
pub struct TrustAddPublisher {
    /// The trust store
    pub store: PathBuf,
    /// The publisher's name in policies and audit records
    #[arg(long)]
    pub name: String,
    /// Public key; may be given several times
    #[arg(long = "key", value_name = "FILE", required = true)]
    pub keys: Vec<PathBuf>,
    /// Names that it may sign: a name, `prefix.*` or `*`; may be given several times
    #[arg(long = "scope", value_name = "SCOPE", required = true)]
    pub scopes: Vec<String>,
    /// When the keys expire: 2027-01-31, 2027-01-31T12:00:00Z, or a span from now such as 365d
    #[arg(long, value_name = "TIME")]
    pub expires: String,
    #[command(flatten)]
    /// Root keys that sign the change.
    pub signers: RootKeys,
}

/// Options of `trust revoke-key`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust revoke-key trust.store me.pub --root-key root.key
  cargo muscle trust revoke-key trust.store 7a3f… --root-key root.key")]
pub struct TrustRevokeKey {
    /// The trust store
    pub store: PathBuf,
    /// Path of a public key, or a key id of 64 hexadecimal digits
    pub key: String,
    #[command(flatten)]
    /// Root keys that sign the change.
    pub signers: RootKeys,
}

/// Options of `trust revoke-bundle`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust revoke-bundle trust.store bad.muscle --root-key root.key
  cargo muscle trust revoke-bundle trust.store $(sha256sum < bad.muscle | cut -c1-64) --root-key root.key

With the bundle itself at hand, its content is revoked whoever signs it.")]
pub struct TrustRevokeBundle {
    /// The trust store
    pub store: PathBuf,
    /// Path of a bundle, or a SHA-256 value of 64 hexadecimal digits
    pub bundle: String,
    #[command(flatten)]
    /// Root keys that sign the change.
    pub signers: RootKeys,
}

/// Options of `trust require`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust require trust.store --algorithm ed25519 --algorithm ml-dsa-65 --root-key root.key

A bundle cannot say what is required, so no signature can be stripped from one.")]
pub struct TrustRequire {
    /// The trust store
    pub store: PathBuf,
    /// An algorithm that every bundle must be signed with: ed25519 or ml-dsa-65; may be given several times
    #[arg(long = "algorithm", value_name = "NAME", required = true, value_parser = algorithm)]
    pub algorithms: Vec<Algorithm>,
    #[command(flatten)]
    /// Root keys that sign the change.
    pub signers: RootKeys,
}

/// Options of `trust rotate-root`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cp trust.store former.store
  cargo muscle trust rotate-root trust.store --root-pub new.pub --root-key old.key --root-key new.key
  cargo muscle trust follows former.store trust.store

Enough of the old and enough of the new root keys must sign; those that are elsewhere sign later:
  cargo muscle trust sign trust.store --former former.store --root-key old-2.key")]
pub struct TrustRotateRoot {
    /// The trust store
    pub store: PathBuf,
    /// Public key of a new root key; may be given several times
    #[arg(long = "root-pub", value_name = "FILE", required = true)]
    pub root_public_keys: Vec<PathBuf>,
    /// How many of the new root keys must sign
    #[arg(long, default_value_t = 1)]
    pub threshold: u64,
    #[command(flatten)]
    /// Root keys, old and new, that sign at once.
    pub signers: RootKeys,
}

/// Options of `trust follows`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust follows former.store trust.store

Exit code 101 means that it does not follow: another number than the next, or not signed by enough root keys of both.")]
pub struct TrustFollows {
    /// The trust store that is trusted
    pub former: PathBuf,
    /// The one that should follow it
    pub next: PathBuf,
}

/// Options of `trust sign`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust sign trust.store --root-key second.key
  cargo muscle trust sign trust.store --former former.store --root-key old.key")]
pub struct TrustSign {
    /// The trust store
    pub store: PathBuf,
    /// The version before, when its root keys sign that others follow them
    #[arg(long, value_name = "FILE")]
    pub former: Option<PathBuf>,
    #[command(flatten)]
    /// Root keys that sign.
    pub signers: RootKeys,
}

/// Options of `trust show`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cargo muscle trust show trust.store
  cargo muscle trust show --json trust.store | jq .publishers")]
pub struct TrustShow {
    /// The trust store
    pub store: PathBuf,
    /// Write JSON
    #[arg(long)]
    pub json: bool,
}

fn algorithm(text: &str) -> Result<Algorithm, String> {
    let known = [Algorithm::Ed25519, Algorithm::MlDsa65];
    let same = |algorithm: &Algorithm| algorithm.name().eq_ignore_ascii_case(text);
    known
        .into_iter()
        .find(same)
        .ok_or_else(|| "ed25519 or ml-dsa-65".into())
}

//! What can go wrong for an author, each with what to do about it.

use std::io;
use std::path::{Path, PathBuf};

use referee_bundle::{KeyId, Rejected};

/// Why a command stopped.
#[derive(Debug, thiserror::Error)]
#[allow(
    missing_docs,
    reason = "each variant's message explains it and all of its fields"
)]
pub enum Error {
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} exists already; choose another name or remove it first", path.display())]
    Exists { path: PathBuf },
    #[error("Muscle.toml: {source}")]
    Settings { source: toml::de::Error },
    #[error(
        "Muscle.toml: slot `{slot}`: a channel with the role \"send\" or \"request\" has `max_messages`, one with \"receive\" has `function`, and neither has both"
    )]
    Channel { slot: String },
    #[error("`{text}`: not a size; write a number of bytes or a number with KiB, MiB or GiB")]
    Size { text: String },
    #[error(
        "`{text}`: not a time; write a date (2027-01-31), a date and time (2027-01-31T12:00:00Z) or a span (365d)"
    )]
    Time { text: String },
    #[error("{} holds no {wanted}; make a pair with `cargo muscle keygen`", path.display())]
    KeyFile { path: PathBuf, wanted: &'static str },
    #[error("not an Ed25519 or ML-DSA-65 {wanted} in PEM form; make a pair with `cargo muscle keygen`")]
    KeyText { wanted: &'static str },
    #[error("the key refuses to sign")]
    Sign,
    #[error("no random bytes from the system: {source}")]
    Random { source: getrandom::Error },
    #[error(
        "`{name}` is no name for a muscle; use lower-case letters, digits, `-` and `.`, at most 64 bytes"
    )]
    MuscleName { name: String },
    #[error("`{text}` is no scope; write a muscle's name, `prefix.*` or `*`")]
    Scope { text: String },
    #[error(
        "`{text}` is no digest; write 64 hexadecimal digits, as sha256sum prints them, or a bundle's path"
    )]
    DigestText { text: String },
    #[error("`{text}` is no key id; write 64 hexadecimal digits or the path of a public key")]
    KeyIdText { text: String },
    #[error(
        "the SDK is not known; pass `--sdk PATH` or set MUSCLE_SDK to the folder `muscle-sdk/sdk` of a checkout of Referee"
    )]
    SdkUnknown,
    #[error("{} is no SDK: it has no Cargo.toml; pass the folder `muscle-sdk/sdk` of a checkout of Referee", path.display())]
    SdkNotThere { path: PathBuf },
    #[error("cargo could not be started: {source}; install Rust from https://rustup.rs")]
    CargoMissing { source: io::Error },
    #[error("cargo failed; its messages are above")]
    CargoFailed,
    #[error("`{}` builds no program; add src/main.rs", path.display())]
    NoProgram { path: PathBuf },
    #[error("there are several programs ({}); choose one with `--package NAME` or `--bin NAME`", names.join(", "))]
    ManyPrograms { names: Vec<String> },
    #[error("the bundle has room for {room} bytes of signatures and needs {needed}; build it again")]
    NoRoom { needed: usize, room: u64 },
    #[error("a size in the bundle is over 4 GiB; make the muscle smaller")]
    TooLarge,
    #[error("key {key_id} is no root key of this trust store; use one of its root keys")]
    NotARootKey { key_id: KeyId },
    #[error("the trust store has no publisher `{name}`; add it with `cargo muscle trust add-publisher`")]
    NoPublisher { name: String },
    #[error("the bundle is refused ({}): {source}", source.name())]
    Bundle { source: Rejected },
    #[error("the trust store is refused ({}): {source}", source.name())]
    TrustStore { source: Rejected },
    #[error("the program cannot be a muscle ({}): {source}", source.name())]
    Image { source: Rejected },
}

impl Error {
    /// The exit code: 101 when a bundle, image or trust store is refused, as `referee-vmm` has it; else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Bundle { .. } | Error::TrustStore { .. } | Error::Image { .. } => 101,
            _ => 1,
        }
    }

    /// Adds the path to an input or output error.
    pub(crate) fn file(path: &Path) -> impl Fn(io::Error) -> Error + '_ {
        move |source| Error::File {
            path: path.to_owned(),
            source,
        }
    }

    pub(crate) fn bundle(source: Rejected) -> Error {
        Error::Bundle { source }
    }

    pub(crate) fn trust_store(source: Rejected) -> Error {
        Error::TrustStore { source }
    }

    pub(crate) fn image(source: Rejected) -> Error {
        Error::Image { source }
    }
}

//! Runs cargo with the flags that make a static-PIE program without a C library.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::error::Error;

/// The only target that muscles are built for.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Flags of every muscle: no start files, no library, no dynamic linker, code and data on pages of their own,
/// and frame pointers so that a fault can be traced back.
const FLAGS: [&str; 8] = [
    "-Cpanic=abort",
    "-Cforce-frame-pointers=yes",
    "-Clink-arg=-nostartfiles",
    "-Clink-arg=-nostdlib",
    "-Clink-arg=-static-pie",
    "-Clink-arg=-Wl,--no-dynamic-linker",
    "-Clink-arg=-Wl,-z,norelro",
    "-Clink-arg=-Wl,-z,separate-code",
];

/// What to build.
#[derive(Debug, Clone)]
pub struct BuildRequest {
    /// Where cargo is run: the package's folder, or its workspace's when `package` is given.
    pub folder: PathBuf,
    /// Which package of a workspace.
    pub package: Option<String>,
    /// Which program, when the package has several.
    pub program: Option<String>,
    /// Features to turn on, as cargo takes them.
    pub features: Vec<String>,
    /// Build without optimisation.
    pub debug: bool,
}

/// What cargo built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The program's name.
    pub name: String,
    /// The linked ELF file.
    pub elf: PathBuf,
    /// The package's folder, where `Muscle.toml` is.
    pub package_folder: PathBuf,
}

/// Builds the program of a package; cargo's messages go to standard error.
///
/// # Errors
/// [`Error::File`], [`Error::CargoMissing`], [`Error::CargoFailed`], [`Error::NoProgram`], [`Error::ManyPrograms`].
pub fn compile(request: &BuildRequest) -> Result<Built, Error> {
    // Asked first, because starting cargo in a missing folder looks as if cargo were missing.
    std::fs::metadata(&request.folder).map_err(Error::file(&request.folder))?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .arg("build")
        .args(["--target", TARGET, "--message-format", "json-render-diagnostics"])
        .current_dir(&request.folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(&request.folder))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if !request.debug {
        cargo.arg("--release");
    }
    if let Some(package) = &request.package {
        cargo.args(["--package", package]);
    }
    if let Some(program) = &request.program {
        cargo.args(["--bin", program]);
    }
    if !request.features.is_empty() {
        cargo.arg("--features").arg(request.features.join(","));
    }
    let output = cargo.output().map_err(|source| Error::CargoMissing { source })?;
    if !output.status.success() {
        return Err(Error::CargoFailed);
    }
    let mut built = programs(&String::from_utf8_lossy(&output.stdout));
    match (built.pop(), built.is_empty()) {
        (None, _) => Err(Error::NoProgram {
            path: request.folder.clone(),
        }),
        (Some(only), true) => Ok(only),
        (Some(last), false) => Err(Error::ManyPrograms {
            names: built
                .into_iter()
                .chain([last])
                .map(|program| program.name)
                .collect(),
        }),
    }
}

/// Our flags, then those of the caller's `RUSTFLAGS`, in the form that cargo splits at the unit separator.
///
/// Since the target is named, cargo uses them for the muscle and not for build scripts and macros.
fn flags(folder: &Path) -> String {
    let mut flags: Vec<String> = FLAGS.iter().map(|flag| (*flag).to_owned()).collect();
    if let Ok(folder) = folder.canonicalize() {
        // A panic message names the file as the author knows it, without the author's home.
        flags.push(format!("--remap-path-prefix={}=.", folder.display()));
    }
    let own = std::env::var("RUSTFLAGS").unwrap_or_default();
    flags.extend(own.split_whitespace().map(str::to_owned));
    flags.join("\u{1f}")
}

#[derive(Deserialize)]
struct Message {
    reason: String,
    manifest_path: Option<PathBuf>,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// The programs among cargo's messages, one JSON object a line. Only packages named to cargo build programs.
fn programs(messages: &str) -> Vec<Built> {
    let messages = messages
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok());
    messages
        .filter(|message: &Message| message.reason == "compiler-artifact")
        .filter_map(|message| {
            let target = message
                .target
                .filter(|target| target.kind.iter().any(|kind| kind == "bin"))?;
            Some(Built {
                name: target.name,
                elf: message.executable?,
                package_folder: message.manifest_path?.parent()?.to_owned(),
            })
        })
        .collect()
}

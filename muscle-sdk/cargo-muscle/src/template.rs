//! `cargo muscle new`: a muscle that builds and runs as it is.

use std::fs;
use std::path::{Path, PathBuf};

use referee_bundle::is_muscle_name;

use crate::error::Error;
use crate::keys::write_new;

/// What to make.
#[derive(Debug, Clone)]
pub struct Template {
    /// The muscle's name; its last label becomes the package's name.
    pub name: String,
    /// The folder to make; it must not be there yet.
    pub folder: PathBuf,
    /// A reactor with an exported function, not a command with `main`.
    pub reactor: bool,
    /// The folder of the crate `muscle-sdk`.
    pub sdk: PathBuf,
}

/// Writes a new muscle's files.
///
/// # Errors
/// [`Error::MuscleName`], [`Error::SdkNotThere`], [`Error::Exists`], [`Error::File`].
pub fn write_template(template: &Template) -> Result<(), Error> {
    if !is_muscle_name(&template.name) {
        return Err(Error::MuscleName {
            name: template.name.clone(),
        });
    }
    let not_there = |_| Error::SdkNotThere {
        path: template.sdk.clone(),
    };
    let sdk = template.sdk.canonicalize().map_err(not_there)?;
    fs::metadata(sdk.join("Cargo.toml")).map_err(not_there)?;
    let folder = &template.folder;
    if folder.exists() {
        return Err(Error::Exists { path: folder.clone() });
    }
    let source = folder.join("src");
    fs::create_dir_all(&source).map_err(Error::file(&source))?;
    let (program, settings) = match template.reactor {
        true => (REACTOR, REACTOR_SETTINGS),
        false => (COMMAND, COMMAND_SETTINGS),
    };
    let fill = |text: &str| fill(text, &template.name, &sdk);
    write_new(&folder.join("Cargo.toml"), &fill(PACKAGE), FILE_MODE)?;
    write_new(&folder.join("Muscle.toml"), &fill(settings), FILE_MODE)?;
    write_new(&source.join("main.rs"), &fill(program), FILE_MODE)?;
    write_new(&folder.join("README.md"), &fill(README), FILE_MODE)?;
    write_new(
        &folder.join(".gitignore"),
        "/target\n*.muscle\n*.key\n",
        FILE_MODE,
    )
}

const FILE_MODE: u32 = 0o644;

fn fill(text: &str, name: &str, sdk: &Path) -> String {
    let package = name.rsplit('.').next().unwrap_or(name);
    // A package may not begin with a digit, a muscle may.
    let package = match package.starts_with(|sign: char| sign.is_ascii_digit()) {
        true => format!("muscle-{package}"),
        false => package.to_owned(),
    };
    // Quoted as TOML and JSON both have it.
    let sdk = serde_json::Value::from(sdk.to_string_lossy()).to_string();
    text.replace("{{name}}", name)
        .replace("{{package}}", &package)
        .replace("{{sdk}}", &sdk)
}

const PACKAGE: &str = include_str!("../template/Cargo.toml.in");
const README: &str = include_str!("../template/README.md.in");
const COMMAND: &str = include_str!("../template/command.rs.in");
const COMMAND_SETTINGS: &str = include_str!("../template/command.toml.in");
const REACTOR: &str = include_str!("../template/reactor.rs.in");
const REACTOR_SETTINGS: &str = include_str!("../template/reactor.toml.in");

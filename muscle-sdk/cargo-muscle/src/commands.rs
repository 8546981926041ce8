//! The commands of `cargo muscle`: each reads files, calls the library and writes files.

mod arguments;
mod bundles;
mod keygen;
mod new;
mod stores;

use std::io::Write as _;
use std::path::Path;

use crate::error::Error;

pub use arguments::{Arguments, Command, TrustCommand};

/// Runs a command; gives what it has to say on standard output.
///
/// # Errors
/// [`Error`], whose text says what to do.
pub fn run(command: &Command) -> Result<String, Error> {
    match command {
        Command::Keygen(arguments) => keygen::run(arguments),
        Command::New(arguments) => new::run(arguments),
        Command::Build(arguments) => bundles::build(arguments),
        Command::Sign(arguments) => bundles::sign_file(arguments),
        Command::Inspect(arguments) => bundles::inspect(arguments),
        Command::Verify(arguments) => bundles::verify_file(arguments),
        Command::Trust(TrustCommand::Init(arguments)) => stores::init(arguments),
        Command::Trust(TrustCommand::AddPublisher(arguments)) => stores::add_publisher(arguments),
        Command::Trust(TrustCommand::RevokeKey(arguments)) => stores::revoke_key(arguments),
        Command::Trust(TrustCommand::RevokeBundle(arguments)) => stores::revoke_bundle(arguments),
        Command::Trust(TrustCommand::Require(arguments)) => stores::require(arguments),
        Command::Trust(TrustCommand::RotateRoot(arguments)) => stores::rotate_root(arguments),
        Command::Trust(TrustCommand::Follows(arguments)) => stores::follows(arguments),
        Command::Trust(TrustCommand::Sign(arguments)) => stores::sign(arguments),
        Command::Trust(TrustCommand::Show(arguments)) => stores::show(arguments),
    }
}

/// Replaces a file as a whole, or leaves it as it was.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let failed = Error::file(path);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Readable by others, as a new file is; `tempfile` would keep it to its owner.
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    let mut file = tempfile::Builder::new()
        .permissions(mode)
        .tempfile_in(folder)
        .map_err(&failed)?;
    file.write_all(bytes).map_err(&failed)?;
    file.as_file().sync_all().map_err(&failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(())
}

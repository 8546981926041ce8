//! `cargo muscle keygen`.

use std::path::Path;

use super::arguments::Keygen;
use crate::error::Error;
use crate::keys::{PrivateKey, public_key_to_pem, write_new};

pub(super) fn run(arguments: &Keygen) -> Result<String, Error> {
    let private_path = with_ending(&arguments.name, "key");
    let public_path = with_ending(&arguments.name, "pub");
    // Both are looked at first, so that no private key is left behind without its public key.
    for path in [&private_path, &public_path] {
        if path.exists() {
            return Err(Error::Exists { path: path.clone() });
        }
    }
    let key = PrivateKey::generate(arguments.algorithm)?;
    let public = key.public_key().map_err(Error::trust_store)?;
    key.write_new(&private_path)?;
    write_new(&public_path, &public_key_to_pem(&public)?, 0o644)?;
    Ok(format!(
        "{}  private, keep it secret\n{}  public\nkey id {}\n",
        private_path.display(),
        public_path.display(),
        public.key_id()
    ))
}

/// Adds an ending, also to a name that has a dot.
fn with_ending(name: &Path, ending: &str) -> std::path::PathBuf {
    let mut name = name.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}

//! Certificates and keys as files, PEM.

use std::fs::File;
use std::io::{Read, Take};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::RootCertStore;

/// Largest file, in bytes.
const FILE_MAX: u64 = 1 << 20;

/// Reads a certificate with those that stand between it and its authority.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let shown = path.display();
    let file = open(path)?;
    let found: Vec<_> = CertificateDer::pem_reader_iter(file)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("{shown}: {error}"))?;
    match found.is_empty() {
        true => Err(format!("{shown} has no certificate in PEM")),
        false => Ok(found),
    }
}

/// Reads the certificates of an authority.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn authority(path: &Path) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(store)
}

/// Reads a private key, which nobody but its owner may read.
///
/// # Errors
/// What is wrong with the file.
pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let shown = path.display();
    let file = open(path)?;
    let mode = file
        .get_ref()
        .metadata()
        .map_err(|error| format!("{shown}: {error}"))?;
    let mode = mode.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(format!(
            "{shown} has mode {:04o}, so that others than its owner have the key: chmod 600",
            mode & 0o7777
        ));
    }
    PrivateKeyDer::from_pem_reader(file)
        .map_err(|error| format!("{shown} has no private key in PEM: {error}"))
}

fn open(path: &Path) -> Result<Take<File>, String> {
    let file = File::open(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    Ok(file.take(FILE_MAX))
}

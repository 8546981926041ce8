//! The only input of this crate: a whole file, but never more of it than the limit.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use crate::limits::ReadLimits;
use crate::rejected::{Document, Rejected};

/// Reads a bundle file of at most [`ReadLimits::bundle_bytes`].
///
/// # Errors
/// [`Rejected::TooLarge`] before anything is read, [`Rejected::NotAFile`], [`Rejected::Unreadable`].
pub fn read_bundle(path: &Path, limits: &ReadLimits) -> Result<Vec<u8>, Rejected> {
    read_capped(Document::Bundle, path, limits.bundle_bytes)
}

/// Reads a trust store file of at most [`ReadLimits::trust_store_bytes`].
///
/// # Errors
/// As [`read_bundle`].
pub fn read_trust_store(path: &Path, limits: &ReadLimits) -> Result<Vec<u8>, Rejected> {
    read_capped(Document::TrustStore, path, limits.trust_store_bytes)
}

fn read_capped(document: Document, path: &Path, limit: u64) -> Result<Vec<u8>, Rejected> {
    let unreadable = |kind: ErrorKind| Rejected::Unreadable {
        path: path.to_owned(),
        kind,
    };
    let too_large = |size: u64| Rejected::TooLarge {
        document,
        size,
        limit,
    };
    // Looked at before it is opened, because opening a FIFO waits for its writer.
    let before = fs::metadata(path).map_err(|error| unreadable(error.kind()))?;
    if !before.is_file() {
        return Err(Rejected::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(|error| unreadable(error.kind()))?;
    let size = file.metadata().map_err(|error| unreadable(error.kind()))?.len();
    if size > limit {
        return Err(too_large(size));
    }
    let room = usize::try_from(size).map_err(|_| too_large(size))?;
    let mut bytes = Vec::with_capacity(room);
    // One byte past the limit, to notice a file that grows while it is read.
    file.take(limit.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| unreadable(error.kind()))?;
    let size = bytes.len() as u64;
    match size > limit {
        true => Err(too_large(size)),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bundle_bytes: u64) -> ReadLimits {
        ReadLimits {
            bundle_bytes,
            ..ReadLimits::default()
        }
    }

    #[test]
    fn refuses_a_file_over_the_limit_before_it_reads_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("large");
        // Sparse: reading it would need 8 TiB.
        let file = File::create(&path).expect("a file");
        file.set_len(1 << 43).expect("a sparse file");
        assert_eq!(
            read_bundle(&path, &limits(100)),
            Err(Rejected::TooLarge {
                document: Document::Bundle,
                size: 1 << 43,
                limit: 100
            })
        );
    }

    #[test]
    fn takes_a_file_of_exactly_the_limit() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("fits");
        fs::write(&path, [7; 100]).expect("a file");
        assert_eq!(read_bundle(&path, &limits(100)), Ok(vec![7; 100]));
    }

    #[test]
    fn refuses_what_is_no_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        assert_eq!(
            read_bundle(&path, &limits(100)),
            Err(Rejected::NotAFile { path: path.clone() })
        );
        assert_eq!(
            read_bundle(Path::new("/dev/zero"), &limits(100)),
            Err(Rejected::NotAFile {
                path: "/dev/zero".into()
            })
        );
        let missing = path.join("missing");
        assert_eq!(
            read_trust_store(&missing, &limits(100)),
            Err(Rejected::Unreadable {
                path: missing,
                kind: ErrorKind::NotFound
            })
        );
    }
}

//! The snapshot at which a worker's cells begin: read before the worker is confined, looked into only after.

use std::fs::File;
use std::io::Read;

use referee::{Permit, Snapshot};
use referee_bundle::Digest;

use crate::error::{NodeError, OrHost};

/// A snapshot as a worker is born with it.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// SHA-256 of the bytes: what a cell begins at is what was deployed.
    pub digest: [u8; 32],
    pub file: File,
}

/// The bytes that it has.
#[derive(Debug)]
pub(crate) struct Bytes {
    digest: [u8; 32],
    bytes: Vec<u8>,
}

impl Beginning {
    /// Reads the file, of no more bytes than a snapshot of a muscle with so much memory has.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when it is larger; [`NodeError::Host`].
    pub(crate) fn read(self, memory_bytes: u64) -> Result<Bytes, NodeError> {
        let doing = "reading a snapshot";
        let most = Snapshot::most_bytes(memory_bytes);
        let length = self.file.metadata().or_host(doing)?.len();
        if length > most {
            return Err(damaged(&format!("it has {length} bytes, and {most} is the most")));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        (&self.file).take(length).read_to_end(&mut bytes).or_host(doing)?;
        Ok(Bytes {
            digest: self.digest,
            bytes,
        })
    }
}

impl Bytes {
    /// The same permit for cells that begin there.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the name `snapshot-damaged`, or as [`Permit::begin_from`] says.
    pub(crate) fn begin(self, permit: &Permit) -> Result<Permit, NodeError> {
        if Digest::of(&self.bytes).0 != self.digest {
            return Err(damaged("its SHA-256 is another than when it was made"));
        }
        let snapshot = Snapshot::from_bytes(&self.bytes)?;
        drop(self.bytes);
        Ok(permit.begin_from(&snapshot)?)
    }
}

fn damaged(why: &str) -> NodeError {
    NodeError::Rejected {
        name: "snapshot-damaged".into(),
        message: format!("the snapshot's file is damaged: {why}"),
    }
}

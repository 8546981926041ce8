//! Hashes of a Merkle tree (RFC 6962, 2.1). In text they are base64, as C2SP writes them.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

/// A node of the tree: 32 bytes of SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TreeHash(pub [u8; 32]);

impl TreeHash {
    /// Bytes.
    pub const SIZE: usize = 32;

    /// Root of the tree without records: the hash of nothing.
    pub fn empty() -> TreeHash {
        TreeHash(Sha256::digest([]).into())
    }

    /// Of a record.
    pub fn of_leaf(record: &[u8]) -> TreeHash {
        TreeHash(
            Sha256::new()
                .chain_update([0])
                .chain_update(record)
                .finalize()
                .into(),
        )
    }

    /// Of two nodes.
    pub fn of_node(left: &TreeHash, right: &TreeHash) -> TreeHash {
        let hash = Sha256::new()
            .chain_update([1])
            .chain_update(left.0)
            .chain_update(right.0);
        TreeHash(hash.finalize().into())
    }

    /// Reads base64.
    pub fn from_base64(text: &str) -> Option<TreeHash> {
        let bytes = BASE64_STANDARD.decode(text).ok()?;
        bytes.try_into().ok().map(TreeHash)
    }
}

impl fmt::Display for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for TreeHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

//! Roots and proofs (RFC 6962, 2.1). They are made here from whatever can give complete subtrees, and verified by `ct-merkle`, which
//! shares no code with what makes them.

use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use sha2::Sha256;

use crate::error::TlogError;
use crate::hash::TreeHash;

/// A tree of a size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Number of records.
    pub size: u64,
    /// Hash over all of them.
    pub root: TreeHash,
}

impl TreeHead {
    /// The tree without records.
    pub fn empty() -> TreeHead {
        TreeHead {
            size: 0,
            root: TreeHash::empty(),
        }
    }

    fn root_hash(&self) -> RootHash<Sha256> {
        RootHash::new(self.root.0.into(), self.size)
    }
}

/// Where complete subtrees come from.
pub trait Nodes {
    /// The hash over the records `index * 2^level` to `(index + 1) * 2^level`, all of which must exist.
    ///
    /// # Errors
    /// [`TlogError`] when it is not there.
    fn node(&self, level: u8, index: u64) -> Result<TreeHash, TlogError>;
}

/// All leaves and all complete subtrees above them, in memory: 64 bytes a record.
#[derive(Debug, Clone, Default)]
pub struct Leaves {
    levels: Vec<Vec<TreeHash>>,
}

impl Leaves {
    /// Adds the next record.
    pub fn push(&mut self, record: &[u8]) {
        self.push_hash(TreeHash::of_leaf(record));
    }

    /// Adds the next record by its hash.
    pub fn push_hash(&mut self, mut hash: TreeHash) {
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let Some(nodes) = self.levels.get_mut(level) else {
                return;
            };
            nodes.push(hash);
            match nodes.as_slice() {
                [.., left, right] if nodes.len().is_multiple_of(2) => hash = TreeHash::of_node(left, right),
                _ => return,
            }
        }
    }

    /// Number of records.
    pub fn size(&self) -> u64 {
        self.levels.first().map_or(0, |leaves| leaves.len() as u64)
    }

    /// The tree of all records.
    ///
    /// # Errors
    /// None: every subtree is there.
    pub fn head(&self) -> Result<TreeHead, TlogError> {
        let size = self.size();
        Ok(TreeHead {
            size,
            root: root(self, size)?,
        })
    }
}

impl Nodes for Leaves {
    fn node(&self, level: u8, index: u64) -> Result<TreeHash, TlogError> {
        let nodes = self.levels.get(usize::from(level));
        let node = nodes.and_then(|nodes| nodes.get(usize::try_from(index).ok()?));
        node.copied().ok_or(TlogError::OutOfRange {
            what: "subtree",
            index,
            size: self.size(),
        })
    }
}

/// The root over the first `size` records.
///
/// # Errors
/// Those of `nodes`.
pub fn root(nodes: &impl Nodes, size: u64) -> Result<TreeHash, TlogError> {
    match size {
        0 => Ok(TreeHash::empty()),
        _ => range(nodes, 0, size),
    }
}

/// Proof that the tree of `size` records has the record with this number: hashes from the leaf's sibling upwards (RFC 6962, 2.1.1).
///
/// # Errors
/// [`TlogError::OutOfRange`]; those of `nodes`.
pub fn inclusion(nodes: &impl Nodes, index: u64, size: u64) -> Result<Vec<TreeHash>, TlogError> {
    if index >= size {
        return Err(TlogError::OutOfRange {
            what: "record",
            index,
            size,
        });
    }
    let (mut low, mut high) = (0, size);
    let mut proof = Vec::new();
    while high - low > 1 {
        let middle = low + split(high - low);
        if index < middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
        }
    }
    proof.reverse();
    Ok(proof)
}

/// Proof that the tree of `old` records is the beginning of that of `new` (RFC 6962, 2.1.2). Empty for the empty tree and for equal ones.
///
/// # Errors
/// [`TlogError::OutOfRange`] when `old` is larger; those of `nodes`.
pub fn consistency(nodes: &impl Nodes, old: u64, new: u64) -> Result<Vec<TreeHash>, TlogError> {
    if old > new {
        return Err(TlogError::OutOfRange {
            what: "tree of size",
            index: old,
            size: new,
        });
    }
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut low, mut high) = (0, new);
    let mut proof = Vec::new();
    // Whether the old tree ends where a subtree that begins at 0 does: then its root is known to whoever asks.
    let mut whole = true;
    while old != high {
        let middle = low + split(high - low);
        if old <= middle {
            proof.push(range(nodes, middle, high)?);
            high = middle;
        } else {
            proof.push(range(nodes, low, middle)?);
            low = middle;
            whole = false;
        }
    }
    if !whole {
        proof.push(range(nodes, low, high)?);
    }
    proof.reverse();
    Ok(proof)
}

/// The hash over the records from `low` to `high`, which are a subtree of some tree.
fn range(nodes: &impl Nodes, low: u64, high: u64) -> Result<TreeHash, TlogError> {
    let length = high - low;
    if length.is_power_of_two() && low.is_multiple_of(length) {
        let level = length.trailing_zeros();
        return nodes.node(u8::try_from(level).unwrap_or(u8::MAX), low >> level);
    }
    let middle = low + split(length);
    Ok(TreeHash::of_node(
        &range(nodes, low, middle)?,
        &range(nodes, middle, high)?,
    ))
}

/// The largest power of two below `length`, which is at least 2.
fn split(length: u64) -> u64 {
    1 << (63 - (length - 1).leading_zeros())
}

/// Whether this record is the one with this number in the tree.
///
/// # Errors
/// [`TlogError::Proof`] when the proof does not show it.
pub fn verify_inclusion(
    head: &TreeHead,
    index: u64,
    record: &[u8],
    proof: &[TreeHash],
) -> Result<(), TlogError> {
    let digests: Vec<_> = proof.iter().map(|hash| hash.0.into()).collect();
    let proof = InclusionProof::<Sha256>::from_digests(&digests);
    head.root_hash()
        .verify_inclusion(&record, index, &proof)
        .map_err(|error| TlogError::Proof {
            what: "inclusion",
            why: error.to_string(),
        })
}

/// Whether the old tree is the beginning of the new one.
///
/// # Errors
/// [`TlogError::Proof`] when the proof does not show it.
pub fn verify_consistency(old: &TreeHead, new: &TreeHead, proof: &[TreeHash]) -> Result<(), TlogError> {
    let failed = |why: String| {
        Err(TlogError::Proof {
            what: "consistency",
            why,
        })
    };
    // Cases in which nothing is to be proved, and the proof must say nothing.
    if old.size == 0 || old.size == new.size {
        return match (proof.is_empty(), old.size == 0 || old.root == new.root) {
            (true, true) => Ok(()),
            (false, _) => failed("it has hashes where none are needed".into()),
            (true, false) => failed("two trees of the same size with different roots".into()),
        };
    }
    let digests: Vec<_> = proof.iter().map(|hash| hash.0.into()).collect();
    let proof = ConsistencyProof::<Sha256>::from_digests(&digests);
    match new.root_hash().verify_consistency(&old.root_hash(), &proof) {
        Ok(()) => Ok(()),
        Err(error) => failed(error.to_string()),
    }
}

#[cfg(test)]
mod tests;

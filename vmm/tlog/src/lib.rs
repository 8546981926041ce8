//! The audit log as a transparency log: nobody can take a record out of it, change one or cut its end off without contradicting what
//! was signed and handed out before.
//!
//! ```text
//!   audit log (JSON lines) ─► publish ─► tiles      hashes and records, C2SP tlog-tiles
//!                                        tree       RFC 6962: root, proofs ─► verified by another implementation (ct-merkle)
//!                             checkpoint ─► note    "origin, size, root" ─► signed, cosigned ─► witness, proof
//! ```
//! The log that is written while cells run stays the truth; what is published can be made anew from it at any time. The formats are
//! those of c2sp.org: signed-note, tlog-checkpoint, tlog-tiles, tlog-cosignature, tlog-witness, tlog-proof.
#![forbid(unsafe_code)]

mod checkpoint;
mod cosignature;
mod error;
mod files;
mod hash;
mod note;
mod proof;
mod publish;
mod tiles;
mod tree;
mod witness;

pub use checkpoint::Checkpoint;
pub use cosignature::{CosignerKeys, Timestamped, cosigned_message};
pub use error::TlogError;
pub use files::replace;
pub use hash::TreeHash;
pub use note::{Algorithm, Note, NoteSignature, Verification, VerifierKey};
pub use proof::InclusionProof;
pub use publish::{CHECKPOINT, leaves_of, publish, save_checkpoint};
pub use tiles::{TILE_WIDTH, TileDirectory};
pub use tree::{Leaves, Nodes, TreeHead, consistency, inclusion, root, verify_consistency, verify_inclusion};
pub use witness::{Answer, Request, Witness};

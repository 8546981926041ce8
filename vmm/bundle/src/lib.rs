//! From the bytes of a bundle to a [`VerifiedBundle`], or the reason why not.
//!
//! The one rule: **nothing is believed before its signature is checked, and what was checked is what is used.**
//! A [`VerifiedBundle`] owns the very bytes that were hashed; its constructor is [`verify`] and there is no other.
//!
//! ```text
//!   bytes ── read_bundle ──► Vec<u8> ── verify ──► VerifiedBundle ── ImagePlan::check ──► ImagePlan
//!               size cap       ▲  header, signatures, manifest, part hashes     the ELF, after confinement
//!   trust store ── TrustStore::parse ──┘
//! ```
//!
//! This crate can check signatures and has no code to make one; the author's tool `cargo-muscle` has that.
//! It does no input or output but for [`read_bundle`] and [`read_trust_store`]. The bytes are drawn in
//! `docs/bundle-format.md`.
#![forbid(unsafe_code)]

mod capability_request;
mod cbor;
mod digest;
mod image;
mod keys;
mod layout;
mod limits;
mod manifest;
mod names;
mod read;
mod rejected;
mod segments;
mod signatures;
mod symbols;
mod trust;
mod unix_time;
mod unverified;
mod verify;

pub use capability_request::{CapabilityRequest, ChannelRole, ClockGrade, Delegated, FilesAccess, Slot};
pub use digest::{Digest, Hashing, KeyId};
pub use image::{ElfImage, ImagePlan, PlannedSegment, Relocation};
pub use keys::{Algorithm, PublicKey};
pub use layout::{HEADER_SIZE, Header, MAGIC, PART_ALIGNMENT, SIGNATURES_PREFIX};
pub use limits::ReadLimits;
pub use manifest::{Arch, Limits, Manifest, Part, PartKind};
pub use names::{NameScope, is_muscle_name, is_publisher_name};
pub use read::{read_bundle, read_trust_store};
pub use rejected::{Document, Rejected};
pub use segments::{Permissions, Segment, check_entry, check_segments};
pub use signatures::{Signature, SignatureSet, to_be_signed};
pub use symbols::{Symbol, SymbolTable, encode_symbols};
pub use trust::{Publisher, PublisherKey, RootDocument, RootPins, TRUST_STORE_AAD, TrustStore};
pub use unix_time::UnixTime;
pub use unverified::UnverifiedBundle;
pub use verify::{Signer, VerifiedBundle, verify};

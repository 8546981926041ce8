//! The author's tool as a library: make a bundle, sign it, and author trust stores.
//!
//! ```text
//!   Muscle.toml ── manifest_from_toml ──► Manifest ─┐
//!   ELF file ───────────────────────────────────────┴─ assemble ──► bundle ── sign ──► signed bundle
//! ```
//!
//! Private keys exist only here. What [`assemble`] makes was read back with the verifier's own code, so that a
//! mistake shows when a bundle is built and not where it is to run. [`pack`] makes bundles without that check,
//! for tests of the verifier.
#![forbid(unsafe_code)]

mod assemble;
pub mod commands;
mod compile;
mod error;
mod exports;
mod inspect;
mod keys;
mod settings;
mod sign;
mod strip;
mod symbols;
mod template;
pub mod trust;
mod units;

pub use assemble::{Contents, assemble, assemble_with, pack};
pub use compile::{BuildRequest, Built, compile};
pub use error::Error;
pub use exports::exports_of;
pub use inspect::{describe, to_json};
pub use keys::{PrivateKey, public_key_from_pem, public_key_to_pem};
pub use settings::{empty_manifest, manifest_from_toml};
pub use sign::{remove_signatures, sign};
pub use strip::strip;
pub use symbols::symbols_of;
pub use template::{Template, write_template};

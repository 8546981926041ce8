//! A few bytes that outlive the cell, with a `state` slot: what was saved in one run is there in the next one.
//!
//! The host's TPM seals them to this muscle's name, its publisher and the slot. Nobody puts an older version back, and a bundle of a lower
//! security epoch than the one that saved does not read them.
//!
//! ```ignore
//! let seen = muscle::state::load("seen")?.unwrap_or_default();
//! muscle::state::save("seen", &[seen, line.into_bytes()].concat())?;
//! ```

use alloc::vec::Vec;

use minicbor::data::Type;
use muscle_abi::capability::{CapabilityKind, call};

use crate::{Result, host, slot};

/// What was saved last under this slot; `None` before anything was.
///
/// # Errors
/// [`crate::ErrorCode::Denied`] without such a slot, [`crate::ErrorCode::Io`] when the host cannot open it,
/// [`crate::ErrorCode::TooLarge`] when it is longer than this manifest asks for.
pub fn load(name: &str) -> Result<Option<Vec<u8>>> {
    let grant = slot::named(name, CapabilityKind::State)?;
    host::call(
        grant.handle,
        call::STATE_LOAD,
        |e| e.array(0)?.ok(),
        |d| match d.datatype()? {
            Type::Null => d.null().map(|()| None),
            _ => d.bytes().map(|bytes| Some(Vec::from(bytes))),
        },
    )
}

/// Replaces what is kept. When this returns, it is on the host's disk and what was there before never comes back. It takes the TPM some
/// time: save at the end of the work, not within it.
///
/// # Errors
/// [`crate::ErrorCode::Exists`] when another cell of this muscle saved since this one loaded: load again, or give up.
/// [`crate::ErrorCode::Quota`] beyond what the manifest asks for, [`crate::ErrorCode::Io`] when the host cannot save.
pub fn save(name: &str, bytes: &[u8]) -> Result<()> {
    let grant = slot::named(name, CapabilityKind::State)?;
    host::call(
        grant.handle,
        call::STATE_SAVE,
        |e| e.array(1)?.bytes(bytes)?.ok(),
        |d| d.null(),
    )
}

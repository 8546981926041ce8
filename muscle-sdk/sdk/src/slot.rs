//! Finding the grant of a slot by its name.

use alloc::format;

use guest_runtime::boot;
use muscle_abi::capability::{CapabilityKind, GrantEntry};

use crate::{Error, ErrorCode, Result};

/// The grant in the slot of this name, which must be of this kind.
pub(crate) fn named(name: &str, kind: CapabilityKind) -> Result<GrantEntry> {
    let grant = boot::grants()
        .into_iter()
        .find(|grant| grant.name() == name)
        .ok_or_else(|| Error::new(ErrorCode::Denied, format!("no slot `{name}` is granted")))?;
    if grant.kind == kind as u32 {
        return Ok(grant);
    }
    let granted = CapabilityKind::from_number(grant.kind).map_or("something else", CapabilityKind::name);
    Err(Error::new(
        ErrorCode::Invalid,
        format!("slot `{name}` is {granted}, not {}", kind.name()),
    ))
}

/// The first grant of a kind, for powers of which a muscle has one.
pub(crate) fn only(kind: CapabilityKind) -> Result<GrantEntry> {
    boot::grant_of(kind).ok_or_else(|| {
        Error::new(
            ErrorCode::Denied,
            format!("this muscle has no {} slot", kind.name()),
        )
    })
}

//! The part of a granted directory that a narrowed grant is left with.
//!
//! Paths keep their meaning: the muscle names a file as it did before, and is refused what is not in that part. No path has `..` and no link is followed
//! ([`super::path`]), so that names alone decide.

use muscle_abi::frame::ErrorCode;
use referee_policy::is_at_or_below;

use crate::error::CallError;

/// A path relative to the granted directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Within(String);

impl Within {
    pub fn new(path: &str) -> Within {
        Within(path.to_owned())
    }

    /// Refuses a path that is neither that place nor below it.
    pub fn admit<'p>(within: Option<&Within>, path: &'p str) -> Result<&'p str, CallError<'p>> {
        match within {
            Some(Within(place)) if !is_at_or_below(path, place) => Err(CallError::new(
                ErrorCode::Denied,
                "the grant was narrowed to another part of the directory",
            )
            .at(path)),
            _ => Ok(path),
        }
    }

    /// Refuses a path that is not below that place: the place's own name is in a directory that is not left.
    pub fn admit_below<'p>(within: Option<&Within>, path: &'p str) -> Result<&'p str, CallError<'p>> {
        match within {
            Some(Within(place)) if is_at_or_below(place, path) => Err(CallError::new(
                ErrorCode::Denied,
                "the grant was narrowed to what is below this path",
            )
            .at(path)),
            _ => Within::admit(within, path),
        }
    }
}

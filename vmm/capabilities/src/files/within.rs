//! The part of a granted directory that a narrowed grant is left with.
//!
//! Paths keep their meaning: the muscle names a file as it did before, and is refused what is not in that part. No path has `..` and no link is followed
//! ([`super::path`]), so that names alone decide.

use std::os::fd::{AsFd, BorrowedFd};

use muscle_abi::frame::ErrorCode;
use referee_policy::{FilesAccess, Power, is_at_or_below};

use super::path::{Place, checked};
use super::{Files, OpenFile, identity_of, status_at};
use crate::error::CallError;
use crate::payload::Arguments;

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

impl Files {
    /// Makes the power smaller. Open files that could not be opened any more are closed, those that could not be opened for writing are for reading.
    pub fn narrow(&mut self, power: &Power) {
        let Power::Files {
            access,
            within,
            max_bytes,
            max_files,
            ..
        } = power
        else {
            return;
        };
        self.bytes.narrow(*max_bytes);
        self.files.narrow(u64::from(*max_files));
        if *access == FilesAccess::Read && self.access == FilesAccess::ReadWrite {
            self.access = FilesAccess::Read;
            self.was_writable = true;
            for file in &mut self.open {
                file.writable = false;
            }
        }
        let within = within.as_deref().map(Within::new);
        if within.is_some() && within != self.within {
            self.within = within;
            let (folder, within) = (self.folder.as_fd(), self.within.as_ref());
            self.open.retain(|file| file.is_still_within(folder, within));
        }
    }

    /// Has what another muscle lends, instead of what it lent before, which may have been less. What is open and could not be opened by it is closed;
    /// what was opened for reading stays so.
    pub fn lend(&mut self, power: &Power) {
        let Power::Files {
            access,
            within,
            max_bytes,
            max_files,
            ..
        } = power
        else {
            return;
        };
        self.bytes.set(*max_bytes);
        self.files.set(u64::from(*max_files));
        if *access == FilesAccess::Read {
            self.was_writable |= self.access == FilesAccess::ReadWrite;
            for file in &mut self.open {
                file.writable = false;
            }
        }
        self.access = *access;
        let within = within.as_deref().map(Within::new);
        if within != self.within {
            self.within = within;
            let (folder, within) = (self.folder.as_fd(), self.within.as_ref());
            self.open.retain(|file| file.is_still_within(folder, within));
        }
    }

    /// Closes whatever is open.
    pub fn close_all(&mut self) {
        self.open.clear();
    }

    /// A path that the muscle names, if it leads to where the grant does.
    pub(super) fn path<'p>(&self, text: &'p str) -> Result<&'p str, CallError<'p>> {
        Within::admit(self.within.as_ref(), checked(text)?)
    }

    /// As [`Files::path`], of something whose name is to be made, changed or taken away.
    pub(super) fn name<'p>(&self, text: &'p str) -> Result<&'p str, CallError<'p>> {
        Within::admit_below(self.within.as_ref(), checked(text)?)
    }

    pub(super) fn one_path<'p>(&self, payload: &'p [u8]) -> Result<&'p str, CallError<'p>> {
        let mut arguments = Arguments::new(payload, 1)?;
        let path = self.path(arguments.text()?)?;
        arguments.finish().map(|()| path)
    }

    pub(super) fn one_name<'p>(&self, payload: &'p [u8]) -> Result<&'p str, CallError<'p>> {
        let mut arguments = Arguments::new(payload, 1)?;
        let path = self.name(arguments.text()?)?;
        arguments.finish().map(|()| path)
    }
}

impl OpenFile {
    /// Whether its path leads there and still to this very file: it may have been renamed since.
    fn is_still_within(&self, folder: BorrowedFd<'_>, within: Option<&Within>) -> bool {
        let Some(place) = Place::of(&self.path) else {
            return false;
        };
        let there = || {
            let parent = place.parent(folder)?;
            status_at(parent.fd(folder), place.name)
        };
        Within::admit(within, &self.path).is_ok()
            && there().is_ok_and(|status| identity_of(&status) == self.identity)
    }
}

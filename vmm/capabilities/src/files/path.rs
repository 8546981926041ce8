//! Paths that a muscle names, and how the kernel resolves them beneath the granted directory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use muscle_abi::frame::ErrorCode;
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::error::CallError;

/// Refuses what could only be meant to leave the directory, and what is no path.
pub(crate) fn checked(path: &str) -> Result<&str, CallError<'_>> {
    let refused = |code, message| Err(CallError::new(code, message).at(path));
    match path {
        "" => refused(ErrorCode::Invalid, "the path is empty"),
        path if path.len() > MAX_PATH => refused(ErrorCode::Invalid, "the path is too long"),
        path if path.contains('\0') => refused(ErrorCode::Invalid, "the path has a zero byte"),
        path if path.starts_with('/') => refused(ErrorCode::Denied, "the path is absolute"),
        path if path.split('/').any(|part| part == "..") => {
            refused(ErrorCode::Denied, "the path leaves the directory")
        }
        path => Ok(path),
    }
}

/// Opens `path` beneath `folder`, following no link and leaving no mount.
pub(crate) fn beneath(
    folder: BorrowedFd<'_>,
    path: &str,
    flags: OFlags,
    mode: Mode,
) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    // openat2(2): EAGAIN when a directory was renamed while the kernel made sure that it stays beneath.
    for _ in 1..ATTEMPTS {
        match rustix::fs::openat2(folder, path, flags, mode, resolve) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            done => return done,
        }
    }
    rustix::fs::openat2(folder, path, flags, mode, resolve)
}

/// A name in a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place<'p> {
    parent: &'p str,
    /// The last part of the path.
    pub name: &'p str,
}

/// A place's directory: the granted one, or one below it.
#[derive(Debug)]
pub(crate) struct Parent(Option<OwnedFd>);

impl<'p> Place<'p> {
    /// The place that a checked path names; `None` for the granted directory itself.
    pub fn of(path: &'p str) -> Option<Place<'p>> {
        let mut path = path.trim_end_matches('/');
        while let Some(shorter) = path.strip_suffix("/.") {
            path = shorter.trim_end_matches('/');
        }
        match path.rsplit_once('/') {
            _ if path.is_empty() || path == "." => None,
            Some((parent, name)) => Some(Place { parent, name }),
            None => Some(Place {
                parent: "",
                name: path,
            }),
        }
    }

    /// Opens the place's directory.
    pub fn parent(&self, folder: BorrowedFd<'_>) -> Result<Parent, Errno> {
        if self.parent.is_empty() {
            return Ok(Parent(None));
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        beneath(folder, self.parent, flags, Mode::empty()).map(|parent| Parent(Some(parent)))
    }
}

impl Parent {
    /// Its descriptor.
    pub fn fd<'a>(&'a self, folder: BorrowedFd<'a>) -> BorrowedFd<'a> {
        self.0.as_ref().map_or(folder, AsFd::as_fd)
    }
}

/// Linux's own limit.
const MAX_PATH: usize = 4095;
/// Often enough that only somebody who renames without pause wins, and then with an error.
const ATTEMPTS: u32 = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_into_its_directory_and_its_last_part() {
        let place = |path| Place::of(path).map(|place| (place.parent, place.name));
        assert_eq!(place("a"), Some(("", "a")));
        assert_eq!(place("a/b/c//"), Some(("a/b", "c")));
        assert_eq!(place("./a/."), Some((".", "a")));
        for itself in [".", "./", "./.", "././/."] {
            assert_eq!(place(itself), None, "{itself}");
        }
    }

    #[test]
    fn paths_that_lead_out_or_nowhere_are_refused() {
        let code = |path: &str| checked(path).map_err(|error| error.code).err();
        for out in ["/", "/etc/passwd", "..", "a/..", "a/../b", "../x", "a/b/.."] {
            assert_eq!(code(out), Some(ErrorCode::Denied), "{out}");
        }
        for none in ["", "a\0b", &"x".repeat(4096)] {
            assert_eq!(code(none), Some(ErrorCode::Invalid));
        }
        for good in ["a", "a/b", "..a", "a..", "...", "./a", "a//b"] {
            assert_eq!(code(good), None, "{good}");
        }
    }
}

//! Closing every descriptor that is not granted.
//!
//! Standard input, output and error are never left free: the next file opened would get such a number,
//! and a panic message would be written into it. Where they are not granted they become `/dev/null`.

use std::collections::BTreeSet;
use std::os::fd::RawFd;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::JailError;
use crate::report::Layer;

/// Where the kernel lists a process's descriptors.
const LIST: &str = "/proc/self/fd";

/// Standard input, output and error.
pub(crate) const STANDARD: [RawFd; 3] = [0, 1, 2];

/// Closes every open descriptor but those in `keep`, and returns their numbers.
///
/// The kernel's list is used rather than every possible number, because the limit may be a million.
pub(crate) fn close_all_except(keep: &BTreeSet<RawFd>) -> Result<Vec<RawFd>, JailError> {
    let failed = |errno| JailError::Proc { path: LIST, errno };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, LIST, flags, Mode::empty()).map_err(failed)?;
    let mut open = Vec::new();
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = rustix::fs::RawDir::new(&directory, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(failed)?;
        // "." and ".." are the two that are no numbers.
        if let Some(number) = entry
            .file_name()
            .to_str()
            .ok()
            .and_then(|name| name.parse::<RawFd>().ok())
        {
            open.push(number);
        }
    }
    // The list contains the descriptor by which it was read.
    let own = std::os::fd::AsRawFd::as_raw_fd(&directory);
    drop(directory);
    open.retain(|fd| *fd != own && !keep.contains(fd));
    open.sort_unstable();
    silence_standard_streams(keep).map_err(|errno| JailError::Failed {
        layer: Layer::Descriptors,
        errno,
    })?;
    for fd in open.iter().filter(|fd| !STANDARD.contains(fd)) {
        match nix::unistd::close(*fd) {
            // Linux frees the number whatever close says (close(2)).
            Ok(()) | Err(nix::Error::EINTR | nix::Error::EIO | nix::Error::ENOSPC | nix::Error::EDQUOT) => {}
            Err(errno) => {
                let errno = Errno::from_raw_os_error(errno as i32);
                return Err(JailError::Failed {
                    layer: Layer::Descriptors,
                    errno,
                });
            }
        }
    }
    Ok(open)
}

/// Puts `/dev/null` in the place of each standard stream that is not kept.
fn silence_standard_streams(keep: &BTreeSet<RawFd>) -> Result<(), Errno> {
    if STANDARD.iter().all(|fd| keep.contains(fd)) {
        return Ok(());
    }
    // Opening it may give one of the three numbers; then it stays there.
    let null = rustix::fs::openat(CWD, "/dev/null", OFlags::RDWR, Mode::empty())?;
    let wanted = |fd: RawFd| !keep.contains(&fd) && std::os::fd::AsRawFd::as_raw_fd(&null) != fd;
    if wanted(0) {
        rustix::stdio::dup2_stdin(&null)?;
    }
    if wanted(1) {
        rustix::stdio::dup2_stdout(&null)?;
    }
    if wanted(2) {
        rustix::stdio::dup2_stderr(&null)?;
    }
    if STANDARD.contains(&std::os::fd::AsRawFd::as_raw_fd(&null)) {
        std::mem::forget(null);
    }
    Ok(())
}

//! Granted directories, cut off from the tree around them.
//!
//! A directory's descriptor from before the confinement leads out of it: `openat(fd, "..")` goes up to the
//! host's root, whatever the new root is. So each granted directory is mounted into the new root and its
//! descriptor is exchanged, under the same number, for one of that mount; above it there is now nothing.
//! A grant to read alone is a read-only mount, and no mount runs programs or has devices.

use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};

/// A directory whose descriptor is kept.
#[derive(Clone, Copy, Debug)]
pub struct DirectoryGrant<'a> {
    /// The directory, opened before the fork. Its number must be on the keep list.
    pub descriptor: BorrowedFd<'a>,
    /// Whether the kernel is to refuse every change.
    pub read_only: bool,
}

/// A granted directory taken out of the old file tree.
pub(crate) struct DetachedDirectory {
    tree: OwnedFd,
    number: RawFd,
    flags: OFlags,
    read_only: bool,
}

/// Takes each directory out of the old tree.
///
/// The kernel does not clone a mount of another namespace, which is what the descriptor holds; so the
/// directory is found again by its path, and taken only if it is the same one.
pub(crate) fn detach(grants: &[DirectoryGrant<'_>]) -> Result<Vec<DetachedDirectory>, Errno> {
    grants
        .iter()
        .map(|grant| {
            let number = std::os::fd::AsRawFd::as_raw_fd(&grant.descriptor);
            let path = rustix::fs::readlink(format!("/proc/self/fd/{number}"), Vec::new())?;
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE
                | OpenTreeFlags::AT_SYMLINK_NOFOLLOW;
            let tree = rustix::mount::open_tree(CWD, path, flags)?;
            let (found, granted) = (rustix::fs::fstat(&tree)?, rustix::fs::fstat(grant.descriptor)?);
            if (found.st_dev, found.st_ino) != (granted.st_dev, granted.st_ino) {
                return Err(Errno::STALE);
            }
            let flags = rustix::fs::fcntl_getfl(grant.descriptor)? & OFlags::PATH;
            Ok(DetachedDirectory {
                tree,
                number,
                flags,
                read_only: grant.read_only,
            })
        })
        .collect()
}

/// Mounts a directory as `name` in the new root, which is at `/proc` as yet, and exchanges its descriptor.
pub(crate) fn attach(root: &OwnedFd, name: &str, directory: DetachedDirectory) -> Result<(), Errno> {
    let DetachedDirectory {
        tree,
        number,
        flags,
        read_only,
    } = directory;
    rustix::fs::mkdirat(root, name, Mode::empty())?;
    let from_descriptor = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(&tree, c"", root, name, from_descriptor)?;
    let mut restrictions = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // What was read-only outside must stay so, or the kernel refuses.
    let was_read_only = rustix::fs::fstatvfs(&tree)?
        .f_flag
        .contains(StatVfsMountFlags::RDONLY);
    restrictions.set(MountFlags::RDONLY, read_only || was_read_only);
    rustix::mount::mount_remount(format!("/proc/{name}"), restrictions, c"")?;

    let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let mounted = rustix::fs::openat(root, name, flags, Mode::empty())?;
    // There is one thread, so the number stays free in between; F_DUPFD gives the lowest free one from
    // there on.
    nix::unistd::close(number).map_err(|errno| Errno::from_raw_os_error(errno as i32))?;
    let exchanged = rustix::io::fcntl_dupfd_cloexec(&mounted, number)?.into_raw_fd();
    if exchanged == number {
        Ok(())
    } else {
        Err(Errno::BADF)
    }
}

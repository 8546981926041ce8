//! The empty root: a file system with nothing in it but what was granted.
//!
//! ```text
//!   open_tree(socket) …      while the old names still mean something
//!   mount tmpfs on /proc     the one directory that is known to be there; nobody else sees it
//!   /proc/NAME ◄─ socket …   for each granted socket, and directory
//!   pivot_root(".", ".")     the new root on top of the old one
//!   umount(".", DETACH)      the old one is gone
//!   remount / read-only
//! ```
//!
//! Descriptors opened before keep working: they hold on to the mounts they came from. What that means
//! for directories is in `directories`.

use std::path::PathBuf;

use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use crate::directories::{self, DetachedDirectory};
use crate::error::JailError;

/// A Unix socket that stays reachable by name, as `/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SocketMount {
    /// Where the socket is now.
    pub source: PathBuf,
    /// Its name in the new root: one path component, at most 64 bytes.
    pub name: String,
}

/// A socket taken out of the old file tree.
pub(crate) struct DetachedSocket {
    tree: OwnedFd,
    name: String,
}

/// Checks the names of the sockets to be shown, before anything is given up.
pub(crate) fn check_names(sockets: &[SocketMount]) -> Result<(), JailError> {
    for (index, socket) in sockets.iter().enumerate() {
        let name = socket.name.as_str();
        let plain = !name.is_empty()
            && name.len() <= 64
            && !name.contains(['/', '\0'])
            && name != "."
            && name != "..";
        if !plain {
            return Err(JailError::SocketName { index });
        }
    }
    Ok(())
}

/// Takes each socket out of the old tree; what is not a socket is refused.
pub(crate) fn detach_sockets(sockets: &[SocketMount]) -> Result<Vec<DetachedSocket>, JailError> {
    sockets
        .iter()
        .map(|socket| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let failed = |errno| JailError::Socket {
                path: socket.source.clone(),
                errno,
            };
            let tree = rustix::mount::open_tree(CWD, &socket.source, flags).map_err(failed)?;
            let stat = rustix::fs::fstat(&tree).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::Socket {
                return Err(JailError::NotASocket {
                    path: socket.source.clone(),
                });
            }
            Ok(DetachedSocket {
                tree,
                name: socket.name.clone(),
            })
        })
        .collect()
}

/// Replaces the root directory by a read-only one with nothing but the sockets and directories in it.
///
/// The inner result says whether the directories' descriptors were all exchanged.
pub(crate) fn enter_empty_root(
    sockets: Vec<DetachedSocket>,
    directories: Vec<DetachedDirectory>,
) -> Result<Result<(), Errno>, Errno> {
    let locked_down = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    // Mounts made here must not travel back to the host. A user namespace sees to that by itself;
    // a privileged process without one does not have it.
    rustix::mount::mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
    rustix::mount::mount(
        c"cell",
        c"/proc",
        c"tmpfs",
        locked_down,
        c"size=4k,nr_inodes=128,mode=0755",
    )?;
    let root = rustix::fs::openat(
        CWD,
        c"/proc",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    for socket in sockets {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        drop(rustix::fs::openat(&root, &socket.name, flags, Mode::empty())?);
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        rustix::mount::move_mount(socket.tree.as_fd(), c"", &root, &socket.name, flags)?;
    }
    let exchanged = directories
        .into_iter()
        .enumerate()
        .try_for_each(|(index, directory)| directories::attach(&root, &format!("files:{index}"), directory));
    rustix::process::fchdir(&root)?;
    drop(root);
    rustix::process::pivot_root(c".", c".")?;
    rustix::mount::unmount(c".", UnmountFlags::DETACH)?;
    rustix::process::chdir(c"/")?;
    rustix::mount::mount_remount(c"/", MountFlags::BIND | MountFlags::RDONLY | locked_down, c"")?;
    Ok(exchanged)
}

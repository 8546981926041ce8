//! The process as it was before the fork: what confinement is measured against.

use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use crate::error::JailError;
use crate::report::Layer;

/// The namespaces, each with its file in `/proc/self/ns`.
const NAMESPACES: [(Layer, &str); 6] = [
    (Layer::UserNamespace, "/proc/self/ns/user"),
    (Layer::MountNamespace, "/proc/self/ns/mnt"),
    (Layer::PidNamespace, "/proc/self/ns/pid"),
    (Layer::NetworkNamespace, "/proc/self/ns/net"),
    (Layer::IpcNamespace, "/proc/self/ns/ipc"),
    (Layer::UtsNamespace, "/proc/self/ns/uts"),
];

/// Identity and namespaces of a process, taken before the fork.
///
/// A kernel without one of the namespaces has no file for it; then there is nothing to compare and
/// the namespace counts as not held.
#[derive(Clone, Debug)]
pub struct Origin {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    namespaces: [Option<u64>; 6],
}

impl Origin {
    /// Looks at the calling process.
    ///
    /// # Errors
    /// [`JailError::Proc`] if there is no `/proc`.
    pub fn capture() -> Result<Self, JailError> {
        Ok(Self {
            uid: geteuid().as_raw(),
            gid: getegid().as_raw(),
            namespaces: current_namespaces()?,
        })
    }

    /// Compares the calling process's namespaces with those of the origin, in the order of the layers.
    pub(crate) fn namespaces_held(&self) -> Result<Vec<(Layer, bool)>, JailError> {
        let now = current_namespaces()?;
        Ok(NAMESPACES
            .iter()
            .zip(self.namespaces.iter().zip(now))
            .map(|((layer, _), (before, now))| (*layer, now.is_some() && *before != now))
            .collect())
    }
}

/// Returns the inode number of each namespace, by which namespaces are told apart (`namespaces(7)`).
fn current_namespaces() -> Result<[Option<u64>; 6], JailError> {
    let mut found = [None; 6];
    for (slot, (_, path)) in found.iter_mut().zip(NAMESPACES) {
        *slot = match rustix::fs::statx(CWD, path, AtFlags::empty(), StatxFlags::INO) {
            Ok(stat) => Some(stat.stx_ino),
            Err(Errno::NOENT) => None,
            Err(errno) => return Err(JailError::Proc { path, errno }),
        };
    }
    // Every kernel has this one, so its absence means that /proc is not mounted.
    if found.iter().all(Option::is_none) {
        return Err(JailError::Proc {
            path: "/proc/self/ns",
            errno: Errno::NOENT,
        });
    }
    Ok(found)
}

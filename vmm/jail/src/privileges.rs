//! Identity, capabilities, and the flags that keep them lost.

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::process::DumpableBehavior;
use rustix::thread::{CapabilitiesSecureBits, CapabilitySet, CapabilitySets};

use crate::error::JailError;
use crate::origin::Origin;
use crate::report::Layer;

/// The one user and group inside the namespace: the number that is "nobody" everywhere.
const NOBODY: u32 = 65534;

/// Maps one user and one group into the new user namespace, and forbids to change groups.
///
/// The kernel lets an unprivileged process write exactly such a map (`user_namespaces(7)`).
pub(crate) fn map_identity(origin: &Origin) -> Result<(), Errno> {
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/uid_map", &format!("{NOBODY} {} 1", origin.uid))?;
    write_proc("/proc/self/gid_map", &format!("{NOBODY} {} 1", origin.gid))
}

fn write_proc(path: &str, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    // These files take the whole text in one write or refuse it.
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

/// Gives the host a name that says nothing.
pub(crate) fn set_host_name() -> Result<(), Errno> {
    rustix::system::sethostname(b"cell")?;
    rustix::system::setdomainname(b"cell")
}

/// Empties the bounding and ambient sets and locks the securebits, so that no later change of user or
/// program brings a capability back.
pub(crate) fn empty_bounding_set() -> Result<(), Errno> {
    for number in 0..u64::BITS {
        match rustix::thread::remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(
            1 << number,
        )) {
            Ok(()) => {}
            // The first number that the kernel does not know.
            Err(Errno::INVAL) => break,
            Err(errno) => return Err(errno),
        }
    }
    rustix::thread::clear_ambient_capability_set()?;
    let bits = CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
    rustix::thread::set_capabilities_secure_bits(bits)
}

/// Drops every capability and reads back that none is left.
pub(crate) fn drop_capabilities() -> Result<(), JailError> {
    let failed = |errno| JailError::Failed {
        layer: Layer::NoCapabilities,
        errno,
    };
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    rustix::thread::set_capabilities(None, sets).map_err(failed)?;
    let left = rustix::thread::capabilities(None).map_err(failed)?;
    if left == sets {
        Ok(())
    } else {
        let (effective, permitted) = (left.effective.bits(), left.permitted.bits());
        Err(JailError::CapabilitiesLeft { effective, permitted })
    }
}

/// Sets `no_new_privs`.
pub(crate) fn forbid_new_privileges() -> Result<(), Errno> {
    rustix::thread::set_no_new_privs(true)
}

/// Makes the process unreadable and untraceable for others of the same user. Its files in `/proc` belong to root from now on.
pub(crate) fn forbid_dumping() -> Result<(), Errno> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)
}

//! The one way into the jail.

use std::collections::BTreeSet;
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt;

use rustix::io::Errno;

use crate::directories::{self, DirectoryGrant};
use crate::error::JailError;
use crate::limits::{self, LimitConfig};
use crate::origin::Origin;
use crate::report::{Confinement, Layer, LayerState};
use crate::root::SocketMount;
use crate::{descriptors, privileges, root};

/// Which layers must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Require {
    /// Those that this host allows; the report names the others.
    Available,
    /// All of them; else nothing runs.
    All,
}

/// What the process keeps, and what it insists on.
#[derive(Clone, Debug)]
pub struct JailConfig<'a> {
    /// The process as it was before the fork.
    pub origin: Origin,
    /// The numbers of the descriptors that stay open. Standard input, output and error become `/dev/null` unless named.
    pub keep: &'a [RawFd],
    /// The Unix sockets that stay reachable by name.
    pub sockets: &'a [SocketMount],
    /// The directories among the kept descriptors, to be cut off from the tree around them.
    pub directories: &'a [DirectoryGrant<'a>],
    /// Resource limits.
    pub limits: LimitConfig,
    /// Whether a layer that this host does not allow is an error.
    pub require: Require,
}

/// The proof that this process is confined.
///
/// Made by [`confine`] alone. Seccomp filters come after it, one for each thread, because threads are
/// made in between.
#[derive(Debug)]
pub struct Jailed {
    confinement: Confinement,
}

impl Jailed {
    /// Returns what was applied.
    #[must_use]
    pub fn confinement(&self) -> &Confinement {
        &self.confinement
    }
}

/// Gives up everything but what `config` names. There is no way back.
///
/// Must be called in the child of a fork that made the namespaces, while it has one thread: capabilities
/// and `no_new_privs` belong to threads, and later threads inherit them. Every descriptor not on the
/// keep list is closed under the feet of whatever value owns it, so the caller must not use, or let
/// be dropped, a value from before that owned one; [`Confinement::closed_descriptors`] lists them.
///
/// # Errors
/// Every [`JailError`] but `Install` and `Policy`. The process is then half confined and must end.
pub fn confine(config: &JailConfig<'_>) -> Result<Jailed, JailError> {
    check_single_thread()?;
    root::check_names(config.sockets)?;
    let mut layers = Layers {
        states: Vec::with_capacity(16),
        require: config.require,
    };

    for (layer, held) in config.origin.namespaces_held()? {
        layers.try_apply(layer, if held { Ok(()) } else { Err(Errno::NOSYS) })?;
    }
    let in_user_namespace = layers.holds(Layer::UserNamespace);
    layers.try_within(in_user_namespace, Layer::Identity, || {
        privileges::map_identity(&config.origin)
    })?;

    // /proc goes away with the old root, so the descriptors are listed first; what the change of root
    // opens, it closes itself.
    let keep: BTreeSet<RawFd> = config.keep.iter().copied().collect();
    let closed_descriptors = descriptors::close_all_except(&keep)?;

    let in_mount_namespace = layers.holds(Layer::MountNamespace);
    let sockets = if in_mount_namespace {
        root::detach_sockets(config.sockets)?
    } else {
        Vec::new()
    };
    let mut directories = Err(Errno::NOSYS);
    layers.try_within(in_mount_namespace, Layer::EmptyRoot, || {
        let detached = directories::detach(config.directories);
        let refused = detached.as_ref().err().copied();
        let exchanged = root::enter_empty_root(sockets, detached.unwrap_or_default())?;
        directories = refused.map_or(exchanged, Err);
        Ok(())
    })?;
    if !config.directories.is_empty() {
        layers.try_apply(Layer::GrantedDirectories, directories)?;
    }
    if !config.sockets.is_empty() && !layers.holds(Layer::EmptyRoot) {
        return Err(JailError::NoRootForSockets {
            count: config.sockets.len(),
        });
    }
    let in_uts_namespace = layers.holds(Layer::UtsNamespace);
    layers.try_within(in_uts_namespace, Layer::HostName, privileges::set_host_name)?;
    layers.apply(Layer::Descriptors, Ok(()))?;

    let highest = keep
        .iter()
        .chain(&descriptors::STANDARD)
        .max()
        .map_or(0, |fd| u64::try_from(*fd).unwrap_or(0));
    let first_free = highest.saturating_add(1);
    let mut limits = limits::apply(config.limits, first_free).map_err(|errno| JailError::Failed {
        layer: Layer::ResourceLimits,
        errno,
    })?;
    layers.apply(Layer::ResourceLimits, Ok(()))?;
    layers.try_within(in_user_namespace, Layer::ThreadLimit, || {
        limits.push(limits::apply_threads(config.limits)?);
        Ok(())
    })?;

    layers.try_apply(Layer::BoundingSet, privileges::empty_bounding_set())?;
    privileges::drop_capabilities()?;
    layers.apply(Layer::NoCapabilities, Ok(()))?;
    layers.apply(Layer::NoNewPrivileges, privileges::forbid_new_privileges())?;
    layers.apply(Layer::NotDumpable, privileges::forbid_dumping())?;

    let sockets = config.sockets.iter().map(|socket| socket.name.clone()).collect();
    Ok(Jailed {
        confinement: Confinement {
            layers: layers.states,
            limits,
            closed_descriptors,
            sockets,
        },
    })
}

/// Refuses to start with more than one thread.
fn check_single_thread() -> Result<(), JailError> {
    const TASKS: &str = "/proc/self/task";
    let tasks = std::fs::metadata(TASKS).map_err(|e| JailError::Proc {
        path: TASKS,
        errno: Errno::from_io_error(&e).unwrap_or(Errno::IO),
    })?;
    // Each thread's directory is one link beside "." and "..".
    match tasks.nlink().saturating_sub(2) {
        1 => Ok(()),
        threads => Err(JailError::Threads { threads }),
    }
}

/// The layers applied so far.
struct Layers {
    states: Vec<(Layer, LayerState)>,
    require: Require,
}

impl Layers {
    /// Records a layer that every host allows; its failure is an error always.
    fn apply(&mut self, layer: Layer, result: Result<(), Errno>) -> Result<(), JailError> {
        result.map_err(|errno| JailError::Failed { layer, errno })?;
        self.states.push((layer, LayerState::Held));
        Ok(())
    }

    /// Records a layer that some hosts do not allow.
    fn try_apply(&mut self, layer: Layer, result: Result<(), Errno>) -> Result<(), JailError> {
        if let (Err(errno), Require::All) = (result, self.require) {
            return Err(JailError::NotHeld { layer, errno });
        }
        self.states.push((layer, LayerState::from_result(result)));
        Ok(())
    }

    /// Applies a layer that is done only inside a namespace of our own: elsewhere it would change the host.
    fn try_within(
        &mut self,
        inside: bool,
        layer: Layer,
        act: impl FnOnce() -> Result<(), Errno>,
    ) -> Result<(), JailError> {
        let result = if inside { act() } else { Err(Errno::NOSYS) };
        self.try_apply(layer, result)
    }

    fn holds(&self, layer: Layer) -> bool {
        self.states
            .iter()
            .any(|(one, state)| *one == layer && *state == LayerState::Held)
    }
}

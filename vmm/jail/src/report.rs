//! What holds after confinement: the table that `doctor` prints and the audit log records.

use std::fmt;

use rustix::io::Errno;
use serde::Serialize;

/// One thing that confinement takes away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Layer {
    /// A user namespace of its own: identity and capabilities mean nothing outside.
    UserNamespace,
    /// A mount namespace of its own.
    MountNamespace,
    /// A process namespace of its own: no other process can be named.
    PidNamespace,
    /// A network namespace of its own, in which nothing is up.
    NetworkNamespace,
    /// A System V IPC and message queue namespace of its own.
    IpcNamespace,
    /// A host name namespace of its own.
    UtsNamespace,
    /// Inside the user namespace there is one user and one group.
    Identity,
    /// The root directory is empty and read-only, and the old one is out of reach.
    EmptyRoot,
    /// Nothing is above a granted directory, and one granted for reading cannot be changed. Only listed if there is one.
    GrantedDirectories,
    /// The host's name is not to be seen.
    HostName,
    /// No descriptor is open but those granted.
    Descriptors,
    /// No more threads than needed.
    ThreadLimit,
    /// Core files, open files, locked memory, message queues are limited.
    ResourceLimits,
    /// The bounding set is empty, the ambient set too, and securebits are locked.
    BoundingSet,
    /// No capability is effective, permitted or inheritable.
    NoCapabilities,
    /// `no_new_privs` is set.
    NoNewPrivileges,
    /// Other processes of the same user cannot trace or read this one.
    NotDumpable,
}

impl Layer {
    /// Returns the layer's name, as in the JSON form.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::UserNamespace => "user-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::UtsNamespace => "uts-namespace",
            Self::Identity => "identity",
            Self::EmptyRoot => "empty-root",
            Self::GrantedDirectories => "granted-directories",
            Self::HostName => "host-name",
            Self::Descriptors => "descriptors",
            Self::ThreadLimit => "thread-limit",
            Self::ResourceLimits => "resource-limits",
            Self::BoundingSet => "bounding-set",
            Self::NoCapabilities => "no-capabilities",
            Self::NoNewPrivileges => "no-new-privileges",
            Self::NotDumpable => "not-dumpable",
        }
    }
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Whether a layer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "errno")]
pub enum LayerState {
    /// It holds.
    Held,
    /// It does not, and this error number says why. `ENOSYS` (38): the fork did not make the namespace that the layer needs.
    Refused(i32),
}

impl LayerState {
    pub(crate) fn from_result(result: Result<(), Errno>) -> Self {
        match result {
            Ok(()) => Self::Held,
            Err(errno) => Self::Refused(errno.raw_os_error()),
        }
    }
}

impl fmt::Display for LayerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held => f.pad("held"),
            Self::Refused(errno) => write!(f, "refused: {}", Errno::from_raw_os_error(*errno)),
        }
    }
}

/// One resource limit, soft and hard alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Limit {
    /// The resource: "core", "open-files", "locked-memory", "message-queues", "threads", "file-size".
    pub resource: &'static str,
    /// The value; bytes, or a number of things.
    pub value: u64,
}

/// What was applied, and what this host did not allow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Confinement {
    /// Every layer, in the order of application.
    pub layers: Vec<(Layer, LayerState)>,
    /// The limits that are in force.
    pub limits: Vec<Limit>,
    /// The numbers of descriptors that were open and not on the keep list; now they are closed, or `/dev/null` if 0, 1 or 2.
    pub closed_descriptors: Vec<i32>,
    /// The names under the new root.
    pub sockets: Vec<String>,
}

impl Confinement {
    /// Returns the state of one layer.
    #[must_use]
    pub fn state(&self, layer: Layer) -> LayerState {
        self.layers
            .iter()
            .find(|(one, _)| *one == layer)
            .map_or(LayerState::Refused(Errno::NOSYS.raw_os_error()), |(_, state)| {
                *state
            })
    }

    /// The layers that do not hold, by name, separated by spaces.
    #[must_use]
    pub fn missing(&self) -> String {
        let missing: Vec<&str> = self
            .layers
            .iter()
            .filter(|(_, state)| *state != LayerState::Held)
            .map(|(layer, _)| layer.name())
            .collect();
        missing.join(" ")
    }

    /// Says whether every layer holds.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.layers.iter().all(|(_, state)| *state == LayerState::Held)
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (layer, state) in &self.layers {
            writeln!(f, "{layer:<19} {state}")?;
        }
        Ok(())
    }
}

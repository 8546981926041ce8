//! What a cell was granted: plain data that needs neither Cedar nor the manifest.
//!
//! Only [`crate::Decision::grants`] makes [`Grants`], and only when policy permitted every slot and every limit.
//! From then on they can only become less.

use std::path::{Path, PathBuf};

use muscle_abi::capability::CapabilityKind;
use muscle_abi::ring::Role;
use referee_bundle::{ChannelRole, ClockGrade, Delegated, FilesAccess};
use serde::{Deserialize, Serialize};

use crate::binding::SerialTo;
use crate::loan::Lent;

/// All that one cell may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    slots: Vec<Grant>,
    limits: GrantedLimits,
}

/// One slot's power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    slot: String,
    power: Power,
    delegated: Option<Delegated>,
    lent: Lent,
}

/// A capability, narrowed to its arguments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Power {
    /// Standard output, error and log.
    Console {
        /// Standard input too.
        input: bool,
    },
    /// Command-line arguments.
    Args,
    /// Environment variables of these names.
    Env {
        /// The names.
        names: Vec<String>,
    },
    /// The time.
    Clock {
        /// How fine.
        #[serde(with = "Grade")]
        grade: ClockGrade,
    },
    /// Random bytes.
    Random,
    /// Evidence of the host's TPM.
    Attest,
    /// Bytes that are kept from run to run under the slot's name.
    State {
        /// How many at most.
        max_bytes: u64,
    },
    /// Functions of the embedding program with these names.
    Functions {
        /// The names.
        names: Vec<String>,
    },
    /// One end of a ring.
    Ring {
        /// Which.
        #[serde(with = "Side")]
        role: Role,
        /// Bytes that it holds.
        bytes: u64,
        /// The name by which a node joins it; none where a program joins it.
        #[serde(default)]
        ring: Option<String>,
    },
    /// A directory.
    Files {
        /// Where it is: absolute, free of links.
        path: PathBuf,
        /// What may be done there.
        #[serde(with = "Access")]
        access: FilesAccess,
        /// Only what is at or below this path within it.
        within: Option<String>,
        /// Bytes by which the cell may grow what is there.
        max_bytes: u64,
        /// Files and directories that the cell may add.
        max_files: u32,
    },
    /// Outside programs reach this port through a Unix socket.
    VsockListen {
        /// The cell's port.
        port: u32,
        /// The socket that the VMM listens on.
        socket: PathBuf,
    },
    /// The cell reaches an outside program through a Unix socket.
    VsockConnect {
        /// The host's port.
        port: u32,
        /// The socket that the program listens on.
        socket: PathBuf,
    },
    /// I/O ports with a device behind them.
    Pio {
        /// The first port.
        first: u16,
        /// The last port.
        last: u16,
        /// What is behind them.
        device: Device,
    },
    /// Messages to or from other deployments of a node.
    Channel {
        /// The channel's name.
        channel: String,
        /// Which way they go.
        #[serde(with = "Way")]
        role: ChannelRole,
        /// Bytes of a message at most.
        max_bytes: u64,
    },
}

/// [`ClockGrade`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ClockGrade")]
enum Grade {
    Coarse,
    Fine,
}

/// [`ChannelRole`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "ChannelRole")]
enum Way {
    Send { max_messages: u64 },
    Request { max_messages: u64 },
    Receive { function: String },
}

/// [`Role`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Role")]
enum Side {
    Send,
    Receive,
}

/// [`FilesAccess`] as it is written.
#[derive(Serialize, Deserialize)]
#[serde(remote = "FilesAccess")]
enum Access {
    Read,
    ReadWrite,
}

/// A device behind I/O ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Device {
    /// A 16550A serial port.
    Serial {
        /// Where its output goes.
        to: SerialTo,
    },
}

/// Limits that policy permitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GrantedLimits {
    /// Memory of the cell in bytes.
    pub memory_bytes: u64,
    /// Stack in bytes.
    pub stack_bytes: u64,
    /// CPU time in milliseconds.
    pub cpu_ms: u64,
    /// Wall-clock time in milliseconds.
    pub deadline_ms: u64,
}

impl Grants {
    pub(crate) fn new(slots: Vec<Grant>, limits: GrantedLimits) -> Grants {
        Grants { slots, limits }
    }

    /// The slots, in the manifest's order.
    pub fn slots(&self) -> &[Grant] {
        &self.slots
    }

    /// The limits.
    pub fn limits(&self) -> &GrantedLimits {
        &self.limits
    }

    /// Lowers the deadline to at most `deadline_ms`; never raises it.
    pub fn narrow_deadline(&mut self, deadline_ms: u64) {
        self.limits.deadline_ms = self.limits.deadline_ms.min(deadline_ms);
    }

    /// Lowers the CPU time to at most `cpu_ms`; never raises it.
    pub fn narrow_cpu(&mut self, cpu_ms: u64) {
        self.limits.cpu_ms = self.limits.cpu_ms.min(cpu_ms);
    }

    /// Whether command-line arguments are granted.
    pub fn allows_args(&self) -> bool {
        self.slots.iter().any(|grant| grant.power == Power::Args)
    }

    /// Names of the environment variables that are granted, in the slots' order.
    pub fn env_names(&self) -> impl Iterator<Item = &str> {
        self.slots
            .iter()
            .filter_map(|grant| match &grant.power {
                Power::Env { names } => Some(names),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
    }

    /// Names of the embedding program's functions that are granted, in the slots' order.
    pub fn function_names(&self) -> impl Iterator<Item = &str> {
        self.slots
            .iter()
            .filter_map(|grant| match &grant.power {
                Power::Functions { names } => Some(names),
                _ => None,
            })
            .flatten()
            .map(String::as_str)
    }

    /// The ends of rings that are granted, in the slots' order: slot, which end, bytes.
    pub fn rings(&self) -> impl Iterator<Item = (&str, Role, u64)> {
        self.slots.iter().filter_map(|grant| match grant.power {
            Power::Ring { role, bytes, .. } => Some((grant.slot.as_str(), role, bytes)),
            _ => None,
        })
    }

    /// The name of the ring that a slot was bound to, if it is one's end and was bound.
    pub fn ring_name(&self, slot: &str) -> Option<&str> {
        let grant = self.slots.iter().find(|grant| grant.slot == slot)?;
        match &grant.power {
            Power::Ring { ring, .. } => ring.as_deref(),
            _ => None,
        }
    }

    /// Channels that are granted, in the slots' order: slot, channel, role, most bytes of a message.
    pub fn channels(&self) -> impl Iterator<Item = (&str, &str, &ChannelRole, u64)> {
        self.slots.iter().filter_map(|grant| match &grant.power {
            Power::Channel {
                channel,
                role,
                max_bytes,
            } => Some((grant.slot.as_str(), channel.as_str(), role, *max_bytes)),
            _ => None,
        })
    }

    /// The finest clock that is granted. One that is lent is none of them: what a cell has from its first instruction on cannot be taken back.
    pub fn clock(&self) -> Option<ClockGrade> {
        self.own()
            .filter_map(|grant| match grant.power {
                Power::Clock { grade } => Some(grade),
                _ => None,
            })
            .max()
    }

    /// Whether random bytes are granted, for the same reason not only lent.
    pub fn allows_random(&self) -> bool {
        self.own().any(|grant| grant.power == Power::Random)
    }

    fn own(&self) -> impl Iterator<Item = &Grant> {
        self.slots.iter().filter(|grant| grant.delegated.is_none())
    }

    /// Whether anything is granted for which the host's TPM is needed.
    pub fn needs_tpm(&self) -> bool {
        let needs = |grant: &Grant| matches!(grant.power, Power::Attest | Power::State { .. });
        self.slots.iter().any(needs)
    }

    /// Ports of the cell that outside programs may reach, with the socket for each.
    pub fn listen_ports(&self) -> impl Iterator<Item = (u32, &Path)> {
        self.slots.iter().filter_map(|grant| match &grant.power {
            Power::VsockListen { port, socket } => Some((*port, socket.as_path())),
            _ => None,
        })
    }

    /// Ports of the host that the cell may reach, with the socket behind each.
    pub fn connect_ports(&self) -> impl Iterator<Item = (u32, &Path)> {
        self.slots.iter().filter_map(|grant| match &grant.power {
            Power::VsockConnect { port, socket } => Some((*port, socket.as_path())),
            _ => None,
        })
    }
}

impl Grant {
    /// Whatever is to be delegated has nothing yet.
    pub(crate) fn new(slot: String, power: Power, delegated: Option<Delegated>) -> Grant {
        Grant {
            slot,
            power,
            delegated,
            lent: Lent::NotYet,
        }
    }

    /// The same slot with this.
    pub(crate) fn with(&self, power: Power, lent: Lent) -> Grant {
        Grant {
            power,
            lent,
            ..self.clone()
        }
    }

    /// How another muscle delegates to it; none if policy alone gives it.
    pub fn delegated(&self) -> Option<&Delegated> {
        self.delegated.as_ref()
    }

    /// Whether it waits for another muscle to delegate to it, and in which way; none when it may be used.
    pub fn waits(&self) -> Option<Lent> {
        (self.delegated.is_some() && self.lent != Lent::Now).then_some(self.lent)
    }

    /// The slot's name.
    pub fn slot(&self) -> &str {
        &self.slot
    }

    /// What it allows; of one that waits, what it would at most.
    pub fn power(&self) -> &Power {
        &self.power
    }
}

impl Power {
    /// The kind of capability.
    pub const fn kind(&self) -> CapabilityKind {
        match self {
            Power::Console { .. } => CapabilityKind::Console,
            Power::Args => CapabilityKind::Args,
            Power::Env { .. } => CapabilityKind::Env,
            Power::Clock { .. } => CapabilityKind::Clock,
            Power::Random => CapabilityKind::Random,
            Power::Attest => CapabilityKind::Attest,
            Power::State { .. } => CapabilityKind::State,
            Power::Functions { .. } => CapabilityKind::Functions,
            Power::Ring { .. } => CapabilityKind::Ring,
            Power::Files { .. } => CapabilityKind::Files,
            Power::VsockListen { .. } => CapabilityKind::VsockListen,
            Power::VsockConnect { .. } => CapabilityKind::VsockConnect,
            Power::Pio { .. } => CapabilityKind::Pio,
            Power::Channel { .. } => CapabilityKind::Channel,
        }
    }

    /// The number that the muscle's table of grants carries, see [`muscle_abi::capability::GrantEntry::detail`].
    pub fn detail(&self) -> u64 {
        match self {
            Power::Console { input } => u64::from(*input),
            Power::Args | Power::Env { .. } | Power::Random | Power::Attest | Power::Functions { .. } => 0,
            // Where it is, only the cell knows.
            Power::Ring { .. } => 0,
            Power::State { max_bytes } | Power::Channel { max_bytes, .. } => *max_bytes,
            Power::Clock {
                grade: ClockGrade::Coarse,
            } => 1,
            Power::Clock {
                grade: ClockGrade::Fine,
            } => 2,
            Power::Files {
                access: FilesAccess::Read,
                ..
            } => 0,
            Power::Files {
                access: FilesAccess::ReadWrite,
                ..
            } => 1,
            Power::VsockListen { port, .. } | Power::VsockConnect { port, .. } => u64::from(*port),
            Power::Pio { first, last, .. } => u64::from(*first) | (u64::from(*last) << 32),
        }
    }
}

//! What supervisor and nursery say to each other. Both are the same program, so the form has no versions.

use std::path::PathBuf;
use std::time::Duration;

use referee_policy::{Power, Standings};
use serde::{Deserialize, Serialize};

use crate::channel::ChannelGrant;
use crate::ring::RingGrant;
use crate::worker::Shape;

/// Who decides: read when the nursery starts, and again at each `Reload`.
#[derive(Debug, Clone)]
pub(crate) struct Authority {
    pub trust_store: PathBuf,
    pub policies: Vec<PathBuf>,
    pub max_bundle_bytes: u64,
}

/// What is to be run, and narrowed how. The bundle comes as an open file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// SHA-256 of the bundle's bytes: what is run is what was deployed.
    pub digest: [u8; 32],
    /// `NAME=THING`, as `--bind` takes them.
    pub bindings: Vec<String>,
    pub deadline_ms: Option<u64>,
    pub cpu_ms: Option<u64>,
    /// What was taken from its grants since.
    pub standings: Standings,
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Would it run? With the bundle.
    Assess(Order),
    /// Make a worker for it. With the bundle, the line of calls, the line of the log.
    Spawn { worker: u64, order: Order, shape: Shape },
    /// A life of a worker's cell with its ends of rings begins, before it runs; or is over.
    Life { worker: u64, begins: bool },
    /// Wait for a worker's end, and bring it about if it does not come in time.
    Reap { worker: u64, patience: Duration },
    /// Read trust store and policies again.
    Reload,
    /// Answer.
    Greet,
}

/// A reply.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Told {
    Assessed(Box<Assessment>),
    /// With what the worker was granted.
    Spawned {
        channels: Vec<ChannelGrant>,
        rings: Vec<RingGrant>,
    },
    /// Both sides of its rings can see it.
    Lived,
    Reaped {
        how: String,
    },
    Reloaded,
    Greeted,
    /// Bundle, trust store, policy or a binding says no.
    Rejected {
        name: String,
        message: String,
    },
    /// The host failed.
    Failed {
        message: String,
    },
}

/// What a bundle is and what policy says about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Assessment {
    pub name: String,
    pub version: String,
    pub description: String,
    pub publisher: String,
    pub key_id: String,
    pub security_epoch: u64,
    pub exports: Vec<String>,
    /// Memory that a cell may have, in bytes.
    pub memory_bytes: u64,
    pub cpu_ms: u64,
    pub deadline_ms: u64,
    /// What policy gave to each slot.
    #[serde(default)]
    pub granted: Vec<(String, Power)>,
    /// Channels that it may use. Deployments of older nodes have none.
    #[serde(default)]
    pub channels: Vec<ChannelGrant>,
    /// The decision as JSON, as `referee-vmm explain --json` prints it.
    pub decision: String,
}

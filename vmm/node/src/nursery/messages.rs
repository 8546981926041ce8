//! What supervisor and nursery say to each other. Both are the same program, so the form has no versions.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use referee_policy::{Grants, Loans, Power, Standings};
use serde::{Deserialize, Serialize};

use crate::channel::{self, ChannelGrant};
use crate::delegation::{Seen, Waits};
use crate::ring::{self, RingGrant};
use crate::stream::{self, ConsoleGrant};
use crate::vouching::TpmGrants;
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
    /// What is lent to those of its slots that are delegated.
    pub loans: Loans,
    /// SHA-256 of the snapshot at which its cells begin. It comes as an open file, when a worker is made.
    pub snapshot: Option<[u8; 32]>,
}

/// A request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Would it run? With the bundle.
    Assess(Order),
    /// Make a worker for it. With the bundle, the line of calls, the line of the log, and the snapshot if there is one.
    Spawn { worker: u64, order: Order, shape: Shape },
    /// See to it that it is measured into the host's TPM. With the bundle, and a line on which the answer comes if it is not yet.
    Measure(Order),
    /// Give evidence of this node. With a line on which the rest of the question goes and the answer comes.
    Evidence,
    /// Have the TPM asked for this worker's muscle. With a line on which the question goes and the answer comes.
    Speak { worker: u64 },
    /// Look whether the TPM answers. With a line.
    LookAtTpm,
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
    Spawned(Box<Given>),
    /// It was measured since the node started.
    Measured,
    /// The answer comes on the line.
    OnTheLine,
    /// It is to be measured first.
    NotMeasured,
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

/// What policy gave to a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Given {
    /// Channels that it may use.
    pub channels: Vec<ChannelGrant>,
    /// What was left of its consoles when it was made.
    pub console: Vec<ConsoleGrant>,
    /// What it may ask of the TPM, of what was left then.
    pub tpm: TpmGrants,
    /// Ends of rings that it has.
    pub rings: Vec<RingGrant>,
    /// Each slot's power.
    pub powers: Vec<(String, Power)>,
    /// Slots that wait for another muscle to delegate to them.
    pub waits: BTreeMap<String, Waits>,
}

impl Given {
    pub(crate) fn of(grants: &Grants) -> Given {
        let slots = grants.slots();
        Given {
            channels: channel::granted(grants),
            console: stream::consoles(grants),
            tpm: TpmGrants::of(grants),
            rings: ring::granted(grants),
            powers: slots
                .iter()
                .map(|grant| (grant.slot().to_owned(), grant.power().clone()))
                .collect(),
            waits: slots
                .iter()
                .filter_map(|grant| {
                    let delegated = grant.delegated()?;
                    let waits = Waits {
                        from: delegated.from.clone(),
                        onward: delegated.onward,
                    };
                    Some((grant.slot().to_owned(), waits))
                })
                .collect(),
        }
    }

    /// What it says of a slot.
    pub(crate) fn slot(&self, name: &str) -> Option<Seen> {
        let (_, power) = self.powers.iter().find(|(slot, _)| slot == name)?;
        Some(Seen {
            power: power.clone(),
            waits: self.waits.get(name).cloned(),
        })
    }
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
    /// Slots that wait for another muscle to delegate to them.
    #[serde(default)]
    pub waits: BTreeMap<String, Waits>,
    /// Channels that it may use. Deployments of older nodes have none.
    #[serde(default)]
    pub channels: Vec<ChannelGrant>,
    /// The decision as JSON, as `referee-vmm explain --json` prints it.
    pub decision: String,
}

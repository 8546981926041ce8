//! Requests and replies. Byte strings travel as hexadecimal digits, hashes as arrays.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Registers that are measured into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registers {
    /// VMM, policy, trust store.
    pub identity: u32,
    /// Bundles.
    pub muscles: u32,
    /// Whether registers will do that any program of the host can set back.
    pub allow_resettable: bool,
}

impl Registers {
    /// Both, the lower first.
    pub fn both(&self) -> [u32; 2] {
        [self.identity.min(self.muscles), self.identity.max(self.muscles)]
    }
}

/// A part of what enforces the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Component {
    /// `vmm`, `policy`, ….
    pub name: String,
    /// SHA-256 of it.
    pub digest: [u8; 32],
}

/// A bundle that is about to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bundle {
    /// Name and version.
    pub muscle: String,
    /// SHA-256 of the file.
    pub digest: [u8; 32],
    /// Key id of its signer.
    pub signer: [u8; 32],
    /// Its security epoch.
    pub epoch: u64,
}

/// What a muscle had put into the evidence, and who it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoke {
    /// Its bundle; by the VMM.
    pub bundle: Bundle,
    /// SHA-256 of the granted powers; by the VMM.
    pub grants: [u8; 32],
    /// Whatever the muscle says.
    pub user_data: String,
    /// Nonce that the muscle was given.
    pub nonce: String,
    /// A public key that the muscle made.
    pub public_key: String,
}

/// Whose state it is: nobody else reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateOwner {
    /// The publisher, as the trust store names it: another key of theirs goes on where the last one stopped.
    pub publisher: String,
    /// The muscle's name, without a version.
    pub muscle: String,
    /// The slot's name.
    pub slot: String,
}

/// A state that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptState {
    /// Whose.
    pub owner: StateOwner,
    /// How many times it was saved.
    pub sequence: u64,
    /// Security epoch of the bundle that saved it; an older one does not open it.
    pub epoch: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What one run or call was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Its bundle.
    pub bundle: Bundle,
    /// SHA-256 of the granted powers.
    pub grants: [u8; 32],
    /// SHA-256 of the policies.
    pub policy: [u8; 32],
    /// The function that was called; none for `main`.
    pub function: Option<String>,
    /// SHA-256 of all that came in.
    pub input: [u8; 32],
    /// SHA-256 of all that went out.
    pub output: [u8; 32],
    /// How it ended.
    pub outcome: String,
    /// Wall-clock time in microseconds.
    pub wall_us: u64,
    /// CPU time in microseconds.
    pub cpu_us: u64,
    /// Exits of the guest.
    pub exits: u64,
    /// Heap in bytes.
    pub heap_bytes: u64,
    /// How many records the audit log has after the last one of this run.
    pub log_records: u64,
    /// Hash of that record, in hexadecimal digits.
    pub log_hash: String,
    /// Granted powers through which something came in that another run would not get.
    pub nondeterminism: Vec<String>,
}

/// The first request of a session: which TPM, and what this host is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// `swtpm:DIR`, `device:/dev/tpmrm0`, `tcti:CONF`.
    pub tpm: String,
    /// Directory of log and sealed keys; without it, one beside the software TPM or below /var/lib.
    pub state: Option<PathBuf>,
    /// Registers.
    pub registers: Registers,
    /// NV index of the counter.
    pub counter: u32,
    /// The identity, in the order in which it is measured.
    pub components: Vec<Component>,
    /// Version of the trust store.
    pub trust_version: u64,
}

/// What can be asked. Every request but `open` and `restart` first sees to it that the identity is measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case")]
pub enum Request {
    /// Begin.
    Open(Box<Open>),
    /// Make counter and first key.
    Init {
        /// Although there is a key that cannot be opened.
        replace: bool,
    },
    /// See to it that the identity is measured, and say since when the registers count.
    Identify,
    /// Measure a bundle; it may run when this is answered.
    Measure {
        /// Which.
        bundle: Bundle,
        /// Whether something is to be signed afterwards, so that a TPM without a key is refused now.
        to_be_signed: bool,
    },
    /// Sign what one run or call was.
    Receipt {
        /// What it was.
        facts: Box<Facts>,
    },
    /// Give evidence.
    Evidence {
        /// The verifier's.
        nonce: String,
        /// What muscles had put in, by cell.
        spoke: BTreeMap<String, Spoke>,
        /// How many records the audit log has, and the hash of the last.
        audit_head: Option<(u64, String)>,
    },
    /// Make the next epoch's key.
    Rotate {
        /// Only if the present one is older than this many seconds.
        older_than: Option<u64>,
    },
    /// Wrap the key for an offline key from now on, or for none.
    SetRecovery {
        /// Public half, X25519.
        public: Option<String>,
    },
    /// Open the key with the private half of the offline key, and seal it to this TPM and this identity.
    Recover {
        /// The private half.
        private: String,
    },
    /// Give what a verifier needs to become sure of this TPM's keys.
    Enrol,
    /// Open a verifier's challenge.
    Activate {
        /// The challenge.
        challenge: String,
    },
    /// Say how far an audit log was when a checkpoint of it was signed last.
    LogFloor {
        /// The log's name.
        origin: String,
    },
    /// Sign a checkpoint of an audit log, if the log has only grown since the last one.
    Checkpoint {
        /// The log's name.
        origin: String,
        /// Number of records.
        size: u64,
        /// Root of the tree over them.
        root: String,
        /// Proof that the tree of the last checkpoint is its beginning, one hash each.
        proof: Vec<String>,
    },
    /// Open what a muscle saved.
    LoadState {
        /// Whose.
        owner: StateOwner,
        /// Security epoch of the bundle that asks.
        epoch: u64,
    },
    /// Replace what a muscle saved; it is on the disk, and what was before it never opens again, when this is answered.
    SaveState {
        /// Whose.
        owner: StateOwner,
        /// The bundle that asks.
        bundle: Bundle,
        /// Only if this is what was saved last, as [`Reply::State`] names it.
        after: Option<String>,
        /// What to keep.
        bytes: String,
    },
    /// Give up what a muscle saved.
    ForgetState {
        /// Whose.
        owner: StateOwner,
    },
    /// Seal the key also to the identity that an update will have.
    PrepareUpdate {
        /// Its components, in the order in which they will be measured.
        components: Vec<Component>,
    },
    /// Say what there is.
    Status,
    /// Write down this host as it is, for a verifier to hold later evidence against.
    Reference,
    /// Let a software TPM start as after a reset.
    Restart {
        /// Which.
        tpm: String,
    },
}

/// A rule by which a bundle or trust store is refused here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// A newer bundle by the same key ran before.
    EpochRolledBack,
    /// A security epoch far beyond what was seen.
    EpochJump,
    /// A newer trust store was used before.
    TrustStoreRolledBack,
    /// An audit log that is not the continuation of what was signed of it before.
    LogRolledBack,
    /// A state that was saved by a bundle of a later security epoch.
    StateNewer,
}

impl Rule {
    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Rule::EpochRolledBack => "epoch-rolled-back",
            Rule::EpochJump => "epoch-jump",
            Rule::TrustStoreRolledBack => "trust-store-rolled-back",
            Rule::LogRolledBack => "audit-log-rolled-back",
            Rule::StateNewer => "state-newer",
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// It is done.
    Done,
    /// The identity is measured.
    Identified {
        /// The TPM's reset and restart counts when its registers began: while they are the same, what was measured stays measured.
        boot: String,
    },
    /// The bundle is measured.
    Measured {
        /// Whether this boot had not run it before.
        first: bool,
    },
    /// Keys of an epoch.
    Keys {
        /// Which.
        epoch: u64,
        /// Public part of the instance key.
        instance_key: String,
    },
    /// A document.
    Bytes {
        /// It.
        bytes: String,
    },
    /// A text.
    Text {
        /// It.
        text: String,
    },
    /// What there is.
    Status {
        /// Value of the counter.
        epoch: u64,
        /// Public part of the instance key.
        instance_key: String,
        /// Name of the attestation key.
        attestation_key: String,
        /// Whether the TPM is a program of this host.
        software: bool,
        /// Manufacturer and model.
        model: String,
        /// States of muscles that are kept.
        states: Vec<KeptState>,
        /// The event log.
        events: serde_json::Value,
    },
    /// What a muscle saved.
    State {
        /// How many times it did.
        sequence: u64,
        /// What distinguishes it from everything that was ever saved; empty before the first time.
        version: String,
        /// It; `None` before the first time.
        bytes: Option<String>,
    },
    /// How far an audit log was.
    LogFloor {
        /// Number of records; 0 when no checkpoint was signed yet.
        size: u64,
    },
    /// A checkpoint.
    Checkpoint {
        /// The signed note.
        note: String,
        /// What the TPM says about it.
        anchor: String,
        /// Public keys that signed, as c2sp.org/signed-note writes them.
        keys: Vec<String>,
    },
    /// A bundle, trust store or audit log must not be used.
    Rejected {
        /// By which rule.
        rule: Rule,
        /// What, where and what to do.
        message: String,
    },
    /// It did not work.
    Failed {
        /// A stable name for machines.
        name: String,
        /// What, where and what to do.
        message: String,
    },
}

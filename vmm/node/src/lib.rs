//! The node: a service that keeps deployed muscles and has their functions called through an API.
//!
//! ```text
//!   clients ── HTTP on a Unix socket ──► supervisor ── lines ──► workers, one for each deployment in use
//!                                        API, log, state         cells, in a jail
//!                                            │                      ▲
//!                                            └────► nursery ────────┘ forks them
//!                                                   trust, policy, KVM
//! ```
//! No process has more than its work needs: the one that reads what clients send has neither KVM nor trust store, the one that decides
//! never reads what clients send nor runs a cell, and a worker has one deployment's cells and nothing else.
#![forbid(unsafe_code)]

mod alerts;
mod anomaly;
mod api;
mod bundle_uses;
mod call;
mod channel;
pub mod client;
mod config;
mod crew;
mod delegation;
mod deployment;
mod deployment_file;
mod descriptors;
mod error;
mod flood;
mod forms;
mod gate;
mod health;
mod histogram;
mod ledger;
mod lend;
mod line;
mod logs;
mod mailbox;
mod manager;
mod measuring;
mod memory;
mod messages;
mod node;
mod notary;
mod nursery;
mod oom;
mod pipeline;
mod release;
mod relief;
mod report;
mod restrict;
mod ring;
mod room;
mod serve;
mod settings;
mod stages;
mod store;
mod stream;
mod tls;
mod turns;
mod vouching;
mod worker;

pub use anomaly::{Anomaly, Signal};
pub use api::{
    Attest, Deploy, DeploymentState, EndShown, ErrorKind, Explained, Explanation, Narrow, PowerShown,
    RingShown, Shown, ShownPipeline, SlotShown, SlotState, SnapshotMade, SnapshotShown, Stats, TenantUsage,
    document,
};
pub use config::{
    Anomalies, Api, Audit, Cells, Channels, Config, DEFAULT_SOCKET, Health as HealthConfig,
    Memory as MemoryConfig, Metrics, Scheduling, SideChannels, Snapshots, Tcp, TenantCap, TenantShare, Tpm,
    Traces,
};
pub use deployment::Counted;
pub use deployment_file::{DeploymentFile, Wanted};
pub use error::NodeError;
pub use health::{Degradation, Health, MemoryShown};
pub use histogram::{BOUNDS_US, Distribution};
pub use logs::LogLine;
pub use memory::HostMemory;
pub use pipeline::{NotAPipeline, Pipeline, STEPS_MAX, Step};
pub use serve::serve;
pub use settings::{CELLS_MAX, NotAPriority, Priority, Settings};

//! The node: what the API asks of it, and who answers.

mod changes;
mod snapshots;

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use referee_audit::{AuditLog, AuditSink, Event, Kind, Options, Sharing, Value};
use referee_bundle::Digest;
use referee_policy::{Access, Loan, Loans, Standings};
use referee_trace::Tracer;
use tokio::sync::{Mutex as AsyncMutex, Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::api::Peer;
use crate::bundle_uses::BundleUses;
use crate::config::Config;
use crate::delegation::{Delegations, End};
use crate::deployment::Deployment;
use crate::error::{NodeError, OrHost};
use crate::gate::Gate;
use crate::health::Watch;
use crate::memory::{Demand, Memory};
use crate::notary::Notary;
use crate::nursery::{Nursery, Order};
use crate::pipeline::Pipelines;
use crate::report;
use crate::ring::Rings;
use crate::settings::{Priority, Settings};
use crate::store::{Deployed, Store};
use crate::tls::Tls;
use crate::turns::{Place, Turns};

/// The node. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Node(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    nursery: Nursery,
    notary: Option<Notary>,
    store: Store,
    audit: AuditSink,
    deployments: RwLock<BTreeMap<String, Arc<Deployment>>>,
    /// Bundles that were sent and are not deployed yet, the oldest first. Held while anything about deployments changes.
    changes: AsyncMutex<VecDeque<String>>,
    /// Held while a snapshot is made: their bounds are of all of them.
    keeping: AsyncMutex<()>,
    /// Changed by whoever holds `changes`.
    delegations: Mutex<Delegations>,
    pipelines: Pipelines,
    turns: Turns,
    rings: Rings,
    memory: Memory,
    uses: BundleUses,
    /// Bundles that nobody used any more, until somebody removes them.
    unused: Mutex<Option<mpsc::UnboundedReceiver<String>>>,
    /// Deployments that were replaced or removed and may have a worker still.
    retired: Mutex<Vec<Weak<Deployment>>>,
    gate: Gate,
    tls: Option<Arc<Tls>>,
    /// Tells those who go on for long that what they may do may have changed.
    reloads: watch::Sender<()>,
    /// Tells those who wait for a paused deployment that something was resumed, changed or removed.
    resumed: Notify,
    slot_count: usize,
    /// KiB of requests' bodies that may be in memory at once.
    bodies: Semaphore,
    /// Streams at once.
    streams: Arc<Semaphore>,
    numbers: AtomicU64,
    draining: AtomicBool,
    watch: Watch,
    started: u64,
    tracer: Tracer,
}

/// Who asked for something, as the audit log names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Principal(pub String);

impl Node {
    /// Opens log and state.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn open(config: Config, nursery: Nursery) -> Result<Node, NodeError> {
        let doing = "opening the audit log";
        let options = Options {
            sharing: Sharing::Shared,
            sync_each: config.audit.sync,
            ..Options::default()
        };
        let file = AuditLog::open_file(&config.audit.file).or_host(doing)?;
        let log = AuditLog::from_file(file, options).or_host(doing)?;
        let store = Store::open(&config.state)?;
        let kept = store.deployments()?;
        let pipelines = Pipelines::of(store.pipelines()?);
        let needed: Vec<String> = kept.iter().map(|(_, deployed)| deployed.bundle.clone()).collect();
        store.sweep(&needed)?;
        store.sweep_snapshots()?;
        let slot_count = match config.cells.slots {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get),
            slots => slots,
        };
        let turns = Turns::new(&config, slot_count)?;
        let memory = Memory::new(&config);
        let (uses, unused) = BundleUses::new();
        let log_bytes = config.cells.log_bytes;
        let deployments = kept.into_iter().map(|(name, deployed)| {
            let place = reserved(&turns, &deployed);
            if let Err(error) = &place {
                report::problem(&format!("deployment {name}: {error}"));
            }
            // It was acknowledged, so it stays, whatever the budget is now.
            promise(&memory, &name, &deployed, slot_count);
            let bundle = uses.begin(&deployed.bundle);
            let place = place.ok().flatten();
            let deployment = Deployment::new(name.clone(), deployed, bundle, place, log_bytes);
            (name, Arc::new(deployment))
        });
        let deployments = deployments.collect();
        let delegations = delegations_of(&store, &deployments)?;
        let figures = memory.figures();
        if figures.promised > figures.promisable {
            report::problem(&format!(
                "deployments can take {} bytes of memory, and memory.budget_bytes × memory.overcommit_percent is {}: calls may be refused",
                figures.promised, figures.promisable
            ));
        }
        Ok(Node(Arc::new(Inner {
            deployments: RwLock::new(deployments),
            memory,
            unused: Mutex::new(Some(unused)),
            uses,
            retired: Mutex::default(),
            notary: config
                .tpm
                .as_ref()
                .map(|tpm| Notary::new(nursery.clone(), tpm.patience())),
            nursery,
            store,
            audit: AuditSink::new(log, "", ""),
            changes: AsyncMutex::default(),
            keeping: AsyncMutex::default(),
            delegations: Mutex::new(delegations),
            pipelines,
            turns,
            rings: Rings::default(),
            gate: Gate::open(config.api.policies.clone())?,
            tls: config.api.tcp.clone().map(Tls::open).transpose()?.map(Arc::new),
            reloads: watch::Sender::new(()),
            resumed: Notify::new(),
            slot_count,
            bodies: Semaphore::new(config.api.bodies_bytes / 1024),
            streams: Arc::new(Semaphore::new(config.api.streams)),
            numbers: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            watch: Watch::default(),
            started: now(),
            tracer: tracer(&config)?,
            config,
        })))
    }

    pub(crate) fn config(&self) -> &Config {
        &self.0.config
    }

    pub(crate) fn nursery(&self) -> &Nursery {
        &self.0.nursery
    }

    /// Who asks the host's TPM, if this node has one.
    pub(crate) fn notary(&self) -> Option<&Notary> {
        self.0.notary.as_ref()
    }

    pub(crate) fn store(&self) -> &Store {
        &self.0.store
    }

    pub(crate) fn audit(&self) -> &AuditSink {
        &self.0.audit
    }

    pub(crate) fn pipelines(&self) -> &Pipelines {
        &self.0.pipelines
    }

    pub(crate) fn turns(&self) -> &Turns {
        &self.0.turns
    }

    pub(crate) fn rings(&self) -> &Rings {
        &self.0.rings
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.0.memory
    }

    /// When it was opened, in seconds since 1970.
    pub(crate) fn started(&self) -> u64 {
        self.0.started
    }

    pub(crate) fn tracer(&self) -> &Tracer {
        &self.0.tracer
    }

    pub(crate) fn watch(&self) -> &Watch {
        &self.0.watch
    }

    /// The API on TCP, if it is there.
    pub(crate) fn tls(&self) -> Option<&Arc<Tls>> {
        self.0.tls.as_ref()
    }

    /// Hears of reloads from here on.
    pub(crate) fn reloads(&self) -> watch::Receiver<()> {
        self.0.reloads.subscribe()
    }

    /// Who hears that a deployment was resumed, changed or removed, or that the node ends.
    pub(crate) fn resumed(&self) -> &Notify {
        &self.0.resumed
    }

    /// Calls that may run at once.
    pub(crate) fn slot_count(&self) -> usize {
        self.0.slot_count
    }

    /// Room for bodies, in KiB.
    pub(crate) fn bodies(&self) -> &Semaphore {
        &self.0.bodies
    }

    /// A place among the streams that there are at once.
    ///
    /// # Errors
    /// [`NodeError::Busy`].
    pub(crate) fn place_for_stream(&self) -> Result<OwnedSemaphorePermit, NodeError> {
        Arc::clone(&self.0.streams)
            .try_acquire_owned()
            .map_err(|_| NodeError::Busy {
                what: "streams at once (api.streams)",
                limit: self.0.config.api.streams,
            })
    }

    /// A number that no other worker or call of this service's life has.
    pub(crate) fn next_number(&self) -> u64 {
        self.0.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Refuses what policy about the API does not permit. Refused changes are recorded.
    ///
    /// # Errors
    /// [`NodeError::NotPermitted`].
    pub(crate) fn allow(&self, peer: &Peer, access: Access<'_>) -> Result<(), NodeError> {
        if self.0.gate.permits(&peer.0, access) {
            return Ok(());
        }
        let (name, what) = match access {
            Access::Deploy { name, .. } => (name, "deploy"),
            Access::Call { name, .. } => (name, "call"),
            Access::Grant { name, action, .. } | Access::Deployment { name, action } => (name, action),
            Access::Node { action } => ("", action),
            Access::Pipeline { name, action } => (name, action),
        };
        // Calls and looks that are refused change nothing, and would let anybody fill the log.
        if !matches!(what, "call" | "see" | "logs" | "stats" | "audit" | "attest") {
            self.manage(&peer.principal(), &format!("deny-{what}"), name, "")?;
        }
        Err(NodeError::NotPermitted {
            who: peer.principal().0,
            what: match name {
                "" => what.to_owned(),
                name => format!("{what} `{name}`"),
            },
        })
    }

    /// Whether policy about the API permits something that changes nothing, and of which nobody is told.
    pub(crate) fn permits(&self, peer: &Peer, access: Access<'_>) -> bool {
        self.0.gate.permits(&peer.0, access)
    }

    /// Whether the API lets this peer know of a deployment.
    pub(crate) fn shows(&self, peer: &Peer, name: &str) -> bool {
        self.0
            .gate
            .permits(&peer.0, Access::Deployment { name, action: "see" })
    }

    /// Takes no more calls.
    pub(crate) fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
        self.0.resumed.notify_waiters();
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// All deployments, by name.
    pub(crate) fn deployments(&self) -> Vec<Arc<Deployment>> {
        let deployments = self.0.deployments.read().unwrap_or_else(PoisonError::into_inner);
        deployments.values().cloned().collect()
    }

    /// Looks at each of them; none comes or goes meanwhile.
    pub(crate) fn each_deployment(&self, mut look: impl FnMut(&Arc<Deployment>)) {
        let deployments = self.0.deployments.read().unwrap_or_else(PoisonError::into_inner);
        deployments.values().for_each(&mut look);
    }

    /// One of them.
    ///
    /// # Errors
    /// [`NodeError::NoDeployment`].
    pub(crate) fn deployment(&self, name: &str) -> Result<Arc<Deployment>, NodeError> {
        let deployments = self.0.deployments.read().unwrap_or_else(PoisonError::into_inner);
        let found = deployments.get(name).cloned();
        found.ok_or_else(|| NodeError::NoDeployment(name.to_owned()))
    }

    /// Ends workers that nobody has used for a while, for as long as the service lives.
    pub(crate) async fn retire_idle(&self) {
        let idle = Duration::from_secs(self.0.config.cells.idle_seconds);
        let mut ticks = tokio::time::interval((idle / 4).clamp(MIN_TICK, MAX_TICK));
        loop {
            ticks.tick().await;
            for deployment in self.deployments() {
                let is_idle = |worker: Arc<crate::crew::Worker>| worker.is_idle_for(idle);
                if !deployment.present().is_some_and(is_idle) {
                    continue;
                }
                // All cells, or somebody is about to call.
                let all = u32::try_from(deployment.deployed.settings.cells).unwrap_or(u32::MAX);
                if let Ok(_all) = deployment.cells.try_acquire_many(all) {
                    deployment.dismiss().await;
                }
            }
        }
    }

    /// Waits until nothing is under way, or for so long.
    pub(crate) async fn settle(&self, within: Duration) {
        self.lose_messages();
        let all = async {
            for deployment in self.with_retired() {
                let cells = u32::try_from(deployment.deployed.settings.cells).unwrap_or(u32::MAX);
                let _all = deployment.cells.acquire_many(cells).await;
                deployment.dismiss().await;
            }
        };
        if tokio::time::timeout(within, all).await.is_err() {
            report::problem("calls are still under way and are given up");
            let deployments = self.with_retired();
            let dismissals = deployments.iter().map(|deployment| deployment.dismiss());
            // A worker that is being made has time to be ready; beyond that the service ends without waiting.
            let all = futures_util::future::join_all(dismissals);
            let _ = tokio::time::timeout(LAST_PATIENCE, all).await;
        }
    }

    /// Removes bundles that nobody uses any more, for as long as the service lives.
    pub(crate) async fn remove_unused_bundles(&self) {
        let unused = self
            .0
            .unused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(mut unused) = unused else {
            return;
        };
        while let Some(digest) = unused.recv().await {
            let loose = self.0.changes.lock().await;
            if loose.contains(&digest) || self.0.uses.is_used(&digest) {
                continue;
            }
            let node = self.clone();
            if let Err(error) = blocking(move || node.store().forget_bundle(&digest)).await {
                report::problem(&error.with_causes());
            }
        }
    }

    /// All deployments, and those that are none any more and may have a worker.
    fn with_retired(&self) -> Vec<Arc<Deployment>> {
        let mut all = self.deployments();
        let retired = self.0.retired.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend(retired.iter().filter_map(Weak::upgrade));
        all
    }

    /// What a worker of this deployment is to be granted.
    pub(crate) fn order(&self, deployment: &Deployment) -> Result<Order, NodeError> {
        let digest = Digest::from_hex(&deployment.deployed.bundle)
            .ok_or_else(|| NodeError::host("reading a deployment")("its bundle has no digest"))?;
        let changed = (deployment.standings(), deployment.loans());
        Ok(order(&deployment.deployed.settings, digest, changed))
    }

    /// Records something about deployments or authority.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) fn record(&self, op: &str, detail: &[(&str, Value<'_>)]) -> Result<(), NodeError> {
        self.0
            .audit
            .record(&Event {
                kind: Kind::Manage,
                capability: None,
                slot: None,
                op: Some(op),
                detail,
            })
            .or_host("recording a change")
    }

    /// All delegations as they are.
    pub(crate) fn delegations(&self) -> Delegations {
        let delegations = self.0.delegations.lock().unwrap_or_else(PoisonError::into_inner);
        delegations.clone()
    }

    /// For whoever has nothing else changed meanwhile.
    pub(crate) fn set_delegations(&self, delegations: Delegations) {
        *self.0.delegations.lock().unwrap_or_else(PoisonError::into_inner) = delegations;
    }

    /// Keeps everything about deployments as it is for as long as the result is held.
    pub(crate) async fn no_changes(&self) -> impl Sized + '_ {
        self.0.changes.lock().await
    }

    /// Those that had this name, whose calls may not be over.
    pub(crate) fn retired(&self, name: &str) -> Vec<Arc<Deployment>> {
        let retired = self.0.retired.lock().unwrap_or_else(PoisonError::into_inner);
        let there = retired.iter().filter_map(Weak::upgrade);
        there.filter(|one| one.name == name).collect()
    }
}

/// How long workers may take to end when their calls were given up.
const LAST_PATIENCE: Duration = Duration::from_secs(8);
const MIN_TICK: Duration = Duration::from_millis(250);
const MAX_TICK: Duration = Duration::from_secs(15);

/// What a real-time deployment is promised; others are promised nothing ahead.
fn reserved(turns: &Turns, deployed: &Deployed) -> Result<Option<Place>, NodeError> {
    let priority = &deployed.settings.priority;
    match priority {
        Priority::RealTime { .. } => turns.enter(&deployed.assessment.publisher, priority).map(Some),
        Priority::Fair { .. } | Priority::Background {} => Ok(None),
    }
}

/// Promises a deployment the memory that it can take.
fn promise(memory: &Memory, name: &str, deployed: &Deployed, slots: usize) {
    let demand = Demand::of(&deployed.settings, &deployed.assessment, slots);
    memory.promise(name, &deployed.assessment.publisher, demand.most());
}

fn order(settings: &Settings, digest: Digest, (standings, loans): (Standings, Loans)) -> Order {
    Order {
        digest: digest.0,
        bindings: settings.bindings.clone(),
        deadline_ms: settings.deadline_ms,
        cpu_ms: settings.cpu_ms,
        standings,
        loans,
        // Only what was looked at is a setting.
        snapshot: settings
            .snapshot
            .as_deref()
            .and_then(Digest::from_hex)
            .map(|id| id.0),
    }
}

/// Delegations as they were kept, those that still hold; each slot has what it has by them.
fn delegations_of(
    store: &Store,
    deployments: &BTreeMap<String, Arc<Deployment>>,
) -> Result<Delegations, NodeError> {
    let mut all = Delegations::of(store.delegations()?);
    let look = |end: &End| deployments.get(&end.deployment)?.seen(&end.slot);
    let ended = all.end_what_does_not_hold(&look);
    let rows: Vec<_> = ended.into_iter().map(|(end, _)| (end, None)).collect();
    store.keep_delegations(&rows)?;
    for (end, _) in all.iter() {
        if let Some(deployment) = deployments.get(&end.deployment) {
            // Older than whatever comes.
            let power = all.lent(end, &look);
            deployment.put_loan(&end.slot, Loan { number: 0, power });
        }
    }
    Ok(all)
}

/// Has the worker dismissed once its calls are done, and does not wait for that; calls that come from here on do.
pub(crate) fn begin_to_renew(deployment: Arc<Deployment>) {
    let mut renewal = Box::pin(async move { renew(&deployment).await });
    // Looked at once, so that it stands in line for the cells before any call that comes later.
    let looked_at = tokio::task::unconstrained(renewal.as_mut()).now_or_never();
    if looked_at.is_none() {
        tokio::spawn(renewal);
    }
}

/// Dismisses the worker once its calls are done, also one that is only being made; the next call, if any is to come, gets a new one.
async fn renew(deployment: &Deployment) {
    let all = u32::try_from(deployment.deployed.settings.cells).unwrap_or(u32::MAX);
    let _all = deployment.cells.acquire_many(all).await;
    deployment.dismiss().await;
}

async fn blocking<T: Send + 'static>(
    act: impl FnOnce() -> Result<T, NodeError> + Send + 'static,
) -> Result<T, NodeError> {
    tokio::task::spawn_blocking(act)
        .await
        .or_host("waiting for a thread")?
}

fn tracer(config: &Config) -> Result<Tracer, NodeError> {
    match config.traces.endpoint()? {
        None => Ok(Tracer::off()),
        Some(endpoint) => Tracer::start(&endpoint, config.traces.sample).or_host("making traces"),
    }
}

fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

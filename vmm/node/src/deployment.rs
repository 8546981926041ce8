//! A deployed muscle: its settings, its worker, the calls that wait for a cell, and what they have used.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use referee_policy::{Loan, Loans, Power, Standing, Standings};
use serde::{Deserialize, Serialize};
use tokio::sync::{Mutex as AsyncMutex, MutexGuard as MutexGuardAsync, Semaphore};
use utoipa::ToSchema;

use crate::anomaly::{Anomaly, Change, Detector, Totals};
use crate::bundle_uses::BundleUse;
use crate::crew::Worker;
use crate::error::NodeError;
use crate::histogram::Histogram;
use crate::logs::Logs;
use crate::mailbox::Mailbox;
use crate::measuring::Measuring;
use crate::nursery::Assessment;
use crate::settings::Priority;
use crate::store::Deployed;
use crate::turns::{Place, Turns};

/// First wait before a worker that failed is replaced; doubled with each failure in a row.
const BACK_OFF: Duration = Duration::from_millis(100);
/// Longest such wait.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// A deployment in a running node.
#[derive(Debug)]
pub(crate) struct Deployment {
    pub name: String,
    pub deployed: Deployed,
    pub paused: AtomicBool,
    standings: Mutex<Standings>,
    /// What is lent to slots that wait for it.
    loans: Mutex<Loans>,
    retired: AtomicBool,
    /// Its bundle stays on the disk for as long as a worker may be made of it.
    _bundle: BundleUse,
    pub logs: Arc<Logs>,
    pub counters: Arc<Counters>,
    /// Messages that wait for it. It belongs to the name, and goes on with what is deployed under it next.
    pub mailbox: Arc<Mailbox>,
    /// How long calls took, from their taking to their end.
    pub called: Histogram,
    /// How long they waited for their first turn.
    pub waited: Histogram,
    detector: Mutex<Detector>,
    /// One permit for each call that may be under way.
    pub cells: Semaphore,
    /// What a real-time deployment was promised.
    place: Mutex<Option<Arc<Place>>>,
    waiting: AtomicUsize,
    worker: AsyncMutex<Staffing>,
    /// Whether its bundle may run, on a node with a TPM.
    pub measuring: Measuring,
    /// How often in a row its worker failed, for those who only look.
    failures: AtomicU32,
    /// The same worker, for those who only look.
    present: Mutex<Option<Arc<Worker>>>,
}

#[derive(Debug, Default)]
struct Staffing {
    worker: Option<Arc<Worker>>,
    failures: u32,
    not_before: Option<Instant>,
}

/// [`Counted`] as it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub calls: AtomicU64,
    pub returned: AtomicU64,
    pub function_errors: AtomicU64,
    pub faults: AtomicU64,
    pub cancelled: AtomicU64,
    pub host_errors: AtomicU64,
    pub refused: AtomicU64,
    pub denials: AtomicU64,
    pub slices: AtomicU64,
    pub exits: AtomicU64,
    pub used_us: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    pub workers_started: AtomicU64,
    pub cells_paged_out: AtomicU64,
    pub cells_dropped: AtomicU64,
    pub workers_out_of_order: AtomicU64,
    pub messages_sent: AtomicU64,
    pub messages_refused: AtomicU64,
    pub messages_taken: AtomicU64,
    pub messages_lost: AtomicU64,
}

/// What a deployment's calls came to and used, since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Counted {
    /// Calls that were taken.
    pub calls: u64,
    /// Calls with a result.
    pub returned: u64,
    /// Calls that the function answered with an error of its own.
    pub function_errors: u64,
    /// Calls in which the muscle broke a rule, its time limits included, or exited.
    pub faults: u64,
    /// Calls that were given up.
    pub cancelled: u64,
    /// Calls that failed by the host.
    pub host_errors: u64,
    /// Calls that were not taken because too many waited, or were refused before they ran.
    pub refused: u64,
    /// Uses of a capability that were refused.
    pub denials: u64,
    /// Pieces in which calls ran.
    pub slices: u64,
    /// Times that cells stopped while calls ran.
    pub exits: u64,
    /// Microseconds for which they had a slot.
    pub used_us: u64,
    /// Bytes of arguments, and of streams' input that muscles asked for.
    pub bytes_in: u64,
    /// Bytes of results, and of streams' output.
    pub bytes_out: u64,
    /// Worker processes that were started.
    pub workers_started: u64,
    /// Cells whose memory was moved to swap because nobody called them.
    #[serde(default)]
    pub cells_paged_out: u64,
    /// Cells that were ended because nobody called them.
    #[serde(default)]
    pub cells_dropped: u64,
    /// Workers that were ended because of what they sent.
    #[serde(default)]
    pub workers_out_of_order: u64,
    /// Messages that its calls sent, or that were answered.
    pub messages_sent: u64,
    /// Messages that its calls wanted to send and could not, or that had no answer.
    pub messages_refused: u64,
    /// Messages of others, sent without waiting, whose call came to a good end here.
    pub messages_taken: u64,
    /// Messages of others, sent without waiting, whose call did not.
    pub messages_lost: u64,
}

impl Counters {
    pub(crate) fn read(&self) -> Counted {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counted {
            calls: get(&self.calls),
            returned: get(&self.returned),
            function_errors: get(&self.function_errors),
            faults: get(&self.faults),
            cancelled: get(&self.cancelled),
            host_errors: get(&self.host_errors),
            refused: get(&self.refused),
            denials: get(&self.denials),
            slices: get(&self.slices),
            exits: get(&self.exits),
            used_us: get(&self.used_us),
            bytes_in: get(&self.bytes_in),
            bytes_out: get(&self.bytes_out),
            workers_started: get(&self.workers_started),
            cells_paged_out: get(&self.cells_paged_out),
            cells_dropped: get(&self.cells_dropped),
            workers_out_of_order: get(&self.workers_out_of_order),
            messages_sent: get(&self.messages_sent),
            messages_refused: get(&self.messages_refused),
            messages_taken: get(&self.messages_taken),
            messages_lost: get(&self.messages_lost),
        }
    }
}

/// Adds to a counter.
pub(crate) fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Deployment {
    pub(crate) fn new(
        name: String,
        deployed: Deployed,
        bundle: BundleUse,
        place: Option<Place>,
        log_bytes: usize,
    ) -> Deployment {
        Deployment {
            name,
            cells: Semaphore::new(deployed.settings.cells),
            paused: AtomicBool::new(deployed.paused),
            standings: Mutex::new(deployed.standings.clone()),
            loans: Mutex::default(),
            retired: AtomicBool::new(false),
            _bundle: bundle,
            deployed,
            logs: Arc::new(Logs::new(log_bytes)),
            counters: Arc::default(),
            mailbox: Arc::default(),
            called: Histogram::default(),
            waited: Histogram::default(),
            detector: Mutex::default(),
            place: Mutex::new(place.map(Arc::new)),
            waiting: AtomicUsize::new(0),
            worker: AsyncMutex::default(),
            measuring: Measuring::default(),
            failures: AtomicU32::new(0),
            present: Mutex::default(),
        }
    }

    /// A place among those that take turns: the deployment's own in the real-time class, else one for a call.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when a real-time deployment has lost its place.
    pub(crate) fn place(&self, turns: &Turns) -> Result<Arc<Place>, NodeError> {
        let priority = &self.deployed.settings.priority;
        match priority {
            Priority::RealTime { .. } => lock(&self.place).clone().ok_or_else(|| NodeError::Rejected {
                name: "not-schedulable".into(),
                message:
                    "this host does not promise any more what the deployment was promised; deploy it anew"
                        .into(),
            }),
            Priority::Fair { .. } | Priority::Background {} => {
                turns.enter(&self.assessment().publisher, priority).map(Arc::new)
            }
        }
    }

    /// Gives up what was promised. Calls that are under way have it until they end.
    pub(crate) fn give_place_back(&self) -> Option<Arc<Place>> {
        lock(&self.place).take()
    }

    /// What the bundle is.
    pub(crate) fn assessment(&self) -> &Assessment {
        &self.deployed.assessment
    }

    /// `name version` of the muscle.
    pub(crate) fn muscle(&self) -> String {
        format!("{} {}", self.assessment().name, self.assessment().version)
    }

    /// A place among those that wait, unless `limit` do already.
    ///
    /// # Errors
    /// [`NodeError::Busy`].
    pub(crate) fn queue(&self, limit: usize) -> Result<Queued<'_>, NodeError> {
        let waiting = self.waiting.fetch_add(1, Ordering::AcqRel);
        let queued = Queued(&self.waiting);
        if waiting < limit {
            return Ok(queued);
        }
        add(&self.counters.refused, 1);
        Err(NodeError::Busy {
            what: "calls that wait for this deployment",
            limit,
        })
    }

    /// The worker: the one that is there, or a new one by `make`. After a failure the next is made only when some time has passed.
    ///
    /// # Errors
    /// Those of `make`; [`NodeError::WorkerGone`] while it is too early.
    pub(crate) async fn worker<F>(&self, make: impl FnOnce() -> F) -> Result<Arc<Worker>, NodeError>
    where
        F: Future<Output = Result<Arc<Worker>, NodeError>>,
    {
        let mut staffing = loop {
            let mut staffing = self.worker.lock().await;
            if let Some(worker) = &staffing.worker {
                if !worker.is_gone() {
                    return Ok(Arc::clone(worker));
                }
                if !worker.ended_in_order() {
                    self.failed(&mut staffing);
                }
                staffing.worker = None;
            }
            let now = Instant::now();
            let left = staffing.not_before.map(|at| at.saturating_duration_since(now));
            match left.filter(|left| !left.is_zero()) {
                None => break staffing,
                Some(left) => {
                    // Whoever changes a grant meanwhile need not wait as long: no worker is being made.
                    drop(staffing);
                    tokio::time::sleep(left).await;
                }
            }
        };
        add(&self.counters.workers_started, 1);
        match make().await {
            Ok(worker) => {
                staffing.worker = Some(Arc::clone(&worker));
                self.show(Some(Arc::clone(&worker)));
                Ok(worker)
            }
            // That there is no memory for it, or that the one before it still has its rings, is no failure of its own.
            Err(error @ (NodeError::Memory { .. } | NodeError::Busy { .. })) => Err(error),
            Err(error) => {
                self.failed(&mut staffing);
                Err(error)
            }
        }
    }

    /// Says that a call came to a good end, so that the next failure is the first in a row.
    pub(crate) async fn went_well(&self) {
        if let Ok(mut staffing) = self.worker.try_lock() {
            staffing.failures = 0;
            staffing.not_before = None;
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    fn failed(&self, staffing: &mut Staffing) {
        staffing.failed();
        self.failures.store(staffing.failures, Ordering::Relaxed);
    }

    /// How often its worker has failed since a call last came to a good end: the next is made later and later.
    pub(crate) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Says that another has its name, or none: only calls that found it before still come.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Compares with what was usual, so long after it was last done.
    pub(crate) fn compare(&self, passed: Duration) -> Vec<Change> {
        let counted = self.counters.read();
        let ended = [
            counted.returned,
            counted.function_errors,
            counted.faults,
            counted.cancelled,
            counted.host_errors,
        ];
        let totals = Totals {
            calls: ended.iter().fold(0, |sum, more| sum.saturating_add(*more)),
            denials: counted.denials,
            faults: counted.faults,
            exits: counted.exits,
        };
        lock(&self.detector).look(totals, passed)
    }

    /// What is otherwise than it used to be.
    pub(crate) fn anomalies(&self) -> Vec<Anomaly> {
        lock(&self.detector).anomalies()
    }

    /// The worker, if one is there.
    pub(crate) fn present(&self) -> Option<Arc<Worker>> {
        let present = lock(&self.present);
        present.as_ref().filter(|worker| !worker.is_gone()).cloned()
    }

    /// What is left of what a slot was granted.
    pub(crate) fn left_of(&self, slot: &str, granted: &Power) -> Option<Power> {
        lock(&self.standings).left_of(slot, granted)
    }

    /// Whether the grant of a slot was taken back.
    pub(crate) fn is_revoked(&self, slot: &str) -> bool {
        matches!(lock(&self.standings).get(slot), Some(Standing::Revoked))
    }

    /// The ticks at which its replies leave.
    pub(crate) fn tick(&self) -> Option<Duration> {
        self.deployed.settings.release_ms.map(Duration::from_millis)
    }

    /// What was taken from its grants.
    pub(crate) fn standings(&self) -> Standings {
        lock(&self.standings).clone()
    }

    /// Has a worker that is made from here on lack this.
    pub(crate) fn set_standings(&self, standings: Standings) {
        *lock(&self.standings) = standings;
    }

    /// What is lent to its slots.
    pub(crate) fn loans(&self) -> Loans {
        lock(&self.loans).clone()
    }

    /// Has a worker that is made from here on have what is lent to a slot.
    pub(crate) fn put_loan(&self, slot: &str, loan: Loan) {
        lock(&self.loans).put(slot, loan);
    }

    /// As it is to be kept.
    pub(crate) fn as_it_is(&self) -> Deployed {
        Deployed {
            paused: self.paused.load(Ordering::Acquire),
            standings: self.standings(),
            ..self.deployed.clone()
        }
    }

    /// The worker once none is being made or ended; none is for as long as the result is held.
    pub(crate) async fn hold_worker(&self) -> HeldWorker<'_> {
        HeldWorker(self.worker.lock().await)
    }

    /// Dismisses the worker; the next call gets a new one.
    pub(crate) async fn dismiss(&self) {
        let mut staffing = self.worker.lock().await;
        self.show(None);
        if let Some(worker) = &staffing.worker {
            worker.end().await;
        }
        // Only now: whoever gives this up half-way has not forgotten a worker that is still there.
        staffing.worker = None;
    }

    fn show(&self, worker: Option<Arc<Worker>>) {
        *lock(&self.present) = worker;
    }

    /// Calls that have a cell.
    pub(crate) fn running(&self) -> usize {
        let cells = self.deployed.settings.cells;
        cells.saturating_sub(self.cells.available_permits())
    }

    /// Calls that wait for a cell.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }
}

/// A deployment's worker, kept from being replaced.
pub(crate) struct HeldWorker<'a>(MutexGuardAsync<'a, Staffing>);

impl HeldWorker<'_> {
    /// The worker, if there is one.
    pub(crate) fn worker(&self) -> Option<&Arc<Worker>> {
        self.0.worker.as_ref().filter(|worker| !worker.is_gone())
    }
}

impl Staffing {
    fn failed(&mut self) {
        let wait = BACK_OFF
            .saturating_mul(1 << self.failures.min(16))
            .min(BACK_OFF_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + wait);
    }
}

/// A place among those that wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Queued<'a>(&'a AtomicUsize);

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! A worker as the supervisor sees it: pieces of calls go out, what became of them comes back.

mod restrict;
mod snapshots;

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::net::Shutdown;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use referee_audit::AuditSink;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as AsyncMutex, oneshot, watch};

use crate::crew::snapshots::Taking;
use crate::deployment::{Counters, add};
use crate::error::{NodeError, OrHost};
use crate::flood::Allowance;
use crate::ledger::Ledger;
use crate::line::{self, Did, Flow, FromWorker, How, OUTPUT_MAX, Rest, ToWorker, With, frame};
use crate::logs::Logs;
use crate::nursery::{Given, Nursery, Order};
use crate::report;
use crate::ring::HeldEnd;
use crate::room::Room;
use crate::stream::ConsoleGrant;
use crate::vouching::TpmGrants;
use crate::worker::Shape;

pub(crate) use crate::crew::snapshots::no_cell;

/// How long a worker may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long a worker may leave unread what is sent to it; one of its threads always reads.
const READ_WITHIN: Duration = Duration::from_secs(10);
/// How long a worker may take to record the end of its cells when it is dismissed.
const END_WITHIN: Duration = Duration::from_secs(2);
/// How long a worker may take to have its cells rest: swap may be slow.
const REST_WITHIN: Duration = Duration::from_secs(30);
/// How long a process may take to end once it has closed its line.
const REAP_WITHIN: Duration = Duration::from_millis(200);

/// A worker that is there, or was.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u64,
    /// What it was granted, as the nursery says.
    given: Given,
    rings: Vec<HeldEnd>,
    nursery: Nursery,
    writer: tokio::sync::Mutex<OwnedWriteHalf>,
    /// The same line, to be closed while somebody waits to write.
    line: std::os::unix::net::UnixStream,
    pending: Mutex<HashMap<u64, oneshot::Sender<Piece>>>,
    /// Restrictions that it has not said are in force.
    restricting: Mutex<HashMap<u64, oneshot::Sender<Option<String>>>>,
    /// Tells calls that wait that a restriction is in force, which may be about what they wait for.
    restricted: watch::Sender<()>,
    gone: OnceLock<String>,
    reaping: AsyncMutex<()>,
    /// Whether its lines are closed and all of it is recorded.
    closed: watch::Sender<bool>,
    last_used: Mutex<Instant>,
    room: Arc<Room>,
    /// Calls that it was given.
    calls: Arc<AtomicU64>,
    stuck_after: Duration,
    /// Whoever waits to hear how many cells rest; one at a time.
    resting: Mutex<Option<oneshot::Sender<u64>>>,
    asking: AsyncMutex<()>,
    /// A snapshot that it was asked for.
    taking: Mutex<Option<Taking>>,
}

/// A piece of a call that is over.
#[derive(Debug)]
pub(crate) struct Piece {
    /// How long it had a slot.
    pub used: Duration,
    /// What the worker did meanwhile.
    pub did: Did,
    pub how: How,
    /// What the muscle wrote for the client of a stream.
    pub output: Vec<u8>,
}

/// What a piece of a call is given.
#[derive(Debug)]
pub(crate) struct Supplies {
    pub with: With,
    /// What there is of its stream, if it has one.
    pub flow: Option<Flow>,
    pub budget: Option<Duration>,
    /// Whether it lets others go first now and then.
    pub makes_way: bool,
    /// Whether its steps are wanted.
    pub traced: bool,
}

/// What a worker is made of.
pub(crate) struct Plan {
    pub number: u64,
    pub order: Order,
    pub shape: Shape,
    pub bundle: File,
    /// The snapshot at which its cells begin.
    pub snapshot: Option<File>,
    /// `name version`, for the log.
    pub muscle: String,
    pub audit: AuditSink,
    pub logs: Arc<Logs>,
    pub counters: Arc<Counters>,
    pub room: Room,
    /// Ends of rings that it is to have.
    pub rings: Vec<HeldEnd>,
    /// What it may have recorded.
    pub allowance: Allowance,
    /// How long after a piece's budget it counts as stuck.
    pub stuck_after: Duration,
}

impl Worker {
    /// Makes a worker and waits until it is ready.
    ///
    /// # Errors
    /// [`NodeError::Rejected`], [`NodeError::Host`].
    pub(crate) async fn start(nursery: &Nursery, plan: Plan) -> Result<Arc<Worker>, NodeError> {
        let number = plan.number;
        let files = (plan.bundle, plan.snapshot);
        let spawned = nursery.spawn(number, plan.order, plan.shape, files).await?;
        // Said by the nursery, which decided; what was taken for it is what was decided when it was deployed.
        let held: BTreeSet<_> = plan.rings.iter().map(|end| &end.grant).collect();
        if held != spawned.given.rings.iter().collect() {
            return Err(unheard(
                nursery,
                number,
                "the nursery granted it other rings than when it was deployed",
            )
            .await);
        }
        let (line, calls, log) = match lines(spawned.calls, spawned.log) {
            Ok(lines) => lines,
            Err(error) => return Err(unheard(nursery, number, error).await),
        };
        let (reader, writer) = calls.into_split();
        let worker = Arc::new(Worker {
            number,
            given: spawned.given,
            rings: plan.rings,
            nursery: nursery.clone(),
            writer: tokio::sync::Mutex::new(writer),
            line,
            pending: Mutex::default(),
            restricting: Mutex::default(),
            restricted: watch::Sender::new(()),
            gone: OnceLock::new(),
            reaping: AsyncMutex::new(()),
            closed: watch::Sender::new(false),
            last_used: Mutex::new(Instant::now()),
            room: Arc::new(plan.room),
            calls: Arc::clone(&plan.allowance.calls),
            stuck_after: plan.stuck_after,
            resting: Mutex::default(),
            asking: AsyncMutex::new(()),
            taking: Mutex::default(),
        });
        let (ready, is_ready) = oneshot::channel();
        let counters = Arc::clone(&plan.counters);
        let ledger = Ledger::new(plan.audit, plan.muscle, plan.counters, plan.allowance);
        let ledger = tokio::spawn(ledger.keep(log));
        let listening = Listening {
            worker: Arc::clone(&worker),
            logs: plan.logs,
            counters,
            ready: Some(ready),
        };
        for at in 0..worker.rings.len() {
            let worker = Arc::clone(&worker);
            tokio::spawn(async move { worker.tell_what_is_heard(at).await });
        }
        let watched = Arc::clone(&worker);
        tokio::spawn(async move {
            let recording = async {
                match ledger.await {
                    Ok(Ok(None)) => {}
                    Ok(Ok(Some(wrong))) => report::problem(&format!("worker {number} is ended: {wrong}")),
                    Ok(Err(error)) => report::problem(&error.with_causes()),
                    Err(error) => report::problem(&error.to_string()),
                }
                // Without its line to the log nothing that it did would be recorded.
                watched.reap(REAP_WITHIN).await;
            };
            tokio::join!(listening.listen(reader), recording);
            watched.closed.send_replace(true);
        });
        match tokio::time::timeout(READY_WITHIN, is_ready).await {
            Ok(Ok(Ok(()))) => Ok(worker),
            Ok(Ok(Err(error))) => {
                worker.end().await;
                Err(error)
            }
            Ok(Err(_)) => Err(worker.gone()),
            Err(_) => {
                worker.end().await;
                Err(NodeError::host("starting a worker")(
                    "it was not ready in time; see the log",
                ))
            }
        }
    }

    /// Tells it of each of its bells at one end of a ring that the other side has heard it. Not by whoever listens to it, which must not wait for
    /// it to read.
    async fn tell_what_is_heard(&self, at: usize) {
        let Some(end) = self.rings.get(at) else {
            return;
        };
        loop {
            tokio::select! {
                () = end.is_heard() => {}
                () = self.over() => return,
            }
            let slot = end.grant.slot.clone();
            if self.send(&ToWorker::Heard { slot }).await.is_err() {
                return;
            }
        }
    }

    /// What policy gave it.
    pub(crate) fn given(&self) -> &Given {
        &self.given
    }

    /// What it may do with its console, by slot.
    pub(crate) fn console(&self) -> &[ConsoleGrant] {
        &self.given.console
    }

    /// Hears of restrictions that are in force, from here on.
    pub(crate) fn restrictions(&self) -> watch::Receiver<()> {
        self.restricted.subscribe()
    }

    /// Lets it have more recorded, as for so many calls more.
    pub(crate) fn allow_records_of(&self, calls: u64) {
        add(&self.calls, calls);
    }

    /// What it may ask of the TPM.
    pub(crate) fn tpm(&self) -> &TpmGrants {
        &self.given.tpm
    }

    /// By which the nursery knows it.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Its end of the ring in a slot.
    pub(crate) fn ring(&self, slot: &str) -> Option<&HeldEnd> {
        self.rings.iter().find(|end| end.grant.slot == slot)
    }

    /// Says in its rings that a life of its cell begins, or is over, and at their other ends that something is new.
    ///
    /// # Errors
    /// [`NodeError::Host`]; the worker is ended.
    pub(crate) async fn life(&self, begins: bool) -> Result<(), NodeError> {
        if let Err(error) = self.nursery.life(self.number, begins).await {
            self.give_up("has rings that do not say what is so").await;
            return Err(error);
        }
        self.rings.iter().for_each(HeldEnd::ring_other);
        Ok(())
    }

    /// Whether it has ends of rings.
    pub(crate) fn has_rings(&self) -> bool {
        !self.rings.is_empty()
    }

    /// Whether its muscle takes messages of a channel by this function.
    pub(crate) fn takes(&self, channel: &str, function: &str) -> bool {
        self.given
            .channels
            .iter()
            .any(|grant| grant.takes(channel) == Some(function))
    }

    /// Lets a call run for a while.
    ///
    /// # Errors
    /// [`NodeError::WorkerGone`].
    pub(crate) async fn run(&self, call: u64, supplies: Supplies) -> Result<Piece, NodeError> {
        let (told, piece) = oneshot::channel();
        if matches!(supplies.with, With::Begin(_)) {
            // Before it can have anything recorded for it.
            add(&self.calls, 1);
        }
        lock(&self.pending).insert(call, told);
        *lock(&self.last_used) = Instant::now();
        let began = Instant::now();
        let limit = supplies
            .budget
            .unwrap_or_default()
            .saturating_add(self.stuck_after);
        match tokio::time::timeout(limit, self.piece(call, supplies, piece)).await {
            // It cannot have run for longer than it was away, nor stopped more often than any processor does.
            Ok(piece) => piece.map(|mut piece| {
                piece.used = piece.used.min(began.elapsed());
                let most = piece.used.as_nanos() / EXIT_NS_MIN + 1;
                piece.did.exits = piece.did.exits.min(u64::try_from(most).unwrap_or(u64::MAX));
                piece
            }),
            // It does not even keep its own time: its muscle may have it.
            Err(_) => Err(self.give_up("did not answer").await),
        }
    }

    /// Ends a worker that does not do what a worker does.
    pub(crate) async fn give_up(&self, what_it_did: &str) -> NodeError {
        let number = self.number;
        report::problem(&format!("worker {number} {what_it_did} and is ended"));
        self.reap(Duration::ZERO).await;
        NodeError::WorkerGone {
            how: format!("{what_it_did} and was ended"),
        }
    }

    async fn piece(
        &self,
        call: u64,
        supplies: Supplies,
        piece: oneshot::Receiver<Piece>,
    ) -> Result<Piece, NodeError> {
        let Supplies {
            with,
            flow,
            budget,
            makes_way,
            traced,
        } = supplies;
        let run = ToWorker::Run {
            call,
            with,
            flow,
            budget,
            makes_way,
            traced,
        };
        let sent = self.send(&run).await;
        if sent.is_err() {
            lock(&self.pending).remove(&call);
        }
        sent?;
        // Looked at again: a worker that ended before the piece was entered has forgotten only those from before.
        if self.is_gone() {
            lock(&self.pending).remove(&call);
        }
        piece.await.map_err(|_| self.gone())
    }

    /// Gives a call up. Its present piece, or the next one, is its last.
    pub(crate) async fn cancel(&self, call: u64) {
        // A worker that is gone has given it up already.
        let _ = self.send(&ToWorker::Cancel { call }).await;
    }

    /// Comes back when the worker is over.
    pub(crate) async fn over(&self) {
        // It lives as long as this worker.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// What calls of a worker that is over are told.
    pub(crate) fn gone(&self) -> NodeError {
        NodeError::WorkerGone {
            how: self.how_it_ended(),
        }
    }

    /// Has a call's present piece end soon, as if its budget were over.
    pub(crate) async fn preempt(&self, call: u64) {
        // A worker that is gone runs nothing.
        let _ = self.send(&ToWorker::Preempt { call }).await;
    }

    /// Closes the line, at which the worker ends in order.
    pub(crate) fn dismiss(&self) {
        // It may be closed already.
        let _ = self.line.shutdown(Shutdown::Write);
    }

    /// Dismisses it and sees it to its end.
    pub(crate) async fn end(&self) {
        let mut closed = self.closed.subscribe();
        self.dismiss();
        if tokio::time::timeout(END_WITHIN, closed.wait_for(|closed| *closed))
            .await
            .is_err()
        {
            self.reap(Duration::ZERO).await;
            // With the process its lines are closed; what the log lacks of it is being recorded.
            let _ = tokio::time::timeout(END_WITHIN, closed.wait_for(|closed| *closed)).await;
        }
    }

    /// Has the nursery see the worker to its end; the first to ask hears how it ended, and says it.
    async fn reap(&self, patience: Duration) {
        // To whoever asked after it, the worker would not have been there.
        let _first = self.reaping.lock().await;
        if !self.is_gone() {
            let how = match self.nursery.reap(self.number, patience).await {
                Ok(how) => how,
                Err(error) => error.with_causes(),
            };
            if how != IN_ORDER {
                report::problem(&format!("worker {} {how}", self.number));
            }
            let _ = self.gone.set(how);
        }
        // Whoever waits for a piece hears that its sender is gone.
        lock(&self.pending).clear();
        *lock(&self.resting) = None;
        *lock(&self.taking) = None;
        self.room.close();
        lock(&self.restricting).clear();
        self.rings.iter().for_each(HeldEnd::leave);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get().is_some()
    }

    /// Whether it ended because it was told to.
    pub(crate) fn ended_in_order(&self) -> bool {
        self.gone.get().is_some_and(|how| how == IN_ORDER)
    }

    /// Whether nothing was asked of it for so long, and nothing is under way.
    pub(crate) fn is_idle_for(&self, time: Duration) -> bool {
        lock(&self.pending).is_empty() && lock(&self.last_used).elapsed() >= time
    }

    /// Whether no call has begun on it for so long; others may be under way.
    pub(crate) fn is_quiet_for(&self, time: Duration) -> bool {
        self.last_used().elapsed() >= time
    }

    pub(crate) fn last_used(&self) -> Instant {
        *lock(&self.last_used)
    }

    /// Its memory.
    pub(crate) fn room(&self) -> &Arc<Room> {
        &self.room
    }

    /// Has cells rest that nobody has called for so long, and gives how many went; `None` when it does not say.
    pub(crate) async fn let_rest(&self, idle: Duration, how: Rest) -> Option<u64> {
        let _alone = self.asking.lock().await;
        let (told, rested) = oneshot::channel();
        self.room.ask();
        *lock(&self.resting) = Some(told);
        self.send(&ToWorker::Rest { idle, how }).await.ok()?;
        let went = tokio::time::timeout(REST_WITHIN, rested).await;
        *lock(&self.resting) = None;
        went.ok()?.ok()
    }

    async fn send(&self, message: &ToWorker) -> Result<(), NodeError> {
        let frame = frame(message).or_host("writing to a worker")?;
        let sent = tokio::time::timeout(READ_WITHIN, async {
            self.writer.lock().await.write_all(&frame).await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(self.gone()),
            Err(_) => Err(self.give_up("did not read its line").await),
        }
    }

    fn how_it_ended(&self) -> String {
        self.gone
            .get()
            .cloned()
            .unwrap_or_else(|| "was told to end".into())
    }
}

/// The lines of a worker: the one of calls to be shut, and to talk by; the one of the log.
fn lines(
    calls: std::os::unix::net::UnixStream,
    log: std::os::unix::net::UnixStream,
) -> std::io::Result<(std::os::unix::net::UnixStream, UnixStream, UnixStream)> {
    let stream = |line: std::os::unix::net::UnixStream| {
        line.set_nonblocking(true)?;
        UnixStream::from_std(line)
    };
    Ok((calls.try_clone()?, stream(calls)?, stream(log)?))
}

/// Ends a worker to which nobody can listen.
async fn unheard(
    nursery: &Nursery,
    number: u64,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> NodeError {
    // With its ends of rings, which the next one is to have.
    let _ = nursery.reap(number, Duration::ZERO).await;
    NodeError::host("setting the lines of a worker up")(why)
}

/// The task that listens to a worker.
struct Listening {
    worker: Arc<Worker>,
    logs: Arc<Logs>,
    counters: Arc<Counters>,
    ready: Option<oneshot::Sender<Result<(), NodeError>>>,
}

impl Listening {
    async fn listen(mut self, reader: OwnedReadHalf) {
        let mut reader = BufReader::new(reader);
        let mut buffer = Vec::new();
        let number = self.worker.number;
        loop {
            match line::read_async::<FromWorker>(&mut reader, &mut buffer).await {
                Ok(Some(message)) => {
                    if let Err(wrong) = self.take(message).await {
                        report::problem(&format!("worker {number} {wrong} and is ended"));
                        add(&self.counters.workers_out_of_order, 1);
                        break;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    report::problem(&format!("worker {number} broke its line: {error}"));
                    add(&self.counters.workers_out_of_order, 1);
                    break;
                }
            }
        }
        self.worker.dismiss();
        self.worker.reap(REAP_WITHIN).await;
    }

    /// Does what a message is for.
    ///
    /// # Errors
    /// What the worker did that no worker does.
    async fn take(&mut self, message: FromWorker) -> Result<(), &'static str> {
        match message {
            FromWorker::Ready { not_confined_by } => {
                // Said once: later it might be a muscle that took the worker over, and that may not fill the journal.
                if self.ready.is_some() && !not_confined_by.is_empty() {
                    let number = self.worker.number;
                    report::problem(&format!("worker {number} is not confined by: {not_confined_by}"));
                }
                self.tell_ready(Ok(()));
            }
            FromWorker::Unfit { rejected, message } => self.tell_ready(Err(match rejected {
                Some(name) => NodeError::Rejected { name, message },
                None => NodeError::host("starting a worker")(message),
            })),
            FromWorker::Stopped {
                call,
                used,
                did,
                how,
                output,
            } => {
                let waiting = lock(&self.worker.pending).remove(&call);
                if let Some(waiting) = waiting {
                    let piece = Piece {
                        used,
                        did,
                        how,
                        output,
                    };
                    // The caller may have gone away.
                    let _ = waiting.send(piece);
                }
            }
            FromWorker::Rested { went, awake, asleep } => {
                // What nobody asked for says nothing.
                if let Some(waiting) = lock(&self.worker.resting).take() {
                    self.worker.room.answered(awake, asleep);
                    // Whoever asked may have stopped waiting.
                    let _ = waiting.send(went);
                }
            }
            FromWorker::Restricted { number, failure } => self.worker.restricted(number, failure),
            FromWorker::Snapshot { bytes } => self.worker.take_piece(bytes).await?,
            FromWorker::Kept { refused } => self.worker.kept(refused)?,
            FromWorker::Output { call, errors, bytes } => {
                let bytes = bytes.get(..OUTPUT_MAX).unwrap_or(&bytes);
                self.logs.push(call, errors, bytes);
            }
            FromWorker::Rings { slot } => match self.worker.ring(&slot) {
                Some(end) => end.ring_by_worker()?,
                None => return Err("rang at a ring that it was not granted"),
            },
        }
        Ok(())
    }

    fn tell_ready(&mut self, ready: Result<(), NodeError>) {
        if let Some(sender) = self.ready.take() {
            // Whoever started it may have stopped waiting.
            let _ = sender.send(ready);
        }
    }
}

/// No cell stops and goes on in less time than this, in nanoseconds.
const EXIT_NS_MIN: u128 = 100;

/// What the nursery says of a worker that did what it was told to.
const IN_ORDER: &str = "ended in order";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! One call, from the queue to its result.
//!
//! ```text
//!   queue (bounded) ─► a cell of the deployment ─► its worker ─┬─► a slot of the host ─► a piece ─┬─► result
//!                                                              └──── preempted, or slept ◄────────┘
//! ```
//! A call goes on as a task of its own. When whoever asked goes away, it is given up.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use referee_trace::Trace;
use tokio::sync::Notify;

use crate::channel::{Answered, Why};
use crate::crew::{Piece, Plan, Worker};
use crate::deployment::{Deployment, add};
use crate::error::{NodeError, OrHost};
use crate::flood::Allowance;
use crate::line::{Begin, Failure, How, With};
use crate::messages::Sent;
use crate::node::{Node, begin_to_renew};
use crate::stages;
use crate::worker::Shape;

/// How long after its deadline a call may still be going on.
const LATE: Duration = Duration::from_secs(1);

/// Pieces of a call that its trace tells of.
const PIECES_TOLD: u32 = 64;

/// What a call came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The call's number, by which its output is found in the logs.
    pub call: u64,
    /// How long it had a slot.
    pub used: Duration,
    /// CBOR of the result, or why there is none.
    pub result: Result<Vec<u8>, Failure>,
}

/// What makes a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct Origin {
    /// The channel whose message is the call's argument; none for one by the API.
    channel: Option<String>,
    /// Messages that led to it.
    hops: u32,
    /// Whether it has waited already, and is the only one of its kind.
    has_waited: bool,
}

impl Origin {
    /// A message of this channel, the last of so many. `has_waited`: in the receiver's mailbox.
    pub(crate) fn message(channel: &str, hops: u32, has_waited: bool) -> Origin {
        Origin {
            channel: Some(channel.to_owned()),
            hops,
            has_waited,
        }
    }
}

impl Node {
    /// Calls a function of a deployment, with CBOR arguments. Dropping the future gives the call up.
    ///
    /// # Errors
    /// [`NodeError`] when the node or the host has no result; what the muscle did wrong is in the reply.
    pub(crate) async fn call(
        &self,
        deployment: Arc<Deployment>,
        function: String,
        payload: Vec<u8>,
        trace: Trace,
        origin: Origin,
    ) -> Result<Reply, NodeError> {
        let exports = &deployment.assessment().exports;
        if !exports.contains(&function) {
            return Err(NodeError::NoFunction(function));
        }
        let call = Arc::new(Call::new(self.next_number(), trace, origin));
        call.trace.note("referee.deployment", deployment.name.clone());
        call.trace.note("referee.function", function.clone());
        let given_up = GivenUp(Arc::clone(&call));
        let node = self.clone();
        let task = tokio::spawn(async move {
            let counted = Arc::clone(&deployment);
            let taken = Instant::now();
            let result = node.perform(&deployment, &call, function, payload).await;
            count(&counted, &result, taken.elapsed());
            if counted.is_retired() {
                // It came late, and may have made a worker that nobody else will dismiss.
                begin_to_renew(counted);
            }
            result
        });
        let result = task.await.or_host("performing a call")?;
        given_up.not();
        result
    }

    async fn perform(
        &self,
        deployment: &Deployment,
        call: &Call,
        function: String,
        payload: Vec<u8>,
    ) -> Result<Reply, NodeError> {
        self.takes_calls(deployment)?;
        // A mailbox has one call at a time wait; it would be wrong to lose its message because clients have many.
        let queue = match call.origin.has_waited {
            true => usize::MAX,
            false => self.config().cells.queue,
        };
        let queued = deployment.queue(queue)?;
        add(&deployment.counters.calls, 1);
        add(
            &deployment.counters.bytes_in,
            u64::try_from(payload.len()).unwrap_or(u64::MAX),
        );
        let mut reply = Reply {
            call: call.number,
            used: Duration::ZERO,
            result: Err(Failure::Cancelled),
        };
        let taken = Instant::now();
        let stage = call.trace.stage("queue");
        let cell = tokio::select! {
            cell = deployment.cells.acquire() => cell.or_host("waiting for a cell")?,
            () = call.is_given_up() => return Ok(reply),
        };
        drop((queued, stage));
        // It may have waited for long.
        self.takes_calls(deployment)?;
        self.rings_are_joined(deployment)?;
        let stage = call.trace.stage("worker");
        let worker = deployment.worker(|| self.start_worker(deployment)).await;
        if let Err(NodeError::Busy { .. }) = &worker {
            // Unlike one for which there is no place in the queue it was taken.
            add(&deployment.counters.refused, 1);
        }
        let worker = worker?;
        drop(stage);
        if let Some(channel) = &call.origin.channel
            && !worker.takes(channel, &function)
        {
            return Err(NodeError::Rejected {
                name: "channel-not-granted".into(),
                message: format!("`{}` may not receive on the channel `{channel}`", deployment.name),
            });
        }
        call.runs_on(&worker);
        let inside = self.room_for_call(deployment, &worker).await?;
        let place = deployment.place(self.turns())?;
        let mut with = With::Begin(Begin { function, payload });
        let mut sent = Sent::default();
        let mut stage = call.trace.stage("slot");
        let mut turn = tokio::select! {
            turn = place.turn() => turn,
            () = call.is_given_up() => return Ok(reply),
        };
        deployment.waited.observe(taken.elapsed());
        let mut cancelled = None;
        let mut has_joined = false;
        let has_left;
        let began = Instant::now();
        let deadline = Duration::from_millis(deployment.assessment().deadline_ms);
        loop {
            if call.given_up() {
                if matches!(with, With::Begin(_)) {
                    return Ok(reply);
                }
                // Whoever gave it up may have done so before the worker knew of it.
                worker.cancel(call.number).await;
                cancelled.get_or_insert_with(Instant::now);
            }
            turn.runs(&worker, call.number);
            drop(stage);
            let with_now = std::mem::replace(&mut with, With::Nothing);
            let piece = call.piece(&worker, with_now, turn.budget).await?;
            stage = call.detail().stage(match &piece.how {
                How::Preempted => "slot",
                How::Sleeping(_) => "sleep",
                How::Sends(_) => "message",
                How::Joins | How::Waiting { .. } => "ring",
                How::Returned(_) | How::Failed(_) => "end",
            });
            reply.used = reply.used.saturating_add(piece.used);
            add(&deployment.counters.slices, 1);
            add(&deployment.counters.exits, piece.did.exits);
            // A worker ends a call at its deadline, or when it is given up; one that does not is not itself any more.
            let overdue = began.elapsed().saturating_sub(deadline) > LATE
                || cancelled.is_some_and(|at: Instant| at.elapsed() > LATE);
            turn = match piece.how {
                How::Preempted | How::Sleeping(_) | How::Sends(_) | How::Joins | How::Waiting { .. }
                    if overdue =>
                {
                    return Err(worker.give_up("let a call go on beyond its end").await);
                }
                How::Preempted => tokio::select! {
                    turn = place.next(turn, piece.used) => turn,
                    () = worker.over() => return Err(worker.gone()),
                },
                How::Sleeping(time) => {
                    turn.end(piece.used);
                    let left = deadline.saturating_sub(began.elapsed());
                    tokio::select! {
                        () = tokio::time::sleep(time.min(left)) => {}
                        () = call.is_given_up() => {}
                        () = worker.over() => return Err(worker.gone()),
                    }
                    stage = call.detail().stage("slot");
                    tokio::select! {
                        turn = place.turn() => turn,
                        () = worker.over() => return Err(worker.gone()),
                    }
                }
                How::Sends(sending) => {
                    let asks = sending.asks;
                    let is_revoked = deployment.is_revoked(&sending.slot);
                    let message = match sent.check(worker.channels(), sending, call.origin.hops) {
                        Ok(message) => message,
                        Err(wrong) => return Err(worker.give_up(wrong).await),
                    };
                    if !asks || is_revoked {
                        with = With::Answer(match is_revoked {
                            true => Answered::Refused(Why::NotGranted),
                            false => self.publish(deployment, message, &stage),
                        });
                        stage = call.detail().stage("slot");
                        tokio::select! {
                            turn = place.next(turn, piece.used) => turn,
                            () = worker.over() => return Err(worker.gone()),
                        }
                    } else {
                        // Its slot is for others while it waits, the receiver among them.
                        turn.end(piece.used);
                        let left = deadline.saturating_sub(began.elapsed());
                        let answer = tokio::select! {
                            answer = self.ask(deployment, message, left, &stage) => answer,
                            () = call.is_given_up() => Answered::Refused(Why::GivenUp),
                            () = worker.over() => return Err(worker.gone()),
                        };
                        with = With::Answer(answer);
                        stage = call.detail().stage("slot");
                        tokio::select! {
                            turn = place.turn() => turn,
                            () = worker.over() => return Err(worker.gone()),
                        }
                    }
                }
                How::Joins => {
                    // Once for the cell of a call, which had none before.
                    if !worker.has_rings() || std::mem::replace(&mut has_joined, true) {
                        return Err(worker.give_up("began with rings that it does not have").await);
                    }
                    turn.end(piece.used);
                    worker.life(true).await?;
                    stage = call.detail().stage("slot");
                    tokio::select! {
                        turn = place.turn() => turn,
                        () = worker.over() => return Err(worker.gone()),
                    }
                }
                How::Waiting { slot } => {
                    let Some(end) = worker.ring(&slot) else {
                        return Err(worker.give_up("waited for a ring that it was not granted").await);
                    };
                    if end.take_ring() {
                        stage = call.detail().stage("slot");
                        tokio::select! {
                            turn = place.next(turn, piece.used) => turn,
                            () = worker.over() => return Err(worker.gone()),
                        }
                    } else {
                        // Its slot is for others while it waits, the other side among them.
                        turn.end(piece.used);
                        let left = deadline.saturating_sub(began.elapsed());
                        tokio::select! {
                            () = end.is_rung() => {}
                            () = tokio::time::sleep(left) => {}
                            () = call.is_given_up() => {}
                            () = worker.over() => return Err(worker.gone()),
                        }
                        stage = call.detail().stage("slot");
                        tokio::select! {
                            turn = place.turn() => turn,
                            () = worker.over() => return Err(worker.gone()),
                        }
                    }
                }
                How::Returned(result) => {
                    turn.end(piece.used);
                    has_left = piece.did.left_rings;
                    reply.result = Ok(result);
                    break;
                }
                How::Failed(failure) => {
                    turn.end(piece.used);
                    has_left = piece.did.left_rings;
                    reply.result = Err(failure);
                    break;
                }
            };
        }
        if has_left && worker.has_rings() {
            // Before the next call has a cell: the other side hears of this one's end, and of nothing else.
            worker.life(false).await?;
        }
        drop((inside, cell, stage));
        deployment.went_well().await;
        Ok(reply)
    }

    fn takes_calls(&self, deployment: &Deployment) -> Result<(), NodeError> {
        match () {
            () if self.is_draining() => Err(NodeError::Draining),
            () if deployment.paused.load(Ordering::Acquire) => {
                Err(NodeError::Paused(deployment.name.clone()))
            }
            () => Ok(()),
        }
    }

    async fn start_worker(&self, deployment: &Deployment) -> Result<Arc<Worker>, NodeError> {
        let settings = &deployment.deployed.settings;
        let cells = &self.config().cells;
        let rings = self.rings().take(deployment.ring_grants()).await?;
        let room = self.room_for_worker(deployment).await?;
        Worker::start(
            self.nursery(),
            Plan {
                number: self.next_number(),
                order: self.order(deployment)?,
                shape: Shape {
                    wishes: self
                        .config()
                        .side_channels
                        .for_tenant(&self.config().tenants, &deployment.assessment().publisher),
                    slots: self.slot_count().min(settings.cells),
                    cells: settings.cells,
                    ahead: settings.ahead,
                    fresh: settings.fresh,
                    output_bytes: cells.output_bytes,
                    require_confinement: cells.require_confinement,
                },
                bundle: self.store().bundle(&deployment.deployed.bundle)?,
                muscle: deployment.muscle(),
                audit: self.audit().clone(),
                logs: Arc::clone(&deployment.logs),
                counters: Arc::clone(&deployment.counters),
                room,
                rings,
                allowance: Allowance {
                    per_second: self.config().audit.bytes_per_second,
                    per_call: self.config().audit.bytes_per_call,
                    calls: Arc::default(),
                },
                stuck_after: Duration::from_secs(cells.stuck_seconds),
            },
        )
        .await
    }
}

/// A call as those see it who may give it up.
#[derive(Debug)]
struct Call {
    number: u64,
    given_up: AtomicBool,
    heard: Notify,
    worker: Mutex<Option<Arc<Worker>>>,
    trace: Trace,
    origin: Origin,
    /// Pieces that ran.
    pieces: AtomicU32,
}

impl Call {
    fn new(number: u64, trace: Trace, origin: Origin) -> Call {
        Call {
            number,
            given_up: AtomicBool::new(false),
            heard: Notify::new(),
            worker: Mutex::default(),
            trace,
            origin,
            pieces: AtomicU32::new(0),
        }
    }

    /// Its trace for as long as pieces are told one by one: a call may have any number of them.
    fn detail(&self) -> Trace {
        match self.pieces.load(Ordering::Relaxed) < PIECES_TOLD {
            true => self.trace.clone(),
            false => Trace::none(),
        }
    }

    /// Has the worker run a piece of it.
    async fn piece(&self, worker: &Arc<Worker>, with: With, budget: Duration) -> Result<Piece, NodeError> {
        let detail = self.detail();
        self.pieces.fetch_add(1, Ordering::Relaxed);
        let traced = detail.is_recorded();
        let stage = detail.stage("piece");
        let began = (SystemTime::now(), Instant::now());
        let piece = worker.run(self.number, with, Some(budget), traced).await?;
        if traced {
            stages::tell(&stage, began.0, began.1.elapsed(), &piece.did.steps);
        }
        Ok(piece)
    }

    fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    async fn is_given_up(&self) {
        let heard = self.heard.notified();
        if !self.given_up() {
            heard.await;
        }
    }

    fn runs_on(&self, worker: &Arc<Worker>) {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(worker));
    }
}

/// Gives a call up when it is dropped before the call has ended.
struct GivenUp(Arc<Call>);

impl GivenUp {
    fn not(self) {
        self.0.given_up.store(true, Ordering::Release);
    }
}

impl Drop for GivenUp {
    fn drop(&mut self) {
        if self.0.given_up.swap(true, Ordering::AcqRel) {
            return;
        }
        self.0.heard.notify_waiters();
        let worker = self
            .0
            .worker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let number = self.0.number;
        if let (Some(worker), Ok(runtime)) = (worker, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { worker.cancel(number).await });
        }
    }
}

fn count(deployment: &Deployment, result: &Result<Reply, NodeError>, lasted: Duration) {
    let counters = &deployment.counters;
    let reply = match result {
        Ok(reply) => reply,
        Err(NodeError::WorkerGone { .. } | NodeError::Host { .. }) => {
            deployment.called.observe(lasted);
            return add(&counters.host_errors, 1);
        }
        // It is none of the calls that were taken.
        Err(NodeError::Busy { .. }) => return,
        // Taken, and refused before it ran: paused meanwhile, or no longer permitted.
        Err(_) => return add(&counters.refused, 1),
    };
    deployment.called.observe(lasted);
    add(
        &counters.used_us,
        u64::try_from(reply.used.as_micros()).unwrap_or(u64::MAX),
    );
    match &reply.result {
        Ok(result) => {
            add(&counters.returned, 1);
            add(
                &counters.bytes_out,
                u64::try_from(result.len()).unwrap_or(u64::MAX),
            );
        }
        Err(Failure::Function { .. } | Failure::TooLarge { .. }) => add(&counters.function_errors, 1),
        Err(Failure::Fault { .. } | Failure::Exited(_)) => add(&counters.faults, 1),
        Err(Failure::Cancelled) => add(&counters.cancelled, 1),
        Err(Failure::Host(_)) => add(&counters.host_errors, 1),
    }
}

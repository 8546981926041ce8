//! One call, from the queue to its result.
//!
//! ```text
//!   queue (bounded) ─► a cell of the deployment ─► its worker ─┬─► a slot of the host ─► a piece ─┬─► result
//!                                                              └──── preempted, or slept ◄────────┘
//! ```
//! A call goes on as a task of its own. When whoever asked goes away, it is given up.

mod underway;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::body::Body;
use referee_trace::Trace;

use crate::call::underway::{Call, count};
use crate::channel::{Answered, Why};
use crate::crew::{Plan, Worker};
use crate::deployment::{Deployment, add};
use crate::error::{NodeError, OrHost};
use crate::flood::Allowance;
use crate::lend::Delegated;
use crate::line::{Begin, Failure, How, With};
use crate::messages::Sent;
use crate::node::{Node, begin_to_renew};
use crate::stream::{May, NOT_A_STREAM, Stream, Streaming};
use crate::turns::{Place, Turn};
use crate::vouching::{Asked, TpmAnswer};
use crate::worker::Shape;

pub(crate) use crate::call::underway::GivenUp;

/// How long after its deadline a call may still be going on.
const LATE: Duration = Duration::from_secs(1);

/// How much later than here a call's time may begin in its worker.
const A_LITTLE: Duration = Duration::from_millis(5);

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
        let begin = Begin { function, payload };
        let call = self.new_call(&deployment, &begin.function, trace, origin)?;
        let given_up = GivenUp(Arc::clone(&call));
        let node = self.clone();
        let task = tokio::spawn(async move { node.performed(deployment, &call, begin, None).await });
        let result = task.await.or_host("performing a call")?;
        given_up.not();
        result
    }

    /// Calls a function whose standard input is the body of a request, and whose standard output is what the result is read from. Dropping that gives the
    /// call up.
    ///
    /// # Errors
    /// [`NodeError`] when the call is not even begun.
    pub(crate) fn stream(
        &self,
        deployment: Arc<Deployment>,
        begin: Begin,
        body: Body,
        trace: Trace,
    ) -> Result<Streaming, NodeError> {
        let place = self.place_for_stream()?;
        let call = self.new_call(&deployment, &begin.function, trace, Origin::default())?;
        let idle = Duration::from_secs(self.config().api.stream_idle_seconds);
        let given_up = GivenUp(Arc::clone(&call));
        let (mut stream, streaming) = Stream::open(body, idle, place, (call.number, given_up));
        let node = self.clone();
        tokio::spawn(async move {
            let result = node.performed(deployment, &call, begin, Some(&mut stream)).await;
            stream.end(result).await;
        });
        Ok(streaming)
    }

    fn new_call(
        &self,
        deployment: &Deployment,
        function: &str,
        trace: Trace,
        origin: Origin,
    ) -> Result<Arc<Call>, NodeError> {
        let exports = &deployment.assessment().exports;
        if !exports.iter().any(|export| export == function) {
            return Err(NodeError::NoFunction(function.to_owned()));
        }
        let call = Arc::new(Call::new(self.next_number(), trace, origin));
        call.trace.note("referee.deployment", deployment.name.clone());
        call.trace.note("referee.function", function.to_owned());
        Ok(call)
    }

    /// Performs a call and counts it.
    async fn performed(
        &self,
        deployment: Arc<Deployment>,
        call: &Call,
        begin: Begin,
        stream: Option<&mut Stream>,
    ) -> Result<Reply, NodeError> {
        let taken = Instant::now();
        let result = self.perform(&deployment, call, begin, stream).await;
        count(&deployment, &result, taken.elapsed());
        if deployment.is_retired() {
            // It came late, and may have made a worker that nobody else will dismiss.
            begin_to_renew(deployment);
        }
        result
    }

    async fn perform(
        &self,
        deployment: &Deployment,
        call: &Call,
        begin: Begin,
        mut stream: Option<&mut Stream>,
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
            u64::try_from(begin.payload.len()).unwrap_or(u64::MAX),
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
        tokio::select! {
            may_run = self.may_run(deployment) => may_run?,
            () = call.is_given_up() => return Ok(reply),
        }
        let worker = deployment.worker(|| self.start_worker(deployment)).await;
        if let Err(NodeError::Busy { .. }) = &worker {
            // Unlike one for which there is no place in the queue it was taken.
            add(&deployment.counters.refused, 1);
        }
        let worker = worker?;
        drop(stage);
        if let Some(channel) = &call.origin.channel
            && !worker.takes(channel, &begin.function)
        {
            return Err(NodeError::Rejected {
                name: "channel-not-granted".into(),
                message: format!("`{}` may not receive on the channel `{channel}`", deployment.name),
            });
        }
        let may = || May::of(deployment, &worker);
        if stream.is_some() && !may().writes {
            return Err(NodeError::Rejected {
                name: "console-not-granted".into(),
                message: format!(
                    "`{}` has no console, by which a stream comes and goes: its muscle asks for none, or it was not granted or was taken back",
                    deployment.name
                ),
            });
        }
        call.runs_on(&worker);
        let inside = self.room_for_call(deployment, &worker).await?;
        let place = deployment.place(self.turns())?;
        let mut restrictions = worker.restrictions();
        let mut with = With::Begin(begin);
        let mut sent = Sent::default();
        let mut delegated = Delegated::default();
        let mut asked = Asked::default();
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
            if stream.as_ref().is_some_and(|stream| stream.is_broken()) {
                call.give_up();
            }
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
            restrictions.mark_unchanged();
            let flow = stream.as_mut().map(|stream| stream.flow(may(), deployment));
            let running = call.piece(&worker, (with_now, flow), &turn);
            let mut piece = match stream.as_mut() {
                Some(stream) => stream.beside(running).await?,
                None => running.await?,
            };
            let output = std::mem::take(&mut piece.output);
            let took = match stream.as_mut() {
                Some(stream) => stream.take(output, &piece.how, (deployment, &worker)),
                None if output.is_empty() && !matches!(piece.how, How::Waits(_)) => Ok(()),
                None => Err(NOT_A_STREAM),
            };
            if let Err(wrong) = took {
                return Err(out_of_order(deployment, &worker, wrong).await);
            }
            stage = call.detail().stage(match &piece.how {
                How::Preempted => "slot",
                How::Sleeping(_) => "sleep",
                How::Sends(_) => "message",
                How::Delegates(_) => "delegation",
                How::Waits(_) => "client",
                How::Asks(_) => "tpm",
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
                How::Preempted
                | How::Sleeping(_)
                | How::Sends(_)
                | How::Delegates(_)
                | How::Asks(_)
                | How::Waits(_)
                | How::Joins
                | How::Waiting { .. }
                    if overdue =>
                {
                    return Err(worker.give_up("let a call go on beyond its end").await);
                }
                How::Preempted => tokio::select! {
                    turn = place.next(turn, piece.used) => turn,
                    () = worker.over() => return Err(worker.gone()),
                },
                How::Waits(wants) => {
                    let waited_for = stream.as_mut().filter(|stream| !stream.has(wants, may()));
                    let Some(stream) = waited_for else {
                        stage = call.detail().stage("slot");
                        turn = tokio::select! {
                            turn = place.next(turn, piece.used) => turn,
                            () = worker.over() => return Err(worker.gone()),
                        };
                        continue;
                    };
                    // Its slot is for others while it waits.
                    turn.end(piece.used);
                    // The worker's clock began a little later, and is to say that the time is over.
                    let left = deadline.saturating_sub(began.elapsed()) + A_LITTLE;
                    tokio::select! {
                        () = stream.wait(wants, may()) => {}
                        // It may be about the console: then the muscle is to hear of it.
                        _ = restrictions.changed() => {}
                        () = tokio::time::sleep(left) => {}
                        () = call.is_given_up() => {}
                        () = worker.over() => return Err(worker.gone()),
                    }
                    stage = call.detail().stage("slot");
                    turn_of(&place, &worker).await?
                }
                How::Sleeping(time) => {
                    turn.end(piece.used);
                    let left = deadline.saturating_sub(began.elapsed());
                    tokio::select! {
                        () = tokio::time::sleep(time.min(left)) => {}
                        () = call.is_given_up() => {}
                        () = worker.over() => return Err(worker.gone()),
                    }
                    stage = call.detail().stage("slot");
                    turn_of(&place, &worker).await?
                }
                How::Sends(sending) => {
                    let asks = sending.asks;
                    let is_revoked = deployment.is_revoked(&sending.slot);
                    let message = match sent.check(&worker.given().channels, sending, call.origin.hops) {
                        Ok(message) => message,
                        Err(wrong) => return Err(out_of_order(deployment, &worker, wrong).await),
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
                        turn_of(&place, &worker).await?
                    }
                }
                How::Delegates(asked) => {
                    if let Err(wrong) = delegated.check(worker.given(), &asked) {
                        return Err(out_of_order(deployment, &worker, wrong).await);
                    }
                    // As long as it takes, others have its slot.
                    turn.end(piece.used);
                    let left = deadline.saturating_sub(began.elapsed());
                    let answer = tokio::select! {
                        answer = self.delegate(&deployment.name, &worker, asked) => answer,
                        () = tokio::time::sleep(left) => Answered::Refused(Why::Timeout),
                        () = call.is_given_up() => Answered::Refused(Why::GivenUp),
                        () = worker.over() => return Err(worker.gone()),
                    };
                    with = With::Answer(answer);
                    stage = call.detail().stage("slot");
                    turn_of(&place, &worker).await?
                }
                How::Joins => {
                    // Once for the cell of a call, which had none before.
                    if !worker.has_rings() || std::mem::replace(&mut has_joined, true) {
                        let wrong = "began with rings that it does not have";
                        return Err(out_of_order(deployment, &worker, wrong).await);
                    }
                    turn.end(piece.used);
                    worker.life(true).await?;
                    stage = call.detail().stage("slot");
                    turn_of(&place, &worker).await?
                }
                How::Asks(asking) => {
                    if let Err(wrong) = asked.check(worker.tpm(), &asking) {
                        return Err(out_of_order(deployment, &worker, wrong).await);
                    }
                    // A TPM takes its time, and its slot is for others meanwhile.
                    turn.end(piece.used);
                    let left = deadline.saturating_sub(began.elapsed());
                    let answer = match deployment.is_revoked(&asking.slot) {
                        true => TpmAnswer::failed("not-granted: the grant was revoked"),
                        false => tokio::select! {
                            answer = self.ask_tpm(worker.number(), call.number, asking) => answer,
                            () = tokio::time::sleep(left) => TpmAnswer::failed("tpm-late: the call's deadline was over before"),
                            () = call.is_given_up() => TpmAnswer::failed("the call was given up"),
                            () = worker.over() => return Err(worker.gone()),
                        },
                    };
                    with = With::Tpm(answer);
                    stage = call.detail().stage("slot");
                    turn_of(&place, &worker).await?
                }
                How::Waiting { slot } => {
                    let Some(end) = worker.ring(&slot) else {
                        let wrong = "waited for a ring that it was not granted";
                        return Err(out_of_order(deployment, &worker, wrong).await);
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
                        turn_of(&place, &worker).await?
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
                snapshot: settings
                    .snapshot
                    .as_ref()
                    .map(|id| self.store().open_snapshot(id))
                    .transpose()?,
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

/// Ends a worker because of what it said, and counts it.
async fn out_of_order(deployment: &Deployment, worker: &Worker, wrong: &'static str) -> NodeError {
    add(&deployment.counters.workers_out_of_order, 1);
    worker.give_up(wrong).await
}

/// A slot for a call's next piece.
///
/// # Errors
/// When the worker is gone before there is one.
async fn turn_of(place: &Place, worker: &Worker) -> Result<Turn, NodeError> {
    tokio::select! {
        turn = place.turn() => Ok(turn),
        () = worker.over() => Err(worker.gone()),
    }
}

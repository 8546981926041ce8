//! One call, from the queue to its result.
//!
//! ```text
//!   queue (bounded) ─► a cell of the deployment ─► its worker ─┬─► a slot of the host ─► a piece ─┬─► result
//!                                                              └──── preempted, or slept ◄────────┘
//! ```
//! A call goes on as a task of its own. When whoever asked goes away, it is given up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::crew::{Plan, Worker};
use crate::deployment::{Deployment, add};
use crate::error::{NodeError, OrHost};
use crate::line::{Begin, Failure, How};
use crate::node::{Node, begin_to_renew};
use crate::worker::Shape;

/// How long after its deadline a call may still be going on.
const LATE: Duration = Duration::from_secs(1);

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
    ) -> Result<Reply, NodeError> {
        let exports = &deployment.assessment().exports;
        if !exports.contains(&function) {
            return Err(NodeError::NoFunction(function));
        }
        let call = Arc::new(Call::new(self.next_number()));
        let given_up = GivenUp(Arc::clone(&call));
        let node = self.clone();
        let task = tokio::spawn(async move {
            let counted = Arc::clone(&deployment);
            let result = node.perform(&deployment, &call, function, payload).await;
            count(&counted, &result);
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
        let queued = deployment.queue(self.config().cells.queue)?;
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
        let cell = tokio::select! {
            cell = deployment.cells.acquire() => cell.or_host("waiting for a cell")?,
            () = call.is_given_up() => return Ok(reply),
        };
        drop(queued);
        // It may have waited for long.
        self.takes_calls(deployment)?;
        let worker = deployment.worker(|| self.start_worker(deployment)).await?;
        call.runs_on(&worker);
        let place = deployment.place(self.turns())?;
        let mut begin = Some(Begin { function, payload });
        let mut turn = tokio::select! {
            turn = place.turn() => turn,
            () = call.is_given_up() => return Ok(reply),
        };
        let mut cancelled = None;
        let began = Instant::now();
        let deadline = Duration::from_millis(deployment.assessment().deadline_ms);
        loop {
            if call.given_up() {
                if begin.is_some() {
                    return Ok(reply);
                }
                // Whoever gave it up may have done so before the worker knew of it.
                worker.cancel(call.number).await;
                cancelled.get_or_insert_with(Instant::now);
            }
            turn.runs(&worker, call.number);
            let piece = worker.run(call.number, begin.take(), Some(turn.budget)).await?;
            reply.used = reply.used.saturating_add(piece.used);
            add(&deployment.counters.slices, 1);
            // A worker ends a call at its deadline, or when it is given up; one that does not is not itself any more.
            let overdue = began.elapsed().saturating_sub(deadline) > LATE
                || cancelled.is_some_and(|at: Instant| at.elapsed() > LATE);
            turn = match piece.how {
                How::Preempted | How::Sleeping(_) if overdue => {
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
                    tokio::select! {
                        turn = place.turn() => turn,
                        () = worker.over() => return Err(worker.gone()),
                    }
                }
                How::Returned(result) => {
                    turn.end(piece.used);
                    reply.result = Ok(result);
                    break;
                }
                How::Failed(failure) => {
                    turn.end(piece.used);
                    reply.result = Err(failure);
                    break;
                }
            };
        }
        drop(cell);
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
        Worker::start(
            self.nursery(),
            Plan {
                number: self.next_number(),
                order: self.order(deployment)?,
                shape: Shape {
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
}

impl Call {
    fn new(number: u64) -> Call {
        Call {
            number,
            given_up: AtomicBool::new(false),
            heard: Notify::new(),
            worker: Mutex::default(),
        }
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

fn count(deployment: &Deployment, result: &Result<Reply, NodeError>) {
    let counters = &deployment.counters;
    let reply = match result {
        Ok(reply) => reply,
        Err(NodeError::WorkerGone { .. } | NodeError::Host { .. }) => {
            return add(&counters.host_errors, 1);
        }
        // It is none of the calls that were taken.
        Err(NodeError::Busy { .. }) => return,
        // Taken, and refused before it ran: paused meanwhile, or no longer permitted.
        Err(_) => return add(&counters.refused, 1),
    };
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

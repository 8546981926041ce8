//! A call that is under way, as those see it who may give it up, and what it counts as once it is over.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use referee_trace::Trace;
use tokio::sync::Notify;

use crate::call::{Origin, Reply};
use crate::crew::{Piece, Supplies, Worker};
use crate::deployment::{Deployment, add};
use crate::error::NodeError;
use crate::line::{Failure, Flow, With};
use crate::stages;
use crate::turns::Turn;

/// Pieces of a call that its trace tells of.
const PIECES_TOLD: u32 = 64;

/// A call as those see it who may give it up.
#[derive(Debug)]
pub(super) struct Call {
    pub number: u64,
    given_up: AtomicBool,
    heard: Notify,
    worker: Mutex<Option<Arc<Worker>>>,
    pub trace: Trace,
    pub origin: Origin,
    /// Pieces that ran.
    pieces: AtomicU32,
}

impl Call {
    pub(super) fn new(number: u64, trace: Trace, origin: Origin) -> Call {
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
    pub(super) fn detail(&self) -> Trace {
        match self.pieces.load(Ordering::Relaxed) < PIECES_TOLD {
            true => self.trace.clone(),
            false => Trace::none(),
        }
    }

    /// Has the worker run a piece of it.
    pub(super) async fn piece(
        &self,
        worker: &Arc<Worker>,
        (with, flow): (With, Option<Flow>),
        turn: &Turn,
    ) -> Result<Piece, NodeError> {
        let detail = self.detail();
        self.pieces.fetch_add(1, Ordering::Relaxed);
        let traced = detail.is_recorded();
        let stage = detail.stage("piece");
        let began = (SystemTime::now(), Instant::now());
        let supplies = Supplies {
            with,
            flow,
            budget: Some(turn.budget),
            makes_way: turn.makes_way,
            traced,
        };
        let piece = worker.run(self.number, supplies).await?;
        if traced {
            stages::tell(&stage, began.0, began.1.elapsed(), &piece.did.steps);
        }
        Ok(piece)
    }

    pub(super) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Gives it up from within: its next piece is its last.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Release);
    }

    pub(super) async fn is_given_up(&self) {
        let heard = self.heard.notified();
        if !self.given_up() {
            heard.await;
        }
    }

    pub(super) fn runs_on(&self, worker: &Arc<Worker>) {
        *self.worker.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(worker));
    }
}

/// Gives a call up when it is dropped before the call has ended.
#[derive(Debug)]
pub(crate) struct GivenUp(pub(super) Arc<Call>);

impl GivenUp {
    /// Says that it has ended.
    pub(crate) fn not(&self) {
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

/// Counts a call that is over.
pub(super) fn count(deployment: &Deployment, result: &Result<Reply, NodeError>, lasted: Duration) {
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

//! A call whose client sends the muscle's standard input and takes its standard output while the muscle runs.
//!
//! ```text
//!   client ─ body ─► kept, up to FLOW_IN_MAX ──► Run { flow } ──► console.in
//!   client ◄─ two pieces of FLOW_OUT_MAX ◄── Stopped { output } ◄── console.out
//! ```
//! The body is read only while there is room for it here, so that a client that is faster than the muscle waits; a piece has no room for output
//! while the client has not taken what came before, so that a muscle that is faster than its client waits. While it does, it has a cell and
//! no slot, and no thread anywhere.

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt;
use referee_policy::{Grants, Power};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::call::{GivenUp, Reply};
use crate::crew::Worker;
use crate::deployment::{Deployment, add};
use crate::error::NodeError;
use crate::line::{FLOW_IN_MAX, FLOW_OUT_MAX, Flow, How, Wants};

/// Pieces of output that wait for a client.
const PIECES: usize = 2;

/// After so many bytes a stream may have as much recorded again as a call may.
const RECORDS_EACH: u64 = 64 << 20;

/// What a worker did that sent a stream's bytes, or waits for its client, in a call that has neither.
pub(crate) const NOT_A_STREAM: &str = "spoke of a stream in a call that is none";

/// One granted slot of the kind `console`. The nursery says it, never a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ConsoleGrant {
    pub slot: String,
    pub input: bool,
}

/// All consoles that were granted.
pub(crate) fn consoles(grants: &Grants) -> Vec<ConsoleGrant> {
    let console = |grant: &referee_policy::Grant| match grant.power() {
        Power::Console { input } => Some(ConsoleGrant {
            slot: grant.slot().to_owned(),
            input: *input,
        }),
        _ => None,
    };
    grants.slots().iter().filter_map(console).collect()
}

/// What a muscle may do with its console at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct May {
    pub reads: bool,
    pub writes: bool,
}

impl May {
    /// As the nursery granted it to the worker, and what is left of that.
    pub(crate) fn of(deployment: &Deployment, worker: &Worker) -> May {
        let mut may = May {
            reads: false,
            writes: false,
        };
        for ConsoleGrant { slot, input } in worker.console() {
            if let Some(Power::Console { input }) =
                deployment.left_of(slot, &Power::Console { input: *input })
            {
                may.writes = true;
                may.reads |= input;
            }
        }
        may
    }
}

/// Why a stream's client is not waited for any longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// It did nothing for too long while the muscle waited for this.
    Slow(Wants),
    /// Its body broke off.
    Cut,
}

/// The call's end of a stream.
pub(crate) struct Stream {
    body: Body,
    kept: VecDeque<Bytes>,
    kept_bytes: usize,
    /// Whether all of the body is here.
    has_all: bool,
    /// Whether the muscle has read all that it was given, and wants more.
    is_asked: bool,
    /// Whether the muscle was told that there is no more.
    told_all: bool,
    /// How much room the piece that runs was given.
    room: u32,
    to_client: mpsc::Sender<Bytes>,
    written: Written,
    begun: Option<oneshot::Sender<()>>,
    ended: Option<oneshot::Sender<Ended>>,
    broken: Option<Broken>,
    idle: Duration,
    passed: u64,
    _place: OwnedSemaphorePermit,
}

/// The client's end of a stream. Dropping it gives the call up.
#[derive(Debug)]
pub(crate) struct Streaming {
    /// The call's number.
    pub call: u64,
    written: Written,
    begun: oneshot::Receiver<()>,
    ended: oneshot::Receiver<Ended>,
    given_up: GivenUp,
}

/// How a stream ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub result: Result<Reply, NodeError>,
    /// Why its client was not waited for, if that was so.
    pub broken: Option<Broken>,
}

/// The client does not have all of the output, and never will.
#[derive(Debug, thiserror::Error)]
#[error("the output was not taken in time, and is not whole")]
pub(crate) struct NotWhole;

/// Output that waits for the client; none when nobody waits for the client any longer.
#[derive(Debug, Clone)]
struct Written(Arc<Mutex<Option<mpsc::Receiver<Bytes>>>>);

impl Written {
    fn lock(&self) -> MutexGuard<'_, Option<mpsc::Receiver<Bytes>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Both ends of a stream. `idle` is how long its client may let the muscle wait.
    pub(crate) fn open(
        body: Body,
        idle: Duration,
        place: OwnedSemaphorePermit,
        (call, given_up): (u64, GivenUp),
    ) -> (Stream, Streaming) {
        let (to_client, written) = mpsc::channel(PIECES);
        let written = Written(Arc::new(Mutex::new(Some(written))));
        let (begins, begun) = oneshot::channel();
        let (ends, ended) = oneshot::channel();
        let stream = Stream {
            body,
            kept: VecDeque::new(),
            kept_bytes: 0,
            has_all: false,
            is_asked: false,
            told_all: false,
            room: 0,
            to_client,
            written: written.clone(),
            begun: Some(begins),
            ended: Some(ends),
            broken: None,
            idle,
            passed: 0,
            _place: place,
        };
        let streaming = Streaming {
            call,
            written,
            begun,
            ended,
            given_up,
        };
        (stream, streaming)
    }

    /// What the next piece begins with.
    pub(crate) fn flow(&mut self, may: May, deployment: &Deployment) -> Flow {
        let mut flow = Flow {
            room: match may.writes && self.to_client.capacity() > 0 {
                true => FLOW_OUT_MAX,
                false => 0,
            },
            ..Flow::default()
        };
        self.room = flow.room;
        if self.is_asked && may.reads {
            flow.input.reserve_exact(self.kept_bytes);
            for bytes in self.kept.drain(..) {
                flow.input.extend_from_slice(&bytes);
            }
            self.kept_bytes = 0;
            flow.ended = self.has_all;
            self.told_all = self.has_all;
            self.is_asked = flow.input.is_empty() && !flow.ended;
            add(&deployment.counters.bytes_in, length(&flow.input));
            self.passed = self.passed.saturating_add(length(&flow.input));
        }
        flow
    }

    /// Reads what the client sends, as far as there is room, beside a piece that runs.
    pub(crate) async fn beside<T>(&mut self, piece: impl Future<Output = T>) -> T {
        let mut piece = pin!(piece);
        loop {
            if self.kept_bytes >= FLOW_IN_MAX || self.has_all || self.is_broken() {
                return piece.await;
            }
            tokio::select! {
                result = &mut piece => return result,
                () = self.fill() => {}
            }
        }
    }

    /// Takes what a piece ended with. What a worker cannot honestly say is not taken.
    ///
    /// # Errors
    /// What the worker did.
    pub(crate) fn take(
        &mut self,
        output: Vec<u8>,
        how: &How,
        (deployment, worker): (&Deployment, &Worker),
    ) -> Result<(), &'static str> {
        let (written, room) = (length(&output), u64::from(self.room));
        if written > room {
            return Err("sent more of a stream than there was room for");
        }
        match how {
            How::Waits(Wants::Room) if written < room => return Err("waited for room that it had"),
            How::Waits(Wants::Input) if self.told_all => return Err("asked for input behind its end"),
            How::Waits(Wants::Input) if !worker.console().iter().any(|console| console.input) => {
                return Err("asked for input that it was not granted");
            }
            How::Waits(Wants::Input) => self.is_asked = true,
            _ => {}
        }
        if written > 0 || matches!(how, How::Waits(_)) {
            self.begins();
        }
        if written > 0 {
            add(&deployment.counters.bytes_out, written);
            self.passed = self.passed.saturating_add(written);
            // There is a place, since there was room. The client may have gone away; then the call is given up.
            let _ = self.to_client.try_send(output.into());
        }
        if let Some(times @ 1..) = self.passed.checked_div(RECORDS_EACH) {
            self.passed %= RECORDS_EACH;
            worker.allow_records_of(times);
        }
        Ok(())
    }

    /// Whether what the muscle wants is there.
    pub(crate) fn has(&self, wants: Wants, may: May) -> bool {
        match wants {
            Wants::Input => may.reads && (self.has_all || !self.kept.is_empty()),
            Wants::Room => may.writes && self.to_client.capacity() > 0,
        }
    }

    /// Waits for it, at most for as long as a client may let the muscle wait.
    pub(crate) async fn wait(&mut self, wants: Wants, may: May) {
        if self.is_broken() {
            return;
        }
        let idle = self.idle;
        let comes = async {
            match wants {
                Wants::Input if may.reads => {
                    while !self.has(wants, may) && !self.is_broken() {
                        self.fill().await;
                    }
                }
                // It is closed when the client went away, and the call is then given up.
                Wants::Room if may.writes => drop(self.to_client.reserve().await),
                // Taken back: it goes on when the worker has heard of that.
                Wants::Input | Wants::Room => pending().await,
            }
        };
        if tokio::time::timeout(idle, comes).await.is_err() {
            self.broken = Some(Broken::Slow(wants));
        }
    }

    /// Whether the call is to be given up because of its client.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Takes one part of the body. Nothing is lost when it is dropped half-way.
    async fn fill(&mut self) {
        match self.body.frame().await {
            Some(Ok(frame)) => {
                // Trailers say nothing to a muscle.
                let bytes = frame.into_data().unwrap_or_default();
                if !bytes.is_empty() {
                    self.kept_bytes = self.kept_bytes.saturating_add(bytes.len());
                    self.kept.push_back(bytes);
                }
            }
            None => self.has_all = true,
            // What broke off is not taken for the end.
            Some(Err(_)) => self.broken = Some(Broken::Cut),
        }
    }

    fn begins(&mut self) {
        if let Some(begun) = self.begun.take() {
            // The client may have gone away.
            let _ = begun.send(());
        }
    }

    /// Says how the call ended, and sees what it wrote on its way for as long as its client takes any of it.
    pub(crate) async fn end(mut self, result: Result<Reply, NodeError>) {
        let broken = self.broken;
        if let Some(ended) = self.ended.take() {
            let _ = ended.send(Ended { result, broken });
        }
        // Only now: whoever waits for the beginning finds the end.
        self.begun = None;
        self.body = Body::empty();
        self.kept.clear();
        loop {
            let free = self.to_client.capacity();
            match tokio::time::timeout(self.idle, self.to_client.reserve_many(PIECES)).await {
                Ok(_) => return,
                Err(_) if self.to_client.capacity() > free => {}
                Err(_) => break,
            }
        }
        *self.written.lock() = None;
    }
}

impl Streaming {
    /// Waits until the call waits for its client, or has written something; or gives how it ended before it did either.
    pub(crate) async fn begins(&mut self) -> Option<Ended> {
        match (&mut self.begun).await {
            Ok(()) => None,
            Err(_) => Some(self.end().await),
        }
    }

    /// What was written next; `None` when all of it was taken, and the call is about to end or has ended.
    ///
    /// # Errors
    /// [`NotWhole`] when it was taken so slowly that the rest was thrown away.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, NotWhole> {
        let written = &self.written;
        poll_fn(|context| match written.lock().as_mut() {
            None => Poll::Ready(Err(NotWhole)),
            Some(written) => written.poll_recv(context).map(Ok),
        })
        .await
    }

    /// How it ended.
    pub(crate) async fn end(&mut self) -> Ended {
        let ended = (&mut self.ended).await;
        self.given_up.not();
        ended.unwrap_or_else(|_| Ended {
            result: Err(NodeError::host("performing a call")(
                "it was not performed to its end",
            )),
            broken: None,
        })
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        // Whoever waits until it is taken waits in vain.
        *self.written.lock() = None;
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

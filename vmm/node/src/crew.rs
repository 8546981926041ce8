//! A worker as the supervisor sees it: pieces of calls go out, what became of them comes back.

use std::collections::HashMap;
use std::fs::File;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use referee_audit::AuditSink;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, oneshot};

use crate::error::{NodeError, OrHost};
use crate::ledger::Ledger;
use crate::line::{self, Begin, FromWorker, How, ToWorker, frame};
use crate::logs::Logs;
use crate::nursery::{Nursery, Order};
use crate::report;
use crate::worker::Shape;

/// How long a worker may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long it may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);

/// A worker that is there, or was.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u64,
    writer: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
    pending: Mutex<HashMap<u64, oneshot::Sender<Piece>>>,
    told_to_end: Notify,
    gone: OnceLock<String>,
    ended: Notify,
    last_used: Mutex<Instant>,
}

/// A piece of a call that is over.
#[derive(Debug)]
pub(crate) struct Piece {
    /// How long it had a slot.
    pub used: Duration,
    pub how: How,
}

/// What a worker is made of.
pub(crate) struct Plan {
    pub number: u64,
    pub order: Order,
    pub shape: Shape,
    pub bundle: File,
    /// `name version`, for the log.
    pub muscle: String,
    pub audit: AuditSink,
    pub logs: Arc<Logs>,
}

impl Worker {
    /// Makes a worker and waits until it is ready.
    ///
    /// # Errors
    /// [`NodeError::Rejected`], [`NodeError::Host`].
    pub(crate) async fn start(nursery: &Nursery, plan: Plan) -> Result<Arc<Worker>, NodeError> {
        let number = plan.number;
        let (calls, log) = nursery
            .spawn(number, plan.order, plan.shape, plan.bundle)
            .await?;
        let doing = "setting the lines of a worker up";
        let stream = |line: std::os::unix::net::UnixStream| {
            line.set_nonblocking(true)?;
            UnixStream::from_std(line)
        };
        let (calls, log) = (stream(calls).or_host(doing)?, stream(log).or_host(doing)?);
        let (reader, writer) = calls.into_split();
        let worker = Arc::new(Worker {
            number,
            writer: tokio::sync::Mutex::new(Some(writer)),
            pending: Mutex::default(),
            told_to_end: Notify::new(),
            gone: OnceLock::new(),
            ended: Notify::new(),
            last_used: Mutex::new(Instant::now()),
        });
        let (ready, is_ready) = oneshot::channel();
        let ledger = tokio::spawn(Ledger::new(plan.audit, plan.muscle).keep(log));
        let listening = Listening {
            worker: Arc::clone(&worker),
            nursery: nursery.clone(),
            logs: plan.logs,
            ready: Some(ready),
        };
        tokio::spawn(async move {
            let ending = listening.listen(reader);
            let (why, kept) = tokio::join!(ending, ledger);
            match kept {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(wrong))) => report::problem(&format!("worker {number} was ended: {wrong}")),
                Ok(Err(error)) => report::problem(&error.with_causes()),
                Err(error) => report::problem(&error.to_string()),
            }
            why
        });
        match tokio::time::timeout(READY_WITHIN, is_ready).await {
            Ok(Ok(Ok(()))) => Ok(worker),
            Ok(Ok(Err(error))) => Err(error),
            Ok(Err(_)) => Err(NodeError::WorkerGone {
                how: worker.how_it_ended(),
            }),
            Err(_) => {
                worker.dismiss().await;
                Err(NodeError::host("starting a worker")(
                    "it was not ready in time; see the log",
                ))
            }
        }
    }

    /// Lets a call run for a while.
    ///
    /// # Errors
    /// [`NodeError::WorkerGone`].
    pub(crate) async fn run(
        &self,
        call: u64,
        begin: Option<Begin>,
        budget: Option<Duration>,
    ) -> Result<Piece, NodeError> {
        let (told, piece) = oneshot::channel();
        lock(&self.pending).insert(call, told);
        *lock(&self.last_used) = Instant::now();
        self.send(&ToWorker::Run { call, begin, budget }).await?;
        let gone = || NodeError::WorkerGone {
            how: self.how_it_ended(),
        };
        // Looked at again: a worker that ended before the piece was entered has forgotten only those from before.
        if self.is_gone() {
            lock(&self.pending).remove(&call);
        }
        piece.await.map_err(|_| gone())
    }

    /// Gives a call up. Its present piece, or the next one, is its last.
    pub(crate) async fn cancel(&self, call: u64) {
        // A worker that is gone has given it up already.
        let _ = self.send(&ToWorker::Cancel { call }).await;
    }

    /// Closes the line, at which the worker ends in order; or is ended, when it does not.
    pub(crate) async fn dismiss(&self) {
        // First: somebody may be writing to a worker that does not read.
        self.told_to_end.notify_one();
        self.writer.lock().await.take();
    }

    /// Comes back when it was told to end and has had time for it.
    async fn overdue(&self) {
        self.told_to_end.notified().await;
        tokio::time::sleep(ENDS_WITHIN).await;
    }

    /// Comes back when the worker is gone.
    pub(crate) async fn ended(&self) {
        let ended = self.ended.notified();
        if !self.is_gone() {
            ended.await;
        }
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

    async fn send(&self, message: &ToWorker) -> Result<(), NodeError> {
        let frame = frame(message).or_host("writing to a worker")?;
        let mut writer = self.writer.lock().await;
        let sent = match writer.as_mut() {
            Some(writer) => writer.write_all(&frame).await.is_ok(),
            None => false,
        };
        match sent {
            true => Ok(()),
            false => Err(NodeError::WorkerGone {
                how: self.how_it_ended(),
            }),
        }
    }

    fn how_it_ended(&self) -> String {
        self.gone
            .get()
            .cloned()
            .unwrap_or_else(|| "was told to end".into())
    }
}

/// The task that listens to a worker.
struct Listening {
    worker: Arc<Worker>,
    nursery: Nursery,
    logs: Arc<Logs>,
    ready: Option<oneshot::Sender<Result<(), NodeError>>>,
}

impl Listening {
    async fn listen(mut self, reader: OwnedReadHalf) {
        let mut reader = BufReader::new(reader);
        let mut buffer = Vec::new();
        let number = self.worker.number;
        let worker = Arc::clone(&self.worker);
        let mut overdue = std::pin::pin!(worker.overdue());
        loop {
            let message = tokio::select! {
                message = line::read_async::<FromWorker>(&mut reader, &mut buffer) => message,
                () = &mut overdue => break,
            };
            match message {
                Ok(Some(message)) => self.take(message),
                Ok(None) => break,
                Err(error) => {
                    report::problem(&format!("worker {number} broke its line: {error}"));
                    break;
                }
            }
        }
        // Whoever is writing at this moment hears of its end.
        if let Ok(mut writer) = worker.writer.try_lock() {
            writer.take();
        }
        let how = match self.nursery.reap(number).await {
            Ok(how) => how,
            Err(error) => format!("ended, how is not known: {}", error.with_causes()),
        };
        if how != IN_ORDER {
            report::problem(&format!("worker {number} {how}"));
        }
        let _ = self.worker.gone.set(how);
        // Whoever waits for a piece hears that its sender is gone.
        lock(&self.worker.pending).clear();
        self.worker.ended.notify_waiters();
    }

    fn take(&mut self, message: FromWorker) {
        match message {
            FromWorker::Ready { not_confined_by } => {
                if !not_confined_by.is_empty() {
                    let number = self.worker.number;
                    report::problem(&format!("worker {number} is not confined by: {not_confined_by}"));
                }
                self.tell_ready(Ok(()));
            }
            FromWorker::Unfit { rejected, message } => self.tell_ready(Err(match rejected {
                Some(name) => NodeError::Rejected { name, message },
                None => NodeError::host("starting a worker")(message),
            })),
            FromWorker::Stopped { call, used, how } => {
                let waiting = lock(&self.worker.pending).remove(&call);
                if let Some(waiting) = waiting {
                    // The caller may have gone away.
                    let _ = waiting.send(Piece { used, how });
                }
            }
            FromWorker::Output { call, errors, bytes } => self.logs.push(call, errors, &bytes),
        }
    }

    fn tell_ready(&mut self, ready: Result<(), NodeError>) {
        if let Some(sender) = self.ready.take() {
            // Whoever started it may have stopped waiting.
            let _ = sender.send(ready);
        }
    }
}

/// What the nursery says of a worker that did what it was told to.
const IN_ORDER: &str = "ended in order";

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The supervisor's end: one request at a time, each on a thread that may block.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::error::{NodeError, OrHost};
use crate::nursery::messages::{Ask, Assessment, Given, Order, Told};
use crate::nursery::passing;
use crate::worker::Shape;

/// The nursery as the supervisor sees it. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Nursery(Arc<Mutex<OwnedFd>>);

/// A worker that was made.
#[derive(Debug)]
pub(crate) struct Spawned {
    /// The supervisor's end of its line of calls.
    pub calls: UnixStream,
    /// The supervisor's end of its line to the log.
    pub log: UnixStream,
    /// What it may do.
    pub given: Given,
}

impl Nursery {
    pub(crate) fn new(socket: OwnedFd) -> Nursery {
        Nursery(Arc::new(Mutex::new(socket)))
    }

    /// Verifies a bundle and asks policy.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] says which rule.
    pub(crate) async fn assess(&self, order: Order, bundle: File) -> Result<Assessment, NodeError> {
        match self.ask(Ask::Assess(order), vec![bundle.into()]).await? {
            Told::Assessed(assessment) => Ok(*assessment),
            other => Err(unexpected(other)),
        }
    }

    /// Makes a worker and gives the supervisor's ends of its lines.
    ///
    /// # Errors
    /// As [`Nursery::assess`]; [`NodeError::Host`].
    pub(crate) async fn spawn(
        &self,
        worker: u64,
        order: Order,
        shape: Shape,
        (bundle, snapshot): (File, Option<File>),
    ) -> Result<Spawned, NodeError> {
        let pair = || UnixStream::pair().or_host("making a line to a worker");
        let (calls, worker_calls) = pair()?;
        let (log, worker_log) = pair()?;
        let mut descriptors = vec![bundle.into(), worker_calls.into(), worker_log.into()];
        descriptors.extend(snapshot.map(OwnedFd::from));
        match self.ask(Ask::Spawn { worker, order, shape }, descriptors).await? {
            Told::Spawned(given) => Ok(Spawned {
                calls,
                log,
                given: *given,
            }),
            other => Err(unexpected(other)),
        }
    }

    /// Has a bundle measured: on the line that this gives comes the notary's answer. None if it is measured already.
    ///
    /// # Errors
    /// As [`Nursery::assess`].
    pub(crate) async fn measure(&self, order: Order, bundle: File) -> Result<Option<UnixStream>, NodeError> {
        let (ours, theirs) = UnixStream::pair().or_host("making a line to the notary")?;
        let descriptors = vec![bundle.into(), theirs.into()];
        match self.ask(Ask::Measure(order), descriptors).await? {
            Told::Measured => Ok(None),
            Told::OnTheLine => Ok(Some(ours)),
            other => Err(unexpected(other)),
        }
    }

    /// Has evidence made; for whom, goes on the line that this gives.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) async fn evidence(&self) -> Result<UnixStream, NodeError> {
        self.on_a_line(Ask::Evidence).await
    }

    /// Has the TPM asked for a worker's muscle; what, goes on the line that this gives.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) async fn speak(&self, worker: u64) -> Result<UnixStream, NodeError> {
        self.on_a_line(Ask::Speak { worker }).await
    }

    /// Has the notary look at the TPM.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) async fn look_at_tpm(&self) -> Result<UnixStream, NodeError> {
        self.on_a_line(Ask::LookAtTpm).await
    }

    async fn on_a_line(&self, ask: Ask) -> Result<UnixStream, NodeError> {
        let (ours, theirs) = UnixStream::pair().or_host("making a line to the notary")?;
        match self.ask(ask, vec![theirs.into()]).await? {
            Told::OnTheLine => Ok(ours),
            other => Err(unexpected(other)),
        }
    }

    /// Says in a worker's rings that a life of its cell begins, or that it is over.
    ///
    /// # Errors
    /// [`NodeError::Host`]: what the rings say is not so, and the worker should not go on.
    pub(crate) async fn life(&self, worker: u64, begins: bool) -> Result<(), NodeError> {
        match self.ask(Ask::Life { worker, begins }, Vec::new()).await? {
            Told::Lived => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Sees a worker to its end, which is brought about if it does not come in time, and says how it ended.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the nursery is gone.
    pub(crate) async fn reap(&self, worker: u64, patience: Duration) -> Result<String, NodeError> {
        match self.ask(Ask::Reap { worker, patience }, Vec::new()).await? {
            Told::Reaped { how } => Ok(how),
            other => Err(unexpected(other)),
        }
    }

    /// Has trust store and policies read again; when either is refused, the old ones stay.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(crate) async fn reload(&self) -> Result<(), NodeError> {
        match self.ask(Ask::Reload, Vec::new()).await? {
            Told::Reloaded => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Comes back when the nursery has answered, which it does once it has what it needs and between two requests.
    ///
    /// # Errors
    /// [`NodeError::Host`] when the nursery is gone.
    pub(crate) async fn greet(&self) -> Result<(), NodeError> {
        match self.ask(Ask::Greet, Vec::new()).await? {
            Told::Greeted => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    async fn ask(&self, ask: Ask, descriptors: Vec<OwnedFd>) -> Result<Told, NodeError> {
        let socket = Arc::clone(&self.0);
        let talk = move || -> io::Result<Told> {
            let socket = socket.lock().unwrap_or_else(PoisonError::into_inner);
            let borrowed: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            passing::send(&socket, &ask, &borrowed)?;
            passing::receive(&socket)?
                .map(|(told, _)| told)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
        };
        tokio::task::spawn_blocking(talk)
            .await
            .or_host("asking the nursery")?
            .or_host("asking the nursery")
    }
}

/// A refusal or failure, or a reply to something else.
fn unexpected(told: Told) -> NodeError {
    match told {
        Told::Rejected { name, message } => NodeError::Rejected { name, message },
        Told::Failed { message } => NodeError::host("in the nursery")(io::Error::other(message)),
        Told::NotMeasured => {
            NodeError::host("starting a worker")("its bundle is not measured any more; call again")
        }
        Told::Assessed(_)
        | Told::Spawned(_)
        | Told::Measured
        | Told::OnTheLine
        | Told::Lived
        | Told::Reaped { .. }
        | Told::Reloaded
        | Told::Greeted => {
            NodeError::host("asking the nursery")(io::Error::other("it answered another question"))
        }
    }
}

//! The supervisor's side: questions to the TPM, each on a line of its own, so that nobody waits for another's answer and no thread for any.

use std::fs::File;
use std::io;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{Notify, Semaphore};

use crate::error::{NodeError, OrHost};
use crate::line::{frame, read_async};
use crate::notary::{EvidenceFor, Speaking, Verdict};
use crate::nursery::{Nursery, Order};
use crate::vouching::{Asking, TpmAnswer};

/// Most questions that may wait for the TPM at once.
const QUESTIONS_MAX: usize = 16;
/// What an answer may take beyond the TPM's patience, twice: a question waits for those before it as long as it may take itself.
const MORE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// The node's TPM as the supervisor sees it.
#[derive(Debug)]
pub(crate) struct Notary {
    nursery: Nursery,
    questions: Semaphore,
    /// Those of muscles.
    muscles: Semaphore,
    patience: Duration,
    /// Hears that a question had no answer, so that somebody looks.
    failed: Notify,
}

impl Notary {
    pub(crate) fn new(nursery: Nursery, patience: Duration) -> Notary {
        Notary {
            nursery,
            questions: Semaphore::new(QUESTIONS_MAX),
            muscles: Semaphore::new(QUESTIONS_MAX),
            patience,
            failed: Notify::new(),
        }
    }

    /// Has a bundle measured, which may run when this comes back. `None` if it was since the node started; otherwise whether it is the first time in
    /// this boot.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] by the bundle, policy or a floor; [`NodeError::Busy`]; [`NodeError::Host`] when the TPM does not serve.
    pub(crate) async fn measure(&self, order: Order, bundle: File) -> Result<Option<bool>, NodeError> {
        let _turn = self.turn()?;
        let Some(line) = self.nursery.measure(order, bundle).await? else {
            return Ok(None);
        };
        match self.noted(self.heard(line, None::<()>).await)? {
            Verdict::Measured { first } => Ok(Some(first)),
            other => Err(unexpected(other)),
        }
    }

    /// Evidence of this node for a verifier.
    ///
    /// # Errors
    /// [`NodeError::Busy`], [`NodeError::Host`].
    pub(crate) async fn evidence(
        &self,
        nonce: Vec<u8>,
        audit_head: (u64, String),
    ) -> Result<Vec<u8>, NodeError> {
        let _turn = self.turn()?;
        let line = self.nursery.evidence().await?;
        let question = EvidenceFor { nonce, audit_head };
        match self.noted(self.heard(line, Some(question)).await)? {
            Verdict::Given(bytes) => Ok(bytes),
            other => Err(unexpected(other)),
        }
    }

    /// Asks for a worker's muscle in this call.
    ///
    /// # Errors
    /// [`NodeError::Busy`], [`NodeError::Host`].
    pub(crate) async fn speak(&self, worker: u64, call: u64, asking: Asking) -> Result<TpmAnswer, NodeError> {
        // Theirs are not the node's own, so that muscles cannot keep bundles from being measured.
        let _turn = self.muscles.try_acquire().map_err(|_| too_many())?;
        let line = self.nursery.speak(worker).await?;
        let question = Speaking { call, asking };
        match self.noted(self.heard(line, Some(question)).await)? {
            Verdict::Told(answer) if answer.can_be_passed_on() => Ok(answer),
            other => Err(unexpected(other)),
        }
    }

    /// Comes back when the TPM answers and has what was measured.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) async fn look(&self) -> Result<(), NodeError> {
        let line = self.nursery.look_at_tpm().await?;
        match self.heard(line, None::<()>).await? {
            Verdict::AsMeasured => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Comes back when a question had no answer.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }

    fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, NodeError> {
        self.questions.try_acquire().map_err(|_| too_many())
    }

    /// Asks on a line and waits for the answer.
    async fn heard<Q: Serialize>(
        &self,
        line: std::os::unix::net::UnixStream,
        question: Option<Q>,
    ) -> Result<Verdict, NodeError> {
        let doing = "asking the notary";
        line.set_nonblocking(true).or_host(doing)?;
        let mut line = UnixStream::from_std(line).or_host(doing)?;
        let asked = async {
            let written = match question {
                Some(question) => line.write_all(&frame(&question)?).await,
                None => Ok(()),
            };
            let mut buffer = Vec::new();
            let verdict = read_async::<Verdict>(&mut BufReader::new(line), &mut buffer).await?;
            if verdict.is_none() {
                // One that refuses at once has said so, whether or not it read the question before it was done.
                written?;
            }
            Ok::<_, io::Error>(verdict)
        };
        let limit = self.patience.saturating_mul(2).saturating_add(MORE);
        let verdict = match tokio::time::timeout(limit, asked).await {
            Ok(Ok(Some(verdict))) => Ok(verdict),
            Ok(Ok(None)) => Err("it ended; restart the node".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("it does not answer; restart the node".to_owned()),
        };
        match verdict {
            Ok(Verdict::Failed { message }) => Err(NodeError::host("asking the host's TPM")(message)),
            Ok(verdict) => Ok(verdict),
            Err(why) => Err(NodeError::host(doing)(why)),
        }
    }

    /// Has somebody look at the TPM when it did not serve.
    fn noted<T>(&self, result: Result<T, NodeError>) -> Result<T, NodeError> {
        if matches!(result, Err(NodeError::Host { .. })) {
            self.failed.notify_one();
        }
        result
    }
}

fn too_many() -> NodeError {
    NodeError::Busy {
        what: "questions that wait for the TPM",
        limit: QUESTIONS_MAX,
    }
}

fn unexpected(verdict: Verdict) -> NodeError {
    match verdict {
        Verdict::Rejected { name, message } => NodeError::Rejected { name, message },
        _ => NodeError::host("asking the notary")("it answered another question"),
    }
}

//! Bundles are measured before they may run: when they are deployed, and after a start of the node at the first call.
//!
//! Both wait for the TPM, and neither holds anything meanwhile that others need: the TPM may stall, and all that is measured goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use referee_attest::from_hex;
use referee_audit::{Event, Kind, Value};
use referee_capabilities::NONCE_BYTES;
use tokio::sync::Mutex as AsyncMutex;

use crate::deployment::Deployment;
use crate::error::{NodeError, OrHost};
use crate::node::{Node, begin_to_renew};
use crate::notary::Notary;
use crate::nursery::{Assessment, Order};
use crate::report;

/// How often the TPM is looked at.
const LOOK_EACH: Duration = Duration::from_secs(5);
/// How often at most, when it does not serve.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The measuring of one deployment's bundle: by one call at a time, and who waited for one that failed fails with it.
#[derive(Debug, Default)]
pub(crate) struct Measuring(AsyncMutex<Option<(Instant, Arc<str>)>>);

impl Node {
    /// Comes back when a deployment's worker may be made.
    ///
    /// # Errors
    /// [`NodeError`] when its bundle is not measured; it must then not run.
    pub(crate) async fn may_run(&self, deployment: &Deployment) -> Result<(), NodeError> {
        let Some(notary) = self.notary() else {
            return Ok(());
        };
        if deployment.present().is_some() {
            return Ok(());
        }
        let came = Instant::now();
        let mut failed = deployment.measuring.0.lock().await;
        if let Some((at, why)) = &*failed
            && *at > came
        {
            return Err(NodeError::host("having the bundle measured")(why.to_string()));
        }
        let order = self.order(deployment)?;
        let assessment = deployment.assessment();
        let measured = self
            .measure(notary, order, &deployment.deployed.bundle, assessment)
            .await;
        *failed = match &measured {
            Err(error @ NodeError::Host { .. }) => Some((Instant::now(), error.with_causes().into())),
            _ => None,
        };
        measured
    }

    /// Has a bundle measured that is to be deployed, if this node has a TPM.
    ///
    /// # Errors
    /// As [`Notary::measure`].
    pub(crate) async fn measure_new(
        &self,
        order: Order,
        bundle: &str,
        assessment: &Assessment,
    ) -> Result<(), NodeError> {
        match self.notary() {
            Some(notary) => self.measure(notary, order, bundle, assessment).await,
            None => Ok(()),
        }
    }

    /// Evidence of this node for a verifier with this nonce, in hexadecimal digits. How far the audit log is, stands in it, and so much of it is on the
    /// disk.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when the nonce is none, or the node has no TPM; those of [`Notary::evidence`].
    pub(crate) async fn evidence(&self, nonce: &str) -> Result<Vec<u8>, NodeError> {
        let rejected = |name: &str, message: &str| NodeError::Rejected {
            name: name.to_owned(),
            message: message.to_owned(),
        };
        let notary = self
            .notary()
            .ok_or_else(|| rejected("no-tpm", "this node has no TPM: its configuration has no [tpm]"))?;
        let nonce = nonce
            .bytes()
            .all(|digit| digit.is_ascii_hexdigit())
            .then(|| from_hex(nonce))
            .flatten()
            .filter(|bytes| NONCE_BYTES.contains(&bytes.len()) && bytes.len() * 2 == nonce.len())
            .ok_or_else(|| {
                rejected(
                    "nonce-length",
                    "a nonce has 16 to 64 bytes, in hexadecimal digits",
                )
            })?;
        let audit = self.audit().clone();
        let head = tokio::task::spawn_blocking(move || {
            // What is said to be there must not be lost with this host's memory.
            let head = audit.head();
            audit.sync().map(|()| head)
        })
        .await
        .or_host("flushing the audit log")?
        .or_host("flushing the audit log")?;
        notary
            .evidence(nonce, (head.records, head.hash.to_string()))
            .await
    }

    /// Looks at the TPM now and then, and when it did not serve, for as long as the service lives.
    pub(crate) async fn watch_tpm(&self) {
        let Some(notary) = self.notary() else {
            return;
        };
        loop {
            // Whoever asked in vain has waited already.
            let _ = tokio::time::timeout(LOOK_EACH, notary.failed()).await;
            let trouble = notary.look().await.err().map(|error| error.with_causes());
            match (&trouble, self.watch().tpm()) {
                (Some(trouble), None) => report::problem(&format!("nothing new is measured: {trouble}")),
                (None, Some(_)) => report::notice("the TPM serves again"),
                (None, None) | (Some(_), Some(_)) => {}
            }
            self.watch().set_tpm(trouble);
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    async fn measure(
        &self,
        notary: &Notary,
        order: Order,
        bundle: &str,
        assessment: &Assessment,
    ) -> Result<(), NodeError> {
        let file = self.store().bundle(bundle)?;
        let Some(first) = notary.measure(order, file).await? else {
            return Ok(());
        };
        let muscle = format!("{} {}", assessment.name, assessment.version);
        let detail = [("bundle", Value::Text(bundle)), ("first", Value::Flag(first))];
        self.audit()
            .for_cell("", &muscle)
            .record(&Event::of_cell(Kind::Measure, &detail))
            .or_host("recording a measurement")?;
        // Those of an earlier epoch by the same key are below their floor now: their workers end, and no other is made.
        for other in self.deployments() {
            let theirs = other.assessment();
            if theirs.name == assessment.name
                && theirs.key_id == assessment.key_id
                && theirs.security_epoch < assessment.security_epoch
            {
                begin_to_renew(other);
            }
        }
        Ok(())
    }
}

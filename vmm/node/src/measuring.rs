//! Bundles are measured before they may run: when they are deployed, and after a start of the node at the first call.
//!
//! Both wait for the TPM, and neither holds anything meanwhile that others need: the TPM may stall, and all that is measured goes on.

use std::sync::Arc;
use std::time::Instant;

use referee_audit::{Event, Kind, Value};
use tokio::sync::Mutex as AsyncMutex;

use crate::deployment::Deployment;
use crate::error::{NodeError, OrHost};
use crate::node::{Node, begin_to_renew};
use crate::notary::Notary;
use crate::nursery::{Assessment, Order};

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
        let measured = self.measure(notary, order, &deployment.deployed.bundle, assessment).await;
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

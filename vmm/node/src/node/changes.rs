//! What changes a node: bundles that come, deployments that are made, paused and removed, authority that is read again.
//!
//! Each change is recorded before it is made, and on the disk before it is answered. One at a time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use referee_audit::Value;
use referee_bundle::Digest;
use referee_policy::{Loans, Standings};

use super::{Node, Principal, begin_to_renew, blocking, now, order, reserved};
use crate::api::Deploy;
use crate::deployment::Deployment;
use crate::error::NodeError;
use crate::lend::Change;
use crate::memory::Demand;
use crate::nursery::Order;
use crate::pipeline::Pipeline;
use crate::report;
use crate::settings::{Settings, is_name};
use crate::store::Deployed;
use crate::turns::Place;

/// Bundles that may have been sent and belong to no deployment; one more, and the oldest is forgotten.
const LOOSE_BUNDLES_MAX: usize = 64;

/// Something that may be deployed.
struct Ready {
    /// What has the name now.
    old: Option<Arc<Deployment>>,
    order: Order,
    deployed: Deployed,
    /// What a real-time deployment was promised.
    place: Option<Place>,
    demand: u64,
    /// Whether grants become whole again.
    resets: bool,
}

impl Node {
    /// Keeps a bundle that somebody sent under this digest.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when it is another's; [`NodeError::Host`].
    pub(crate) async fn take_bundle(&self, digest: String, bytes: Vec<u8>) -> Result<(), NodeError> {
        let found = Digest::of(&bytes).to_string();
        if found != digest {
            return Err(NodeError::Rejected {
                name: "digest-mismatch".into(),
                message: format!("the bytes have SHA-256 {found} and were sent as {digest}"),
            });
        }
        let mut loose = self.0.changes.lock().await;
        // Also one that is in use: what uses it may be gone before this is deployed.
        let is_new = !loose.contains(&digest);
        let oldest = (is_new && loose.len() >= LOOSE_BUNDLES_MAX)
            .then(|| loose.pop_front())
            .flatten()
            .filter(|oldest| !self.0.uses.is_used(oldest));
        let node = self.clone();
        let kept = digest.clone();
        blocking(move || {
            if let Some(oldest) = oldest {
                node.store().forget_bundle(&oldest)?;
            }
            node.store().keep_bundle(&kept, &bytes)
        })
        .await?;
        if is_new {
            loose.push_back(digest);
        }
        Ok(())
    }

    /// Deploys a bundle that was sent, under a name that may be taken: calls that are under way end in the old one's cells, and what is
    /// paused stays paused.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when anything says no.
    pub(crate) async fn deploy(
        &self,
        by: &Principal,
        name: &str,
        wanted: Deploy,
    ) -> Result<Arc<Deployment>, NodeError> {
        let Deploy {
            bundle,
            settings,
            reset_grants,
        } = wanted;
        if !is_name(name) {
            return Err(NodeError::Rejected {
                name: "name-invalid".into(),
                message: "a deployment's name has 1 to 64 of a-z 0-9 . _ - and begins with a letter or digit"
                    .into(),
            });
        }
        settings.check()?;
        let digest = Digest::from_hex(&bundle).ok_or_else(|| NodeError::Rejected {
            name: "digest-invalid".into(),
            message: "a bundle is named by 64 hexadecimal digits, its SHA-256".into(),
        })?;
        let wanted = (name, digest, settings, reset_grants);
        if self.notary().is_some() {
            // Measured when all else would let it be, and with nothing held: the TPM may stall.
            let changes = self.0.changes.lock().await;
            let Ready { order, deployed, .. } = self.ready_to_deploy(by, &wanted).await?;
            drop(changes);
            let measured = self.measure_new(order, &deployed.bundle, &deployed.assessment);
            if let Err(error) = measured.await {
                self.manage(by, "refuse", name, &deployed.bundle)?;
                return Err(error);
            }
        }
        let mut loose = self.0.changes.lock().await;
        let Ready {
            old,
            deployed,
            place,
            demand,
            resets,
            ..
        } = self.ready_to_deploy(by, &wanted).await?;
        let bundle = deployed.bundle.clone();
        let publisher = deployed.assessment.publisher.clone();
        // Recorded first: a deployment that nobody recorded must not be.
        self.record_deploy(by, name, &deployed)?;
        if resets {
            self.manage(by, "reset-grants", name, &bundle)?;
        }
        // Whoever delegated meant what was deployed, at either end.
        let change = self.without(name);
        self.record_change(by, &change)?;
        self.keep(name, &deployed, &change).await?;
        self.put_in_force(change).await;
        self.0.memory.promise(name, &publisher, demand);
        loose.retain(|digest| *digest != bundle);
        let mut deployment = Deployment::new(
            name.to_owned(),
            deployed,
            self.0.uses.begin(&bundle),
            place,
            self.0.config.cells.log_bytes,
        );
        if let Some(old) = &old {
            deployment.mailbox = Arc::clone(&old.mailbox);
        }
        let deployment = Arc::new(deployment);
        self.exchange(name, Some(Arc::clone(&deployment)));
        drop(loose);
        if let Some(old) = old {
            drop(old.give_place_back());
            self.retire(old);
        }
        Ok(deployment)
    }

    /// Whether something could be deployed as things stand now, and with what; it is not measured here.
    ///
    /// # Errors
    /// [`NodeError`] when anything says no, which is recorded.
    async fn ready_to_deploy(
        &self,
        by: &Principal,
        (name, digest, settings, reset_grants): &(&str, Digest, Settings, bool),
    ) -> Result<Ready, NodeError> {
        let bundle = digest.to_string();
        let old = self.deployment(name).ok();
        // Whoever took something from a grant meant the name and its slot, not this bundle.
        let inherited = old.as_ref().map(|old| old.standings()).unwrap_or_default();
        let resets = *reset_grants && !inherited.is_empty();
        let standings = match resets {
            true => Standings::default(),
            false => inherited,
        };
        let order = order(settings, *digest, (standings.clone(), Loans::default()));
        let limit = self.0.config.cells.deployments;
        if old.is_none() && self.deployments().len() >= limit {
            return Err(NodeError::Busy {
                what: "deployments",
                limit,
            });
        }
        let file = self.0.store.bundle(&bundle)?;
        let assessment = match self.0.nursery.assess(order.clone(), file).await {
            Ok(assessment) => assessment,
            Err(error) => {
                self.manage(by, "refuse", name, &bundle)?;
                return Err(error);
            }
        };
        let refused = self
            .refuse_circle(name, &assessment.channels)
            .and_then(|()| self.refuse_rings(name, settings, &assessment));
        let refused = match refused {
            Ok(()) => self.refuse_snapshot(settings, &bundle).await,
            refused => refused,
        };
        if let Err(error) = refused {
            self.manage(by, "refuse", name, &bundle)?;
            return Err(error);
        }
        let deployed = Deployed {
            bundle: bundle.clone(),
            settings: settings.clone(),
            assessment,
            generation: old.as_ref().map_or(1, |old| old.deployed.generation + 1),
            deployed_at: now(),
            // Whoever paused it meant the name, not this bundle.
            paused: old.as_ref().is_some_and(|old| old.paused.load(Ordering::Acquire)),
            standings,
        };
        // Beside the old one's, which it keeps until the new one is there: a refusal must not take from what runs.
        let place = match reserved(&self.0.turns, &deployed) {
            Ok(place) => place,
            Err(error) => {
                self.manage(by, "refuse", name, &bundle)?;
                return Err(error);
            }
        };
        let demand = Demand::of(&deployed.settings, &deployed.assessment, self.0.slot_count).most();
        let publisher = deployed.assessment.publisher.clone();
        if let Err(error) = self.0.memory.may_promise(name, &publisher, demand) {
            self.manage(by, "refuse", name, &bundle)?;
            return Err(error);
        }
        Ok(Ready {
            old,
            order,
            deployed,
            place,
            demand,
            resets,
        })
    }

    /// Removes a deployment; calls that are under way end in peace.
    ///
    /// # Errors
    /// [`NodeError::NoDeployment`], [`NodeError::Host`].
    pub(crate) async fn remove(&self, by: &Principal, name: &str) -> Result<(), NodeError> {
        let changes = self.0.changes.lock().await;
        let old = self.deployment(name)?;
        self.manage(by, "remove", name, &old.deployed.bundle)?;
        let change = self.without(name);
        self.record_change(by, &change)?;
        let (node, forgotten, rows) = (self.clone(), name.to_owned(), change.rows());
        blocking(move || node.store().forget(&forgotten, &rows)).await?;
        self.put_in_force(change).await;
        self.exchange(name, None);
        self.0.memory.forget(name);
        drop(changes);
        let lost = old.mailbox.close();
        if lost > 0 {
            report::problem(&format!(
                "{lost} messages waited for {name}, which was removed, and are lost"
            ));
        }
        drop(old.give_place_back());
        self.retire(old);
        Ok(())
    }

    /// Defines a pipeline, or removes it.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when a step is not there; [`NodeError::NoPipeline`], [`NodeError::Host`].
    pub(crate) async fn define(
        &self,
        by: &Principal,
        name: &str,
        pipeline: Option<Pipeline>,
    ) -> Result<(), NodeError> {
        let _changes = self.0.changes.lock().await;
        let op = match &pipeline {
            Some(pipeline) => {
                self.0.pipelines.check(self, name, pipeline)?;
                "define-pipeline"
            }
            None => {
                self.0.pipelines.named(name)?;
                "remove-pipeline"
            }
        };
        self.record(op, &[("by", Value::Text(&by.0)), ("pipeline", Value::Text(name))])?;
        let (node, kept, wanted) = (self.clone(), name.to_owned(), pipeline.clone());
        blocking(move || node.store().keep_pipeline(&kept, wanted.as_ref())).await?;
        self.0.pipelines.put(name, pipeline);
        Ok(())
    }

    /// Stops taking calls of a deployment, or takes them again. Survives the service.
    ///
    /// # Errors
    /// [`NodeError::NoDeployment`], [`NodeError::Host`].
    pub(crate) async fn pause(&self, by: &Principal, name: &str, paused: bool) -> Result<(), NodeError> {
        let _changes = self.0.changes.lock().await;
        let deployment = self.deployment(name)?;
        let op = if paused { "pause" } else { "resume" };
        self.manage(by, op, name, &deployment.deployed.bundle)?;
        let deployed = Deployed {
            paused,
            ..deployment.as_it_is()
        };
        self.keep(name, &deployed, &Change::none()).await?;
        deployment.paused.store(paused, Ordering::Release);
        self.0.resumed.notify_waiters();
        Ok(())
    }

    /// Ends a deployment's worker and with it every call that is under way.
    ///
    /// # Errors
    /// [`NodeError::NoDeployment`], [`NodeError::Host`].
    pub(crate) async fn kill(&self, by: &Principal, name: &str) -> Result<(), NodeError> {
        let deployment = self.deployment(name)?;
        self.manage(by, "kill", name, &deployment.deployed.bundle)?;
        deployment.dismiss().await;
        Ok(())
    }

    /// Reads trust store, policies and certificates again. Workers are made anew under them, each when its calls are done.
    ///
    /// # Errors
    /// [`NodeError::Rejected`]; then what was read before stays in force.
    pub(crate) async fn reload(&self, by: &Principal) -> Result<(), NodeError> {
        let _changes = self.0.changes.lock().await;
        self.manage(by, "reload", "", "")?;
        let policies = self.0.gate.read_again()?;
        let certificates = self.0.tls.as_ref().map(|tls| tls.read_again()).transpose()?;
        self.0.nursery.reload().await?;
        self.0.gate.put_in_force(policies);
        if let (Some(tls), Some(certificates)) = (&self.0.tls, certificates) {
            tls.put_in_force(certificates);
        }
        self.0.reloads.send_replace(());
        let ended = self.end_what_is_not_granted(by).await;
        for deployment in self.deployments() {
            begin_to_renew(deployment);
        }
        ended
    }

    pub(super) fn manage(&self, by: &Principal, op: &str, name: &str, bundle: &str) -> Result<(), NodeError> {
        let detail = [
            ("by", Value::Text(&by.0)),
            ("deployment", Value::Text(name)),
            ("bundle", Value::Text(bundle)),
        ];
        self.record(op, &detail)
    }

    fn record_deploy(&self, by: &Principal, name: &str, deployed: &Deployed) -> Result<(), NodeError> {
        let mut detail = vec![
            ("by", Value::Text(&by.0)),
            ("deployment", Value::Text(name)),
            ("bundle", Value::Text(&deployed.bundle)),
        ];
        let snapshot = deployed.settings.snapshot.as_deref();
        detail.extend(snapshot.map(|id| ("snapshot", Value::Text(id))));
        self.record("deploy", &detail)
    }

    pub(crate) async fn keep(
        &self,
        name: &str,
        deployed: &Deployed,
        change: &Change,
    ) -> Result<(), NodeError> {
        let (node, name, deployed) = (self.clone(), name.to_owned(), deployed.clone());
        let rows = change.rows();
        blocking(move || node.store().keep(&name, &deployed, &rows)).await
    }

    /// Dismisses an old deployment's worker once its calls are done.
    fn retire(&self, old: Arc<Deployment>) {
        let mut retired = self.0.retired.lock().unwrap_or_else(PoisonError::into_inner);
        retired.retain(|one| one.strong_count() > 0);
        retired.push(Arc::downgrade(&old));
        drop(retired);
        old.retire();
        begin_to_renew(old);
    }

    fn exchange(&self, name: &str, with: Option<Arc<Deployment>>) {
        let mut deployments = self.0.deployments.write().unwrap_or_else(PoisonError::into_inner);
        match with {
            Some(deployment) => deployments.insert(name.to_owned(), deployment),
            None => deployments.remove(name),
        };
        drop(deployments);
        self.0.resumed.notify_waiters();
    }
}

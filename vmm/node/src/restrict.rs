//! Grants of a deployment, taken back or made smaller while its cells run.
//!
//! ```text
//!   refused if wider ─► recorded ─► on the disk ─► for workers to come ─► in force in the worker that is there, or it is ended ─► answered
//! ```
//! In one with what others have of it by delegation ([`crate::lend`]), which are behind it on that way and before the answer.
//!
//! No worker is made meanwhile, so that there is none that has heard of it neither at its birth nor since.

use std::sync::Arc;

use referee_audit::Value;
use referee_policy::{NotNarrower, Power, Standings};

use crate::crew::Worker;
use crate::deployment::Deployment;
use crate::error::NodeError;
use crate::line::Restriction;
use crate::node::{Node, Principal};
use crate::store::Deployed;

impl Node {
    /// Takes a grant back from all cells of a deployment, or makes it smaller. Survives the service, and a new bundle under the name.
    ///
    /// # Errors
    /// [`NodeError::NoDeployment`], [`NodeError::NoSlot`]; [`NodeError::Rejected`] when it would be wider; [`NodeError::Host`].
    pub(crate) async fn restrict(
        &self,
        by: &Principal,
        name: &str,
        restriction: Restriction,
    ) -> Result<Arc<Deployment>, NodeError> {
        let changes = self.no_changes().await;
        let deployment = self.deployment(name)?;
        let standings = restriction.applied(&deployment)?;
        let to = restriction.narrowing.as_ref().map(ToString::to_string);
        let detail = [
            ("by", Value::Text(&by.0)),
            ("deployment", Value::Text(name)),
            ("bundle", Value::Text(&deployment.deployed.bundle)),
            ("slot", Value::Text(&restriction.slot)),
            ("to", Value::Text(to.as_deref().unwrap_or_default())),
        ];
        match to {
            None => self.record("revoke", detail.get(..4).unwrap_or(&detail))?,
            Some(_) => self.record("narrow", &detail)?,
        }
        // Whoever has something of it from this slot has as much less.
        let change = self.after_standings(name, &standings);
        self.record_change(by, &change)?;
        let held = deployment.hold_worker().await;
        let deployed = Deployed {
            standings: standings.clone(),
            ..deployment.as_it_is()
        };
        self.keep(name, &deployed, &change).await?;
        deployment.set_standings(standings);
        if let Some(worker) = held.worker() {
            put_in_force(self, &deployment, worker, &restriction).await;
        }
        drop(held);
        self.put_in_force(change).await;
        for old in self.retired(name) {
            self.restrict_retired(&old, &restriction).await;
        }
        drop(changes);
        Ok(deployment)
    }

    /// Calls may be under way in cells of what had the name before; whoever takes a grant back means those too.
    async fn restrict_retired(&self, old: &Deployment, restriction: &Restriction) {
        let Ok(standings) = restriction.applied(old) else {
            let has_slot = old.granted(&restriction.slot).is_some();
            // What cannot be made as small as is wanted there is ended.
            if has_slot && restriction.narrowing.is_some() && old.left(&restriction.slot).is_some() {
                old.dismiss().await;
            }
            return;
        };
        let held = old.hold_worker().await;
        old.set_standings(standings);
        if let Some(worker) = held.worker() {
            put_in_force(self, old, worker, restriction).await;
        }
    }
}

/// Has a worker lack it. Memory cannot be taken from a cell that runs: a worker with a ring is ended.
async fn put_in_force(node: &Node, deployment: &Deployment, worker: &Worker, restriction: &Restriction) {
    match deployment.granted(&restriction.slot) {
        Some(Power::Ring { .. }) if restriction.narrowing.is_none() => worker.end().await,
        _ => worker.restrict(node.next_number(), restriction).await,
    }
}

impl Restriction {
    /// How the deployment's grants stand after it.
    fn applied(&self, deployment: &Deployment) -> Result<Standings, NodeError> {
        let granted = &deployment.assessment().granted;
        let Some((_, power)) = granted.iter().find(|(slot, _)| *slot == self.slot) else {
            let error = NotNarrower::NoSuchSlot {
                slot: self.slot.escape_default().take(64).collect(),
                slots: granted.iter().map(|(slot, _)| slot.clone()).collect(),
            };
            return Err(NodeError::NoSlot(error.to_string()));
        };
        let mut standings = deployment.standings();
        let Some(narrowing) = &self.narrowing else {
            standings.revoke(&self.slot);
            return Ok(standings);
        };
        let left = standings.left_of(&self.slot, power).ok_or(NotNarrower::Revoked {
            slot: self.slot.clone(),
        });
        left.and_then(|left| narrowing.of(&self.slot, &left))
            .map_err(|error| NodeError::Rejected {
                name: error.name().to_owned(),
                message: error.to_string(),
            })?;
        standings.narrow(&self.slot, narrowing);
        Ok(standings)
    }
}

impl Deployment {
    /// What policy gave to a slot.
    pub(crate) fn granted(&self, slot: &str) -> Option<&Power> {
        let granted = &self.assessment().granted;
        granted
            .iter()
            .find(|(one, _)| one == slot)
            .map(|(_, power)| power)
    }

    /// What is left of it.
    pub(crate) fn left(&self, slot: &str) -> Option<Power> {
        self.standings().left_of(slot, self.granted(slot)?)
    }
}

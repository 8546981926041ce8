//! Delegations of a node: made and taken back by muscles, ended by whatever ends one of their ends.
//!
//! ```text
//!   worker ─ Delegates ─► granted to its worker? ─► may be? ─► recorded ─► on the disk ─┬─► for workers to come ─► in force in the worker that is there ─┬─► answered
//!                         else it is ended          else refused                       └─► the same for whoever has something from it ─────────────────┘
//! ```
//! What a grant loses goes the same way ([`crate::restrict`]): everything below it has lost it when the command is answered. One change at a time.

use std::sync::Arc;

use futures_util::future::join_all;
use muscle_abi::capability::SLOT_NAME_MAX;
use muscle_abi::capability::delegate::CALL_MAX;
use referee_audit::Value;
use referee_policy::{Loan, NotNarrower, Power, Standings};

use crate::channel::{Answered, Delegating, Role, Why};
use crate::crew::Worker;
use crate::delegation::{Delegation, Delegations, End, Seen};
use crate::deployment::Deployment;
use crate::error::NodeError;
use crate::node::{Node, Principal};
use crate::nursery::Given;
use crate::report;

/// Delegations as they are to be, and which of those that are are not among them.
#[derive(Debug)]
pub(crate) struct Change {
    all: Delegations,
    ended: Vec<(End, Delegation)>,
    begun: Option<(End, Delegation)>,
}

/// How often a call has delegated or taken back.
#[derive(Debug, Default)]
pub(crate) struct Delegated(u32);

impl Delegated {
    /// Holds a delegation against what the nursery granted to the worker, which did the same before it sent it.
    ///
    /// # Errors
    /// What the worker did.
    pub(crate) fn check(&mut self, given: &Given, asked: &Delegating) -> Result<(), &'static str> {
        self.0 = self.0.saturating_add(1);
        let channel = given.channels.iter().find(|grant| grant.slot == asked.by);
        if channel.is_none_or(|grant| matches!(grant.role, Role::Receive { .. })) {
            return Err("delegated over a channel that it was not granted");
        }
        if self.0 > CALL_MAX {
            return Err("delegated more often than a call may");
        }
        let is_name = |name: &str| name.len() <= SLOT_NAME_MAX;
        if !is_name(&asked.slot) || !is_name(&asked.to) {
            return Err("delegated with the name of no slot");
        }
        let Some(narrowing) = &asked.narrowing else {
            return Ok(());
        };
        let Some(seen) = given.slot(&asked.slot).filter(may_lend) else {
            return Err("delegated what it was not granted");
        };
        match narrowing.of(&asked.slot, &seen.power) {
            Ok(_) | Err(NotNarrower::Nothing { .. }) => Ok(()),
            Err(_) => Err("delegated more than it was granted"),
        }
    }
}

fn may_lend(seen: &Seen) -> bool {
    seen.power.may_be_delegated() && seen.waits.as_ref().is_none_or(|waits| waits.onward)
}

impl Node {
    /// Delegates a grant of the deployment that has this worker, or takes it back. Once begun it goes on to its end, whatever becomes of the call.
    pub(crate) async fn delegate(&self, name: &str, worker: &Arc<Worker>, asked: Delegating) -> Answered {
        let (node, name, worker) = (self.clone(), name.to_owned(), Arc::clone(worker));
        let done = tokio::spawn(async move { node.carry_delegation(&name, &worker, asked).await }).await;
        match done {
            Ok(Ok(())) => Answered::Done,
            Ok(Err(why)) => Answered::Refused(why),
            Err(_) => Answered::Refused(Why::HostFailed),
        }
    }

    async fn carry_delegation(&self, name: &str, worker: &Arc<Worker>, asked: Delegating) -> Result<(), Why> {
        let changes = self.no_changes().await;
        if self.is_draining() {
            return Err(Why::Draining);
        }
        // Another may have the name by now, with other grants.
        let deployment = self.deployment(name).map_err(|_| Why::GivenUp)?;
        let is_its_own = deployment
            .present()
            .is_some_and(|present| Arc::ptr_eq(&present, worker));
        if !is_its_own {
            return Err(Why::GivenUp);
        }
        let from = End::new(name, &asked.slot);
        let channel = worker
            .given()
            .channels
            .iter()
            .find(|grant| grant.slot == asked.by);
        let channel = channel
            .map(|grant| grant.channel.clone())
            .ok_or(Why::NotGranted)?;
        if deployment.is_revoked(&asked.by) {
            return Err(Why::NotGranted);
        }
        let mut all = self.delegations();
        let change = match asked.narrowing {
            None => {
                let mut ended = all.take_back(&from, &channel, &asked.to);
                if ended.is_empty() {
                    return Err(Why::NothingLent);
                }
                ended.extend(all.end_what_does_not_hold(&|end| self.seen(end)));
                Change {
                    all,
                    ended,
                    begun: None,
                }
            }
            Some(narrowing) => {
                // What it was given when it was made may lead elsewhere than what was decided when it was deployed.
                if worker.given().slot(&asked.slot) != given(&deployment, &asked.slot) {
                    return Err(Why::NothingToLend);
                }
                let to = End::new(&self.only_receiver(&channel)?, &asked.to);
                let delegation = Delegation {
                    from,
                    by: asked.by,
                    channel,
                    narrowing,
                };
                if !all.delegate(&to, delegation.clone(), &|end| self.seen(end))? {
                    return Ok(());
                }
                // What is lent may be less than before.
                let ended = all.end_what_does_not_hold(&|end| self.seen(end));
                Change {
                    all,
                    ended,
                    begun: Some((to, delegation)),
                }
            }
        };
        let by = Principal(format!("muscle:{name}"));
        let done = async {
            self.record_change(&by, &change)?;
            self.keep_change(&change).await
        };
        if let Err(error) = done.await {
            report::problem(&error.with_causes());
            return Err(Why::HostFailed);
        }
        self.put_in_force(change).await;
        drop(changes);
        Ok(())
    }

    /// The one deployment that receives on a channel.
    fn only_receiver(&self, channel: &str) -> Result<String, Why> {
        let mut found = Vec::new();
        self.each_deployment(|deployment| {
            let mut grants = deployment.assessment().channels.iter();
            if grants.any(|grant| grant.takes(channel).is_some() && !deployment.is_revoked(&grant.slot)) {
                found.push(deployment.name.clone());
            }
        });
        match (found.pop(), found.pop()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(Why::Nobody),
            (Some(_), Some(_)) => Err(Why::Several),
        }
    }

    /// A slot as it stands.
    pub(crate) fn seen(&self, end: &End) -> Option<Seen> {
        self.deployment(&end.deployment).ok()?.seen(&end.slot)
    }

    /// What would be of delegations if a deployment's grants stood so.
    pub(crate) fn after_standings(&self, name: &str, standings: &Standings) -> Change {
        let mut all = self.delegations();
        let ended = all.end_what_does_not_hold(&|end| match end.deployment == name {
            true => self.deployment(name).ok()?.seen_with(&end.slot, standings),
            false => self.seen(end),
        });
        Change {
            all,
            ended,
            begun: None,
        }
    }

    /// What would be of delegations without those from and to a deployment.
    pub(crate) fn without(&self, name: &str) -> Change {
        let mut all = self.delegations();
        let mut ended = all.forget(name);
        ended.extend(all.end_what_does_not_hold(&|end| self.seen(end)));
        Change {
            all,
            ended,
            begun: None,
        }
    }

    /// Records who delegated what to whom, and what ended; before anything else is done.
    ///
    /// # Errors
    /// [`NodeError::Host`]; then nothing may be done.
    pub(crate) fn record_change(&self, by: &Principal, change: &Change) -> Result<(), NodeError> {
        for (to, delegation) in &change.ended {
            self.record_delegation(by, "undelegate", to, delegation)?;
        }
        match &change.begun {
            Some((to, delegation)) => self.record_delegation(by, "delegate", to, delegation),
            None => Ok(()),
        }
    }

    fn record_delegation(
        &self,
        by: &Principal,
        op: &str,
        to: &End,
        delegation: &Delegation,
    ) -> Result<(), NodeError> {
        let narrowed = delegation.narrowing.to_string();
        let detail = [
            ("by", Value::Text(&by.0)),
            ("deployment", Value::Text(&delegation.from.deployment)),
            ("slot", Value::Text(&delegation.from.slot)),
            ("to_deployment", Value::Text(&to.deployment)),
            ("to_slot", Value::Text(&to.slot)),
            ("channel", Value::Text(&delegation.channel)),
            // A muscle chose it.
            ("narrowed", Value::Guest(narrowed.as_bytes())),
        ];
        self.record(op, &detail)
    }

    async fn keep_change(&self, change: &Change) -> Result<(), NodeError> {
        let (node, rows) = (self.clone(), change.rows());
        tokio::task::spawn_blocking(move || node.store().keep_delegations(&rows))
            .await
            .map_err(NodeError::host("waiting for a thread"))?
    }

    /// Has every slot have what it has by a change that is on the disk: in workers to come, and in those that are there before this comes back.
    pub(crate) async fn put_in_force(&self, change: Change) {
        let Change { all, ended, .. } = change;
        let ends: Vec<End> = all
            .iter()
            .map(|(end, _)| end)
            .chain(ended.iter().map(|(end, _)| end))
            .cloned()
            .collect();
        self.set_delegations(all.clone());
        let lends = ends.into_iter().filter_map(|end| {
            let deployment = self.deployment(&end.deployment).ok()?;
            let power = all.lent(&end, &|end| self.seen(end));
            (deployment.lent(&end.slot) != power).then_some((deployment, end.slot, power))
        });
        let lends = lends.map(|(deployment, slot, power)| async move {
            let number = self.next_number();
            deployment.lend(number, &slot, Loan { number, power }).await;
        });
        join_all(lends).await;
    }

    /// Ends delegations of those who are not granted what they were when it was deployed: authority was read again.
    pub(crate) async fn end_what_is_not_granted(&self, by: &Principal) -> Result<(), NodeError> {
        let mut names: Vec<String> = Vec::new();
        for (to, delegation) in self.delegations().iter() {
            names.extend([to.deployment.clone(), delegation.from.deployment.clone()]);
        }
        names.sort();
        names.dedup();
        for name in names {
            if self.is_granted_as_before(&name).await {
                continue;
            }
            let change = self.without(&name);
            self.record_change(by, &change)?;
            self.keep_change(&change).await?;
            self.put_in_force(change).await;
        }
        Ok(())
    }

    async fn is_granted_as_before(&self, name: &str) -> bool {
        let Ok(deployment) = self.deployment(name) else {
            return false;
        };
        let assessed = async {
            let bundle = self.store().bundle(&deployment.deployed.bundle)?;
            self.nursery().assess(self.order(&deployment)?, bundle).await
        };
        match assessed.await {
            Ok(now) => {
                let before = deployment.assessment();
                (&now.granted, &now.waits) == (&before.granted, &before.waits)
            }
            Err(error) => {
                report::problem(&format!("delegations of {name} end: {}", error.with_causes()));
                false
            }
        }
    }
}

impl Change {
    /// For what changes no delegation.
    pub(crate) fn none() -> Change {
        Change {
            all: Delegations::default(),
            ended: Vec::new(),
            begun: None,
        }
    }

    /// As it goes to the disk: what is there by it, and what not any more.
    pub(crate) fn rows(&self) -> Vec<(End, Option<Delegation>)> {
        let ended = self.ended.iter().map(|(end, _)| (end.clone(), None));
        let begun = self
            .begun
            .iter()
            .filter(|(end, _)| self.all.above(end).is_some())
            .map(|(end, delegation)| (end.clone(), Some(delegation.clone())));
        ended.chain(begun).collect()
    }
}

impl Deployment {
    /// A slot as it stands, whatever is lent.
    pub(crate) fn seen(&self, slot: &str) -> Option<Seen> {
        self.seen_with(slot, &self.standings())
    }

    fn seen_with(&self, slot: &str, standings: &Standings) -> Option<Seen> {
        let Seen { power, waits } = given(self, slot)?;
        let power = standings.left_of(slot, &power)?;
        Some(Seen { power, waits })
    }

    async fn lend(&self, number: u64, slot: &str, loan: Loan) {
        // None is being made meanwhile: it would not hear of it.
        let held = self.hold_worker().await;
        self.put_loan(slot, loan.clone());
        if let Some(worker) = held.worker() {
            worker.lend(number, slot, loan).await;
        }
    }

    /// What is lent to a slot.
    pub(crate) fn lent(&self, slot: &str) -> Option<Power> {
        self.loans().get(slot).and_then(|loan| loan.power.clone())
    }
}

fn given(deployment: &Deployment, slot: &str) -> Option<Seen> {
    Some(Seen {
        power: deployment.granted(slot)?.clone(),
        waits: deployment.assessment().waits.get(slot).cloned(),
    })
}

//! Cells that nobody calls make room: moved to the host's swap where it has some, else dropped, those first that nobody has called for longest.
//!
//! ```text
//!   each second     cells at rest for memory.idle_seconds           asleep, or dropped if each call has a cell as new anyway
//!   near the end    all cells at rest, longest idle worker first    asleep, or dropped
//!   no room left    the same, until there is; then whole workers on which nothing is under way
//! ```

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::crew::Worker;
use crate::deployment::{Deployment, add};
use crate::error::NodeError;
use crate::line::Rest;
use crate::memory::{Demand, HostMemory};
use crate::node::Node;
use crate::room::{Inside, Room};

/// How often it is looked.
const EACH: Duration = Duration::from_secs(1);

/// What becomes of a cell that rests, on this host.
pub(crate) fn rest(host: &HostMemory) -> Rest {
    match host.has_swap() {
        true => Rest::Asleep,
        false => Rest::Dropped,
    }
}

impl Node {
    /// Has cells rest for as long as the service lives.
    pub(crate) async fn let_cells_rest(&self) {
        let idle = Duration::from_secs(self.config().memory.idle_seconds);
        let mut ticks = tokio::time::interval(EACH);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let rest = rest(&HostMemory::look());
            for (deployment, worker) in self.longest_idle_first() {
                if self.memory().is_near_end() {
                    self.ask_to_rest(&deployment, &worker, Duration::ZERO, rest).await;
                    continue;
                }
                // What a cell kept from call to call is not given up only because time passed.
                let keeps = rest == Rest::Dropped && !deployment.deployed.settings.fresh;
                if !idle.is_zero() && !keeps && worker.is_quiet_for(idle) {
                    self.ask_to_rest(&deployment, &worker, idle, rest).await;
                }
            }
        }
    }

    /// Memory for a worker; cells that nobody calls make room for it.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub(crate) async fn room_for_worker(&self, deployment: &Deployment) -> Result<Room, NodeError> {
        let demand = self.demand(deployment);
        let publisher = &deployment.assessment().publisher;
        self.with_relief(publisher, || Room::open(self.memory(), publisher, demand))
            .await
    }

    /// Memory for one more cell of a worker's; cells that nobody calls make room for it.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub(crate) async fn room_for_call(
        &self,
        deployment: &Deployment,
        worker: &Worker,
    ) -> Result<Inside, NodeError> {
        let publisher = &deployment.assessment().publisher;
        self.with_relief(publisher, || worker.room().enter()).await
    }

    /// What a deployment can take on this host.
    pub(crate) fn demand(&self, deployment: &Deployment) -> Demand {
        Demand::of(
            &deployment.deployed.settings,
            deployment.assessment(),
            self.slot_count(),
        )
    }

    /// Tries until it has room or nobody can make any.
    async fn with_relief<T>(
        &self,
        publisher: &str,
        attempt: impl Fn() -> Result<T, NodeError>,
    ) -> Result<T, NodeError> {
        let refused = match attempt() {
            Err(refused @ NodeError::Memory { .. }) => refused,
            other => return other,
        };
        let rest = rest(&HostMemory::look());
        let mut candidates = self.longest_idle_first();
        // A publisher's own come first: it may be its own limit that is reached. Then those who lose nothing by it.
        candidates.sort_by_key(|(deployment, _)| {
            let own = deployment.assessment().publisher == publisher;
            (!own, !deployment.deployed.settings.fresh)
        });
        for (deployment, worker) in &candidates {
            if worker.room().has_cells_at_rest() {
                self.ask_to_rest(deployment, worker, Duration::ZERO, rest).await;
                if let Ok(found) = attempt() {
                    return Ok(found);
                }
            }
        }
        for (deployment, _) in &candidates {
            let all = u32::try_from(deployment.deployed.settings.cells).unwrap_or(u32::MAX);
            if let Ok(_all) = deployment.cells.try_acquire_many(all) {
                deployment.dismiss().await;
                if let Ok(found) = attempt() {
                    return Ok(found);
                }
            }
        }
        Err(refused)
    }

    async fn ask_to_rest(&self, deployment: &Deployment, worker: &Arc<Worker>, idle: Duration, rest: Rest) {
        if !worker.room().has_cells_at_rest() {
            return;
        }
        let before = worker.room().asleep();
        let Some(rested) = worker.let_rest(idle, rest).await else {
            return;
        };
        let counters = &deployment.counters;
        match rest {
            Rest::Asleep => add(
                &counters.cells_paged_out,
                worker.room().asleep().saturating_sub(before),
            ),
            Rest::Dropped => add(&counters.cells_dropped, rested),
        }
    }

    /// Deployments whose worker is there.
    fn longest_idle_first(&self) -> Vec<(Arc<Deployment>, Arc<Worker>)> {
        let staffed = self.deployments().into_iter().filter_map(|deployment| {
            let worker = deployment.present()?;
            Some((deployment, worker))
        });
        let mut staffed: Vec<_> = staffed.collect();
        staffed.sort_by_key(|(_, worker)| worker.last_used());
        staffed
    }
}

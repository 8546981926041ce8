//! Snapshots: made of a deployment's one cell between two calls, looked at, given up.
//!
//! ```text
//!   a cell's place, as a call has it ─► worker: Keep ─► pieces ─► file aside ─► flushed ─► recorded ─► renamed, row ─► answered
//! ```

use std::sync::Arc;
use std::time::Duration;

use referee::Snapshot;
use referee_audit::Value;
use tokio::sync::mpsc;

use super::{Node, Principal, blocking, now};
use crate::api::{Peer, SnapshotMade, SnapshotShown};
use crate::crew::no_cell;
use crate::deployment::Deployment;
use crate::error::{NodeError, OrHost};
use crate::settings::Settings;
use crate::store::{Aside, KeptSnapshot, no_snapshot};

/// Pieces that may wait to be written.
const PIECES_WAITING: usize = 4;
/// How long sending and writing a snapshot may take, beside what any call may.
const KEEP_WITHIN: Duration = Duration::from_secs(300);

impl Node {
    /// Keeps the muscle of a deployment as it stands between two calls. It waits for its cell as a call does.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] says what stands against it; [`NodeError::Busy`] when there is no room.
    pub(crate) async fn snapshot(&self, by: &Principal, name: &str) -> Result<SnapshotMade, NodeError> {
        let deployment = self.deployment(name)?;
        may_be_kept(&deployment)?;
        self.is_going_on()?;
        let queued = deployment.queue(self.config().cells.queue)?;
        let cell = deployment.cells.acquire().await.or_host("waiting for a cell")?;
        drop(queued);
        self.is_going_on()?;
        let worker = deployment.present().ok_or_else(no_cell)?;
        let keeping = self.0.keeping.lock().await;
        let room = self.room_for_snapshot().await?;
        let node = self.clone();
        let number = self.next_number();
        let aside = blocking(move || node.store().begin_snapshot(number)).await?;
        let (pieces, coming) = mpsc::channel(PIECES_WAITING);
        let writing = tokio::spawn(blocking(move || write(aside, coming, room)));
        let assessment = deployment.assessment();
        let most = Snapshot::most_bytes(assessment.memory_bytes);
        let within = KEEP_WITHIN
            + Duration::from_millis(assessment.deadline_ms)
            + Duration::from_secs(self.config().cells.stuck_seconds);
        let came = worker.keep(most, pieces, within).await;
        // Whatever came, it is written or gone before the next is made.
        let written = writing.await.or_host("writing a snapshot")?;
        drop(cell);
        came?;
        let (aside, id) = written?;
        let kept = KeptSnapshot {
            bundle: deployment.deployed.bundle.clone(),
            deployment: name.to_owned(),
            made_at: now(),
            bytes: aside.bytes(),
        };
        let _changes = self.0.changes.lock().await;
        // Recorded first: memory that nobody recorded must not lie about.
        self.record_snapshot("snapshot", by, &id, &kept)?;
        let made = SnapshotMade {
            snapshot: id.clone(),
            bytes: kept.bytes,
        };
        let node = self.clone();
        blocking(move || node.store().keep_snapshot(&aside, &id, &kept)).await?;
        drop(keeping);
        Ok(made)
    }

    /// Snapshots of deployments that this peer may see, the oldest first.
    ///
    /// # Errors
    /// [`NodeError::Host`].
    pub(crate) async fn snapshots(&self, peer: &Peer) -> Result<Vec<SnapshotShown>, NodeError> {
        let node = self.clone();
        let mut all = blocking(move || node.store().snapshots()).await?;
        all.sort_by_key(|(_, kept)| kept.made_at);
        let deployments = self.deployments();
        let shown = all
            .into_iter()
            .filter(|(_, kept)| self.shows(peer, &kept.deployment));
        let shown = shown.map(|(id, kept)| {
            let users = deployments
                .iter()
                .filter(|one| begins_at(one, &id) && self.shows(peer, &one.name));
            SnapshotShown {
                used_by: users.map(|one| one.name.clone()).collect(),
                snapshot: id,
                bundle: kept.bundle,
                deployment: kept.deployment,
                made_at: kept.made_at,
                bytes: kept.bytes,
            }
        });
        Ok(shown.collect())
    }

    /// What is known of a snapshot.
    ///
    /// # Errors
    /// [`NodeError::NoSnapshot`].
    pub(crate) async fn kept_snapshot(&self, id: &str) -> Result<KeptSnapshot, NodeError> {
        let (node, wanted) = (self.clone(), id.to_owned());
        let found = blocking(move || node.store().snapshot(&wanted)).await?;
        found.ok_or_else(|| NodeError::NoSnapshot(id.to_owned()))
    }

    /// Gives a snapshot up.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] while a deployment begins from it; [`NodeError::NoSnapshot`].
    pub(crate) async fn forget_snapshot(&self, by: &Principal, id: &str) -> Result<(), NodeError> {
        let _changes = self.0.changes.lock().await;
        let kept = self.kept_snapshot(id).await?;
        // Also one whose calls are not over: it may need another worker.
        if let Some(user) = self.with_retired().iter().find(|one| begins_at(one, id)) {
            return Err(NodeError::Rejected {
                name: "snapshot-in-use".into(),
                message: format!("the deployment `{}` begins from it", user.name),
            });
        }
        self.record_snapshot("remove-snapshot", by, id, &kept)?;
        let (node, forgotten) = (self.clone(), id.to_owned());
        blocking(move || node.store().forget_snapshot(&forgotten)).await
    }

    /// Refuses a deployment that is to begin from what it cannot begin from.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(super) async fn refuse_snapshot(&self, settings: &Settings, bundle: &str) -> Result<(), NodeError> {
        let Some(id) = &settings.snapshot else {
            return Ok(());
        };
        let kept = self.kept_snapshot(id).await.map_err(|error| match error {
            NodeError::NoSnapshot(id) => no_snapshot(&id),
            other => other,
        })?;
        if kept.bundle != bundle {
            return Err(NodeError::Rejected {
                name: "snapshot-of-another-bundle".into(),
                message: format!("the snapshot {id} is of the bundle {}", kept.bundle),
            });
        }
        Ok(())
    }

    fn is_going_on(&self) -> Result<(), NodeError> {
        match self.is_draining() {
            true => Err(NodeError::Draining),
            false => Ok(()),
        }
    }

    /// Bytes that one more may have.
    async fn room_for_snapshot(&self) -> Result<u64, NodeError> {
        let bounds = &self.config().snapshots;
        let node = self.clone();
        let all = blocking(move || node.store().snapshots()).await?;
        if all.len() >= bounds.max_count {
            return Err(NodeError::Busy {
                what: "snapshots (snapshots.max_count)",
                limit: bounds.max_count,
            });
        }
        let bytes = all.iter().map(|(_, kept)| kept.bytes);
        let taken = bytes.fold(0, u64::saturating_add);
        Ok(bounds.max_bytes.saturating_sub(taken))
    }

    fn record_snapshot(
        &self,
        op: &str,
        by: &Principal,
        id: &str,
        kept: &KeptSnapshot,
    ) -> Result<(), NodeError> {
        let detail = [
            ("by", Value::Text(&by.0)),
            ("deployment", Value::Text(&kept.deployment)),
            ("bundle", Value::Text(&kept.bundle)),
            ("snapshot", Value::Text(id)),
        ];
        self.record(op, &detail)
    }
}

/// Whether a deployment's cells begin at this snapshot.
fn begins_at(deployment: &Arc<Deployment>, id: &str) -> bool {
    deployment.deployed.settings.snapshot.as_deref() == Some(id)
}

fn may_be_kept(deployment: &Deployment) -> Result<(), NodeError> {
    let settings = &deployment.deployed.settings;
    let (name, message) = match () {
        () if settings.fresh => (
            "snapshot-needs-kept-memory",
            "each of its calls has a cell as it was just started, with no memory to keep: deploy it with `\"fresh\": false` (--keep-memory)",
        ),
        () if settings.cells != 1 => (
            "snapshot-needs-one-cell",
            "it has more cells than one, each with a memory of its own: deploy it with `\"cells\": 1`",
        ),
        () if !deployment.ring_grants().is_empty() => (
            "snapshot-with-rings",
            "it has an end of a ring, and what is in that is another muscle's, too",
        ),
        () => return Ok(()),
    };
    Err(NodeError::Rejected {
        name: name.into(),
        message: message.into(),
    })
}

/// Writes pieces as they come, until there are no more.
fn write(
    mut aside: Aside,
    mut coming: mpsc::Receiver<Vec<u8>>,
    room: u64,
) -> Result<(Aside, String), NodeError> {
    while let Some(piece) = coming.blocking_recv() {
        let length = u64::try_from(piece.len()).unwrap_or(u64::MAX);
        if aside.bytes().saturating_add(length) > room {
            return Err(NodeError::Busy {
                what: "bytes of snapshots left (snapshots.max_bytes)",
                limit: usize::try_from(room).unwrap_or(usize::MAX),
            });
        }
        aside.write(&piece)?;
    }
    let id = aside.finish()?.to_string();
    Ok((aside, id))
}

//! Rings between deployments as the supervisor sees them: who may have which end, and the bells.
//!
//! ```text
//!   sender's worker ── Rings ──► bell of the receiver's end ──► its call, if it waits, wants a slot again
//!   receiver's worker ── Waiting ──► rung since it waited last? a slot again : no slot until it rings, or the call's deadline
//!   sender's worker ◄── Heard ──── the receiver has heard it, and the next bell may be said
//! ```
//! The memory is between the two workers and the nursery, which keeps it ([`crate::nursery`]). The supervisor has no descriptor of it: it sees to
//! it that an end is one worker's at a time, and carries what a doorbell says, which is one bit. A worker says it once until the other side has heard it, so
//! that a muscle which rings at the speed of its processor keeps no line busy.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use muscle_abi::ring::Role;
use referee_policy::{Grants, Power};
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::deployment::Deployment;
use crate::error::NodeError;
use crate::node::Node;
use crate::nursery::Assessment;
use crate::settings::Settings;

/// How long a new worker waits at most until the one before it has left an end.
const LEFT_WITHIN: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 10 });

/// One granted slot of the kind `ring`. The nursery says it, never a worker.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct RingGrant {
    pub ring: String,
    /// Whether messages go in at this end.
    pub sends: bool,
    pub slot: String,
    /// Bytes of data.
    pub bytes: u64,
}

/// All rings that some worker has, or waits for.
#[derive(Debug, Default)]
pub(crate) struct Rings(Mutex<BTreeMap<String, Weak<Wire>>>);

/// One ring.
#[derive(Debug)]
struct Wire {
    ends: [End; 2],
}

#[derive(Debug)]
struct End {
    /// Whether the other side has rung since this one waited last.
    rung: AtomicBool,
    heard: Notify,
    /// Hears that this one has heard it.
    taken: Notify,
    /// One permit, which the worker that has this end holds.
    free: Arc<Semaphore>,
}

/// An end that a worker has.
#[derive(Debug)]
pub(crate) struct HeldEnd {
    pub grant: RingGrant,
    wire: Arc<Wire>,
    /// None once the worker is over.
    held: Mutex<Option<OwnedSemaphorePermit>>,
    /// Whether its worker has rung, and was not told that the other side heard it.
    owed: AtomicBool,
}

impl RingGrant {
    pub(crate) fn role(&self) -> Role {
        match self.sends {
            true => Role::Send,
            false => Role::Receive,
        }
    }

    /// The ring that a power is an end of, by the name that it was bound to.
    pub(crate) fn of(slot: &str, power: &Power) -> Option<RingGrant> {
        match power {
            Power::Ring {
                role,
                bytes,
                ring: Some(ring),
            } => Some(RingGrant {
                ring: ring.clone(),
                sends: *role == Role::Send,
                slot: slot.to_owned(),
                bytes: *bytes,
            }),
            _ => None,
        }
    }
}

/// All that was granted.
pub(crate) fn granted(grants: &Grants) -> Vec<RingGrant> {
    let slots = grants.slots().iter();
    slots
        .filter_map(|grant| RingGrant::of(grant.slot(), grant.power()))
        .collect()
}

impl Rings {
    /// Takes these ends for a worker that is about to be made, once those before it have left them.
    ///
    /// # Errors
    /// [`NodeError::Busy`] when one does not leave in time: its calls are not over.
    pub(crate) async fn take(&self, grants: Vec<RingGrant>) -> Result<Vec<HeldEnd>, NodeError> {
        self.take_within(grants, LEFT_WITHIN).await
    }

    async fn take_within(
        &self,
        mut grants: Vec<RingGrant>,
        within: Duration,
    ) -> Result<Vec<HeldEnd>, NodeError> {
        // In one order everywhere, so that no two wait for each other.
        grants.sort();
        let mut ends = Vec::with_capacity(grants.len());
        for grant in grants {
            let wire = self.wire(&grant.ring);
            let free = Arc::clone(&wire.end(grant.role()).free);
            // Nobody closes it, so that only the time can be over.
            let Ok(Ok(held)) = tokio::time::timeout(within, free.acquire_owned()).await else {
                return Err(NodeError::Busy {
                    what: "workers with this end of a ring",
                    limit: 1,
                });
            };
            ends.push(HeldEnd {
                grant,
                wire,
                held: Mutex::new(Some(held)),
                owed: AtomicBool::new(false),
            });
        }
        Ok(ends)
    }

    fn wire(&self, name: &str) -> Arc<Wire> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(wire) = all.get(name).and_then(Weak::upgrade) {
            return wire;
        }
        all.retain(|_, wire| wire.strong_count() > 0);
        let end = || End {
            rung: AtomicBool::new(false),
            heard: Notify::new(),
            taken: Notify::new(),
            free: Arc::new(Semaphore::new(1)),
        };
        let wire = Arc::new(Wire { ends: [end(), end()] });
        all.insert(name.to_owned(), Arc::downgrade(&wire));
        wire
    }
}

impl Wire {
    fn end(&self, role: Role) -> &End {
        let [sender, receiver] = &self.ends;
        match role {
            Role::Send => sender,
            Role::Receive => receiver,
        }
    }
}

impl HeldEnd {
    /// Rings at the other end, as its worker says.
    ///
    /// # Errors
    /// What the worker did, if it was not yet told that its last bell was heard.
    pub(crate) fn ring_by_worker(&self) -> Result<(), &'static str> {
        if self.owed.swap(true, Ordering::SeqCst) {
            return Err("rang again before its last bell was heard");
        }
        self.ring_other();
        Ok(())
    }

    /// Comes back when the other side has heard what its worker rang, of which the worker is to hear.
    pub(crate) async fn is_heard(&self) {
        let other = self.wire.end(self.grant.role().other());
        loop {
            let taken = other.taken.notified();
            tokio::pin!(taken);
            // From here on it hears of it.
            taken.as_mut().enable();
            if !other.rung.load(Ordering::SeqCst) && self.owed.swap(false, Ordering::SeqCst) {
                return;
            }
            taken.await;
        }
    }

    /// Rings at the other end. One that is rung already stays so.
    pub(crate) fn ring_other(&self) {
        let other = self.wire.end(self.grant.role().other());
        other.rung.store(true, Ordering::SeqCst);
        other.heard.notify_waiters();
    }

    /// Whether this end was rung since the last wait; it is still again.
    pub(crate) fn take_ring(&self) -> bool {
        let own = self.own();
        let was_rung = own.rung.swap(false, Ordering::SeqCst);
        if was_rung {
            own.taken.notify_waiters();
        }
        was_rung
    }

    /// Comes back when this end is rung, which it then is no more.
    pub(crate) async fn is_rung(&self) {
        loop {
            let heard = self.own().heard.notified();
            tokio::pin!(heard);
            // From here on it hears of it.
            heard.as_mut().enable();
            if self.take_ring() {
                return;
            }
            heard.await;
        }
    }

    /// Leaves it to the next worker, and says so at the other end: the process is over, and what the ring says of its end is written.
    pub(crate) fn leave(&self) {
        self.ring_other();
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(held);
    }

    fn own(&self) -> &End {
        self.wire.end(self.grant.role())
    }
}

impl Deployment {
    /// Ends of rings that policy gave it.
    pub(crate) fn ring_grants(&self) -> Vec<RingGrant> {
        rings_of(self.assessment())
    }
}

fn rings_of(assessment: &Assessment) -> Vec<RingGrant> {
    let granted = assessment.granted.iter();
    granted
        .filter_map(|(slot, power)| RingGrant::of(slot, power))
        .collect()
}

impl Node {
    /// Refuses a deployment whose rings could not be joined to others.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] says which slot, and what to do.
    pub(crate) fn refuse_rings(
        &self,
        name: &str,
        settings: &Settings,
        assessment: &Assessment,
    ) -> Result<(), NodeError> {
        let rings = rings_of(assessment);
        let Some(first) = rings.first() else {
            return Ok(());
        };
        let no = |name: &str, message: String| {
            Err(NodeError::Rejected {
                name: name.into(),
                message,
            })
        };
        if settings.snapshot.is_some() {
            return no(
                "snapshot-with-rings",
                format!(
                    "slot `{}` is an end of a ring, which is empty when a cell begins: it cannot begin from a snapshot",
                    first.slot
                ),
            );
        }
        if settings.cells != 1 || settings.ahead != 0 {
            return no(
                "ring-needs-one-cell",
                format!(
                    "slot `{}` is an end of a ring, which one cell has at a time: deploy it with cells = 1 and ahead = 0",
                    first.slot
                ),
            );
        }
        for (at, ring) in rings.iter().enumerate() {
            if let Some(twice) = rings.iter().take(at).find(|other| other.ring == ring.ring) {
                return no(
                    "ring-to-itself",
                    format!(
                        "slots `{}` and `{}` are bound to one ring, `{}`, whose other end is another deployment's: bind one of them to another ring",
                        twice.slot, ring.slot, ring.ring
                    ),
                );
            }
        }
        let mut refused = Ok(());
        self.each_deployment(|other| {
            if other.name == name || refused.is_err() {
                return;
            }
            let theirs = other.ring_grants();
            for ring in &rings {
                for one in theirs.iter().filter(|one| one.ring == ring.ring) {
                    if one.sends == ring.sends {
                        refused = no(
                            "ring-end-taken",
                            format!(
                                "slot `{}` is to {} by the ring `{}`, and `{}` does so already: a ring has one sender and one receiver",
                                ring.slot,
                                ring.role().name(),
                                ring.ring,
                                other.name
                            ),
                        );
                    } else if one.bytes != ring.bytes {
                        refused = no(
                            "ring-sizes-differ",
                            format!(
                                "slot `{}` asks for a ring of {} bytes and slot `{}` of `{}`, at the other end of `{}`, for one of {}: give both manifests the same size",
                                ring.slot, ring.bytes, one.slot, other.name, ring.ring, one.bytes
                            ),
                        );
                    }
                }
            }
        });
        refused
    }

    /// The deployment at the other end, whose grant was not taken back.
    pub(crate) fn other_end(&self, ring: &RingGrant) -> Option<String> {
        let mut found = None;
        self.each_deployment(|other| {
            let joins = |one: &RingGrant| {
                one.ring == ring.ring && one.sends != ring.sends && !other.is_revoked(&one.slot)
            };
            if other.ring_grants().iter().any(joins) {
                found = Some(other.name.clone());
            }
        });
        found
    }

    /// Refuses a call of a deployment that lacks one of its rings, or whose ring leads to nobody.
    ///
    /// # Errors
    /// [`NodeError::Rejected`].
    pub(crate) fn rings_are_joined(&self, deployment: &Deployment) -> Result<(), NodeError> {
        for ring in deployment.ring_grants() {
            if deployment.is_revoked(&ring.slot) {
                return Err(revoked(&ring.slot));
            }
            if self.other_end(&ring).is_none() {
                return Err(NodeError::Rejected {
                    name: "ring-not-joined".into(),
                    message: format!(
                        "the ring `{}` in slot `{}` leads to no deployment: deploy one with a slot of the role `{}` that is bound to it",
                        ring.ring,
                        ring.slot,
                        ring.role().other().name()
                    ),
                });
            }
        }
        Ok(())
    }
}

/// A muscle cannot be without memory that its manifest says it has.
pub(crate) fn revoked(slot: &str) -> NodeError {
    NodeError::Rejected {
        name: "ring-revoked".into(),
        message: format!(
            "the ring in slot `{slot}` was taken back, and no cell can be made without it: deploy it again and reset its grants"
        ),
    }
}

#[cfg(test)]
mod tests;

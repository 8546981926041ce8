//! Rings: memory through which the muscles of two permits send each other messages, without the host in between.

use std::sync::atomic::{AtomicU64, Ordering};

use muscle_abi::ring::Role;
use referee_cell::{Ring, RingEnd, RingHold};

use crate::error::StartError;
use crate::muscle::Permit;

/// One slot of a permit, joined to one of another.
#[derive(Debug, Clone)]
pub(crate) struct Joined {
    slot: String,
    role: Role,
    ring: Ring,
    with: With,
}

/// With whom, as the logs of both sides say it.
#[derive(Debug, Clone)]
pub(crate) enum With {
    /// A muscle of this program.
    Muscle {
        /// The same number on both sides.
        number: u64,
        /// Its name and version.
        peer: String,
    },
    /// Whoever has the other end of the node's ring of this name.
    Named(String),
}

/// Rings joined so far.
static NUMBER: AtomicU64 = AtomicU64::new(1);

impl Joined {
    pub(crate) fn slot(&self) -> &str {
        &self.slot
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn with(&self) -> &With {
        &self.with
    }

    /// A slot that is joined to a ring which another process keeps.
    pub(crate) fn kept_elsewhere(slot: &str, role: Role, name: &str, ring: &Ring) -> Joined {
        Joined {
            slot: slot.to_owned(),
            role,
            ring: ring.clone(),
            with: With::Named(name.to_owned()),
        }
    }

    pub(crate) fn end(&self) -> RingEnd {
        self.ring.end(self.role)
    }

    /// Takes the end for a cell that is about to begin.
    ///
    /// # Errors
    /// [`StartError::Rejected`] while another cell has it.
    pub(crate) fn take(&self) -> Result<RingHold, StartError> {
        self.ring.take(self.role).ok_or_else(|| StartError::Rejected {
            name: "ring-in-use",
            message: format!(
                "another cell has the end of the ring in slot `{}`: end it first, a ring has one sender and one receiver",
                self.slot
            ),
        })
    }
}

impl Permit {
    /// Joins this permit's slot, of a ring to send by, with a slot of another permit, of one to receive by. Both were granted by
    /// policy, and both manifests ask for the same size; otherwise neither is joined. From then on each permit starts one cell at a time.
    ///
    /// Messages go from memory to memory: the host copies nothing, sees nothing and records nothing but that the two are joined. A muscle that finds the ring
    /// empty, or full, waits: see [`crate::Cell::call`] and [`crate::Progress::Waiting`].
    ///
    /// The data counts as memory of the sender's cells. When a cell of either side is reset, or started after another one, the ring is emptied, and the muscle on the
    /// other side hears of it.
    ///
    /// # Errors
    /// [`StartError::Rejected`] with the name `no-such-ring`, `ring-joined-already` or `ring-sizes-differ`, recorded in this permit's log;
    /// [`StartError::Host`] when there is no memory.
    pub fn join_ring(
        &mut self,
        slot: &str,
        receiver: &mut Permit,
        receiver_slot: &str,
    ) -> Result<(), StartError> {
        match join(self, slot, receiver, receiver_slot) {
            Err(refused @ StartError::Rejected { .. }) => {
                Err(self.engine().refusal(refused, &self.title())?)
            }
            other => other,
        }
    }
}

fn join(
    sender: &mut Permit,
    slot: &str,
    receiver: &mut Permit,
    receiver_slot: &str,
) -> Result<(), StartError> {
    let data = size_of_free(sender, slot, Role::Send)?;
    let other = size_of_free(receiver, receiver_slot, Role::Receive)?;
    if data != other {
        return Err(StartError::Rejected {
            name: "ring-sizes-differ",
            message: format!(
                "slot `{slot}` asks for a ring of {data} bytes and slot `{receiver_slot}` for one of {other}: give both manifests the same size"
            ),
        });
    }
    let ring = Ring::new(data).map_err(StartError::host("making a ring"))?;
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let peers = [receiver.title(), sender.title()];
    let ends = [
        (sender, slot, Role::Send),
        (receiver, receiver_slot, Role::Receive),
    ];
    for ((permit, slot, role), peer) in ends.into_iter().zip(peers) {
        permit.add_ring(Joined {
            slot: slot.to_owned(),
            role,
            ring: ring.clone(),
            with: With::Muscle { number, peer },
        });
    }
    Ok(())
}

/// The size of a ring that was granted and is not joined yet.
fn size_of_free(permit: &Permit, slot: &str, role: Role) -> Result<u64, StartError> {
    let mut granted = permit.grants().rings();
    let Some((_, _, data)) = granted.find(|(name, of, _)| *name == slot && *of == role) else {
        return Err(StartError::Rejected {
            name: "no-such-ring",
            message: format!(
                "`{}` has no slot `{slot}` of kind `ring` with the role `{}`",
                permit.title(),
                role.name()
            ),
        });
    };
    match permit.rings().iter().any(|joined| joined.slot == slot) {
        false => Ok(data),
        true => Err(StartError::Rejected {
            name: "ring-joined-already",
            message: format!("slot `{slot}` is joined already: ask Muscle::permit for another permit"),
        }),
    }
}

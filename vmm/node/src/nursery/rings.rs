//! Rings that the nursery keeps: it makes the memory, hands each worker its end by fork, and writes what both are told.
//!
//! ```text
//!   Spawn    ─► is the end free, of the same size? ─► the worker inherits what its role may write, and the rest to be read
//!   Begin    ─► a life begins: the ring is emptied if this side had begun before
//!   End      ─► the life is over: the other side hears `Closed`
//!   Reap     ─► the same, and the end is free; with nobody at either end the memory goes
//! ```
//! So neither worker writes the page that says epoch and who has ended, and neither can write what the other one writes.

use std::collections::BTreeMap;

use muscle_abi::ring::Role;
use referee_cell::{Ring, RingHold};

use crate::error::{NodeError, OrHost};
use crate::ring::RingGrant;

/// All rings of which a worker has an end, by name.
#[derive(Debug, Default)]
pub(crate) struct Rings(BTreeMap<String, Kept>);

#[derive(Debug)]
struct Kept {
    ring: Ring,
    ends: [Option<Held>; 2],
}

/// An end as a worker has it.
#[derive(Debug)]
struct Held {
    worker: u64,
    /// None between two lives.
    life: Option<RingHold>,
}

/// An end on its way to a worker.
#[derive(Debug)]
pub(crate) struct Handed {
    pub grant: RingGrant,
    /// As that process is to have it.
    pub ring: Ring,
}

impl Rings {
    /// Gives a worker that is about to be made its ends, all or none.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] when another worker has one, or the other end is of another size; [`NodeError::Host`].
    pub(crate) fn hand(&mut self, worker: u64, grants: &[RingGrant]) -> Result<Vec<Handed>, NodeError> {
        let handed: Result<Vec<Handed>, NodeError> =
            grants.iter().map(|grant| self.hand_one(worker, grant)).collect();
        if handed.is_err() {
            self.leave(worker);
        }
        handed
    }

    fn hand_one(&mut self, worker: u64, grant: &RingGrant) -> Result<Handed, NodeError> {
        let (doing, role) = ("making a ring", grant.role());
        if !self.0.contains_key(&grant.ring) {
            let kept = Kept {
                ring: Ring::new(grant.bytes).or_host(doing)?,
                ends: [None, None],
            };
            self.0.insert(grant.ring.clone(), kept);
        }
        let kept = self
            .0
            .get_mut(&grant.ring)
            .ok_or_else(|| NodeError::host(doing)("it is not there"))?;
        let no = |name: &str, why: String| NodeError::Rejected {
            name: name.into(),
            message: format!("slot `{}`, ring `{}`: {why}", grant.slot, grant.ring),
        };
        if kept.ring.data() != grant.bytes {
            let has = kept.ring.data();
            let why = format!("it asks for {} bytes, and the other end has {has}", grant.bytes);
            return Err(no("ring-sizes-differ", why));
        }
        if kept.ends[role as usize].is_some() {
            return Err(no("ring-in-use", "another worker has this end".into()));
        }
        let ring = kept.ring.handed_over(role).or_host(doing)?;
        kept.ends[role as usize] = Some(Held { worker, life: None });
        Ok(Handed {
            grant: grant.clone(),
            ring,
        })
    }

    /// Begins a life of a worker's cell with all its ends.
    ///
    /// # Errors
    /// [`NodeError::Host`] when a ring could not be emptied: nothing passes through it any more.
    pub(crate) fn begin(&mut self, worker: u64) -> Result<(), NodeError> {
        for (ring, role, held) in self.ends_of(worker) {
            if held.life.is_none() {
                held.life = ring.take(role);
            }
            if let Some(life) = &mut held.life {
                life.begin().or_host("emptying a ring")?;
            }
        }
        Ok(())
    }

    /// Says that the life of a worker's cell is over.
    pub(crate) fn end(&mut self, worker: u64) {
        for (_, _, held) in self.ends_of(worker) {
            held.life = None;
        }
    }

    /// Frees the ends of a worker that is over.
    pub(crate) fn leave(&mut self, worker: u64) {
        self.0.retain(|_, kept| {
            for end in &mut kept.ends {
                if end.as_ref().is_some_and(|held| held.worker == worker) {
                    *end = None;
                }
            }
            kept.ends.iter().any(Option::is_some)
        });
    }

    fn ends_of(&mut self, worker: u64) -> impl Iterator<Item = (&Ring, Role, &mut Held)> {
        self.0.values_mut().flat_map(move |kept| {
            let ring = &kept.ring;
            let ends = [Role::Send, Role::Receive].into_iter().zip(&mut kept.ends);
            ends.filter_map(move |(role, end)| {
                let held = end.as_mut().filter(|held| held.worker == worker)?;
                Some((ring, role, held))
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(ring: &str, sends: bool, bytes: u64) -> RingGrant {
        RingGrant {
            ring: ring.into(),
            sends,
            slot: "s".into(),
            bytes,
        }
    }

    fn refusal(result: Result<Vec<Handed>, NodeError>) -> String {
        match result {
            Err(NodeError::Rejected { name, .. }) => name,
            other => panic!("a refusal was expected: {other:?}"),
        }
    }

    #[test]
    fn an_end_is_one_workers_and_sizes_are_one() {
        let mut rings = Rings::default();
        rings.hand(1, &[grant("a", true, 4096)]).expect("is free");
        assert_eq!(refusal(rings.hand(2, &[grant("a", true, 4096)])), "ring-in-use");
        assert_eq!(
            refusal(rings.hand(2, &[grant("b", true, 4096), grant("a", false, 8192)])),
            "ring-sizes-differ"
        );
        assert_eq!(rings.0.len(), 1, "none, if not all: `b` is gone");
        rings
            .hand(2, &[grant("a", false, 4096)])
            .expect("is the other end");
        rings.begin(1).expect("begins");
        rings.begin(2).expect("begins");
        rings.leave(1);
        rings.hand(3, &[grant("a", true, 4096)]).expect("was left");
        rings.leave(3);
        rings.leave(2);
        assert!(rings.0.is_empty(), "with nobody at either end the memory goes");
        // Of a worker that has none, nothing is said.
        rings.begin(9).expect("has none");
        rings.end(9);
    }
}

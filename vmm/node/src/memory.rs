//! Memory as it is given out: to deployments as a promise, to workers and their cells for as long as they are there.
//!
//! ```text
//!   deploy      every cell that it may have, at its limit   ─► promised ≤ budget × overcommit     refused with the figures
//!   a worker    itself, cells that are being made or reset  ─┐
//!   a call      one cell more than are awake                 ├► taken ≤ budget                    cells that nobody calls make room first
//!   asleep      what the kernel keeps for the cell          ─┘
//! ```
//! A publisher with a limit is bounded by it in the same way. What is counted is what a cell *can* take: its limit and an overhead; what it has
//! touched is less. A worker that a muscle took over may take more: the kernel's limits on the service end it then, and nobody else
//! ([`crate::oom`]).

mod host;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use referee_policy::Power;

use crate::config::Config;
use crate::error::NodeError;
use crate::nursery::Assessment;
use crate::settings::Settings;

pub use host::HostMemory;

/// What the kernel and this program keep for a cell beside its own memory: VM, vCPU, page tables, file, buffers. (An idle VM is half a
/// megabyte.)
const CELL_OVERHEAD: u64 = 1 << 20;
/// What a worker is without cells: heap, stacks, the checked image.
const WORKER_OVERHEAD: u64 = 8 << 20;

/// The node's memory. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    bounds: Bounds,
    tenants: BTreeMap<String, Bounds>,
    near_percent: u64,
    state: Mutex<State>,
    /// Requests that were refused.
    refused: AtomicU64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bounds {
    /// At once.
    budget: u64,
    /// To be promised.
    promisable: u64,
}

#[derive(Debug, Default)]
struct State {
    /// By deployment.
    promised: BTreeMap<String, (String, u64)>,
    /// By publisher.
    taken: BTreeMap<String, u64>,
}

/// Figures, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    pub budget: u64,
    pub taken: u64,
    pub promisable: u64,
    pub promised: u64,
}

/// What a deployment can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Demand {
    /// One cell, awake.
    cell: u64,
    /// Cells that calls may have.
    cells: u64,
    /// Cells beside those of calls: loaded ahead, or being reset while the next call has another.
    beside: u64,
    /// Rings, whole: each side's worker may be the last that keeps one.
    rings: u64,
}

impl Demand {
    /// Of a deployment on a host on which so many calls run at once.
    pub(crate) fn of(settings: &Settings, assessment: &Assessment, slots: usize) -> Demand {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        // Each hand of a worker may be resetting one, and one more of them moves cells to swap.
        let in_hands = slots.min(settings.cells).saturating_add(1);
        Demand {
            cell: assessment.memory_bytes.saturating_add(CELL_OVERHEAD),
            cells: count(settings.cells),
            // What all begin at is kept once, and has no more than a cell.
            beside: count(settings.ahead.saturating_add(in_hands))
                .saturating_add(settings.snapshot.is_some().into()),
            rings: rings(assessment),
        }
    }

    /// With every cell that it may have.
    pub(crate) fn most(&self) -> u64 {
        self.with(self.cells, 0)
    }

    /// With so many cells awake and asleep.
    pub(crate) fn with(&self, awake: u64, asleep: u64) -> u64 {
        let cells = awake.min(self.cells).saturating_add(self.beside);
        cells
            .saturating_mul(self.cell)
            .saturating_add(asleep.saturating_mul(CELL_OVERHEAD))
            .saturating_add(self.rings)
            .saturating_add(WORKER_OVERHEAD)
    }
}

/// Bytes of all rings that a deployment has an end of.
fn rings(assessment: &Assessment) -> u64 {
    let bytes = assessment.granted.iter().filter_map(|(_, power)| match power {
        Power::Ring { bytes, .. } => Some(bytes.saturating_add(muscle_abi::ring::DATA)),
        _ => None,
    });
    bytes.fold(0, u64::saturating_add)
}

impl Memory {
    pub(crate) fn new(config: &Config) -> Memory {
        let section = &config.memory;
        let bounds = |budget: u64| Bounds {
            budget,
            promisable: percent(budget, section.overcommit_percent),
        };
        let limited = |(name, tenant): (&String, &crate::config::TenantShare)| {
            Some((name.clone(), bounds(tenant.memory_bytes?)))
        };
        Memory(Arc::new(Shared {
            bounds: bounds(section.budget_on(&HostMemory::look())),
            tenants: config.tenants.iter().filter_map(limited).collect(),
            near_percent: section.near_percent,
            state: Mutex::default(),
            refused: AtomicU64::new(0),
        }))
    }

    /// Whether a deployment may be promised this, in the place of what it had.
    ///
    /// # Errors
    /// [`NodeError::Memory`] with the figures.
    pub(crate) fn may_promise(&self, name: &str, publisher: &str, bytes: u64) -> Result<(), NodeError> {
        let state = self.lock();
        let promised = |of: &dyn Fn(&str) -> bool| {
            let others = state.promised.iter().filter(|(other, _)| *other != name);
            let bytes = others
                .filter(|(_, (publisher, _))| of(publisher))
                .map(|(_, (_, bytes))| *bytes);
            bytes.fold(0, u64::saturating_add)
        };
        let what = format!("deployment `{name}`, with every cell that it may have,");
        if let Some(bounds) = self.0.tenants.get(publisher) {
            let free = bounds
                .promisable
                .saturating_sub(promised(&|other| other == publisher));
            let limit = format!("tenants.{publisher}.memory_bytes × memory.overcommit_percent");
            self.within(free, bytes, bounds.promisable, &what, limit, PROMISE_LESS)?;
        }
        let bounds = self.0.bounds;
        let free = bounds.promisable.saturating_sub(promised(&|_| true));
        let limit = "memory.budget_bytes × memory.overcommit_percent".to_owned();
        self.within(free, bytes, bounds.promisable, &what, limit, PROMISE_LESS)
    }

    /// Promises it, whether or not it may be: what was acknowledged before stays.
    pub(crate) fn promise(&self, name: &str, publisher: &str, bytes: u64) {
        let mut state = self.lock();
        state
            .promised
            .insert(name.to_owned(), (publisher.to_owned(), bytes));
    }

    /// Takes a promise back.
    pub(crate) fn forget(&self, name: &str) {
        self.lock().promised.remove(name);
    }

    /// Takes memory for something of a publisher's, until the value is dropped.
    ///
    /// # Errors
    /// [`NodeError::Memory`] with the figures.
    pub(crate) fn take(&self, publisher: &str, bytes: u64) -> Result<Taken, NodeError> {
        let mut taken = Taken {
            memory: self.clone(),
            publisher: publisher.to_owned(),
            bytes: 0,
        };
        taken.change(bytes)?;
        Ok(taken)
    }

    pub(crate) fn figures(&self) -> Figures {
        let state = self.lock();
        Figures {
            budget: self.0.bounds.budget,
            promisable: self.0.bounds.promisable,
            taken: total(&state.taken),
            promised: state
                .promised
                .values()
                .fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes)),
        }
    }

    /// What each publisher has taken.
    pub(crate) fn by_publisher(&self) -> Vec<(String, u64)> {
        let state = self.lock();
        state
            .taken
            .iter()
            .map(|(name, bytes)| (name.clone(), *bytes))
            .collect()
    }

    /// Whether the budget is near its end.
    pub(crate) fn is_near_end(&self) -> bool {
        let figures = self.figures();
        figures.taken >= percent(figures.budget, self.0.near_percent)
    }

    pub(crate) fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    fn within(
        &self,
        free: u64,
        wanted: u64,
        limit: u64,
        what: &str,
        limited_by: String,
        advice: &'static str,
    ) -> Result<(), NodeError> {
        if wanted <= free {
            return Ok(());
        }
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        Err(NodeError::Memory {
            what: what.to_owned(),
            wanted,
            free,
            limit,
            limited_by,
            advice,
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const PROMISE_LESS: &str = "give it fewer cells, remove a deployment, or raise the limit";
const COME_BACK: &str = "try again when other calls are over, or raise the limit";

/// Memory that something has.
#[derive(Debug)]
pub(crate) struct Taken {
    memory: Memory,
    publisher: String,
    bytes: u64,
}

impl Taken {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes it so many bytes. Less is always had.
    ///
    /// # Errors
    /// [`NodeError::Memory`] with the figures; then it is as it was.
    pub(crate) fn change(&mut self, bytes: u64) -> Result<(), NodeError> {
        let memory = self.memory.clone();
        let mut state = memory.lock();
        let had = state.taken.get(&self.publisher).copied().unwrap_or(0);
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let what = format!("a cell of `{}`'s", self.publisher);
            if let Some(bounds) = memory.0.tenants.get(&self.publisher) {
                let free = bounds.budget.saturating_sub(had);
                let limit = format!("tenants.{}.memory_bytes", self.publisher);
                memory.within(free, more, bounds.budget, &what, limit, COME_BACK)?;
            }
            let budget = memory.0.bounds.budget;
            let free = budget.saturating_sub(total(&state.taken));
            memory.within(free, more, budget, &what, "memory.budget_bytes".into(), COME_BACK)?;
        }
        let has = had.saturating_sub(self.bytes).saturating_add(bytes);
        match has {
            0 => state.taken.remove(&self.publisher),
            has => state.taken.insert(self.publisher.clone(), has),
        };
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        // Less is always had.
        let _ = self.change(0);
    }
}

/// So many hundredths of it.
pub(crate) fn percent(bytes: u64, percent: u64) -> u64 {
    let part = u128::from(bytes) * u128::from(percent) / 100;
    u64::try_from(part).unwrap_or(u64::MAX)
}

fn total(taken: &BTreeMap<String, u64>) -> u64 {
    taken.values().fold(0, |sum, bytes| sum.saturating_add(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn memory(budget: u64, tenant: Option<u64>) -> Memory {
        let mut config = Config::default();
        config.memory.budget_bytes = budget;
        config.memory.overcommit_percent = 200;
        let acme = crate::config::TenantShare {
            memory_bytes: tenant,
            ..Default::default()
        };
        config.tenants.insert("acme".into(), acme);
        Memory::new(&config)
    }

    #[test]
    fn a_promise_beyond_the_budget_and_its_factor_is_refused_with_the_figures() {
        let memory = memory(100 * MIB, None);
        memory.promise("a", "acme", 150 * MIB);
        memory.may_promise("b", "other", 50 * MIB).expect("just fits");
        let refused = memory
            .may_promise("b", "other", 51 * MIB)
            .expect_err("is too much");
        let message = refused.to_string();
        for part in [
            "deployment `b`",
            "53477376",
            "52428800",
            "209715200",
            "memory.budget_bytes",
            "fewer cells",
        ] {
            assert!(message.contains(part), "{part}: {message}");
        }
        // In the place of its own, and after that is gone.
        memory
            .may_promise("a", "acme", 200 * MIB)
            .expect("takes its own place");
        memory.forget("a");
        memory
            .may_promise("b", "other", 200 * MIB)
            .expect("there is room");
        assert_eq!(memory.refused(), 1);
    }

    #[test]
    fn a_publisher_is_bounded_by_its_own_limit_too() {
        let memory = memory(1000 * MIB, Some(10 * MIB));
        let refused = memory
            .may_promise("a", "acme", 21 * MIB)
            .expect_err("is too much");
        assert!(
            refused.to_string().contains("tenants.acme.memory_bytes"),
            "{refused}"
        );
        memory.may_promise("a", "other", 21 * MIB).expect("has no limit");
        let taken = memory.take("acme", 10 * MIB).expect("just fits");
        let refused = memory.take("acme", 1).expect_err("is too much");
        assert!(refused.to_string().contains("0 of the 10485760"), "{refused}");
        memory.take("other", MIB).expect("has no limit");
        drop(taken);
        memory.take("acme", 10 * MIB).expect("is there again");
    }

    #[test]
    fn a_demand_counts_cells_at_their_limits() {
        let settings = Settings {
            cells: 3,
            ahead: 2,
            ..Settings::default()
        };
        let assessment = Assessment {
            memory_bytes: 7 * MIB,
            ..crate::nursery::blank_assessment()
        };
        let demand = Demand::of(&settings, &assessment, 2);
        // Three for calls, two ahead, two in hands and one on its way to swap.
        assert_eq!(demand.most(), 8 * 8 * MIB + WORKER_OVERHEAD);
        assert_eq!(
            demand.with(0, 3),
            5 * 8 * MIB + 3 * CELL_OVERHEAD + WORKER_OVERHEAD
        );
        assert_eq!(demand.with(99, 0), demand.most());
    }

    proptest! {
        #[test]
        fn what_is_taken_is_never_more_than_there_is(changes in prop::collection::vec((0..4_usize, 0..60_u64), 0..60)) {
            let memory = memory(100 * MIB, Some(50 * MIB));
            let mut held: Vec<Taken> = Vec::new();
            for (which, wanted) in changes {
                let publisher = if which % 2 == 0 { "acme" } else { "other" };
                let before = memory.figures();
                match held.get_mut(which) {
                    Some(taken) => {
                        let had = taken.bytes();
                        if taken.change(wanted * MIB).is_err() {
                            prop_assert_eq!(taken.bytes(), had);
                            prop_assert_eq!(memory.figures(), before);
                        }
                    }
                    None => held.extend(memory.take(publisher, wanted * MIB).ok()),
                }
                let sum = held.iter().fold(0, |sum, taken| sum + taken.bytes());
                prop_assert_eq!(memory.figures().taken, sum);
                prop_assert!(sum <= 100 * MIB);
                for (name, bytes) in memory.by_publisher() {
                    prop_assert!(name != "acme" || bytes <= 50 * MIB);
                }
            }
            drop(held);
            prop_assert_eq!(memory.figures().taken, 0);
        }
    }
    #[test]
    fn a_ring_counts_whole_with_each_worker_that_has_an_end() {
        let settings = Settings {
            cells: 1,
            ..Settings::default()
        };
        let demand = |granted| {
            let assessment = Assessment {
                granted,
                ..crate::nursery::blank_assessment()
            };
            Demand::of(&settings, &assessment, 1)
        };
        let without = demand(Vec::new());
        for role in [muscle_abi::ring::Role::Send, muscle_abi::ring::Role::Receive] {
            let ring = Power::Ring {
                role,
                bytes: 1 << 20,
                ring: Some("x".into()),
            };
            let with = demand(vec![("ring".into(), ring)]);
            for (awake, asleep) in [(0, 0), (1, 0), (0, 1)] {
                let more = with.with(awake, asleep) - without.with(awake, asleep);
                assert_eq!(more, (1 << 20) + 3 * 4096);
            }
        }
    }
}

//! Tasks and tenants: what the caller says of them, and what the scheduler keeps.

use std::collections::HashMap;
use std::num::NonZeroU32;

use crate::cap::{Cap, Quota};
use crate::fair::{Band, Flow, Queue};
use crate::heap::Places;
use crate::real_time::{Reservation, Timing};
use crate::slab::Slab;
use crate::time::{Fraction, Span};

/// The caller's name for a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u64);

/// The caller's name for a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantId(pub u64);

/// One of the places in which a cell may run; the first is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub usize);

/// A weight beside others': twice the shares, twice the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shares(NonZeroU32);

impl Shares {
    /// The weight of whoever has no reason for another.
    pub const ONE: Self = Self(NonZeroU32::MIN);

    /// `shares` from 1 to a million; nothing outside.
    pub fn new(shares: u32) -> Option<Self> {
        NonZeroU32::new(shares)
            .filter(|shares| shares.get() <= 1_000_000)
            .map(Self)
    }

    /// The number.
    pub const fn count(self) -> u32 {
        self.0.get()
    }
}

/// How a task wants to be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Has a budget in every period, before a deadline, if it is admitted.
    RealTime(Timing),
    /// Has time in proportion to its shares among its tenant's fair tasks.
    Fair {
        /// Its weight among them.
        shares: Shares,
    },
    /// Runs in slots that nobody else wants; may be starved for ever.
    Background,
}

/// What a tenant may have, whatever it deploys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its weight among the tenants.
    pub shares: Shares,
    /// The most time it may have in each period, if there is such a limit.
    pub cap: Option<Cap>,
    /// The part of the whole machine's time that its real-time tasks may reserve.
    pub real_time: Fraction,
}

impl Tenant {
    /// A tenant with these shares, without a cap and without the right to reserve time.
    pub const fn with_shares(shares: Shares) -> Self {
        Self {
            shares,
            cap: None,
            real_time: Fraction::ZERO,
        }
    }
}

/// What a task, or all tasks of a tenant, had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The exact sum of what [`stopped`](crate::Scheduler::stopped) was told.
    pub used: Span,
    /// How long slots were held, switching included, by the clock of the caller. Shares and caps go by this.
    pub held: Span,
    /// Slices that ended.
    pub slices: u64,
    /// Those of them that were asked to end early.
    pub preempted: u64,
    /// Jobs of real-time tasks that were done or used their budget up.
    pub jobs: u64,
    /// Those of them that ended after their deadline: a promise was not kept, because an assumption did not hold.
    pub late: u64,
}

/// What is known of a task that is admitted.
#[derive(Debug)]
pub(crate) struct TaskEntry {
    pub(crate) id: TaskId,
    pub(crate) tenant: usize,
    pub(crate) work: Work,
    pub(crate) state: State,
    /// It was woken while it ran, so the worker's "nothing more to do" may be older than the wake-up.
    pub(crate) woken: bool,
    /// It was removed while it ran; it is gone when its slice ends.
    pub(crate) leaving: bool,
    pub(crate) usage: Usage,
}

#[derive(Debug)]
pub(crate) enum Work {
    RealTime(Reservation),
    Shared { band: Band, shares: Shares, flow: Flow },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Has nothing to do.
    Asleep,
    /// Has work, and waits for its next release: real-time tasks only.
    Waiting,
    /// Has work, and waits for a slot.
    Ready,
    Running,
}

#[derive(Debug)]
pub(crate) struct TenantEntry {
    pub(crate) shares: Shares,
    pub(crate) quota: Option<Quota>,
    pub(crate) real_time: Fraction,
    /// What its real-time tasks reserved, of one slot's time.
    pub(crate) reserved: Fraction,
    /// Its queue in each band.
    pub(crate) queues: [Queue; 2],
    /// Whether its quota is used up, so that nothing in its queues may be picked.
    pub(crate) throttled: bool,
    pub(crate) tasks: usize,
    pub(crate) usage: Usage,
}

impl TenantEntry {
    /// What it may have, as it was set.
    pub(crate) fn terms(&self) -> Tenant {
        Tenant {
            shares: self.shares,
            cap: self.quota.map(|quota| quota.cap),
            real_time: self.real_time,
        }
    }

    pub(crate) fn queue(&mut self, band: Band) -> &mut Queue {
        let [fair, background] = &mut self.queues;
        match band {
            Band::Fair => fair,
            Band::Background => background,
        }
    }
}

/// All tasks and tenants, by index and by name.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    pub(crate) tasks: Slab<TaskEntry>,
    pub(crate) tenants: Slab<TenantEntry>,
    pub(crate) task_ids: HashMap<TaskId, usize>,
    pub(crate) tenant_ids: HashMap<TenantId, usize>,
    /// Where a task stands in the one heap that holds it: its tenant's queue, its slot's, or that of releases.
    pub(crate) places: Places,
}

impl Registry {
    pub(crate) fn task(&self, id: TaskId) -> Option<&TaskEntry> {
        self.tasks.get(*self.task_ids.get(&id)?)
    }

    pub(crate) fn tenant(&self, id: TenantId) -> Option<&TenantEntry> {
        self.tenants.get(*self.tenant_ids.get(&id)?)
    }
}

//! The scheduler as its caller sees it: tenants and tasks come and go here. What runs when is in `dispatch.rs`.

use crate::admission::{self, Demand, Unfit};
use crate::cap::{Cap, Quota};
use crate::config::{Config, ConfigError};
use crate::error::{Misuse, Refused};
use crate::fair::{Band, FairShares, Flow};
use crate::heap::Heap;
use crate::real_time::{Promises, Reservation, Timing};
use crate::slice::SliceLength;
use crate::task::{
    Class, Registry, Shares, SlotId, State, TaskEntry, TaskId, Tenant, TenantEntry, TenantId, Usage, Work,
};
use crate::time::{Fraction, Span, Time};

/// Decides who runs next on a machine's slots.
///
/// It has no clock and starts nothing. Its caller says what happened ([`wake`](Self::wake), [`stopped`](Self::stopped)), asks what to do
/// ([`decide`](Self::decide)), does it, and asks again after every event and at [`next_event`](Self::next_event).
///
/// No call panics. What a caller names wrongly is a [`Misuse`], what cannot be promised is [`Refused`], and neither changes anything. A
/// clock that goes back counts as one that stands still.
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) config: Config,
    /// The latest time that any call named.
    pub(crate) now: Time,
    pub(crate) registry: Registry,
    pub(crate) fair: FairShares,
    pub(crate) slots: Vec<Slot>,
    /// Slots with the least promised time first: where others are interrupted least.
    pub(crate) calm_first: Vec<usize>,
    /// Real-time tasks that have work and wait for their next release.
    pub(crate) releases: Heap<Time>,
    pub(crate) released: u64,
    pub(crate) slice_length: SliceLength,
}

/// A place to run in.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub(crate) running: Option<Running>,
    pub(crate) promises: Promises,
}

/// A slice that has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Running {
    pub(crate) task: usize,
    pub(crate) rank: Rank,
    pub(crate) started: Time,
    pub(crate) budget: Span,
    pub(crate) is_preempted: bool,
}

/// How urgent a slice is: an earlier deadline before a later one, any before none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Rank {
    RealTime { due: Time },
    Fair,
    Background,
}

impl Scheduler {
    /// An empty machine.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let config = config.check()?;
        Ok(Self {
            config,
            now: Time::ZERO,
            registry: Registry::default(),
            fair: FairShares::new(config.slots, config.slice_min, config.slice_max),
            slots: std::iter::repeat_with(Slot::default).take(config.slots).collect(),
            calm_first: (0..config.slots).collect(),
            releases: Heap::default(),
            released: 0,
            slice_length: SliceLength::new(&config),
        })
    }

    /// Makes a tenant, or changes what one may have. Slices that run are not cut short. Refuses limits that are lower than what its
    /// real-time tasks were promised.
    pub fn set_tenant(&mut self, id: TenantId, tenant: Tenant) -> Result<(), Refused> {
        check_cap(tenant.cap)?;
        let index = self.registry.tenant_ids.get(&id).copied();
        let Some((index, entry)) =
            index.and_then(|index| Some((index, self.registry.tenants.get_mut(index)?)))
        else {
            self.add_tenant(id, tenant);
            return Ok(());
        };
        check_reserved(entry.reserved, &tenant, self.config.slots)?;
        self.fair.reweigh(entry, index, tenant.shares);
        entry.real_time = tenant.real_time;
        entry.quota = match (entry.quota, tenant.cap) {
            (Some(quota), Some(cap)) => Some(quota.changed(cap, self.now)),
            (None, Some(cap)) => Some(Quota::new(cap, self.now)),
            (_, None) => None,
        };
        self.fair.resume(entry, index);
        Ok(())
    }

    /// Forgets a tenant that has no tasks; says what it had.
    pub fn remove_tenant(&mut self, id: TenantId) -> Result<Usage, Misuse> {
        let index = *self.registry.tenant_ids.get(&id).ok_or(Misuse::NoTenant(id))?;
        let entry = self.registry.tenants.get_mut(index).ok_or(Misuse::NoTenant(id))?;
        if entry.tasks > 0 {
            return Err(Misuse::TenantBusy {
                tenant: id,
                tasks: entry.tasks,
            });
        }
        let usage = entry.usage;
        self.fair.resume(entry, index);
        self.registry.tenants.remove(index);
        self.registry.tenant_ids.remove(&id);
        Ok(usage)
    }

    /// Takes a task on; it sleeps until it is woken. A real-time task is promised a slot here, or refused.
    pub fn admit(&mut self, id: TaskId, tenant: TenantId, class: Class) -> Result<(), Refused> {
        if self.registry.task_ids.contains_key(&id) {
            return Err(Refused::Known(id));
        }
        let index = *self
            .registry
            .tenant_ids
            .get(&tenant)
            .ok_or(Refused::NoTenant(tenant))?;
        let work = match class {
            Class::RealTime(timing) => Work::RealTime(self.promise(index, timing)?),
            Class::Fair { shares } => Work::Shared {
                band: Band::Fair,
                shares,
                flow: Flow::default(),
            },
            Class::Background => Work::Shared {
                band: Band::Background,
                shares: Shares::ONE,
                flow: Flow::default(),
            },
        };
        let promise = match &work {
            Work::RealTime(reservation) => Some((reservation.slot, reservation.timing)),
            Work::Shared { .. } => None,
        };
        let task = self.registry.tasks.insert(TaskEntry {
            id,
            tenant: index,
            work,
            state: State::Asleep,
            woken: false,
            leaving: false,
            usage: Usage::default(),
        });
        self.registry.task_ids.insert(id, task);
        if let Some(tenant) = self.registry.tenants.get_mut(index) {
            tenant.tasks += 1;
        }
        if let Some((slot, timing)) = promise {
            let demand = Demand::new(timing, &self.config);
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.promises.join(task, demand);
            }
            if let Some(tenant) = self.registry.tenants.get_mut(index) {
                tenant.reserved = tenant.reserved + demand.share();
            }
            self.sort_slots();
        }
        Ok(())
    }

    /// Lets a task go; says what it had. If it runs, [`decide`](Self::decide) has it stopped, and until
    /// [`stopped`](Self::stopped) is told, its name stays taken and what it still uses is counted for its tenant. What a real-time task
    /// was promised is free when its slot next has no job left.
    pub fn remove(&mut self, id: TaskId) -> Result<Usage, Misuse> {
        let index = *self.registry.task_ids.get(&id).ok_or(Misuse::NoTask(id))?;
        let entry = self.registry.tasks.get_mut(index).ok_or(Misuse::NoTask(id))?;
        if entry.leaving {
            return Err(Misuse::NoTask(id));
        }
        let (usage, state) = (entry.usage, entry.state);
        entry.leaving = true;
        if let Work::RealTime(reservation) = &entry.work {
            let (slot, tenant) = (reservation.slot, entry.tenant);
            let share = Demand::new(reservation.timing, &self.config).share();
            if let Some(tenant) = self.registry.tenants.get_mut(tenant) {
                tenant.reserved = tenant.reserved - share;
            }
            self.releases.remove(index, &mut self.registry.places);
            if let Some(slot) = self.slots.get_mut(slot) {
                slot.promises.ready.remove(index, &mut self.registry.places);
                slot.promises.depart(index);
            }
            self.settle_promises(slot);
        }
        if state != State::Running {
            self.forget(index);
        }
        Ok(usage)
    }

    /// What a task had, up to the last slice that ended.
    pub fn usage(&self, task: TaskId) -> Option<Usage> {
        self.registry
            .task(task)
            .filter(|entry| !entry.leaving)
            .map(|entry| entry.usage)
    }

    /// What all tasks of a tenant had, those that were removed included.
    pub fn tenant_usage(&self, tenant: TenantId) -> Option<Usage> {
        self.registry.tenant(tenant).map(|entry| entry.usage)
    }

    /// The slot that a real-time task was promised.
    pub fn slot_of(&self, task: TaskId) -> Option<SlotId> {
        match &self.registry.task(task)?.work {
            Work::RealTime(reservation) => Some(SlotId(reservation.slot)),
            Work::Shared { .. } => None,
        }
    }

    /// The deadline of a real-time task's present job, if it has one.
    pub fn deadline(&self, task: TaskId) -> Option<Time> {
        let entry = self.registry.task(task)?;
        match (&entry.work, entry.state) {
            (Work::RealTime(reservation), State::Ready | State::Running) => Some(reservation.due()),
            _ => None,
        }
    }

    /// The part of a slot's time that is promised, costs included.
    pub fn promised(&self, slot: SlotId) -> Option<Fraction> {
        self.slots.get(slot.0).map(|slot| slot.promises.reserved())
    }

    /// The length of a fair task's next turn.
    pub fn slice(&self) -> Span {
        self.slice_length
            .length(&self.config, self.fair.runnable(Band::Fair))
    }

    /// What a switch costs, as measured: the average of how much longer slots were held than tasks ran. If it nears
    /// [`Config::preemption_cost`], the promises rest on sand.
    pub fn measured_cost(&self) -> Span {
        self.slice_length.cost()
    }

    /// A task that is nowhere any more.
    pub(crate) fn forget(&mut self, index: usize) {
        self.fair.depart(&mut self.registry, index);
        let Some(entry) = self.registry.tasks.remove(index) else {
            return;
        };
        self.registry.task_ids.remove(&entry.id);
        if let Some(tenant) = self.registry.tenants.get_mut(entry.tenant) {
            tenant.tasks = tenant.tasks.saturating_sub(1);
        }
    }

    /// Gives back what removed real-time tasks were promised, if a slot has no job left.
    pub(crate) fn settle_promises(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let runs_job = matches!(
            slot.running,
            Some(Running {
                rank: Rank::RealTime { .. },
                ..
            })
        );
        if slot.promises.ready.is_empty() && !runs_job && slot.promises.forget_departed() {
            self.sort_slots();
        }
    }

    fn add_tenant(&mut self, id: TenantId, tenant: Tenant) {
        let index = self.registry.tenants.insert(TenantEntry {
            shares: tenant.shares,
            quota: tenant.cap.map(|cap| Quota::new(cap, self.now)),
            real_time: tenant.real_time,
            reserved: Fraction::ZERO,
            queues: Default::default(),
            throttled: false,
            tasks: 0,
            usage: Usage::default(),
        });
        self.registry.tenant_ids.insert(id, index);
    }

    /// Finds the first slot whose promises leave room for another. First, not emptiest: slots without promises are where fair tasks are
    /// left alone, and a full slot and an empty one take a large task that two half full ones do not.
    fn promise(&self, tenant: usize, timing: Timing) -> Result<Reservation, Refused> {
        if !timing.is_in_order() {
            let Timing {
                period,
                budget,
                deadline,
            } = timing;
            return Err(Refused::Timing {
                budget,
                deadline,
                period,
                longest: Timing::LONGEST_PERIOD,
            });
        }
        let demand = Demand::new(timing, &self.config);
        if let Some(entry) = self.registry.tenants.get(tenant) {
            check_reserved(entry.reserved + demand.share(), &entry.terms(), self.config.slots)?;
        }
        let mut best = None;
        for (index, slot) in self.slots.iter().enumerate() {
            let demands: Vec<Demand> = slot.promises.demands().chain([demand]).collect();
            let Err(unfit) = admission::fits(&demands, &self.config) else {
                return Ok(Reservation::new(timing, index));
            };
            let free = self.config.real_time_share - slot.promises.reserved();
            if best.is_none_or(|(most, _, _)| free > most) {
                best = Some((free, index, unfit));
            }
        }
        Err(match best {
            Some((_, slot, Unfit::Deadline { within, demand })) => Refused::Deadline {
                slot: SlotId(slot),
                within,
                demand,
            },
            Some((_, _, Unfit::Undecided { steps })) => Refused::Undecided { steps },
            Some((free, _, Unfit::Share)) => Refused::Share {
                needed: demand.share(),
                free,
            },
            None => Refused::Share {
                needed: demand.share(),
                free: Fraction::ZERO,
            },
        })
    }

    fn sort_slots(&mut self) {
        let slots = &self.slots;
        self.calm_first
            .sort_by_key(|index| slots.get(*index).map(|slot| slot.promises.reserved()));
    }
}

fn check_cap(cap: Option<Cap>) -> Result<(), Refused> {
    let Some(Cap { quota, period }) = cap else {
        return Ok(());
    };
    if quota.is_zero() || period.is_zero() || period > Timing::LONGEST_PERIOD {
        return Err(Refused::Cap {
            quota,
            period,
            longest: Timing::LONGEST_PERIOD,
        });
    }
    Ok(())
}

/// Whether a tenant on these terms may have promises for `needed` of a slot's time.
fn check_reserved(needed: Fraction, terms: &Tenant, slots: usize) -> Result<(), Refused> {
    let limit = terms.real_time * u64::try_from(slots).unwrap_or(u64::MAX);
    if needed > limit {
        return Err(Refused::TenantShare { needed, limit });
    }
    let cap = terms.cap.map(|cap| Fraction::of(cap.quota, cap.period));
    match cap {
        Some(cap) if needed > cap => Err(Refused::TenantCap { needed, cap }),
        _ => Ok(()),
    }
}

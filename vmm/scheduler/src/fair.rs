//! Fair shares on two levels: slots are shared among tenants, and what a tenant has among its tasks, each in proportion to shares.
//!
//! This is start-time fair queueing, which stays fair whatever part of the slots real-time tasks leave over (Goyal, Guo and Vin, 1996),
//! with several slots at once (SFQ(D): Jin, Chase and Kaur, 2004). Each tenant, and each task within its tenant, has a **tag**: the
//! slot time that it had, divided by its shares. The least tag is next. A slice is added to the tags when it is given, so that several
//! slots do not all choose the same tenant, and put right when it has ended.
//!
//! A **clock** on each level follows the tags of those who are chosen. Who wakes or is new begins at the clock, not at the tag it went
//! to sleep with: nobody saves credit by sleeping, and nobody has to wait until all others have caught up with it.

use crate::heap::{Heap, Places};
use crate::slab::Slab;
use crate::task::{Registry, Shares, State, TenantEntry, Work};
use crate::time::{Span, Time};

/// The two kinds of tasks that share by weight; the second has what the first leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Band {
    Fair,
    Background,
}

/// What was chosen to run, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) task: usize,
    pub(crate) budget: Span,
}

/// Both bands, and the tenants that wait for their quota.
#[derive(Debug)]
pub(crate) struct FairShares {
    bands: Bands,
    throttled: Heap<Time>,
    throttled_places: Places,
    slice_min: Span,
    slice_max: Span,
    /// The furthest that a tag is pushed ahead of its clock, as time before it is divided by shares.
    most_owed: Span,
}

impl FairShares {
    pub(crate) fn new(slots: usize, slice_min: Span, slice_max: Span) -> Self {
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        Self {
            bands: Bands::default(),
            throttled: Heap::default(),
            throttled_places: Places::default(),
            slice_min,
            slice_max,
            most_owed: LEAST_LIMIT_OF_DEBT.max(slice_max * slots * 2),
        }
    }

    /// Tasks that wait and may be chosen.
    pub(crate) fn waiting(&self, band: Band) -> usize {
        self.bands.of(band).waiting
    }

    /// Tasks that wait and may be chosen, and those that run.
    pub(crate) fn runnable(&self, band: Band) -> usize {
        self.bands.of(band).waiting + self.bands.of(band).running
    }

    /// Lets a task wait. One that `rested` keeps nothing from before; one that was made to stop, no more than a slice.
    pub(crate) fn enqueue(&mut self, registry: &mut Registry, task: usize, rested: bool) {
        let slice_max = self.slice_max;
        let credit = |rested, shares| if rested { 0 } else { stretch(slice_max, shares) };
        let Some(entry) = registry.tasks.get_mut(task) else {
            return;
        };
        let Some(tenant) = registry.tenants.get_mut(entry.tenant) else {
            return;
        };
        let Work::Shared { band, shares, flow } = &mut entry.work else {
            return;
        };
        let (tenant_shares, is_throttled) = (tenant.shares, tenant.throttled);

        let was_asleep = std::mem::replace(&mut entry.state, State::Ready) == State::Asleep;
        let queue = tenant.queue(*band);
        if was_asleep {
            queue.level.awake += Virtual::from(shares.count());
        }
        flow.arrive(queue.level.clock, credit(rested, *shares));
        queue.level.put(*flow, task, &mut registry.places);
        if is_throttled {
            return;
        }
        let root = self.bands.of_mut(*band);
        root.waiting += 1;
        if queue.waiting() == 1 {
            let rested = rested && queue.running == 0;
            queue.flow.arrive(root.level.clock, credit(rested, tenant_shares));
            root.level.put(queue.flow, entry.tenant, &mut root.places);
        }
    }

    /// Lets a task that ran sleep.
    pub(crate) fn rest(&mut self, registry: &mut Registry, task: usize) {
        let Some(entry) = registry.tasks.get_mut(task) else {
            return;
        };
        let Some(tenant) = registry.tenants.get_mut(entry.tenant) else {
            return;
        };
        let Work::Shared { band, shares, .. } = entry.work else {
            return;
        };
        entry.state = State::Asleep;
        let level = &mut tenant.queue(band).level;
        level.awake = level.awake.saturating_sub(shares.count().into());
    }

    /// Takes a task out for good. What it had ahead of its tenant's clock moves the clock, as far as if all had had it together: an
    /// endless stream of tasks that come, run once and go does not keep those waiting who stay.
    pub(crate) fn depart(&mut self, registry: &mut Registry, task: usize) {
        let Some(entry) = registry.tasks.get_mut(task) else {
            return;
        };
        let Some(tenant) = registry.tenants.get_mut(entry.tenant) else {
            return;
        };
        let Work::Shared { band, shares, flow } = entry.work else {
            return;
        };
        let is_throttled = tenant.throttled;
        let queue = tenant.queue(band);
        let shares = Virtual::from(shares.count());
        let counted = if entry.state == State::Asleep { 0 } else { shares };
        let others = queue.level.awake.saturating_sub(counted);
        let ahead = flow.tag.saturating_sub(queue.level.clock);
        let step = ahead.saturating_mul(shares) / others.saturating_add(shares);
        queue.level.clock = queue.level.clock.saturating_add(step);
        queue.level.awake = others;
        if queue.level.waiting.remove(task, &mut registry.places) && !is_throttled {
            let root = self.bands.of_mut(band);
            root.waiting = root.waiting.saturating_sub(1);
            if queue.waiting() == 0 {
                root.level.waiting.remove(entry.tenant, &mut root.places);
            }
        }
    }

    /// Chooses the next task of a band and begins its slice, of at most `slice`.
    pub(crate) fn choose(
        &mut self,
        registry: &mut Registry,
        band: Band,
        slice: Span,
        now: Time,
    ) -> Option<Choice> {
        loop {
            let root = self.bands.of_mut(band);
            let (_, index) = root.level.waiting.peek()?;
            let tenant = registry.tenants.get_mut(index)?;
            let least = self.slice_min;
            let budget = tenant
                .quota
                .as_mut()
                .map_or(slice, |quota| quota.available(least, now).min(slice));
            if budget.is_zero() {
                self.throttle(tenant, index);
                continue;
            }
            let tenant_shares = tenant.shares;
            let queue = tenant.queue(band);
            let (_, task) = queue.level.waiting.pop(&mut registry.places)?;
            root.level.follow(&mut queue.flow, stretch(budget, tenant_shares));
            let entry = registry.tasks.get_mut(task)?;
            if let Work::Shared { shares, flow, .. } = &mut entry.work {
                queue.level.follow(flow, stretch(budget, *shares));
            }
            entry.state = State::Running;

            queue.running += 1;
            root.running += 1;
            root.waiting = root.waiting.saturating_sub(1);
            if queue.waiting() == 0 {
                root.level.waiting.remove(index, &mut root.places);
            } else {
                root.level.put(queue.flow, index, &mut root.places);
            }
            if let Some(quota) = &mut tenant.quota {
                quota.reserve(budget);
            }
            return Some(Choice { task, budget });
        }
    }

    /// Ends a slice that was chosen with `budget` and held its slot for `charged`.
    pub(crate) fn settle(
        &mut self,
        registry: &mut Registry,
        task: usize,
        budget: Span,
        charged: Span,
        now: Time,
    ) {
        let Some(entry) = registry.tasks.get_mut(task) else {
            return;
        };
        let Some(tenant) = registry.tenants.get_mut(entry.tenant) else {
            return;
        };
        let Work::Shared { band, shares, flow } = &mut entry.work else {
            return;
        };
        let most_owed = self.most_owed;
        let root = self.bands.of_mut(*band);
        root.running = root.running.saturating_sub(1);
        let queue = tenant.queue(*band);
        queue.running = queue.running.saturating_sub(1);
        queue.level.correct(flow, *shares, budget, charged, most_owed);
        let (index, band) = (entry.tenant, *band);
        self.charge(tenant, index, band, budget, charged, now);
    }

    /// Counts what a real-time task had against its tenant's shares and cap. Its promise is not touched by either.
    pub(crate) fn charge_real_time(
        &mut self,
        tenants: &mut Slab<TenantEntry>,
        tenant: usize,
        charged: Span,
        now: Time,
    ) {
        if let Some(entry) = tenants.get_mut(tenant) {
            self.charge(entry, tenant, Band::Fair, Span::ZERO, charged, now);
        }
    }

    /// Gives a tenant other shares, and what it owes in proportion.
    pub(crate) fn reweigh(&mut self, tenant: &mut TenantEntry, index: usize, shares: Shares) {
        let before = std::mem::replace(&mut tenant.shares, shares);
        for band in [Band::Fair, Band::Background] {
            let root = self.bands.of_mut(band);
            let flow = &mut tenant.queue(band).flow;
            let ahead = flow.tag.saturating_sub(root.level.clock);
            let ahead = ahead.saturating_mul(before.count().into()) / Virtual::from(shares.count());
            flow.tag = flow.tag.min(root.level.clock).saturating_add(ahead);
            root.rekey(*flow, index);
        }
    }

    /// Lets a tenant be chosen again, until it is seen that its quota is used up.
    pub(crate) fn resume(&mut self, tenant: &mut TenantEntry, index: usize) {
        self.throttled.remove(index, &mut self.throttled_places);
        if !std::mem::replace(&mut tenant.throttled, false) {
            return;
        }
        for band in [Band::Fair, Band::Background] {
            let (root, queue) = (self.bands.of_mut(band), tenant.queue(band));
            if queue.waiting() > 0 {
                queue.flow.arrive(root.level.clock, 0);
                root.level.put(queue.flow, index, &mut root.places);
                root.waiting += queue.waiting();
            }
        }
    }

    /// Lets tenants be chosen again whose next window has begun.
    pub(crate) fn refill(&mut self, tenants: &mut Slab<TenantEntry>, now: Time) {
        while let Some((_, index)) = self.throttled.peek().filter(|(at, _)| *at <= now) {
            self.throttled.remove(index, &mut self.throttled_places);
            if let Some(tenant) = tenants.get_mut(index) {
                self.resume(tenant, index);
            }
        }
    }

    /// When a tenant has its quota anew.
    pub(crate) fn next_refill(&self) -> Option<Time> {
        self.throttled.peek().map(|(at, _)| at)
    }

    fn throttle(&mut self, tenant: &mut TenantEntry, index: usize) {
        for band in [Band::Fair, Band::Background] {
            let (root, queue) = (self.bands.of_mut(band), tenant.queue(band));
            if root.level.waiting.remove(index, &mut root.places) {
                root.waiting = root.waiting.saturating_sub(queue.waiting());
            }
        }
        tenant.throttled = true;
        let at = tenant.quota.map_or(Time::ZERO, |quota| quota.next_window());
        self.throttled.put(at, index, &mut self.throttled_places);
    }

    fn charge(
        &mut self,
        tenant: &mut TenantEntry,
        index: usize,
        band: Band,
        budget: Span,
        charged: Span,
        now: Time,
    ) {
        let (shares, most_owed) = (tenant.shares, self.most_owed);
        let root = self.bands.of_mut(band);
        let flow = &mut tenant.queue(band).flow;
        root.level.correct(flow, shares, budget, charged, most_owed);
        root.rekey(*flow, index);
        if let Some(quota) = &mut tenant.quota {
            quota.settle(budget, charged, now);
            if tenant.throttled && !quota.available(self.slice_min, now).is_zero() {
                self.resume(tenant, index);
            }
        }
    }
}

/// One who has a weight: a tenant, or a task within its tenant.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Flow {
    tag: Virtual,
}

impl Flow {
    /// Begins to wait at `clock`, with no more than `credit` from before.
    fn arrive(&mut self, clock: Virtual, credit: Virtual) {
        self.tag = self.tag.max(clock.saturating_sub(credit));
    }
}

/// A tenant's tasks of one band, and the tenant's own tag in it.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    flow: Flow,
    level: Level,
    running: usize,
}

impl Queue {
    pub(crate) fn waiting(&self) -> usize {
        self.level.waiting.len()
    }
}

/// Those of one level that wait, by tag and then by arrival.
#[derive(Debug, Default)]
struct Level {
    clock: Virtual,
    waiting: Heap<(Virtual, u64)>,
    arrivals: u64,
    /// The shares of all tasks that wait or run; not counted for tenants.
    awake: Virtual,
}

impl Level {
    fn put(&mut self, flow: Flow, member: usize, places: &mut Places) {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.waiting.put((flow.tag, self.arrivals), member, places);
    }

    /// `flow` was chosen and is given `planned`.
    fn follow(&mut self, flow: &mut Flow, planned: Virtual) {
        self.clock = self.clock.max(flow.tag);
        flow.tag = flow.tag.saturating_add(planned);
    }

    /// Puts right that `planned` was added to `flow` and `charged` was had. What would be owed beyond `most` is forgiven: a task that
    /// held a slot while the whole machine stood still is not made to wait for as long again.
    fn correct(&self, flow: &mut Flow, shares: Shares, planned: Span, charged: Span, most: Span) {
        let limit = flow.tag.max(self.clock.saturating_add(stretch(most, shares)));
        let tag = flow.tag.saturating_sub(stretch(planned, shares));
        flow.tag = tag.saturating_add(stretch(charged, shares)).min(limit);
    }
}

/// Tenants that have something waiting in one band, except those whose quota is used up.
#[derive(Debug, Default)]
struct Root {
    level: Level,
    places: Places,
    /// Tasks in the queues of these tenants.
    waiting: usize,
    /// Tasks of all tenants that run.
    running: usize,
}

impl Root {
    fn rekey(&mut self, flow: Flow, tenant: usize) {
        if self.level.waiting.contains(tenant, &self.places) {
            self.level.put(flow, tenant, &mut self.places);
        }
    }
}

#[derive(Debug, Default)]
struct Bands {
    fair: Root,
    background: Root,
}

impl Bands {
    fn of(&self, band: Band) -> &Root {
        match band {
            Band::Fair => &self.fair,
            Band::Background => &self.background,
        }
    }

    fn of_mut(&mut self, band: Band) -> &mut Root {
        match band {
            Band::Fair => &mut self.fair,
            Band::Background => &mut self.background,
        }
    }
}

/// Time divided by shares, in 2⁻²⁰ nanoseconds, so that single nanoseconds count at the greatest weight too.
type Virtual = u128;

fn stretch(span: Span, shares: Shares) -> Virtual {
    (Virtual::from(span.as_ns()) << 20) / Virtual::from(shares.count())
}

/// No tenant waits longer than this, divided by its shares, for what it had too much of, unless many long slices were given at once.
const LEAST_LIMIT_OF_DEBT: Span = Span::from_ms(1_000);

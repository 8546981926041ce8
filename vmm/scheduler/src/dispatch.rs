//! What happens, and who runs next because of it.
//!
//! The order is always the same: a slot's own real-time jobs by deadline, then fair tasks, then background tasks. Whoever runs is asked
//! to stop only for somebody of a higher kind, or of an earlier deadline; fair tasks take turns when their slices end.

use crate::error::Misuse;
use crate::fair::Band;
use crate::scheduler::{Rank, Running, Scheduler, Slot};
use crate::task::{SlotId, State, TaskId, Work};
use crate::time::{Span, Time};

/// What the caller is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Let `task` run in `slot`, which is free, for at most `budget`; then say [`stopped`](Scheduler::stopped). If it cannot be started,
    /// say that it stopped at once.
    Run {
        /// Where.
        slot: SlotId,
        /// Who.
        task: TaskId,
        /// For how long.
        budget: Span,
    },
    /// Have the task in `slot` stop, and say [`stopped`](Scheduler::stopped) when it has. Said once for each slice at most.
    Preempt {
        /// Where.
        slot: SlotId,
    },
}

impl Scheduler {
    /// A task has work. One that has some already, or waits for its next release, is left as it is; one that runs is taken to have
    /// more than its worker knows of.
    pub fn wake(&mut self, task: TaskId, now: Time) -> Result<(), Misuse> {
        let now = self.advance(now);
        let index = *self.registry.task_ids.get(&task).ok_or(Misuse::NoTask(task))?;
        let entry = self.registry.tasks.get_mut(index).ok_or(Misuse::NoTask(task))?;
        match entry.state {
            _ if entry.leaving => Err(Misuse::NoTask(task)),
            State::Waiting | State::Ready => Ok(()),
            State::Running => {
                entry.woken = true;
                Ok(())
            }
            State::Asleep => {
                match entry.work {
                    Work::RealTime(_) => self.await_release(index, now),
                    Work::Shared { .. } => self.fair.enqueue(&mut self.registry, index, true),
                }
                Ok(())
            }
        }
    }

    /// The slice in `slot` has ended: its task ran for `used`, and is `still_ready` or has nothing more to do. Says which task it was.
    pub fn stopped(
        &mut self,
        slot: SlotId,
        used: Span,
        still_ready: bool,
        now: Time,
    ) -> Result<TaskId, Misuse> {
        let now = self.advance(now);
        let place = self.slots.get_mut(slot.0).ok_or(Misuse::NotRunning(slot))?;
        let slice = place.running.take().ok_or(Misuse::NotRunning(slot))?;
        let held = now.since(slice.started);
        self.slice_length.measure(held - used);
        let id = self.account(&slice, used, held);
        match slice.rank {
            Rank::RealTime { .. } => self.end_job_slice(&slice, used, still_ready, now),
            Rank::Fair | Rank::Background => self.end_turn(&slice, used, still_ready, now),
        }
        self.settle_promises(slot.0);
        id.ok_or(Misuse::NotRunning(slot))
    }

    /// Adds to `decisions` what is to be done now. Every decision counts as done: a slot that is told to run is taken until
    /// [`stopped`](Self::stopped). Afterwards no slot is free that anybody who may run in it waits for.
    pub fn decide(&mut self, now: Time, decisions: &mut Vec<Decision>) {
        let now = self.advance(now);
        for index in 0..self.slots.len() {
            self.serve_promises(index, now, decisions);
        }
        for position in 0..self.calm_first.len() {
            if self.fair.waiting(Band::Fair) + self.fair.waiting(Band::Background) == 0 {
                break;
            }
            self.serve_others(position, now, decisions);
        }
        self.make_room(decisions);
    }

    /// When to ask [`decide`](Self::decide) again if nothing else happens before: a real-time job is released, or a tenant has its quota
    /// anew.
    pub fn next_event(&self) -> Option<Time> {
        let release = self.releases.peek().map(|(at, _)| at);
        release.into_iter().chain(self.fair.next_refill()).min()
    }

    /// Moves on to `now` and does what is due by then, so that nobody is judged by who was there before.
    fn advance(&mut self, now: Time) -> Time {
        self.now = self.now.max(now);
        while let Some((at, task)) = self.releases.peek().filter(|(at, _)| *at <= self.now) {
            self.releases.remove(task, &mut self.registry.places);
            self.release(task, at);
        }
        self.fair.refill(&mut self.registry.tenants, self.now);
        self.now
    }

    fn await_release(&mut self, task: usize, now: Time) {
        let Some(entry) = self.registry.tasks.get_mut(task) else {
            return;
        };
        let Work::RealTime(reservation) = &entry.work else {
            return;
        };
        let at = reservation.next_release(now);
        if at <= now {
            self.release(task, at);
        } else {
            entry.state = State::Waiting;
            self.releases.put(at, task, &mut self.registry.places);
        }
    }

    fn release(&mut self, task: usize, at: Time) {
        let Some(entry) = self.registry.tasks.get_mut(task) else {
            return;
        };
        let Work::RealTime(reservation) = &mut entry.work else {
            return;
        };
        reservation.release(at);
        self.make_ready(task);
    }

    fn make_ready(&mut self, task: usize) {
        let Some(entry) = self.registry.tasks.get_mut(task) else {
            return;
        };
        let Work::RealTime(reservation) = &entry.work else {
            return;
        };
        entry.state = State::Ready;
        self.released = self.released.wrapping_add(1);
        if let Some(slot) = self.slots.get_mut(reservation.slot) {
            slot.promises.ready.put(
                (reservation.due(), self.released),
                task,
                &mut self.registry.places,
            );
        }
    }

    fn account(&mut self, slice: &Running, used: Span, held: Span) -> Option<TaskId> {
        let entry = self.registry.tasks.get_mut(slice.task)?;
        let tenant = self.registry.tenants.get_mut(entry.tenant)?;
        for usage in [&mut entry.usage, &mut tenant.usage] {
            usage.used += used;
            usage.held += held;
            usage.slices += 1;
            usage.preempted += u64::from(slice.is_preempted);
        }
        Some(entry.id)
    }

    fn end_job_slice(&mut self, slice: &Running, used: Span, still_ready: bool, now: Time) {
        let held = now.since(slice.started);
        let Some(entry) = self.registry.tasks.get_mut(slice.task) else {
            return;
        };
        let Work::RealTime(reservation) = &mut entry.work else {
            return;
        };
        reservation.charge(slice.budget, used, held, self.config.preemption_cost);
        if slice.is_preempted {
            reservation.interrupted();
        }
        let has_more = std::mem::take(&mut entry.woken) || still_ready;
        let is_over = !has_more || reservation.left().is_zero();
        let is_late = is_over && now > reservation.due();
        let (tenant, leaving) = (entry.tenant, entry.leaving);
        entry.usage.jobs += u64::from(is_over);
        entry.usage.late += u64::from(is_late);
        if let Some(tenant) = self.registry.tenants.get_mut(tenant) {
            tenant.usage.jobs += u64::from(is_over);
            tenant.usage.late += u64::from(is_late);
        }
        self.fair
            .charge_real_time(&mut self.registry.tenants, tenant, held, now);
        match (leaving, has_more, is_over) {
            (true, _, _) => self.forget(slice.task),
            (false, false, _) => self.end_job(slice.task),
            (false, true, true) => self.await_release(slice.task, now),
            (false, true, false) => self.make_ready(slice.task),
        }
    }

    fn end_turn(&mut self, slice: &Running, used: Span, still_ready: bool, now: Time) {
        let charged = now.since(slice.started).max(used.min(slice.budget));
        self.fair
            .settle(&mut self.registry, slice.task, slice.budget, charged, now);
        let Some(entry) = self.registry.tasks.get_mut(slice.task) else {
            return;
        };
        let woken = std::mem::take(&mut entry.woken);
        if entry.leaving {
            self.forget(slice.task);
        } else if still_ready || woken {
            self.fair.enqueue(&mut self.registry, slice.task, false);
        } else {
            self.fair.rest(&mut self.registry, slice.task);
        }
    }

    fn end_job(&mut self, task: usize) {
        if let Some(entry) = self.registry.tasks.get_mut(task) {
            entry.state = State::Asleep;
        }
    }

    /// Starts the slot's most urgent job if it is free, or asks who is in its way to stop.
    fn serve_promises(&mut self, index: usize, now: Time, decisions: &mut Vec<Decision>) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        let next = slot.promises.ready.peek();
        if let Some(running) = &mut slot.running {
            let is_leaving = self
                .registry
                .tasks
                .get(running.task)
                .is_some_and(|entry| entry.leaving);
            let is_overtaken = next.is_some_and(|((due, _), _)| Rank::RealTime { due } < running.rank);
            if (is_leaving || is_overtaken) && !running.is_preempted {
                running.is_preempted = true;
                decisions.push(Decision::Preempt { slot: SlotId(index) });
            }
            return;
        }
        let Some(((due, _), task)) = next else { return };
        slot.promises.ready.remove(task, &mut self.registry.places);
        let Some(entry) = self.registry.tasks.get_mut(task) else {
            return;
        };
        let Work::RealTime(reservation) = &entry.work else {
            return;
        };
        entry.state = State::Running;
        let (id, budget) = (entry.id, reservation.left());
        self.start(
            index,
            id,
            Running::new(task, Rank::RealTime { due }, budget, now),
            decisions,
        );
    }

    /// Gives a free slot to a fair task, or to a background task if there is none.
    fn serve_others(&mut self, position: usize, now: Time, decisions: &mut Vec<Decision>) {
        let Some(index) = self.calm_first.get(position).copied() else {
            return;
        };
        if self.slots.get(index).is_none_or(|slot| slot.running.is_some()) {
            return;
        }
        for (band, rank) in [(Band::Fair, Rank::Fair), (Band::Background, Rank::Background)] {
            let slice = self.slice_length.length(&self.config, self.fair.runnable(band));
            if let Some(choice) = self.fair.choose(&mut self.registry, band, slice, now) {
                let Some(entry) = self.registry.tasks.get(choice.task) else {
                    return;
                };
                let running = Running::new(choice.task, rank, choice.budget, now);
                self.start(index, entry.id, running, decisions);
                return;
            }
        }
    }

    fn start(&mut self, index: usize, task: TaskId, running: Running, decisions: &mut Vec<Decision>) {
        if let Some(slot) = self.slots.get_mut(index) {
            slot.running = Some(running);
            decisions.push(Decision::Run {
                slot: SlotId(index),
                task,
                budget: running.budget,
            });
        }
    }

    /// Has as many background tasks stop as fair tasks wait for a slot that is not about to be free anyway.
    fn make_room(&mut self, decisions: &mut Vec<Decision>) {
        let mut wanted = self.fair.waiting(Band::Fair);
        if wanted == 0 {
            return;
        }
        let freeing = |slot: &&Slot| {
            slot.promises.ready.is_empty() && slot.running.is_some_and(|running| running.is_preempted)
        };
        wanted = wanted.saturating_sub(self.slots.iter().filter(freeing).count());
        for index in &self.calm_first {
            if wanted == 0 {
                return;
            }
            let Some(Some(running)) = self.slots.get_mut(*index).map(|slot| &mut slot.running) else {
                continue;
            };
            if running.rank == Rank::Background && !running.is_preempted {
                running.is_preempted = true;
                wanted -= 1;
                decisions.push(Decision::Preempt { slot: SlotId(*index) });
            }
        }
    }
}

impl Running {
    fn new(task: usize, rank: Rank, budget: Span, started: Time) -> Self {
        Self {
            task,
            rank,
            started,
            budget,
            is_preempted: false,
        }
    }
}

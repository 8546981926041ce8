//! Turns: which call has one of the host's slots, when and for how long. The scheduler decides; here its decisions meet the calls.
//!
//! ```text
//!   call ─ enter ─► Place ─ turn ─► wake, decide ─► Run ─► Turn ─ the worker runs a piece ─► stopped, decide ─► …
//!                                                   Preempt ─────► the worker is told to stop the piece
//! ```
//! A task of the scheduler is a call, or, in the real-time class, a deployment whose calls are its jobs. Its tenant is the publisher.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use referee_scheduler::{
    Cap, Class, Decision, Fraction, Scheduler, Shares, SlotId, Span, TaskId, Tenant, TenantId, Time, Timing,
    Usage,
};
use tokio::sync::{Notify, oneshot};

use crate::config::{Config, TenantShare};
use crate::crew::Worker;
use crate::error::{NodeError, OrHost};
use crate::settings::{Priority, SHARES_MAX};

/// The host's slots and who has them. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Turns(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    began: Instant,
    tenants: std::collections::BTreeMap<String, TenantShare>,
    state: Mutex<State>,
    /// The scheduler wants to be asked at another time than the one that is waited for.
    sooner: Notify,
}

#[derive(Debug)]
struct State {
    scheduler: Scheduler,
    tenants: HashMap<String, TenantId>,
    tasks: u64,
    /// Those that were promised time.
    promised: HashSet<TaskId>,
    waiting: HashMap<TaskId, oneshot::Sender<Turn>>,
    running: HashMap<SlotId, Option<Running>>,
    decisions: Vec<Decision>,
    next_event: Option<Time>,
}

/// What has a slot.
#[derive(Debug, Clone)]
struct Running {
    worker: Arc<Worker>,
    call: u64,
}

/// A task of the scheduler, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    turns: Turns,
    task: TaskId,
}

/// A slot, for a while.
#[derive(Debug)]
pub(crate) struct Turn {
    turns: Turns,
    slot: SlotId,
    /// How long it may run.
    pub budget: Duration,
    /// Whether it is of one that was promised nothing, while another was: then whoever runs in it lets the host's other threads go first now and then.
    pub makes_way: bool,
    /// None once it is over.
    began: Option<Instant>,
}

impl Turns {
    /// For a host with so many slots.
    ///
    /// # Errors
    /// [`NodeError::Config`] when the figures have no sense.
    pub(crate) fn new(config: &Config, slots: usize) -> Result<Turns, NodeError> {
        let scheduling = &config.scheduling;
        let mut figures = referee_scheduler::Config::for_slots(slots);
        figures.slice_min = Span::from_us(scheduling.slice_min_us);
        figures.slice_max = Span::from_us(scheduling.slice_max_us);
        figures.preemption_cost = Span::from_us(scheduling.preemption_cost_us);
        figures.stop_latency = Span::from_us(scheduling.stop_latency_us);
        figures.real_time_share = Fraction::percent(scheduling.real_time_percent);
        let scheduler =
            Scheduler::new(figures).map_err(|error| NodeError::Config(format!("scheduling: {error}")))?;
        Ok(Turns(Arc::new(Shared {
            began: Instant::now(),
            tenants: config.tenants.clone(),
            state: Mutex::new(State {
                scheduler,
                tenants: HashMap::new(),
                tasks: 0,
                promised: HashSet::new(),
                waiting: HashMap::new(),
                running: HashMap::new(),
                decisions: Vec::new(),
                next_event: None,
            }),
            sooner: Notify::new(),
        })))
    }

    /// A task of this publisher's.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the figures, when it cannot be guaranteed what the priority asks for.
    pub(crate) fn enter(&self, publisher: &str, priority: &Priority) -> Result<Place, NodeError> {
        let mut state = self.lock();
        let tenant = match state.tenants.get(publisher) {
            Some(tenant) => *tenant,
            None => {
                let tenant = TenantId(u64::try_from(state.tenants.len()).unwrap_or(u64::MAX));
                state
                    .scheduler
                    .set_tenant(tenant, self.tenant(publisher))
                    .or_host("setting a tenant up")?;
                state.tenants.insert(publisher.to_owned(), tenant);
                tenant
            }
        };
        state.tasks += 1;
        let task = TaskId(state.tasks);
        state
            .scheduler
            .admit(task, tenant, class(priority))
            .map_err(|refused| NodeError::Rejected {
                name: "not-schedulable".into(),
                message: format!("this host cannot promise it: {refused}"),
            })?;
        if matches!(priority, Priority::RealTime { .. }) {
            state.promised.insert(task);
        }
        Ok(Place {
            turns: self.clone(),
            task,
        })
    }

    /// Asks the scheduler whenever it wants to be asked, for as long as the service lives.
    pub(crate) async fn keep_time(&self) {
        loop {
            let sooner = self.0.sooner.notified();
            let next = self.lock().next_event;
            match next {
                None => sooner.await,
                Some(at) => {
                    let at = self.0.began + Duration::from_nanos(at.as_ns());
                    tokio::select! {
                        () = tokio::time::sleep_until(at.into()) => self.decide(&mut self.lock()),
                        () = sooner => {}
                    }
                }
            }
        }
    }

    /// Slots that nobody has.
    pub(crate) fn free(&self, slots: usize) -> usize {
        slots.saturating_sub(self.lock().running.len())
    }

    /// What each publisher's calls had.
    pub(crate) fn usage(&self) -> Vec<(String, Usage)> {
        let state = self.lock();
        let usage = |(name, tenant): (&String, &TenantId)| {
            Some((name.clone(), state.scheduler.tenant_usage(*tenant)?))
        };
        state.tenants.iter().filter_map(usage).collect()
    }

    fn tenant(&self, publisher: &str) -> Tenant {
        let share = self.0.tenants.get(publisher).cloned().unwrap_or_default();
        Tenant {
            shares: shares(share.shares),
            cap: share.cap.map(|cap| Cap {
                quota: Span::from_ms(cap.quota_ms),
                period: Span::from_ms(cap.period_ms),
            }),
            real_time: Fraction::percent(share.real_time_percent),
        }
    }

    fn decide(&self, state: &mut State) {
        let now = self.now();
        let mut decisions = std::mem::take(&mut state.decisions);
        loop {
            decisions.clear();
            state.scheduler.decide(now, &mut decisions);
            let mut refused = false;
            for decision in &decisions {
                match *decision {
                    Decision::Run { slot, task, budget } => {
                        refused |= !self.run(state, slot, task, budget, now);
                    }
                    Decision::Preempt { slot } => preempt(state, slot),
                }
            }
            // A slot that was given to nobody is to be given again.
            if !refused {
                break;
            }
        }
        state.decisions = decisions;
        let next = state.scheduler.next_event();
        if next != state.next_event {
            state.next_event = next;
            self.0.sooner.notify_one();
        }
    }

    /// Gives a task its turn; false when it does not wait for one any more.
    fn run(&self, state: &mut State, slot: SlotId, task: TaskId, budget: Span, now: Time) -> bool {
        let turn = Turn {
            turns: self.clone(),
            slot,
            budget: Duration::from_nanos(budget.as_ns()),
            makes_way: !state.promised.is_empty() && !state.promised.contains(&task),
            began: Some(Instant::now()),
        };
        let waiting = state.waiting.remove(&task);
        let unwanted = match waiting {
            Some(waiting) => waiting.send(turn).err(),
            None => Some(turn),
        };
        let Some(mut unwanted) = unwanted else {
            state.running.insert(slot, None);
            return true;
        };
        // Its end would wait for the lock that is held here.
        unwanted.began = None;
        // The slot was just given, so this cannot be misuse.
        let _ = state.scheduler.stopped(slot, Span::from_ns(0), false, now);
        false
    }

    fn stopped(&self, slot: SlotId, used: Duration, still_ready: bool, state: &mut State) {
        let used = Span::from_ns(u64::try_from(used.as_nanos()).unwrap_or(u64::MAX));
        state.running.remove(&slot);
        // The turn is one that was given and is ended once, so this cannot be misuse.
        let _ = state.scheduler.stopped(slot, used, still_ready, self.now());
        self.decide(state);
    }

    fn now(&self) -> Time {
        Time::from_ns(u64::try_from(self.0.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn preempt(state: &State, slot: SlotId) {
    // One that has not begun has a budget that ends it.
    if let Some(Some(Running { worker, call })) = state.running.get(&slot).cloned()
        && let Ok(runtime) = tokio::runtime::Handle::try_current()
    {
        runtime.spawn(async move { worker.preempt(call).await });
    }
}

impl Place {
    /// Waits for a slot.
    pub(crate) async fn turn(&self) -> Turn {
        let turn = {
            let mut state = self.turns.lock();
            let turn = self.wait(&mut state);
            // The task is this place's, so it is known.
            let _ = state.scheduler.wake(self.task, self.turns.now());
            self.turns.decide(&mut state);
            turn
        };
        self.until(turn).await
    }

    /// Ends a turn whose piece was cut short, and waits for the next.
    pub(crate) async fn next(&self, turn: Turn, used: Duration) -> Turn {
        let next = {
            let mut state = self.turns.lock();
            let next = self.wait(&mut state);
            turn.end_within(&mut state, used, true);
            next
        };
        self.until(next).await
    }

    fn wait(&self, state: &mut State) -> oneshot::Receiver<Turn> {
        let (given, turn) = oneshot::channel();
        state.waiting.insert(self.task, given);
        turn
    }

    async fn until(&self, turn: oneshot::Receiver<Turn>) -> Turn {
        match turn.await {
            Ok(turn) => turn,
            // The sender goes only when the turn comes, or with this place.
            Err(_) => std::future::pending().await,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let given = {
            let mut state = self.turns.lock();
            let given = state.waiting.remove(&self.task);
            state.promised.remove(&self.task);
            // Known until now.
            let _ = state.scheduler.remove(self.task);
            self.turns.decide(&mut state);
            given
        };
        drop(given);
    }
}

impl Turn {
    /// Says what runs in the slot, so that it can be told to stop.
    pub(crate) fn runs(&self, worker: &Arc<Worker>, call: u64) {
        let running = Running {
            worker: Arc::clone(worker),
            call,
        };
        self.turns.lock().running.insert(self.slot, Some(running));
    }

    /// Ends it: what had the slot does not want another now.
    pub(crate) fn end(self, used: Duration) {
        let turns = self.turns.clone();
        self.end_within(&mut turns.lock(), used, false);
    }

    fn end_within(mut self, state: &mut State, used: Duration, still_ready: bool) {
        self.began = None;
        self.turns.clone().stopped(self.slot, used, still_ready, state);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(began) = self.began.take() {
            let turns = self.turns.clone();
            turns.stopped(self.slot, began.elapsed(), false, &mut turns.lock());
        }
    }
}

fn class(priority: &Priority) -> Class {
    match *priority {
        Priority::Fair { shares: count } => Class::Fair {
            shares: shares(count),
        },
        Priority::Background {} => Class::Background,
        Priority::RealTime {
            period_us,
            budget_us,
            deadline_us,
        } => Class::RealTime(Timing {
            period: Span::from_us(period_us),
            budget: Span::from_us(budget_us),
            deadline: Span::from_us(deadline_us.unwrap_or(period_us)),
        }),
    }
}

/// So many; settings and configuration were checked to be within these bounds.
fn shares(count: u32) -> Shares {
    Shares::new(count.clamp(1, SHARES_MAX)).unwrap_or(Shares::ONE)
}

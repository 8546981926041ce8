//! Random sequences of calls beside a model that knows only what the caller was told.

use std::collections::BTreeMap;

use proptest::prelude::*;
use referee_scheduler::{
    Cap, Class, Config, Decision, Fraction, Scheduler, Shares, SlotId, Span, TaskId, Tenant, TenantId, Time,
    Timing,
};

const SLOTS: usize = 3;
const TENANTS: u64 = 3;
/// The last tenant has this cap, and no real-time tasks.
const CAP: Cap = Cap {
    quota: Span::from_ms(8),
    period: Span::from_ms(20),
};
/// The most by which a worker goes on too long here.
const OVERRUN: Span = Span::from_us(300);

#[derive(Clone, Debug)]
enum Op {
    Admit {
        task: u64,
        tenant: u64,
        class: Class,
    },
    Remove {
        task: u64,
    },
    SetShares {
        tenant: u64,
        shares: u32,
    },
    Wake {
        task: u64,
    },
    Stop {
        slot: usize,
        percent: u64,
        still_ready: bool,
    },
    Wait {
        us: u64,
    },
}

fn classes() -> impl Strategy<Value = Class> {
    let timing = (2_u64..40, 1_u64..60, 50_u64..101).prop_map(|(period_ms, budget, deadline)| {
        let period = Span::from_ms(period_ms);
        let part = |percent: u64| Span::from_ns(period.as_ns() / 100 * percent);
        Class::RealTime(Timing {
            period,
            budget: part(budget.min(deadline)),
            deadline: part(deadline),
        })
    });
    prop_oneof![
        2 => timing,
        3 => (1_u32..9).prop_map(|shares| Class::Fair { shares: Shares::new(shares).unwrap() }),
        1 => Just(Class::Background),
    ]
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (0_u64..12, 0..TENANTS, classes()).prop_map(|(task, tenant, class)| Op::Admit { task, tenant, class }),
        1 => (0_u64..12).prop_map(|task| Op::Remove { task }),
        1 => (0..TENANTS, 1_u32..9).prop_map(|(tenant, shares)| Op::SetShares { tenant, shares }),
        6 => (0_u64..12).prop_map(|task| Op::Wake { task }),
        8 => (0..SLOTS, 0_u64..130, prop::bool::weighted(0.6))
            .prop_map(|(slot, percent, still_ready)| Op::Stop { slot, percent, still_ready }),
        3 => (0_u64..15_000).prop_map(|us| Op::Wait { us }),
    ]
}

#[derive(Clone, Copy)]
struct Slice {
    task: u64,
    budget: Span,
    started: Time,
    preempted: bool,
}

struct Known {
    tenant: u64,
    class: Class,
    ready: bool,
    woken: bool,
    leaving: bool,
    used: Span,
    first_wake: Option<Time>,
}

struct Model {
    scheduler: Scheduler,
    now: Time,
    tasks: BTreeMap<u64, Known>,
    slots: [Option<Slice>; SLOTS],
    tenant_used: [Span; 3],
    capped_slices: u64,
}

impl Model {
    fn new() -> Self {
        let config = Config {
            real_time_share: Fraction::percent(80),
            ..Config::for_slots(SLOTS)
        };
        let mut scheduler = Scheduler::new(config).unwrap();
        for tenant in 0..TENANTS {
            scheduler.set_tenant(TenantId(tenant), terms(tenant, 1)).unwrap();
        }
        Self {
            scheduler,
            now: Time::ZERO,
            tasks: BTreeMap::new(),
            slots: [None; SLOTS],
            tenant_used: [Span::ZERO; 3],
            capped_slices: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Admit { task, tenant, class } => {
                if self
                    .scheduler
                    .admit(TaskId(task), TenantId(tenant), class)
                    .is_ok()
                {
                    let known = Known {
                        tenant,
                        class,
                        ready: false,
                        woken: false,
                        leaving: false,
                        used: Span::ZERO,
                        first_wake: None,
                    };
                    assert!(
                        self.tasks.insert(task, known).is_none(),
                        "{task} was admitted twice"
                    );
                }
            }
            Op::Remove { task } => self.remove(task),
            Op::SetShares { tenant, shares } => {
                self.scheduler
                    .set_tenant(TenantId(tenant), terms(tenant, shares))
                    .unwrap();
            }
            Op::Wake { task } => {
                let answer = self.scheduler.wake(TaskId(task), self.now);
                let known = self.tasks.get_mut(&task).filter(|known| !known.leaving);
                assert_eq!(answer.is_ok(), known.is_some());
                if let Some(known) = known {
                    known.first_wake.get_or_insert(self.now);
                    known.woken = true;
                    known.ready = true;
                }
            }
            Op::Stop {
                slot,
                percent,
                still_ready,
            } => self.stop(slot, percent, still_ready),
            Op::Wait { us } => self.now = self.now + Span::from_us(us),
        }
        self.decide();
        self.check();
    }

    fn remove(&mut self, task: u64) {
        let answer = self.scheduler.remove(TaskId(task)).ok();
        let known = self.tasks.get_mut(&task).filter(|known| !known.leaving);
        assert_eq!(
            answer.map(|usage| usage.used),
            known.as_ref().map(|known| known.used)
        );
        if let Some(known) = known {
            known.leaving = true;
            if !self.slots.iter().flatten().any(|slice| slice.task == task) {
                self.tasks.remove(&task);
            }
        }
    }

    fn stop(&mut self, slot: usize, percent: u64, still_ready: bool) {
        let Some(slice) = self.slots[slot].take() else {
            assert!(
                self.scheduler
                    .stopped(SlotId(slot), Span::ZERO, still_ready, self.now)
                    .is_err()
            );
            return;
        };
        let used = Span::from_ns(slice.budget.as_ns() / 100 * percent).min(slice.budget + OVERRUN);
        self.now = self.now.max(slice.started + used);
        let id = self.scheduler.stopped(SlotId(slot), used, still_ready, self.now);
        assert_eq!(id, Ok(TaskId(slice.task)));
        let known = self.tasks.get_mut(&slice.task).unwrap();
        known.used += used;
        known.ready = still_ready || known.woken;
        self.tenant_used[usize::try_from(known.tenant).unwrap()] += used;
        if known.leaving {
            self.tasks.remove(&slice.task);
        }
    }

    fn decide(&mut self) {
        let mut decisions = Vec::new();
        self.scheduler.decide(self.now, &mut decisions);
        for decision in decisions {
            match decision {
                Decision::Run { slot, task, budget } => self.start(slot, task, budget),
                Decision::Preempt { slot } => {
                    let slice = self.slots[slot.0].as_mut().expect("somebody to preempt");
                    assert!(!slice.preempted, "asked to stop twice");
                    slice.preempted = true;
                }
            }
        }
    }

    fn start(&mut self, slot: SlotId, task: TaskId, budget: Span) {
        assert!(self.slots[slot.0].is_none(), "two tasks in {slot:?}");
        assert!(
            self.slots.iter().flatten().all(|slice| slice.task != task.0),
            "{task:?} in two slots"
        );
        let known = self.tasks.get_mut(&task.0).unwrap();
        assert!(known.ready && !known.leaving, "{task:?} has nothing to do");
        assert!(!budget.is_zero());
        match known.class {
            Class::RealTime(timing) => {
                assert!(budget <= timing.budget);
                assert_eq!(self.scheduler.slot_of(task), Some(slot));
            }
            Class::Fair { .. } | Class::Background => assert!(budget <= Span::from_ms(10)),
        }
        known.woken = false;
        self.capped_slices += u64::from(known.tenant == TENANTS - 1);
        self.slots[slot.0] = Some(Slice {
            task: task.0,
            budget,
            started: self.now,
            preempted: false,
        });
    }

    fn check(&self) {
        let runs = |task: u64| self.slots.iter().flatten().any(|slice| slice.task == task);
        let waiting: Vec<u64> = self
            .tasks
            .iter()
            .filter(|(task, known)| known.ready && !known.leaving && !runs(**task))
            .map(|(task, _)| *task)
            .collect();
        let shared = |task: &&u64| {
            let known = &self.tasks[*task];
            !matches!(known.class, Class::RealTime(_)) && known.tenant != TENANTS - 1
        };
        let fair = |task: &&u64| shared(task) && matches!(self.tasks[*task].class, Class::Fair { .. });

        for (index, slot) in self.slots.iter().enumerate() {
            let due = waiting
                .iter()
                .filter(|task| self.scheduler.slot_of(TaskId(**task)) == Some(SlotId(index)))
                .filter_map(|task| self.scheduler.deadline(TaskId(*task)))
                .min();
            let Some(slice) = slot else {
                assert_eq!(due, None, "a job waits for a free slot");
                assert_eq!(
                    waiting.iter().find(shared),
                    None,
                    "a slot is free and somebody waits"
                );
                continue;
            };
            let known = &self.tasks[&slice.task];
            let mine = self.scheduler.deadline(TaskId(slice.task));
            let is_overtaken = due.is_some_and(|due| mine.is_none_or(|mine| due < mine));
            assert!(slice.preempted || !is_overtaken, "not the earliest deadline");
            assert!(slice.preempted || !known.leaving, "a removed task goes on");
        }
        let freeing = self
            .slots
            .iter()
            .flatten()
            .filter(|slice| slice.preempted)
            .count();
        let background =
            |slice: &&Slice| self.tasks[&slice.task].class == Class::Background && !slice.preempted;
        if self.slots.iter().flatten().any(|slice| background(&slice)) {
            assert!(
                waiting.iter().filter(fair).count() <= freeing,
                "a background task is in a fair one's way"
            );
        }
        self.check_accounts();
    }

    fn check_accounts(&self) {
        for (task, known) in self.tasks.iter().filter(|(_, known)| !known.leaving) {
            assert_eq!(self.scheduler.usage(TaskId(*task)).unwrap().used, known.used);
            if let (Class::RealTime(timing), Some(first)) = (known.class, known.first_wake) {
                let periods = self.now.since(first).as_ns() / timing.period.as_ns() + 1;
                assert!(
                    known.used <= timing.budget * periods + OVERRUN,
                    "{task} had more than its budgets"
                );
            }
        }
        for (tenant, used) in self.tenant_used.iter().enumerate() {
            assert_eq!(
                self.scheduler.tenant_usage(TenantId(tenant as u64)).unwrap().used,
                *used
            );
        }
        let windows = self.now.as_ns() / CAP.period.as_ns() + 1;
        let overruns = OVERRUN * SLOTS as u64;
        assert!(
            self.tenant_used[2] <= CAP.quota * windows + overruns,
            "more than the cap"
        );
        if let Some(at) = self.scheduler.next_event() {
            assert!(at > self.now, "what is due was done");
        }
    }
}

fn terms(tenant: u64, shares: u32) -> Tenant {
    let shares = Shares::new(shares).unwrap();
    if tenant == TENANTS - 1 {
        Tenant {
            cap: Some(CAP),
            ..Tenant::with_shares(shares)
        }
    } else {
        Tenant {
            real_time: Fraction::WHOLE,
            ..Tenant::with_shares(shares)
        }
    }
}

#[derive(Clone, Debug)]
enum Nonsense {
    Tenant(u64, u32, u64, u64, u64),
    RemoveTenant(u64),
    Admit(u64, u64, u64, u64, u64),
    Share(u64, u64, bool),
    Remove(u64),
    Wake(u64, u64),
    Stopped(usize, u64, bool, u64),
    Decide(u64),
}

fn nonsense() -> impl Strategy<Value = Nonsense> {
    let time = || prop_oneof![Just(0), Just(u64::MAX), 0_u64..1 << 40, any::<u64>()];
    let id = || 0_u64..5;
    prop_oneof![
        (id(), any::<u32>(), time(), time(), time())
            .prop_map(|(a, b, c, d, e)| Nonsense::Tenant(a, b, c, d, e)),
        id().prop_map(Nonsense::RemoveTenant),
        (id(), id(), time(), time(), time()).prop_map(|(a, b, c, d, e)| Nonsense::Admit(a, b, c, d, e)),
        (id(), id(), any::<bool>()).prop_map(|(a, b, c)| Nonsense::Share(a, b, c)),
        id().prop_map(Nonsense::Remove),
        (id(), time()).prop_map(|(a, b)| Nonsense::Wake(a, b)),
        (0_usize..4, time(), any::<bool>(), time()).prop_map(|(a, b, c, d)| Nonsense::Stopped(a, b, c, d)),
        time().prop_map(Nonsense::Decide),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_the_caller_sees_is_what_was_promised(ops in prop::collection::vec(ops(), 1..300)) {
        let mut model = Model::new();
        for op in ops {
            model.apply(op);
        }
    }

    #[test]
    fn no_caller_makes_it_panic(ops in prop::collection::vec(nonsense(), 1..200)) {
        let mut scheduler = Scheduler::new(Config::for_slots(2)).unwrap();
        let mut running = [false; 2];
        for op in ops {
            // Whether these succeed is no matter here; that they return is.
            match op {
                Nonsense::Tenant(id, shares, quota, period, part) => {
                    let cap = Some(Cap { quota: Span::from_ns(quota), period: Span::from_ns(period) });
                    let shares = Shares::new(shares).unwrap_or(Shares::ONE);
                    let terms = Tenant { shares, cap: cap.filter(|_| quota % 2 == 0), real_time: Fraction::from_ppb(part) };
                    let _ = scheduler.set_tenant(TenantId(id), terms);
                }
                Nonsense::RemoveTenant(id) => drop(scheduler.remove_tenant(TenantId(id))),
                Nonsense::Admit(task, tenant, budget, deadline, period) => {
                    let [budget, deadline, period] = [budget, deadline, period].map(Span::from_ns);
                    let class = Class::RealTime(Timing { period, budget, deadline });
                    let _ = scheduler.admit(TaskId(task), TenantId(tenant), class);
                }
                Nonsense::Share(task, tenant, background) => {
                    let class = if background { Class::Background } else { Class::Fair { shares: Shares::ONE } };
                    let _ = scheduler.admit(TaskId(task), TenantId(tenant), class);
                }
                Nonsense::Remove(task) => drop(scheduler.remove(TaskId(task))),
                Nonsense::Wake(task, now) => drop(scheduler.wake(TaskId(task), Time::from_ns(now))),
                Nonsense::Stopped(slot, used, still_ready, now) => {
                    let answer = scheduler.stopped(SlotId(slot), Span::from_ns(used), still_ready, Time::from_ns(now));
                    let ran = running.get_mut(slot).is_some_and(std::mem::take);
                    prop_assert_eq!(answer.is_ok(), ran);
                }
                Nonsense::Decide(now) => {
                    let mut decisions = Vec::new();
                    scheduler.decide(Time::from_ns(now), &mut decisions);
                    for decision in decisions {
                        if let Decision::Run { slot, .. } = decision {
                            prop_assert!(!std::mem::replace(&mut running[slot.0], true));
                        }
                    }
                }
            }
            let _ = scheduler.next_event();
        }
    }
}

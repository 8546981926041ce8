//! Shares, caps and background tasks, to the nanosecond: workers here cost nothing and stop when they are told to.

use std::collections::BTreeMap;

use referee_scheduler::{
    Cap, Class, Config, Decision, Fraction, Misuse, Refused, Scheduler, Shares, SlotId, Span, TaskId, Tenant,
    TenantId, Time, Timing,
};

const MS: Span = Span::from_ms(1);
const FAIR: Class = Class::Fair { shares: Shares::ONE };

/// A machine whose slices all use their whole budget.
struct Machine {
    scheduler: Scheduler,
    now: Time,
    running: BTreeMap<usize, (TaskId, Time)>,
}

impl Machine {
    /// Every slice is one millisecond.
    fn new(slots: usize) -> Self {
        let config = Config {
            slice_min: MS,
            slice_max: MS,
            ..Config::for_slots(slots)
        };
        Self {
            scheduler: Scheduler::new(config).unwrap(),
            now: Time::ZERO,
            running: BTreeMap::new(),
        }
    }

    fn tenant(&mut self, id: u64, shares: u32) {
        let terms = Tenant {
            real_time: Fraction::WHOLE,
            ..Tenant::with_shares(Shares::new(shares).unwrap())
        };
        self.scheduler.set_tenant(TenantId(id), terms).unwrap();
    }

    fn admit(&mut self, task: u64, tenant: u64, class: Class) {
        self.scheduler
            .admit(TaskId(task), TenantId(tenant), class)
            .unwrap();
        self.scheduler.wake(TaskId(task), self.now).unwrap();
    }

    fn decide(&mut self) -> Vec<Decision> {
        let mut decisions = Vec::new();
        self.scheduler.decide(self.now, &mut decisions);
        for decision in &decisions {
            if let Decision::Run { slot, task, budget } = decision {
                self.running.insert(slot.0, (*task, self.now + *budget));
            }
        }
        decisions
    }

    /// Runs until `end`, every task using what it is given.
    fn run_until(&mut self, end: Time) {
        loop {
            self.decide();
            let slice = self.running.iter().map(|(slot, (_, ends))| (*ends, *slot)).min();
            let event = self.scheduler.next_event();
            let next = slice.map(|(ends, _)| ends).into_iter().chain(event).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = next;
            if let Some((_, slot)) = slice.filter(|(ends, _)| *ends == next) {
                self.running.remove(&slot);
                self.scheduler.stopped(SlotId(slot), MS, true, next).unwrap();
            }
        }
        self.now = end;
    }

    fn used_ms(&self, task: u64) -> u64 {
        self.scheduler.usage(TaskId(task)).unwrap().used.as_ns() / 1_000_000
    }

    fn tenant_ms(&self, tenant: u64) -> u64 {
        self.scheduler
            .tenant_usage(TenantId(tenant))
            .unwrap()
            .used
            .as_ns()
            / 1_000_000
    }
}

fn at(ms: u64) -> Time {
    Time::ZERO + MS * ms
}

#[test]
fn a_tenant_has_its_shares_whatever_it_deploys() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    machine.tenant(1, 3);
    (0..100).for_each(|task| machine.admit(task, 0, FAIR));
    machine.admit(100, 1, FAIR);
    machine.run_until(at(4000));
    assert_eq!((machine.tenant_ms(0), machine.tenant_ms(1)), (1000, 3000));
    assert!((0..100).all(|task| machine.used_ms(task) == 10));
}

#[test]
fn tasks_of_a_tenant_share_by_weight() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    for task in 0..3 {
        machine.admit(
            task,
            0,
            Class::Fair {
                shares: Shares::new(1 << task).unwrap(),
            },
        );
    }
    machine.run_until(at(700));
    assert_eq!([0, 1, 2].map(|task| machine.used_ms(task)), [100, 200, 400]);
}

#[test]
fn three_tasks_share_two_slots_evenly() {
    let mut machine = Machine::new(2);
    for tenant in 0..3 {
        machine.tenant(tenant, 1);
        machine.admit(tenant, tenant, FAIR);
    }
    machine.run_until(at(300));
    assert_eq!([0, 1, 2].map(|tenant| machine.tenant_ms(tenant)), [200, 200, 200]);
}

#[test]
fn who_cannot_use_its_shares_leaves_them_and_saves_nothing() {
    let mut machine = Machine::new(2);
    machine.tenant(0, 100);
    machine.tenant(1, 1);
    machine.admit(0, 0, FAIR);
    (1..3).for_each(|task| machine.admit(task, 1, FAIR));
    machine.run_until(at(1000));
    assert_eq!(
        (machine.tenant_ms(0), machine.tenant_ms(1)),
        (1000, 1000),
        "one task fills one slot at most"
    );
    machine.tenant(0, 1);
    (3..5).for_each(|task| machine.admit(task, 0, FAIR));
    machine.run_until(at(1100));
    let apart = machine.tenant_ms(0).abs_diff(machine.tenant_ms(1));
    assert!(
        apart <= 3,
        "equal from now on, and not what was missed before: {apart} ms"
    );
}

#[test]
fn sleeping_saves_no_credit() {
    let mut machine = Machine::new(1);
    for tenant in 0..2 {
        machine.tenant(tenant, 1);
        machine.admit(tenant, tenant, FAIR);
    }
    machine.run_until(at(10));
    let (slot, _) = machine.running.pop_first().unwrap();
    machine.now = at(11);
    let asleep = machine
        .scheduler
        .stopped(SlotId(slot), MS, false, at(11))
        .unwrap()
        .0;
    let awake = 1 - asleep;
    machine.run_until(at(1011));
    let before = [awake, asleep].map(|tenant| machine.tenant_ms(tenant));
    machine.scheduler.wake(TaskId(asleep), machine.now).unwrap();
    machine.run_until(at(1031));
    assert_eq!(machine.tenant_ms(awake) - before[0], 10);
    assert_eq!(machine.tenant_ms(asleep) - before[1], 10);
}

#[test]
fn tasks_that_come_run_once_and_go_starve_nobody() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    machine.admit(0, 0, FAIR);
    machine.run_until(at(1));
    let mut waiting = Vec::new();
    for tick in 1..1000 {
        // Twice as many as can be served.
        for task in [2 * tick, 2 * tick + 1] {
            machine.admit(task, 0, FAIR);
            waiting.push(task);
        }
        machine.run_until(at(1 + tick));
        waiting.retain(|task| {
            let had_its_turn = machine.used_ms(*task) > 0;
            if had_its_turn {
                machine.scheduler.remove(TaskId(*task)).unwrap();
            }
            !had_its_turn
        });
    }
    let had = machine.used_ms(0);
    assert!(
        had >= 4,
        "had {had} ms; an equal part of each would be ln(1000), nearly 7"
    );
}

#[test]
fn a_cap_throttles_until_the_next_period() {
    let mut machine = Machine::new(2);
    let cap = Some(Cap {
        quota: MS * 50,
        period: MS * 100,
    });
    machine
        .scheduler
        .set_tenant(
            TenantId(0),
            Tenant {
                cap,
                ..Tenant::with_shares(Shares::ONE)
            },
        )
        .unwrap();
    (0..4).for_each(|task| machine.admit(task, 0, FAIR));
    machine.run_until(at(60));
    assert_eq!(machine.tenant_ms(0), 50);
    assert_eq!(machine.scheduler.next_event(), Some(at(100)));
    machine.run_until(at(999));
    assert_eq!(machine.tenant_ms(0), 500);
    machine
        .scheduler
        .set_tenant(TenantId(0), Tenant::with_shares(Shares::ONE))
        .unwrap();
    assert_eq!(machine.decide().len(), 2, "without a cap it runs at once");
}

#[test]
fn background_runs_only_where_nobody_else_wants_to() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    machine.admit(0, 0, Class::Background);
    machine.run_until(at(5));
    assert_eq!(machine.used_ms(0), 5);
    machine.admit(1, 0, FAIR);
    assert_eq!(machine.decide(), [Decision::Preempt { slot: SlotId(0) }]);
    assert_eq!(machine.decide(), [], "asked once");
    machine.run_until(at(1000));
    assert_eq!(machine.used_ms(0), 6, "starved, as was said");
}

#[test]
fn real_time_counts_towards_its_tenants_shares() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    machine.tenant(1, 1);
    let timing = Timing {
        period: MS * 10,
        budget: MS,
        deadline: MS * 10,
    };
    machine.admit(0, 0, Class::RealTime(timing));
    machine.admit(1, 0, FAIR);
    machine.admit(2, 1, FAIR);
    machine.run_until(at(10_000));
    let apart = machine.tenant_ms(0).abs_diff(machine.tenant_ms(1));
    assert!(apart <= 2, "{apart} ms apart");
    let (real_time, fair) = (machine.used_ms(0), machine.used_ms(1));
    assert!(
        (910..=1000).contains(&real_time),
        "{real_time} ms: every period, less the start of each job that costs nothing here"
    );
    assert_eq!(real_time + fair, machine.tenant_ms(0));
}

#[test]
fn what_is_wrong_is_said_and_changes_nothing() {
    let mut machine = Machine::new(1);
    assert_eq!(
        machine.scheduler.admit(TaskId(1), TenantId(9), FAIR),
        Err(Refused::NoTenant(TenantId(9)))
    );
    machine.tenant(0, 1);
    machine.admit(1, 0, FAIR);
    assert_eq!(
        machine.scheduler.admit(TaskId(1), TenantId(0), FAIR),
        Err(Refused::Known(TaskId(1)))
    );
    assert_eq!(
        machine.scheduler.wake(TaskId(2), at(0)),
        Err(Misuse::NoTask(TaskId(2)))
    );
    for slot in [SlotId(0), SlotId(7)] {
        assert_eq!(
            machine.scheduler.stopped(slot, MS, true, at(0)),
            Err(Misuse::NotRunning(slot))
        );
    }
    let busy = Misuse::TenantBusy {
        tenant: TenantId(0),
        tasks: 1,
    };
    assert_eq!(machine.scheduler.remove_tenant(TenantId(0)), Err(busy));

    machine.decide();
    machine.scheduler.remove(TaskId(1)).unwrap();
    assert_eq!(machine.decide(), [Decision::Preempt { slot: SlotId(0) }]);
    assert_eq!(
        machine.scheduler.remove(TaskId(1)),
        Err(Misuse::NoTask(TaskId(1)))
    );
    assert_eq!(
        machine.scheduler.admit(TaskId(1), TenantId(0), FAIR),
        Err(Refused::Known(TaskId(1)))
    );
    machine.scheduler.stopped(SlotId(0), MS, true, at(1)).unwrap();
    assert_eq!(machine.tenant_ms(0), 1, "its last slice counts");
    machine.admit(1, 0, FAIR);
    machine.scheduler.remove(TaskId(1)).unwrap();
    assert_eq!(machine.scheduler.remove_tenant(TenantId(0)).unwrap().used, MS);

    let cap = Cap {
        quota: Span::ZERO,
        period: MS,
    };
    let refused = Refused::Cap {
        quota: Span::ZERO,
        period: MS,
        longest: Timing::LONGEST_PERIOD,
    };
    let terms = Tenant {
        cap: Some(cap),
        ..Tenant::with_shares(Shares::ONE)
    };
    assert_eq!(machine.scheduler.set_tenant(TenantId(0), terms), Err(refused));
}

#[test]
fn a_clock_that_goes_back_stands_still() {
    let mut machine = Machine::new(1);
    machine.tenant(0, 1);
    machine.now = at(100);
    machine.admit(0, 0, FAIR);
    machine.decide();
    machine.scheduler.stopped(SlotId(0), MS, true, at(50)).unwrap();
    let usage = machine.scheduler.usage(TaskId(0)).unwrap();
    assert_eq!((usage.used, usage.held), (MS, Span::ZERO));
}

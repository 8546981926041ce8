//! Real-time tasks, to the nanosecond: who is admitted where, who goes first, and what happens to those who want more.

use referee_scheduler::{
    Cap, Class, Config, Decision, Fraction, Refused, Scheduler, Shares, SlotId, Span, TaskId, Tenant,
    TenantId, Time, Timing,
};

const MS: Span = Span::from_ms(1);
const TENANT: TenantId = TenantId(0);
const SLOT: SlotId = SlotId(0);

/// A machine on which nothing costs anything, and half of each slot can be promised.
fn scheduler(slots: usize) -> Scheduler {
    let config = Config {
        preemption_cost: Span::ZERO,
        stop_latency: Span::ZERO,
        real_time_share: Fraction::percent(50),
        slice_max: MS * 10,
        ..Config::for_slots(slots)
    };
    let mut scheduler = Scheduler::new(config).unwrap();
    let terms = Tenant {
        real_time: Fraction::percent(40),
        ..Tenant::with_shares(Shares::ONE)
    };
    scheduler.set_tenant(TENANT, terms).unwrap();
    scheduler
}

fn timing(budget: u64, deadline: u64, period: u64) -> Timing {
    Timing {
        budget: MS * budget,
        deadline: MS * deadline,
        period: MS * period,
    }
}

fn admit(scheduler: &mut Scheduler, task: u64, timing: Timing) -> Result<(), Refused> {
    scheduler.admit(TaskId(task), TENANT, Class::RealTime(timing))
}

fn wake(scheduler: &mut Scheduler, task: u64, ms: u64) {
    scheduler.wake(TaskId(task), at(ms)).unwrap();
}

fn decide(scheduler: &mut Scheduler, ms: u64) -> Vec<Decision> {
    let mut decisions = Vec::new();
    scheduler.decide(at(ms), &mut decisions);
    decisions
}

fn run(task: u64, budget: Span) -> Vec<Decision> {
    vec![Decision::Run {
        slot: SLOT,
        task: TaskId(task),
        budget,
    }]
}

fn at(ms: u64) -> Time {
    Time::ZERO + MS * ms
}

#[test]
fn the_earliest_deadline_goes_first_and_others_make_room() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 90, 100)).unwrap();
    admit(&mut scheduler, 2, timing(5, 50, 100)).unwrap();
    scheduler
        .admit(TaskId(3), TENANT, Class::Fair { shares: Shares::ONE })
        .unwrap();
    wake(&mut scheduler, 3, 0);
    assert_eq!(decide(&mut scheduler, 0), run(3, MS * 10));
    wake(&mut scheduler, 1, 1);
    assert_eq!(decide(&mut scheduler, 1), [Decision::Preempt { slot: SLOT }]);
    scheduler.stopped(SLOT, MS, true, at(1)).unwrap();
    assert_eq!(decide(&mut scheduler, 1), run(1, MS * 10));
    wake(&mut scheduler, 2, 4);
    assert_eq!(scheduler.deadline(TaskId(2)), Some(at(54)));
    assert_eq!(decide(&mut scheduler, 4), [Decision::Preempt { slot: SLOT }]);
    assert_eq!(decide(&mut scheduler, 4), [], "asked once");
    scheduler.stopped(SLOT, MS * 3, true, at(4)).unwrap();
    assert_eq!(decide(&mut scheduler, 4), run(2, MS * 5));
    scheduler.stopped(SLOT, MS * 2, false, at(6)).unwrap();
    assert_eq!(
        decide(&mut scheduler, 6),
        run(1, MS * 7),
        "what is left of its budget"
    );
    let usage = scheduler.usage(TaskId(1)).unwrap();
    assert_eq!(
        (usage.used, usage.slices, usage.preempted, usage.jobs),
        (MS * 3, 1, 1, 0)
    );
}

#[test]
fn a_later_deadline_waits() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 50, 100)).unwrap();
    admit(&mut scheduler, 2, timing(10, 50, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    assert_eq!(decide(&mut scheduler, 0), run(1, MS * 10));
    wake(&mut scheduler, 2, 0);
    assert_eq!(decide(&mut scheduler, 0), [], "an equal one too");
    wake(&mut scheduler, 2, 1);
    assert_eq!(decide(&mut scheduler, 1), []);
}

#[test]
fn a_used_up_budget_waits_for_the_next_period() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 100, 100)).unwrap();
    wake(&mut scheduler, 1, 7);
    assert_eq!(decide(&mut scheduler, 7), run(1, MS * 10));
    scheduler.stopped(SLOT, MS * 10, true, at(17)).unwrap();
    assert_eq!(decide(&mut scheduler, 17), []);
    assert_eq!(scheduler.next_event(), Some(at(107)));
    wake(&mut scheduler, 1, 50);
    assert_eq!(decide(&mut scheduler, 106), []);
    assert_eq!(decide(&mut scheduler, 108), run(1, MS * 10));
    assert_eq!(
        scheduler.deadline(TaskId(1)),
        Some(at(207)),
        "a late timer does not move the deadline"
    );
    assert_eq!(scheduler.next_event(), None);
}

#[test]
fn waking_early_waits_for_the_period_and_waking_late_starts_anew() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 40, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    decide(&mut scheduler, 0);
    scheduler.stopped(SLOT, MS, false, at(1)).unwrap();
    wake(&mut scheduler, 1, 2);
    assert_eq!(decide(&mut scheduler, 2), []);
    assert_eq!(scheduler.next_event(), Some(at(100)));
    assert_eq!(decide(&mut scheduler, 100), run(1, MS * 10));
    scheduler.stopped(SLOT, MS, false, at(101)).unwrap();
    wake(&mut scheduler, 1, 333);
    assert_eq!(scheduler.deadline(TaskId(1)), Some(at(373)));
}

#[test]
fn an_overrun_is_paid_by_whoever_overran() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 50, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    decide(&mut scheduler, 0);
    scheduler.stopped(SLOT, MS * 33, true, at(33)).unwrap();
    assert_eq!(scheduler.next_event(), Some(at(300)));
    assert_eq!(decide(&mut scheduler, 300), run(1, MS * 7));
}

#[test]
fn being_woken_while_running_is_not_forgotten() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 50, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    decide(&mut scheduler, 0);
    wake(&mut scheduler, 1, 2);
    scheduler.stopped(SLOT, MS * 3, false, at(3)).unwrap();
    assert_eq!(decide(&mut scheduler, 3), run(1, MS * 7));
    scheduler.stopped(SLOT, MS, false, at(4)).unwrap();
    assert_eq!(decide(&mut scheduler, 4), []);
    assert_eq!(scheduler.usage(TaskId(1)).unwrap().jobs, 1);
}

#[test]
fn a_late_job_is_counted() {
    let mut scheduler = scheduler(1);
    admit(&mut scheduler, 1, timing(10, 50, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    decide(&mut scheduler, 45);
    scheduler.stopped(SLOT, MS * 6, false, at(51)).unwrap();
    assert_eq!(scheduler.usage(TaskId(1)).unwrap().late, 1);
    assert_eq!(scheduler.tenant_usage(TENANT).unwrap().late, 1);
}

#[test]
fn slots_are_filled_one_after_the_other() {
    let mut scheduler = scheduler(2);
    for (task, slot) in [(1, 0), (2, 0), (3, 1)] {
        admit(&mut scheduler, task, timing(20, 100, 100)).unwrap();
        assert_eq!(scheduler.slot_of(TaskId(task)), Some(SlotId(slot)));
    }
    assert_eq!(scheduler.promised(SlotId(0)), Some(Fraction::percent(40)));
    // Fair tasks keep out of the way of those who were promised most.
    scheduler
        .admit(TaskId(9), TENANT, Class::Fair { shares: Shares::ONE })
        .unwrap();
    wake(&mut scheduler, 9, 0);
    let elsewhere = Decision::Run {
        slot: SlotId(1),
        task: TaskId(9),
        budget: MS * 10,
    };
    assert_eq!(decide(&mut scheduler, 0), [elsewhere]);
}

#[test]
fn refusals_say_the_figures() {
    let mut scheduler = scheduler(2);
    let longest = Timing::LONGEST_PERIOD;
    for (budget, deadline, period) in [
        (0, 10, 10),
        (11, 10, 10),
        (5, 11, 10),
        (1, 90_000_000, 90_000_000),
    ] {
        let Timing {
            budget,
            deadline,
            period,
        } = timing(budget, deadline, period);
        let refused = Refused::Timing {
            budget,
            deadline,
            period,
            longest,
        };
        assert_eq!(
            admit(
                &mut scheduler,
                1,
                Timing {
                    budget,
                    deadline,
                    period
                }
            ),
            Err(refused)
        );
    }
    admit(&mut scheduler, 1, timing(30, 100, 100)).unwrap();
    assert_eq!(
        admit(&mut scheduler, 2, timing(51, 100, 100)),
        Err(Refused::TenantShare {
            needed: Fraction::percent(81),
            limit: Fraction::percent(80)
        })
    );
    let other = TenantId(1);
    let terms = Tenant {
        real_time: Fraction::WHOLE,
        ..Tenant::with_shares(Shares::ONE)
    };
    scheduler.set_tenant(other, terms).unwrap();
    assert_eq!(
        scheduler.admit(TaskId(2), other, Class::RealTime(timing(51, 100, 100))),
        Err(Refused::Share {
            needed: Fraction::percent(51),
            free: Fraction::percent(50)
        })
    );
    scheduler
        .admit(TaskId(3), other, Class::RealTime(timing(10, 12, 100)))
        .unwrap();
    scheduler
        .admit(TaskId(4), other, Class::RealTime(timing(10, 12, 100)))
        .unwrap();
    assert_eq!(
        scheduler.admit(TaskId(5), other, Class::RealTime(timing(5, 12, 100))),
        Err(Refused::Deadline {
            slot: SlotId(1),
            within: MS * 12,
            demand: MS * 15
        })
    );

    let cap = Cap {
        quota: MS * 40,
        period: MS * 100,
    };
    let capped = Tenant {
        cap: Some(cap),
        ..terms
    };
    scheduler.set_tenant(other, capped).unwrap();
    assert_eq!(
        scheduler.admit(TaskId(6), other, Class::RealTime(timing(21, 1000, 1000))),
        Ok(())
    );
    let tight = Tenant {
        cap: Some(Cap {
            quota: MS * 20,
            ..cap
        }),
        ..terms
    };
    let refused = Refused::TenantCap {
        needed: Fraction::from_ppb(221_000_000),
        cap: Fraction::percent(20),
    };
    assert_eq!(scheduler.set_tenant(other, tight), Err(refused));
}

#[test]
fn a_removed_promise_is_given_on_when_the_slot_has_no_job_left() {
    let mut scheduler = scheduler(1);
    let terms = Tenant {
        real_time: Fraction::WHOLE,
        ..Tenant::with_shares(Shares::ONE)
    };
    scheduler.set_tenant(TENANT, terms).unwrap();
    admit(&mut scheduler, 1, timing(20, 100, 100)).unwrap();
    admit(&mut scheduler, 2, timing(30, 100, 100)).unwrap();
    wake(&mut scheduler, 1, 0);
    wake(&mut scheduler, 2, 0);
    decide(&mut scheduler, 0);
    scheduler.stopped(SLOT, MS * 20, false, at(20)).unwrap();
    scheduler.remove(TaskId(1)).unwrap();
    let refused = Refused::Share {
        needed: Fraction::percent(20),
        free: Fraction::ZERO,
    };
    assert_eq!(admit(&mut scheduler, 3, timing(20, 100, 100)), Err(refused));
    assert_eq!(decide(&mut scheduler, 20), run(2, MS * 30));
    scheduler.stopped(SLOT, MS * 30, false, at(50)).unwrap();
    assert_eq!(admit(&mut scheduler, 3, timing(20, 100, 100)), Ok(()));
}

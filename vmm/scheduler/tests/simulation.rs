//! The simulations of `examples/simulate`, with what must come out of them.

use proptest::prelude::*;
use referee_scheduler::TaskId;

#[path = "../examples/simulate/scenarios.rs"]
mod scenarios;
#[path = "../examples/simulate/world.rs"]
mod world;

use crate::scenarios::{DEPLOYED, TASKS, WEIGHTS, ms};

#[test]
fn a_million_jobs_of_ten_thousand_tasks() {
    let run = scenarios::million(1, 1_000_000);
    let scheduler = &run.world.scheduler;
    for task in 0..TASKS {
        let (usage, outcome) = (
            scheduler.usage(TaskId(task as u64)).unwrap(),
            run.world.outcome(task),
        );
        assert_eq!(
            (usage.used, usage.held),
            (outcome.ran, outcome.held),
            "exact to the nanosecond"
        );
        assert_eq!(usage.late, 0);
    }
    let real_time: Vec<_> = run
        .real_time
        .iter()
        .map(|task| run.world.outcome(*task))
        .collect();
    assert!(real_time.iter().map(|outcome| outcome.jobs).sum::<u64>() > 100_000);
    assert_eq!(real_time.iter().map(|outcome| outcome.missed).sum::<u64>(), 0);
    assert!(run.promised.as_ppb() > 400_000_000, "{} promised", run.promised);

    assert_eq!(run.endless.len(), 300);
    for task in &run.endless {
        let wait = ms(run.world.outcome(*task).longest_wait);
        let usual = run.usual_wait_ms(*task);
        assert!(
            wait < 3.0 * usual,
            "task {task} waited {wait} ms once, and {usual} ms on average"
        );
    }
    // Tasks with the same shares in the same tenant have the same, and tenants go round.
    for tenant in 0..20 {
        let held = || {
            run.endless
                .iter()
                .skip(tenant)
                .step_by(20)
                .map(|task| ms(run.world.outcome(*task).held))
        };
        let apart = held().fold(0.0, f64::max) - held().fold(f64::INFINITY, f64::min);
        assert!(apart < 25.0, "tenant {tenant}: {apart} ms apart");
    }
    assert!(run.world.calls > 2_000_000);
}

#[test]
fn tenants_have_their_shares_within_the_bound() {
    let run = scenarios::fairness(3);
    assert_eq!((WEIGHTS.len(), DEPLOYED.len()), (3, 3));
    for (worst, bound) in run.worst_ms().into_iter().zip(run.bound_ms) {
        assert!(worst <= bound, "{worst} ms from the ideal, bound {bound} ms");
    }
    // In the long run the error is nothing beside what was had.
    let had: f64 = run
        .samples
        .iter()
        .map(|sample| sample.rate.iter().sum::<f64>())
        .sum();
    let (last, ideal) = (
        run.samples.last().unwrap(),
        run.samples.iter().map(|sample| sample.ideal[2]).sum::<f64>(),
    );
    assert!(
        last.error_ms[2].abs() / (ideal * 100.0) < 0.01,
        "of {had} slots and {:?}",
        last.at
    );
}

#[test]
fn costs_beyond_those_stated_do_cost_deadlines() {
    let run = scenarios::deadlines(2, 250, 20_000);
    assert!(run.missed > 0, "or the tests that find none missed prove nothing");
    assert!(run.responses.iter().sum::<u64>() >= run.jobs);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_admitted_deadline_is_missed(seed in any::<u64>()) {
        let run = scenarios::deadlines(seed, 100, 3_000);
        prop_assert_eq!(run.missed, 0);
        prop_assert!(run.jobs >= 3_000);
        prop_assert!(run.promised.as_ppb() > 700_000_000, "only {} promised", run.promised);
    }
}

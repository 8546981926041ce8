//! Drives the scheduler through machines that are not there, says how well it did, and draws the figures of `docs/scheduling.md`:
//! `cargo run -p referee-scheduler --example simulate`. The same seed gives the same figures; only the last two lines are about this machine.

mod plots;
mod scenarios;
mod world;

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use referee_scheduler::{Class, Config, Scheduler, Shares, SlotId, Span, TaskId, Tenant, TenantId, Time};

use crate::plots::Series;
use crate::scenarios::{Deadlines, TASKS, ms};

fn main() -> Result<(), Box<dyn Error>> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let run = scenarios::fairness(SEED);
    let (worst, bound) = (run.worst_ms(), run.bound_ms);
    println!(
        "fairness: tenants with 1, 2, 4 shares were at most {worst:.1?} ms from their ideal; bounds {bound:.1?} ms"
    );
    plots::fairness(&run, &docs.join("scheduling-fairness.svg"))?;

    let kept = KINDS.map(|kind| many_deadlines(kind, 100));
    for ((name, _), run) in KINDS.iter().zip(&kept) {
        println!(
            "deadlines: {name}: {} jobs, {} missed, {} promised, the last done after {:.1} % of its time",
            run.jobs,
            run.missed,
            run.promised,
            worst_percent(run)
        );
    }
    let responses: Vec<Series> = KINDS
        .iter()
        .zip(&kept)
        .map(|((name, _), run)| response_curve(name, run))
        .collect();
    let misses: Vec<Series> = KINDS.iter().map(|kind| miss_curve(*kind)).collect();
    plots::deadlines(&responses, &misses, &docs.join("scheduling-deadlines.svg"))?;

    let started = Instant::now();
    let run = scenarios::million(SEED, 1_000_000);
    let took = started.elapsed();
    let real_time = || run.real_time.iter().map(|task| run.world.outcome(*task));
    let missed: u64 = real_time().map(|outcome| outcome.missed).sum();
    let (wait, usual) = run
        .endless
        .iter()
        .map(|task| {
            (
                ms(run.world.outcome(*task).longest_wait),
                run.usual_wait_ms(*task),
            )
        })
        .fold(
            (0.0, 0.0),
            |longest, one| if one.0 > longest.0 { one } else { longest },
        );
    println!(
        "a million jobs of {TASKS} tasks: {} had deadlines and {missed} missed them; {} of the slots promised; \
         the longest wait of a fair task was {wait:.0} ms in {:.0} s, of one whose turns are {usual:.0} ms apart",
        real_time().map(|outcome| outcome.jobs).sum::<u64>(),
        run.promised,
        run.world.now.as_ns() as f64 / 1e9,
    );
    println!(
        "speed: {} calls of the scheduler in {:.2} s, {:.2} million a second, simulation included",
        run.world.calls,
        took.as_secs_f64(),
        run.world.calls as f64 / took.as_secs_f64() / 1e6
    );
    let turns = 1_000_000;
    let took = speed(turns);
    println!(
        "speed: {:.0} ns for a slice that ends and the decision after it, {TASKS} tasks runnable",
        took / f64::from(turns)
    );
    Ok(())
}

/// How long the scheduler alone takes for so many slices, in nanoseconds.
fn speed(turns: u32) -> f64 {
    let mut scheduler = Scheduler::new(Config::for_slots(4)).expect("a configuration in order");
    for tenant in 0..20 {
        scheduler
            .set_tenant(TenantId(tenant), Tenant::with_shares(Shares::ONE))
            .expect("terms in order");
    }
    for task in 0..TASKS as u64 {
        let class = Class::Fair { shares: Shares::ONE };
        scheduler
            .admit(TaskId(task), TenantId(task % 20), class)
            .expect("room for fair tasks");
        scheduler
            .wake(TaskId(task), Time::ZERO)
            .expect("an admitted task");
    }
    let mut decisions = Vec::new();
    let mut now = Time::ZERO;
    scheduler.decide(now, &mut decisions);
    let started = Instant::now();
    for turn in 0..turns {
        let used = Span::from_us(100 + u64::from(turn) % 100);
        now = now + used;
        decisions.clear();
        scheduler
            .stopped(SlotId(turn as usize % 4), used, true, now)
            .expect("a slice that runs");
        scheduler.decide(now, &mut decisions);
        assert_eq!(decisions.len(), 1);
    }
    started.elapsed().as_secs_f64() * 1e9
}

/// A name, and the remainder of its seeds by two, which says whether everything costs the most.
type Kind = (&'static str, u64);

/// Several sets of tasks together.
fn many_deadlines((_, parity): Kind, percent: u64) -> Deadlines {
    let runs = (0..5).map(|seed| scenarios::deadlines(SEED + 2 * seed + parity, percent, 20_000));
    runs.reduce(|mut all, run| {
        all.jobs += run.jobs;
        all.missed += run.missed;
        all.promised = all.promised.min(run.promised);
        all.responses
            .iter_mut()
            .zip(run.responses)
            .for_each(|(all, run)| *all += run);
        all
    })
    .expect("five runs")
}

fn worst_percent(run: &Deadlines) -> f64 {
    run.responses
        .iter()
        .rposition(|jobs| *jobs > 0)
        .map_or(0.0, |thousandth| (thousandth + 1) as f64 / 10.0)
}

fn response_curve(name: &str, run: &Deadlines) -> Series {
    let mut later = run.jobs;
    let mut points = vec![(0.0, 100.0)];
    for (thousandth, jobs) in run.responses.iter().enumerate() {
        later = later.saturating_sub(*jobs);
        if later == 0 {
            break;
        }
        points.push((
            (thousandth + 1) as f64 / 10.0,
            later as f64 * 100.0 / run.jobs as f64,
        ));
    }
    Series {
        name: name.to_owned(),
        points,
    }
}

fn miss_curve(kind: Kind) -> Series {
    let point = |percent: u64| {
        let run = many_deadlines(kind, percent);
        (percent as f64, run.missed as f64 * 100.0 / run.jobs as f64)
    };
    Series {
        name: kind.0.to_owned(),
        points: (1..=10).map(|step| point(step * 25)).collect(),
    }
}

const SEED: u64 = 1;
const KINDS: [Kind; 2] = [("costs anything up to it", 0), ("always costs the most", 1)];

//! What is simulated: shares over time, deadlines under all costs that were allowed for and under more, and a million jobs at once.

use referee_scheduler::{Class, Config, Fraction, Shares, Span, TaskId, Tenant, Time, Timing};

use crate::world::{Costs, Program, Random, World};

/// Three tenants, and how much each had of the slots over time.
pub struct Fairness {
    pub samples: Vec<FairnessSample>,
    /// The most that each may be away from its ideal, in milliseconds.
    pub bound_ms: [f64; 3],
}

pub struct FairnessSample {
    pub at: Time,
    /// What each had since the sample before, in slots.
    pub rate: [f64; 3],
    /// What each should have had.
    pub ideal: [f64; 3],
    /// How much more than its ideal each has had since the start, in milliseconds.
    pub error_ms: [f64; 3],
}

impl Fairness {
    /// The furthest that each was away from its ideal, in milliseconds.
    pub fn worst_ms(&self) -> [f64; 3] {
        std::array::from_fn(|i| {
            self.samples
                .iter()
                .map(|sample| sample.error_ms[i].abs())
                .fold(0.0, f64::max)
        })
    }
}

/// The tenant with the most shares sleeps for a while in the middle; a fourth tenant's real-time tasks come and go all the time.
pub fn fairness(seed: u64) -> Fairness {
    let config = Config::for_slots(4);
    let mut world = World::new(config, Costs::within(&config), seed);
    let tenants = WEIGHTS.map(|weight| world.add_tenant(Tenant::with_shares(shares(weight))));
    let mut sleepers = Vec::new();
    for (tenant, tasks) in tenants.into_iter().zip(DEPLOYED) {
        for _ in 0..tasks {
            let class = Class::Fair { shares: Shares::ONE };
            let task = world
                .add(tenant, class, Program::Endless, Time::ZERO)
                .expect("room for fair tasks");
            if tenant == tenants[2] {
                sleepers.push(task);
            }
        }
    }
    add_real_time(&mut world, 8, Fraction::percent(25), seed);

    let mut run = Fairness {
        samples: Vec::new(),
        bound_ms: bounds_ms(&config),
    };
    let (mut before, mut error) = ([0.0; 3], [0.0; 3]);
    for tick in 1..=TICKS {
        let sleeps = (TICKS / 3..TICKS * 2 / 3).contains(&(tick - 1));
        if tick - 1 == TICKS / 3 {
            sleepers.iter().for_each(|task| world.lull(*task));
        } else if tick - 1 == TICKS * 2 / 3 {
            sleepers
                .iter()
                .for_each(|task| world.rouse(*task, Program::Endless));
        }
        let at = Time::ZERO + TICK * tick;
        world.run_until(at);
        let held = tenants.map(|tenant| ms(world.held(tenant)));
        let had: [f64; 3] = std::array::from_fn(|i| held[i] - before[i]);
        let [one, two, four] = WEIGHTS.map(f64::from);
        let active = [one, two, if sleeps { 0.0 } else { four }];
        let ideal = active.map(|weight| had.iter().sum::<f64>() * weight / active.iter().sum::<f64>());
        error = std::array::from_fn(|i| error[i] + had[i] - ideal[i]);
        before = held;
        let rate = |ms_had: f64| ms_had / ms(TICK);
        run.samples.push(FairnessSample {
            at,
            rate: had.map(rate),
            ideal: ideal.map(rate),
            error_ms: error,
        });
    }
    run
}

/// Two that always wait are apart by at most (slots + 1) · (longest slice) · (1/w + 1/w') for each share (SFQ(D)); that bounds how far
/// each is from its part of the sum.
fn bounds_ms(config: &Config) -> [f64; 3] {
    let weights = WEIGHTS.map(f64::from);
    let slices = config.slots as u64 + 1;
    let unit = ms((config.slice_max + config.stop_latency + config.preemption_cost) * slices);
    let total: f64 = weights.iter().sum();
    let apart = |i: usize, j: usize| {
        if i == j {
            0.0
        } else {
            unit * (1.0 / weights[i] + 1.0 / weights[j])
        }
    };
    std::array::from_fn(|i| weights[i] * (0..3).map(|j| weights[j] / total * apart(i, j)).sum::<f64>())
}

/// How jobs met their deadlines.
pub struct Deadlines {
    pub jobs: u64,
    pub missed: u64,
    /// What part of the slots was promised.
    pub promised: Fraction,
    /// Jobs by how much of their time was gone, in thousandths; the last counts all beyond.
    pub responses: Vec<u64>,
}

/// Real-time tasks until no more are admitted, fair and background tasks in every gap, and costs of `percent` of what was stated.
pub fn deadlines(seed: u64, percent: u64, jobs: u64) -> Deadlines {
    let config = Config {
        real_time_share: Fraction::percent(90),
        ..Config::for_slots(2)
    };
    let stated = Costs::within(&config);
    let scaled = |span: Span| Span::from_ns(span.as_ns() * percent / 100);
    let costs = Costs {
        switch: scaled(stated.switch),
        stop: scaled(stated.stop),
        timer: scaled(stated.timer),
        always_most: seed.is_multiple_of(2),
    };
    let mut world = World::new(config, costs, seed);
    let real_time = add_real_time(&mut world, 400, Fraction::WHOLE, seed);
    let tenant = world.add_tenant(Tenant::with_shares(Shares::ONE));
    for index in 0..20 {
        let class = if index % 2 == 0 {
            Class::Background
        } else {
            Class::Fair { shares: Shares::ONE }
        };
        world
            .add(tenant, class, Program::Endless, Time::ZERO)
            .expect("room for fair tasks");
    }
    while real_time
        .iter()
        .map(|task| world.outcome(*task).jobs)
        .sum::<u64>()
        < jobs
    {
        let next = world.now + Span::from_ms(1000);
        world.run_until(next);
    }
    let outcomes = || real_time.iter().map(|task| world.outcome(*task));
    Deadlines {
        jobs: outcomes().map(|outcome| outcome.jobs).sum(),
        missed: outcomes().map(|outcome| outcome.missed).sum(),
        promised: promised(&world, config.slots),
        responses: world.responses.clone(),
    }
}

/// What a machine with ten thousand tasks went through.
pub struct Million {
    pub world: World,
    pub real_time: Vec<usize>,
    pub endless: Vec<usize>,
    pub promised: Fraction,
}

impl Million {
    /// How far apart a task's turns are on average, in milliseconds.
    pub fn usual_wait_ms(&self, task: usize) -> f64 {
        let turns = self
            .world
            .scheduler
            .usage(TaskId(task as u64))
            .map_or(0, |usage| usage.slices);
        ms(self.world.now.since(Time::ZERO)) / turns.max(1) as f64
    }
}

/// Four slots, twenty tenants, ten thousand tasks: some with deadlines, three hundred that never have enough, and the rest with a little
/// work now and then; until `jobs` jobs are done.
pub fn million(seed: u64, jobs: u64) -> Million {
    let config = Config {
        preemption_cost: Span::from_us(20),
        stop_latency: Span::from_us(100),
        ..Config::for_slots(4)
    };
    let mut random = Random(seed);
    let mut world = World::new(config, Costs::within(&config), seed);
    let real_time = add_real_time(&mut world, 60, Fraction::percent(50), seed);
    let tenants: Vec<usize> = (0..20)
        .map(|index| world.add_tenant(Tenant::with_shares(shares(1 + index % 4))))
        .collect();
    let mut endless = Vec::new();
    for index in 0..TASKS - world.tasks() {
        let tenant = tenants[index % tenants.len()];
        let (class, program) = match index {
            0..300 => (Class::Fair { shares: Shares::ONE }, Program::Endless),
            300..400 => (Class::Background, Program::Endless),
            _ => {
                let (work, pause) = (
                    Span::from_us(20 + random.below(100)),
                    Span::from_ms(500 + random.below(1500)),
                );
                (
                    Class::Fair {
                        shares: shares([1, 2, 3, 4][index % 4]),
                    },
                    Program::Bursts { work, pause },
                )
            }
        };
        let at = Time::ZERO + random.up_to(Span::from_ms(500));
        let task = world
            .add(tenant, class, program, at)
            .expect("room for fair tasks");
        if index < 300 {
            endless.push(task);
        }
    }
    // Whoever comes first has a long turn while it is alone, and then waits until the rest have had as much.
    world.run_jobs(jobs / 20);
    world.forget_waits();
    world.run_jobs(jobs - jobs / 20);
    let promised = promised(&world, config.slots);
    Million {
        world,
        real_time,
        endless,
        promised,
    }
}

/// Asks for up to `most` real-time tasks of one tenant with all kinds of periods. Returns those that were admitted and keep to their
/// budgets; one in six wants four times as much, which is no business of the others.
fn add_real_time(world: &mut World, most: usize, share: Fraction, seed: u64) -> Vec<usize> {
    let mut random = Random(seed ^ 0x5eed);
    let tenant = world.add_tenant(Tenant {
        real_time: share,
        ..Tenant::with_shares(Shares::ONE)
    });
    let mut admitted = Vec::new();
    for _ in 0..most {
        let period = Span::from_us(5_000 << random.below(6));
        let period = period + random.up_to(period);
        let budget = Span::from_ns(period.as_ns() / (8 + random.below(40)));
        let deadline = period - random.up_to(Span::from_ns(period.as_ns() / 2));
        let timing = Timing {
            period,
            budget,
            deadline,
        };
        let jitter = if random.below(2) == 0 {
            Span::ZERO
        } else {
            Span::from_ns(period.as_ns() / 4)
        };
        let is_greedy = random.below(6) == 0;
        let work = if is_greedy { budget * 4 } else { budget };
        let program = Program::Periodic { period, jitter, work };
        let spread = Span::from_ms(20 * random.below(2));
        let at = Time::ZERO + random.up_to(spread);
        let answer = world.add(tenant, Class::RealTime(timing), program, at);
        admitted.extend(answer.ok().filter(|_| !is_greedy));
    }
    admitted
}

fn promised(world: &World, slots: usize) -> Fraction {
    let promised = (0..slots).filter_map(|slot| world.scheduler.promised(referee_scheduler::SlotId(slot)));
    Fraction::from_ppb(promised.sum::<Fraction>().as_ppb() / slots as u64)
}

pub fn shares(count: u32) -> Shares {
    Shares::new(count).expect("a weight in order")
}

/// For plots and figures only: nothing is decided in floating point.
pub fn ms(span: Span) -> f64 {
    let us = u32::try_from(span.as_ns() / 1000).unwrap_or(u32::MAX);
    f64::from(us) / 1000.0
}

/// How many tasks the tenants have.
pub const DEPLOYED: [usize; 3] = [300, 30, 6];
pub const WEIGHTS: [u32; 3] = [1, 2, 4];
const TICKS: u64 = 120;
const TICK: Span = Span::from_ms(100);
pub const TASKS: usize = 10_000;

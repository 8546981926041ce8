//! A machine that is not there: programs that want to run, workers that take their time, and a clock that jumps from event to event.
//! It drives the real scheduler as the node would, and is the same for the same seed.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use referee_scheduler::{
    Class, Config, Decision, Refused, Scheduler, SlotId, Span, TaskId, Tenant, TenantId, Time,
};

/// What the machine really costs. The guarantees hold as long as it costs no more than the scheduler's configuration says.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// The most that a start and an end take together.
    pub switch: Span,
    /// The most that a worker goes on when it should stop.
    pub stop: Span,
    /// The most that the timer is late.
    pub timer: Span,
    /// Whether everything always costs the most, instead of anything up to it.
    pub always_most: bool,
}

impl Costs {
    /// All that `config` allows for.
    pub fn within(config: &Config) -> Self {
        let latency = config.stop_latency.as_ns();
        Self {
            switch: config.preemption_cost,
            stop: Span::from_ns(latency - latency / 4),
            timer: Span::from_ns(latency / 4),
            always_most: false,
        }
    }
}

/// When a program has work, and how much.
#[derive(Clone, Copy, Debug)]
pub enum Program {
    /// Always, without an end.
    Endless,
    /// A job of `work`, then nothing for `pause`, and again; each from half to all of it.
    Bursts { work: Span, pause: Span },
    /// A job of up to `work` every `period`, or up to `jitter` later.
    Periodic { period: Span, jitter: Span, work: Span },
}

/// What became of a program's jobs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Outcome {
    pub jobs: u64,
    /// Jobs that were done after their deadline.
    pub missed: u64,
    /// The longest that it was runnable without running.
    pub longest_wait: Span,
    /// How long it ran, by its own count.
    pub ran: Span,
    /// How long it held a slot.
    pub held: Span,
}

/// The machine, its programs and the scheduler.
pub struct World {
    pub scheduler: Scheduler,
    pub now: Time,
    pub costs: Costs,
    /// Calls of the scheduler so far.
    pub calls: u64,
    /// For each job with a deadline, how much of the time up to it was gone when it was done, in thousandths.
    pub responses: Vec<u64>,
    programs: Vec<Running>,
    slots: Vec<Option<Slice>>,
    tenants_held: Vec<Span>,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    sequence: u64,
    asked_for: Option<Time>,
    decisions: Vec<Decision>,
    random: Random,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake { task: usize },
    Stop { slot: usize, slice: u64 },
    Ask,
}

struct Running {
    program: Program,
    deadline: Option<Span>,
    tenant: usize,
    left: Span,
    /// When its job began, if it has one.
    since: Option<Time>,
    /// When it began to wait for a slot.
    waits_since: Option<Time>,
    next_wake: Time,
    outcome: Outcome,
}

#[derive(Clone, Copy)]
struct Slice {
    number: u64,
    task: usize,
    told: Time,
    began: Time,
    ends: Time,
    leave: Span,
}

impl World {
    pub fn new(config: Config, costs: Costs, seed: u64) -> Self {
        Self {
            scheduler: Scheduler::new(config).expect("a configuration in order"),
            now: Time::ZERO,
            costs,
            calls: 0,
            responses: vec![0; 2001],
            programs: Vec::new(),
            slots: vec![None; config.slots],
            tenants_held: Vec::new(),
            events: BinaryHeap::new(),
            sequence: 0,
            asked_for: None,
            decisions: Vec::new(),
            random: Random(seed),
        }
    }

    /// Tenants are numbered from 0 in the order in which they are added.
    pub fn add_tenant(&mut self, tenant: Tenant) -> usize {
        let index = self.tenants_held.len();
        self.scheduler
            .set_tenant(tenant_id(index), tenant)
            .expect("terms in order");
        self.tenants_held.push(Span::ZERO);
        index
    }

    /// Admits a program that first wakes at `at`; programs are numbered from 0.
    pub fn add(&mut self, tenant: usize, class: Class, program: Program, at: Time) -> Result<usize, Refused> {
        let task = self.programs.len();
        self.scheduler
            .admit(TaskId(task as u64), tenant_id(tenant), class)?;
        // One that asks for more than its budget was promised nothing for the rest.
        let deadline = match (class, program) {
            (Class::RealTime(timing), Program::Periodic { work, .. }) if work <= timing.budget => {
                Some(timing.deadline)
            }
            _ => None,
        };
        self.programs.push(Running {
            program,
            deadline,
            tenant,
            left: Span::ZERO,
            since: None,
            waits_since: None,
            next_wake: at,
            outcome: Outcome::default(),
        });
        self.push(at, Event::Wake { task });
        Ok(task)
    }

    /// Has an endless program find that it has nothing more to do, until [`rouse`](Self::rouse).
    pub fn lull(&mut self, task: usize) {
        self.programs[task].program = Program::Periodic {
            period: NEVER,
            jitter: Span::ZERO,
            work: Span::ZERO,
        };
        self.programs[task].left = Span::ZERO;
    }

    pub fn rouse(&mut self, task: usize, program: Program) {
        self.programs[task].program = program;
        self.programs[task].since = None;
        self.push(self.now, Event::Wake { task });
    }

    pub fn run_until(&mut self, end: Time) {
        while self.events.peek().is_some_and(|Reverse((at, _, _))| *at <= end) {
            self.step();
        }
        self.now = self.now.max(end);
    }

    pub fn run_jobs(&mut self, jobs: u64) {
        let mut done = 0;
        while done < jobs {
            done += u64::from(self.step());
        }
    }

    /// Begins to measure the longest wait of each program anew.
    pub fn forget_waits(&mut self) {
        for program in &mut self.programs {
            program.outcome.longest_wait = Span::ZERO;
        }
    }

    /// How many programs there are.
    pub fn tasks(&self) -> usize {
        self.programs.len()
    }

    pub fn outcome(&self, task: usize) -> Outcome {
        self.programs[task].outcome
    }

    /// How long a tenant's tasks have held slots, present slices included.
    pub fn held(&self, tenant: usize) -> Span {
        let running = self
            .slots
            .iter()
            .flatten()
            .filter(|slice| self.programs[slice.task].tenant == tenant);
        self.tenants_held[tenant] + running.map(|slice| self.now.since(slice.told)).sum()
    }

    /// Handles one event; says whether a job was done.
    fn step(&mut self) -> bool {
        let Some(Reverse((at, _, event))) = self.events.pop() else {
            panic!("nothing left to happen")
        };
        self.now = at;
        let mut done = false;
        match event {
            Event::Wake { task } => self.wake(task),
            Event::Stop { slot, slice } => match self.slots[slot] {
                Some(present) if present.number == slice => done = self.stop(slot, present),
                _ => return false,
            },
            Event::Ask if self.asked_for.is_none_or(|asked| asked > at) => return false,
            Event::Ask => self.asked_for = None,
        }
        self.decide();
        done
    }

    fn wake(&mut self, task: usize) {
        let work = match self.programs[task].program {
            Program::Endless => NEVER,
            Program::Periodic { work, .. } if self.costs.always_most => work,
            Program::Bursts { work, .. } | Program::Periodic { work, .. } => self.random.half_to_all(work),
        };
        let program = &mut self.programs[task];
        if let Program::Periodic { period, jitter, .. } = program.program {
            program.next_wake = self.now + period + self.random.up_to(jitter);
            let at = program.next_wake;
            self.push(at, Event::Wake { task });
        }
        let program = &mut self.programs[task];
        program.left += work;
        if program.since.is_none() {
            program.since = Some(self.now);
            program.waits_since = Some(self.now);
        }
        self.scheduler
            .wake(TaskId(task as u64), self.now)
            .expect("an admitted task");
        self.calls += 1;
    }

    fn stop(&mut self, slot: usize, slice: Slice) -> bool {
        self.slots[slot] = None;
        let program = &mut self.programs[slice.task];
        let leave = Time::from_ns(self.now.as_ns().saturating_sub(slice.leave.as_ns()));
        let ran = leave.since(slice.began).min(program.left);
        let held = self.now.since(slice.told);
        program.left = program.left - ran;
        program.outcome.ran += ran;
        program.outcome.held += held;
        self.tenants_held[program.tenant] += held;
        let still_ready = !program.left.is_zero();
        program.waits_since = still_ready.then_some(self.now);
        if !still_ready {
            self.finish(slice.task);
        }
        self.scheduler
            .stopped(SlotId(slot), ran, still_ready, self.now)
            .expect("a slice that ran");
        self.calls += 1;
        !still_ready
    }

    fn finish(&mut self, task: usize) {
        let program = &mut self.programs[task];
        program.outcome.jobs += 1;
        if let (Some(since), Some(deadline)) = (program.since.take(), program.deadline) {
            let response = self.now.since(since);
            program.outcome.missed += u64::from(response > deadline);
            let thousandth = response.as_ns() * 1000 / deadline.as_ns();
            let last = self.responses.len() - 1;
            self.responses[usize::try_from(thousandth).unwrap_or(last).min(last)] += 1;
        }
        if let Program::Bursts { pause, .. } = program.program {
            let at = self.now + self.random.half_to_all(pause);
            self.push(at, Event::Wake { task });
        }
    }

    fn decide(&mut self) {
        let mut decisions = std::mem::take(&mut self.decisions);
        decisions.clear();
        self.scheduler.decide(self.now, &mut decisions);
        self.calls += 1;
        for decision in &decisions {
            match *decision {
                Decision::Run { slot, task, budget } => self.start(slot.0, task, budget),
                Decision::Preempt { slot } => self.interrupt(slot.0),
            }
        }
        self.decisions = decisions;
        let next = self.scheduler.next_event().map(|at| at.max(self.now));
        if let Some(at) = next
            && self.asked_for.is_none_or(|asked| at < asked)
        {
            let late = at + self.cost(self.costs.timer);
            self.asked_for = Some(late);
            self.push(late, Event::Ask);
        }
    }

    fn start(&mut self, slot: usize, task: TaskId, budget: Span) {
        assert!(self.slots[slot].is_none(), "{slot} is taken");
        let task = usize::try_from(task.0).expect("a number of ours");
        let switch = self.cost(self.costs.switch);
        let enter = Span::from_ns(switch.as_ns() / 2);
        let overrun = self.cost(self.costs.stop);
        let program = &mut self.programs[task];
        assert!(program.since.is_some(), "{task} has nothing to do");
        if let Some(since) = program.waits_since.take() {
            program.outcome.longest_wait = program.outcome.longest_wait.max(self.now.since(since));
        }
        let runs = if program.left <= budget {
            program.left
        } else {
            program.left.min(budget + overrun)
        };
        self.sequence += 1;
        let slice = Slice {
            number: self.sequence,
            task,
            told: self.now,
            began: self.now + enter,
            ends: self.now + switch + runs,
            leave: switch - enter,
        };
        self.slots[slot] = Some(slice);
        self.push(
            slice.ends,
            Event::Stop {
                slot,
                slice: slice.number,
            },
        );
    }

    /// The worker stops a little later, unless it was about to anyway.
    fn interrupt(&mut self, slot: usize) {
        let by = self.now + self.cost(self.costs.stop);
        let Some(slice) = &mut self.slots[slot] else {
            panic!("nothing runs in {slot}")
        };
        if by < slice.ends {
            slice.ends = by;
            self.sequence += 1;
            slice.number = self.sequence;
            let number = slice.number;
            self.push(by, Event::Stop { slot, slice: number });
        }
    }

    fn cost(&mut self, most: Span) -> Span {
        if self.costs.always_most {
            most
        } else {
            self.random.up_to(most)
        }
    }

    fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.events.push(Reverse((at, self.sequence, event)));
    }
}

/// SplitMix64: small, and the same everywhere.
#[derive(Clone, Copy, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    pub fn up_to(&mut self, most: Span) -> Span {
        Span::from_ns(self.below(most.as_ns().saturating_add(1)))
    }

    fn half_to_all(&mut self, most: Span) -> Span {
        most - self.up_to(Span::from_ns(most.as_ns() / 2))
    }
}

fn tenant_id(index: usize) -> TenantId {
    TenantId(index as u64)
}

/// Longer than any simulation.
const NEVER: Span = Span::from_ms(1_000_000_000);

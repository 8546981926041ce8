//! One muscle's life from its first instruction to its end.
//!
//! A cell is not a thread. [`LoadedCell::run`] enters the guest until it parks, ends, or its budget is
//! over; whoever calls decides what to wait for. Each stop of the vCPU is one [`Exit`]; it becomes one
//! action (`dispatch.rs`); before that is carried out, all queues are drained and everything that can move is
//! moved. There is a single way out: [`Stop`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use referee_hv::{Exit, Memory, Stopped, VcpuThread};

use crate::dispatch::{Action, Bell};
use crate::error::{CellError, Halt};
use crate::events::{self, Served};
use crate::fault::MuscleFault;
use crate::host::{Asked, Host};
use crate::hot::Hot;
use crate::layout::{HEAP_GPA, WINDOW_GPA};
use crate::load::{self, CheckedImage, Machine, Shell};
use crate::report::FaultReport;
use crate::reset::{Origin, Touched};
use crate::ring::RingEnd;
use crate::rpc::{Answer, Rpc};
use crate::sockets::Sockets;
use crate::spec::{CellLimits, CellSpec, ClockAccess};
use crate::template::Template;

/// Why a cell stopped.
#[derive(Debug)]
pub enum Stop {
    /// The muscle waits, until something arrives or until the given time of its monotonic clock.
    Parked {
        /// When it wants to go on even if nothing arrives.
        until: Option<Instant>,
    },
    /// The muscle waits for the other side of a ring.
    Waiting {
        /// Which of the cell's rings ([`CellSpec::rings`]).
        ring: usize,
    },
    /// The muscle is done.
    Exited(u8),
    /// The muscle broke a rule. The cell is over.
    Faulted(Box<FaultReport>),
    /// The budget is over, or somebody kicked the thread; the muscle can go on.
    Preempted,
}

/// A cell ready to run. It may be moved to another thread between two runs.
#[derive(Debug)]
pub struct LoadedCell {
    pub(crate) machine: Machine,
    pub(crate) limits: CellLimits,
    pub(crate) clock: ClockAccess,
    pub(crate) host: Asked,
    pub(crate) epoch: Instant,
    pub(crate) rpc: Rpc,
    pub(crate) sockets: Sockets,
    /// Its bundle has the symbols for backtraces.
    pub(crate) image: CheckedImage,
    /// What its boot block says.
    pub(crate) told: CellSpec,
    /// What a reset goes back to.
    pub(crate) origin: Origin,
    pub(crate) touched: Touched,
    /// Whether it stands at a park without a time.
    pub(crate) rest: Rest,
    /// Whether it has promised in this life what [`muscle_abi::doorbell::READY`] says.
    pub(crate) said_ready: bool,
    /// What the vsock device may touch: the window and the heap.
    pub(crate) view: Memory,
    pub(crate) started: Option<Instant>,
    pub(crate) cpu_used: Duration,
    /// CPU time of earlier periods, see [`LoadedCell::renew_time`].
    pub(crate) cpu_before: Duration,
    pub(crate) exits: u64,
    pub(crate) hot: Option<Hot>,
    /// What the processor stopped for on a hot thread, if that was not acted on yet.
    pub(crate) unsettled: Option<Stopped>,
    /// What the muscle did next when a call of it, made before that, had to wait for somebody else.
    pub(crate) put_off: Option<Deed>,
    /// Whether the next park may come from a muscle that looked into its rings before something was put there: it was
    /// interrupted between the look and the doorbell, or ran meanwhile.
    pub(crate) may_have_missed: bool,
    /// Whether it stopped last at no doing of its own.
    pub(crate) was_interrupted: bool,
    /// The ring that it waits for.
    pub(crate) waiting: Option<usize>,
}

/// What a muscle did when its processor stopped: what is to be done about it, or the rule that it broke.
pub(crate) type Deed = Result<Action, MuscleFault>;

/// Where a muscle stands that has nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rest {
    /// It has something to do, or waits for a time.
    None,
    /// It waits.
    Parked,
    /// It waits, and promised what [`muscle_abi::doorbell::READY`] says.
    Ready,
}

/// What a cell has used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Wall-clock time since the first instruction, or since time was renewed.
    pub wall: Duration,
    /// CPU time, the host's work included; up to a millisecond more than that for each run.
    pub cpu: Duration,
    /// Times the vCPU stopped.
    pub exits: u64,
    /// Bytes of heap that have memory.
    pub heap_bytes: u64,
}

impl LoadedCell {
    /// Loads a checked image into a shell.
    ///
    /// # Errors
    /// [`CellError`]; a memory limit that is too small is [`CellError::MemoryLimit`].
    pub fn load(
        shell: Shell,
        image: &CheckedImage,
        spec: &CellSpec,
        services: Services,
    ) -> Result<LoadedCell, CellError> {
        let machine = load::load(shell, image, spec, None)?;
        let origin = match spec.resettable {
            true => Origin::keep(&machine.vm, &machine.layout)?,
            false => Origin::Unkept,
        };
        Ok(LoadedCell::of(machine, image, origin, spec, services))
    }

    /// Makes another cell of the image that a template is of. It begins at the template's park; before its first call it must be
    /// given a life by [`LoadedCell::reset`].
    ///
    /// # Errors
    /// [`CellError`].
    pub fn load_from(
        template: &Arc<Template>,
        shell: Shell,
        image: &CheckedImage,
        spec: &CellSpec,
        services: Services,
    ) -> Result<LoadedCell, CellError> {
        let machine = load::load(shell, image, spec, Some(template))?;
        let origin = Origin::Template(Arc::clone(template));
        Ok(LoadedCell::of(machine, image, origin, spec, services))
    }

    fn of(
        machine: Machine,
        image: &CheckedImage,
        origin: Origin,
        spec: &CellSpec,
        services: Services,
    ) -> LoadedCell {
        let view = device_view(&machine);
        LoadedCell {
            told: spec.clone(),
            machine,
            limits: spec.limits,
            clock: spec.clock,
            host: Asked::new(services.host),
            epoch: services.epoch,
            rpc: Rpc::new(spec.limits.frame_bytes),
            sockets: services.sockets,
            image: image.clone(),
            origin,
            touched: Touched::default(),
            rest: Rest::None,
            said_ready: false,
            view,
            started: None,
            cpu_used: Duration::ZERO,
            cpu_before: Duration::ZERO,
            exits: 0,
            hot: None,
            unsettled: None,
            put_off: None,
            may_have_missed: false,
            was_interrupted: false,
            waiting: None,
        }
    }

    /// Lets the muscle run until it parks, ends or breaks a rule, or for about `budget` of wall-clock time.
    ///
    /// After [`Stop::Exited`] or [`Stop::Faulted`] the cell must be dropped.
    ///
    /// # Errors
    /// [`CellError`] when the host failed; the cell must be dropped then, too.
    pub fn run(&mut self, thread: &VcpuThread, budget: Option<Duration>) -> Result<Stop, CellError> {
        // It looks again as soon as it runs, so what rang before is heard.
        if let Some(end) = self.waiting.take().and_then(|ring| self.told.rings.get(ring)) {
            end.take_ring();
        }
        let entered = Instant::now();
        let begun = *self.started.get_or_insert(entered);
        if let Some(stop) = self.run_hot(thread, entered, budget)? {
            return Ok(stop);
        }
        let _armed = self.machine.vcpu.get()?.kicker().arm();
        let now = if self.unsettled.is_some() {
            Instant::now()
        } else {
            entered
        };
        let mark = thread.mark(now);
        if let Some(fault) = self.limit_reached(begun, now, self.cpu_used) {
            if self.unsettled.is_some() {
                // It ran since its queues were drained last. An alarm that rings at once lets nothing wait any more.
                thread.ring_by(now, now)?;
                let drained = self.pump();
                thread.rang();
                if let Err(Halt::Host(error)) = drained {
                    return Err(error);
                }
            }
            return Ok(self.faulted(fault));
        }
        // CPU time runs no faster than the clock on the wall, so one alarm serves for both.
        let deadline = self.limits.deadline.map(|deadline| begun + deadline);
        let cpu = self.limits.cpu.map(|cpu| now + cpu.saturating_sub(self.cpu_used));
        let budget = budget.map(|budget| now + budget);
        if let Some(at) = [budget, deadline, cpu].into_iter().flatten().min() {
            thread.ring_by(at, now)?;
        }
        let stop = loop {
            match self.step() {
                Ok(Some(stop)) => break Ok(stop),
                Ok(None) => {}
                Err(Halt::Interrupted) => {
                    thread.rang();
                    let now = Instant::now();
                    let used = self.cpu_used + thread.cpu_since(mark, now);
                    break Ok(match self.limit_reached(begun, now, used) {
                        Some(fault) => self.faulted(fault),
                        None => Stop::Preempted,
                    });
                }
                Err(Halt::Fault(fault)) => break Ok(self.faulted(fault)),
                Err(Halt::Host(error)) => break Err(error),
            }
        };
        let now = Instant::now();
        self.cpu_used += thread.cpu_since(mark, now);
        if matches!(stop, Ok(Stop::Parked { until: None })) && self.rpc.has_answer() {
            self.heat(begun, now)?;
        }
        stop
    }

    /// Begins a call of an exported function; [`LoadedCell::run`] then performs it and [`LoadedCell::take_answer`]
    /// has the result. False when name and payload are larger than a frame may be.
    #[must_use]
    pub fn start_call(&mut self, function: &str, payload: &[u8]) -> bool {
        self.rpc.start_call(function, payload).is_some()
    }

    /// Lets deadline and CPU time begin anew with the next run, for a host that limits each call and not the cell's life.
    pub fn renew_time(&mut self) {
        self.started = None;
        self.cpu_before += std::mem::take(&mut self.cpu_used);
    }

    /// The answer to the call that was begun last, when it has come.
    pub fn take_answer(&mut self) -> Option<Answer> {
        self.rpc.take_answer()
    }

    /// Takes the memory of an answer that was read, so that the next one needs none.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.rpc.recycle(payload);
    }

    /// Bytes that name and payload of a call may have together.
    pub fn frame_bytes(&self) -> u32 {
        self.limits.frame_bytes
    }

    /// Whether the muscle owes an answer to a call.
    pub fn is_answering(&self) -> bool {
        self.rpc.is_waiting()
    }

    /// Whether anything but time could wake the muscle: an outside program or a caller.
    pub fn can_be_woken(&self) -> bool {
        self.sockets.any()
    }

    /// The outside sockets, to wait on while the muscle is parked.
    pub fn sockets(&mut self) -> &mut Sockets {
        &mut self.sockets
    }

    /// What the cell has used so far.
    pub fn usage(&self) -> Usage {
        Usage {
            wall: self.started.map_or(Duration::ZERO, |started| started.elapsed()),
            cpu: self.cpu_before + self.cpu_used,
            exits: self.exits,
            heap_bytes: self.machine.heap_bytes,
        }
    }

    /// The fault of a muscle that parked although nothing can wake it.
    pub fn parked_for_ever(&self) -> FaultReport {
        self.report(MuscleFault::ParkedForEver)
    }

    /// The fault of a muscle whose deadline passed while it was parked, if it has.
    pub fn deadline_passed(&self) -> Option<FaultReport> {
        let fault = self.limit_reached(self.started?, Instant::now(), self.cpu_used)?;
        Some(self.report(fault))
    }

    /// When the deadline is, once the cell has started.
    pub fn deadline(&self) -> Option<Instant> {
        Some(self.started? + self.limits.deadline?)
    }

    pub(crate) fn limit_reached(
        &self,
        begun: Instant,
        now: Instant,
        cpu_used: Duration,
    ) -> Option<MuscleFault> {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        match (self.limits.deadline, self.limits.cpu) {
            (Some(deadline), _) if now.saturating_duration_since(begun) >= deadline => {
                Some(MuscleFault::Deadline(millis(deadline)))
            }
            (_, Some(cpu)) if cpu_used >= cpu => Some(MuscleFault::CpuLimit(millis(cpu))),
            _ => None,
        }
    }

    /// The end of a muscle that broke a rule: this one, unless it broke another before, whose end was put off.
    pub(crate) fn faulted(&mut self, fault: MuscleFault) -> Stop {
        let first = self.put_off.take().and_then(Result::err);
        Stop::Faulted(Box::new(self.report(first.unwrap_or(fault))))
    }

    /// One exit: enter, stop, move everything that can be moved, act.
    fn step(&mut self) -> Result<Option<Stop>, Halt> {
        let was_hot = self.unsettled.is_some();
        let deed = match self.put_off.take() {
            Some(deed) => deed,
            None => {
                // What arrived while the muscle was parked must be in its rings before it looks at them.
                self.may_have_missed |= self.pump()? && self.was_interrupted;
                // A wish to stop that came before this thread could be kicked interrupts nothing by itself.
                if self.sockets.is_stopped() {
                    return Err(Halt::Interrupted);
                }
                self.exits += 1;
                self.rest = Rest::None;
                self.next_deed()?
            }
        };
        self.was_interrupted = deed == Ok(Action::Interrupted);
        // Also if a call comes before it stops there.
        self.said_ready |= deed == Ok(Action::Ring(Bell::Ready));
        let pumped = self.pump();
        let (action, mut delivered) = match (deed, pumped) {
            // What the muscle posted comes before what it did next, which is not lost meanwhile: it would take a doorbell for answered.
            (deed, Err(Halt::Interrupted)) if deed != Ok(Action::Interrupted) => {
                self.put_off = Some(deed);
                return Err(Halt::Interrupted);
            }
            (_, Err(Halt::Host(error))) => return Err(error.into()),
            // Whatever is wrong with what it posted, too.
            (Err(fault), _) => return Err(fault.into()),
            (Ok(action), pumped) => (action, pumped?),
        };
        match action {
            Action::Ring(Bell::Park { .. } | Bell::Ready) => {
                delivered |= std::mem::take(&mut self.may_have_missed);
            }
            Action::Interrupted => self.may_have_missed |= delivered,
            _ => {}
        }
        match action {
            Action::Resume => Ok(None),
            Action::Interrupted if was_hot => Ok(None),
            Action::Interrupted => Err(Halt::Interrupted),
            Action::Emulate(trap) => self.emulate_port(&trap).map(|()| None),
            Action::Ring(Bell::Park { .. } | Bell::Ready) if delivered => Ok(None),
            Action::Ring(Bell::Ready) => {
                self.rest = Rest::Ready;
                Ok(Some(Stop::Parked { until: None }))
            }
            Action::Ring(Bell::Park { until_ns }) => self.park(until_ns).map(Some),
            Action::Ring(Bell::Exit { code }) => match u8::try_from(code) {
                Ok(small) if code <= muscle_abi::MAX_EXIT_CODE => Ok(Some(Stop::Exited(small))),
                _ => Err(MuscleFault::ExitCode(code).into()),
            },
            Action::Ring(Bell::Abort { length }) => {
                Err(MuscleFault::Aborted(self.abort_text(length)?).into())
            }
            Action::Ring(Bell::Grow { pages }) => self.grow(pages).map(|()| None),
            Action::Ring(Bell::Yield) => Ok(None),
            Action::Ring(Bell::RingWait { handle }) => {
                let (ring, end) = self.ring_of(handle)?;
                if end.take_ring() || delivered {
                    return Ok(None);
                }
                self.waiting = Some(ring);
                Ok(Some(Stop::Waiting { ring }))
            }
            Action::Ring(Bell::RingWake { handle }) => {
                let (_, end) = self.ring_of(handle)?;
                end.wake_other();
                Ok(None)
            }
        }
    }

    fn next_deed(&mut self) -> Result<Deed, CellError> {
        let Machine {
            vcpu,
            vsock,
            heap_bytes,
            ..
        } = &mut self.machine;
        let vcpu = vcpu.get()?;
        let stopped = match self.unsettled.take() {
            Some(stopped) => stopped,
            None => vcpu.run_once()?,
        };
        let exit = vcpu.exit(stopped);
        if let Exit::PortOut { port, .. } = exit {
            return self.trapped(port);
        }
        Ok(crate::dispatch::dispatch(exit, vsock, &self.view, *heap_bytes))
    }

    /// Drains the queues and serves calls and sockets until nothing moves; true when the muscle has
    /// something new to look at.
    pub(crate) fn pump(&mut self) -> Result<bool, Halt> {
        while let Some(port) = self.host.severed() {
            self.sockets.sever(&mut self.machine.vsock, port);
        }
        let mut delivered = false;
        // What the muscle sent before it answered by the lane is in its queues now, and comes first.
        let answered = self.rpc.is_answered_by_lane(&self.view);
        // A muscle that runs meanwhile could have something new for ever: then whoever calls looks at the clock between two rounds.
        let runs = self.hot.as_ref().is_some_and(Hot::is_lent);
        loop {
            let drained = self.machine.vsock.drain(&self.view);
            let served = self.serve();
            let moved = match (drained, served) {
                (Ok(progress), served) => {
                    delivered |= progress.delivered > 0;
                    progress.any() | served?
                }
                // What it posted before what is wrong was taken, and comes first.
                (Err(fault), Err(Halt::Interrupted)) => {
                    self.put_off = Some(Err(fault.into()));
                    return Err(Halt::Interrupted);
                }
                (Err(_), Err(Halt::Host(error))) => return Err(error.into()),
                (Err(fault), _) => return Err(MuscleFault::from(fault).into()),
            };
            if !moved || runs {
                break;
            }
        }
        if answered && !(runs && self.machine.vsock.is_offered(&self.view)) {
            self.rpc.take_from_lane(&self.view)?;
        }
        Ok(delivered)
    }

    /// Serves what the queues brought; true when anything moved.
    fn serve(&mut self) -> Result<bool, Halt> {
        let Machine { vsock, .. } = &mut self.machine;
        let mut moved = false;
        while let Some(event) = vsock.next_event() {
            moved = true;
            events::handle(event, vsock, &mut self.rpc, &mut self.sockets, &mut self.host)?;
        }
        while let Some(notice) = self.sockets.next_notice() {
            moved = true;
            events::take_notice(notice, vsock, &mut self.sockets, &mut self.host)?;
        }
        moved |= self.rpc.service(vsock, &mut Served(&mut self.host))?;
        moved |= self.sockets.service(vsock);
        Ok(moved)
    }

    /// The end of a ring that a handle names, and which of the cell's it is.
    fn ring_of(&self, handle: u64) -> Result<(usize, &RingEnd), MuscleFault> {
        let grants = self.told.grants.iter().filter(|entry| load::is_ring(entry));
        let mut rings = grants.zip(&self.told.rings).enumerate();
        let found = rings.find(|(_, (entry, _))| entry.handle == handle);
        let (index, (_, end)) = found.ok_or(MuscleFault::RingHandle(handle))?;
        Ok((index, end))
    }

    fn park(&mut self, until_ns: u64) -> Result<Stop, Halt> {
        if until_ns == 0 {
            self.rest = Rest::Parked;
            return Ok(Stop::Parked { until: None });
        }
        if self.clock == ClockAccess::None {
            return Err(MuscleFault::ParkWithoutClock.into());
        }
        let until = self.epoch.checked_add(Duration::from_nanos(until_ns));
        Ok(Stop::Parked { until })
    }

    fn grow(&mut self, pages: u64) -> Result<(), Halt> {
        let most = self.machine.layout.sizes().heap;
        let now = self.machine.heap_bytes;
        let asked = pages.saturating_mul(muscle_abi::PAGE_SIZE);
        // At least half as much again, so that the number of slots stays small whatever is asked.
        let step = crate::spec::pages(asked.max(now / 2)).min(most.saturating_sub(now));
        if asked > 0 && asked <= most.saturating_sub(now) {
            self.machine
                .vm
                .add_memory(HEAP_GPA + now, step)
                .map_err(CellError::from)?;
            self.machine.heap_bytes = now + step;
            self.view = device_view(&self.machine);
        }
        let answer = self.machine.heap_bytes.to_le_bytes();
        self.machine
            .vm
            .write(WINDOW_GPA, &answer)
            .map_err(CellError::from)?;
        Ok(())
    }

    fn abort_text(&self, length: u64) -> Result<String, CellError> {
        let length = length.min(muscle_abi::channel::MAILBOX_TEXT_MAX);
        let mut text = vec![0u8; usize::try_from(length).unwrap_or(0)];
        self.machine
            .vm
            .read(WINDOW_GPA + muscle_abi::channel::MAILBOX_TEXT_OFFSET, &mut text)?;
        Ok(String::from_utf8_lossy(&text)
            .chars()
            .map(|c| {
                if c.is_control() && c != '\n' {
                    '\u{fffd}'
                } else {
                    c
                }
            })
            .collect())
    }
}

/// What a cell needs of the host while it runs.
#[derive(Debug)]
pub struct Services {
    /// Holds the grants and performs the muscle's calls.
    pub host: Box<dyn Host>,
    /// Zero of the cell's monotonic clock.
    pub epoch: Instant,
    /// Outside sockets.
    pub sockets: Sockets,
}

fn device_view(machine: &Machine) -> Memory {
    machine.vm.view(|start| start == WINDOW_GPA || start >= HEAP_GPA)
}

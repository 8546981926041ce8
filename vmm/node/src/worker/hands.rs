//! The threads that do what the supervisor says.

mod keeping;

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant};

use referee::{
    BrokerLimits, CallError, Canceller, Cell, CellThread, ConsoleStreams, ControlError, Input, InputReader,
    Inputs, Loaded, Output, OutputWriter, Permit, Progress, StartError,
};
use referee_hv::process::exit_at_once;

use crate::error::{NodeError, OrHost, with_causes};
use crate::line::{
    self, Begin, Failure, Flow, FromWorker, How, Rest, Restriction, ToWorker, What, With, frame,
};
use crate::nursery::Handed;
use crate::worker::Shape;
use crate::worker::outlets::{LineBell, LineOutput};
use crate::worker::seat::{Lines, Seat, carried};
use crate::worker::stop_watch::StopWatch;
use crate::worker::stream::StreamInput;

/// The threads, before there is work.
#[derive(Debug)]
pub(crate) struct Hands {
    gate: Arc<Gate>,
    own: CellThread,
}

/// Where hands wait for their work.
#[derive(Debug, Default)]
struct Gate {
    work: Mutex<Option<Arc<Work>>>,
    opened: Condvar,
}

impl Hands {
    /// Makes `others` threads beside the calling one, each prepared to run cells.
    ///
    /// # Errors
    /// [`NodeError::Host`] when there are no threads or timers left.
    pub(crate) fn prepare(others: usize) -> Result<Hands, NodeError> {
        let gate = Arc::new(Gate::default());
        let (prepared, is_prepared) = std::sync::mpsc::channel();
        for number in 0..others {
            let (gate, prepared) = (Arc::clone(&gate), prepared.clone());
            let hand = move || {
                let thread = CellThread::enter();
                // The other end waits for each.
                let _ = prepared.send(thread.as_ref().map(drop).map_err(with_causes_of));
                if let Ok(thread) = thread {
                    gate.wait().hand(&thread);
                }
            };
            std::thread::Builder::new()
                .name(format!("hand-{number}"))
                .spawn(hand)
                .or_host("making a thread")?;
        }
        for _ in 0..others {
            is_prepared
                .recv()
                .or_host("preparing a thread")?
                .or_host("preparing a thread")?;
        }
        let own = CellThread::enter().or_host("preparing a thread")?;
        Ok(Hands { gate, own })
    }

    /// Sets all of them to work, the calling thread too, until the supervisor closes the line.
    pub(crate) fn set_to(self, work: Work) -> ! {
        let work = Arc::new(work);
        *lock(&self.gate.work) = Some(Arc::clone(&work));
        self.gate.opened.notify_all();
        work.hand(&self.own)
    }
}

impl Gate {
    fn wait(&self) -> Arc<Work> {
        let mut work = lock(&self.work);
        loop {
            if let Some(work) = &*work {
                return Arc::clone(work);
            }
            work = self.opened.wait(work).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn with_causes_of(error: &referee_hv::HvError) -> String {
    with_causes(error)
}

/// What all hands share.
#[derive(Debug)]
pub(crate) struct Work {
    permit: Permit,
    shape: Shape,
    reader: Mutex<Reader>,
    writer: Arc<Mutex<UnixStream>>,
    /// Those that nobody has called for longest first; calls take the last.
    idle: Mutex<Vec<Seat>>,
    calls: Mutex<HashMap<u64, Call>>,
    /// Its ends of rings, which the one cell has.
    rings: Vec<Handed>,
    /// What its muscle rings at their other ends.
    bells: Vec<Arc<LineBell>>,
    _ahead: Option<Loaded>,
}

#[derive(Debug)]
struct Reader {
    line: BufReader<UnixStream>,
    buffer: Vec<u8>,
}

/// How long a muscle computes at a stretch while another was promised time.
const STRETCH: Duration = Duration::from_millis(1);

/// A piece of a call that is to run.
struct Order {
    call: u64,
    with: With,
    flow: Option<Flow>,
    budget: Option<Duration>,
    makes_way: bool,
    traced: bool,
}

/// A call that was taken from the line.
#[derive(Debug, Default)]
struct Call {
    /// None until it has a cell.
    canceller: Option<Canceller>,
    /// It was given up before it had one.
    given_up: bool,
    /// Its piece is to end.
    preempted: bool,
    /// None while a hand has it.
    seat: Option<Seat>,
}

impl Work {
    pub(crate) fn new(
        permit: Permit,
        rings: Vec<Handed>,
        shape: Shape,
        calls: UnixStream,
        not_confined_by: String,
    ) -> Result<Work, NodeError> {
        let doing = "setting the line of calls up";
        let mut writer = calls.try_clone().or_host(doing)?;
        let ahead = match shape.ahead {
            0 => None,
            ahead => Some(permit.keep_loaded(ahead)?),
        };
        let ready = frame(&FromWorker::Ready { not_confined_by }).or_host(doing)?;
        writer.write_all(&ready).or_host(doing)?;
        let writer = Arc::new(Mutex::new(writer));
        let bell = |Handed { grant, ring }: &Handed| {
            let bell = Arc::new(LineBell::new(&writer, &grant.slot));
            // Who is at the other end is the supervisor's to know.
            ring.end(grant.role().other())
                .set_waker(Some(Waker::from(Arc::clone(&bell))));
            bell
        };
        let bells = rings.iter().map(bell).collect();
        Ok(Work {
            permit,
            rings,
            bells,
            shape,
            reader: Mutex::new(Reader {
                line: BufReader::new(calls),
                buffer: Vec::new(),
            }),
            writer,
            idle: Mutex::default(),
            calls: Mutex::default(),
            _ahead: ahead,
        })
    }

    /// One thread's life, to the end of the process.
    fn hand(&self, thread: &CellThread) -> ! {
        loop {
            match self.next() {
                Some(ToWorker::Run {
                    call,
                    with,
                    flow,
                    budget,
                    makes_way,
                    traced,
                }) => {
                    let order = Order {
                        call,
                        with,
                        flow,
                        budget,
                        makes_way,
                        traced,
                    };
                    self.piece(thread, order);
                }
                Some(ToWorker::Cancel { call }) => self.cancel(call),
                Some(ToWorker::Preempt { call }) => self.preempt(call),
                Some(ToWorker::Rest { idle, how }) => self.rest(idle, how),
                Some(ToWorker::Restrict { number, restriction }) => self.restrict(number, &restriction),
                Some(ToWorker::Heard { slot }) => {
                    let of_slot = self.bells.iter().filter(|bell| bell.slot() == slot);
                    of_slot.for_each(|bell| bell.heard());
                }
                Some(ToWorker::Lend { number, slot, loan }) => {
                    self.changed(number, self.permit.control().lend(&slot, loan));
                }
                Some(ToWorker::Keep) => self.keep(thread),
                // The supervisor is done with this worker, or gone.
                None => self.end(),
            }
        }
    }

    /// The next message. A new call is known before anybody can read what follows it, which may give it up.
    fn next(&self) -> Option<ToWorker> {
        let mut reader = lock(&self.reader);
        let Reader { line, buffer } = &mut *reader;
        let message = line::read(line, buffer).ok().flatten();
        if let Some(ToWorker::Run {
            call,
            with: With::Begin(_),
            ..
        }) = &message
        {
            lock(&self.calls).insert(*call, Call::default());
        }
        message
    }

    /// Takes a grant from all cells, those that run calls on other threads too.
    fn restrict(&self, number: u64, restriction: &Restriction) {
        let control = self.permit.control();
        let done = match &restriction.narrowing {
            None => control.revoke(&restriction.slot),
            Some(narrowing) => control.narrow(&restriction.slot, narrowing),
        };
        self.changed(number, done);
    }

    fn changed(&self, number: u64, done: Result<(), ControlError>) {
        let failure = done.err().map(|error| with_causes(&error));
        self.tell(&FromWorker::Restricted { number, failure });
    }

    fn preempt(&self, call: u64) {
        if let Some(call) = lock(&self.calls).get_mut(&call) {
            call.preempted = true;
            if let Some(canceller) = &call.canceller {
                canceller.interrupt();
            }
        }
    }

    fn cancel(&self, call: u64) {
        let canceller = lock(&self.calls).get_mut(&call).and_then(|call| {
            call.given_up = true;
            call.canceller.clone()
        });
        if let Some(canceller) = canceller {
            canceller.cancel();
        }
    }

    /// Ends the process in order: every cell's end is recorded.
    fn end(&self) -> ! {
        for (_, call) in lock(&self.calls).drain() {
            if let Some(canceller) = call.canceller {
                canceller.cancel();
            }
            drop(call.seat);
        }
        lock(&self.idle).clear();
        exit_at_once(0)
    }

    /// Runs one piece of a call and says what came of it.
    fn piece(&self, thread: &CellThread, order: Order) {
        let Order {
            call,
            with,
            flow,
            budget,
            makes_way,
            traced,
        } = order;
        let mut watch = StopWatch::start(traced);
        let started = watch.started;
        let mut is_new = false;
        let seat = match with {
            With::Begin(begin) => self.begin(call, &begin, flow.is_some(), &mut is_new, &mut watch),
            With::Nothing => self.seat_of(call),
            With::Answer(answer) => self
                .seat_of(call)
                .inspect(|seat| seat.messages.answer(answer.into())),
            With::Tpm(answer) => self.seat_of(call).map(|mut seat| {
                seat.told(answer);
                seat
            }),
        };
        if let (Ok(seat), Some(flow)) = (&seat, flow) {
            seat.stream.feed(flow);
        }
        let (how, seat) = match seat {
            Err(failure) => (How::Failed(failure), None),
            Ok(seat) if is_new && !self.rings.is_empty() => (How::Joins, Some(seat)),
            Ok(mut seat) => match watch.run(&mut seat.cell, |cell| match makes_way {
                true => self.in_stretches(call, cell, thread, budget),
                false => cell.advance(thread, budget),
            }) {
                Ok(Progress::Returned(result)) => (How::Returned(result), Some(seat)),
                Ok(Progress::Preempted) => {
                    let how = match (seat.messages.take(), seat.questions.take()) {
                        (Some(outgoing), _) => carried(outgoing),
                        (None, Some(question)) => How::Asks(seat.asking(question)),
                        (None, None) => How::Preempted,
                    };
                    (how, Some(seat))
                }
                Ok(Progress::Waiting { slot, .. }) => (How::Waiting { slot }, Some(seat)),
                Ok(Progress::Sleeping(until)) => {
                    let left = until.saturating_duration_since(Instant::now());
                    (How::Sleeping(left), Some(seat))
                }
                Err(error) => (How::Failed(failure(&error)), Some(seat)),
            },
        };
        let mut did = watch.did;
        let (output, wants) = seat.as_ref().map(|seat| seat.stream.take()).unwrap_or_default();
        let how = match (how, wants) {
            (How::Preempted, Some(wants)) => How::Waits(wants),
            (how, _) => how,
        };
        let goes_on = match &how {
            How::Preempted
            | How::Sleeping(_)
            | How::Sends(_)
            | How::Delegates(_)
            | How::Asks(_)
            | How::Waits(_)
            | How::Joins
            | How::Waiting { .. } => true,
            How::Returned(_) | How::Failed(_) => false,
        };
        let done = match seat {
            Some(seat) if goes_on => {
                // Put back before the supervisor hears of it and sends the next piece.
                if let Some(call) = lock(&self.calls).get_mut(&call) {
                    call.seat = Some(seat);
                }
                None
            }
            other => {
                lock(&self.calls).remove(&call);
                other
            }
        };
        let used = started.elapsed();
        let done = match done {
            // The next call, which may come as soon as this one is answered, is to find what this one left.
            Some(seat) if !self.shape.fresh && !seat.cell.is_over() => {
                self.put_back(seat);
                None
            }
            // The next call's cell is to have the rings, and what was sent is not to be emptied before it is there.
            Some(seat) if !self.rings.is_empty() => {
                drop(seat);
                None
            }
            other => other,
        };
        did.left_rings = !self.rings.is_empty() && !goes_on && lock(&self.idle).is_empty();
        self.tell(&FromWorker::Stopped {
            call,
            used,
            did,
            how,
            output,
        });
        if let Some(seat) = done {
            self.put_back(seat);
        }
    }

    /// Lets a cell run as [`Cell::advance`] does, and other threads of the host in between: those that keep a promise need a processor as soon as they wake, and the
    /// kernel takes none from a guest that computes before its next tick.
    fn in_stretches(
        &self,
        call: u64,
        cell: &mut Cell,
        thread: &CellThread,
        budget: Option<Duration>,
    ) -> Result<Progress, CallError> {
        let until = budget.map(|budget| Instant::now() + budget);
        loop {
            let begun = Instant::now();
            let left = until.map(|until| until.saturating_duration_since(begun));
            let stretch = left.unwrap_or(STRETCH).min(STRETCH);
            let progress = cell.advance(thread, Some(stretch))?;
            let is_last = left.is_some_and(|left| left <= STRETCH);
            // One that was shorter ended for a reason of its own.
            let is_whole = matches!(progress, Progress::Preempted) && begun.elapsed() >= STRETCH;
            if is_last || !is_whole || self.is_wanted_back(call) {
                return Ok(progress);
            }
            std::thread::yield_now();
        }
    }

    /// Whether a call's piece is to end, or the call is. An interruption between two stretches finds nothing to interrupt.
    fn is_wanted_back(&self, call: u64) -> bool {
        lock(&self.calls)
            .get_mut(&call)
            .is_none_or(|call| std::mem::take(&mut call.preempted) || call.given_up)
    }

    fn seat_of(&self, call: u64) -> Result<Seat, Failure> {
        let seat = lock(&self.calls).get_mut(&call).and_then(|call| call.seat.take());
        seat.ok_or_else(|| Failure::Host("there is no such call".into()))
    }

    /// A cell for a call, with whether it was made for it.
    fn begin(
        &self,
        call: u64,
        begin: &Begin,
        streams: bool,
        is_new: &mut bool,
        watch: &mut StopWatch,
    ) -> Result<Seat, Failure> {
        let idle = lock(&self.idle).pop();
        let (mut seat, what) = match idle {
            Some(seat) => (seat, What::CellTake),
            None => {
                *is_new = true;
                let seat = self.new_seat();
                (
                    seat.map_err(|error| Failure::Host(with_causes(&error)))?,
                    What::CellStart,
                )
            }
        };
        watch.step(what);
        seat.call.store(call, Ordering::Relaxed);
        if std::mem::take(&mut seat.asleep) {
            seat.cell.page_in();
        }
        seat.messages.begin_call();
        seat.stream.begin(streams);
        seat.questions.begin_call();
        if let Err(error) = seat.cell.begin(&begin.function, &begin.payload) {
            let failure = failure(&error);
            // What has not joined its rings must not be taken for a cell that has.
            if self.rings.is_empty() || !*is_new {
                lock(&self.idle).push(seat);
            }
            return Err(failure);
        }
        let canceller = seat.cell.canceller();
        if let Some(call) = lock(&self.calls).get_mut(&call) {
            if call.given_up {
                canceller.cancel();
            }
            call.canceller = Some(canceller);
        }
        Ok(seat)
    }

    fn new_seat(&self) -> Result<Seat, StartError> {
        let call = Arc::new(AtomicU64::new(0));
        let lines = Lines::default();
        let cell = self.permit.start(self.inputs(&call, &lines))?;
        let Lines {
            messages,
            questions,
            stream,
        } = lines;
        Ok(Seat {
            cell,
            call,
            messages,
            stream,
            questions,
            known: BTreeMap::new(),
            since: Instant::now(),
            asleep: false,
        })
    }

    /// What was used becomes as new, off the caller's path. A cell that is over, or cannot be reset, is dropped; the next call makes
    /// one.
    fn put_back(&self, mut seat: Seat) {
        if seat.cell.is_over() {
            return;
        }
        if self.shape.fresh {
            let lines = Lines {
                messages: seat.messages.clone(),
                questions: seat.questions.clone(),
                stream: seat.stream.clone(),
            };
            seat.known.clear();
            let inputs = self.inputs(&seat.call, &lines);
            if seat.cell.reset(inputs).is_err() {
                return;
            }
        }
        seat.since = Instant::now();
        let mut idle = lock(&self.idle);
        if idle.len() < self.shape.cells {
            idle.push(seat);
        }
    }

    /// Has cells rest, one at a time, so that calls which come meanwhile find the others.
    fn rest(&self, idle: Duration, how: Rest) {
        let mut went = 0;
        // A cell with rings stays until its worker ends: a call that came meanwhile could not have another one.
        while self.rings.is_empty() {
            let seat = {
                let mut seats = lock(&self.idle);
                let due = |seat: &Seat| !seat.asleep && seat.since.elapsed() >= idle;
                let due = seats.iter().position(due);
                due.map(|at| seats.remove(at))
            };
            let Some(mut seat) = seat else {
                break;
            };
            went += 1;
            match how {
                Rest::Dropped => drop(seat),
                Rest::Asleep => {
                    seat.cell.page_out();
                    seat.asleep = true;
                    let mut seats = lock(&self.idle);
                    if seats.len() < self.shape.cells {
                        // Where it was: among those that were idle for longer than what was put back since.
                        let at = seats.iter().take_while(|other| other.since <= seat.since).count();
                        seats.insert(at, seat);
                    }
                }
            }
        }
        let (awake, asleep) = {
            let seats = lock(&self.idle);
            let asleep = seats.iter().filter(|seat| seat.asleep).count();
            (count(seats.len() - asleep), count(asleep))
        };
        self.tell(&FromWorker::Rested { went, awake, asleep });
    }

    fn inputs(&self, call: &Arc<AtomicU64>, lines: &Lines) -> Inputs {
        let output = |errors| {
            Output::Writer(OutputWriter(Box::new(LineOutput {
                writer: Arc::clone(&self.writer),
                call: Arc::clone(call),
                errors,
                stream: lines.stream.clone(),
            })))
        };
        Inputs {
            channels: Some(lines.messages.clone()),
            tpm: Some(lines.questions.clone()),
            console: ConsoleStreams {
                out: output(false),
                err: output(true),
                input: Input::Reader(InputReader(Box::new(StreamInput(lines.stream.clone())))),
            },
            limits: BrokerLimits {
                output_bytes: self.shape.output_bytes,
                ..BrokerLimits::default()
            },
            ..Inputs::default()
        }
    }

    fn tell(&self, message: &FromWorker) {
        let sent = frame(message).and_then(|frame| lock(&self.writer).write_all(&frame));
        if sent.is_err() {
            self.end();
        }
    }
}

fn failure(error: &CallError) -> Failure {
    match error {
        CallError::Function { code, message } => Failure::Function {
            code: code.name().to_owned(),
            message: message.clone(),
        },
        CallError::Fault(report) => Failure::Fault {
            name: report.fault.name().to_owned(),
            time_limit: report.fault.is_time_limit(),
            message: report.fault.to_string(),
            report: report.to_json().to_string(),
        },
        CallError::Exited(code) => Failure::Exited(*code),
        CallError::Cancelled => Failure::Cancelled,
        CallError::TooLarge { limit } => Failure::TooLarge { limit: *limit },
        CallError::Arguments(_)
        | CallError::Answer(_)
        | CallError::Over
        | CallError::Host(_)
        | CallError::Audit(_) => Failure::Host(with_causes(error)),
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// No change of what is locked here can panic half-way.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

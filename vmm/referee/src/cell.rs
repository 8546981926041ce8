//! A cell in this program's process: called, cancelled, ended.
//!
//! A cell is no thread. It runs on whatever thread calls it, which must have prepared itself with
//! [`CellThread::enter`]; between two calls it may move to another.

use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use muscle_abi::boot::Style;
use muscle_abi::frame::FrameKind;
use referee_audit::{AuditSink, Head};
use referee_cell::{Answer, CellError, Heirs, HotThread, LoadedCell, RingHold, Stop, Usage};
pub use referee_hv::VcpuThread as CellThread;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::canceller::{Canceller, Shared};
use crate::control::{Entry, GrantControl};
use crate::error::{CallError, StartError};
use crate::inputs::Inputs;
use crate::muscle::Permit;
use crate::outcome::Outcome;
use crate::record;
use crate::values;

/// Bytes of an answer's memory that are kept for the next one.
const KEPT_MAX: usize = 1 << 20;

/// A cell. Dropping it ends it and records that.
#[derive(Debug)]
pub struct Cell {
    permit: Permit,
    style: Style,
    /// None once it is over.
    cell: Option<Box<LoadedCell>>,
    /// What it had used when it ended.
    used: Usage,
    audit: AuditSink,
    shared: Arc<Shared>,
    /// By which its grants can be taken back.
    entry: Arc<Entry>,
    payload: Vec<u8>,
    freezing: Freezing,
    /// A call that waits for the start-up, which is to be frozen first.
    begun: Option<(String, Vec<u8>)>,
    hot: Option<Arc<HotThread>>,
    /// Its ends of rings, as long as it is not over.
    rings: Vec<RingHold>,
}

/// How far a call is that is performed piece by piece.
#[derive(Debug)]
pub enum Progress {
    /// It is done; this is its result as CBOR.
    Returned(Vec<u8>),
    /// The budget is over, or somebody else wanted the thread.
    Preempted,
    /// The muscle waits until this time.
    Sleeping(Instant),
    /// The muscle waits for the muscle on the other side of a ring. It goes on with an [`Cell::advance`] after that one has run: when
    /// the waker of [`Cell::wake_by`] is woken. One that comes earlier only costs time.
    Waiting {
        /// The ring's slot.
        slot: String,
        /// When its time is over even so, as an advance then says.
        until: Option<Instant>,
    },
}

/// Whether the cell's start-up is worth to be frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freezing {
    /// It has not been reset yet, and may never be.
    Unneeded,
    /// A cell that was reset once will be again.
    Wanted,
    /// It was tried, and was not sound.
    Unsound,
}

impl Cell {
    pub(crate) fn new(
        permit: Permit,
        style: Style,
        cell: Box<LoadedCell>,
        (audit, shared, entry): (AuditSink, Arc<Shared>, Arc<Entry>),
        mut rings: Vec<RingHold>,
    ) -> Result<Cell, StartError> {
        for ring in &mut rings {
            ring.begin().map_err(StartError::host("beginning with a ring"))?;
            ring.end().set_waker(Some(Waker::from(Arc::clone(&shared))));
        }
        Ok(Cell {
            permit,
            style,
            used: cell.usage(),
            cell: Some(cell),
            audit,
            shared,
            entry,
            payload: Vec::new(),
            freezing: Freezing::Unneeded,
            begun: None,
            hot: None,
            rings,
        })
    }

    /// Has `waker` woken whenever a cell on the other side of a ring wakes this one, so that whoever advances it does so again. It is woken on
    /// that cell's thread, and must be quick. A cell that takes the place of one that is over needs it anew.
    pub fn wake_by(&self, waker: Option<Waker>) {
        self.shared.wake_by(waker);
    }

    /// Lets the cell use a hot thread: while calls follow each other closely they need no exit, as muscle and caller poll for each other. Only a
    /// permit with [`crate::Referee::permit_spin`] allows that. Any number of cells may use one thread, which has one of them at a time;
    /// the others, and all on a host where it is of no use ([`HotThread::is_useful`]), are called in the usual way.
    ///
    /// A core is busy on either side meanwhile. What the caller's spends is charged to the cell at once, what the other spends when the cell cools.
    /// A reset cools it. A muscle that was built with an SDK that does not poll is only called in the usual way.
    ///
    /// # Errors
    /// [`StartError::Rejected`] when the permit does not allow it.
    pub fn keep_hot(&mut self, thread: &Arc<HotThread>) -> Result<(), StartError> {
        let Some(idle) = self.permit.spin() else {
            return Err(StartError::Rejected {
                name: "not-permitted",
                message: "its permit does not let it spin: ask with Referee::permit_spin".to_owned(),
            });
        };
        if let Some(cell) = &mut self.cell {
            cell.allow_hot(thread, idle)
                .map_err(StartError::host("fetching a processor back"))?;
        }
        self.hot = Some(Arc::clone(thread));
        Ok(())
    }

    /// Whether a hot thread has the cell at present.
    pub fn is_hot(&self) -> bool {
        self.cell.as_ref().is_some_and(|cell| cell.is_hot())
    }

    /// Calls an exported function and waits for its result.
    ///
    /// A tuple or array of arguments is taken by position, a struct or map by name, anything else as the only argument. The
    /// granted deadline and CPU time count for this call alone.
    ///
    /// # Errors
    /// [`CallError`] says whether the cell goes on.
    pub fn call<A, R>(&mut self, thread: &CellThread, function: &str, arguments: &A) -> Result<R, CallError>
    where
        A: Serialize + ?Sized,
        R: DeserializeOwned,
    {
        let mut payload = std::mem::take(&mut self.payload);
        let answer = values::write_arguments(arguments, &mut payload)
            .and_then(|()| self.call_encoded(thread, function, &payload));
        self.payload = payload;
        let answer = answer?;
        let result = values::read_result(&answer);
        if let Some(cell) = self.cell.as_mut().filter(|_| answer.capacity() <= KEPT_MAX) {
            cell.recycle(answer);
        }
        result
    }

    /// As [`Cell::call`], with arguments and result as CBOR.
    ///
    /// # Errors
    /// As [`Cell::call`].
    pub fn call_encoded(
        &mut self,
        thread: &CellThread,
        function: &str,
        payload: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        self.call_frame(thread, function, payload)?.answered()
    }

    pub(crate) fn call_frame(
        &mut self,
        thread: &CellThread,
        function: &str,
        payload: &[u8],
    ) -> Result<Ended, CallError> {
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        cell.renew_time();
        if self.freezing == Freezing::Wanted
            && cell.can_be_frozen()
            && let Some(ended) = self.start_up(thread)?
        {
            return Ok(ended);
        }
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        start_call(cell, function, payload)?;
        self.drive(thread)
    }

    /// Runs `main` to its end and gives the exit code, 0 to 99. The cell is then over.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn run(&mut self, thread: &CellThread) -> Result<u8, CallError> {
        self.drive(thread)?.exited()
    }

    /// Gives the cell a new life with new inputs: memory, registers, connections, grants and counters are as in a cell that was
    /// just started, from the same permit; only where things lie in memory stays. A cell that is over, or whose heap has
    /// grown, is replaced by a new one.
    ///
    /// The first call after the first reset has the muscle's start-up frozen, if that is sound (see [`Permit::keep_loaded`]); further
    /// lives then begin after it.
    ///
    /// # Errors
    /// [`StartError`]; the cell is then over.
    pub fn reset(&mut self, inputs: Inputs) -> Result<(), StartError> {
        self.permit.covered(&inputs)?;
        // A call that was begun belongs to the life that ends.
        self.begun = None;
        let hot = self.hot.clone();
        let Some(cell) = self.cell.as_mut() else {
            let entry = Some(Arc::clone(&self.entry));
            *self = self.permit.build(self.style, inputs, entry, |_| None)?;
            return hot.map_or(Ok(()), |hot| self.keep_hot(&hot));
        };
        if self.freezing == Freezing::Unneeded {
            self.freezing = Freezing::Wanted;
        }
        cell.cool()
            .map_err(StartError::host("fetching a processor back"))?;
        record::reset(&self.audit, &cell.usage()).map_err(StartError::host("recording a reset"))?;
        let rings = &mut self.rings;
        let reset = |cell: &mut Box<LoadedCell>| {
            for ring in rings {
                ring.begin().map_err(StartError::host("emptying a ring"))?;
            }
            let life = self.permit.life(self.style, inputs, &self.audit, &self.entry)?;
            let engine = self.permit.engine();
            if cell.can_be_reset(&life.spec) {
                return cell
                    .reset(&life.spec, Box::new(life.host), life.epoch)
                    .map_err(StartError::host("resetting a cell"));
            }
            let shell = engine.pool().take_shell()?;
            let fresh = Box::new(match cell.template() {
                Some(template) => self.permit.load_from(template, shell, life)?,
                None => self.permit.load(shell, life)?,
            });
            let used = std::mem::replace(cell, fresh);
            if let (Some(hot), Some(idle)) = (&hot, self.permit.spin()) {
                cell.allow_hot(hot, idle)
                    .map_err(StartError::host("fetching a processor back"))?;
            }
            engine
                .pool()
                .bury(used, &self.audit)
                .map_err(StartError::host("flushing the audit log"))
        };
        if let Err(error) = reset(cell) {
            self.cell = None;
            self.rings.clear();
            self.entry.ends();
            record::failed(&self.audit, None, &error.to_string(), record::HOST_ERROR)
                .map_err(StartError::host("recording an end"))?;
            return Err(error);
        }
        Ok(())
    }

    /// The cell's memory, by guest-physical address: for tests.
    #[doc(hidden)]
    pub fn memory(&self) -> Result<Vec<(u64, Vec<u8>)>, CallError> {
        Ok(self.cell.as_ref().ok_or(CallError::Over)?.memory()?)
    }

    /// Takes grants back from this cell alone, or makes them smaller, from any thread: for this life and all further ones, as long as the cell is there.
    pub fn control(&self) -> GrantControl {
        self.entry.control()
    }

    /// A handle that ends the cell's call from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared))
    }

    /// What the cell has used so far.
    pub fn usage(&self) -> Usage {
        self.cell.as_ref().map_or(self.used, |cell| cell.usage())
    }

    /// Whether this life, or that which a reset begins, runs none of the muscle's start-up.
    pub fn is_templated(&self) -> bool {
        self.cell.as_ref().is_some_and(|cell| cell.template().is_some())
    }

    /// Moves the cell's memory to the host's swap, if it has any: for a cell that nobody is about to call.
    pub fn page_out(&self) {
        if let Some(cell) = &self.cell {
            cell.page_out();
        }
    }

    /// Begins to fetch what [`Cell::page_out`] moved away. A call without it fetches page by page.
    pub fn page_in(&self) {
        if let Some(cell) = &self.cell {
            cell.page_in();
        }
    }

    /// Whether the cell has ended, so that every further call is [`CallError::Over`].
    pub fn is_over(&self) -> bool {
        self.cell.is_none()
    }

    /// Ends the cell and records it.
    ///
    /// # Errors
    /// When the log takes no record.
    pub fn end(mut self) -> Result<Usage, CallError> {
        self.finish(&Outcome::Stopped)?;
        Ok(self.used)
    }

    /// Ends the cell unless it is over, and says what it used and where the log stands with all its records on the disk.
    pub(crate) fn close(mut self, outcome: &Outcome) -> Result<(Usage, Head), CallError> {
        self.finish(outcome)?;
        self.audit.sync()?;
        Ok((self.used, self.audit.head()))
    }

    /// Begins a call that [`Cell::advance`] then performs piece by piece, for a host that lets many cells take turns. Deadline
    /// and CPU time count from here.
    ///
    /// # Errors
    /// [`CallError::TooLarge`] or [`CallError::Over`].
    pub fn begin(&mut self, function: &str, payload: &[u8]) -> Result<(), CallError> {
        self.begun = None;
        let wants_freezing = self.freezing == Freezing::Wanted;
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        cell.renew_time();
        if wants_freezing && cell.can_be_frozen() {
            self.begun = Some((function.to_owned(), payload.to_vec()));
            return Ok(());
        }
        start_call(cell, function, payload)
    }

    /// Lets the cell run for about `budget`, or until there is nothing more to do without waiting.
    ///
    /// # Errors
    /// As [`Cell::call`].
    pub fn advance(&mut self, thread: &CellThread, budget: Option<Duration>) -> Result<Progress, CallError> {
        if self.begun.is_some() {
            match self.slice(thread, Until::Parked, budget)? {
                Slice::Preempted => return Ok(Progress::Preempted),
                Slice::Sleeping(until) => return Ok(Progress::Sleeping(until)),
                Slice::Waiting { ring, until } => return Ok(self.waiting(ring, until)),
                Slice::Reached(_, outcome) => {
                    if let Some(ended) = self.freeze(outcome)? {
                        return Ok(Progress::Returned(ended.answered()?));
                    }
                }
            }
            let cell = self.cell.as_mut().ok_or(CallError::Over)?;
            if let Some((function, payload)) = self.begun.take() {
                start_call(cell, &function, &payload)?;
            }
        }
        Ok(match self.slice(thread, Until::Answered, budget)? {
            Slice::Preempted => Progress::Preempted,
            Slice::Sleeping(until) => Progress::Sleeping(until),
            Slice::Waiting { ring, until } => self.waiting(ring, until),
            Slice::Reached(answer, outcome) => Progress::Returned(ended(answer, outcome)?.answered()?),
        })
    }

    fn waiting(&self, ring: usize, until: Option<Instant>) -> Progress {
        let joined = self.permit.rings().get(ring);
        Progress::Waiting {
            slot: joined.map(|joined| joined.slot().to_owned()).unwrap_or_default(),
            until,
        }
    }

    pub(crate) fn drive(&mut self, thread: &CellThread) -> Result<Ended, CallError> {
        let (answer, outcome) = self.run_until(thread, Until::Answered)?;
        ended(answer, outcome)
    }

    /// Runs the muscle up to its first park and freezes it there. Gives its end if it came to that instead.
    fn start_up(&mut self, thread: &CellThread) -> Result<Option<Ended>, CallError> {
        let (_, outcome) = self.run_until(thread, Until::Parked)?;
        self.freeze(outcome)
    }

    /// Freezes a cell that has parked for the first time. Gives its end if it came to one instead.
    fn freeze(&mut self, outcome: Option<Outcome>) -> Result<Option<Ended>, CallError> {
        if outcome.is_some() {
            return ended(None, outcome).map(Some);
        }
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        match cell.freeze(Heirs::Itself) {
            Ok(Some(_)) => {}
            Ok(None) => self.freezing = Freezing::Unsound,
            Err(error) => return Err(self.fail(error)),
        }
        Ok(None)
    }

    /// Whether a call was begun that has not reached the muscle.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.is_some()
    }

    pub(crate) fn loaded(&mut self) -> Result<&mut LoadedCell, CallError> {
        self.cell.as_deref_mut().ok_or(CallError::Over)
    }

    /// Runs the muscle up to its next park.
    pub(crate) fn run_to_park(&mut self, thread: &CellThread) -> Result<(), CallError> {
        match self.run_until(thread, Until::Parked)? {
            (_, None) => Ok(()),
            (_, outcome) => match ended(None, outcome)? {
                Ended::Exited(code) => Err(CallError::Exited(code)),
                Ended::Answered(_) => Ok(()),
            },
        }
    }

    /// As [`Cell::run_to_park`], for about `budget`; it need not have come there.
    pub(crate) fn run_towards_park(
        &mut self,
        thread: &CellThread,
        budget: Duration,
    ) -> Result<(), CallError> {
        match self.slice(thread, Until::Parked, Some(budget))? {
            Slice::Reached(_, outcome @ Some(_)) => match ended(None, outcome)? {
                Ended::Exited(code) => Err(CallError::Exited(code)),
                Ended::Answered(_) => Ok(()),
            },
            Slice::Reached(_, None) | Slice::Preempted | Slice::Sleeping(_) | Slice::Waiting { .. } => Ok(()),
        }
    }

    /// Runs the cell until it has what it is run for, and waits whenever it does.
    fn run_until(
        &mut self,
        thread: &CellThread,
        until: Until,
    ) -> Result<(Option<Answer>, Option<Outcome>), CallError> {
        loop {
            match self.slice(thread, until, None)? {
                Slice::Reached(answer, outcome) => return Ok((answer, outcome)),
                Slice::Preempted => {}
                Slice::Sleeping(time) => self.shared.wait(time),
                Slice::Waiting { ring, until } => {
                    let end = self.rings.get(ring).map(RingHold::end);
                    self.shared
                        .wait_for(until, || end.is_none_or(|end| end.is_rung()));
                }
            }
        }
    }

    /// Runs the cell once, and ends it if it came to an outcome.
    fn slice(
        &mut self,
        thread: &CellThread,
        until: Until,
        budget: Option<Duration>,
    ) -> Result<Slice, CallError> {
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        let slice = match run(cell, &self.shared, thread, until, budget) {
            Ok(slice) => slice,
            Err(error) => return Err(self.fail(error)),
        };
        if let Slice::Reached(_, Some(outcome)) = &slice {
            self.finish(outcome)?;
        }
        Ok(slice)
    }

    /// Records that the host failed the cell, which is then over.
    pub(crate) fn fail(&mut self, error: CellError) -> CallError {
        self.cell = None;
        self.rings.clear();
        self.entry.ends();
        match record::failed(&self.audit, None, &error.to_string(), record::HOST_ERROR) {
            Ok(()) => error.into(),
            Err(unrecorded) => unrecorded.into(),
        }
    }

    fn finish(&mut self, outcome: &Outcome) -> Result<(), CallError> {
        if let Some(mut cell) = self.cell.take() {
            // If its thread is gone, so is the account of what it spent there.
            let _ = cell.cool();
            self.used = cell.usage();
            // Whoever waits for it hears of its end.
            self.rings.clear();
            self.entry.ends();
            let recorded = record::end(&self.audit, outcome, &self.used);
            if matches!(outcome, Outcome::Faulted(_)) && cell.template().is_some() {
                self.permit.distrust();
            }
            self.permit.engine().pool().bury(cell, &self.audit)?;
            recorded?;
        }
        Ok(())
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // Nobody is left to hear that the log takes no record; `end` is for those who want to know.
        let _ = self.finish(&Outcome::Stopped);
    }
}

/// How driving a cell ended well.
#[derive(Debug)]
pub(crate) enum Ended {
    Answered(Answer),
    Exited(u8),
}

impl Ended {
    /// The result of a call.
    pub(crate) fn answered(self) -> Result<Vec<u8>, CallError> {
        match self {
            Ended::Answered(answer) if answer.kind == FrameKind::Return => Ok(answer.payload),
            Ended::Answered(answer) => Err(values::read_error(&answer.payload)),
            Ended::Exited(code) => Err(CallError::Exited(code)),
        }
    }

    /// The exit code of a `main`.
    pub(crate) fn exited(self) -> Result<u8, CallError> {
        match self {
            Ended::Exited(code) => Ok(code),
            // Nothing was called, so nothing can be answered.
            Ended::Answered(_) => Err(CallError::Over),
        }
    }
}

/// What a cell is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Until {
    /// The answer to its call.
    Answered,
    /// Its first park.
    Parked,
}

/// What one piece of running came to.
#[derive(Debug)]
enum Slice {
    /// What it was run for, or its end: an answer, an outcome, or both; neither if it only parked.
    Reached(Option<Answer>, Option<Outcome>),
    Preempted,
    Sleeping(Instant),
    Waiting {
        ring: usize,
        until: Option<Instant>,
    },
}

/// Runs a cell once: until it has what it is run for, is over, waits, or has used its budget up.
fn run(
    cell: &mut LoadedCell,
    shared: &Shared,
    thread: &CellThread,
    until: Until,
    budget: Option<Duration>,
) -> Result<Slice, CellError> {
    shared.runner.set(thread);
    // Looked at only now that a canceller would find this thread.
    let stop = if shared.is_cancelled() {
        None
    } else {
        Some(cell.run(thread, budget))
    };
    shared.runner.clear();
    let Some(stop) = stop else {
        return Ok(Slice::Reached(None, Some(Outcome::Stopped)));
    };
    let answer = cell.take_answer();
    Ok(match stop? {
        Stop::Exited(code) => Slice::Reached(answer, Some(Outcome::Exited(code))),
        Stop::Faulted(report) => Slice::Reached(answer, Some(Outcome::Faulted(report))),
        Stop::Preempted | Stop::Parked { .. } | Stop::Waiting { .. } if answer.is_some() => {
            Slice::Reached(answer, None)
        }
        Stop::Preempted => Slice::Preempted,
        Stop::Waiting { ring } => Slice::Waiting {
            ring,
            until: cell.deadline(),
        },
        Stop::Parked { .. } if until == Until::Parked => Slice::Reached(None, None),
        Stop::Parked { until: None } => {
            let report = Box::new(cell.parked_for_ever());
            Slice::Reached(None, Some(Outcome::Faulted(report)))
        }
        // When the deadline comes first, the next run says so.
        Stop::Parked { until: Some(time) } => {
            Slice::Sleeping(cell.deadline().map_or(time, |deadline| deadline.min(time)))
        }
    })
}

fn start_call(cell: &mut LoadedCell, function: &str, payload: &[u8]) -> Result<(), CallError> {
    match cell.start_call(function, payload) {
        true => Ok(()),
        false => Err(CallError::TooLarge {
            limit: cell.frame_bytes(),
        }),
    }
}

/// What the muscle did after it had answered may be its end, but takes nothing from the answer.
fn ended(answer: Option<Answer>, outcome: Option<Outcome>) -> Result<Ended, CallError> {
    match (answer, outcome) {
        (Some(answer), _) => Ok(Ended::Answered(answer)),
        (None, Some(Outcome::Exited(code))) => Ok(Ended::Exited(code)),
        (None, Some(Outcome::Faulted(report))) => Err(CallError::Fault(report)),
        (None, _) => Err(CallError::Cancelled),
    }
}

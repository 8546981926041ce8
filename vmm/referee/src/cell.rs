//! A cell in this program's process: called, cancelled, ended.
//!
//! A cell is no thread. It runs on whatever thread calls it, which must have prepared itself with
//! [`CellThread::enter`]; between two calls it may move to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use muscle_abi::boot::Style;
use muscle_abi::frame::FrameKind;
use referee_audit::{AuditSink, Head};
use referee_cell::{Answer, CellError, LoadedCell, Stop, Usage};
use referee_hv::Runner;
pub use referee_hv::VcpuThread as CellThread;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{CallError, StartError};
use crate::muscle::{Inputs, Permit};
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
    payload: Vec<u8>,
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
}

/// What a cell shares with those who may cancel it.
#[derive(Debug, Default)]
struct Shared {
    cancelled: AtomicBool,
    runner: Runner,
    /// Held only while the cell waits for a time.
    waiting: Mutex<()>,
    woken: Condvar,
}

/// Ends a cell's call from another thread.
#[derive(Debug, Clone)]
pub struct Canceller(Arc<Shared>);

impl Canceller {
    /// Has the present call, or the next one if there is none, return [`CallError::Cancelled`] soon. The cell is then over:
    /// its muscle was stopped wherever it was.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::SeqCst);
        self.0.runner.kick();
        // Taken, so that a cell which is about to wait has either seen the flag or hears the call.
        drop(self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.woken.notify_all();
    }
}

impl Canceller {
    /// Has the present [`Cell::advance`] return [`Progress::Preempted`] soon, if there is one.
    pub fn interrupt(&self) {
        self.0.runner.kick();
    }
}

impl Cell {
    pub(crate) fn new(permit: Permit, style: Style, cell: Box<LoadedCell>, audit: AuditSink) -> Cell {
        Cell {
            permit,
            style,
            used: cell.usage(),
            cell: Some(cell),
            audit,
            shared: Arc::default(),
            payload: Vec::new(),
        }
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
        if !cell.start_call(function, payload) {
            return Err(CallError::TooLarge {
                limit: cell.frame_bytes(),
            });
        }
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
    /// # Errors
    /// [`StartError`]; the cell is then over.
    pub fn reset(&mut self, inputs: Inputs) -> Result<(), StartError> {
        self.permit.covered(&inputs)?;
        let Some(cell) = self.cell.as_mut() else {
            *self = self.permit.build(self.style, inputs, |_| None)?;
            return Ok(());
        };
        record::reset(&self.audit, &cell.usage()).map_err(StartError::host("recording a reset"))?;
        let reset = |cell: &mut Box<LoadedCell>| {
            let life = self.permit.life(self.style, inputs, &self.audit)?;
            let engine = self.permit.engine();
            if cell.can_be_reset(&life.spec) {
                return cell
                    .reset(&life.spec, Box::new(life.host), life.epoch, engine.pagemap())
                    .map_err(StartError::host("resetting a cell"));
            }
            let fresh = Box::new(self.permit.load(engine.pool().take_shell()?, life)?);
            let used = std::mem::replace(cell, fresh);
            engine
                .pool()
                .bury(used, &self.audit)
                .map_err(StartError::host("flushing the audit log"))
        };
        if let Err(error) = reset(cell) {
            self.cell = None;
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

    /// A handle that ends the cell's call from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.shared))
    }

    /// What the cell has used so far.
    pub fn usage(&self) -> Usage {
        self.cell.as_ref().map_or(self.used, |cell| cell.usage())
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
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        if !cell.start_call(function, payload) {
            return Err(CallError::TooLarge {
                limit: cell.frame_bytes(),
            });
        }
        cell.renew_time();
        Ok(())
    }

    /// Lets the cell run for about `budget`, or until there is nothing more to do without waiting.
    ///
    /// # Errors
    /// As [`Cell::call`].
    pub fn advance(&mut self, thread: &CellThread, budget: Option<Duration>) -> Result<Progress, CallError> {
        Ok(match self.slice(thread, budget)? {
            Slice::Ended(ended) => Progress::Returned(ended.answered()?),
            Slice::Preempted => Progress::Preempted,
            Slice::Sleeping(until) => Progress::Sleeping(until),
        })
    }

    pub(crate) fn drive(&mut self, thread: &CellThread) -> Result<Ended, CallError> {
        self.cell.as_mut().ok_or(CallError::Over)?.renew_time();
        loop {
            match self.slice(thread, None)? {
                Slice::Ended(ended) => return Ok(ended),
                Slice::Preempted => {}
                Slice::Sleeping(until) => self.shared.wait(until),
            }
        }
    }

    fn slice(&mut self, thread: &CellThread, budget: Option<Duration>) -> Result<Slice, CallError> {
        let cell = self.cell.as_mut().ok_or(CallError::Over)?;
        let (answer, outcome) = match run(cell, &self.shared, thread, budget) {
            Ok(Ran::Waits(slice)) => return Ok(slice),
            Ok(Ran::Reached(answer, outcome)) => (answer, outcome),
            Err(error) => {
                self.cell = None;
                record::failed(&self.audit, None, &error.to_string(), record::HOST_ERROR)?;
                return Err(error.into());
            }
        };
        if let Some(outcome) = &outcome {
            self.finish(outcome)?;
        }
        match (answer, outcome) {
            // What the muscle did after it had answered may be its end, but takes nothing from the answer.
            (Some(answer), _) => Ok(Slice::Ended(Ended::Answered(answer))),
            (None, Some(Outcome::Exited(code))) => Ok(Slice::Ended(Ended::Exited(code))),
            (None, Some(Outcome::Faulted(report))) => Err(CallError::Fault(report)),
            (None, _) => Err(CallError::Cancelled),
        }
    }

    fn finish(&mut self, outcome: &Outcome) -> Result<(), CallError> {
        if let Some(cell) = self.cell.take() {
            self.used = cell.usage();
            let recorded = record::end(&self.audit, outcome, &self.used);
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

/// What one piece of a call came to.
#[derive(Debug)]
enum Slice {
    Ended(Ended),
    Preempted,
    Sleeping(Instant),
}

/// What running a cell came to: an answer, an outcome, or both; or nothing yet.
enum Ran {
    Waits(Slice),
    Reached(Option<Answer>, Option<Outcome>),
}

/// Runs a cell until it answers, is over, waits, or has used its budget up.
fn run(
    cell: &mut LoadedCell,
    shared: &Shared,
    thread: &CellThread,
    budget: Option<Duration>,
) -> Result<Ran, CellError> {
    shared.runner.set(thread);
    // Looked at only now that a canceller would find this thread.
    let stop = if shared.cancelled.load(Ordering::SeqCst) {
        None
    } else {
        Some(cell.run(thread, budget))
    };
    shared.runner.clear();
    let Some(stop) = stop else {
        return Ok(Ran::Reached(None, Some(Outcome::Stopped)));
    };
    let answer = cell.take_answer();
    Ok(match stop? {
        Stop::Exited(code) => Ran::Reached(answer, Some(Outcome::Exited(code))),
        Stop::Faulted(report) => Ran::Reached(answer, Some(Outcome::Faulted(report))),
        Stop::Preempted | Stop::Parked { .. } if answer.is_some() => Ran::Reached(answer, None),
        Stop::Preempted => Ran::Waits(Slice::Preempted),
        Stop::Parked { until: None } => {
            let report = Box::new(cell.parked_for_ever());
            Ran::Reached(None, Some(Outcome::Faulted(report)))
        }
        // When the deadline comes first, the next run says so.
        Stop::Parked { until: Some(until) } => {
            let until = cell.deadline().map_or(until, |deadline| deadline.min(until));
            Ran::Waits(Slice::Sleeping(until))
        }
    })
}

impl Shared {
    /// Waits until a time, or a canceller.
    fn wait(&self, until: Instant) {
        let mut held = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.cancelled.load(Ordering::SeqCst) {
                return;
            }
            held = self
                .woken
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

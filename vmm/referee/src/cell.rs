//! A cell in this program's process: called, cancelled, ended.
//!
//! A cell is no thread. It runs on whatever thread calls it, which must have prepared itself with
//! [`CellThread::enter`]; between two calls it may move to another.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use muscle_abi::frame::FrameKind;
use referee_audit::AuditSink;
use referee_cell::{CellError, FaultReport, LoadedCell, Stop, Usage};
use referee_hv::Runner;
pub use referee_hv::VcpuThread as CellThread;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::CallError;
use crate::outcome::Outcome;
use crate::record;
use crate::values;

/// A cell. Dropping it ends it and records that.
#[derive(Debug)]
pub struct Cell {
    cell: LoadedCell,
    audit: AuditSink,
    frame_bytes: u32,
    handle: Arc<Shared>,
    payload: Vec<u8>,
    over: bool,
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

impl Cell {
    pub(crate) fn new(cell: LoadedCell, audit: AuditSink, frame_bytes: u32) -> Cell {
        Cell {
            cell,
            audit,
            frame_bytes,
            handle: Arc::default(),
            payload: Vec::new(),
            over: false,
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
        values::read_result(&answer?)
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
        if self.over {
            return Err(CallError::Over);
        }
        if !self.cell.start_call(function, payload) {
            return Err(CallError::TooLarge {
                limit: self.frame_bytes,
            });
        }
        match self.drive(thread)? {
            Ended::Answered(answer) if answer.kind == FrameKind::Return => Ok(answer.payload),
            Ended::Answered(answer) => Err(values::read_error(&answer.payload)),
            Ended::Exited(code) => Err(CallError::Exited(code)),
        }
    }

    /// Runs `main` to its end and gives the exit code, 0 to 99. The cell is then over.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn run(&mut self, thread: &CellThread) -> Result<u8, CallError> {
        if self.over {
            return Err(CallError::Over);
        }
        match self.drive(thread)? {
            Ended::Exited(code) => Ok(code),
            // Nothing was called, so nothing can be answered.
            Ended::Answered(_) => Err(CallError::Over),
        }
    }

    /// A handle that ends the cell's call from another thread.
    pub fn canceller(&self) -> Canceller {
        Canceller(Arc::clone(&self.handle))
    }

    /// What the cell has used so far.
    pub fn usage(&self) -> Usage {
        self.cell.usage()
    }

    /// Whether the cell has ended, so that every further call is [`CallError::Over`].
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Ends the cell and records it.
    ///
    /// # Errors
    /// When the log takes no record.
    pub fn end(mut self) -> Result<Usage, CallError> {
        self.finish(&Outcome::Stopped)?;
        Ok(self.cell.usage())
    }

    fn drive(&mut self, thread: &CellThread) -> Result<Ended, CallError> {
        self.cell.renew_time();
        let outcome = loop {
            if self.handle.cancelled.load(Ordering::SeqCst) {
                break Err(Over::Cancelled);
            }
            self.handle.runner.set(thread);
            // Looked at again, now that a canceller would find this thread.
            let cancelled = self.handle.cancelled.load(Ordering::SeqCst);
            let stop = if cancelled {
                Ok(Stop::Preempted)
            } else {
                self.cell.run(thread, None)
            };
            self.handle.runner.clear();
            if let Some(answer) = self.cell.take_answer() {
                // What the muscle did after it had answered takes nothing from the answer, but may be its end.
                match stop {
                    Ok(Stop::Exited(code)) => self.finish(&Outcome::Exited(code))?,
                    Ok(Stop::Faulted(report)) => self.finish(&Outcome::Faulted(report))?,
                    Ok(Stop::Preempted | Stop::Parked { .. }) => {}
                    Err(error) => return Err(self.failed(error)?),
                }
                return Ok(Ended::Answered(answer));
            }
            match stop {
                Ok(Stop::Exited(code)) => break Ok(code),
                Ok(Stop::Faulted(report)) => break Err(Over::Faulted(report)),
                Ok(Stop::Preempted) => {}
                Ok(Stop::Parked { until: None }) => {
                    break Err(Over::Faulted(Box::new(self.cell.parked_for_ever())));
                }
                Ok(Stop::Parked { until: Some(until) }) => {
                    self.wait(until);
                    if let Some(report) = self.cell.deadline_passed() {
                        break Err(Over::Faulted(Box::new(report)));
                    }
                }
                Err(error) => return Err(self.failed(error)?),
            }
        };
        match outcome {
            Ok(code) => {
                self.finish(&Outcome::Exited(code))?;
                Ok(Ended::Exited(code))
            }
            Err(Over::Cancelled) => {
                self.finish(&Outcome::Stopped)?;
                Err(CallError::Cancelled)
            }
            Err(Over::Faulted(report)) => {
                let outcome = Outcome::Faulted(report);
                self.finish(&outcome)?;
                match outcome {
                    Outcome::Faulted(report) => Err(CallError::Fault(report)),
                    _ => Err(CallError::Over),
                }
            }
        }
    }

    /// Waits until a time, the deadline, or a canceller.
    fn wait(&self, until: Instant) {
        let until = self.cell.deadline().map_or(until, |deadline| deadline.min(until));
        let mut held = self.handle.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.handle.cancelled.load(Ordering::SeqCst) {
                return;
            }
            held = self
                .handle
                .woken
                .wait_timeout(held, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    /// Ends the cell because the host failed.
    fn failed(&mut self, error: CellError) -> Result<CallError, CallError> {
        self.over = true;
        record::failed(&self.audit, None, &error.to_string(), record::HOST_ERROR)?;
        Ok(error.into())
    }

    fn finish(&mut self, outcome: &Outcome) -> Result<(), CallError> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(());
        }
        record::end(&self.audit, outcome, &self.cell.usage())?;
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
enum Ended {
    Answered(referee_cell::Answer),
    Exited(u8),
}

/// Why a cell is over without having exited.
enum Over {
    Cancelled,
    Faulted(Box<FaultReport>),
}

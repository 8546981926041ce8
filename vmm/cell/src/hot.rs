//! Calls without an exit: while calls keep coming, a cell's processor stays in the guest on a thread of its own, and both sides
//! look into the rings instead of waking each other.
//!
//! ```text
//!   caller's thread           rings                 hot thread: KVM_RUN
//!   ───────────────           ─────                 ───────────────────
//!   puts the call ──────────► receive ────────────► the muscle polls: takes it, works
//!   polls ◄────────────────── transmit ◄─────────── puts the answer, polls on
//!     …                                             no call for `idle`: told to park; the processor goes home
//! ```
//! The muscle polls only while the poll word beside its receive queue says so ([`muscle_abi::channel::POLL_OFFSET`]). Whatever else makes
//! it stop (a doorbell, a fault, its end, the alarm) ends this too: the processor goes back to the cell with the exit that it
//! stopped for, and the cell acts on it as on any other; what is in the rings is still there. So no call is lost or done twice,
//! and a muscle that does not poll is only slower. A call that is not answered within [`HOT_CALL`] goes on in the usual way, where its limits
//! are watched.
//!
//! The processor is in one place at a time, with the cell, with the hot thread, or on its way back ([`Slot`]), and moves by value.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use muscle_abi::channel::POLL_OFFSET;
use referee_hv::{HvError, Memory, RemoteKick, Stopped, Vcpu, VcpuThread, vcpus_move_cheaply};
use rustix::thread::{CpuSet, sched_setaffinity};
use vm_memory::{Bytes, GuestAddress};

use crate::error::CellError;
use crate::layout::WINDOW_GPA;

/// How long a call is polled for before it goes on in the usual way.
pub(crate) const HOT_CALL: Duration = Duration::from_millis(1);
/// How long a recalled processor is waited for before its thread is kicked again.
const RECALL: Duration = Duration::from_millis(1);
/// How often a cell that was hot for nothing is left alone before it is tried again, at most.
const PENALTY_MAX: u32 = 1024;

/// A thread that runs the processor of one hot cell at a time, of any number of cells that may use it.
///
/// It sleeps while no cell is hot, and takes a whole core while one is.
#[derive(Debug)]
pub struct HotThread {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// As was found when the thread was started: by who knows which cores it may use, and once, for it takes system calls.
    is_useful: bool,
    /// Whether a cell has the thread.
    busy: AtomicBool,
    ending: AtomicBool,
    /// Whether the thread is over.
    gone: AtomicBool,
    inbox: Mutex<Option<Arc<Slot>>>,
    kick: OnceLock<RemoteKick>,
    thread: OnceLock<Thread>,
}

/// Where a cell's processor is while it is lent.
#[derive(Debug, Default)]
struct Slot {
    place: AtomicU8,
    lent: Mutex<Option<Lent>>,
    /// Calls that were put into the rings since ever; when it stands still, the cell is idle.
    calls: AtomicU64,
    recalled: AtomicBool,
}

/// The processor is with the cell.
const HOME: u8 = 0;
/// The processor is with the hot thread.
const AWAY: u8 = 1;
/// The hot thread is done with the processor.
const BACK: u8 = 2;

#[derive(Debug)]
struct Lent {
    vcpu: Vcpu,
    word: PollWord,
    idle: Duration,
    /// Why it stopped, and the CPU time that it took, once it has.
    stopped: Option<Result<Stopped, HvError>>,
    cpu: Duration,
}

/// The muscle's word that says whether it polls, in a view of its window.
#[derive(Debug, Clone)]
pub(crate) struct PollWord(pub(crate) Arc<Memory>);

impl PollWord {
    fn set(&self, poll: bool) {
        // It is in the window, always.
        let _ = self.0.store(
            u32::from(poll).to_le(),
            GuestAddress(WINDOW_GPA + POLL_OFFSET),
            Ordering::Release,
        );
    }
}

impl HotThread {
    /// Starts the thread, on whatever core the kernel finds for it. While no core is free, cells that it has are not fast, and are
    /// soon left alone.
    ///
    /// # Errors
    /// [`CellError::Io`] or [`CellError::Hv`] when the host has no thread, or no timer for one.
    pub fn start() -> Result<HotThread, CellError> {
        HotThread::start_where(None)
    }

    /// Starts the thread on one core, by the kernel's number, which its callers should keep away from.
    ///
    /// # Errors
    /// As [`HotThread::start`], and [`CellError::Io`] when this program has no such core.
    pub fn start_on(core: usize) -> Result<HotThread, CellError> {
        HotThread::start_where(Some(core))
    }

    fn start_where(core: Option<usize>) -> Result<HotThread, CellError> {
        let shared = Arc::new(Shared {
            is_useful: HotThread::is_useful(),
            ..Shared::default()
        });
        let (ready, is_ready) = std::sync::mpsc::channel();
        let its = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name("hot-cell".into())
            .spawn(move || {
                let _gone = Gone(&its);
                match core
                    .map_or(Ok(()), stay_on)
                    .and_then(|()| Ok(VcpuThread::enter()?))
                {
                    Ok(thread) => {
                        let _ = its.kick.set(thread.remote());
                        let _ = its.thread.set(thread::current());
                        let _ = ready.send(Ok(()));
                        work(&its, &thread);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|source| CellError::Io {
                what: "starting a hot thread",
                source,
            })?;
        let hot = HotThread {
            shared,
            thread: Some(thread),
        };
        is_ready.recv().map_err(|_| CellError::HotThreadGone)??;
        Ok(hot)
    }

    /// Whether cells can be hot on this host, for a thread that is started by the calling one: with one core they would only take it from their callers, and before Linux 6.13 moving a
    /// processor to another thread takes milliseconds.
    pub fn is_useful() -> bool {
        thread::available_parallelism().is_ok_and(|cores| cores.get() > 1) && vcpus_move_cheaply()
    }
}

impl Drop for HotThread {
    /// Has the thread end. A cell that is hot has its processor back and goes on in the usual way.
    fn drop(&mut self) {
        self.shared.ending.store(true, Ordering::SeqCst);
        let Some(thread) = self.thread.take() else {
            return;
        };
        thread.thread().unpark();
        while !thread.is_finished() {
            self.shared.kick();
            thread::park_timeout(RECALL);
        }
        let _ = thread.join();
    }
}

/// Keeps the calling thread on one core.
fn stay_on(core: usize) -> Result<(), CellError> {
    let refused = |source: io::Error| CellError::Io {
        what: "keeping a hot thread on its core",
        source,
    };
    if core >= CpuSet::MAX_CPU {
        return Err(refused(io::ErrorKind::InvalidInput.into()));
    }
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).map_err(|error| refused(error.into()))
}

/// Says that the thread is over, however it ended.
struct Gone<'a>(&'a Shared);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::SeqCst);
    }
}

impl Shared {
    fn kick(&self) {
        if let Some(kick) = self.kick.get()
            && !self.gone.load(Ordering::SeqCst)
        {
            kick.kick();
        }
    }
}

/// What the hot thread does.
fn work(shared: &Shared, thread: &VcpuThread) {
    while !shared.ending.load(Ordering::SeqCst) {
        let Some(slot) = locked(&shared.inbox).take() else {
            thread::park();
            continue;
        };
        let lent = locked(&slot.lent).take();
        if let Some(mut lent) = lent {
            run(shared, thread, &slot, &mut lent);
            *locked(&slot.lent) = Some(lent);
        }
        // The cell may be hot again at once, here too.
        shared.busy.store(false, Ordering::SeqCst);
        slot.place.store(BACK, Ordering::Release);
    }
}

/// Runs a processor until it stops for a reason of its own, no call has come for a while, or it is wanted back.
fn run(shared: &Shared, thread: &VcpuThread, slot: &Slot, lent: &mut Lent) {
    let mut now = Instant::now();
    let mark = thread.mark(now);
    let (mut calls, mut idle_since, mut told) = (slot.calls.load(Ordering::Relaxed), now, false);
    let armed = lent.vcpu.kicker().arm();
    let stopped = loop {
        if let Err(error) = thread.ring_by(now + lent.idle, now) {
            break Err(error);
        }
        let stopped = match lent.vcpu.run_once() {
            Ok(stopped) if stopped.is_interrupted() => stopped,
            other => break other,
        };
        thread.rang();
        if told || slot.recalled.load(Ordering::SeqCst) || shared.ending.load(Ordering::SeqCst) {
            break Ok(stopped);
        }
        now = Instant::now();
        let seen = slot.calls.load(Ordering::Relaxed);
        if seen != calls {
            (calls, idle_since) = (seen, now);
        } else if now.saturating_duration_since(idle_since) >= lent.idle {
            lent.word.set(false);
            told = true;
        }
    };
    drop(armed);
    lent.cpu = thread.cpu_since(mark, Instant::now());
    lent.stopped = Some(stopped);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A cell's use of a hot thread.
#[derive(Debug)]
pub(crate) struct Hot {
    shared: Arc<Shared>,
    slot: Arc<Slot>,
    word: PollWord,
    idle: Duration,
    /// When the cell answered last.
    answered: Option<Instant>,
    /// Calls answered since it was heated last.
    served: u64,
    /// How often it is still to be left alone, and how often the next time.
    penalty: (u32, u32),
}

/// A processor that has come home.
#[derive(Debug)]
pub(crate) struct Home {
    pub(crate) vcpu: Vcpu,
    pub(crate) stopped: Result<Stopped, HvError>,
    /// CPU time of the hot thread.
    pub(crate) cpu: Duration,
}

impl Hot {
    pub(crate) fn new(thread: &HotThread, idle: Duration, word: PollWord) -> Hot {
        Hot {
            shared: Arc::clone(&thread.shared),
            slot: Arc::default(),
            word,
            idle: idle.max(Duration::from_micros(1)),
            answered: None,
            served: 0,
            penalty: (0, 0),
        }
    }

    /// Whether the processor is lent, or on its way back.
    pub(crate) fn is_lent(&self) -> bool {
        self.slot.place.load(Ordering::Relaxed) != HOME
    }

    /// Whether the hot thread is done with the processor.
    pub(crate) fn is_back(&self) -> bool {
        self.slot.place.load(Ordering::Acquire) == BACK
    }

    /// Says that a call is in the rings.
    pub(crate) fn called(&self) {
        self.slot.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that a call was answered without an exit.
    pub(crate) fn served(&mut self) {
        self.served += 1;
    }

    /// Whether the cell, which has just answered a call that began at `begun` in the usual way, is worth to be made hot: if calls follow
    /// each other closely, and it was not hot for nothing lately.
    pub(crate) fn is_due(&mut self, begun: Instant, now: Instant) -> bool {
        let before = self.answered.replace(now);
        let close = before.is_some_and(|before| begun.saturating_duration_since(before) < self.idle);
        if !close || !self.shared.is_useful {
            return false;
        }
        let (left, _) = &mut self.penalty;
        match left.checked_sub(1) {
            Some(less) => {
                *left = less;
                false
            }
            None => true,
        }
    }

    /// Lends a processor; gives it back if the thread has another cell's, or has ended.
    pub(crate) fn lend(&mut self, vcpu: Vcpu) -> Result<(), Box<Vcpu>> {
        let shared = &self.shared;
        if shared.ending.load(Ordering::SeqCst) || shared.busy.swap(true, Ordering::SeqCst) {
            return Err(Box::new(vcpu));
        }
        self.word.set(true);
        *locked(&self.slot.lent) = Some(Lent {
            vcpu,
            word: self.word.clone(),
            idle: self.idle,
            stopped: None,
            cpu: Duration::ZERO,
        });
        self.served = 0;
        self.slot.recalled.store(false, Ordering::SeqCst);
        self.slot.place.store(AWAY, Ordering::Release);
        *locked(&shared.inbox) = Some(Arc::clone(&self.slot));
        if let Some(thread) = shared.thread.get() {
            thread.unpark();
        }
        Ok(())
    }

    /// Has the processor back, whatever it does at present.
    ///
    /// # Errors
    /// [`CellError::HotThreadGone`].
    pub(crate) fn recall(&mut self) -> Result<Home, CellError> {
        self.slot.recalled.store(true, Ordering::SeqCst);
        while !self.is_back() {
            if self.shared.gone.load(Ordering::SeqCst) && !self.is_back() {
                self.slot.place.store(HOME, Ordering::Relaxed);
                return Err(CellError::HotThreadGone);
            }
            self.shared.kick();
            let kicked = Instant::now();
            while !self.is_back() && kicked.elapsed() < RECALL {
                thread::yield_now();
            }
        }
        self.take_home()
    }

    /// Takes a processor that [`Hot::is_back`].
    ///
    /// # Errors
    /// [`CellError::HotThreadGone`] if there is none.
    pub(crate) fn take_home(&mut self) -> Result<Home, CellError> {
        let lent = locked(&self.slot.lent).take();
        self.slot.place.store(HOME, Ordering::Relaxed);
        let (_, next) = self.penalty;
        let next = match self.served {
            0 => (next * 2 + 1).min(PENALTY_MAX),
            _ => 0,
        };
        self.penalty = (next, next);
        match lent {
            Some(Lent {
                vcpu,
                stopped: Some(stopped),
                cpu,
                ..
            }) => {
                self.word.set(false);
                Ok(Home { vcpu, stopped, cpu })
            }
            _ => Err(CellError::HotThreadGone),
        }
    }
}

impl Drop for Hot {
    fn drop(&mut self) {
        if self.is_lent() {
            // Its machine ends with it.
            let _ = self.recall();
        }
    }
}

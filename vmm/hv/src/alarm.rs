//! Time on a thread that runs vCPUs: an alarm that stops the guest, and what CPU time it used, both without a system call
//! for a guest that comes back soon.
//!
//! ```text
//!   call          ████      ████      ████      ████        each wants to be stopped after its own second
//!   alarm    set ─────────────────────────────────── rings: too early for the last, so it is set anew
//! ```
//! An alarm that is set for an earlier time than is wanted will do: when it rings, the thread looks at its limits and sets the
//! next. So a thousand calls in a second set it once. It repeats every 10 ms from then on, so that no single lost signal can
//! let a guest run on; if it rings while the thread runs no guest, its handler turns it off.
//!
//! CPU time is never more than wall-clock time, and the difference is only read from the kernel (which the vDSO cannot do)
//! when it could matter: a run shorter than [`FINE`] is charged its wall-clock time.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::error::HvError;
use crate::kick::kick_signal;

/// How far the charged CPU time may be above the used one, for each run.
pub const FINE: Duration = Duration::from_millis(1);

thread_local! {
    /// When this thread's alarm rings, in nanoseconds since the alarm's `origin`; 0 when it does not.
    static RINGS_AT: AtomicU64 = const { AtomicU64::new(0) };
    /// The timer that was set last, for the signal handler.
    static TIMER: AtomicPtr<libc::c_void> = const { AtomicPtr::new(ptr::null_mut()) };
}

/// A timer that kicks the thread that made it.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: libc::timer_t,
    origin: Instant,
}

impl Alarm {
    pub(crate) fn create() -> Result<Alarm, HvError> {
        // SAFETY: all-zero bytes are a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = kick_signal();
        // SAFETY: gettid(2) has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to live locals of the right types.
        if unsafe { libc::timer_create(libc::CLOCK_MONOTONIC, &raw mut event, &raw mut timer) } != 0 {
            return Err(HvError::last_os("timer_create"));
        }
        // What another alarm of this thread was set for counts from another origin.
        RINGS_AT.with(|at| at.store(0, Ordering::Relaxed));
        Ok(Alarm {
            timer,
            origin: Instant::now(),
        })
    }

    /// Has the thread kicked at `at` or before; does nothing when it will be anyway.
    pub(crate) fn ring_by(&self, at: Instant, now: Instant) -> Result<(), HvError> {
        let since_origin = |time: Instant| {
            u64::try_from(time.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX)
        };
        let (at_ns, now_ns) = (since_origin(at), since_origin(now));
        let set = RINGS_AT.with(|at| at.load(Ordering::Relaxed));
        if set > now_ns && set <= at_ns {
            return Ok(());
        }
        TIMER.with(|timer| timer.store(self.timer, Ordering::Relaxed));
        let after = at.saturating_duration_since(now).max(Duration::from_nanos(1));
        set_timer(self.timer, after, Duration::from_millis(10))?;
        RINGS_AT.with(|at| at.store(at_ns.max(1), Ordering::Relaxed));
        Ok(())
    }

    /// Says that the alarm may have rung, so that the next one is set whatever was set before.
    pub(crate) fn rang(&self) {
        RINGS_AT.with(|at| at.store(0, Ordering::Relaxed));
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        TIMER.with(|timer| timer.store(ptr::null_mut(), Ordering::Relaxed));
        RINGS_AT.with(|at| at.store(0, Ordering::Relaxed));
        // SAFETY: the timer is ours and was not deleted before; the handler cannot find it any more.
        unsafe { libc::timer_delete(self.timer) };
    }
}

fn set_timer(timer: libc::timer_t, first: Duration, every: Duration) -> Result<(), HvError> {
    let spec = |duration: Duration| libc::timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    };
    let times = libc::itimerspec {
        it_value: spec(first),
        it_interval: spec(every),
    };
    // SAFETY: the caller's timer is alive; the spec is a live local; a null old value is allowed.
    if unsafe { libc::timer_settime(timer, 0, &raw const times, ptr::null_mut()) } != 0 {
        return Err(HvError::last_os("timer_settime"));
    }
    Ok(())
}

/// For the signal handler, when the thread runs no guest: turns the alarm off. Async-signal-safe: the thread-locals are
/// const-initialised atomics without destructors, and `timer_settime` is on POSIX's list.
pub(crate) fn silence() {
    let timer = TIMER.with(|timer| timer.load(Ordering::Relaxed));
    if !timer.is_null() {
        RINGS_AT.with(|at| at.store(0, Ordering::Relaxed));
        // Failing is no error: it rings again, and this is tried again.
        let _ = set_timer(timer, Duration::ZERO, Duration::ZERO);
    }
}

/// A thread's CPU clock, read as seldom as will do.
#[derive(Debug)]
pub(crate) struct CpuClock {
    read_at: Cell<Instant>,
    read: Cell<Duration>,
}

/// A moment on a thread, from which CPU time is counted.
#[derive(Debug, Clone, Copy)]
pub struct CpuMark {
    wall: Instant,
    /// At most the thread's CPU time then, and at most [`FINE`] below it.
    cpu: Duration,
}

impl CpuClock {
    pub(crate) fn start() -> CpuClock {
        CpuClock {
            read_at: Cell::new(Instant::now()),
            read: Cell::new(thread_cpu_time()),
        }
    }

    pub(crate) fn mark(&self, now: Instant) -> CpuMark {
        let cpu = if now.saturating_duration_since(self.read_at.get()) < FINE {
            self.read.get()
        } else {
            self.read(now)
        };
        CpuMark { wall: now, cpu }
    }

    pub(crate) fn since(&self, mark: CpuMark, now: Instant) -> Duration {
        let wall = now.saturating_duration_since(mark.wall);
        if wall < FINE {
            return wall;
        }
        wall.min(self.read(now).saturating_sub(mark.cpu))
    }

    fn read(&self, now: Instant) -> Duration {
        let cpu = thread_cpu_time();
        self.read_at.set(now);
        self.read.set(cpu);
        cpu
    }
}

/// CPU time that this thread has used, guest time included.
fn thread_cpu_time() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local. The clock always exists, so failure cannot occur.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

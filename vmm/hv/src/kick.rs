//! Stopping a vCPU from outside: `immediate_exit`, a signal, and timers that send it.
//!
//! ```text
//!   the thread that runs the vCPU            somebody else: a timer, a signal, another thread
//!   ─────────────────────────────            ────────────────────────────────────────────────
//!   1  run() enters KVM_RUN                  a  sets immediate_exit in the run page
//!   2  guest runs                            b  sends KICK to the thread
//! ```
//! Interleavings: (a) before 1: KVM_RUN returns at once. (b) between 1 and 2, or in 2: the signal makes
//! KVM_RUN return `EINTR`. (b) after the stop: the handler sets immediate_exit again, so the next
//! KVM_RUN returns at once and the caller looks at its clocks; a spurious stop costs one exit and loses nothing.
//! A timer repeats until it is set anew, so that no single lost signal can let a guest run on.

use std::cell::Cell;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::error::HvError;

/// Where a vCPU's shared page is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RunPage(*mut kvm_run);

// SAFETY: the pointer is to a mapping of the whole process, read and written only through the `Vcpu` that owns it
// (by `&mut self`, so by one thread at a time) and by `Armed`'s thread, which is the one that runs it.
unsafe impl Send for RunPage {}

impl RunPage {
    pub(crate) fn of(fd: &mut VcpuFd) -> RunPage {
        RunPage(fd.get_kvm_run())
    }

    pub(crate) fn exit_reason(self) -> u32 {
        let field = self
            .0
            .wrapping_byte_add(std::mem::offset_of!(kvm_run, exit_reason))
            .cast::<u32>();
        // SAFETY: called only by the `Vcpu` that owns the mapping, between two runs; the field is in bounds.
        unsafe { ptr::read_volatile(field) }
    }

    pub(crate) fn internal_suberror(self) -> u32 {
        // `internal.suberror` is the first field of the union (Linux `include/uapi/linux/kvm.h`).
        let field = self
            .0
            .wrapping_byte_add(std::mem::offset_of!(kvm_run, __bindgen_anon_1))
            .cast::<u32>();
        // SAFETY: as for `exit_reason`; every bit pattern is a u32.
        unsafe { ptr::read_volatile(field) }
    }

    pub(crate) fn clear_immediate_exit(self) {
        // SAFETY: called only by the `Vcpu` that owns the mapping; the kernel only reads the byte.
        unsafe { ptr::write_volatile(self.immediate_exit(), 0) }
    }

    fn immediate_exit(self) -> *mut u8 {
        self.0
            .wrapping_byte_add(std::mem::offset_of!(kvm_run, immediate_exit))
            .cast::<u8>()
    }
}

thread_local! {
    /// Run page of the vCPU that this thread runs at present, for the signal handler.
    static CURRENT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Stops one vCPU's thread.
#[derive(Debug)]
pub struct Kicker {
    run_page: RunPage,
}

impl Kicker {
    pub(crate) fn new(run_page: RunPage) -> Kicker {
        Kicker { run_page }
    }

    /// Says that this thread runs the vCPU until the guard is dropped; kicks then stop it.
    pub fn arm(&self) -> Armed {
        CURRENT.with(|current| current.set(self.run_page.immediate_exit()));
        Armed {
            _not_send: std::marker::PhantomData,
        }
    }
}

/// This thread's vCPU can be stopped while this lives.
#[derive(Debug)]
pub struct Armed {
    _not_send: std::marker::PhantomData<*mut u8>,
}

impl Drop for Armed {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(ptr::null_mut()));
    }
}

/// Stops a vCPU from another thread. Harmless when the thread is not running one or is gone.
#[derive(Debug, Clone, Copy)]
pub struct RemoteKick {
    thread: libc::pid_t,
}

impl RemoteKick {
    /// A handle on the calling thread, whichever vCPU it will run.
    ///
    /// # Errors
    /// [`HvError::System`] when the signal's handler cannot be installed.
    pub fn current_thread() -> Result<RemoteKick, HvError> {
        install_handler()?;
        // SAFETY: gettid(2) has no preconditions.
        let thread = unsafe { libc::gettid() };
        Ok(RemoteKick { thread })
    }

    /// Sends the signal.
    pub fn kick(self) {
        // SAFETY: getpid(2) has no preconditions.
        let process = unsafe { libc::getpid() };
        // SAFETY: tgkill(2) takes numbers only; a wrong one gives ESRCH, and the signal's handler is
        // installed before any `RemoteKick` exists.
        unsafe { libc::syscall(libc::SYS_tgkill, process, self.thread, kick_signal()) };
    }
}

/// The thread that runs a vCPU at present, if one does: a place where others find whom to stop, without a lock.
#[derive(Debug, Default)]
pub struct Runner(AtomicI32);

impl Runner {
    /// Says that `thread` runs the vCPU.
    pub fn set(&self, thread: &VcpuThread) {
        self.0.store(thread.kick.thread, Ordering::SeqCst);
    }

    /// Says that no thread does.
    pub fn clear(&self) {
        self.0.store(0, Ordering::SeqCst);
    }

    /// Stops the vCPU if a thread runs it. A thread that has just left it may be kicked for nothing, which is harmless.
    pub fn kick(&self) {
        match self.0.load(Ordering::SeqCst) {
            0 => {}
            thread => RemoteKick { thread }.kick(),
        }
    }
}

/// Which clock an alarm watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlarmClock {
    /// Wall-clock time since boot, not set back by anybody.
    Wall,
    /// CPU time of the thread that makes the alarm, guest time included.
    ThreadCpu,
}

/// A thread that runs vCPUs, with the two timers that stop them. Made before the thread is confined.
#[derive(Debug)]
pub struct VcpuThread {
    wall: Alarm,
    cpu: Alarm,
    kick: RemoteKick,
    _not_send: std::marker::PhantomData<*mut u8>,
}

impl VcpuThread {
    /// Prepares the calling thread.
    ///
    /// # Errors
    /// [`HvError::System`] when the kernel has no timer left or takes no signal handler.
    pub fn enter() -> Result<VcpuThread, HvError> {
        let kick = RemoteKick::current_thread()?;
        let wall = Alarm::create(libc::CLOCK_MONOTONIC)?;
        let cpu = Alarm::create(libc::CLOCK_THREAD_CPUTIME_ID)?;
        Ok(VcpuThread {
            wall,
            cpu,
            kick,
            _not_send: std::marker::PhantomData,
        })
    }

    /// A handle with which any thread of this process stops whatever vCPU this one runs.
    pub fn remote(&self) -> RemoteKick {
        self.kick
    }

    /// Has the thread kicked after `after`, then every 10 ms; `None` for no more.
    ///
    /// # Errors
    /// [`HvError::System`], which no argument can bring about.
    pub fn set_alarm(&self, clock: AlarmClock, after: Option<Duration>) -> Result<(), HvError> {
        match clock {
            AlarmClock::Wall => self.wall.set(after),
            AlarmClock::ThreadCpu => self.cpu.set(after),
        }
    }
}

/// A timer that kicks the thread that made it.
#[derive(Debug)]
struct Alarm {
    timer: libc::timer_t,
}

impl Alarm {
    fn create(clock: libc::clockid_t) -> Result<Alarm, HvError> {
        // SAFETY: all-zero bytes are a valid `sigevent`.
        let mut event: libc::sigevent = unsafe { MaybeUninit::zeroed().assume_init() };
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = kick_signal();
        // SAFETY: gettid(2) has no preconditions.
        event.sigev_notify_thread_id = unsafe { libc::gettid() };
        let mut timer: libc::timer_t = ptr::null_mut();
        // SAFETY: both pointers are to live locals of the right types.
        if unsafe { libc::timer_create(clock, &raw mut event, &raw mut timer) } != 0 {
            return Err(HvError::last_os("timer_create"));
        }
        Ok(Alarm { timer })
    }

    fn set(&self, after: Option<Duration>) -> Result<(), HvError> {
        let spec = |duration: Duration| libc::timespec {
            tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(duration.subsec_nanos()),
        };
        let (first, every) = match after {
            Some(after) => (after.max(Duration::from_nanos(1)), Duration::from_millis(10)),
            None => (Duration::ZERO, Duration::ZERO),
        };
        let times = libc::itimerspec {
            it_value: spec(first),
            it_interval: spec(every),
        };
        // SAFETY: the timer is ours and alive; the spec is a live local; a null old value is allowed.
        if unsafe { libc::timer_settime(self.timer, 0, &raw const times, ptr::null_mut()) } != 0 {
            return Err(HvError::last_os("timer_settime"));
        }
        Ok(())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        // SAFETY: the timer is ours and was not deleted before.
        unsafe { libc::timer_delete(self.timer) };
    }
}

/// CPU time that this thread has used, guest time included.
pub fn thread_cpu_time() -> Duration {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a live local. The clock always exists, so failure cannot occur.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    let nanos = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), nanos)
}

fn kick_signal() -> libc::c_int {
    SIGRTMIN() + 1
}

fn install_handler() -> Result<(), HvError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = register_signal_handler(kick_signal(), on_kick).map_err(|error| HvError::System {
            call: "sigaction",
            source: std::io::Error::from_raw_os_error(error.errno()),
        });
    });
    result
}

extern "C" fn on_kick(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // The thread-local is const-initialised and has no destructor, so reading it is async-signal-safe.
    let byte = CURRENT.with(Cell::get);
    if !byte.is_null() {
        // SAFETY: `byte` was set by this very thread from a live run page and is cleared before the
        // guard's vCPU can be dropped by it; the kernel only reads it.
        unsafe { ptr::write_volatile(byte, 1) };
    }
}

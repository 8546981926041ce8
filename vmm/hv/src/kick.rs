//! Stopping a vCPU from outside: `immediate_exit`, and a signal.
//!
//! ```text
//!   the thread that runs the vCPU            somebody else: a timer, a signal, another thread
//!   ─────────────────────────────            ────────────────────────────────────────────────
//!   1  run() enters KVM_RUN                  a  sets immediate_exit in the run page
//!   2  guest runs                            b  sends KICK to the thread
//! ```
//! Interleavings: (a) before 1: KVM_RUN returns at once. (b) between 1 and 2, or in 2: the signal makes
//! KVM_RUN return `EINTR`. (b) after the stop: the handler sets immediate_exit again, so the next
//! KVM_RUN returns at once and the caller looks at its clocks; a spurious stop costs one exit and loses nothing. A kick that comes
//! before the thread says which vCPU it runs is kept for the one that it runs next.
//! Who sends the signal when time is over is in `alarm`.

use std::cell::Cell;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use kvm_bindings::kvm_run;
use kvm_ioctls::VcpuFd;
use vmm_sys_util::signal::{SIGRTMIN, register_signal_handler};

use crate::alarm::{self, Alarm, CpuClock, CpuMark};
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

    pub(crate) fn clear_immediate_exit(self) {
        // SAFETY: called only by the `Vcpu` that owns the mapping; the kernel only reads the byte.
        unsafe { ptr::write_volatile(self.immediate_exit(), 0) }
    }

    fn set_immediate_exit(self) {
        // SAFETY: called only by the thread that is about to run the vCPU; the kernel only reads the byte.
        unsafe { ptr::write_volatile(self.immediate_exit(), 1) };
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
    /// Set by a kick that came while this thread ran no vCPU.
    static KICKED: AtomicBool = const { AtomicBool::new(false) };
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

    /// Says that this thread runs the vCPU until the guard is dropped; kicks then stop it. One that came since the thread last ran
    /// a vCPU, and was not asked for by [`VcpuThread::take_kick`], stops it at once.
    pub fn arm(&self) -> Armed {
        CURRENT.with(|current| current.set(self.run_page.immediate_exit()));
        if take_kick() {
            self.run_page.set_immediate_exit();
        }
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

/// A thread that runs vCPUs, with the alarm that stops them. Made before the thread is confined.
#[derive(Debug)]
pub struct VcpuThread {
    alarm: Alarm,
    cpu: CpuClock,
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
        Ok(VcpuThread {
            alarm: Alarm::create()?,
            cpu: CpuClock::start(),
            kick,
            _not_send: std::marker::PhantomData,
        })
    }

    /// A handle with which any thread of this process stops whatever vCPU this one runs.
    pub fn remote(&self) -> RemoteKick {
        self.kick
    }

    /// Has the thread kicked at `at` at the latest, and perhaps before. Must be called while a [`Kicker`] is armed: an
    /// alarm that rings while no vCPU can be stopped is turned off.
    ///
    /// # Errors
    /// [`HvError::System`], which no argument can bring about.
    pub fn ring_by(&self, at: Instant, now: Instant) -> Result<(), HvError> {
        self.alarm.ring_by(at, now)
    }

    /// Says that the vCPU was interrupted, perhaps by the alarm.
    pub fn rang(&self) {
        self.alarm.rang();
    }

    /// Whether the thread was kicked while it ran no vCPU, since this was last asked or a vCPU was run: for one that waits for
    /// what another thread runs. The alarm is then off.
    pub fn take_kick(&self) -> bool {
        take_kick()
    }

    /// Begins to count CPU time.
    pub fn mark(&self, now: Instant) -> CpuMark {
        self.cpu.mark(now)
    }

    /// CPU time of this thread since a mark; at most [`crate::alarm::FINE`] more than that, never less.
    pub fn cpu_since(&self, mark: CpuMark, now: Instant) -> Duration {
        self.cpu.since(mark, now)
    }
}

/// Whether this thread was kicked while it ran no vCPU, since this was last asked.
fn take_kick() -> bool {
    KICKED.with(|kicked| kicked.load(Ordering::Relaxed) && kicked.swap(false, Ordering::Relaxed))
}

pub(crate) fn kick_signal() -> libc::c_int {
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
    // The thread-locals are const-initialised and have no destructors, so using them is async-signal-safe.
    let byte = CURRENT.with(Cell::get);
    if byte.is_null() {
        KICKED.with(|kicked| kicked.store(true, Ordering::Relaxed));
        alarm::silence();
    } else {
        // SAFETY: `byte` was set by this very thread from a live run page and is cleared before the
        // guard's vCPU can be dropped by it; the kernel only reads it.
        unsafe { ptr::write_volatile(byte, 1) };
    }
}

//! A child process in namespaces of its own: how it is made, told to stop, and waited for.
//!
//! A cell runs in a child, so that what the cell's process gives up (identity, file system, network)
//! is not given up by the parent, which still has the report to print. The rule this module keeps:
//! **a fork happens only while the process has one thread**, because the child is a copy of that one
//! thread alone and a lock held by another would stay locked for ever.
//!
//! ```text
//!   parent                                      child (PID 1 of its namespace, if that holds)
//!   block INT TERM HUP
//!   clone(NEWUSER|NEWNS|NEWPID|NEWNET|…) ─────► PDEATHSIG = KILL; parent still there? else _exit
//!   wait: poll(pidfd, signalfd)                 Child::stop_signals(): a descriptor to poll
//!     INT/TERM/HUP  ── pidfd_send_signal ─────► readable: end the cell, write the last record
//!     second signal, or grace over ── KILL ───►
//!   waitid(pidfd) ◄──────────────────────────── exit status or signal
//! ```
//!
//! The stop signals stay blocked in the child. As PID 1 of its namespace it would ignore them anyway
//! (`pid_namespaces(7)`); so a child that does not look is killed when the grace is over.

use std::fmt;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::process;
use std::ptr;
use std::time::{Duration, Instant};

pub use crate::namespaces::Namespaces;
use crate::stop_signals::SignalMask;
pub use crate::stop_signals::StopSignals;
use crate::system_call::{check, retry_interrupted};

/// Why no child was made.
#[derive(Debug)]
pub enum ForkError {
    /// The process has more than one thread.
    Threads {
        /// How many threads there are.
        count: u64,
    },
    /// `/proc/self/task` could not be read, so the threads could not be counted.
    CountThreads(io::Error),
    /// Standard output could not be flushed; its buffer would be written twice.
    Flush(io::Error),
    /// `pidfd_open` of the process itself failed.
    OwnDescriptor(io::Error),
    /// The stop signals could not be blocked or taken over.
    Signals(io::Error),
    /// `clone` failed, also without any namespace.
    Clone(io::Error),
}

impl fmt::Display for ForkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads { count } => {
                write!(
                    f,
                    "cannot fork: the process has {count} threads and must have one"
                )
            }
            Self::CountThreads(_) => f.write_str("cannot count the threads in /proc/self/task"),
            Self::Flush(_) => f.write_str("cannot flush standard output before forking"),
            Self::OwnDescriptor(_) => f.write_str("cannot open a descriptor of this process"),
            Self::Signals(_) => f.write_str("cannot take over the stop signals"),
            Self::Clone(_) => f.write_str("cannot make a child process"),
        }
    }
}

impl std::error::Error for ForkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Threads { .. } => None,
            Self::CountThreads(e)
            | Self::Flush(e)
            | Self::OwnDescriptor(e)
            | Self::Signals(e)
            | Self::Clone(e) => Some(e),
        }
    }
}

/// Which side of the fork this is.
#[derive(Debug)]
pub enum Forked {
    /// The new process.
    Child(Child),
    /// The old process, holding the new one.
    Parent(ChildProcess),
}

/// The child's view of itself.
#[derive(Debug)]
pub struct Child {
    /// The namespaces that this process has of its own.
    pub namespaces: Namespaces,
}

impl Child {
    /// Opens a descriptor that becomes readable when the parent passes on a stop signal.
    ///
    /// The signals are blocked in this process, so nothing else happens when one arrives. Poll the
    /// descriptor and end in order; a process that does not is killed after the parent's grace.
    ///
    /// # Errors
    /// What `signalfd4(2)` says.
    pub fn stop_signals(&self) -> io::Result<StopSignals> {
        StopSignals::open()
    }
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildExit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// This signal ended it; `SIGSYS` (31) is what a seccomp filter sends.
    Signal(i32),
}

/// A child process that is running or not yet waited for. Dropping it kills and reaps the child.
#[derive(Debug)]
pub struct ChildProcess {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    namespaces: Namespaces,
    /// Taken over until the child is gone; drop restores the old mask.
    _mask: SignalMask,
    reaped: bool,
}

impl ChildProcess {
    /// Returns the child's process number, as seen by the parent.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns the namespaces that the child has of its own: what was asked for, less what this host refused.
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        self.namespaces
    }

    /// Sends the child a signal.
    ///
    /// # Errors
    /// What `pidfd_send_signal(2)` says; a child that has ended already is no error.
    pub fn send(&self, signal: i32) -> io::Result<()> {
        // SAFETY: pidfd_send_signal reads no memory when the siginfo pointer is null; the descriptor is ours.
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal,
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match check(sent) {
            Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other.map(drop),
        }
    }

    /// A descriptor that becomes readable when the child has ended.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Waits until the child ends and passes nothing on; for a parent of several, after it has looked at the descriptor or sent
    /// `SIGKILL`.
    ///
    /// # Errors
    /// What `waitid(2)` says.
    pub fn join(mut self) -> io::Result<ChildExit> {
        self.reap()
    }

    /// Waits until the child ends, and passes on `SIGINT`, `SIGTERM` and `SIGHUP` meanwhile.
    ///
    /// The first such signal gives the child `grace` to end by itself; after that, or at the second
    /// signal, it is killed.
    ///
    /// # Errors
    /// What `poll(2)`, `signalfd4(2)`, `pidfd_send_signal(2)` or `waitid(2)` says. The child is killed and reaped then too.
    pub fn wait(mut self, grace: Duration) -> io::Result<ChildExit> {
        let stop = StopSignals::open()?;
        let mut kill_at: Option<Instant> = None;
        let mut killed = false;
        loop {
            let timeout = match kill_at {
                Some(at) if !killed => Some(at.saturating_duration_since(Instant::now())),
                _ => None,
            };
            let ready = poll_readable([self.pidfd.as_fd(), stop.as_fd()], timeout)?;
            if ready[0] {
                return self.reap();
            }
            let mut overdue = kill_at.is_some_and(|at| at <= Instant::now());
            while let Some(signal) = stop.take()? {
                overdue |= kill_at.is_some();
                kill_at.get_or_insert_with(|| Instant::now() + grace);
                self.send(signal)?;
            }
            if overdue && !killed {
                self.send(libc::SIGKILL)?;
                killed = true;
            }
        }
    }

    /// Collects the exit status of a child that has ended, or waits for its end.
    fn reap(&mut self) -> io::Result<ChildExit> {
        // SAFETY: siginfo_t is plain data for which all zeroes is a valid value.
        let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
        let id = libc::id_t::try_from(self.pidfd.as_raw_fd()).map_err(io::Error::other)?;
        // __WALL, because the child was made with no exit signal (see `clone_into`).
        let flags = libc::WEXITED | libc::__WALL;
        retry_interrupted(|| {
            // SAFETY: `info` is a live siginfo_t that waitid fills; the pidfd is ours and open.
            let waited = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, flags) };
            check(waited.into())
        })?;
        self.reaped = true;
        // SAFETY: waitid succeeded with WEXITED, so `info` is of the SIGCHLD kind, which has si_status.
        let status = unsafe { info.si_status() };
        Ok(if info.si_code == libc::CLD_EXITED {
            ChildExit::Code(status)
        } else {
            ChildExit::Signal(status)
        })
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        if !self.reaped {
            // Both fail only when the child is gone already.
            let _ = self.send(libc::SIGKILL);
            let _ = self.reap();
        }
    }
}

/// Forks into a child that has namespaces of its own and dies with its parent.
///
/// Namespaces that this host refuses are left out, the least protective first; both sides are told
/// which hold. The parent must call [`ChildProcess::wait`]. In the child, destructors of values from
/// before the fork run as usual, so the caller should `process::exit` there rather than return.
///
/// # Errors
/// [`ForkError`]; above all when the process has more than one thread.
pub fn fork_into(wanted: Namespaces) -> Result<Forked, ForkError> {
    match count_threads().map_err(ForkError::CountThreads)? {
        1 => {}
        count => return Err(ForkError::Threads { count }),
    }
    io::stdout().flush().map_err(ForkError::Flush)?;
    let parent = own_pidfd().map_err(ForkError::OwnDescriptor)?;
    let mask = SignalMask::block_stop_signals().map_err(ForkError::Signals)?;
    let tid_address = tid_address();

    let (forked, namespaces) = clone_with_fallback(wanted, tid_address).map_err(ForkError::Clone)?;
    match forked {
        None => {
            die_with(&parent);
            keep_one_heap();
            // The child keeps the signals blocked.
            mem::forget(mask);
            Ok(Forked::Child(Child { namespaces }))
        }
        Some((pid, pidfd)) => Ok(Forked::Parent(ChildProcess {
            pid,
            pidfd,
            namespaces,
            _mask: mask,
            reaped: false,
        })),
    }
}

/// Ends the process at once with this status: no destructors, no exit handlers, nothing for a seccomp
/// filter to allow but `exit_group`. Standard output is flushed first.
pub fn exit_now(status: u8) -> ! {
    // A closed pipe is no reason to end otherwise.
    let _ = io::stdout().flush();
    // SAFETY: _exit touches no memory and does not return.
    unsafe { libc::_exit(status.into()) }
}

/// Ends the process without running destructors or handlers, so with one system call.
///
/// What standard output has buffered must have been flushed.
pub fn exit_at_once(code: u8) -> ! {
    // SAFETY: _exit(2) has no preconditions and does not return.
    unsafe { libc::_exit(libc::c_int::from(code)) }
}

/// Counts the threads of this process.
fn count_threads() -> io::Result<u64> {
    // The kernel counts each thread's directory as one link beside "." and "..".
    Ok(std::fs::metadata("/proc/self/task")?.nlink().saturating_sub(2))
}

/// Returns a descriptor of this process itself, by which the child can see whether it is still there.
fn own_pidfd() -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers and touches no memory.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, process::id(), 0) };
    let fd = RawFd::try_from(check(fd)?).map_err(io::Error::other)?;
    // SAFETY: pidfd_open has just returned this descriptor, so nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Returns where libc keeps this thread's number, if the kernel tells (`PR_GET_TID_ADDRESS`).
///
/// The kernel then writes the child's own number there, as libc's `fork` has it done. Without it
/// `pthread_kill` of the child's first thread would miss.
fn tid_address() -> *mut libc::c_int {
    let mut address: *mut libc::c_int = ptr::null_mut();
    // SAFETY: PR_GET_TID_ADDRESS writes one pointer to where its argument points, which is live.
    let told = unsafe { libc::prctl(libc::PR_GET_TID_ADDRESS, &raw mut address) };
    if told == 0 { address } else { ptr::null_mut() }
}

/// The parent's side of a clone: process number and descriptor; `None` in the child.
type Cloned = Option<(libc::pid_t, OwnedFd)>;

/// Clones with as many of the wanted namespaces as this host allows.
fn clone_with_fallback(
    wanted: Namespaces,
    tid_address: *mut libc::c_int,
) -> io::Result<(Cloned, Namespaces)> {
    let mut refused = match clone_into(wanted, tid_address) {
        Ok(forked) => return Ok((forked, wanted)),
        Err(e) => e,
    };
    for fewer in wanted.lesser() {
        // EPERM: not permitted; ENOSPC, EUSERS: a limit in /proc/sys/user; EINVAL, ENOSYS: not built in.
        match refused.raw_os_error() {
            Some(libc::EPERM | libc::ENOSPC | libc::EUSERS | libc::EINVAL | libc::ENOSYS) => {}
            _ => break,
        }
        match clone_into(fewer, tid_address) {
            Ok(forked) => return Ok((forked, fewer)),
            Err(e) => refused = e,
        }
    }
    Err(refused)
}

/// Makes a child with exactly these namespaces.
///
/// The old `clone` rather than `clone3`, because container runtimes filter the latter out.
fn clone_into(namespaces: Namespaces, tid_address: *mut libc::c_int) -> io::Result<Cloned> {
    // No exit signal: a SIGCHLD that our own parent left ignored would make the kernel throw the
    // child's status away.
    let mut flags = libc::CLONE_PIDFD | namespaces.clone_flags();
    if !tid_address.is_null() {
        flags |= libc::CLONE_CHILD_SETTID | libc::CLONE_CHILD_CLEARTID;
    }
    let mut pidfd: libc::c_int = -1;
    let no_stack = ptr::null_mut::<libc::c_void>();
    // The order of the last two arguments differs between architectures; without CLONE_SETTLS the
    // other one is not looked at, so both are the same.
    // SAFETY: no CLONE_VM, so the child gets a copy of the address space and goes on with a copy of this
    // stack. The caller has checked that there is one thread, so no lock of the copy is held by a thread
    // that does not exist there. `pidfd` is live; `tid_address` is null or libc's word for this thread.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone,
            libc::c_long::from(flags),
            no_stack,
            &raw mut pidfd,
            tid_address,
            tid_address,
        )
    };
    match check(pid)? {
        0 => Ok(None),
        pid => {
            let pid = libc::pid_t::try_from(pid).map_err(io::Error::other)?;
            // SAFETY: clone with CLONE_PIDFD has just stored this new descriptor; nothing else owns it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Some((pid, pidfd)))
        }
    }
}

/// In the child: asks to be killed when the parent ends, and ends at once if it has ended already.
fn die_with(parent: &OwnedFd) {
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // Interleavings: parent ends before the prctl: its pidfd is readable now. After: the signal comes.
    let orphaned = poll_readable([parent.as_fd()], Some(Duration::ZERO)).map_or(true, |[ended]| ended);
    if set != 0 || orphaned {
        // SAFETY: _exit touches no memory and does not return.
        unsafe { libc::_exit(127) };
    }
}

/// In the child: tells the C library to keep one heap for all threads, grown with `brk`.
///
/// Heaps of single threads are grown with `mprotect` and large blocks with `mremap`; without them a
/// seccomp filter needs to allow neither. Contention is no concern with two threads.
fn keep_one_heap() {
    #[cfg(target_env = "gnu")]
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_MMAP_THRESHOLD, 32 << 20),
        (libc::M_TRIM_THRESHOLD, 32 << 20),
    ] {
        // SAFETY: mallopt takes numbers; one that it does not like changes nothing. There is one thread.
        unsafe { libc::mallopt(parameter, value) };
    }
}

/// Waits until a descriptor is readable or the timeout is over, and says which are.
fn poll_readable<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    timeout: Option<Duration>,
) -> io::Result<[bool; N]> {
    let mut polled = fds.map(|fd| libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    });
    // Rounded up, so that a wait is over when poll says so; -1 is for ever.
    let millis = timeout.map_or(-1, |t| {
        i32::try_from(t.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
    });
    let count = libc::nfds_t::try_from(N).map_err(io::Error::other)?;
    // SAFETY: the array is live and has `count` entries; the descriptors are borrowed, so open.
    let ready = unsafe { libc::poll(polled.as_mut_ptr(), count, millis) };
    match check(ready.into()) {
        // A handled signal: nothing is ready, the caller goes round again.
        Err(e) if e.kind() == io::ErrorKind::Interrupted => Ok([false; N]),
        Err(e) => Err(e),
        Ok(_) => Ok(polled.map(|p| p.revents != 0)),
    }
}

//! The signals by which a person or a service manager asks a program to stop: blocked, and read from a descriptor.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use crate::system_call::{check, check_errno, retry_interrupted};

/// A descriptor from which blocked `SIGINT`, `SIGTERM` and `SIGHUP` are read (`signalfd(2)`).
///
/// Non-blocking and close-on-exec. It belongs to the process that opened it.
#[derive(Debug)]
pub struct StopSignals(OwnedFd);

impl StopSignals {
    /// Opens one. Only signals that are blocked can be read: a process's own stop signals are from its first
    /// [`crate::process::fork_into`] on, for as long as it holds the child, and in the child.
    ///
    /// # Errors
    /// What `signalfd4(2)` says.
    pub fn open() -> io::Result<Self> {
        let set = stop_set()?;
        // SAFETY: -1 asks for a new descriptor; `set` is a live, initialised sigset_t that is only read.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        check(fd.into())?;
        // SAFETY: signalfd has just returned this descriptor, so nothing else owns it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the next pending stop signal, or `None` when there is none.
    ///
    /// # Errors
    /// What `read(2)` says.
    pub fn take(&self) -> io::Result<Option<i32>> {
        const SIZE: usize = mem::size_of::<libc::signalfd_siginfo>();
        let mut record = [0u8; SIZE];
        let got = retry_interrupted(|| {
            // SAFETY: the buffer is live and SIZE bytes long; the descriptor is ours.
            let read = unsafe { libc::read(self.0.as_raw_fd(), record.as_mut_ptr().cast(), SIZE) };
            check(i64::try_from(read).map_err(io::Error::other)?)
        });
        match got {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(e) => Err(e),
            // ssi_signo is the first field, a u32 (signalfd(2)).
            Ok(_) => {
                let [a, b, c, d, ..] = record;
                i32::try_from(u32::from_ne_bytes([a, b, c, d]))
                    .map(Some)
                    .map_err(io::Error::other)
            }
        }
    }
}

impl AsFd for StopSignals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for StopSignals {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// The signal mask from before the stop signals were blocked; drop puts it back.
#[derive(Debug)]
pub(crate) struct SignalMask(libc::sigset_t);

impl SignalMask {
    pub(crate) fn block_stop_signals() -> io::Result<Self> {
        let set = stop_set()?;
        // SAFETY: sigset_t is plain data for which all zeroes is a valid value (the empty set).
        let mut old: libc::sigset_t = unsafe { mem::zeroed() };
        // SAFETY: both sets are live and initialised; the process has one thread, whose mask this is.
        check_errno(unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut old) })?;
        Ok(Self(old))
    }
}

impl Drop for SignalMask {
    fn drop(&mut self) {
        // SAFETY: the set was filled by pthread_sigmask; the old one is not asked for.
        let _ = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

/// Returns the set of signals by which a person or a service manager asks a program to stop.
fn stop_set() -> io::Result<libc::sigset_t> {
    // SAFETY: sigset_t is plain data for which all zeroes is a valid value (the empty set).
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        // SAFETY: the set is live and initialised.
        check(unsafe { libc::sigaddset(&raw mut set, signal) }.into())?;
    }
    Ok(set)
}

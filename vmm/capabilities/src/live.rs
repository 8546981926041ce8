//! A broker from which others take grants while its cell runs.
//!
//! ```text
//!   the cell's thread                        whoever takes something back
//!   ─────────────────                        ─────────────────────────────────────────────
//!   use: lock                                1  records it
//!        what is wanted is done first        2  puts it down as wanted: no use that begins from here on has it
//!        looked up, performed                3  waits until the lock is free, and does it: files are closed
//!        unlock                              4  returns: no use that began before 2 is still under way
//! ```
//! A use may wait for somebody else (input, a TPM, a function of the embedding program). It is interrupted meanwhile, as by a signal: then it is begun
//! again, and refused. One that does not let itself be interrupted keeps whoever waits until its time is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use muscle_abi::frame::FrameKind;
use referee_policy::Grant;

use crate::broker::Broker;
use crate::error::{HostError, Stop};
use crate::ports::PortUse;

/// How long to wait between two looks whether a use is over.
const STEP: Duration = Duration::from_micros(500);

/// A broker that several threads hold; clones are the same one.
#[derive(Debug, Clone)]
pub struct LiveBroker(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    broker: Mutex<Broker>,
    wanted: Mutex<Vec<Wanted>>,
    /// Whether there is anything wanted, without the lock.
    any: AtomicBool,
    /// Whether ports may have been severed.
    severs: AtomicBool,
}

#[derive(Debug)]
struct Wanted {
    slot: String,
    left: Option<Grant>,
}

impl From<Broker> for LiveBroker {
    fn from(broker: Broker) -> LiveBroker {
        LiveBroker(Arc::new(Shared {
            broker: Mutex::new(broker),
            wanted: Mutex::default(),
            any: AtomicBool::new(false),
            severs: AtomicBool::new(false),
        }))
    }
}

impl LiveBroker {
    /// As [`Broker::call`].
    ///
    /// # Errors
    /// As [`Broker::call`].
    pub fn call(
        &self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, Stop> {
        self.lock().call(handle, name, payload, reply)
    }

    /// As [`Broker::port_read`].
    ///
    /// # Errors
    /// As [`Broker::port_read`].
    pub fn port_read(&self, port: u16, width: u8) -> Result<Option<u32>, Stop> {
        self.lock().port_read(port, width)
    }

    /// As [`Broker::port_write`].
    ///
    /// # Errors
    /// As [`Broker::port_write`].
    pub fn port_write(&self, port: u16, width: u8, value: u32) -> Result<bool, Stop> {
        self.lock().port_write(port, width, value)
    }

    /// As [`Broker::use_port`].
    ///
    /// # Errors
    /// As [`Broker::use_port`].
    pub fn use_port(&self, how: PortUse, port: u32) -> Result<bool, HostError> {
        self.lock().use_port(how, port)
    }

    /// As [`Broker::slot_name`].
    pub fn slot_name(&self, handle: u64) -> Option<String> {
        self.lock().slot_name(handle).map(str::to_owned)
    }

    /// As [`Broker::next_severed`]; asked often, so without the lock while nothing was taken back.
    pub fn next_severed(&self) -> Option<(PortUse, u32)> {
        let is_new = self.0.any.load(Ordering::Acquire) || self.0.severs.load(Ordering::Acquire);
        if !is_new {
            return None;
        }
        let mut broker = self.lock();
        let severed = broker.next_severed();
        self.0.severs.store(severed.is_some(), Ordering::Release);
        severed
    }

    /// Has a slot left with this, or with nothing: no use that begins from here on has more. Whoever decided it has recorded it.
    pub fn leave(&self, slot: &str, left: Option<Grant>) {
        let slot = slot.to_owned();
        let mut wanted = lock(&self.0.wanted);
        wanted.push(Wanted { slot, left });
        self.0.any.store(true, Ordering::Release);
    }

    /// Waits until no use is under way that began before [`LiveBroker::leave`], and what came of the grant is closed; at most until a time. `interrupt`
    /// is called again and again while a use goes on, and should interrupt what it waits for. False when the time is over.
    #[must_use]
    pub fn settle(&self, until: Instant, mut interrupt: impl FnMut()) -> bool {
        loop {
            match self.0.broker.try_lock() {
                Ok(mut broker) => {
                    self.catch_up(&mut broker);
                    return true;
                }
                Err(TryLockError::Poisoned(broker)) => {
                    self.catch_up(&mut broker.into_inner());
                    return true;
                }
                // A use that began since has done what was wanted first.
                Err(TryLockError::WouldBlock) if !self.0.any.load(Ordering::Acquire) => return true,
                Err(TryLockError::WouldBlock) => {}
            }
            if Instant::now() >= until {
                return false;
            }
            interrupt();
            thread::park_timeout(STEP);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Broker> {
        let mut broker = lock(&self.0.broker);
        if self.0.any.load(Ordering::Acquire) {
            self.catch_up(&mut broker);
        }
        broker
    }

    /// Does what is wanted. Whoever calls has the broker.
    fn catch_up(&self, broker: &mut Broker) {
        let mut wanted = lock(&self.0.wanted);
        for Wanted { slot, left } in wanted.drain(..) {
            broker.leave(&slot, left.as_ref());
        }
        self.0.severs.store(true, Ordering::Release);
        self.0.any.store(false, Ordering::Release);
    }
}

/// A panic elsewhere leaves whole values here.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

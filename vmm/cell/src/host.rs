//! What a cell asks of its host: five questions, answered by whoever holds the grants; and one thing that the host may have to say.
//!
//! The cell carries bytes and knows no policy. Each question is put once for every act, and the answer is
//! given only after the act was recorded.

use std::fmt;
use std::path::PathBuf;

use muscle_abi::frame::FrameKind;
use thiserror::Error;

/// The side that holds a cell's grants and performs what they allow.
pub trait Host: fmt::Debug + Send {
    /// Performs a call of the muscle: checks `handle` before anything else, appends a CBOR answer to `reply`, and
    /// says whether that is a result or an error.
    ///
    /// # Errors
    /// [`CallStop`].
    fn call(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, CallStop>;

    /// Reads `width` bytes (1, 2 or 4) from an I/O port; `None` when no grant covers all of them.
    ///
    /// # Errors
    /// [`CallStop`].
    fn port_read(&mut self, port: u16, width: u8) -> Result<Option<u32>, CallStop>;

    /// Writes `width` bytes (1, 2 or 4) to an I/O port; false when no grant covers all of them.
    ///
    /// # Errors
    /// [`CallStop`].
    fn port_write(&mut self, port: u16, width: u8, value: u32) -> Result<bool, CallStop>;

    /// The outside program's socket behind a port of the host; `None` when no grant covers it.
    ///
    /// # Errors
    /// [`HostFailure`].
    fn connect_out(&mut self, host_port: u32) -> Result<Option<PathBuf>, HostFailure>;

    /// Whether an outside program may reach this port of the muscle.
    ///
    /// # Errors
    /// [`HostFailure`].
    fn connect_in(&mut self, guest_port: u32) -> Result<bool, HostFailure>;

    /// A port whose grant was taken back, once for each: connections that came of it are reset.
    fn severed(&mut self) -> Option<Severed> {
        None
    }
}

/// A port, and from which side connections that its grant allowed were begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severed {
    /// Outside programs reached this port of the muscle.
    Inward(u32),
    /// The muscle reached this port of the host.
    Outward(u32),
}

/// A host, and whether the muscle asked it for anything.
#[derive(Debug)]
pub(crate) struct Asked {
    host: Box<dyn Host>,
    asked: bool,
}

impl Asked {
    pub(crate) fn new(host: Box<dyn Host>) -> Asked {
        Asked { host, asked: false }
    }

    /// Whether the muscle, or an outside program, asked for anything in this life.
    pub(crate) fn was_asked(&self) -> bool {
        self.asked
    }

    fn ask(&mut self) -> &mut dyn Host {
        self.asked = true;
        self.host.as_mut()
    }
}

impl Host for Asked {
    fn call(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, CallStop> {
        self.ask().call(handle, name, payload, reply)
    }

    fn port_read(&mut self, port: u16, width: u8) -> Result<Option<u32>, CallStop> {
        self.ask().port_read(port, width)
    }

    fn port_write(&mut self, port: u16, width: u8, value: u32) -> Result<bool, CallStop> {
        self.ask().port_write(port, width, value)
    }

    fn connect_out(&mut self, host_port: u32) -> Result<Option<PathBuf>, HostFailure> {
        self.ask().connect_out(host_port)
    }

    fn connect_in(&mut self, guest_port: u32) -> Result<bool, HostFailure> {
        self.ask().connect_in(guest_port)
    }

    fn severed(&mut self) -> Option<Severed> {
        // Nothing that the muscle asked for.
        self.host.severed()
    }
}

/// Why a call or a port access was not answered.
#[derive(Debug, Error)]
pub enum CallStop {
    /// A signal came while the host waited; the same call is made again after the limits were looked at.
    #[error("interrupted")]
    Interrupted,
    /// The muscle wrote more than it may.
    #[error("output beyond {limit} bytes")]
    OutputLimit {
        /// The limit in bytes.
        limit: u64,
    },
    /// The muscle was refused more often than it may be; each refusal costs the operator a record.
    #[error("more than {limit} refusals")]
    DenialLimit {
        /// Refusals allowed.
        limit: u32,
    },
    /// The host failed.
    #[error(transparent)]
    Host(#[from] HostFailure),
}

/// The host could not perform or could not record an act.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct HostFailure(#[source] pub Box<dyn std::error::Error + Send + Sync>);

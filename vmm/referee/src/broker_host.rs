//! The broker as the cell's host: the same acts, in the cell's words.

use std::collections::BTreeMap;
use std::path::PathBuf;

use muscle_abi::frame::FrameKind;
use referee_capabilities::{Fault, HostError, LiveBroker, PortUse, Stop};
use referee_cell::{CallStop, Host, HostFailure, Severed};
use referee_policy::{Grants, Power};

use crate::transcript::Transcript;
use crate::uses;

/// A broker, and where the sockets of outside programs are in the cell's root.
#[derive(Debug)]
pub struct BrokerHost {
    broker: LiveBroker,
    outside: BTreeMap<u32, PathBuf>,
    transcript: Option<Transcript>,
}

impl BrokerHost {
    /// The host side of one cell. `place` tells where the socket of a slot is found when it is needed.
    pub fn new(
        broker: impl Into<LiveBroker>,
        grants: &Grants,
        place: impl Fn(&str) -> PathBuf,
    ) -> BrokerHost {
        let outside = grants.slots().iter().filter_map(|grant| match grant.power() {
            Power::VsockConnect { port, .. } => Some((*port, place(grant.slot()))),
            _ => None,
        });
        BrokerHost {
            outside: outside.collect(),
            broker: broker.into(),
            transcript: None,
        }
    }

    /// Has everything that passes written into a transcript.
    pub fn with_transcript(mut self, transcript: Transcript) -> BrokerHost {
        self.transcript = Some(transcript);
        self
    }
}

impl Host for BrokerHost {
    fn call(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, CallStop> {
        let began = uses::begin();
        let kind = self.broker.call(handle, name, payload, reply).map_err(stopped)?;
        uses::note(began, (kind == FrameKind::Return).then_some(name));
        if let Some(transcript) = &self.transcript {
            let slot = self.broker.slot_name(handle).unwrap_or_default();
            transcript.call(&slot, name, payload, kind, reply);
        }
        Ok(kind)
    }

    fn port_read(&mut self, port: u16, width: u8) -> Result<Option<u32>, CallStop> {
        let value = self.broker.port_read(port, width).map_err(stopped)?;
        if let (Some(transcript), Some(value)) = (&self.transcript, value) {
            transcript.port(false, port, value);
        }
        Ok(value)
    }

    fn port_write(&mut self, port: u16, width: u8, value: u32) -> Result<bool, CallStop> {
        let written = self.broker.port_write(port, width, value).map_err(stopped)?;
        if let (Some(transcript), true) = (&self.transcript, written) {
            transcript.port(true, port, value);
        }
        Ok(written)
    }

    fn connect_out(&mut self, host_port: u32) -> Result<Option<PathBuf>, HostFailure> {
        let granted = self
            .broker
            .use_port(PortUse::Connect, host_port)
            .map_err(failure)?;
        Ok(granted.then(|| self.outside.get(&host_port).cloned()).flatten())
    }

    fn connect_in(&mut self, guest_port: u32) -> Result<bool, HostFailure> {
        self.broker.use_port(PortUse::Accept, guest_port).map_err(failure)
    }

    fn severed(&mut self) -> Option<Severed> {
        let (how, port) = self.broker.next_severed()?;
        Some(match how {
            PortUse::Accept => Severed::Inward(port),
            PortUse::Connect => Severed::Outward(port),
        })
    }
}

/// The host of a cell that was loaded ahead and belongs to nobody yet: whatever its start-up asks for is not answered, neither yes nor no.
#[derive(Debug)]
pub(crate) struct NoHost;

impl Host for NoHost {
    fn call(&mut self, _: u64, _: &str, _: &[u8], _: &mut Vec<u8>) -> Result<FrameKind, CallStop> {
        Err(CallStop::Interrupted)
    }

    fn port_read(&mut self, _: u16, _: u8) -> Result<Option<u32>, CallStop> {
        Err(CallStop::Interrupted)
    }

    fn port_write(&mut self, _: u16, _: u8, _: u32) -> Result<bool, CallStop> {
        Err(CallStop::Interrupted)
    }

    fn connect_out(&mut self, _: u32) -> Result<Option<PathBuf>, HostFailure> {
        Ok(None)
    }

    fn connect_in(&mut self, _: u32) -> Result<bool, HostFailure> {
        Ok(false)
    }
}

fn stopped(stop: Stop) -> CallStop {
    match stop {
        Stop::Interrupted => CallStop::Interrupted,
        Stop::Fault(Fault::OutputLimit { limit }) => CallStop::OutputLimit { limit },
        Stop::Fault(Fault::DenialLimit { limit }) => CallStop::DenialLimit { limit },
        Stop::Host(error) => CallStop::Host(failure(error)),
    }
}

fn failure(error: HostError) -> HostFailure {
    HostFailure(Box::new(error))
}

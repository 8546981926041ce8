//! What is no call: vsock connections, and I/O ports.

use muscle_abi::capability::CapabilityKind;
use referee_audit::{Event, Kind, Value};
use referee_policy::{Grant, Power};

use super::{Broker, Held, REVOKED};
use crate::error::{Fault, HostError, Stop};
use crate::pio::PioDevice;
use crate::ports::PortUse;

impl Broker {
    /// Whether a grant allows this use of a vsock port; either answer is recorded.
    ///
    /// # Errors
    /// [`HostError::Audit`]; the connection must then be refused.
    pub fn use_port(&mut self, how: PortUse, port: u32) -> Result<bool, HostError> {
        let covers = |grant: &Grant| match (how, grant.power()) {
            (PortUse::Accept, Power::VsockListen { port: granted, .. })
            | (PortUse::Connect, Power::VsockConnect { port: granted, .. }) => *granted == port,
            _ => false,
        };
        let granted = self.table.iter().find(|(_, slot)| covers(&slot.grant));
        let granted = granted.map(|(_, slot)| &slot.grant);
        let taken = self.taken.values().find(|grant| covers(grant));
        let capability = match how {
            PortUse::Accept => CapabilityKind::VsockListen,
            PortUse::Connect => CapabilityKind::VsockConnect,
        };
        let detail = [
            ("port", Value::Number(u64::from(port))),
            ("why", Value::Text(REVOKED)),
        ];
        self.audit.record(&Event {
            kind: if granted.is_some() { Kind::Use } else { Kind::Deny },
            capability: Some(capability.name()),
            slot: granted.or(taken).map(Grant::slot),
            op: Some(how.name()),
            detail: match (granted, taken) {
                (None, Some(_)) => &detail,
                _ => detail.get(..1).unwrap_or(&detail),
            },
        })?;
        Ok(granted.is_some())
    }

    /// Reads `width` bytes from I/O ports, least significant first; `None` when no grant covers all of them. Either
    /// is recorded.
    ///
    /// # Errors
    /// [`HostError::Audit`].
    pub fn port_read(&mut self, port: u16, width: u8) -> Result<Option<u32>, Stop> {
        match self.find_device("pio.in", port, width)? {
            Some(device) => Ok(Some(device.read(port, width))),
            None => Ok(None),
        }
    }

    /// Writes `width` bytes to I/O ports, least significant first; `false` when no grant covers all of them. Either
    /// is recorded.
    ///
    /// # Errors
    /// [`Fault::OutputLimit`], [`HostError::Audit`].
    pub fn port_write(&mut self, port: u16, width: u8, value: u32) -> Result<bool, Stop> {
        let limit = self.limits.output_bytes;
        let spent = self.output_spent.saturating_add(u64::from(width));
        let Some(device) = self.find_device("pio.out", port, width)? else {
            return Ok(false);
        };
        if spent > limit {
            return Err(Stop::Fault(Fault::OutputLimit { limit }));
        }
        device.write(port, width, value);
        self.output_spent = spent;
        Ok(true)
    }

    /// The device behind ports, or `None`; records which.
    fn find_device(
        &mut self,
        op: &'static str,
        port: u16,
        width: u8,
    ) -> Result<Option<&mut PioDevice>, HostError> {
        let taken = self.taken.values().find(|grant| match grant.power() {
            Power::Pio { first, last, .. } => (*first..=*last).contains(&port),
            _ => false,
        });
        let found = self.table.iter_mut().find_map(|slot| match &mut slot.held {
            Held::Pio(device) if device.covers(port, width) => Some((slot.grant.slot(), device)),
            _ => None,
        });
        let detail = [
            ("port", Value::Bits(u64::from(port))),
            ("width", Value::Number(u64::from(width))),
            ("why", Value::Text(REVOKED)),
        ];
        let shown = if found.is_none() && taken.is_some() { 3 } else { 2 };
        self.audit.record(&Event {
            kind: if found.is_some() { Kind::Use } else { Kind::Deny },
            capability: Some(CapabilityKind::Pio.name()),
            slot: found.as_ref().map(|(slot, _)| *slot).or(taken.map(Grant::slot)),
            op: Some(op),
            detail: detail.get(..shown).unwrap_or(&detail),
        })?;
        Ok(found.map(|(_, device)| device))
    }
}

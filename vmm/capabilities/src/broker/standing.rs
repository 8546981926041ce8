//! Grants taken back or made smaller while the cell has them.

use referee_audit::{Event, Kind, Value};
use referee_policy::{Grant, Power};

use super::{Broker, Held};
use crate::error::HostError;
use crate::ports::PortUse;

impl Broker {
    /// Takes a grant back: its handle, and every copy of it, is stale from now on; its open files are closed.
    ///
    /// # Errors
    /// [`HostError::Audit`]; nothing was taken back then. `Ok(false)` when no grant has this handle.
    pub fn revoke(&mut self, handle: u64) -> Result<bool, HostError> {
        let Ok(slot) = self.table.lookup(handle) else {
            return Ok(false);
        };
        self.audit.record(&Event {
            kind: Kind::Revoke,
            capability: Some(slot.grant.power().kind().name()),
            slot: Some(slot.grant.slot()),
            op: None,
            detail: &[("handle", Value::Bits(handle))],
        })?;
        Ok(self.take(handle))
    }

    /// Leaves a slot with this, or with nothing, or has it wait, from now on; whoever decided that has recorded it. What had been opened and would not be any more is
    /// closed. A grant of another slot changes nothing, and what was taken back stays so.
    pub fn leave(&mut self, slot: &str, left: Option<&Grant>) {
        let handle = self.table.iter().find(|(_, held)| held.grant.slot() == slot);
        let Some(handle) = handle.map(|(handle, _)| handle) else {
            return;
        };
        let Some(left) = left.filter(|left| left.slot() == slot) else {
            self.take(handle);
            return;
        };
        if let Ok(held) = self.table.lookup_mut(handle) {
            if let (Held::Files(files), Power::Files { .. }) = (&mut held.held, left.power()) {
                match (left.delegated(), left.waits()) {
                    (None, _) => files.narrow(left.power()),
                    (Some(_), None) => files.lend(left.power()),
                    (Some(_), Some(_)) => files.close_all(),
                }
            }
            held.grant = left.clone();
        }
    }

    /// A vsock port whose grant was taken back, once for each: whoever carries its connections is to end them.
    pub fn next_severed(&mut self) -> Option<(PortUse, u32)> {
        self.severed.pop()
    }

    /// Drops a grant with everything that was opened for it, and whatever was under way by it; its handle is stale.
    pub(super) fn take(&mut self, handle: u64) -> bool {
        let Ok(taken) = self.table.revoke(handle) else {
            return false;
        };
        match taken.grant.power() {
            // What a signal kept from being written is this grant's: a cell does one thing at a time.
            Power::Console { .. } => self.console.abandon(),
            Power::Attest | Power::State { .. } => {
                if let Some(line) = &mut self.tpm {
                    line.abandon(taken.grant.slot());
                }
            }
            Power::VsockListen { port, .. } => self.severed.push((PortUse::Accept, *port)),
            Power::VsockConnect { port, .. } => self.severed.push((PortUse::Connect, *port)),
            _ => {}
        }
        self.taken.insert(handle, taken.grant);
        true
    }
}

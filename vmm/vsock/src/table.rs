//! The connections of one cell: slots with generations, found by id or by ports.

use std::collections::HashMap;

use crate::connection::{Connection, State};
use crate::error::VsockError;
use crate::limits::VsockLimits;

/// Names a connection. The id of a connection that is gone is stale: every call with it does nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnId {
    slot: u32,
    generation: u32,
}

/// Ports of a connection; context ids are always the cell's and the host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ports {
    pub(crate) guest: u32,
    pub(crate) host: u32,
}

#[derive(Debug, Clone)]
struct Slot {
    generation: u32,
    /// Whether the slot stands in the list of those with packets to send.
    listed_to_send: bool,
    /// Whether the slot stands in the list of those with events to take.
    listed_to_tell: bool,
    connection: Connection,
}

/// Which list of slots is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listed {
    ToSend,
    ToTell,
}

/// All connections of a cell. At most `max_connections` slots ever exist, each with its buffers.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    limits: VsockLimits,
    slots: Vec<Slot>,
    free: Vec<u32>,
    by_ports: HashMap<Ports, u32>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new(limits: VsockLimits) -> Table {
        Table {
            limits,
            slots: Vec::new(),
            free: Vec::new(),
            by_ports: HashMap::new(),
        }
    }

    /// Becomes what `other` is; all ids that it had then are good again, and no others. Storage is kept.
    pub(crate) fn go_back_to(&mut self, other: &Table) {
        self.slots.truncate(other.slots.len());
        for (slot, other) in self.slots.iter_mut().zip(&other.slots) {
            slot.generation = other.generation;
            slot.listed_to_send = other.listed_to_send;
            slot.listed_to_tell = other.listed_to_tell;
            slot.connection.go_back_to(&other.connection);
        }
        let missing = other.slots.get(self.slots.len()..).unwrap_or_default();
        self.slots.extend_from_slice(missing);
        self.limits = other.limits;
        self.free.clone_from(&other.free);
        self.by_ports.clone_from(&other.by_ports);
    }

    /// Connections that exist, in all states.
    pub(crate) fn count(&self) -> u32 {
        let used = self.slots.len().saturating_sub(self.free.len());
        u32::try_from(used).unwrap_or(u32::MAX)
    }

    /// Numbers of all slots.
    pub(crate) fn slot_numbers(&self) -> std::ops::Range<u32> {
        0..u32::try_from(self.slots.len()).unwrap_or(u32::MAX)
    }

    /// Begins a connection between two ports that have none yet.
    pub(crate) fn begin(&mut self, state: State, ports: Ports) -> Result<u32, VsockError> {
        let connections = self.count();
        if connections >= self.limits.max_connections {
            return Err(VsockError::TooManyConnections { connections });
        }
        let needed = u64::from(self.limits.receive_buffer).saturating_add(u64::from(self.limits.send_buffer));
        let reserved = needed.saturating_mul(u64::from(connections));
        if reserved.saturating_add(needed) > self.limits.total_buffered {
            return Err(VsockError::BufferedBytes {
                needed,
                reserved,
                most: self.limits.total_buffered,
            });
        }
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.slots.push(Slot {
                    generation: 0,
                    listed_to_send: false,
                    listed_to_tell: false,
                    connection: Connection::new(&self.limits),
                });
                connections // no slot is free, so all that exist are used: the next number is their count
            }
        };
        if let Some(slot) = self.slot_mut(number) {
            slot.connection.begin(state, ports.guest, ports.host);
        }
        self.by_ports.insert(ports, number);
        Ok(number)
    }

    /// The slot of the connection on the wire between two ports.
    pub(crate) fn find(&self, ports: Ports) -> Option<u32> {
        self.by_ports.get(&ports).copied()
    }

    /// Makes the ports of a connection free for another; the slot stays.
    pub(crate) fn release_ports(&mut self, number: u32) {
        let Some(connection) = self.get(number) else {
            return;
        };
        let ports = Ports {
            guest: connection.guest_port,
            host: connection.host_port,
        };
        if self.find(ports) == Some(number) {
            self.by_ports.remove(&ports);
        }
    }

    /// Frees a slot; its id is stale from now on.
    pub(crate) fn free(&mut self, number: u32) {
        self.release_ports(number);
        let Some(slot) = self.slot_mut(number) else { return };
        if slot.connection.state == State::Free {
            return;
        }
        slot.generation = slot.generation.wrapping_add(1);
        slot.connection.clear();
        self.free.push(number);
    }

    /// Frees every slot; all ids are stale from now on.
    pub(crate) fn clear(&mut self) {
        for number in self.slot_numbers() {
            self.free(number);
            for list in [Listed::ToSend, Listed::ToTell] {
                self.unlist(number, list);
            }
        }
    }

    /// The connection in a slot.
    pub(crate) fn get(&self, number: u32) -> Option<&Connection> {
        self.slot(number).map(|slot| &slot.connection)
    }

    /// The connection in a slot.
    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Connection> {
        self.slot_mut(number).map(|slot| &mut slot.connection)
    }

    /// The slot that an id names, unless the id is stale or the host has closed the connection.
    pub(crate) fn resolve(&self, id: ConnId) -> Option<u32> {
        let slot = self.slot(id.slot)?;
        let live = slot.generation == id.generation
            && slot.connection.state != State::Free
            && !slot.connection.detached;
        live.then_some(id.slot)
    }

    /// The id of the connection in a slot.
    pub(crate) fn id(&self, number: u32) -> Option<ConnId> {
        let generation = self.slot(number)?.generation;
        Some(ConnId {
            slot: number,
            generation,
        })
    }

    /// Notes that a slot stands in a list; whether it did not before.
    pub(crate) fn list(&mut self, number: u32, list: Listed) -> bool {
        self.flag(number, list)
            .is_some_and(|flag| !std::mem::replace(flag, true))
    }

    /// Notes that a slot stands in a list no more.
    pub(crate) fn unlist(&mut self, number: u32, list: Listed) {
        if let Some(flag) = self.flag(number, list) {
            *flag = false;
        }
    }

    fn flag(&mut self, number: u32, list: Listed) -> Option<&mut bool> {
        let slot = self.slot_mut(number)?;
        Some(match list {
            Listed::ToSend => &mut slot.listed_to_send,
            Listed::ToTell => &mut slot.listed_to_tell,
        })
    }

    fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(usize::try_from(number).ok()?)
    }

    fn slot_mut(&mut self, number: u32) -> Option<&mut Slot> {
        self.slots.get_mut(usize::try_from(number).ok()?)
    }
}

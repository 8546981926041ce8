//! The host's side of connections: what a program does with a socket, without blocking.
//!
//! Every call with a stale id does nothing and says 0, none or empty. Effects reach the guest with the next
//! `drain`.

use crate::connection::{Directions, State};
use crate::device::{FIRST_HOST_PORT, Vsock};
use crate::error::VsockError;
use crate::event::Event;
use crate::packet::Op;
use crate::table::{ConnId, Listed, Ports};

impl Vsock {
    /// Takes the next event, or none until something happens.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(&number) = self.to_tell.front() {
            if let Some(event) = self.take_event(number) {
                self.settle(number);
                return Some(event);
            }
            self.to_tell.pop_front();
            self.table.unlist(number, Listed::ToTell);
        }
        None
    }

    fn take_event(&mut self, number: u32) -> Option<Event> {
        let conn = self.table.id(number)?;
        let connection = self.table.get_mut(number)?;
        let events = &mut connection.events;
        if std::mem::take(&mut events.request) {
            return Some(Event::Request {
                conn,
                host_port: connection.host_port,
                guest_port: connection.guest_port,
            });
        }
        if std::mem::take(&mut events.connected) {
            return Some(Event::Connected { conn });
        }
        if std::mem::take(&mut events.readable) {
            return Some(Event::Readable { conn });
        }
        if std::mem::take(&mut events.writable) {
            return Some(Event::Writable { conn });
        }
        if std::mem::take(&mut events.peer_shutdown) {
            return Some(Event::PeerShutdown {
                conn,
                shut: connection.peer_shut,
            });
        }
        let reason = events.closed.take()?;
        Some(Event::Closed { conn, reason })
    }

    /// Accepts a connection that the guest asked for.
    pub fn accept(&mut self, conn: ConnId) {
        let Some(number) = self.table.resolve(conn) else {
            return;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        if connection.state == State::Requested {
            connection.state = State::Established;
            connection.greeting = Some(Op::Response);
            self.schedule(number);
        }
    }

    /// Refuses a connection that the guest asked for; the id is stale.
    pub fn refuse(&mut self, conn: ConnId) {
        self.abort(conn);
    }

    /// Asks the guest for a connection to its port, from a port of the host that is not in use. `Connected`
    /// or `Closed` tells the answer.
    ///
    /// # Errors
    /// [`VsockError::NotRunning`] before the driver is up, [`VsockError::TooManyConnections`] or
    /// [`VsockError::BufferedBytes`] when a limit is reached.
    pub fn connect(&mut self, guest_port: u32) -> Result<ConnId, VsockError> {
        if !self.registers.running() {
            return Err(VsockError::NotRunning {
                status: self.registers.status(),
            });
        }
        let host_port = self.choose_host_port(guest_port);
        let ports = Ports {
            guest: guest_port,
            host: host_port,
        };
        let connections = self.table.count();
        let number = self.table.begin(State::Connecting, ports)?;
        if let Some(connection) = self.table.get_mut(number) {
            connection.greeting = Some(Op::Request);
        }
        self.schedule(number);
        self.table
            .id(number)
            .ok_or(VsockError::TooManyConnections { connections })
    }

    /// Bytes that can be read now.
    pub fn readable(&self, conn: ConnId) -> usize {
        self.table
            .resolve(conn)
            .and_then(|number| self.table.get(number))
            .map_or(0, |connection| connection.received.len())
    }

    /// Reads received bytes into `out`; returns how many.
    pub fn read(&mut self, conn: ConnId, out: &mut [u8]) -> usize {
        let Some(number) = self.table.resolve(conn) else {
            return 0;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return 0;
        };
        let count = connection.received.read(out);
        self.forwarded(number, count);
        count
    }

    /// Received bytes in place: the longest run at the front, not always all of them. [`Vsock::consume`]
    /// takes them out.
    pub fn peek(&self, conn: ConnId) -> &[u8] {
        self.table
            .resolve(conn)
            .and_then(|number| self.table.get(number))
            .map_or(&[], |connection| connection.received.runs().0)
    }

    /// Takes `count` received bytes out; returns how many there were to take.
    pub fn consume(&mut self, conn: ConnId, count: usize) -> usize {
        let Some(number) = self.table.resolve(conn) else {
            return 0;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return 0;
        };
        let count = connection.received.consume(count);
        self.forwarded(number, count);
        count
    }

    fn forwarded(&mut self, number: u32, count: usize) {
        if count == 0 {
            return;
        }
        if let Some(connection) = self.table.get_mut(number) {
            connection.forward(count);
        }
        self.schedule(number);
        self.settle(number);
    }

    /// Bytes that a `write` would take now.
    pub fn writable(&self, conn: ConnId) -> usize {
        self.table
            .resolve(conn)
            .and_then(|number| self.table.get(number))
            .filter(|connection| connection.takes_writes())
            .map_or(0, |connection| connection.unsent.room())
    }

    /// Buffers bytes for the guest; returns how many were taken. When that is fewer than offered on a
    /// connection that takes bytes at all, `Writable` comes once there is room again.
    pub fn write(&mut self, conn: ConnId, bytes: &[u8]) -> usize {
        let Some(number) = self.table.resolve(conn) else {
            return 0;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return 0;
        };
        if !connection.takes_writes() {
            return 0;
        }
        let count = connection.unsent.write(bytes);
        connection.wants_room = count < bytes.len();
        self.schedule(number);
        count
    }

    /// Tells the guest that the host will not send, or not receive, any more. Bytes written before still go
    /// out; bytes received before can still be read.
    pub fn shutdown(&mut self, conn: ConnId, directions: Directions) {
        let Some(number) = self.table.resolve(conn) else {
            return;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        if connection.state == State::Established {
            connection.shut = connection.shut.with(directions);
            self.schedule(number);
        }
    }

    /// Closes a connection in good order; the id is stale at once. Bytes written before still go out, unread
    /// ones are dropped. Until the guest confirms, the connection counts against the limits.
    pub fn close(&mut self, conn: ConnId) {
        let Some(number) = self.table.resolve(conn) else {
            return;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        if connection.state != State::Established {
            self.abort(conn);
            return;
        }
        let unread = connection.received.len();
        connection.received.clear();
        connection.forward(unread);
        connection.shut = Directions::BOTH;
        connection.detached = true;
        connection.wants_room = false;
        connection.events = Default::default();
        self.schedule(number);
    }

    /// Ends a connection now with a reset; the id is stale. Nothing that was buffered is kept.
    pub fn abort(&mut self, conn: ConnId) {
        let Some(number) = self.table.resolve(conn) else {
            return;
        };
        let Some(connection) = self.table.get_mut(number) else {
            return;
        };
        let unheard = connection.state == State::Connecting && connection.greeting.is_some();
        let on_wire = connection.on_wire();
        connection.detached = true;
        connection.events = Default::default();
        connection.received.clear();
        connection.leave_wire();
        if on_wire && !unheard {
            connection.state = State::Resetting;
            self.schedule(number);
        } else {
            self.table.release_ports(number);
            self.settle(number);
        }
    }

    /// The guest's and the host's port of a connection.
    pub fn ports(&self, conn: ConnId) -> Option<(u32, u32)> {
        let connection = self.table.get(self.table.resolve(conn)?)?;
        Some((connection.guest_port, connection.host_port))
    }

    /// A port that has no connection to `guest_port`. There are fewer connections than ports, so the search
    /// ends after one step more than there are connections.
    fn choose_host_port(&mut self, guest_port: u32) -> u32 {
        loop {
            let host = self.next_host_port;
            self.next_host_port = host.checked_add(1).unwrap_or(FIRST_HOST_PORT);
            let ports = Ports {
                guest: guest_port,
                host,
            };
            if self.table.find(ports).is_none() {
                return host;
            }
        }
    }
}

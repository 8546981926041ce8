//! Connections over the device: connect, listen, accept, read, write, shut down.
//!
//! Calls whose names begin with `try_` never wait. The others poll and, when nothing has come, let the [`Bell`] wait.
//! Packets are handled in the order in which they arrive; while answers to them find no free transmit buffer, no
//! further packet is taken, so nothing here grows without bound.

use alloc::collections::{BTreeMap, VecDeque};

use muscle_abi::channel::{FIRST_MUSCLE_PORT, HOST_CID, LANE_FRAME_MAX};

use super::buffers::{Buffers, Received};
use super::connection::{Connection, ConnectionId, State};
use super::packet::{Header, Operation, SHUTDOWN_RECEIVE, SHUTDOWN_SEND, TYPE_STREAM};
use crate::window::Window;

/// How the driver waits for the host.
pub trait Bell {
    /// Waits until the host has used a buffer, or for no reason.
    fn park(&mut self);
    /// As [`Bell::park`], and the muscle has nothing to do but to wait for a call.
    fn park_for_call(&mut self) {
        self.park();
    }
    /// Lets the host look at the queues.
    fn yield_now(&mut self);
}

/// Why something on a connection did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VsockError {
    /// The other side refused the connection.
    Refused,
    /// The other side ended the connection.
    Reset,
    /// The direction was shut down.
    ShutDown,
    /// There is no such connection, or it is closed.
    NotConnected,
    /// The port is listened on already; carries it.
    PortInUse(u32),
    /// The port is below [`FIRST_MUSCLE_PORT`], one of the VMM's; carries it.
    PortReserved(u32),
    /// Nobody listens on this port here; carries it.
    NotListening(u32),
}

impl core::fmt::Display for VsockError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            VsockError::Refused => write!(f, "connection refused"),
            VsockError::Reset => write!(f, "connection reset"),
            VsockError::ShutDown => write!(f, "connection shut down"),
            VsockError::NotConnected => write!(f, "not connected"),
            VsockError::PortInUse(port) => write!(f, "port {port} is in use"),
            VsockError::PortReserved(port) => {
                write!(
                    f,
                    "port {port} is reserved, the first free one is {FIRST_MUSCLE_PORT}"
                )
            }
            VsockError::NotListening(port) => write!(f, "nobody listens on port {port}"),
        }
    }
}

impl core::error::Error for VsockError {}

/// The driver, its connections and its listeners.
#[derive(Debug)]
pub struct Driver<B> {
    pub(super) bell: B,
    cid: u64,
    buffers: Buffers,
    connections: BTreeMap<ConnectionId, Connection>,
    /// Connections that nobody has accepted yet, by port.
    listeners: BTreeMap<u32, VecDeque<ConnectionId>>,
    /// Packets without bytes that wait for a transmit buffer.
    outgoing: VecDeque<Header>,
    next_port: u32,
}

impl<B: Bell> Driver<B> {
    /// Starts the driver of a device that is at `DRIVER_OK`.
    pub(crate) fn new(window: Window, cid: u64, bell: B) -> Driver<B> {
        Driver {
            bell,
            cid,
            buffers: Buffers::new(window),
            connections: BTreeMap::new(),
            listeners: BTreeMap::new(),
            outgoing: VecDeque::new(),
            next_port: FIRST_EPHEMERAL_PORT,
        }
    }

    /// Handles what has arrived; whether there was anything.
    pub fn poll(&mut self) -> bool {
        let mut any = self.buffers.reclaim();
        self.flush();
        while self.outgoing.len() < OUTGOING_MAX {
            let Some(packet) = self.buffers.receive() else {
                break;
            };
            any = true;
            self.handle(&packet);
            self.buffers.give_back(&packet);
            self.flush();
        }
        any
    }

    /// Waits until the host has used a buffer, or for no reason.
    pub fn park(&mut self) {
        if !self.buffers.poll() {
            self.bell.park();
        }
    }

    /// As [`Driver::park`], for a muscle that has nothing to do but to wait for a call; one in the lane is waited for, too.
    pub fn park_for_call(&mut self) {
        if !self.buffers.poll_for_call() {
            self.bell.park_for_call();
        }
    }

    /// Tells the host that it may make calls by the lane: from now on the muscle waits for calls with [`Driver::park_for_call`], and looks for one
    /// with [`Driver::take_from_lane`] whenever that has come back.
    pub fn announce_lane(&mut self) {
        self.buffers.announce_lane();
    }

    /// Copies the frame of a call that waits in the lane; its length.
    pub fn take_from_lane(&mut self, frame: &mut [u8; LANE_FRAME_MAX]) -> Option<usize> {
        self.buffers.take_from_lane(frame)
    }

    /// Answers the call that was taken from the lane last with the frame that `parts` are together. False, and nothing has happened, when it
    /// finds no room there.
    pub fn answer_by_lane(&mut self, parts: &[&[u8]]) -> bool {
        self.buffers.answer_by_lane(parts)
    }

    /// Handles what has arrived, and parks if that is nothing.
    pub fn wait(&mut self) {
        if !self.poll() {
            self.park();
            self.poll();
        }
    }

    /// Connects to a port of the host and waits for its answer.
    ///
    /// # Errors
    /// [`VsockError::Refused`].
    pub fn connect(&mut self, port: u32) -> Result<ConnectionId, VsockError> {
        let id = self.start_connect(port);
        while self.state(id) == Some(State::Connecting) {
            self.wait();
        }
        if self.state(id) == Some(State::Reset) {
            self.connections.remove(&id);
            return Err(VsockError::Refused);
        }
        Ok(id)
    }

    /// Accepts connections on a port from now on.
    ///
    /// # Errors
    /// [`VsockError::PortReserved`], [`VsockError::PortInUse`].
    pub fn listen(&mut self, port: u32) -> Result<(), VsockError> {
        if port < FIRST_MUSCLE_PORT {
            return Err(VsockError::PortReserved(port));
        }
        if self.listeners.contains_key(&port) {
            return Err(VsockError::PortInUse(port));
        }
        self.listeners.insert(port, VecDeque::new());
        Ok(())
    }

    /// Stops listening; connections that nobody accepted are closed.
    pub fn stop_listening(&mut self, port: u32) {
        for id in self.listeners.remove(&port).into_iter().flatten() {
            self.close(id);
        }
    }

    /// The next connection to a port, if one has come.
    ///
    /// # Errors
    /// [`VsockError::NotListening`].
    pub fn try_accept(&mut self, port: u32) -> Result<Option<ConnectionId>, VsockError> {
        self.poll();
        let backlog = self
            .listeners
            .get_mut(&port)
            .ok_or(VsockError::NotListening(port))?;
        Ok(backlog.pop_front())
    }

    /// The next connection to a port; waits for it.
    ///
    /// # Errors
    /// [`VsockError::NotListening`].
    pub fn accept(&mut self, port: u32) -> Result<ConnectionId, VsockError> {
        loop {
            if let Some(id) = self.try_accept(port)? {
                return Ok(id);
            }
            self.park();
        }
    }

    /// Reads what has arrived: `None` when that is nothing yet, 0 when nothing more will come.
    ///
    /// # Errors
    /// [`VsockError::NotConnected`]; [`VsockError::Reset`] when the other side ended the connection without saying
    /// that it had finished.
    pub fn try_read(&mut self, id: ConnectionId, to: &mut [u8]) -> Result<Option<usize>, VsockError> {
        self.poll();
        let connection = self.connections.get_mut(&id).ok_or(VsockError::NotConnected)?;
        let count = connection.take(to);
        if count > 0 || to.is_empty() {
            if connection.owes_credit() && connection.state == State::Open {
                self.send_control(id, Operation::CreditUpdate, 0);
            }
            return Ok(Some(count));
        }
        match connection.state {
            State::Connecting | State::Closing => Err(VsockError::NotConnected),
            _ if connection.peer_ended => Ok(Some(0)),
            State::Reset => Err(VsockError::Reset),
            State::Open | State::Finished => Ok(None),
        }
    }

    /// Reads what has arrived, waiting for at least one byte; 0 when nothing more will come.
    ///
    /// # Errors
    /// As [`Driver::try_read`].
    pub fn read(&mut self, id: ConnectionId, to: &mut [u8]) -> Result<usize, VsockError> {
        loop {
            if let Some(count) = self.try_read(id, to)? {
                return Ok(count);
            }
            self.park();
        }
    }

    /// Sends as much of `parts`, after their first `skip` bytes, as the other side and the transmit buffers take now.
    ///
    /// # Errors
    /// [`VsockError::NotConnected`], [`VsockError::Reset`], [`VsockError::ShutDown`].
    pub fn try_write(&mut self, id: ConnectionId, parts: &[&[u8]], skip: usize) -> Result<usize, VsockError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut at = skip;
        while at < total {
            self.flush();
            let connection = self.connections.get_mut(&id).ok_or(VsockError::NotConnected)?;
            match connection.state {
                State::Open => {}
                State::Reset | State::Finished => return Err(VsockError::Reset),
                State::Connecting | State::Closing => return Err(VsockError::NotConnected),
            }
            if connection.ended || connection.peer_deaf {
                return Err(VsockError::ShutDown);
            }
            let credit = connection.credit();
            if credit == 0 {
                if !connection.asked {
                    connection.asked = true;
                    self.send_control(id, Operation::CreditRequest, 0);
                }
                break;
            }
            let room = if self.outgoing.is_empty() {
                self.buffers.room(credit.min(total - at))
            } else {
                None
            };
            let Some(length) = room else { break };
            let mut header = self.header(id, Operation::ReadWrite, 0);
            // A packet is no longer than a buffer of the window.
            header.length = u32::try_from(length).unwrap_or(0);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.count_sent(header.length);
            }
            self.buffers.send(header, parts, at);
            at += length;
        }
        Ok(at - skip.min(at))
    }

    /// Sends all of `parts`, one after the other, waiting for credit and buffers.
    ///
    /// # Errors
    /// As [`Driver::try_write`].
    pub fn write(&mut self, id: ConnectionId, parts: &[&[u8]]) -> Result<(), VsockError> {
        let total: usize = parts.iter().map(|part| part.len()).sum();
        let mut at = 0;
        let mut yielded = false;
        loop {
            let sent = self.try_write(id, parts, at)?;
            at += sent;
            if at >= total {
                return Ok(());
            }
            if self.poll() {
                yielded = false;
            } else if yielded {
                self.park();
            } else {
                // Usually the host only has to look at the ring to make room.
                self.bell.yield_now();
                yielded = true;
            }
        }
    }

    /// Ends one or both directions.
    ///
    /// # Errors
    /// [`VsockError::NotConnected`].
    pub fn shutdown(&mut self, id: ConnectionId, receive: bool, send: bool) -> Result<(), VsockError> {
        let connection = self.connections.get_mut(&id).ok_or(VsockError::NotConnected)?;
        if connection.state != State::Open {
            return Err(VsockError::NotConnected);
        }
        connection.ended |= send;
        connection.peer_ended |= receive;
        let flags = if receive { SHUTDOWN_RECEIVE } else { 0 } | if send { SHUTDOWN_SEND } else { 0 };
        self.send_control(id, Operation::Shutdown, flags);
        Ok(())
    }

    /// Ends a connection and forgets it.
    pub fn close(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        match connection.state {
            State::Open => {
                connection.state = State::Closing;
                connection.forget();
                self.send_control(id, Operation::Shutdown, SHUTDOWN_RECEIVE | SHUTDOWN_SEND);
            }
            State::Connecting => {
                self.connections.remove(&id);
                self.send_reset(id);
            }
            State::Finished | State::Reset => {
                self.connections.remove(&id);
            }
            State::Closing => {}
        }
    }

    fn state(&self, id: ConnectionId) -> Option<State> {
        self.connections.get(&id).map(|connection| connection.state)
    }

    fn start_connect(&mut self, port: u32) -> ConnectionId {
        let id = loop {
            let id = ConnectionId {
                local_port: self.next_port,
                peer_cid: HOST_CID,
                peer_port: port,
            };
            // u32::MAX is VMADDR_PORT_ANY
            self.next_port = match self.next_port.checked_add(1) {
                Some(next) if next < u32::MAX => next,
                _ => FIRST_EPHEMERAL_PORT,
            };
            if !self.connections.contains_key(&id) {
                break id;
            }
        };
        self.connections.insert(id, Connection::new(State::Connecting));
        self.send_control(id, Operation::Request, 0);
        id
    }

    fn handle(&mut self, packet: &Received) {
        let header = packet.header;
        if header.destination_cid != self.cid {
            return;
        }
        let id = ConnectionId {
            local_port: header.destination_port,
            peer_cid: header.source_cid,
            peer_port: header.source_port,
        };
        let operation = match Operation::from_number(header.operation) {
            Some(operation) if header.kind == TYPE_STREAM => operation,
            _ => return self.refuse(id),
        };
        if operation == Operation::Request {
            return self.handle_request(id, &header);
        }
        let Some(connection) = self.connections.get_mut(&id) else {
            if operation != Operation::Reset {
                self.send_reset(id);
            }
            return;
        };
        connection.learn(&header);
        match (operation, connection.state) {
            (Operation::Reset, State::Closing) => {
                self.connections.remove(&id);
            }
            (Operation::Reset, State::Finished) => {}
            (Operation::Reset, _) => connection.state = State::Reset,
            (Operation::Response, State::Connecting) => connection.state = State::Open,
            (Operation::ReadWrite, State::Open) => {
                if connection.may_receive(header.length) {
                    self.buffers.append_payload(packet, connection.inbox());
                } else {
                    self.refuse(id);
                }
            }
            (Operation::Shutdown, State::Open) => {
                connection.peer_ended |= header.flags & SHUTDOWN_SEND != 0;
                connection.peer_deaf |= header.flags & SHUTDOWN_RECEIVE != 0;
                if connection.peer_ended && connection.peer_deaf {
                    // virtio 1.2 §5.10.6.6: the reset is the acknowledgement
                    connection.state = State::Finished;
                    self.send_reset(id);
                }
            }
            (Operation::CreditRequest, State::Open) => self.send_control(id, Operation::CreditUpdate, 0),
            (Operation::CreditUpdate, State::Open) => {}
            // Whatever was on its way when we closed.
            (Operation::ReadWrite | Operation::CreditRequest | Operation::CreditUpdate, State::Closing) => {}
            (Operation::Shutdown, State::Closing) => {
                self.connections.remove(&id);
                self.send_reset(id);
            }
            (Operation::Request, _) => {}
            (
                Operation::Response
                | Operation::Shutdown
                | Operation::ReadWrite
                | Operation::CreditUpdate
                | Operation::CreditRequest,
                State::Connecting | State::Open | State::Closing | State::Finished | State::Reset,
            ) => self.refuse(id),
        }
    }

    fn handle_request(&mut self, id: ConnectionId, header: &Header) {
        let backlog = self.listeners.get_mut(&id.local_port);
        match backlog {
            Some(backlog) if backlog.len() < BACKLOG_MAX && !self.connections.contains_key(&id) => {
                backlog.push_back(id);
                let mut connection = Connection::new(State::Open);
                connection.learn(header);
                self.connections.insert(id, connection);
                self.send_control(id, Operation::Response, 0);
            }
            _ => self.refuse(id),
        }
    }

    /// Answers a packet that does not fit with a reset, and ends the connection if there is one.
    fn refuse(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(&id) {
            if connection.state == State::Closing {
                self.connections.remove(&id);
            } else {
                connection.state = State::Reset;
            }
        }
        self.send_reset(id);
    }

    fn send_reset(&mut self, id: ConnectionId) {
        self.send_control(id, Operation::Reset, 0);
    }

    fn send_control(&mut self, id: ConnectionId, operation: Operation, flags: u32) {
        let header = self.header(id, operation, flags);
        self.outgoing.push_back(header);
        self.flush();
    }

    /// Sends the waiting packets for which there are buffers.
    fn flush(&mut self) {
        while let Some(header) = self.outgoing.front() {
            let header = *header;
            let sent = self.buffers.send(header, &[], 0)
                || (self.buffers.reclaim() && self.buffers.send(header, &[], 0));
            if !sent {
                break;
            }
            self.outgoing.pop_front();
        }
    }

    fn header(&mut self, id: ConnectionId, operation: Operation, flags: u32) -> Header {
        let mut header = Header {
            source_cid: self.cid,
            destination_cid: id.peer_cid,
            source_port: id.local_port,
            destination_port: id.peer_port,
            kind: TYPE_STREAM,
            operation: operation as u16,
            flags,
            ..Header::default()
        };
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.tell(&mut header);
        }
        header
    }
}

/// The first port from which the muscle connects.
const FIRST_EPHEMERAL_PORT: u32 = 0x4000_0000;
/// Most connections of a listener that wait to be accepted.
const BACKLOG_MAX: usize = 128;
/// Most packets that wait for a transmit buffer before no more are taken from the device.
const OUTGOING_MAX: usize = 64;

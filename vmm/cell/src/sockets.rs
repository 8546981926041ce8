//! The cell's side of outside sockets: bytes between a Unix socket and a connection of the muscle.
//!
//! Nothing is buffered here. A socket is read only as far as the muscle's credit takes it, and a
//! connection only as far as the socket takes it, so each side's back-pressure reaches the other.

use std::collections::HashMap;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use referee_hv::{RemoteKick, VcpuThread};
use referee_vsock::{ConnId, Directions, Vsock};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

use crate::doorman::{Door, Doorman, FIRST_ARRIVAL, Guest, Notice, Order};
use crate::error::CellError;
use crate::host::Severed;

/// Why waiting ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// Something arrived; run the cell.
    Arrival,
    /// The time is over.
    Time,
    /// Somebody wants the cell to end.
    Stop,
}

/// All outside sockets of one cell, and the line to the doorman.
#[derive(Debug)]
pub struct Sockets {
    notices: Receiver<Notice>,
    orders: Sender<Order>,
    /// Wakes the doorman; none when there is no doorman.
    bell: Option<Arc<OwnedFd>>,
    kick: Arc<OnceLock<RemoteKick>>,
    doors: usize,
    links: HashMap<ConnId, Link>,
    by_token: HashMap<u32, ConnId>,
    /// A notice that ended a wait and has not been dealt with yet.
    arrived: Option<Notice>,
    next_token: u32,
    stopped: bool,
}

/// One outside program's connection.
#[derive(Debug)]
struct Link {
    token: u32,
    /// By which grant it is there.
    by: Severed,
    guest: Option<Guest>,
    /// Text that the outside program gets before anything else.
    greeting: Option<String>,
    open: bool,
    may_read: bool,
    may_write: bool,
    read_over: bool,
    write_over: bool,
    peer_done_sending: bool,
}

const CHUNK: usize = 64 << 10;

impl Sockets {
    /// Makes both sides: the cell's, and the doorman for the other thread.
    ///
    /// # Errors
    /// [`CellError::Io`] when no eventfd is to be had.
    pub fn new(doors: Vec<Door>, stop: Option<OwnedFd>) -> Result<(Sockets, Doorman), CellError> {
        let io = |what| move |source| CellError::Io { what, source };
        let bell = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)
            .map_err(|errno| io("eventfd")(errno.into()))?;
        let bell = Arc::new(bell);
        for door in &doors {
            door.listener
                .set_nonblocking(true)
                .map_err(io("set a listener non-blocking"))?;
        }
        let (notice_sender, notices) = mpsc::channel();
        let (orders, order_receiver) = mpsc::channel();
        let kick = Arc::new(OnceLock::new());
        let sockets = Sockets {
            notices,
            orders,
            bell: Some(Arc::clone(&bell)),
            kick: Arc::clone(&kick),
            doors: doors.len(),
            links: HashMap::new(),
            by_token: HashMap::new(),
            arrived: None,
            next_token: 0,
            stopped: false,
        };
        let doorman = Doorman::new(doors, stop, order_receiver, bell, notice_sender, kick);
        Ok((sockets, doorman))
    }

    /// For a cell that has no outside sockets: there is no doorman, and nothing to wait for.
    pub fn none() -> Sockets {
        Sockets {
            notices: mpsc::channel().1,
            orders: mpsc::channel().0,
            bell: None,
            kick: Arc::default(),
            doors: 0,
            links: HashMap::new(),
            by_token: HashMap::new(),
            arrived: None,
            next_token: 0,
            stopped: false,
        }
    }

    /// Says which thread runs the cell, so that the doorman can stop it.
    pub fn run_on(&self, thread: &VcpuThread) {
        let _ = self.kick.set(thread.remote());
    }

    /// Tells the doorman that the cell is over.
    pub fn finish(&self) {
        self.order(Order::Finish);
    }

    /// Whether an outside program could wake the muscle.
    pub fn any(&self) -> bool {
        self.doors > 0 || !self.links.is_empty()
    }

    /// Whether somebody wants the cell to end.
    pub fn is_stopped(&mut self) -> bool {
        self.stopped
    }

    /// Waits until something arrives or `until`; what arrived is dealt with when the cell runs next.
    pub fn wait(&mut self, until: Option<Instant>) -> Wake {
        if self.stopped {
            return Wake::Stop;
        }
        let timeout = until.map_or(Duration::from_secs(3600), |at| {
            at.saturating_duration_since(Instant::now())
        });
        match self.notices.recv_timeout(timeout) {
            Ok(Notice::Stop) | Err(RecvTimeoutError::Disconnected) => {
                self.stopped = true;
                Wake::Stop
            }
            Ok(notice) => {
                self.arrived = Some(notice);
                Wake::Arrival
            }
            Err(RecvTimeoutError::Timeout) => Wake::Time,
        }
    }

    /// The next notice, without waiting.
    pub(crate) fn next_notice(&mut self) -> Option<Notice> {
        let notice = self.arrived.take().or_else(|| self.notices.try_recv().ok())?;
        self.stopped |= matches!(notice, Notice::Stop);
        Some(notice)
    }

    /// Connects an outside program that arrived with a port of the muscle, where that is `granted`.
    pub(crate) fn arrive(&mut self, vsock: &mut Vsock, token: u32, port: u32, guest: Guest, granted: bool) {
        let Some(connection) = granted.then(|| vsock.connect(port).ok()).flatten() else {
            self.order(Order::Forget { token, guest });
            return;
        };
        let host_port = vsock.ports(connection).map_or(0, |(_, host)| host);
        let greeting = Some(format!("OK {host_port}\n"));
        self.add(
            connection,
            Link {
                greeting,
                ..Link::new(token, Severed::Inward(port), Some(guest))
            },
        );
    }

    /// Has the doorman open an outside program's socket for a connection that the muscle asks for.
    pub(crate) fn open(&mut self, connection: ConnId, host_port: u32, path: PathBuf) {
        let token = self.next_token;
        self.next_token = self.next_token.wrapping_add(1) % FIRST_ARRIVAL;
        self.add(connection, Link::new(token, Severed::Outward(host_port), None));
        self.order(Order::Open { token, path });
    }

    /// Takes the doorman's answer to [`Sockets::open`].
    pub(crate) fn opened(&mut self, vsock: &mut Vsock, token: u32, guest: Option<Guest>) {
        let Some(&connection) = self.by_token.get(&token) else {
            if let Some(guest) = guest {
                self.order(Order::Forget { token, guest });
            }
            return;
        };
        match (guest, self.links.get_mut(&connection)) {
            (Some(guest), Some(link)) => {
                link.guest = Some(guest);
                link.open = true;
                vsock.accept(connection);
            }
            _ => {
                vsock.refuse(connection);
                self.drop_link(connection);
            }
        }
    }

    /// Notes that a socket may be read or written again.
    pub(crate) fn ready(&mut self, token: u32) {
        let Some(link) = self
            .by_token
            .get(&token)
            .and_then(|connection| self.links.get_mut(connection))
        else {
            return;
        };
        if let Some(guest) = &link.guest {
            guest.noticed.store(false, Ordering::Release);
        }
        link.may_read = true;
        link.may_write = true;
    }

    /// Whether a connection leads outside.
    pub(crate) fn has(&self, connection: ConnId) -> bool {
        self.links.contains_key(&connection)
    }

    /// Notes that the muscle took a connection.
    pub(crate) fn connected(&mut self, connection: ConnId) {
        if let Some(link) = self.links.get_mut(&connection) {
            link.open = true;
        }
    }

    /// Notes what the muscle will not do any more.
    pub(crate) fn peer_shut(&mut self, connection: ConnId, shut: Directions) {
        let Some(link) = self.links.get_mut(&connection) else {
            return;
        };
        link.peer_done_sending |= shut.send;
        if shut.receive {
            link.read_over = true;
            if let Some(guest) = &link.guest {
                order(
                    &self.orders,
                    self.bell.as_deref(),
                    Order::Shut {
                        stream: Arc::clone(&guest.stream),
                        how: Shutdown::Read,
                    },
                );
            }
        }
    }

    /// Notes that a connection is over on the muscle's side; bytes it sent before still go out, as the outside
    /// program takes them.
    pub(crate) fn closed(&mut self, vsock: &mut Vsock, connection: ConnId) {
        match self.links.get_mut(&connection) {
            Some(link) if link.open => {
                link.read_over = true;
                link.peer_done_sending = true;
            }
            _ => {
                vsock.close(connection);
                self.drop_link(connection);
            }
        }
    }

    /// Resets every connection that came of a grant which was taken back; nothing of it goes on, on either side.
    pub(crate) fn sever(&mut self, vsock: &mut Vsock, port: Severed) {
        let of_port = |(connection, link): (&ConnId, &Link)| (link.by == port).then_some(*connection);
        let connections: Vec<ConnId> = self.links.iter().filter_map(of_port).collect();
        for connection in connections {
            vsock.abort(connection);
            self.drop_link(connection);
        }
    }

    /// Moves bytes both ways for every connection; true when anything moved.
    pub(crate) fn service(&mut self, vsock: &mut Vsock) -> bool {
        let connections: Vec<ConnId> = self.links.keys().copied().collect();
        let mut moved = false;
        for connection in connections {
            moved |= self.outward(vsock, connection);
            moved |= self.inward(vsock, connection);
            let over = self
                .links
                .get(&connection)
                .is_some_and(|link| link.read_over && link.write_over);
            if over {
                vsock.close(connection);
                self.drop_link(connection);
                moved = true;
            }
        }
        moved
    }

    /// From the muscle to the outside program.
    fn outward(&mut self, vsock: &mut Vsock, connection: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.open) else {
            return false;
        };
        let Some(guest) = &link.guest else { return false };
        let mut moved = false;
        if let Some(greeting) = link.greeting.take() {
            // A fresh socket's buffer takes a line this short at once.
            moved |= rustix::io::write(&*guest.stream, greeting.as_bytes()).is_ok();
        }
        while link.may_write && !link.write_over {
            let bytes = vsock.peek(connection);
            if bytes.is_empty() {
                if link.peer_done_sending {
                    let stream = Arc::clone(&guest.stream);
                    order(
                        &self.orders,
                        self.bell.as_deref(),
                        Order::Shut {
                            stream,
                            how: Shutdown::Write,
                        },
                    );
                    link.write_over = true;
                    moved = true;
                }
                break;
            }
            match rustix::io::write(&*guest.stream, bytes) {
                Ok(written) => {
                    vsock.consume(connection, written);
                    moved = true;
                }
                Err(Errno::WOULDBLOCK) => link.may_write = false,
                Err(Errno::INTR) => {}
                Err(_) => {
                    vsock.shutdown(connection, Directions::RECEIVE);
                    link.write_over = true;
                    moved = true;
                }
            }
        }
        moved
    }

    /// From the outside program to the muscle.
    fn inward(&mut self, vsock: &mut Vsock, connection: ConnId) -> bool {
        let Some(link) = self.links.get_mut(&connection).filter(|link| link.open) else {
            return false;
        };
        let Some(guest) = &link.guest else { return false };
        if !link.may_read || link.read_over || vsock.writable(connection) == 0 {
            return false;
        }
        let mut moved = false;
        let mut buffer = [0u8; CHUNK];
        while link.may_read && !link.read_over {
            let room = vsock.writable(connection).min(CHUNK);
            let Some(target) = buffer.get_mut(..room).filter(|target| !target.is_empty()) else {
                break;
            };
            match rustix::io::read(&*guest.stream, target) {
                Ok(0) => {
                    vsock.shutdown(connection, Directions::SEND);
                    link.read_over = true;
                    moved = true;
                }
                Ok(read) => {
                    let taken = buffer
                        .get(..read)
                        .map_or(0, |bytes| vsock.write(connection, bytes));
                    debug_assert_eq!(taken, read, "never more was read than there was room");
                    moved = true;
                }
                Err(Errno::WOULDBLOCK) => link.may_read = false,
                Err(Errno::INTR) => {}
                Err(_) => {
                    vsock.shutdown(connection, Directions::SEND);
                    link.read_over = true;
                    moved = true;
                }
            }
        }
        moved
    }

    fn add(&mut self, connection: ConnId, link: Link) {
        self.by_token.insert(link.token, connection);
        self.links.insert(connection, link);
    }

    fn drop_link(&mut self, connection: ConnId) {
        let Some(link) = self.links.remove(&connection) else {
            return;
        };
        self.by_token.remove(&link.token);
        if let Some(guest) = link.guest {
            self.order(Order::Forget {
                token: link.token,
                guest,
            });
        }
    }

    fn order(&self, what: Order) {
        order(&self.orders, self.bell.as_deref(), what);
    }
}

fn order(orders: &Sender<Order>, bell: Option<&OwnedFd>, what: Order) {
    // The doorman lives as long as the process; if it is gone, nothing is left to order.
    let _ = orders.send(what);
    if let Some(bell) = bell {
        let _ = rustix::io::write(bell, &1u64.to_ne_bytes());
    }
}

impl Link {
    fn new(token: u32, by: Severed, guest: Option<Guest>) -> Link {
        Link {
            token,
            by,
            guest,
            greeting: None,
            open: false,
            may_read: true,
            may_write: true,
            read_over: false,
            write_over: false,
            peer_done_sending: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicBool;

    use referee_vsock::{Cid, VsockLimits};
    use vm_memory::GuestAddress;

    use super::*;

    /// An outside program's end, and the cell's.
    fn program() -> (UnixStream, Guest) {
        let (outside, inside) = UnixStream::pair().expect("a pair");
        inside.set_nonblocking(true).expect("is set");
        outside.set_nonblocking(true).expect("is set");
        let guest = Guest {
            stream: Arc::new(inside),
            noticed: Arc::new(AtomicBool::new(false)),
        };
        (outside, guest)
    }

    fn is_closed(outside: &mut UnixStream) -> bool {
        matches!(outside.read(&mut [0]), Ok(0))
    }

    #[test]
    fn a_severed_port_loses_its_connections_and_no_other_does() {
        let mut vsock = Vsock::new(Cid::FIRST_GUEST, VsockLimits::default());
        vsock.prepare(GuestAddress(0)).expect("is ready");
        // Orders go to nobody, who closes what is given back at once.
        let mut sockets = Sockets::none();
        let mut outside: Vec<UnixStream> = Vec::new();
        for (token, port) in [(1, 2000), (2, 2000), (3, 2001)] {
            let (end, guest) = program();
            outside.push(end);
            sockets.arrive(&mut vsock, FIRST_ARRIVAL + token, port, guest, true);
        }
        sockets.sever(&mut vsock, Severed::Outward(2000));
        assert_eq!(
            (vsock.connections(), sockets.links.len()),
            (3, 3),
            "another grant's"
        );
        sockets.sever(&mut vsock, Severed::Inward(2000));
        let closed: Vec<bool> = outside.iter_mut().map(is_closed).collect();
        assert_eq!(closed, [true, true, false]);
        assert_eq!((sockets.links.len(), sockets.by_token.len()), (1, 1));
        sockets.sever(&mut vsock, Severed::Inward(2001));
        assert!(!sockets.any());
    }
}

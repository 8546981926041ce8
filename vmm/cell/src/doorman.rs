//! The thread at the door: outside programs come and go here, and stop signals arrive here.
//!
//! It owns the listening Unix sockets, reads the `CONNECT <port>` line of Firecracker's convention, opens
//! connections that a muscle asks for, and watches every socket for readiness. It never moves a muscle's bytes: the cell's
//! thread does that, told by a [`Notice`]. Notices about one socket are never more than one deep.
//!
//! ```text
//!   outside program ──► listener ──CONNECT──► Notice::Arrived ──►┐
//!   edge on a socket ──► Notice::Ready (once until taken) ───────►├─► cell's thread, kicked if it runs
//!   SIGTERM, SIGINT ──► Notice::Stop ────────────────────────────►┘
//!   cell's thread ──► Order + eventfd ──► open, forget, finish
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};

use event_manager::{EventManager, EventOps, EventSet, Events, MutEventSubscriber, SubscriberOps};
use referee_hv::RemoteKick;

use crate::error::CellError;

/// A socket that both threads know: the doorman watches it, the cell's thread reads and writes it.
#[derive(Debug)]
pub struct Guest {
    /// The socket, non-blocking.
    pub stream: Arc<UnixStream>,
    /// Set while a [`Notice::Ready`] about it has not been taken.
    pub noticed: Arc<AtomicBool>,
}

/// What the doorman tells the cell's thread.
#[derive(Debug)]
pub enum Notice {
    /// An outside program asks for a port of the muscle.
    Arrived {
        /// Number of the socket.
        token: u32,
        /// The port it asked for.
        port: u32,
        /// The socket.
        guest: Guest,
    },
    /// A connection that the muscle asked for is open.
    Opened {
        /// The number given in the order.
        token: u32,
        /// The socket.
        guest: Guest,
    },
    /// A connection that the muscle asked for could not be opened.
    Refused {
        /// The number given in the order.
        token: u32,
    },
    /// A socket may be read or written again.
    Ready {
        /// Number of the socket.
        token: u32,
    },
    /// Somebody wants the cell to end.
    Stop,
}

/// What the cell's thread orders.
#[derive(Debug)]
pub enum Order {
    /// Connect to an outside program.
    Open {
        /// Number to answer with.
        token: u32,
        /// Its socket.
        path: PathBuf,
    },
    /// Shut a direction of a socket, which the cell's thread may not.
    Shut {
        /// The socket.
        stream: Arc<UnixStream>,
        /// Which direction.
        how: Shutdown,
    },
    /// Stop watching a socket, and close it.
    Forget {
        /// Number of the socket.
        token: u32,
        /// The socket.
        guest: Guest,
    },
    /// The cell is over; stop.
    Finish,
}

/// A listening socket that outside programs may use to reach one port of the muscle.
#[derive(Debug)]
pub struct Door {
    /// The socket.
    pub listener: UnixListener,
    /// The muscle's port.
    pub port: u32,
}

/// The thread's state.
pub struct Doorman {
    doors: Vec<Door>,
    stop: Option<OwnedFd>,
    orders: Receiver<Order>,
    bell: Arc<OwnedFd>,
    notices: Sender<Notice>,
    kick: Arc<OnceLock<RemoteKick>>,
    entering: HashMap<u32, Entering>,
    watched: HashMap<u32, Arc<AtomicBool>>,
    next_token: u32,
    finished: bool,
}

/// An outside program that has not said its port yet.
struct Entering {
    stream: UnixStream,
    line: Vec<u8>,
    port: u32,
}

/// Outside programs at the door at once; when one more comes, the oldest is turned away.
const ENTERING_MAX: usize = 64;
/// Longest `CONNECT <port>` line, its newline included.
const LINE_MAX: usize = 32;
const BELL: u32 = u32::MAX;
const STOP: u32 = u32::MAX - 1;
/// Numbers from here on are doors.
const FIRST_DOOR: u32 = 1 << 31;
/// Numbers below are the cell's own, for connections that the muscle asks for.
pub(crate) const FIRST_ARRIVAL: u32 = 1 << 30;

impl Doorman {
    /// A doorman for these doors. `stop` becomes readable when the cell is to end.
    pub(crate) fn new(
        doors: Vec<Door>,
        stop: Option<OwnedFd>,
        orders: Receiver<Order>,
        bell: Arc<OwnedFd>,
        notices: Sender<Notice>,
        kick: Arc<OnceLock<RemoteKick>>,
    ) -> Doorman {
        Doorman {
            doors,
            stop,
            orders,
            bell,
            notices,
            kick,
            entering: HashMap::new(),
            watched: HashMap::new(),
            next_token: FIRST_ARRIVAL,
            finished: false,
        }
    }

    /// Descriptors that must stay open when everything else is closed; the bell is the cell's too.
    pub fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let doors = self.doors.iter().map(|door| door.listener.as_fd());
        doors
            .chain(self.stop.iter().map(AsFd::as_fd))
            .chain([self.bell.as_fd()])
            .collect()
    }

    /// Works until the cell is over.
    ///
    /// # Errors
    /// [`CellError::Io`] when epoll fails.
    pub fn work(self) -> Result<(), CellError> {
        let failed = |what| {
            move |error| match error {
                event_manager::Error::Epoll(errno) => CellError::Io {
                    what,
                    source: io::Error::from_raw_os_error(errno.errno()),
                },
                _ => CellError::Io {
                    what,
                    source: io::ErrorKind::Other.into(),
                },
            }
        };
        let mut manager: EventManager<Doorman> = EventManager::new().map_err(failed("epoll_create"))?;
        let id = manager.add_subscriber(self);
        loop {
            match manager.run() {
                Ok(_) => {}
                Err(event_manager::Error::Epoll(errno))
                    if io::Error::from_raw_os_error(errno.errno()).kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed("epoll_wait")(error)),
            }
            if manager.subscriber_mut(id).is_ok_and(|doorman| doorman.finished) {
                return Ok(());
            }
        }
    }

    fn tell(&self, notice: Notice) {
        // The receiver lives as long as the cell; after that nobody wants to know.
        let _ = self.notices.send(notice);
        if let Some(kick) = self.kick.get() {
            kick.kick();
        }
    }

    fn obey(&mut self, ops: &mut EventOps<'_>) {
        let _ = rustix::io::read(&*self.bell, &mut [0u8; 8]);
        while let Ok(order) = self.orders.try_recv() {
            match order {
                Order::Open { token, path } => match open(&path) {
                    Ok(stream) => {
                        self.admit(token, stream, ops, |token, guest| Notice::Opened { token, guest })
                    }
                    Err(_) => self.tell(Notice::Refused { token }),
                },
                Order::Forget { token, guest } => {
                    let _ = ops.remove(Events::with_data(&*guest.stream, token, EDGES));
                    self.watched.remove(&token);
                }
                Order::Shut { stream, how } => {
                    let _ = stream.shutdown(how);
                }
                Order::Finish => self.finished = true,
            }
        }
    }

    fn open_door(&mut self, index: usize, ops: &mut EventOps<'_>) {
        loop {
            let Some(door) = self.doors.get(index) else { return };
            let port = door.port;
            let Ok((stream, _)) = door.listener.accept() else {
                return;
            };
            if stream.set_nonblocking(true).is_err() {
                continue;
            }
            if self.entering.len() >= ENTERING_MAX {
                self.turn_away(ops);
            }
            let token = self.choose_token();
            if ops.add(Events::with_data(&stream, token, EventSet::IN)).is_err() {
                continue;
            }
            self.entering.insert(
                token,
                Entering {
                    stream,
                    line: Vec::new(),
                    port,
                },
            );
        }
    }

    /// Closes the program that has stood at the door longest without a word, so that silent ones
    /// cannot keep others out.
    fn turn_away(&mut self, ops: &mut EventOps<'_>) {
        let Some(oldest) = self
            .entering
            .keys()
            .min_by_key(|token| self.age(**token))
            .copied()
        else {
            return;
        };
        if let Some(entering) = self.entering.remove(&oldest) {
            let _ = ops.remove(Events::with_data(&entering.stream, oldest, EventSet::IN));
        }
    }

    /// Smaller for programs that came earlier; numbers are used in a circle.
    fn age(&self, token: u32) -> u32 {
        token.wrapping_sub(self.next_token) & (FIRST_ARRIVAL - 1)
    }

    fn choose_token(&mut self) -> u32 {
        loop {
            let token = self.next_token;
            self.next_token = FIRST_ARRIVAL | (self.next_token.wrapping_add(1) & (FIRST_ARRIVAL - 1));
            if !self.entering.contains_key(&token) && !self.watched.contains_key(&token) {
                return token;
            }
        }
    }

    /// Reads the `CONNECT` line byte by byte: what follows it belongs to the muscle.
    fn greet(&mut self, token: u32, ops: &mut EventOps<'_>) {
        let Some(entering) = self.entering.get_mut(&token) else {
            return;
        };
        let granted = loop {
            let mut byte = [0u8];
            match entering.stream.read(&mut byte) {
                Ok(1) if byte == *b"\n" => break parse_connect(&entering.line) == Some(entering.port),
                Ok(1) if entering.line.len() < LINE_MAX => entering.line.push(byte[0]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break false,
            }
        };
        let Some(Entering { mut stream, port, .. }) = self.entering.remove(&token) else {
            return;
        };
        let _ = ops.remove(Events::with_data(&stream, token, EventSet::IN));
        if granted {
            self.admit(token, stream, ops, |token, guest| Notice::Arrived {
                token,
                port,
                guest,
            });
        } else {
            let _ = stream.write(format!("ERROR this door leads to port {port} only\n").as_bytes());
        }
    }

    fn admit(
        &mut self,
        token: u32,
        stream: UnixStream,
        ops: &mut EventOps<'_>,
        notice: impl FnOnce(u32, Guest) -> Notice,
    ) {
        let noticed = Arc::new(AtomicBool::new(false));
        if ops.add(Events::with_data(&stream, token, EDGES)).is_err() {
            self.tell(Notice::Refused { token });
            return;
        }
        self.watched.insert(token, Arc::clone(&noticed));
        self.tell(notice(
            token,
            Guest {
                stream: Arc::new(stream),
                noticed,
            },
        ));
    }
}

const EDGES: EventSet = EventSet::IN
    .union(EventSet::OUT)
    .union(EventSet::READ_HANG_UP)
    .union(EventSet::EDGE_TRIGGERED);

impl MutEventSubscriber for Doorman {
    fn process(&mut self, events: Events, ops: &mut EventOps<'_>) {
        match events.data() {
            BELL => self.obey(ops),
            STOP => {
                if let Some(stop) = self.stop.take() {
                    let _ = ops.remove(Events::with_data(&stop, STOP, EventSet::IN));
                }
                self.tell(Notice::Stop);
            }
            door if door >= FIRST_DOOR => {
                self.open_door(usize::try_from(door - FIRST_DOOR).unwrap_or(usize::MAX), ops);
            }
            token => {
                if let Some(noticed) = self.watched.get(&token) {
                    if !noticed.swap(true, Ordering::AcqRel) {
                        self.tell(Notice::Ready { token });
                    }
                } else {
                    self.greet(token, ops);
                }
            }
        }
    }

    fn init(&mut self, ops: &mut EventOps<'_>) {
        let _ = ops.add(Events::with_data(&*self.bell, BELL, EventSet::IN));
        if let Some(stop) = &self.stop {
            let _ = ops.add(Events::with_data(stop, STOP, EventSet::IN));
        }
        for (index, door) in self.doors.iter().enumerate() {
            if let Ok(index) = u32::try_from(index) {
                let _ = ops.add(Events::with_data(
                    &door.listener,
                    FIRST_DOOR + index,
                    EventSet::IN,
                ));
            }
        }
    }
}

impl std::fmt::Debug for Doorman {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Doorman")
            .field("doors", &self.doors)
            .finish_non_exhaustive()
    }
}

fn open(path: &std::path::Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// The port of a line `CONNECT <port>`.
fn parse_connect(line: &[u8]) -> Option<u32> {
    let text = std::str::from_utf8(line).ok()?;
    let digits = text.strip_suffix('\r').unwrap_or(text).strip_prefix("CONNECT ")?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_digit())
        .then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connect_line_has_one_form() {
        assert_eq!(parse_connect(b"CONNECT 1024"), Some(1024));
        assert_eq!(parse_connect(b"CONNECT 1024\r"), Some(1024));
        for bad in [
            &b"CONNECT"[..],
            b"CONNECT ",
            b"connect 5",
            b"CONNECT +5",
            b"CONNECT 5 ",
            b"CONNECT 99999999999",
            b"\xff",
        ] {
            assert_eq!(parse_connect(bad), None, "{bad:?}");
        }
    }
}

//! Random traffic between a guest that keeps the rules, a guest that now and then breaks one, and a host.
//!
//! The model holds what each side said and heard. Whatever the order of steps: bytes come in order, none twice,
//! none lost but by a reset or a shutdown that loses them; credit is kept; nothing grows beyond its bound; and
//! once both sides have been served, all is quiet and every connection is open on both sides or on none.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::driver::{CID, Driver, LIMITS, drain, packet, start_without_buffers};
use crate::connection::State;
use crate::packet::{Header, Op};
use crate::{CloseReason, ConnId, Directions, Event, Vsock};

/// What the guest buffers for a connection.
const GUEST_BUFFER: u32 = 3000;
/// The guest accepts connections to ports below this one and refuses others.
const LISTENING: u32 = 3;
/// First port that the guest connects from.
const FIRST_PORT: u32 = 1000;
const HOST_PORT: u32 = 1;

/// `(guest port, host port)`; no pair is used twice, so it also names the stream.
type Ports = (u32, u32);

#[derive(Debug, Clone)]
enum Step {
    GuestRequest,
    GuestSend { pick: usize, count: usize },
    GuestOverrun { pick: usize },
    GuestTake { pick: usize, tell: bool },
    GuestShutdown { pick: usize, flags: u32 },
    GuestReset { pick: usize },
    GuestNonsense { kind: u16, op: u16, len: u8 },
    GuestPost { count: usize },
    GuestReceive { count: usize },
    HostEvents { accept: bool },
    HostConnect { port: u32 },
    HostRead { pick: usize, count: usize },
    HostWrite { pick: usize, count: usize },
    HostShutdown { pick: usize, shut: Directions },
    HostClose { pick: usize },
    HostAbort { pick: usize },
    Drain,
}

fn step() -> impl Strategy<Value = Step> {
    let pick = 0..16usize;
    let shut = prop_oneof![
        Just(Directions::SEND),
        Just(Directions::RECEIVE),
        Just(Directions::BOTH)
    ];
    prop_oneof![
        3 => Just(Step::GuestRequest),
        8 => (pick.clone(), 0..3000usize).prop_map(|(pick, count)| Step::GuestSend { pick, count }),
        1 => pick.clone().prop_map(|pick| Step::GuestOverrun { pick }),
        6 => (pick.clone(), any::<bool>()).prop_map(|(pick, tell)| Step::GuestTake { pick, tell }),
        1 => (pick.clone(), 0..4u32).prop_map(|(pick, flags)| Step::GuestShutdown { pick, flags }),
        1 => pick.clone().prop_map(|pick| Step::GuestReset { pick }),
        1 => (any::<u16>(), 0..9u16, any::<u8>()).prop_map(|(kind, op, len)| Step::GuestNonsense { kind, op, len }),
        5 => (1..8usize).prop_map(|count| Step::GuestPost { count }),
        6 => (1..8usize).prop_map(|count| Step::GuestReceive { count }),
        6 => prop::bool::weighted(0.9).prop_map(|accept| Step::HostEvents { accept }),
        2 => (0..LISTENING + 1).prop_map(|port| Step::HostConnect { port }),
        8 => (pick.clone(), 0..5000usize).prop_map(|(pick, count)| Step::HostRead { pick, count }),
        8 => (pick.clone(), 0..5000usize).prop_map(|(pick, count)| Step::HostWrite { pick, count }),
        1 => (pick.clone(), shut).prop_map(|(pick, shut)| Step::HostShutdown { pick, shut }),
        1 => pick.clone().prop_map(|pick| Step::HostClose { pick }),
        1 => pick.prop_map(|pick| Step::HostAbort { pick }),
        10 => Just(Step::Drain),
    ]
}

/// The guest's end of a connection.
#[derive(Debug, Default)]
struct GuestEnd {
    open: bool,
    /// It sent a reset, or got one, or never was.
    over: bool,
    shut: Directions,
    host_shut: Directions,
    sent: u32,
    host_capacity: u32,
    host_forwarded: u32,
    received: u32,
    taken: u32,
    /// `taken` as the host last heard it.
    told: u32,
    /// It broke a rule.
    hostile: bool,
}

/// The host's end of a connection.
#[derive(Debug)]
struct HostEnd {
    conn: ConnId,
    connected: bool,
    closed: Option<CloseReason>,
    /// The host gave up the id.
    left: bool,
    aborted: bool,
    shut: Directions,
    read: u32,
    written: u32,
}

struct World {
    vsock: Vsock,
    driver: Driver,
    guest: BTreeMap<Ports, GuestEnd>,
    host: BTreeMap<Ports, HostEnd>,
    next_port: u32,
}

/// The byte at a place of the stream between two ports, in one direction.
fn byte_at(ports: Ports, from_guest: bool, place: u32) -> u8 {
    let mixed = place
        .wrapping_mul(2_654_435_761)
        .wrapping_add(ports.0.wrapping_mul(97))
        .wrapping_add(ports.1.wrapping_mul(31))
        .wrapping_add(u32::from(from_guest));
    mixed.to_le_bytes()[2] ^ mixed.to_le_bytes()[0]
}

fn bytes(ports: Ports, from_guest: bool, place: u32, count: usize) -> Vec<u8> {
    let count = u32::try_from(count).expect("small");
    (0..count)
        .map(|offset| byte_at(ports, from_guest, place + offset))
        .collect()
}

fn established(vsock: &Vsock, conn: ConnId) -> bool {
    let connection = vsock
        .table
        .resolve(conn)
        .and_then(|number| vsock.table.get(number));
    connection.is_some_and(|connection| connection.state == State::Established)
}

fn small(count: usize) -> u32 {
    u32::try_from(count).expect("small")
}

impl World {
    fn new() -> World {
        let (vsock, driver) = start_without_buffers(LIMITS);
        World {
            vsock,
            driver,
            guest: BTreeMap::new(),
            host: BTreeMap::new(),
            next_port: FIRST_PORT,
        }
    }

    fn nth_guest(&self, pick: usize) -> Option<Ports> {
        let open: Vec<Ports> = self
            .guest
            .iter()
            .filter(|(_, end)| end.open && !end.over)
            .map(|(ports, _)| *ports)
            .collect();
        open.get(pick % open.len().max(1)).copied()
    }

    fn nth_host(&self, pick: usize) -> Option<Ports> {
        let known: Vec<Ports> = self
            .host
            .iter()
            .filter(|(_, end)| !end.left)
            .map(|(ports, _)| *ports)
            .collect();
        known.get(pick % known.len().max(1)).copied()
    }

    fn header(&self, ports: Ports, op: Op) -> Header {
        let taken = self.guest.get(&ports).map_or(0, |end| end.taken);
        Header {
            buf_alloc: GUEST_BUFFER,
            fwd_cnt: taken,
            ..packet(op, ports.0, ports.1)
        }
    }

    /// Sends a packet without payload; whether there was a buffer for it.
    fn guest_says(&mut self, ports: Ports, op: Op) -> bool {
        self.driver.send(self.header(ports, op), &[])
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::GuestRequest => {
                let ports = (self.next_port, HOST_PORT);
                if self.guest_says(ports, Op::Request) {
                    self.next_port += 1;
                    self.guest.insert(ports, GuestEnd::default());
                }
            }
            Step::GuestSend { pick, count } => self.guest_sends(pick, count),
            Step::GuestOverrun { pick } => {
                let Some(ports) = self.nth_guest(pick) else { return };
                let count = LIMITS.receive_buffer + 1;
                let header = Header {
                    len: count,
                    ..self.header(ports, Op::ReadWrite)
                };
                if self.driver.send(header, &vec![0; count as usize]) {
                    self.guest.get_mut(&ports).expect("known").hostile = true;
                }
            }
            Step::GuestTake { pick, tell } => {
                let Some(ports) = self.nth_guest(pick) else { return };
                let end = self.guest.get_mut(&ports).expect("known");
                end.taken = end.received;
                let taken = end.taken;
                if tell && taken != end.told && self.guest_says(ports, Op::CreditUpdate) {
                    self.guest.get_mut(&ports).expect("known").told = taken;
                }
            }
            Step::GuestShutdown { pick, flags } => {
                let Some(ports) = self.nth_guest(pick) else { return };
                let header = Header {
                    flags,
                    ..self.header(ports, Op::Shutdown)
                };
                if self.driver.send(header, &[]) {
                    let end = self.guest.get_mut(&ports).expect("known");
                    end.shut = end.shut.with(Directions::from_flags(flags));
                }
            }
            Step::GuestReset { pick } => {
                let Some(ports) = self.nth_guest(pick) else { return };
                if self.guest_says(ports, Op::Reset) {
                    self.guest.get_mut(&ports).expect("known").over = true;
                }
            }
            Step::GuestNonsense { kind, op, len } => {
                let header = Header {
                    kind,
                    op,
                    len: u32::from(len),
                    ..packet(Op::Request, 9_000_000, 9)
                };
                // A request for real would be one more connection; all else is answered or dropped.
                if (kind, op) != (1, Op::Request.number()) {
                    self.driver.send(header, &vec![0xee; usize::from(len)]);
                }
            }
            Step::GuestPost { count } => {
                for _ in 0..count {
                    self.driver.post_one();
                }
            }
            Step::GuestReceive { count } => {
                for _ in 0..count {
                    self.guest_receives();
                }
            }
            Step::HostEvents { accept } => while self.host_event(accept) {},
            Step::HostConnect { port } => {
                if let Ok(conn) = self.vsock.connect(port) {
                    let ports = self.vsock.ports(conn).expect("just begun");
                    self.host.insert(ports, HostEnd::new(conn));
                }
            }
            Step::HostRead { pick, count } => self.host_reads(pick, count),
            Step::HostWrite { pick, count } => {
                let Some(ports) = self.nth_host(pick) else { return };
                let end = self.host.get_mut(&ports).expect("known");
                let room = self.vsock.writable(end.conn);
                let taken = self
                    .vsock
                    .write(end.conn, &bytes(ports, false, end.written, count));
                assert_eq!(taken, room.min(count), "writable() tells what write() takes");
                end.written += small(taken);
            }
            Step::HostShutdown { pick, shut } => {
                let Some(ports) = self.nth_host(pick) else { return };
                let end = self.host.get_mut(&ports).expect("known");
                // The device may be ahead of the events that the host has taken.
                let established = established(&self.vsock, end.conn);
                self.vsock.shutdown(end.conn, shut);
                if established {
                    end.shut = end.shut.with(shut);
                }
            }
            Step::HostClose { pick } => self.host_leaves(pick, false),
            Step::HostAbort { pick } => self.host_leaves(pick, true),
            Step::Drain => {
                drain(&mut self.vsock, &self.driver).expect("no fault");
            }
        }
        self.check_bounds();
    }

    fn guest_sends(&mut self, pick: usize, count: usize) {
        let Some(ports) = self.nth_guest(pick) else { return };
        let end = &self.guest[&ports];
        let credit = end
            .host_capacity
            .saturating_sub(end.sent.wrapping_sub(end.host_forwarded));
        let count = count.min(credit as usize);
        if end.shut.send || end.hostile {
            return;
        }
        let header = Header {
            len: small(count),
            ..self.header(ports, Op::ReadWrite)
        };
        if self.driver.send(header, &bytes(ports, true, end.sent, count)) {
            self.guest.get_mut(&ports).expect("known").sent += small(count);
        }
    }

    /// Takes a packet as a driver that keeps the rules does; whether there was one.
    fn guest_receives(&mut self) -> bool {
        let Some((header, payload)) = self.driver.receive() else {
            return false;
        };
        assert_eq!(header.dst_cid, CID);
        let ports = (header.dst_port, header.src_port);
        let op = Op::from_number(header.op).expect("the device sends known operations");
        if ports == (9_000_000, 9) {
            assert_eq!(op, Op::Reset);
            return true;
        }
        if op == Op::Request {
            assert!(!self.guest.contains_key(&ports));
            let accepted = ports.0 < LISTENING;
            let said = self.guest_says(ports, if accepted { Op::Response } else { Op::Reset });
            let end = GuestEnd {
                open: accepted && said,
                over: !accepted || !said,
                host_capacity: header.buf_alloc,
                ..GuestEnd::default()
            };
            self.guest.insert(ports, end);
            return true;
        }
        let end = self
            .guest
            .get_mut(&ports)
            .expect("a connection that the guest knows");
        if end.over {
            return true; // was under way when the guest ended it
        }
        if op != Op::Reset {
            end.host_capacity = header.buf_alloc;
            end.host_forwarded = header.fwd_cnt;
        }
        match op {
            Op::Response => {
                assert!(!end.open, "accepted once");
                end.open = true;
            }
            Op::Reset => end.over = true,
            Op::ReadWrite => {
                assert!(end.open && !end.host_shut.send);
                assert_eq!(
                    payload,
                    bytes(ports, false, end.received, payload.len()),
                    "in order, none twice"
                );
                end.received += small(payload.len());
                let held = end.received - end.taken;
                assert!(held <= GUEST_BUFFER, "the device sent {held} of {GUEST_BUFFER}");
            }
            Op::Shutdown => {
                end.host_shut = end.host_shut.with(Directions::from_flags(header.flags));
                if end.host_shut == Directions::BOTH {
                    end.over = true;
                    // Without a buffer for it the reset would have to wait; so that the model stays small,
                    // make one free first.
                    while !self.guest_says(ports, Op::Reset) {
                        drain(&mut self.vsock, &self.driver).expect("no fault");
                        self.driver.post_all();
                    }
                }
            }
            Op::CreditUpdate => {}
            Op::CreditRequest => {
                self.guest_says(ports, Op::CreditUpdate);
            }
            Op::Request => unreachable!("handled above"),
        }
        true
    }

    fn host_event(&mut self, accept: bool) -> bool {
        let Some(event) = self.vsock.next_event() else {
            return false;
        };
        match event {
            Event::Request {
                conn,
                host_port,
                guest_port,
            } => {
                let mut end = HostEnd::new(conn);
                if accept {
                    self.vsock.accept(conn);
                    end.connected = true;
                } else {
                    self.vsock.refuse(conn);
                    end.left = true;
                    end.aborted = true;
                }
                assert!(self.host.insert((guest_port, host_port), end).is_none());
            }
            Event::Connected { conn } => self.end_of(conn).connected = true,
            Event::Closed { conn, reason } => {
                let end = self.end_of(conn);
                assert_eq!(end.closed.replace(reason), None, "told once");
            }
            Event::Readable { conn } | Event::Writable { conn } | Event::PeerShutdown { conn, .. } => {
                assert_eq!(self.end_of(conn).closed, None, "nothing after the end");
            }
        }
        true
    }

    fn end_of(&mut self, conn: ConnId) -> &mut HostEnd {
        let end = self
            .host
            .values_mut()
            .find(|end| end.conn == conn)
            .expect("known");
        assert!(!end.left, "no events of what the host gave up");
        end
    }

    fn host_reads(&mut self, pick: usize, count: usize) {
        let Some(ports) = self.nth_host(pick) else { return };
        let end = self.host.get_mut(&ports).expect("known");
        let mut out = vec![0; count];
        let waiting = self.vsock.readable(end.conn);
        let read = self.vsock.read(end.conn, &mut out);
        assert_eq!(read, waiting.min(count));
        assert_eq!(
            out[..read],
            bytes(ports, true, end.read, read),
            "in order, none twice"
        );
        end.read += small(read);
    }

    fn host_leaves(&mut self, pick: usize, abort: bool) {
        let Some(ports) = self.nth_host(pick) else { return };
        let end = self.host.get_mut(&ports).expect("known");
        end.left = true;
        // Closing what is not connected is an abort.
        end.aborted = abort || !established(&self.vsock, end.conn);
        if abort {
            self.vsock.abort(end.conn);
        } else {
            self.vsock.close(end.conn);
        }
        assert_eq!(
            (self.vsock.readable(end.conn), self.vsock.writable(end.conn)),
            (0, 0)
        );
    }

    fn check_bounds(&self) {
        let most = usize::try_from(LIMITS.max_connections).expect("small");
        assert!(self.vsock.connections() <= LIMITS.max_connections);
        assert!(self.vsock.resets.len() <= 64);
        assert!(self.vsock.to_send.len() <= most && self.vsock.to_tell.len() <= most);
    }

    /// Serves both sides until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            self.driver.post_all();
            let mut moved = drain(&mut self.vsock, &self.driver).expect("no fault").any();
            let drained = self.driver.available;
            while self.guest_receives() {
                moved = true;
            }
            for pick in 0..self.guest.len() {
                self.take(Step::GuestTake { pick, tell: true });
            }
            moved |= self.host_event(true);
            while self.host_event(true) {}
            for pick in 0..self.host.len() {
                self.host_reads(pick, 10_000);
            }
            moved |= self.driver.available != drained || self.vsock.has_pending();
            if !moved {
                return;
            }
        }
        panic!("the two sides talk without end");
    }

    fn check_end(&self) {
        assert!(!self.vsock.has_pending());
        let mut open = 0;
        for (ports, host) in &self.host {
            let Some(guest) = self.guest.get(ports) else {
                assert!(
                    host.left,
                    "{ports:?}: the guest heard of it unless the host gave it up"
                );
                continue;
            };
            let alive = host.connected && !host.left && host.closed.is_none();
            assert_eq!(alive, guest.open && !guest.over, "{ports:?}: {host:?} {guest:?}");
            open += u32::from(alive);
            assert!(host.read <= guest.sent && guest.received <= host.written);
            let guest_hears_all = !guest.shut.receive && !guest.hostile && !host.aborted;
            if guest_hears_all && (alive || host.left && guest.host_shut == Directions::BOTH) {
                assert_eq!(guest.received, host.written, "{ports:?}: {host:?} {guest:?}");
            }
            if !host.left && !host.shut.receive {
                assert_eq!(host.read, guest.sent, "{ports:?}: {host:?} {guest:?}");
            }
            if !guest.hostile {
                let blamed = [Some(CloseReason::CreditOverrun), Some(CloseReason::ProtocolError)];
                assert!(!blamed.contains(&host.closed), "{ports:?}: {host:?} {guest:?}");
            }
        }
        assert_eq!(self.vsock.connections(), open, "what is over is gone");
    }
}

impl HostEnd {
    fn new(conn: ConnId) -> HostEnd {
        HostEnd {
            conn,
            connected: false,
            closed: None,
            left: false,
            aborted: false,
            shut: Directions::default(),
            read: 0,
            written: 0,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn random_traffic_keeps_the_promises_of_a_stream(steps in prop::collection::vec(step(), 1..300)) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.settle();
        world.check_end();
    }
}

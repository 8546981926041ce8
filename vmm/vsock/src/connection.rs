//! One stream connection: its state on the wire, its two buffers, and what it still has to tell the guest.
//!
//! ```text
//!              guest REQUEST            host connect()
//!                    │                        │
//!                    ▼                        ▼
//!               Requested                Connecting
//!                    │ accept()               │ RESPONSE
//!                    └───────► Established ◄──┘
//!                                  │
//!        refuse(), abort(),        │ RST from the guest (from any state)
//!        broken rule, guest's      │
//!        SHUTDOWN of both          │
//!            ▼                     ▼
//!        Resetting ── RST sent ─► Dead ── nothing left to read or tell ─► Free
//! ```
//!
//! `close()` by the host keeps the state `Established` until all bytes and a SHUTDOWN of both directions have
//! gone to the guest and its RST has come (§5.10.6.5); the id is stale at once.

use crate::byte_ring::ByteRing;
use crate::credit::Credit;
use crate::event::PendingEvents;
use crate::limits::VsockLimits;
use crate::packet::{Op, SHUTDOWN_RECEIVE, SHUTDOWN_SEND};

/// A set of directions, seen from the side that it is said of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Directions {
    /// Receiving.
    pub receive: bool,
    /// Sending.
    pub send: bool,
}

impl Directions {
    /// Both directions.
    pub const BOTH: Directions = Directions {
        receive: true,
        send: true,
    };
    /// Receiving alone.
    pub const RECEIVE: Directions = Directions {
        receive: true,
        send: false,
    };
    /// Sending alone.
    pub const SEND: Directions = Directions {
        receive: false,
        send: true,
    };

    /// The directions in the flags of a SHUTDOWN packet; unknown flags mean nothing.
    pub(crate) fn from_flags(flags: u32) -> Directions {
        Directions {
            receive: flags & SHUTDOWN_RECEIVE != 0,
            send: flags & SHUTDOWN_SEND != 0,
        }
    }

    /// Flags of a SHUTDOWN packet.
    pub(crate) fn flags(self) -> u32 {
        let receive = if self.receive { SHUTDOWN_RECEIVE } else { 0 };
        let send = if self.send { SHUTDOWN_SEND } else { 0 };
        receive | send
    }

    /// The directions in either set.
    pub(crate) fn with(self, other: Directions) -> Directions {
        Directions {
            receive: self.receive || other.receive,
            send: self.send || other.send,
        }
    }
}

/// Where a connection stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// The slot holds no connection.
    #[default]
    Free,
    /// The guest asked; the host has not answered.
    Requested,
    /// The host asked; the guest has not answered.
    Connecting,
    /// Bytes may flow.
    Established,
    /// A reset waits to be delivered to the guest.
    Resetting,
    /// Off the wire; there may be bytes left to read and events left to take.
    Dead,
}

/// One connection, or the storage for the next.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    pub(crate) state: State,
    pub(crate) guest_port: u32,
    pub(crate) host_port: u32,
    /// From the guest to the host.
    pub(crate) received: ByteRing,
    /// From the host to the guest.
    pub(crate) unsent: ByteRing,
    pub(crate) credit: Credit,
    /// Directions the guest has shut.
    pub(crate) peer_shut: Directions,
    /// Directions the host has shut.
    pub(crate) shut: Directions,
    /// Directions of `shut` that the guest has been told of.
    pub(crate) shut_told: Directions,
    pub(crate) events: PendingEvents,
    /// The host has been, or need not be, told of the end.
    pub(crate) ended: bool,
    /// The host has closed it and is told nothing more.
    pub(crate) detached: bool,
    /// A `write` was cut short.
    pub(crate) wants_room: bool,
    /// REQUEST or RESPONSE has to go out, before anything else.
    pub(crate) greeting: Option<Op>,
    /// A CREDIT_UPDATE has to go out, unless another packet carries the credit first.
    pub(crate) owes_credit: bool,
    /// The guest was asked for credit and has not given any since.
    pub(crate) asked_credit: bool,
}

impl Connection {
    /// Storage for connections under `limits`.
    pub(crate) fn new(limits: &VsockLimits) -> Connection {
        let bytes = |limit: u32| ByteRing::new(usize::try_from(limit).unwrap_or(usize::MAX));
        Connection {
            state: State::Free,
            guest_port: 0,
            host_port: 0,
            received: bytes(limits.receive_buffer),
            unsent: bytes(limits.send_buffer),
            credit: Credit::new(limits.receive_buffer),
            peer_shut: Directions::default(),
            shut: Directions::default(),
            shut_told: Directions::default(),
            events: PendingEvents::default(),
            ended: false,
            detached: false,
            wants_room: false,
            greeting: None,
            owes_credit: false,
            asked_credit: false,
        }
    }

    /// Makes the storage a connection between two ports.
    pub(crate) fn begin(&mut self, state: State, guest_port: u32, host_port: u32) {
        self.clear();
        self.state = state;
        self.guest_port = guest_port;
        self.host_port = host_port;
    }

    /// Becomes what `other` is, and keeps its own storage.
    pub(crate) fn go_back_to(&mut self, other: &Connection) {
        let old = std::mem::replace(self, other.clone());
        self.received.adopt(old.received);
        self.unsent.adopt(old.unsent);
    }

    /// Forgets everything but the storage of the buffers.
    pub(crate) fn clear(&mut self) {
        self.received.clear();
        self.unsent.clear();
        let (capacity, _) = self.credit.offer();
        self.credit = Credit::new(capacity);
        self.state = State::Free;
        self.peer_shut = Directions::default();
        self.shut = Directions::default();
        self.shut_told = Directions::default();
        self.events = PendingEvents::default();
        self.ended = false;
        self.detached = false;
        self.wants_room = false;
        self.greeting = None;
        self.owes_credit = false;
        self.asked_credit = false;
    }

    /// Whether it can be looked up by its ports: a packet of the guest belongs to it.
    pub(crate) fn on_wire(&self) -> bool {
        !matches!(self.state, State::Free | State::Dead)
    }

    /// Whether bytes written by the host can still reach the guest.
    pub(crate) fn takes_writes(&self) -> bool {
        self.state == State::Established && !self.detached && !self.shut.send && !self.peer_shut.receive
    }

    /// Whether bytes that arrive are kept for the host.
    pub(crate) fn keeps_arrivals(&self) -> bool {
        !self.detached && !self.shut.receive
    }

    /// Whether nothing is left for anybody: the slot can be freed.
    pub(crate) fn spent(&self) -> bool {
        self.state == State::Dead && !self.events.any() && (self.detached || self.received.is_empty())
    }

    /// Takes it off the wire: what was to be told to the guest is forgotten.
    pub(crate) fn leave_wire(&mut self) {
        self.state = State::Dead;
        self.unsent.clear();
        self.greeting = None;
        self.owes_credit = false;
        self.wants_room = false;
        self.events.writable = false;
    }

    /// Notes that the host took `count` bytes out of the receive buffer, or that they were thrown away.
    pub(crate) fn forward(&mut self, count: usize) {
        self.credit.forward(u32::try_from(count).unwrap_or(u32::MAX));
        if self.credit.update_due() && !self.shut.receive && !self.peer_shut.send {
            self.owes_credit = true;
        }
    }

    /// The next packet for the guest, or none if there is nothing to say that it could hear now.
    pub(crate) fn next_packet(&self) -> Option<Op> {
        match self.state {
            State::Resetting => return Some(Op::Reset),
            State::Free | State::Dead | State::Requested => return None,
            State::Connecting => return self.greeting,
            State::Established => {}
        }
        let stalled = self.credit.sendable() == 0;
        if self.greeting.is_some() {
            self.greeting
        } else if !self.unsent.is_empty() && !stalled {
            Some(Op::ReadWrite)
        } else if self.shutdown_due() {
            Some(Op::Shutdown)
        } else if !self.unsent.is_empty() && !self.asked_credit {
            Some(Op::CreditRequest)
        } else if self.owes_credit {
            Some(Op::CreditUpdate)
        } else {
            None
        }
    }

    /// What of `shut` can be told now: that no more is sent, only after all was sent.
    pub(crate) fn tellable_shut(&self) -> Directions {
        Directions {
            receive: self.shut.receive,
            send: self.shut.send && self.unsent.is_empty(),
        }
    }

    fn shutdown_due(&self) -> bool {
        let tellable = self.tellable_shut().with(self.shut_told);
        // After a close, both directions go in one packet: it is the one the guest answers with a reset.
        tellable != self.shut_told && (!self.detached || tellable == Directions::BOTH)
    }
}

//! Both ends against a model, against each other on two threads, and each against somebody who writes anything anywhere.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex};
use std::vec::Vec;

use muscle_abi::ring::{Role, State};
use proptest::prelude::*;

use crate::{Bell, Memory, Receiver, RingError, Sender};

const UNITS: usize = 512;

struct Pages {
    receiver: Vec<AtomicU64>,
    host: Vec<AtomicU64>,
    sender: Vec<AtomicU64>,
    data: Vec<AtomicU64>,
}

fn words(count: usize) -> Vec<AtomicU64> {
    (0..count).map(|_| AtomicU64::new(0)).collect()
}

impl Pages {
    fn new() -> Pages {
        Pages {
            receiver: words(512),
            host: words(512),
            sender: words(512),
            data: words(UNITS),
        }
    }

    fn memory(&self) -> Memory<'_> {
        Memory {
            receiver: &self.receiver,
            host: &self.host,
            sender: &self.sender,
            data: &self.data,
        }
    }

    fn say(&self, state: State) {
        self.host[0].store(state.to_word().to_le(), Ordering::SeqCst);
    }

    fn end(&self, role: Role) {
        let mut state = State::from_word(u64::from_le(self.host[0].load(Ordering::SeqCst)));
        state.ended[role as usize] = true;
        self.say(state);
    }

    /// What the host does when a side begins anew.
    fn empty(&self) {
        let state = State::from_word(u64::from_le(self.host[0].load(Ordering::SeqCst)));
        let epoch = |epoch| State {
            epoch,
            ..State::default()
        };
        self.say(epoch(state.epoch.wrapping_add(1)));
        for word in self.receiver.iter().chain(&self.sender).chain(&self.data) {
            word.store(0, Ordering::SeqCst);
        }
        self.say(epoch(state.epoch.wrapping_add(2)));
    }
}

/// Nobody is there to be woken, and nothing may wait.
struct Alone;

impl Bell for Alone {
    fn wait(&mut self) {
        panic!("waits although nothing can come");
    }

    fn wake(&mut self) {}
}

/// The host's two bells, as it keeps them for two cells.
#[derive(Default)]
struct Bells {
    rung: Mutex<[bool; 2]>,
    changed: Condvar,
}

struct Side<'a> {
    bells: &'a Bells,
    role: Role,
    waits: usize,
}

impl Bell for Side<'_> {
    fn wait(&mut self) {
        self.waits += 1;
        let mut rung = self.bells.rung.lock().expect("nobody panics");
        while !std::mem::take(&mut rung[self.role as usize]) {
            rung = self.bells.changed.wait(rung).expect("nobody panics");
        }
    }

    fn wake(&mut self) {
        self.bells.rung.lock().expect("nobody panics")[self.role.other() as usize] = true;
        self.bells.changed.notify_all();
    }
}

#[test]
fn a_message_of_any_length_comes_out_as_it_went_in() {
    let pages = Pages::new();
    let (mut sender, mut receiver) = (Sender::new(pages.memory()), Receiver::new(pages.memory()));
    let most = sender.most();
    assert_eq!(most, (UNITS - 1) * 8);
    let mut buffer = [0; UNITS * 8];
    for length in (0..200).chain(most - 9..=most) {
        let message: Vec<u8> = (0..length).map(|at| (at * 7 % 251) as u8).collect();
        sender.send(&message, &mut Alone).expect("there is room");
        assert_eq!(receiver.receive(&mut buffer, &mut Alone), Ok(length));
        assert_eq!(buffer[..length], message);
    }
    let larger = std::vec![0; most + 1];
    let refused = RingError::TooLarge {
        length: most + 1,
        most,
    };
    assert_eq!(sender.send(&larger, &mut Alone), Err(refused));
}

#[test]
fn a_message_that_is_larger_than_the_buffer_stays() {
    let pages = Pages::new();
    let (mut sender, mut receiver) = (Sender::new(pages.memory()), Receiver::new(pages.memory()));
    sender.send(b"longer", &mut Alone).expect("there is room");
    let mut buffer = [0; 6];
    let refused = RingError::TooLarge { length: 6, most: 5 };
    assert_eq!(receiver.receive(&mut buffer[..5], &mut Alone), Err(refused));
    assert_eq!(receiver.try_receive(&mut buffer, &mut Alone), Ok(Some(6)));
    assert_eq!(&buffer, b"longer");
    assert_eq!(receiver.try_receive(&mut buffer, &mut Alone), Ok(None));
}

#[test]
fn what_was_sent_before_the_end_is_received_before_closed() {
    let pages = Pages::new();
    let (mut sender, mut receiver) = (Sender::new(pages.memory()), Receiver::new(pages.memory()));
    sender.send(b"last", &mut Alone).expect("there is room");
    pages.end(Role::Send);
    let mut buffer = [0; 8];
    assert_eq!(receiver.receive(&mut buffer, &mut Alone), Ok(4));
    assert_eq!(receiver.receive(&mut buffer, &mut Alone), Err(RingError::Closed));
    pages.empty();
    pages.end(Role::Receive);
    assert_eq!(sender.send(b"x", &mut Alone), Err(RingError::Reset));
    assert_eq!(sender.send(b"x", &mut Alone), Err(RingError::Closed));
}

#[test]
fn a_new_epoch_is_told_once_and_begins_empty() {
    let pages = Pages::new();
    let (mut sender, mut receiver) = (Sender::new(pages.memory()), Receiver::new(pages.memory()));
    sender.send(b"old", &mut Alone).expect("there is room");
    pages.empty();
    let mut buffer = [0; 8];
    assert_eq!(
        receiver.try_receive(&mut buffer, &mut Alone),
        Err(RingError::Reset)
    );
    assert_eq!(receiver.try_receive(&mut buffer, &mut Alone), Ok(None));
    assert_eq!(sender.try_send(b"lost", &mut Alone), Err(RingError::Reset));
    assert_eq!(sender.try_send(b"new", &mut Alone), Ok(true));
    // Who begins now hears nothing of the past.
    let mut second = Receiver::new(pages.memory());
    assert_eq!(second.try_receive(&mut buffer, &mut Alone), Ok(Some(3)));
    assert_eq!(&buffer[..3], b"new");
    // A sender that has not noticed yet publishes into an epoch that is over.
    sender.send(b"late", &mut Alone).expect("there is room");
    let stale = u64::from_le(pages.sender[0].load(Ordering::SeqCst));
    pages.empty();
    pages.sender[0].store(stale.to_le(), Ordering::SeqCst);
    let mut third = Receiver::new(pages.memory());
    assert_eq!(third.try_receive(&mut buffer, &mut Alone), Ok(None));
}

#[test]
fn nothing_passes_while_the_ring_is_being_emptied() {
    let pages = Pages::new();
    let mut sender = Sender::new(pages.memory());
    pages.say(State {
        epoch: 1,
        ..State::default()
    });
    let mut receiver = Receiver::new(pages.memory());
    assert_eq!(sender.try_send(b"x", &mut Alone), Ok(false));
    assert_eq!(receiver.try_receive(&mut [], &mut Alone), Ok(None));
    pages.say(State {
        epoch: 2,
        ..State::default()
    });
    assert_eq!(sender.try_send(b"x", &mut Alone), Err(RingError::Reset));
    // It had begun in no epoch, so it has missed none.
    assert_eq!(receiver.try_receive(&mut [], &mut Alone), Ok(None));
}

#[test]
fn an_end_that_is_opened_again_goes_on_where_it_was() {
    let pages = Pages::new();
    let mut buffer = [0; 8];
    for round in 0..2000u64 {
        let mut sender = Sender::new(pages.memory());
        sender
            .send(&round.to_le_bytes(), &mut Alone)
            .expect("there is room");
        let mut receiver = Receiver::new(pages.memory());
        assert_eq!(receiver.receive(&mut buffer, &mut Alone), Ok(8));
        assert_eq!(u64::from_le_bytes(buffer), round);
    }
}

#[test]
fn no_wake_is_lost_and_no_byte_between_two_threads() {
    const COUNT: u64 = 200_000;
    let (pages, bells) = (Pages::new(), Bells::default());
    let side = |role| Side {
        bells: &bells,
        role,
        waits: 0,
    };
    let length = |number: u64| usize::try_from(number * 31 % 1500).expect("is small");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mut sender, mut bell) = (Sender::new(pages.memory()), side(Role::Send));
            let mut message = [0; 1500];
            for number in 0..COUNT {
                let message = &mut message[..length(number)];
                message.fill((number % 251) as u8);
                sender.send(message, &mut bell).expect("is sent");
                // Often enough the other side has emptied the ring and sleeps.
                if number % 5000 == 0 {
                    std::thread::yield_now();
                    sender = Sender::new(pages.memory());
                }
            }
        });
        let (mut receiver, mut bell) = (Receiver::new(pages.memory()), side(Role::Receive));
        let mut buffer = [0; 1500];
        for number in 0..COUNT {
            let got = receiver.receive(&mut buffer, &mut bell).expect("comes");
            assert_eq!(got, length(number));
            assert!(
                buffer[..got].iter().all(|byte| *byte == (number % 251) as u8),
                "message {number} is torn"
            );
            if number % 7000 == 0 {
                receiver = Receiver::new(pages.memory());
            }
        }
    });
}

/// An exact account of what a ring holds.
#[derive(Debug, Clone)]
enum Act {
    Send(Vec<u8>),
    Receive(usize),
    Reopen(Role),
    Empty,
    End(Role),
}

fn act() -> impl Strategy<Value = Act> {
    let role = prop_oneof![Just(Role::Send), Just(Role::Receive)];
    prop_oneof![
        8 => prop::collection::vec(any::<u8>(), 0..1400).prop_map(Act::Send),
        8 => (0usize..2000).prop_map(Act::Receive),
        1 => role.clone().prop_map(Act::Reopen),
        1 => Just(Act::Empty),
        1 => role.prop_map(Act::End),
    ]
}

proptest! {
    #[test]
    fn a_ring_is_a_bounded_queue(acts in prop::collection::vec(act(), 1..200), start in any::<u32>()) {
        let pages = Pages::new();
        // Positions wrap around somewhere.
        for page in [&pages.sender, &pages.receiver] {
            page[0].store(u64::from(start).to_le(), Ordering::SeqCst);
        }
        let (mut sender, mut receiver) = (Sender::new(pages.memory()), Receiver::new(pages.memory()));
        let mut queue: VecDeque<Vec<u8>> = VecDeque::new();
        let (mut ended, mut told) = ([false; 2], [true; 2]);
        let units = |message: &Vec<u8>| 1 + message.len().div_ceil(8);
        for act in acts {
            match act {
                Act::Send(message) => {
                    let sent = sender.try_send(&message, &mut Alone);
                    let free = UNITS - queue.iter().map(units).sum::<usize>();
                    let expected = if !std::mem::replace(&mut told[0], true) {
                        Err(RingError::Reset)
                    } else if ended[1] {
                        Err(RingError::Closed)
                    } else {
                        Ok(units(&message) <= free)
                    };
                    prop_assert_eq!(sent, expected);
                    if sent == Ok(true) {
                        queue.push_back(message);
                    }
                }
                Act::Receive(most) => {
                    let mut buffer = std::vec![0; most];
                    let got = receiver.try_receive(&mut buffer, &mut Alone);
                    let expected = if !std::mem::replace(&mut told[1], true) {
                        Err(RingError::Reset)
                    } else {
                        match queue.front() {
                            None if ended[0] => Err(RingError::Closed),
                            None => Ok(None),
                            Some(next) if next.len() > most => Err(RingError::TooLarge { length: next.len(), most }),
                            Some(next) => Ok(Some(next.len())),
                        }
                    };
                    prop_assert_eq!(got, expected);
                    if let Ok(Some(length)) = got {
                        prop_assert_eq!(queue.pop_front(), Some(buffer[..length].to_vec()));
                    }
                }
                Act::Reopen(Role::Send) => (sender, told[0]) = (Sender::new(pages.memory()), true),
                Act::Reopen(Role::Receive) => (receiver, told[1]) = (Receiver::new(pages.memory()), true),
                Act::Empty => {
                    pages.empty();
                    queue.clear();
                    (ended, told) = ([false; 2], [false; 2]);
                }
                Act::End(role) => {
                    pages.end(role);
                    ended[role as usize] = true;
                }
            }
        }
    }

    #[test]
    fn a_receiver_gives_no_more_than_there_is_whatever_the_sender_writes(
        writes in prop::collection::vec((0usize..UNITS + 2, any::<u64>(), 0u64..UNITS as u64 * 9), 1..400),
    ) {
        let pages = Pages::new();
        let mut receiver = Receiver::new(pages.memory());
        for (place, wild, tame) in writes {
            match place {
                0 => pages.sender[0].store(tame % 700, Ordering::SeqCst),
                1 => pages.sender[8].store(wild, Ordering::SeqCst),
                _ if wild % 2 == 0 => pages.data[place - 2].store(tame, Ordering::SeqCst),
                _ => pages.data[place - 2].store(wild, Ordering::SeqCst),
            }
            let mut buffer = [0; UNITS * 8];
            match receiver.try_receive(&mut buffer, &mut Alone) {
                Ok(Some(length)) => prop_assert!(length <= (UNITS - 1) * 8),
                Ok(None) | Err(RingError::TooLarge { .. }) => {}
                Err(RingError::Damaged) => {
                    // It stays so, until the host empties the ring.
                    prop_assert_eq!(receiver.try_receive(&mut buffer, &mut Alone), Err(RingError::Damaged));
                    pages.empty();
                    prop_assert_eq!(receiver.try_receive(&mut buffer, &mut Alone), Err(RingError::Reset));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }
    }

    #[test]
    fn a_sender_believes_no_index_that_cannot_be(index in any::<u64>(), length in 0usize..4088) {
        let pages = Pages::new();
        let mut sender = Sender::new(pages.memory());
        let message = std::vec![7; length];
        prop_assert_eq!(sender.try_send(&message, &mut Alone), Ok(true));
        pages.receiver[0].store(index.to_le(), Ordering::SeqCst);
        let read = index as u32;
        let sent = u32::try_from(1 + length.div_ceil(8)).expect("is small");
        let honest = index >> 32 != 0 || read <= sent;
        let next = sender.try_send(b"next", &mut Alone);
        prop_assert_eq!(next == Err(RingError::Damaged), !honest, "{:?}", next);
    }
}

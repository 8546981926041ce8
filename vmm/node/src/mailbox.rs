//! Messages that wait for a receiver: bounded for each sender, taken in turns.
//!
//! ```text
//!   sender a ─ reserve, put ─► [a3 a2 a1] ─┐
//!   sender b ─ reserve, put ─► [b1]        ├─ next: a1, b1, a2, a3 ─► one call of the receiver at a time
//! ```
//! Whoever sends much fills its own queue alone, and the next message of another waits behind one of each at most. Messages of one sender
//! are taken in the order in which they were sent.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use referee_trace::Trace;

/// Bounds of one sender's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub messages: usize,
    pub bytes: usize,
}

/// A message that was sent.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub channel: String,
    pub bytes: Vec<u8>,
    /// Messages that led to it, itself among them.
    pub hops: u32,
    pub trace: Trace,
}

/// A receiver's messages.
#[derive(Debug, Default)]
pub(crate) struct Mailbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    queues: BTreeMap<String, Queue>,
    /// Senders with messages, whose turn is next first.
    turns: VecDeque<String>,
    /// Whether somebody takes messages out until there are none.
    emptied: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Queue {
    messages: VecDeque<Delivery>,
    /// Messages and those that will come.
    count: usize,
    bytes: usize,
}

/// Room for one message, until it is put there or this is dropped.
#[derive(Debug)]
pub(crate) struct Room {
    mailbox: Arc<Mailbox>,
    sender: String,
    bytes: usize,
    used: bool,
}

/// What has to be done after a message was put into a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// Nobody empties it: whoever put is to see to that.
    ToBeEmptied,
    /// Somebody does.
    Waits,
    /// The receiver is gone; so is the message.
    Lost,
}

impl Mailbox {
    /// Room for a message of this sender, if there is.
    pub(crate) fn reserve(self: &Arc<Mailbox>, sender: &str, bytes: usize, bounds: Bounds) -> Option<Room> {
        let mut state = self.lock();
        let queue = state.queues.entry(sender.to_owned()).or_default();
        let count = queue.count.saturating_add(1);
        let all_bytes = queue.bytes.saturating_add(bytes);
        if count > bounds.messages || all_bytes > bounds.bytes {
            state.forget_if_empty(sender);
            return None;
        }
        (queue.count, queue.bytes) = (count, all_bytes);
        Some(Room {
            mailbox: Arc::clone(self),
            sender: sender.to_owned(),
            bytes,
            used: false,
        })
    }

    /// The next message. When there is none, whoever empties the mailbox is done.
    pub(crate) fn next(&self) -> Option<Delivery> {
        let mut state = self.lock();
        let Some(sender) = state.turns.pop_front() else {
            state.emptied = false;
            return None;
        };
        let queue = state.queues.get_mut(&sender)?;
        let delivery = queue.messages.pop_front()?;
        queue.count = queue.count.saturating_sub(1);
        queue.bytes = queue.bytes.saturating_sub(delivery.bytes.len());
        match queue.messages.is_empty() {
            true => state.forget_if_empty(&sender),
            false => state.turns.push_back(sender),
        }
        Some(delivery)
    }

    /// Messages that wait.
    pub(crate) fn waiting(&self) -> usize {
        let state = self.lock();
        state.queues.values().map(|queue| queue.messages.len()).sum()
    }

    /// Takes no more, and gives how many messages are lost.
    pub(crate) fn close(&self) -> usize {
        let lost = self.waiting();
        let mut state = self.lock();
        state.closed = true;
        state.turns.clear();
        state.queues.clear();
        lost
    }

    /// No change of what is locked here can panic half-way.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_if_empty(&mut self, sender: &str) {
        if self.queues.get(sender).is_some_and(|queue| queue.count == 0) {
            self.queues.remove(sender);
        }
    }
}

impl Room {
    /// Puts the message there.
    pub(crate) fn put(mut self, delivery: Delivery) -> Put {
        self.used = true;
        let mut state = self.mailbox.lock();
        if state.closed {
            return Put::Lost;
        }
        let queue = state.queues.entry(self.sender.clone()).or_default();
        let was_empty = queue.messages.is_empty();
        queue.messages.push_back(delivery);
        if was_empty {
            state.turns.push_back(self.sender.clone());
        }
        match std::mem::replace(&mut state.emptied, true) {
            true => Put::Waits,
            false => Put::ToBeEmptied,
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        let mut state = self.mailbox.lock();
        if let Some(queue) = state.queues.get_mut(&self.sender) {
            queue.count = queue.count.saturating_sub(1);
            queue.bytes = queue.bytes.saturating_sub(self.bytes);
        }
        state.forget_if_empty(&self.sender);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds {
        messages: 3,
        bytes: 100,
    };

    fn delivery(number: u8, length: usize) -> Delivery {
        Delivery {
            channel: "c".into(),
            bytes: vec![number; length],
            hops: 1,
            trace: Trace::none(),
        }
    }

    fn put(mailbox: &Arc<Mailbox>, sender: &str, number: u8) -> Option<Put> {
        let room = mailbox.reserve(sender, 1, BOUNDS)?;
        Some(room.put(delivery(number, 1)))
    }

    fn next(mailbox: &Mailbox) -> Option<u8> {
        mailbox
            .next()
            .and_then(|delivery| delivery.bytes.first().copied())
    }

    #[test]
    fn senders_take_turns_and_each_keeps_its_order() {
        let mailbox = Arc::new(Mailbox::default());
        assert_eq!(put(&mailbox, "a", 1), Some(Put::ToBeEmptied));
        for (sender, number) in [("a", 2), ("a", 3), ("b", 11), ("c", 21), ("b", 12)] {
            assert_eq!(put(&mailbox, sender, number), Some(Put::Waits));
        }
        assert_eq!(mailbox.waiting(), 6);
        let taken: Vec<u8> = std::iter::from_fn(|| next(&mailbox)).collect();
        assert_eq!(taken, [1, 11, 21, 2, 12, 3]);
        assert_eq!(put(&mailbox, "a", 4), Some(Put::ToBeEmptied), "it was left");
    }

    #[test]
    fn a_full_queue_refuses_its_own_sender_alone() {
        let mailbox = Arc::new(Mailbox::default());
        for number in 0..3 {
            assert!(put(&mailbox, "flood", number).is_some());
        }
        assert_eq!(put(&mailbox, "flood", 4), None);
        assert!(put(&mailbox, "other", 9).is_some());
        assert_eq!(next(&mailbox), Some(0));
        assert_eq!(next(&mailbox), Some(9), "it waits behind one message");
        assert!(put(&mailbox, "flood", 5).is_some());
        let bytes = |length| mailbox.reserve("large", length, BOUNDS);
        assert!(bytes(101).is_none());
        let room = bytes(100).expect("is free");
        assert!(bytes(1).is_none(), "what is reserved counts");
        drop(room);
        assert!(bytes(1).is_some());
    }

    #[test]
    fn a_mailbox_that_is_closed_says_what_is_lost() {
        let mailbox = Arc::new(Mailbox::default());
        assert!(put(&mailbox, "a", 1).is_some());
        let room = mailbox.reserve("a", 1, BOUNDS).expect("is free");
        assert_eq!(mailbox.close(), 1);
        assert_eq!(room.put(delivery(2, 1)), Put::Lost);
        assert_eq!(next(&mailbox), None);
    }

    proptest! {
        /// What was put comes out once, and no queue is ever beyond its bounds.
        #[test]
        fn nothing_is_lost_and_nothing_is_twice(steps: Vec<(bool, u8, u8)>) {
            let mailbox = Arc::new(Mailbox::default());
            let (mut accepted, mut taken) = (Vec::new(), Vec::new());
            for (take, sender, number) in steps {
                if take {
                    taken.extend(next(&mailbox));
                } else if put(&mailbox, &(sender % 3).to_string(), number).is_some() {
                    accepted.push(number);
                }
                prop_assert!(mailbox.waiting() <= 9);
                prop_assert_eq!(mailbox.waiting(), accepted.len() - taken.len());
            }
            taken.extend(std::iter::from_fn(|| next(&mailbox)));
            accepted.sort_unstable();
            taken.sort_unstable();
            prop_assert_eq!(accepted, taken);
        }
    }
}

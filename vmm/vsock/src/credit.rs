//! Credit of one connection, virtio 1.2 §5.10.6.3: who may send how many bytes.
//!
//! Each side tells how much it can buffer (`buf_alloc`) and how much it has taken out of that buffer since
//! the connection began (`fwd_cnt`, modulo 2³²). A sender may have `buf_alloc − (sent − fwd_cnt)` bytes more
//! under way. All counters wrap; only their differences mean anything.

/// Both directions' counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Credit {
    /// Bytes this side can buffer.
    capacity: u32,
    /// Bytes received from the guest.
    received: u32,
    /// Bytes taken out of this side's buffer.
    forwarded: u32,
    /// `forwarded` as the guest last heard it.
    told: u32,
    /// Bytes the guest can buffer.
    peer_capacity: u32,
    /// Bytes the guest has taken out of its buffer.
    peer_forwarded: u32,
    /// Bytes sent to the guest.
    sent: u32,
}

/// The guest sent more than it had been told it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Overrun;

/// The guest says that it took out more bytes than were sent, or takes back what it said before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FalseCount;

impl Credit {
    /// Credit of a new connection that buffers `capacity` bytes; the guest has given none yet.
    pub(crate) fn new(capacity: u32) -> Credit {
        Credit {
            capacity,
            ..Credit::default()
        }
    }

    /// `buf_alloc` and `fwd_cnt` for a packet to the guest.
    pub(crate) fn offer(&self) -> (u32, u32) {
        (self.capacity, self.forwarded)
    }

    /// Notes that a packet with [`Credit::offer`] went to the guest.
    pub(crate) fn offered(&mut self) {
        self.told = self.forwarded;
    }

    /// Takes in that `count` bytes came from the guest.
    ///
    /// What the guest may send follows from what it was told last, not from what has been read since, so
    /// the answer does not depend on when the host reads.
    pub(crate) fn arrive(&mut self, count: u32) -> Result<(), Overrun> {
        let allowed = self
            .capacity
            .saturating_sub(self.received.wrapping_sub(self.told));
        if count > allowed {
            return Err(Overrun);
        }
        self.received = self.received.wrapping_add(count);
        Ok(())
    }

    /// Notes that `count` received bytes were taken out of the buffer.
    pub(crate) fn forward(&mut self, count: u32) {
        self.forwarded = self.forwarded.wrapping_add(count);
    }

    /// Whether the guest knows of so much less room than there is that it should be told.
    ///
    /// Half the buffer is enough to keep a stream flowing and costs at most two updates for each bufferful.
    pub(crate) fn update_due(&self) -> bool {
        self.forwarded.wrapping_sub(self.told) >= (self.capacity / 2).max(1)
    }

    /// Takes in what a packet of the guest says.
    pub(crate) fn hear(&mut self, buf_alloc: u32, fwd_cnt: u32) -> Result<(), FalseCount> {
        if fwd_cnt.wrapping_sub(self.peer_forwarded) > self.under_way() {
            return Err(FalseCount);
        }
        self.peer_capacity = buf_alloc;
        self.peer_forwarded = fwd_cnt;
        Ok(())
    }

    /// Bytes that may be sent to the guest now.
    pub(crate) fn sendable(&self) -> u32 {
        self.peer_capacity.saturating_sub(self.under_way())
    }

    /// Notes that `count` bytes were sent to the guest.
    pub(crate) fn send(&mut self, count: u32) {
        self.sent = self.sent.wrapping_add(count);
    }

    /// Bytes sent that the guest has not yet said it took.
    fn under_way(&self) -> u32 {
        self.sent.wrapping_sub(self.peer_forwarded)
    }

    /// The counters when all that was received was taken out: received, told, the guest's capacity and count, sent. `None` if something is in
    /// this side's buffer.
    pub(crate) fn counters(&self) -> Option<[u32; 5]> {
        (self.received == self.forwarded).then_some([
            self.received,
            self.told,
            self.peer_capacity,
            self.peer_forwarded,
            self.sent,
        ])
    }

    /// Credit that stands at [`Credit::counters`], or at any numbers: what the guest may send is bounded by `capacity` whatever they are.
    pub(crate) fn at(capacity: u32, counters: [u32; 5]) -> Credit {
        let [received, told, peer_capacity, peer_forwarded, sent] = counters;
        Credit {
            capacity,
            received,
            forwarded: received,
            told,
            peer_capacity,
            peer_forwarded,
            sent,
        }
    }

    /// Starts all counters at `count`, so that a test sees them wrap.
    #[cfg(test)]
    pub(crate) fn start_at(&mut self, count: u32) {
        self.received = count;
        self.forwarded = count;
        self.told = count;
        self.peer_forwarded = count;
        self.sent = count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sendable_is_capacity_less_what_is_under_way() {
        let mut credit = Credit::new(100);
        assert_eq!(credit.sendable(), 0, "nothing before the guest gives credit");
        credit.hear(10, 0).expect("no bytes were sent");
        credit.send(7);
        assert_eq!(credit.sendable(), 3);
        credit.hear(10, 5).expect("five of seven");
        assert_eq!(credit.sendable(), 8);
    }

    #[test]
    fn counters_wrap() {
        let mut credit = Credit::new(64);
        credit.start_at(u32::MAX - 1);
        credit.hear(10, u32::MAX - 1).expect("nothing taken yet");
        credit.send(8);
        assert_eq!(credit.sendable(), 2);
        credit.hear(10, 6).expect("all eight taken, past the wrap");
        assert_eq!(credit.sendable(), 10);
        assert_eq!(credit.arrive(40), Ok(()));
        assert_eq!(credit.arrive(25), Err(Overrun), "24 of 64 are left");
        credit.forward(40);
        assert_eq!(credit.arrive(25), Err(Overrun), "the guest has not been told");
        assert!(credit.update_due());
        assert_eq!(credit.offer(), (64, 38));
        credit.offered();
        assert!(!credit.update_due());
        assert_eq!(credit.arrive(64), Ok(()));
        assert_eq!(credit.arrive(1), Err(Overrun));
        assert_eq!(credit.arrive(0), Ok(()));
    }

    #[test]
    fn a_false_count_is_refused_and_changes_nothing() {
        let mut credit = Credit::new(64);
        credit.hear(10, 0).expect("nothing sent");
        credit.send(4);
        let before = credit;
        assert_eq!(credit.hear(99, 5), Err(FalseCount), "more than was sent");
        assert_eq!(credit, before);
        credit.hear(10, 3).expect("three of four");
        assert_eq!(credit.hear(10, 2), Err(FalseCount), "less than before");
    }

    #[test]
    fn a_guest_may_shrink_its_buffer_below_what_is_under_way() {
        let mut credit = Credit::new(64);
        credit.hear(10, 0).expect("nothing sent");
        credit.send(10);
        credit.hear(5, 0).expect("smaller buffer");
        assert_eq!(credit.sendable(), 0);
    }
}

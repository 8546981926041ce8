//! A ring between two cells, the host's side: who has which end, when it is emptied, and the two bells.
//!
//! ```text
//!   sender's cell ── RING_WAKE ──► bell of the receiver ──► waker: its thread, or whoever advances it
//!   receiver's cell ── RING_WAIT ─► rung since the last wait? go on : Stop::Waiting
//! ```
//! The host writes one word, [`State`], into the page that neither cell can write, and reads nothing. Two cells agree about everything else
//! ([`muscle_abi::ring`]).
//!
//! What the sender writes, what the receiver writes and what the host writes are three files. Where the two cells are in processes of their own
//! ([`Ring::handed_over`]), each process can write its end's file and read the others; whoever made the ring keeps it: empties it, and writes the
//! word.
//!
//! The ring is emptied when a side begins a life for the second time since it was emptied last: with a reset, or with another cell. The epoch is odd
//! meanwhile, so that the other side, which may be running, keeps its hands off; what it was about to write then is of an epoch that is over. A side that
//! begins for the first time finds what the other has sent already. A sender that begins after its receiver's end finds an empty ring, too, and not that end.

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use muscle_abi::PAGE_SIZE;
use muscle_abi::ring::{DATA, HOST_PAGE, RECEIVER_PAGE, Role, SENDER_PAGE, State};
use referee_hv::{Shared, SharedAccess, SharedWord, Vm};

use crate::error::CellError;

/// A ring. Clones are the same.
#[derive(Debug, Clone)]
pub struct Ring(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    memory: Parts,
    data: u64,
    /// None where another process keeps the ring.
    state: Option<SharedWord>,
    sides: Mutex<Sides>,
    bells: [Bell; 2],
}

/// Its memory, by who writes it.
#[derive(Debug)]
struct Parts {
    receiver: Shared,
    host: Shared,
    /// The sender's page and the data.
    sender: Shared,
}

#[derive(Debug, Default)]
struct Sides {
    state: State,
    /// Whether a cell has this end.
    taken: [bool; 2],
    /// Whether a life has begun since the ring was emptied last.
    begun: [bool; 2],
}

/// What wakes one side.
#[derive(Debug, Default)]
struct Bell {
    rung: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// One end of a ring, for the cell that has it.
#[derive(Debug, Clone)]
pub struct RingEnd {
    ring: Ring,
    role: Role,
}

/// The right to one end, which one cell at a time has. Dropping it ends this side.
#[derive(Debug)]
pub struct RingHold {
    end: RingEnd,
    /// Whether a life has begun with it.
    has_begun: bool,
}

impl Ring {
    /// A ring with `data` bytes of data, a size that [`muscle_abi::ring::is_data_size`].
    ///
    /// # Errors
    /// [`CellError::Hv`] when there is no memory for it.
    pub fn new(data: u64) -> Result<Ring, CellError> {
        let memory = Parts {
            receiver: Shared::new(PAGE_SIZE)?,
            host: Shared::new(PAGE_SIZE)?,
            sender: Shared::new(sender_bytes(data))?,
        };
        let state = Some(memory.host.word(0)?);
        Ok(Ring::of(memory, data, state))
    }

    /// The ring for another process, forked off this one, whose cells are to have this end: what the other side and the host write can only be read
    /// there. This process goes on keeping the ring: it holds the end ([`Ring::take`]) for as long as a cell there has it, and says when a life begins.
    ///
    /// # Errors
    /// [`CellError::Hv`] when there are no descriptors.
    pub fn handed_over(&self, role: Role) -> Result<Ring, CellError> {
        let Parts {
            receiver,
            host,
            sender,
        } = &self.0.memory;
        let (receiver, sender) = match role {
            Role::Send => (receiver.to_read()?, sender.clone()),
            Role::Receive => (receiver.clone(), sender.to_read()?),
        };
        let host = host.to_read()?;
        Ok(Ring::of(
            Parts {
                receiver,
                host,
                sender,
            },
            self.0.data,
            None,
        ))
    }

    fn of(memory: Parts, data: u64, state: Option<SharedWord>) -> Ring {
        Ring(Arc::new(Inner {
            memory,
            data,
            state,
            sides: Mutex::default(),
            bells: Default::default(),
        }))
    }

    /// Bytes of its data.
    pub fn data(&self) -> u64 {
        self.0.data
    }

    /// What must stay open for cells to have it.
    pub fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let Parts {
            receiver,
            host,
            sender,
        } = &self.0.memory;
        [receiver, host, sender].into_iter().map(Shared::descriptor)
    }

    /// Takes an end; `None` while another cell has it.
    pub fn take(&self, role: Role) -> Option<RingHold> {
        let taken = std::mem::replace(&mut self.sides().taken[role as usize], true);
        (!taken).then(|| RingHold {
            end: self.end(role),
            has_begun: false,
        })
    }

    /// One of its ends.
    pub fn end(&self, role: Role) -> RingEnd {
        RingEnd {
            ring: self.clone(),
            role,
        }
    }

    fn sides(&self) -> MutexGuard<'_, Sides> {
        self.0.sides.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_kept_here(&self) -> bool {
        self.0.state.is_some()
    }

    fn say(&self, state: State) {
        if let Some(word) = &self.0.state {
            word.store(state.to_word());
        }
    }

    fn bell(&self, role: Role) -> &Bell {
        &self.0.bells[role as usize]
    }

    /// Has nothing of what was sent be left, while neither side takes what is there for good.
    fn empty(&self, sides: &mut Sides) -> Result<(), CellError> {
        let epoch = |sides: &Sides| sides.state.epoch.wrapping_add(1);
        sides.state = State {
            epoch: epoch(sides),
            ..State::default()
        };
        self.say(sides.state);
        let memory = &self.0.memory;
        memory.receiver.empty(0, PAGE_SIZE)?;
        memory.sender.empty(0, sender_bytes(self.0.data))?;
        sides.state.epoch = epoch(sides);
        self.say(sides.state);
        Ok(())
    }
}

impl RingHold {
    /// The end.
    pub fn end(&self) -> &RingEnd {
        &self.end
    }

    /// Begins a life of this side. Its cell must not run meanwhile. Where another process keeps the ring, that one does the same before the cell runs.
    ///
    /// # Errors
    /// [`CellError::Hv`] when the ring could not be emptied; nothing passes through it any more then.
    pub fn begin(&mut self) -> Result<(), CellError> {
        let RingEnd { ring, role } = &self.end;
        let (own, other) = (*role as usize, role.other() as usize);
        self.has_begun = true;
        ring.bell(*role).rung.store(false, Ordering::SeqCst);
        if !ring.is_kept_here() {
            return Ok(());
        }
        {
            let mut sides = ring.sides();
            // A sender that finds the end of a receiver from before it has nobody to hear that from: whoever comes next is another.
            let comes_after = *role == Role::Send && sides.state.has_ended(Role::Receive);
            if sides.begun[own] || comes_after {
                ring.empty(&mut sides)?;
                // One that has ended is not expected to go on; whoever comes after it begins.
                sides.begun[other] &= sides.taken[other];
            }
            sides.begun[own] = true;
        }
        ring.bell(role.other()).ring();
        Ok(())
    }
}

impl Drop for RingHold {
    fn drop(&mut self) {
        let RingEnd { ring, role } = &self.end;
        {
            let mut sides = ring.sides();
            sides.taken[*role as usize] = false;
            if self.has_begun {
                sides.state.ended[*role as usize] = true;
                ring.say(sides.state);
            }
        }
        self.end.set_waker(None);
        if ring.is_kept_here() {
            ring.bell(role.other()).ring();
        }
    }
}

impl PartialEq for RingEnd {
    fn eq(&self, other: &RingEnd) -> bool {
        self.role == other.role && Arc::ptr_eq(&self.ring.0, &other.ring.0)
    }
}

impl Eq for RingEnd {}

impl RingEnd {
    /// Which end.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Bytes of the ring's data.
    pub fn data(&self) -> u64 {
        self.ring.0.data
    }

    /// Who is woken when the other side rings.
    pub fn set_waker(&self, waker: Option<Waker>) {
        let bell = self.ring.bell(self.role);
        let old = std::mem::replace(&mut *bell.waker(), waker);
        drop(old);
    }

    /// Whether the other side has rung since this one waited last.
    pub fn is_rung(&self) -> bool {
        self.ring.bell(self.role).rung.load(Ordering::SeqCst)
    }

    /// The same, and the bell is still again.
    pub(crate) fn take_ring(&self) -> bool {
        self.ring.bell(self.role).rung.swap(false, Ordering::SeqCst)
    }

    /// Wakes the other side.
    pub(crate) fn wake_other(&self) {
        self.ring.bell(self.role.other()).ring();
    }

    /// Gives a VM the two parts of this end, the readable one at `readable`, the writable one at `writable`.
    pub(crate) fn map(&self, vm: &mut Vm, readable: u64, writable: u64) -> Result<(), CellError> {
        let Parts {
            receiver,
            host,
            sender,
        } = &self.ring.0.memory;
        let (read_from, _) = self.role.readable(self.data());
        let (write_from, write_bytes) = self.role.writable(self.data());
        for (memory, offset, bytes) in [
            (receiver, RECEIVER_PAGE, PAGE_SIZE),
            (host, HOST_PAGE, PAGE_SIZE),
            (sender, SENDER_PAGE, sender_bytes(self.data())),
        ] {
            let is_own = (write_from..write_from + write_bytes).contains(&offset);
            let (start, access) = match is_own {
                true => (writable + (offset - write_from), SharedAccess::Write),
                false => (readable + (offset - read_from), SharedAccess::Read),
            };
            vm.add_shared(start, memory, 0, bytes, access)?;
        }
        Ok(())
    }
}

/// Bytes that a sender writes: its page and the data.
const fn sender_bytes(data: u64) -> u64 {
    (DATA - SENDER_PAGE).saturating_add(data)
}

impl Bell {
    fn ring(&self) {
        self.rung.store(true, Ordering::SeqCst);
        let waker = self.waker().clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use muscle_abi::ring::DATA_MIN;

    use super::*;

    fn ring() -> Ring {
        Ring::new(DATA_MIN).expect("there is memory")
    }

    fn state(ring: &Ring) -> State {
        ring.sides().state
    }

    #[test]
    fn one_cell_at_a_time_has_an_end() {
        let ring = ring();
        let first = ring.take(Role::Send).expect("is free");
        assert!(ring.take(Role::Send).is_none());
        let _other = ring.take(Role::Receive).expect("is the other end");
        drop(first);
        let again = ring.take(Role::Send);
        assert!(again.is_some());
        assert_eq!(state(&ring), State::default(), "nobody had begun");
    }

    #[test]
    fn first_lives_leave_the_ring_and_second_ones_empty_it() {
        let ring = ring();
        let (mut sender, mut receiver) = (
            ring.take(Role::Send).expect("a"),
            ring.take(Role::Receive).expect("b"),
        );
        sender.begin().expect("begins");
        receiver.begin().expect("begins");
        assert_eq!(state(&ring).epoch, 0);
        receiver.begin().expect("begins anew");
        assert_eq!(state(&ring).epoch, 2);
        sender.begin().expect("begins anew");
        assert_eq!(state(&ring).epoch, 4);
        drop(sender);
        assert_eq!(state(&ring).ended, [true, false]);
        // Another cell in its place: what the receiver knew is over.
        let mut sender = ring.take(Role::Send).expect("is free");
        sender.begin().expect("begins");
        assert_eq!((state(&ring).epoch, state(&ring).ended), (6, [false, false]));
    }

    #[test]
    fn a_pair_of_cells_after_another_pair_has_one_epoch_whoever_is_first() {
        for first in [Role::Send, Role::Receive] {
            let ring = ring();
            for pair in 0..4u32 {
                let mut one = ring.take(first).expect("is free");
                one.begin().expect("begins");
                let mut two = ring.take(first.other()).expect("is free");
                two.begin().expect("begins");
                assert_eq!(state(&ring).epoch, pair * 2);
                drop(one);
                assert!(state(&ring).has_ended(first) && !state(&ring).has_ended(first.other()));
                drop(two);
            }
        }
    }

    #[test]
    fn a_sender_that_begins_after_a_receivers_end_is_not_told_of_it() {
        let ring = ring();
        let mut receiver = ring.take(Role::Receive).expect("is free");
        receiver.begin().expect("begins");
        drop(receiver);
        assert!(state(&ring).has_ended(Role::Receive));
        let mut sender = ring.take(Role::Send).expect("is free");
        sender.begin().expect("begins");
        assert_eq!((state(&ring).epoch, state(&ring).ended), (2, [false, false]));
        let mut receiver = ring.take(Role::Receive).expect("is free");
        receiver.begin().expect("begins");
        assert_eq!(state(&ring).epoch, 2, "what was sent meanwhile stays");
        // The other way round there may be something left to be received.
        drop(sender);
        drop(receiver);
        let ring = Ring::new(DATA_MIN).expect("there is memory");
        let mut sender = ring.take(Role::Send).expect("is free");
        sender.begin().expect("begins");
        drop(sender);
        ring.take(Role::Receive)
            .expect("is free")
            .begin()
            .expect("begins");
        assert_eq!(state(&ring).epoch, 0);
    }

    #[test]
    fn a_bell_that_rang_before_the_wait_is_heard_and_a_new_life_hears_none_of_the_old_ones() {
        let ring = ring();
        let (mut sender, receiver) = (
            ring.take(Role::Send).expect("a"),
            ring.take(Role::Receive).expect("b"),
        );
        receiver.end().wake_other();
        assert!(sender.end().is_rung() && sender.end().take_ring());
        assert!(!sender.end().take_ring());
        receiver.end().wake_other();
        sender.begin().expect("begins");
        assert!(!sender.end().take_ring());
        assert!(receiver.end().take_ring(), "it is told that something is new");
        drop(sender);
        assert!(receiver.end().take_ring(), "and that there is an end");
    }
    #[test]
    fn what_was_handed_over_keeps_nothing_and_leaves_the_other_side_alone() {
        let ring = ring();
        let far = ring.handed_over(Role::Send).expect("has descriptors");
        let (mut kept, mut receiver) = (
            ring.take(Role::Send).expect("a"),
            ring.take(Role::Receive).expect("b"),
        );
        kept.begin().expect("begins");
        receiver.begin().expect("begins");
        let mut cell = far.take(Role::Send).expect("is free there");
        assert!(far.take(Role::Send).is_none(), "one cell at a time there too");
        for _ in 0..3 {
            cell.begin().expect("is not kept there");
        }
        drop(cell);
        assert_eq!(state(&ring), State::default(), "nothing was said");
        drop(kept);
        assert!(state(&ring).has_ended(Role::Send));
    }

    #[test]
    fn a_process_with_one_end_cannot_write_what_the_other_side_writes() {
        let ring = ring();
        for (role, can_write) in [
            (Role::Send, [false, false, true]),
            (Role::Receive, [true, false, false]),
        ] {
            let far = ring.handed_over(role).expect("has descriptors");
            let written: Vec<bool> = far
                .descriptors()
                .map(|file| rustix::io::pwrite(file, &[0], 0).is_ok())
                .collect();
            assert_eq!(written, can_write, "{role:?}");
        }
    }
}

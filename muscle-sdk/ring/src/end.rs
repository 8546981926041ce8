//! What both ends have in common: the three pages, the epoch, sleeping and waking.

use core::sync::atomic::{AtomicU64, Ordering, fence};

use muscle_abi::ring::{INDEX, Role, SLEEP, SLEEPS, State, UNIT};

use crate::RingError;
use crate::data::Data;

/// How often the other side is looked at before this one sleeps: about as long as falling asleep and being woken takes.
const LOOKS: u32 = 400;

/// How a side waits and wakes.
pub trait Bell {
    /// Waits until the other side wakes this one. A wake that came since the last wait ends it at once. May return earlier.
    fn wait(&mut self);

    /// Wakes the other side.
    fn wake(&mut self);
}

/// A ring's memory as words: three pages, and the data.
#[derive(Debug, Clone, Copy)]
pub struct Memory<'a> {
    /// The receiver's page.
    pub receiver: &'a [AtomicU64],
    /// The host's page.
    pub host: &'a [AtomicU64],
    /// The sender's page.
    pub sender: &'a [AtomicU64],
    /// The data: a power of two words, 2²⁹ at most.
    pub data: &'a [AtomicU64],
}

/// One end.
#[derive(Debug)]
pub(crate) struct End<'a> {
    role: Role,
    own: &'a [AtomicU64],
    other: &'a [AtomicU64],
    host: &'a [AtomicU64],
    pub data: Data<'a>,
    epoch: u32,
    /// The own index in this epoch.
    position: u32,
    /// Number of the last sleep.
    sleep: u32,
    /// The other side's sleep that it was woken from last.
    woken: u64,
    damaged: bool,
}

impl<'a> End<'a> {
    pub(crate) fn new(role: Role, memory: Memory<'a>) -> End<'a> {
        let (own, other) = match role {
            Role::Send => (memory.sender, memory.receiver),
            Role::Receive => (memory.receiver, memory.sender),
        };
        let mut end = End {
            role,
            own,
            other,
            host: memory.host,
            data: Data::new(memory.data),
            epoch: 0,
            position: 0,
            sleep: 0,
            woken: 0,
            damaged: false,
        };
        end.join(end.state().epoch);
        end
    }

    /// Looks whether things are as they were: the epoch is the same, and the other side kept the rules so far. False while the ring is being
    /// emptied; then there is nothing to do but wait.
    ///
    /// # Errors
    /// [`RingError::Reset`] once in each new epoch, [`RingError::Damaged`].
    pub(crate) fn check(&mut self) -> Result<bool, RingError> {
        let state = self.state();
        if state.epoch == self.epoch {
            return match self.damaged {
                true => Err(RingError::Damaged),
                false => Ok(!state.is_unsettled()),
            };
        }
        if state.is_unsettled() {
            return Ok(false);
        }
        // Whoever found the ring being emptied had not begun in any epoch.
        let was_settled = self.epoch.is_multiple_of(2);
        self.join(state.epoch);
        match was_settled {
            true => Err(RingError::Reset),
            false => Ok(true),
        }
    }

    /// Whether the other side has ended, with all that it had written before to be seen by what is read next.
    pub(crate) fn other_has_ended(&self) -> bool {
        let state = self.state();
        state.epoch == self.epoch && state.has_ended(self.role.other())
    }

    /// Units that are in the ring.
    ///
    /// # Errors
    /// [`RingError::Damaged`] when the other side's index says what cannot be.
    pub(crate) fn filled(&mut self) -> Result<u32, RingError> {
        let word = load(self.other, INDEX);
        fence(Ordering::Acquire);
        let [epoch, index] = halves(word);
        // The other side has not come to this epoch yet: it has read, or written, nothing.
        let other = if epoch == self.epoch { index } else { 0 };
        let filled = match self.role {
            Role::Send => self.position.wrapping_sub(other),
            Role::Receive => other.wrapping_sub(self.position),
        };
        match filled <= self.data.units() {
            true => Ok(filled),
            false => Err(self.damage()),
        }
    }

    pub(crate) fn position(&self) -> u32 {
        self.position
    }

    /// Counts the own index up, and wakes the other side if it sleeps.
    pub(crate) fn advance(&mut self, units: u32, bell: &mut impl Bell) {
        self.position = self.position.wrapping_add(units);
        fence(Ordering::Release);
        store(self.own, INDEX, word_of(self.epoch, self.position));
        fence(Ordering::SeqCst);
        let sleeps = load(self.other, SLEEP);
        if sleeps != 0 && sleeps != self.woken {
            self.woken = sleeps;
            bell.wake();
        }
    }

    /// Waits until `look` gives something.
    pub(crate) fn wait<T>(
        &mut self,
        bell: &mut impl Bell,
        mut look: impl FnMut(&mut Self) -> Option<T>,
    ) -> T {
        loop {
            for _ in 0..LOOKS {
                if let Some(found) = look(self) {
                    return found;
                }
                // It sleeps, too, and needs longer to wake than this side to fall asleep.
                if load(self.other, SLEEP) != 0 {
                    break;
                }
                core::hint::spin_loop();
            }
            self.sleep = self.sleep.wrapping_add(1).max(1);
            store(self.own, SLEEPS, word_of(self.epoch, self.sleep));
            store(self.own, SLEEP, word_of(self.epoch, self.sleep));
            fence(Ordering::SeqCst);
            let found = look(self);
            if found.is_none() {
                bell.wait();
            }
            store(self.own, SLEEP, 0);
            if let Some(found) = found {
                return found;
            }
        }
    }

    /// Says that the other side broke the rules, from now on until the ring is emptied.
    pub(crate) fn damage(&mut self) -> RingError {
        self.damaged = true;
        RingError::Damaged
    }

    fn state(&self) -> State {
        let state = State::from_word(load(self.host, 0));
        fence(Ordering::Acquire);
        state
    }

    /// Begins in an epoch, or goes on where this end was in it.
    fn join(&mut self, epoch: u32) {
        let kept = |offset| match halves(load(self.own, offset)) {
            [of, low] if of == epoch => low,
            _ => 0,
        };
        (self.position, self.sleep) = (kept(INDEX), kept(SLEEPS));
        self.epoch = epoch;
        self.damaged = false;
        self.woken = 0;
        store(self.own, INDEX, word_of(epoch, self.position));
        store(self.own, SLEEP, 0);
    }
}

/// A word of a page; a page that is too short has zeros.
fn load(page: &[AtomicU64], offset: u64) -> u64 {
    word_at(page, offset).map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)))
}

fn store(page: &[AtomicU64], offset: u64, value: u64) {
    if let Some(word) = word_at(page, offset) {
        word.store(value.to_le(), Ordering::Relaxed);
    }
}

fn word_at(page: &[AtomicU64], offset: u64) -> Option<&AtomicU64> {
    page.get(usize::try_from(offset).ok()? / UNIT)
}

fn word_of(epoch: u32, low: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(low)
}

/// The high and the low half of a word.
#[allow(clippy::cast_possible_truncation)]
fn halves(word: u64) -> [u32; 2] {
    [(word >> 32) as u32, word as u32]
}

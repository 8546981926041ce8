//! The memory of one worker: how many of its cells may be awake, and how many sleep.
//!
//! The supervisor counts, because it knows which calls it sent; of the cells that rest it knows what it was told when it last asked. What
//! it counts is never less than there is: while it asks, calls that begin or end meanwhile count as both there and at rest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::NodeError;
use crate::memory::{Demand, Memory, Taken};

/// A worker's memory.
#[derive(Debug)]
pub(crate) struct Room {
    demand: Demand,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    taken: Taken,
    /// Calls that have a cell.
    running: u64,
    /// Cells that are or may be awake.
    awake: u64,
    /// Cells in swap.
    asleep: u64,
    /// The most calls at once since the worker was last asked.
    most_since: u64,
}

/// A call's cell, until it is dropped.
#[derive(Debug)]
pub(crate) struct Inside(Arc<Room>);

impl Room {
    /// For a worker of this publisher's, without cells yet.
    ///
    /// # Errors
    /// [`NodeError::Memory`].
    pub(crate) fn open(memory: &Memory, publisher: &str, demand: Demand) -> Result<Room, NodeError> {
        let taken = memory.take(publisher, demand.with(0, 0))?;
        Ok(Room {
            demand,
            held: Mutex::new(Held {
                taken,
                running: 0,
                awake: 0,
                asleep: 0,
                most_since: 0,
            }),
        })
    }

    /// Room for one more call's cell.
    ///
    /// # Errors
    /// [`NodeError::Memory`] when it would be one more than are awake, and there is no room for it.
    pub(crate) fn enter(self: &Arc<Room>) -> Result<Inside, NodeError> {
        let mut held = self.lock();
        let running = held.running + 1;
        if running > held.awake {
            // One that sleeps is taken before one is made.
            let asleep = held.asleep.saturating_sub(1);
            held.taken.change(self.demand.with(running, asleep))?;
            held.awake = running;
            held.asleep = asleep;
        }
        held.running = running;
        held.most_since = held.most_since.max(running);
        drop(held);
        Ok(Inside(Arc::clone(self)))
    }

    /// The worker is about to be asked how many cells rest.
    pub(crate) fn ask(&self) {
        let mut held = self.lock();
        held.most_since = held.running;
    }

    /// What it answered. More cells than it may have are as many as it may have.
    pub(crate) fn answered(&self, awake_at_rest: u64, asleep: u64) {
        let mut held = self.lock();
        let awake = held.most_since.saturating_add(awake_at_rest).min(held.awake);
        // No more sleep than there were.
        let were = held.awake.saturating_add(held.asleep);
        let asleep = asleep.min(were.saturating_sub(awake));
        // That takes less than it did.
        if held.taken.change(self.demand.with(awake, asleep)).is_ok() {
            held.awake = awake;
            held.asleep = asleep;
        }
    }

    /// Whether cells rest that are awake, so that to ask may be of use.
    pub(crate) fn has_cells_at_rest(&self) -> bool {
        let held = self.lock();
        held.awake > held.running
    }

    pub(crate) fn asleep(&self) -> u64 {
        self.lock().asleep
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.lock().taken.bytes()
    }

    /// Gives all of it back: the worker is gone.
    pub(crate) fn close(&self) {
        // Less is always had.
        let _ = self.lock().taken.change(0);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let mut held = self.0.lock();
        held.running = held.running.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::settings::Settings;

    fn room(cells: usize, budget_mib: u64) -> (Memory, Result<Arc<Room>, NodeError>) {
        let mut config = Config::default();
        config.memory.budget_bytes = budget_mib << 20;
        let memory = Memory::new(&config);
        let settings = Settings {
            cells,
            ..Settings::default()
        };
        let assessment = crate::nursery::Assessment {
            memory_bytes: 9 << 20,
            ..crate::nursery::blank_assessment()
        };
        // A cell is 10 MiB, what is beside them 20, the worker 8.
        let demand = Demand::of(&settings, &assessment, 1);
        let room = Room::open(&memory, "acme", demand).map(Arc::new);
        (memory, room)
    }

    fn mib(memory: &Memory) -> u64 {
        memory.figures().taken >> 20
    }

    #[test]
    fn cells_stay_awake_after_their_calls_until_the_worker_says_otherwise() {
        let (memory, room) = room(4, 100);
        let room = room.expect("fits");
        assert_eq!(mib(&memory), 28);
        let two = [room.enter().expect("fits"), room.enter().expect("fits")];
        assert_eq!(mib(&memory), 48);
        drop(two);
        assert_eq!(mib(&memory), 48, "both cells are there");
        assert!(room.has_cells_at_rest());
        room.ask();
        room.answered(0, 2);
        assert_eq!((mib(&memory), room.asleep()), (30, 2));
        assert!(!room.has_cells_at_rest());
        let _one = room.enter().expect("fits");
        assert_eq!((mib(&memory), room.asleep()), (39, 1), "one woke");
        room.close();
        assert_eq!(mib(&memory), 0);
    }

    #[test]
    fn what_begins_while_the_worker_is_asked_counts() {
        let (memory, room) = room(4, 100);
        let room = room.expect("fits");
        let first = room.enter().expect("fits");
        room.ask();
        let second = room.enter().expect("fits");
        drop((first, second));
        room.answered(0, 0);
        assert_eq!(mib(&memory), 48, "both may rest awake");
        // It says that it has more than it can have.
        room.ask();
        room.answered(u64::MAX, u64::MAX);
        assert!(mib(&memory) <= 52, "{}", mib(&memory));
    }

    #[test]
    fn without_room_nothing_changes() {
        let (memory, room) = room(4, 45);
        let room = room.expect("fits");
        let _one = room.enter().expect("fits");
        let refused = room.enter().expect_err("does not fit");
        assert!(matches!(refused, NodeError::Memory { .. }), "{refused}");
        assert_eq!(mib(&memory), 38);
        drop(room);
    }

    #[test]
    fn a_worker_without_room_for_itself_is_not_made() {
        let (memory, room) = room(4, 27);
        assert!(matches!(room, Err(NodeError::Memory { .. })));
        assert_eq!(mib(&memory), 0);
    }
}

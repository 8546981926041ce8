//! A ring: memory that two cells see, through which one of them sends messages to the other.
//!
//! ```text
//!   offset in the ring      what                              the sender may    the receiver may
//!   0x0000  receiver page   how far it has read, its sleep    read              read and write
//!   0x1000  host page       epoch, who has ended              read              read
//!   0x2000  sender page     how far it has written, its sleep read and write    read
//!   0x3000  data            messages; a power of two long     read and write    read
//! ```
//! A cell has its ring in two parts, one that it may only read and one that it may write too, with one page between them that is
//! mapped nowhere:
//!
//! ```text
//!   sender    base: receiver page, host page │ sender page, data
//!   receiver  base: receiver page │ host page, sender page, data
//! ```
//! Words are 64 bits. In receiver and sender page the first is the *index*: epoch in the high half, and in the low half how many units of
//! 8 bytes were read, or written, in this epoch, counted around at 2³². The word at [`SLEEP`] is 0, or, while the side sleeps, epoch and a
//! number that is another for each sleep. The first word of the host page is the [`State`].
//!
//! A message is a word with its length in bytes, then its bytes, filled up to whole units. It may wrap around the data's end. Its writer
//! counts its index up only when all of it is there.

use crate::PAGE_SIZE;

/// Least bytes of data.
pub const DATA_MIN: u64 = 4 << 10;
/// Most bytes of data.
pub const DATA_MAX: u64 = 64 << 20;
/// Most rings of one muscle.
pub const RINGS_MAX: usize = 8;
/// Bytes of a unit: in these, indices count.
pub const UNIT: usize = 8;

/// Where the receiver's page is in a ring.
pub const RECEIVER_PAGE: u64 = 0;
/// Where the host's page is.
pub const HOST_PAGE: u64 = PAGE_SIZE;
/// Where the sender's page is.
pub const SENDER_PAGE: u64 = 2 * PAGE_SIZE;
/// Where the data begins.
pub const DATA: u64 = 3 * PAGE_SIZE;

/// Offset of the index in the page of a side.
pub const INDEX: u64 = 0;
/// Offset of the sleep word in the page of a side: on a cache line of its own.
pub const SLEEP: u64 = 64;
/// Offset of the word in which a side keeps the number of its last sleep, with the epoch. Nobody else reads it.
pub const SLEEPS: u64 = 72;

/// Which end of a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u64)]
pub enum Role {
    /// Messages go in here.
    Send = 0,
    /// Messages come out here.
    Receive = 1,
}

impl Role {
    /// The role with this number, if there is one.
    pub const fn from_number(number: u64) -> Option<Role> {
        match number {
            0 => Some(Role::Send),
            1 => Some(Role::Receive),
            _ => None,
        }
    }

    /// Its name in manifests and policies.
    pub const fn name(self) -> &'static str {
        match self {
            Role::Send => "send",
            Role::Receive => "receive",
        }
    }

    /// The other end.
    pub const fn other(self) -> Role {
        match self {
            Role::Send => Role::Receive,
            Role::Receive => Role::Send,
        }
    }

    /// The part that this end may only read, as offset and length in a ring with `data` bytes of data.
    pub const fn readable(self, data: u64) -> (u64, u64) {
        match self {
            Role::Send => (RECEIVER_PAGE, SENDER_PAGE),
            Role::Receive => (HOST_PAGE, DATA - HOST_PAGE + data),
        }
    }

    /// The part that this end may write, as offset and length.
    pub const fn writable(self, data: u64) -> (u64, u64) {
        match self {
            Role::Send => (SENDER_PAGE, DATA - SENDER_PAGE + data),
            Role::Receive => (RECEIVER_PAGE, HOST_PAGE),
        }
    }

    /// Where in the cell's addresses, from the base on, the byte at `offset` of the ring is: behind the gap for the second part.
    pub const fn place_of(self, offset: u64) -> u64 {
        let first = match self {
            Role::Send => SENDER_PAGE,
            Role::Receive => HOST_PAGE,
        };
        if offset < first {
            offset
        } else {
            offset + PAGE_SIZE
        }
    }
}

/// Whether a ring may have so many bytes of data: a power of two within the bounds.
pub const fn is_data_size(bytes: u64) -> bool {
    bytes.is_power_of_two() && bytes >= DATA_MIN && bytes <= DATA_MAX
}

/// Where a cell has its end of a ring: what [`crate::capability::GrantEntry::detail`] says of a grant of this kind.
///
/// ```text
///   63        12  11 … 7   6      5       0
///   base's page   0        role   log₂ of the data's length
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Virtual address of the first part.
    pub base: u64,
    /// Which end.
    pub role: Role,
    /// Bytes of data.
    pub data: u64,
}

impl Place {
    /// The place as a number.
    pub const fn to_detail(self) -> u64 {
        self.base | ((self.role as u64) << 6) | self.data.trailing_zeros() as u64
    }

    /// The place that a number says; `None` when it says none.
    pub const fn from_detail(detail: u64) -> Option<Place> {
        let low = detail % PAGE_SIZE;
        let Some(role) = Role::from_number(low >> 6) else {
            return None;
        };
        let data = 1 << (low & 0x3f);
        if !is_data_size(data) {
            return None;
        }
        Some(Place {
            base: detail - low,
            role,
            data,
        })
    }
}

/// What the host says about a ring.
///
/// ```text
///   bits  0 to 31   epoch: counted up twice whenever the ring is emptied; odd while that is done
///   bit  32         the sender has ended        33  the receiver has ended
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct State {
    /// The epoch.
    pub epoch: u32,
    /// Whether the sender, and whether the receiver has ended in this epoch.
    pub ended: [bool; 2],
}

impl State {
    /// The state as a word.
    pub const fn to_word(self) -> u64 {
        let [sender, receiver] = self.ended;
        self.epoch as u64 | (sender as u64) << 32 | (receiver as u64) << 33
    }

    /// The state that a word says. Its unused bits mean nothing.
    #[allow(clippy::cast_possible_truncation)]
    pub const fn from_word(word: u64) -> State {
        State {
            epoch: word as u32,
            ended: [word >> 32 & 1 == 1, word >> 33 & 1 == 1],
        }
    }

    /// Whether a side has ended.
    pub const fn has_ended(self, role: Role) -> bool {
        self.ended[role as usize]
    }

    /// Whether the ring is being emptied at this moment.
    pub const fn is_unsettled(self) -> bool {
        self.epoch % 2 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_an_end_are_all_of_the_ring_and_do_not_overlap() {
        for data in [DATA_MIN, 1 << 20, DATA_MAX] {
            for role in [Role::Send, Role::Receive] {
                let (first, second) = match role {
                    Role::Send => (role.readable(data), role.writable(data)),
                    Role::Receive => (role.writable(data), role.readable(data)),
                };
                assert_eq!(first.0, 0);
                assert_eq!(first.1, second.0);
                assert_eq!(second.0 + second.1, DATA + data);
                assert_eq!(role.place_of(first.1 - 1), first.1 - 1);
                assert_eq!(role.place_of(second.0), second.0 + PAGE_SIZE);
            }
            // What one end writes the other only reads, and the host's page neither writes.
            let (sender, receiver) = (Role::Send.writable(data), Role::Receive.writable(data));
            assert!(receiver.0 + receiver.1 <= HOST_PAGE && HOST_PAGE + PAGE_SIZE <= sender.0);
        }
    }

    #[test]
    fn places_and_states_survive_a_round_trip() {
        for role in [Role::Send, Role::Receive] {
            for order in 12..=26 {
                let place = Place {
                    base: 0x7f00_1234_5000,
                    role,
                    data: 1 << order,
                };
                assert_eq!(Place::from_detail(place.to_detail()), Some(place));
            }
            assert_eq!(Role::from_number(role as u64), Some(role));
            assert_eq!(role.other().other(), role);
        }
        for bad in [
            0,
            0x5000 | 11,
            0x5000 | 27,
            0x5000 | 63,
            0x5000 | (2 << 6) | 12,
            0x5fff,
        ] {
            assert_eq!(Place::from_detail(bad), None, "{bad:#x}");
        }
        for ended in [[false, false], [true, false], [false, true], [true, true]] {
            let state = State {
                epoch: u32::MAX,
                ended,
            };
            assert_eq!(State::from_word(state.to_word()), state);
            assert_eq!(State::from_word(state.to_word() | 1 << 63), state);
        }
    }
}

//! A cell's console as a client's stream: bytes come in with a piece of the call and go out with it.
//!
//! ```text
//!   Run { flow } ─► feed ─► console.in   reads what there is; nothing left: Interrupted, and the piece ends with Waits(Input)
//!                           console.out  writes into the room; none left:   Interrupted, and the piece ends with Waits(Room)
//!   Stopped { output } ◄─ take
//! ```
//! So a thread never waits for a client, and no more is kept here than one piece may bring and take.

use std::io::{self, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::line::{Flow, Wants};

/// The streams of one cell's calls, one after another. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct StreamLine(Arc<Mutex<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    /// Whether the present call has a stream.
    is_open: bool,
    input: Vec<u8>,
    /// How much of it the muscle has read.
    read: usize,
    /// Whether nothing follows it.
    is_last: bool,
    output: Vec<u8>,
    room: usize,
    wants: Option<Wants>,
}

/// A cell's standard input: at its end from the start in a call without a stream.
pub(super) struct StreamInput(pub StreamLine);

impl StreamLine {
    /// Forgets the call before, and says whether the one that begins has a stream.
    pub(super) fn begin(&self, is_open: bool) {
        *self.lock() = Ends {
            is_open,
            ..Ends::default()
        };
    }

    /// Takes what a piece begins with.
    pub(super) fn feed(&self, flow: Flow) {
        let mut ends = self.lock();
        if !flow.input.is_empty() {
            let read = std::mem::take(&mut ends.read);
            ends.input.drain(..read);
            ends.input.extend_from_slice(&flow.input);
        }
        ends.is_last |= flow.ended;
        ends.room = usize::try_from(flow.room).unwrap_or(usize::MAX);
        ends.wants = None;
    }

    /// What a piece ends with: what was written in it, and what the muscle waits for.
    pub(super) fn take(&self) -> (Vec<u8>, Option<Wants>) {
        let mut ends = self.lock();
        (std::mem::take(&mut ends.output), ends.wants.take())
    }

    /// Writes as much as there is room for; `None` when the call has no stream.
    pub(super) fn write(&self, bytes: &[u8]) -> Option<io::Result<usize>> {
        let mut ends = self.lock();
        if !ends.is_open {
            return None;
        }
        let room = ends.room.saturating_sub(ends.output.len());
        if room == 0 && !bytes.is_empty() {
            ends.wants = Some(Wants::Room);
            return Some(Err(io::ErrorKind::Interrupted.into()));
        }
        let taken = bytes.get(..room).unwrap_or(bytes);
        ends.output.extend_from_slice(taken);
        Some(Ok(taken.len()))
    }

    /// No change of what is locked here can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Read for StreamInput {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let mut ends = self.0.lock();
        let there = ends.input.get(ends.read..).unwrap_or(&[]);
        let taken = there.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..taken), there.get(..taken)) {
            to.copy_from_slice(from);
        }
        ends.read += taken;
        if taken == 0 && !to.is_empty() && ends.is_open && !ends.is_last {
            ends.wants = Some(Wants::Input);
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(input: &[u8], ended: bool, room: u32) -> Flow {
        Flow {
            input: input.to_vec(),
            ended,
            room,
        }
    }

    fn interrupted<T: std::fmt::Debug>(result: io::Result<T>) -> bool {
        result.is_err_and(|error| error.kind() == io::ErrorKind::Interrupted)
    }

    #[test]
    fn input_is_read_piece_by_piece_until_its_end() {
        let line = StreamLine::default();
        let mut input = StreamInput(line.clone());
        line.begin(true);
        line.feed(flow(b"", false, 0));
        let mut to = [0; 4];
        assert!(interrupted(input.read(&mut to)));
        assert_eq!(line.take(), (Vec::new(), Some(Wants::Input)));
        line.feed(flow(b"abcdef", false, 0));
        assert_eq!(input.read(&mut []).expect("nothing was wanted"), 0);
        assert_eq!(input.read(&mut to).expect("is there"), 4);
        // A piece that ended for another reason: what is left is still there.
        assert_eq!(line.take(), (Vec::new(), None));
        line.feed(flow(b"g", true, 0));
        assert_eq!(
            (input.read(&mut to).expect("is there"), &to[..3]),
            (3, &b"efg"[..])
        );
        assert_eq!(input.read(&mut to).expect("is its end"), 0);
        assert_eq!(line.take(), (Vec::new(), None));
    }

    #[test]
    fn output_is_no_more_than_there_is_room_for() {
        let line = StreamLine::default();
        line.begin(true);
        line.feed(flow(b"", false, 3));
        assert_eq!(line.write(b"12345").expect("is open").expect("fits"), 3);
        assert!(interrupted(line.write(b"45").expect("is open")));
        assert_eq!(line.write(b"").expect("is open").expect("is nothing"), 0);
        assert_eq!(line.take(), (b"123".to_vec(), Some(Wants::Room)));
        line.feed(flow(b"", false, 3));
        assert_eq!(line.write(b"45").expect("is open").expect("fits"), 2);
        assert_eq!(line.take(), (b"45".to_vec(), None));
    }

    #[test]
    fn a_call_without_a_stream_has_neither_and_nothing_of_the_one_before() {
        let line = StreamLine::default();
        line.begin(true);
        line.feed(flow(b"secret", false, 9));
        assert_eq!(line.write(b"secret").expect("is open").expect("fits"), 6);
        for is_open in [false, true] {
            line.begin(is_open);
            assert_eq!(line.take(), (Vec::new(), None));
        }
        line.begin(false);
        assert!(line.write(b"x").is_none());
        assert_eq!(StreamInput(line).read(&mut [0; 4]).expect("is its end"), 0);
    }
}

//! Keeping the muscle of an idle cell as it stands.

use std::io::{self, Write};
use std::time::Duration;

use referee::{CellThread, NoSnapshot};

use super::{Work, lock};
use crate::error::with_causes;
use crate::line::{FromWorker, NotKept, SNAPSHOT_PIECE_MAX};

/// How long a muscle that has answered, and does not wait for a call yet, may run until it does. It has no slot of the host for that.
const TO_REST: Duration = Duration::from_millis(10);

impl Work {
    /// Sends the muscle of the one cell, if that is idle.
    pub(super) fn keep(&self, thread: &CellThread) {
        let seat = lock(&self.idle).pop();
        let Some(mut seat) = seat else {
            return self.tell(&FromWorker::Kept {
                refused: Some(NotKept::NoCell),
            });
        };
        if std::mem::take(&mut seat.asleep) {
            seat.cell.page_in();
        }
        let refused = match seat.cell.snapshot_within(thread, Some(TO_REST)) {
            Ok(snapshot) => {
                let mut pieces = Pieces {
                    work: self,
                    bytes: Vec::with_capacity(SNAPSHOT_PIECE_MAX),
                };
                // A line that is broken ends the process.
                let _ = snapshot.write_to(&mut pieces).and_then(|()| pieces.flush());
                None
            }
            Err(NoSnapshot::Unsound(unsound)) => Some(NotKept::Unsound(unsound.to_string())),
            Err(NoSnapshot::Call(error)) => Some(NotKept::Over(with_causes(&error))),
        };
        // Before the supervisor hears of it and lets the next call have the cell.
        if !seat.cell.is_over() {
            lock(&self.idle).push(seat);
        }
        self.tell(&FromWorker::Kept { refused });
    }
}

/// What is sent in messages of the largest size.
struct Pieces<'a> {
    work: &'a Work,
    bytes: Vec<u8>,
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = SNAPSHOT_PIECE_MAX.saturating_sub(self.bytes.len());
        let (now, _) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        self.bytes.extend_from_slice(now);
        if self.bytes.len() == SNAPSHOT_PIECE_MAX {
            self.flush()?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            let message = FromWorker::Snapshot {
                bytes: std::mem::replace(&mut self.bytes, Vec::with_capacity(SNAPSHOT_PIECE_MAX)),
            };
            self.work.tell(&message);
        }
        Ok(())
    }
}

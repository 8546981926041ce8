//! What comes out of a worker's cells without being a call's result: output, and the bells of rings.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use crate::line::{FromWorker, OUTPUT_MAX, frame};
use crate::worker::hands::lock;
use crate::worker::stream::StreamLine;

/// Tells the supervisor that a muscle rings: at most once until the other side has heard it, however often the muscle does.
#[derive(Debug)]
pub(super) struct LineBell {
    writer: Arc<Mutex<UnixStream>>,
    slot: String,
    rung: Mutex<Rung>,
}

/// What of a bell is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Still,
    /// The supervisor was told, and the other side has not heard it.
    Told,
    /// The same, and the muscle has rung since.
    Again,
}

impl LineBell {
    pub(super) fn new(writer: &Arc<Mutex<UnixStream>>, slot: &str) -> LineBell {
        LineBell {
            writer: Arc::clone(writer),
            slot: slot.to_owned(),
            rung: Mutex::new(Rung::Still),
        }
    }

    /// The slot of its ring.
    pub(super) fn slot(&self) -> &str {
        &self.slot
    }

    /// The other side has heard what was said last.
    pub(super) fn heard(&self) {
        let is_due = {
            let mut rung = lock(&self.rung);
            let was = std::mem::replace(&mut *rung, Rung::Still);
            if was == Rung::Again {
                *rung = Rung::Told;
            }
            was == Rung::Again
        };
        if is_due {
            self.tell();
        }
    }

    fn tell(&self) {
        let slot = self.slot.clone();
        if let Ok(frame) = frame(&FromWorker::Rings { slot }) {
            // When the supervisor is gone this worker ends with the next thing that it says.
            let _ = lock(&self.writer).write_all(&frame);
        }
    }
}

impl Wake for LineBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let is_first = {
            let mut rung = lock(&self.rung);
            let was = *rung;
            *rung = match was {
                Rung::Still => Rung::Told,
                Rung::Told | Rung::Again => Rung::Again,
            };
            was == Rung::Still
        };
        if is_first {
            self.tell();
        }
    }
}

/// Takes a muscle's output to the client of its stream, or to the supervisor, who keeps the last of it.
#[derive(Debug)]
pub(super) struct LineOutput {
    pub(super) writer: Arc<Mutex<UnixStream>>,
    pub(super) call: Arc<AtomicU64>,
    pub(super) errors: bool,
    pub(super) stream: StreamLine,
}

impl Write for LineOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.errors
            && let Some(streamed) = self.stream.write(bytes)
        {
            return streamed;
        }
        let taken = bytes.get(..OUTPUT_MAX).unwrap_or(bytes);
        let output = FromWorker::Output {
            call: self.call.load(Ordering::Relaxed),
            errors: self.errors,
            bytes: taken.to_vec(),
        };
        lock(&self.writer).write_all(&frame(&output)?)?;
        Ok(taken.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::line::read;

    /// What was told so far.
    fn told(supervisor: &mut UnixStream) -> usize {
        let (mut buffer, mut count) = (Vec::new(), 0);
        while let Ok(Some(FromWorker::Rings { slot })) = read(supervisor, &mut buffer) {
            assert_eq!(slot, "out");
            count += 1;
        }
        count
    }

    #[test]
    fn a_bell_is_told_once_until_it_is_heard_and_no_ring_is_lost() {
        let (ours, mut supervisor) = UnixStream::pair().expect("a pair");
        supervisor.set_nonblocking(true).expect("is set");
        let bell = Arc::new(LineBell::new(&Arc::new(Mutex::new(ours)), "out"));
        assert_eq!(told(&mut supervisor), 0);
        // What nobody waits to hear is no bell.
        bell.heard();
        for round in 0..3 {
            for _ in 0..100 {
                bell.wake_by_ref();
            }
            assert_eq!(told(&mut supervisor), usize::from(round == 0), "{round}");
            bell.heard();
            assert_eq!(told(&mut supervisor), 1, "{round}: it rang since");
        }
        bell.heard();
        assert_eq!(told(&mut supervisor), 0, "it did not ring since");
        bell.wake_by_ref();
        assert_eq!(told(&mut supervisor), 1);
    }
}

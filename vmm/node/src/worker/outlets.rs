//! What comes out of a worker's cells without being a call's result: output, and the bells of rings.

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::Wake;

use crate::line::{FromWorker, OUTPUT_MAX, frame};
use crate::worker::hands::lock;
use crate::worker::stream::StreamLine;

/// Tells the supervisor that a muscle rings.
#[derive(Debug)]
pub(super) struct LineBell {
    pub(super) writer: Arc<Mutex<UnixStream>>,
    pub(super) slot: String,
}

impl Wake for LineBell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let slot = self.slot.clone();
        if let Ok(frame) = frame(&FromWorker::Rings { slot }) {
            // When the supervisor is gone this worker ends with the next thing that it says.
            let _ = lock(&self.writer).write_all(&frame);
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

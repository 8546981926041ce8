//! The lanes: small calls of a host that polls, and their answers, past the queues ([`muscle_abi::channel::CALL_LANE_OFFSET`]).

use muscle_abi::channel::{ANSWER_LANE_OFFSET, CALL_LANE_OFFSET, LANE_FRAME, LANE_FRAME_MAX, LANE_READ};
use muscle_abi::frame::HEADER_SIZE;

use crate::size::size;
use crate::window::Window;

/// The muscle's side of both lanes.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Number of the last call that was taken.
    seen: u32,
    announced: bool,
}

impl Lane {
    /// Tells the host that calls are read here from now on.
    pub(super) fn announce(&mut self, window: &Window) {
        // Not each time: the host polls the line of cache that the word is in.
        if !self.announced {
            window.store_u32(ANSWER + size(LANE_READ), 1);
            self.announced = true;
        }
    }

    /// Whether a call waits.
    pub(super) fn has_call(&self, window: &Window) -> bool {
        window.load_u32(CALL) != self.seen
    }

    /// Copies the frame of a call that waits; its length.
    pub(super) fn take(&mut self, window: &Window, frame: &mut [u8; LANE_FRAME_MAX]) -> Option<usize> {
        let number = window.load_u32(CALL);
        if number == self.seen {
            return None;
        }
        self.seen = number;
        let body = window.read_u32(CALL + size(LANE_FRAME)) as usize;
        let length = HEADER_SIZE.saturating_add(body).min(LANE_FRAME_MAX);
        window.copy_out(CALL + size(LANE_FRAME), &mut frame[..length]);
        Some(length)
    }

    /// Answers the call that was taken last; false, and nothing has happened, when the frame finds no room.
    pub(super) fn answer(&self, window: &Window, parts: &[&[u8]]) -> bool {
        if parts.iter().map(|part| part.len()).sum::<usize>() > LANE_FRAME_MAX {
            return false;
        }
        let mut at = ANSWER + size(LANE_FRAME);
        for part in parts {
            window.copy_in(at, part);
            at += part.len();
        }
        window.store_u32(ANSWER, self.seen);
        true
    }
}

const CALL: usize = size(CALL_LANE_OFFSET);
const ANSWER: usize = size(ANSWER_LANE_OFFSET);

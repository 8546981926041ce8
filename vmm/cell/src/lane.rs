//! The lanes: a small call of a hot cell and its answer, past the queues.
//!
//! ```text
//!   window + CALL_LANE_OFFSET     number │      │ frame        the host writes: frame, then (release) number
//!          + ANSWER_LANE_OFFSET   number │ reads │ frame        the muscle writes: frame, then (release) number
//! ```
//! A packet through a queue moves six to eight lines of cache from core to core, each way, and each costs what a whole ping-pong does by half. A call by the
//! lane moves one each way ([ADR 36](../../../docs/adr/0036-lanes.md)).
//!
//! What the muscle writes is copied once, and the copy checked. The number is found by looking at the one that stands there, so that nothing needs to be known
//! of earlier lives; that is the muscle's to write too, which can mislead only itself: what it answers is an answer if it is a frame with the open call's id.

use std::sync::atomic::Ordering;

use muscle_abi::channel::{ANSWER_LANE_OFFSET, CALL_LANE_OFFSET, LANE_FRAME, LANE_FRAME_MAX, LANE_READ};
use muscle_abi::frame::{FrameError, FrameHeader, HEADER_SIZE};
use referee_hv::Memory;
use vm_memory::{Bytes, GuestAddress};

use crate::layout::WINDOW_GPA;

const CALL: GuestAddress = GuestAddress(WINDOW_GPA + CALL_LANE_OFFSET);
const CALL_FRAME: GuestAddress = GuestAddress(WINDOW_GPA + CALL_LANE_OFFSET + LANE_FRAME);
const ANSWER: GuestAddress = GuestAddress(WINDOW_GPA + ANSWER_LANE_OFFSET);
const READS: GuestAddress = GuestAddress(WINDOW_GPA + ANSWER_LANE_OFFSET + LANE_READ);
const ANSWER_FRAME: GuestAddress = GuestAddress(WINDOW_GPA + ANSWER_LANE_OFFSET + LANE_FRAME);
const ANSWER_BODY: GuestAddress = GuestAddress(ANSWER_FRAME.0 + HEADER_SIZE as u64);
/// Most bytes of name and payload of a frame in a lane.
#[allow(clippy::cast_possible_truncation, reason = "is 288")]
const BODY_MAX: u32 = (LANE_FRAME_MAX - HEADER_SIZE) as u32;

/// Puts the frame of a call into the lane, if the muscle reads it and the frame fits; the number that it then has.
pub(crate) fn put(memory: &Memory, frame: &[u8]) -> Option<u32> {
    if frame.len() > LANE_FRAME_MAX || word(memory, READS) != Some(1) {
        return None;
    }
    let number = word(memory, CALL)?.wrapping_add(1);
    memory.write_slice(frame, CALL_FRAME).ok()?;
    memory.store(number.to_le(), CALL, Ordering::Release).ok()?;
    Some(number)
}

/// Whether the call with this number is answered in the lane. What the muscle wrote before is visible then.
pub(crate) fn is_answered(memory: &Memory, number: u32) -> bool {
    word(memory, ANSWER) == Some(number)
}

/// Reads the frame of an answer: its header, and its payload into `payload`.
pub(crate) fn read(memory: &Memory, payload: &mut Vec<u8>) -> Result<FrameHeader, FrameError> {
    let mut header = [0; HEADER_SIZE];
    // The window is there as long as the cell is; bytes that were not read are no frame.
    let _ = memory.read_slice(&mut header, ANSWER_FRAME);
    let header = FrameHeader::parse(&header, BODY_MAX)?;
    payload.clear();
    payload.resize(header.body_len(), 0);
    let _ = memory.read_slice(payload, ANSWER_BODY);
    Ok(header)
}

fn word(memory: &Memory, at: GuestAddress) -> Option<u32> {
    memory.load(at, Ordering::Acquire).ok().map(u32::from_le)
}

//! The line of calls between supervisor and worker: what each may say, and how it is framed.
//!
//! ```text
//!   length u32 LE │ postcard of ToWorker or FromWorker
//! ```
//! Both ends are the same program, so the form has no versions. The supervisor believes a worker nothing: what it reads is bounded here
//! and checked where it is used.

use std::io::{self, Read};
use std::time::Duration;

use referee_policy::{Loan, Narrowing};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::channel::{Answered, Delegating, Sending};
use crate::vouching::{Asking, TpmAnswer};

/// Most bytes of a frame: an RPC frame of the largest size and what is around it.
pub(crate) const FRAME_MAX: usize = (16 << 20) + 4096;

/// Most bytes of output in one message.
pub(crate) const OUTPUT_MAX: usize = 32 << 10;

/// Most bytes of a snapshot in one message.
pub(crate) const SNAPSHOT_PIECE_MAX: usize = 256 << 10;

/// Most bytes of a stream that a piece begins with, and that wait for it; as many as a muscle has in one use of its console.
pub(crate) const FLOW_IN_MAX: usize = 256 << 10;

/// Most bytes of a stream that a piece ends with.
pub(crate) const FLOW_OUT_MAX: u32 = 128 << 10;

/// From the supervisor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ToWorker {
    /// Let a call run for a while.
    Run {
        call: u64,
        with: With,
        /// What there is of its stream; none if its console is no client's.
        flow: Option<Flow>,
        budget: Option<Duration>,
        /// Whether its thread lets others of the host go first now and then, as somebody was promised time.
        makes_way: bool,
        /// Whether its steps are wanted.
        traced: bool,
    },
    /// End a call's present piece as if its budget were over. One that does not run is left alone.
    Preempt { call: u64 },
    /// Give a call up; its next piece, or the present one, ends it.
    Cancel { call: u64 },
    /// Have cells rest that nobody has called for so long, and say how many there are.
    Rest { idle: Duration, how: Rest },
    /// Take a grant back from every cell, or make it smaller, and say when that is in force.
    Restrict { number: u64, restriction: Restriction },
    /// The other side has heard the last bell of the ring in this slot: the next one may be said.
    Heard { slot: String },
    /// Have every cell have what is lent to a slot now, and say when that is in force, as of a restriction.
    Lend { number: u64, slot: String, loan: Loan },
    /// Keep the muscle of its one cell, which runs no call, as it stands, and send it in pieces.
    Keep,
}

/// What becomes of a cell that nobody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Rest {
    /// Its memory goes to the host's swap.
    Asleep,
    /// It is ended; the next call makes another.
    Dropped,
}

/// What is done to the grant of one slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restriction {
    pub slot: String,
    /// What it is left with; none if it is revoked.
    pub narrowing: Option<Narrowing>,
}

/// What a piece of a call begins with.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum With {
    /// The call itself.
    Begin(Begin),
    /// What came of the message that it sent last.
    Answer(Answered),
    /// What came of what it asked the TPM last.
    Tpm(TpmAnswer),
    /// Nothing: it goes on.
    Nothing,
}

/// A new call.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub function: String,
    /// Arguments as CBOR.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// What a piece of a streaming call begins with.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Flow {
    /// What the client has sent since.
    #[serde(with = "serde_bytes")]
    pub input: Vec<u8>,
    /// Whether that was the last of it.
    pub ended: bool,
    /// Bytes of output that the piece may end with.
    pub room: u32,
}

/// From a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum FromWorker {
    /// It is confined and takes calls. The layers of confinement that this host lacks.
    Ready { not_confined_by: String },
    /// It never will be; and ends.
    Unfit {
        rejected: Option<String>,
        message: String,
    },
    /// A piece of a call is over.
    Stopped {
        call: u64,
        used: Duration,
        did: Did,
        how: How,
        /// What the muscle wrote for the client of a stream.
        #[serde(with = "serde_bytes")]
        output: Vec<u8>,
    },
    /// Cells were had rest: so many went, and so many are left that nobody calls.
    Rested { went: u64, awake: u64, asleep: u64 },
    /// The muscle rings at the other end of the ring in this slot. Said again only when the last one was [`ToWorker::Heard`].
    Rings { slot: String },
    /// A restriction, or what is lent, is in force, or why not.
    Restricted { number: u64, failure: Option<String> },
    /// The next bytes of the snapshot that was asked for.
    Snapshot {
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    /// That was all of it, or why there is none.
    Kept { refused: Option<NotKept> },
    /// The muscle wrote to its console while it ran this call.
    Output {
        call: u64,
        errors: bool,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
}

/// Why there is no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum NotKept {
    /// It has no cell that waits for a call.
    NoCell,
    /// Something stands against it.
    Unsound(String),
    /// The muscle broke a rule or ended instead.
    Over(String),
}

/// What a worker did in a piece of a call.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Did {
    /// Times that the cell stopped.
    pub exits: u64,
    /// Whether the cell that had the worker's ends of rings is over.
    pub left_rings: bool,
    /// Its steps, each with its time since the piece began; only if the piece was to be traced.
    pub steps: Vec<Step>,
}

/// Something that takes time within a piece of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Step {
    pub what: What,
    /// From the beginning of the piece.
    pub after: Duration,
    pub lasted: Duration,
}

/// What a step is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum What {
    /// A cell was made.
    CellStart,
    /// A cell that was there already was taken.
    CellTake,
    /// The muscle ran, and everything that it used.
    Run,
    /// A capability was used, by its name.
    Use(String),
}

/// Why a piece of a call is over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum How {
    /// The result, as CBOR.
    Returned(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The budget is used up.
    Preempted,
    /// The muscle waits for so long.
    Sleeping(Duration),
    /// The call has a cell that has not run yet, with ends of rings: what was in them before is to be gone first.
    Joins,
    /// The muscle waits for the other side of the ring in this slot.
    Waiting { slot: String },
    /// The muscle sends a message, and goes on when it hears what came of it.
    Sends(Sending),
    /// The muscle delegates a grant or takes it back, and goes on when it hears what came of it.
    Delegates(Delegating),
    /// The muscle waits for the client of its stream.
    Waits(Wants),
    /// The muscle asks something of the TPM, and goes on when it has the answer.
    Asks(Asking),
    /// There will be no result.
    Failed(Failure),
}

/// What a muscle wants of a stream's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Wants {
    /// More input, all of which was read.
    Input,
    /// Room for output, all of which is used.
    Room,
}

/// Why a call has no result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Failure {
    /// The function's own error.
    Function { code: String, message: String },
    /// The muscle broke a rule, or its time was over.
    Fault {
        name: String,
        time_limit: bool,
        message: String,
        report: String,
    },
    /// It exited instead of answering.
    Exited(u8),
    /// The call was given up.
    Cancelled,
    /// The arguments are larger than a frame may be.
    TooLarge { limit: u32 },
    /// The host failed.
    Host(String),
}

/// Writes a frame.
///
/// # Errors
/// When it is larger than [`FRAME_MAX`].
pub(crate) fn frame(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = postcard::to_extend(message, vec![0; 4]).map_err(io::Error::other)?;
    let length = bytes.len() - 4;
    let prefix = u32::try_from(length).ok().filter(|_| length <= FRAME_MAX);
    let prefix = prefix.ok_or_else(|| too_large(length))?;
    if let Some(front) = bytes.get_mut(..4) {
        front.copy_from_slice(&prefix.to_le_bytes());
    }
    Ok(bytes)
}

/// Reads a frame, or gives `None` at the end of the line.
///
/// # Errors
/// When the line breaks within a frame, or the frame is none.
pub(crate) fn read<M: DeserializeOwned>(line: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Option<M>> {
    let mut prefix = [0; 4];
    match line.read_exact(&mut prefix) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    buffer.resize(length(prefix)?, 0);
    line.read_exact(buffer)?;
    decode(buffer).map(Some)
}

/// As [`read`].
///
/// # Errors
/// As [`read`].
pub(crate) async fn read_async<M: DeserializeOwned>(
    line: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
) -> io::Result<Option<M>> {
    let mut prefix = [0; 4];
    match line.read_exact(&mut prefix).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other.map(drop)?,
    }
    buffer.resize(length(prefix)?, 0);
    line.read_exact(buffer).await?;
    decode(buffer).map(Some)
}

fn length(prefix: [u8; 4]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_le_bytes(prefix)).unwrap_or(usize::MAX);
    match length <= FRAME_MAX {
        true => Ok(length),
        false => Err(too_large(length)),
    }
}

fn decode<M: DeserializeOwned>(bytes: &[u8]) -> io::Result<M> {
    match postcard::take_from_bytes(bytes) {
        Ok((message, [])) => Ok(message),
        Ok((_, rest)) => Err(io::Error::other(format!(
            "{} bytes follow the message",
            rest.len()
        ))),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn too_large(length: usize) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a frame of {length} bytes; {FRAME_MAX} is the most"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stopped(call: u64, result: Vec<u8>) -> FromWorker {
        FromWorker::Stopped {
            call,
            used: Duration::from_nanos(call),
            did: Did::default(),
            how: How::Returned(result),
            output: Vec::new(),
        }
    }

    #[test]
    fn a_line_ends_between_frames_or_is_broken() {
        let bytes = frame(&stopped(7, vec![1, 2, 3])).expect("small");
        let mut buffer = Vec::new();
        for cut in 0..bytes.len() {
            let mut line = bytes.get(..cut).expect("within");
            let read = read::<FromWorker>(&mut line, &mut buffer);
            match cut {
                // Nothing, or a length that is not whole: the other end is gone.
                0..4 => assert!(matches!(read, Ok(None)), "{cut}"),
                _ => assert!(read.is_err(), "{cut}"),
            }
        }
    }

    #[test]
    fn a_length_beyond_the_largest_frame_is_refused_before_anything_is_read() {
        let mut buffer = Vec::new();
        for length in [u32::try_from(FRAME_MAX).expect("small") + 1, u32::MAX] {
            let prefix = length.to_le_bytes();
            let error = read::<FromWorker>(&mut prefix.as_slice(), &mut buffer).expect_err("too large");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        assert!(buffer.is_empty());
    }

    proptest! {
        #[test]
        fn frames_come_back_as_they_were_sent(call: u64, result: Vec<u8>) {
            let sent = frame(&stopped(call, result.clone())).expect("small");
            let mut buffer = Vec::new();
            match read::<FromWorker>(&mut sent.as_slice(), &mut buffer) {
                Ok(Some(FromWorker::Stopped { call: back, how: How::Returned(bytes), .. })) => {
                    prop_assert_eq!((back, bytes), (call, result));
                }
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn whatever_a_worker_sends_is_a_message_or_an_error(bytes: Vec<u8>) {
            let prefix = u32::try_from(bytes.len()).expect("small").to_le_bytes();
            let line = [prefix.as_slice(), &bytes].concat();
            let mut buffer = Vec::new();
            // It neither panics nor takes more memory than was sent.
            let _ = read::<FromWorker>(&mut line.as_slice(), &mut buffer);
            prop_assert!(buffer.len() <= bytes.len());
        }
    }
}

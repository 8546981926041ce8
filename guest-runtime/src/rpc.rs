//! Calls over one stream, both ways (see [`muscle_abi::frame`]).
//!
//! [`Rpc`] does no input or output: bytes go in with [`Rpc::take_in`], answers and calls come out. While the muscle
//! waits for the answer of its own call, the host may call it; such calls wait in line.
//!
//! Calls whose answer nobody waits for ("posted", as console output is) have the highest bit of their id set; of
//! their answers the first error is kept.

use alloc::borrow::Cow;
use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};
use muscle_abi::frame::{ErrorCode, FrameError, FrameHeader, FrameKind, HEADER_SIZE};

/// Answers a call: takes the CBOR of its arguments, gives the CBOR of its result.
pub type Handler = fn(&[u8]) -> Result<Vec<u8>, CallError>;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallError {
    /// What kind of failure.
    pub code: ErrorCode,
    /// What happened, for people.
    pub message: Cow<'static, str>,
}

impl CallError {
    /// An error with a text.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> CallError {
        CallError {
            code,
            message: message.into(),
        }
    }

    /// Reads the payload of an error frame.
    fn from_payload(payload: &[u8]) -> CallError {
        let mut decoder = Decoder::new(payload);
        let mut read = || -> Result<CallError, minicbor::decode::Error> {
            decoder.array()?;
            let code = ErrorCode::from_number(decoder.u32()?).unwrap_or(ErrorCode::Io);
            Ok(CallError::new(code, String::from(decoder.str()?)))
        };
        read().unwrap_or_else(|_| CallError::new(ErrorCode::Io, "the host's error cannot be read"))
    }

    /// Writes the payload of an error frame.
    fn to_payload(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.message.len() + 16);
        // Writing to a `Vec` cannot fail.
        let _ = Encoder::new(&mut out)
            .array(2)
            .and_then(|e| e.u32(self.code as u32))
            .and_then(|e| e.str(&self.message));
        out
    }
}

impl core::fmt::Display for CallError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        if self.message.is_empty() {
            return f.write_str(self.code.name());
        }
        write!(f, "{}: {}", self.code.name(), self.message)
    }
}

impl core::error::Error for CallError {}

impl From<&'static str> for CallError {
    fn from(message: &'static str) -> CallError {
        CallError::new(ErrorCode::Application, message)
    }
}

impl From<String> for CallError {
    fn from(message: String) -> CallError {
        CallError::new(ErrorCode::Application, message)
    }
}

/// A call that the host made.
#[derive(Debug, PartialEq, Eq)]
pub struct IncomingCall {
    /// The host's number for it.
    pub id: u32,
    /// Name of the function.
    pub name: String,
    /// CBOR of the arguments, or why they could not be taken.
    pub payload: Result<Vec<u8>, CallError>,
}

impl IncomingCall {
    /// The call in a frame that came whole.
    ///
    /// # Errors
    /// [`FrameError`] when it is none.
    pub(crate) fn of_frame(frame: &[u8]) -> Result<IncomingCall, FrameError> {
        let (header, body) = frame.split_first_chunk().ok_or(FrameError::Misshapen)?;
        let most = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let header = FrameHeader::parse(header, most)?;
        if header.kind != FrameKind::Call {
            return Err(FrameError::Misshapen);
        }
        let (name, payload) = body[..header.body_len()].split_at(usize::from(header.name_len));
        Ok(IncomingCall {
            id: header.id,
            name: String::from_utf8_lossy(name).into_owned(),
            payload: Ok(payload.to_vec()),
        })
    }
}

/// One stream's frames and the calls that are under way on it.
#[derive(Debug)]
pub struct Rpc {
    reading: Reading,
    header: Vec<u8>,
    /// Frames larger than this are answered with [`ErrorCode::TooLarge`].
    max_body: usize,
    next_id: u32,
    answers: BTreeMap<u32, Option<Result<Vec<u8>, CallError>>>,
    calls: VecDeque<IncomingCall>,
    posted_error: Option<CallError>,
}

#[derive(Debug)]
enum Reading {
    Header,
    Body(FrameHeader, Vec<u8>),
    /// The body does not fit in memory; so many bytes of it are still to be thrown away.
    Skipping(FrameHeader, usize),
}

/// The parts of a frame to send, one after the other.
pub type Parts<'a> = ([u8; HEADER_SIZE], &'a str, &'a [u8]);

impl Rpc {
    /// Starts with nothing under way.
    pub fn new(max_body: usize) -> Rpc {
        Rpc {
            reading: Reading::Header,
            header: Vec::new(),
            max_body,
            next_id: 1,
            answers: BTreeMap::new(),
            calls: VecDeque::new(),
            posted_error: None,
        }
    }

    /// Takes bytes of the stream.
    ///
    /// # Errors
    /// [`FrameError`] when they are not frames; the stream is then of no more use.
    pub fn take_in(&mut self, mut bytes: &[u8]) -> Result<(), FrameError> {
        while !bytes.is_empty() {
            match &mut self.reading {
                Reading::Header => {
                    let missing = HEADER_SIZE - self.header.len();
                    let (now, rest) = bytes.split_at(missing.min(bytes.len()));
                    self.header.extend_from_slice(now);
                    bytes = rest;
                    if let Ok(header) = <&[u8; HEADER_SIZE]>::try_from(&self.header[..]) {
                        let header = FrameHeader::parse(header, u32::MAX)?;
                        self.header.clear();
                        self.start_body(header);
                    }
                }
                Reading::Body(header, body) => {
                    let missing = header.body_len() - body.len();
                    let (now, rest) = bytes.split_at(missing.min(bytes.len()));
                    body.extend_from_slice(now);
                    bytes = rest;
                }
                Reading::Skipping(_, left) => {
                    let now = (*left).min(bytes.len());
                    *left -= now;
                    bytes = &bytes[now..];
                }
            }
            self.finish_frame();
        }
        Ok(())
    }

    /// Numbers a call whose answer will be waited for.
    pub fn start_call(&mut self) -> u32 {
        let id = self.number();
        self.answers.insert(id, None);
        id
    }

    /// Numbers a call whose answer nobody waits for.
    pub fn start_post(&mut self) -> u32 {
        self.number() | POSTED
    }

    /// The answer of a call, once it is there.
    pub fn take_answer(&mut self, id: u32) -> Option<Result<Vec<u8>, CallError>> {
        self.answers.get(&id)?.as_ref()?;
        self.answers.remove(&id).flatten()
    }

    /// Stops waiting for an answer.
    pub fn forget(&mut self, id: u32) {
        self.answers.remove(&id);
    }

    /// The next call of the host, in the order in which they came.
    pub fn take_call(&mut self) -> Option<IncomingCall> {
        self.calls.pop_front()
    }

    /// The first error of a posted call since this was last asked.
    pub fn take_posted_error(&mut self) -> Option<CallError> {
        self.posted_error.take()
    }

    fn number(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = (self.next_id + 1) & !POSTED;
        id
    }

    fn start_body(&mut self, header: FrameHeader) {
        let len = header.body_len();
        let mut body = Vec::new();
        self.reading = if len <= self.max_body && body.try_reserve_exact(len).is_ok() {
            Reading::Body(header, body)
        } else {
            Reading::Skipping(header, len)
        };
    }

    fn finish_frame(&mut self) {
        match core::mem::replace(&mut self.reading, Reading::Header) {
            Reading::Body(header, mut body) if body.len() == header.body_len() => {
                let name_len = usize::from(header.name_len);
                let name = String::from_utf8_lossy(&body[..name_len]).into_owned();
                body.drain(..name_len);
                self.deliver(header, name, Ok(body));
            }
            Reading::Skipping(header, 0) => {
                let text = alloc::format!("{} bytes are more than this muscle takes", header.body_len());
                self.deliver(
                    header,
                    String::new(),
                    Err(CallError::new(ErrorCode::TooLarge, text)),
                );
            }
            unfinished => self.reading = unfinished,
        }
    }

    fn deliver(&mut self, header: FrameHeader, name: String, payload: Result<Vec<u8>, CallError>) {
        let answer = match header.kind {
            FrameKind::Call => {
                return self.calls.push_back(IncomingCall {
                    id: header.id,
                    name,
                    payload,
                });
            }
            FrameKind::Return => payload,
            FrameKind::Error => payload.and_then(|payload| Err(CallError::from_payload(&payload))),
        };
        if header.id & POSTED != 0 {
            if let (Err(error), None) = (answer, &self.posted_error) {
                self.posted_error = Some(error);
            }
        } else if let Some(place) = self.answers.get_mut(&header.id) {
            *place = Some(answer);
        }
    }
}

/// A frame that calls the host.
///
/// # Errors
/// [`ErrorCode::TooLarge`] when name or payload have no place in a header.
pub fn call_frame<'a>(
    id: u32,
    handle: u64,
    name: &'a str,
    payload: &'a [u8],
) -> Result<Parts<'a>, CallError> {
    let too_large = || CallError::new(ErrorCode::TooLarge, "name or payload do not fit in a frame");
    let header = FrameHeader {
        kind: FrameKind::Call,
        id,
        handle,
        name_len: u8::try_from(name.len()).map_err(|_| too_large())?,
        payload_len: payload_len(payload, name.len()).ok_or_else(too_large)?,
    };
    Ok((header.to_bytes(), name, payload))
}

/// The header and payload of a frame that answers the host.
pub fn answer_frame(id: u32, answer: Result<Vec<u8>, CallError>) -> ([u8; HEADER_SIZE], Vec<u8>) {
    let answer = match answer {
        Ok(payload) if payload_len(&payload, 0).is_none() => Err(CallError::new(
            ErrorCode::TooLarge,
            payload.len().to_string() + " bytes of result do not fit in a frame",
        )),
        other => other,
    };
    let (kind, payload) = match answer {
        Ok(payload) => (FrameKind::Return, payload),
        Err(error) => (FrameKind::Error, error.to_payload()),
    };
    let header = FrameHeader {
        kind,
        id,
        handle: 0,
        name_len: 0,
        payload_len: payload_len(&payload, 0).unwrap_or(0),
    };
    (header.to_bytes(), payload)
}

fn payload_len(payload: &[u8], name_len: usize) -> Option<u32> {
    let total = payload.len().checked_add(name_len)?;
    u32::try_from(total).ok()?;
    u32::try_from(payload.len()).ok()
}

/// Set in the ids of posted calls.
const POSTED: u32 = 1 << 31;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frame(kind: FrameKind, id: u32, name: &str, payload: &[u8]) -> Vec<u8> {
        let header = FrameHeader {
            kind,
            id,
            handle: 0,
            name_len: name.len() as u8,
            payload_len: payload.len() as u32,
        };
        [&header.to_bytes()[..], name.as_bytes(), payload].concat()
    }

    #[test]
    fn call_of_the_host_waits_in_line_while_an_answer_is_awaited() {
        let mut rpc = Rpc::new(1 << 20);
        let id = rpc.start_call();
        rpc.take_in(&frame(FrameKind::Call, 9, "check", &[0x80]))
            .expect("is a frame");
        assert_eq!(rpc.take_answer(id), None);
        rpc.take_in(&frame(FrameKind::Return, id, "", &[1]))
            .expect("is a frame");
        assert_eq!(rpc.take_answer(id), Some(Ok(alloc::vec![1])));
        assert_eq!(rpc.take_answer(id), None, "an answer is taken once");
        let call = rpc.take_call().expect("waited in line");
        assert_eq!(
            (call.id, &*call.name, call.payload),
            (9, "check", Ok(alloc::vec![0x80]))
        );
    }

    #[test]
    fn errors_carry_code_and_text_both_ways() {
        let error = CallError::new(ErrorCode::Quota, "10 of 10 bytes used");
        let (header, payload) = answer_frame(1, Err(error.clone()));
        let mut rpc = Rpc::new(1 << 20);
        assert_eq!(rpc.start_call(), 1);
        rpc.take_in(&header).expect("is a frame");
        rpc.take_in(&payload).expect("is a frame");
        assert_eq!(rpc.take_answer(1), Some(Err(error)));
    }

    #[test]
    fn first_error_of_posted_calls_is_kept() {
        let mut rpc = Rpc::new(1 << 20);
        for text in ["first", "second"] {
            let id = rpc.start_post();
            let (header, payload) = answer_frame(id, Err(CallError::new(ErrorCode::Denied, text)));
            rpc.take_in(&[&header[..], &payload].concat())
                .expect("is a frame");
        }
        assert_eq!(
            rpc.take_posted_error(),
            Some(CallError::new(ErrorCode::Denied, "first"))
        );
        assert_eq!(rpc.take_posted_error(), None);
    }

    #[test]
    fn frame_above_the_limit_is_skipped_and_the_next_one_read() {
        let mut rpc = Rpc::new(100);
        rpc.take_in(&frame(FrameKind::Call, 1, "big", &[0; 98]))
            .expect("is a frame");
        rpc.take_in(&frame(FrameKind::Call, 2, "small", &[7]))
            .expect("is a frame");
        let big = rpc.take_call().expect("is delivered");
        assert_eq!(
            (big.id, big.payload.map_err(|error| error.code)),
            (1, Err(ErrorCode::TooLarge))
        );
        assert_eq!(rpc.take_call().map(|call| call.name), Some("small".into()));
    }

    #[test]
    fn bytes_that_are_no_frame_end_the_stream() {
        let mut bytes = frame(FrameKind::Call, 1, "f", &[]);
        bytes[8] = 9;
        assert_eq!(Rpc::new(100).take_in(&bytes), Err(FrameError::UnknownKind(9)));
    }

    proptest! {
        #[test]
        fn frames_cut_anywhere_arrive_whole(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..8),
            cuts in prop::collection::vec(1usize..60, 1..40),
        ) {
            let stream: Vec<u8> = payloads.iter().enumerate()
                .flat_map(|(id, payload)| frame(FrameKind::Call, id as u32, "name", payload))
                .collect();
            let mut rpc = Rpc::new(1 << 20);
            let (mut rest, mut cut) = (&stream[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let (now, later) = rest.split_at(rest.len().min(*cut.next().unwrap_or(&1)));
                rpc.take_in(now).expect("are frames");
                rest = later;
            }
            for (id, payload) in payloads.iter().enumerate() {
                let call = rpc.take_call().expect("arrived");
                prop_assert_eq!(call.id, id as u32);
                prop_assert_eq!(call.payload.as_ref(), Ok(payload));
            }
            prop_assert_eq!(rpc.take_call(), None);
        }
    }
}

//! The host's end of the one RPC stream: cuts it into frames, serves the muscle's calls, sends the host's own.
//!
//! Nothing is buffered without bound: at most one incoming frame is assembled, of at most the configured
//! size; and while an answer has not left, no further call is taken, so the muscle's own credit stops it.

use muscle_abi::frame::{FrameError, FrameHeader, FrameKind, HEADER_SIZE};
use referee_hv::Memory;
use referee_vsock::{ConnId, Vsock};

use crate::error::Halt;
use crate::fault::MuscleFault;
use crate::lane;

/// Serves one call of the muscle: the grant's handle, the call's name, its payload, the reply to be filled.
pub trait Serve {
    /// Performs the call and tells what the answer is.
    ///
    /// # Errors
    /// [`Halt`]: the muscle broke a rule, the host failed, or a signal came in and the call is to be
    /// made again after the limits were looked at.
    fn serve(
        &mut self,
        handle: u64,
        name: &str,
        payload: &[u8],
        reply: &mut Vec<u8>,
    ) -> Result<FrameKind, Halt>;
}

/// A call's answer as the muscle sent it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// `Return` or `Error`.
    pub kind: FrameKind,
    /// CBOR.
    pub payload: Vec<u8>,
}

/// State of the stream.
#[derive(Debug)]
pub struct Rpc {
    connection: Option<ConnId>,
    max_body: u32,
    header: Option<FrameHeader>,
    /// Bytes of the frame being assembled: the header's until there is one, then the body's.
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
    sent: usize,
    reply: Vec<u8>,
    next_id: u32,
    waiting_for: Option<u32>,
    /// Whether nothing is in `outgoing` but the frame of a call, of which nothing was sent.
    unsent: bool,
    /// The number in the lane of a call that was put there and is not answered.
    in_lane: Option<u32>,
    answer: Option<Answer>,
    /// Memory for the next answer.
    spare: Vec<u8>,
}

impl Rpc {
    /// A stream not connected yet, for frames of at most `max_body` bytes of name and payload.
    pub fn new(max_body: u32) -> Rpc {
        Rpc {
            connection: None,
            max_body,
            header: None,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            sent: 0,
            reply: Vec::new(),
            next_id: 1,
            waiting_for: None,
            unsent: false,
            in_lane: None,
            answer: None,
            spare: Vec::new(),
        }
    }

    /// Whether nothing has passed yet, and nothing is on its way.
    pub fn is_unused(&self) -> bool {
        self.next_id == 1 && self.header.is_none() && self.incoming.is_empty() && self.outgoing.is_empty()
    }

    /// Whether nothing is on its way, whatever has passed: no frame half-way, no call unanswered, no answer that nobody took.
    pub fn is_quiet(&self) -> bool {
        self.header.is_none()
            && self.incoming.is_empty()
            && self.outgoing.is_empty()
            && self.waiting_for.is_none()
            && self.answer.is_none()
    }

    /// Becomes a stream on which nothing has passed, and keeps its memory.
    pub fn begin_anew(&mut self, connection: Option<ConnId>, max_body: u32) {
        self.detach();
        self.connection = connection;
        self.max_body = max_body;
        self.next_id = 1;
        self.waiting_for = None;
        self.in_lane = None;
        self.answer = None;
    }

    /// Takes the muscle's connection.
    ///
    /// # Errors
    /// [`MuscleFault::SecondRpcConnection`] when there is one already.
    pub fn attach(&mut self, connection: ConnId) -> Result<(), MuscleFault> {
        if self.connection.is_some() {
            return Err(MuscleFault::SecondRpcConnection);
        }
        self.connection = Some(connection);
        Ok(())
    }

    /// The stream's connection, when the muscle has made one.
    pub fn connection(&self) -> Option<ConnId> {
        self.connection
    }

    /// Notes that the connection is over. What was under way on it, either way, is lost with it and does not
    /// go on in the next one.
    pub fn detach(&mut self) {
        self.connection = None;
        self.header = None;
        self.incoming.clear();
        self.outgoing.clear();
        self.sent = 0;
        self.unsent = false;
    }

    /// Begins a call of the muscle's function `name` with a CBOR payload; the answer comes by
    /// [`Rpc::take_answer`]. One call at a time: an unanswered earlier one is forgotten.
    ///
    /// Returns `None`, and sends nothing, when the name or the payload is too large for a frame.
    #[must_use]
    pub fn start_call(&mut self, name: &str, payload: &[u8]) -> Option<u32> {
        let name_len = u8::try_from(name.len()).ok().filter(|length| *length > 0)?;
        let payload_len = u32::try_from(payload.len()).ok()?;
        if payload_len.checked_add(u32::from(name_len))? > self.max_body {
            return None;
        }
        let id = self.next_id;
        self.next_id = self.next_id.wrapping_add(1).max(1);
        let header = FrameHeader {
            kind: FrameKind::Call,
            id,
            handle: 0,
            name_len,
            payload_len,
        };
        self.unsent = self.outgoing.is_empty();
        self.outgoing.extend_from_slice(&header.to_bytes());
        self.outgoing.extend_from_slice(name.as_bytes());
        self.outgoing.extend_from_slice(payload);
        self.waiting_for = Some(id);
        self.answer = None;
        Some(id)
    }

    /// Has the call that was begun last go by the lane, if it was not sent yet, finds room there and the muscle reads it; whether a call is there.
    pub fn send_by_lane(&mut self, memory: &Memory) -> bool {
        if self.in_lane.is_none() && self.unsent && self.connection.is_some() {
            self.in_lane = lane::put(memory, &self.outgoing);
            if self.in_lane.is_some() {
                self.outgoing.clear();
                self.unsent = false;
            }
        }
        self.in_lane.is_some()
    }

    /// Whether the answer to a call by the lane stands there. What the muscle sent before it can be found in its queues then.
    pub fn is_answered_by_lane(&self, memory: &Memory) -> bool {
        self.in_lane
            .is_some_and(|number| lane::is_answered(memory, number))
    }

    /// Takes the answer from the lane, unless a frame that came before is not done with.
    ///
    /// # Errors
    /// [`MuscleFault::Frame`], [`MuscleFault::UnexpectedAnswer`].
    pub fn take_from_lane(&mut self, memory: &Memory) -> Result<(), MuscleFault> {
        if self.header.is_some() || !self.incoming.is_empty() {
            return Ok(());
        }
        let mut payload = std::mem::take(&mut self.spare);
        let header = lane::read(memory, &mut payload)?;
        match header.kind {
            FrameKind::Call => Err(FrameError::Misshapen.into()),
            FrameKind::Return | FrameKind::Error => self.accept(&header, payload),
        }
    }

    /// The answer to the last call, when it has come.
    pub fn take_answer(&mut self) -> Option<Answer> {
        self.answer.take()
    }

    /// Whether the answer to the last call has come and was not taken.
    pub fn has_answer(&self) -> bool {
        self.answer.is_some()
    }

    /// Takes the memory of an answer that was read, for the next one.
    pub fn recycle(&mut self, payload: Vec<u8>) {
        self.spare = payload;
    }

    /// Whether a call is unanswered.
    pub fn is_waiting(&self) -> bool {
        self.waiting_for.is_some()
    }

    /// Moves what can be moved both ways; true when anything did.
    ///
    /// # Errors
    /// [`Halt`], see [`Serve::serve`]; frames that break a rule are faults.
    pub fn service(&mut self, vsock: &mut Vsock, server: &mut impl Serve) -> Result<bool, Halt> {
        let Some(connection) = self.connection else {
            return Ok(false);
        };
        let mut moved = self.send(vsock, connection);
        while self.outgoing.is_empty() && self.receive(vsock, connection)? {
            moved = true;
            let Some(header) = self
                .header
                .take_if(|header| header.body_len() == self.incoming.len())
            else {
                continue;
            };
            let outcome = self.handle_frame(&header, server);
            if matches!(outcome, Err(Halt::Interrupted)) {
                self.header = Some(header);
                return Err(Halt::Interrupted);
            }
            self.incoming.clear();
            outcome?;
            self.send(vsock, connection);
        }
        // A frame whose call was interrupted is complete already and waits for no further bytes.
        Ok(moved)
    }

    fn send(&mut self, vsock: &mut Vsock, connection: ConnId) -> bool {
        let mut moved = false;
        self.unsent = false;
        while let Some(rest) = self.outgoing.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let taken = vsock.write(connection, rest);
            if taken == 0 {
                return moved;
            }
            self.sent += taken;
            moved = true;
        }
        self.outgoing.clear();
        self.sent = 0;
        moved
    }

    /// Reads bytes of the present frame; true when something came or the frame is complete.
    fn receive(&mut self, vsock: &mut Vsock, connection: ConnId) -> Result<bool, Halt> {
        let want = self.header.as_ref().map_or(HEADER_SIZE, FrameHeader::body_len);
        let complete = self.header.is_some() && self.incoming.len() == want;
        if complete {
            return Ok(true);
        }
        let missing = want.saturating_sub(self.incoming.len());
        let chunk = missing.min(vsock.readable(connection));
        if chunk == 0 {
            return Ok(false);
        }
        let start = self.incoming.len();
        self.incoming.resize(start + chunk, 0);
        let read = self
            .incoming
            .get_mut(start..)
            .map_or(0, |target| vsock.read(connection, target));
        self.incoming.truncate(start + read);
        if self.header.is_none()
            && let Some(bytes) = self.incoming.first_chunk::<HEADER_SIZE>()
        {
            self.header = Some(FrameHeader::parse(bytes, self.max_body).map_err(MuscleFault::from)?);
            self.incoming.clear();
        }
        Ok(read > 0)
    }

    fn handle_frame(&mut self, header: &FrameHeader, server: &mut impl Serve) -> Result<(), Halt> {
        let (name, payload) = self
            .incoming
            .split_at_checked(usize::from(header.name_len))
            .unwrap_or_default();
        match header.kind {
            FrameKind::Call => {
                self.reply.clear();
                // A name that is not UTF-8 is a name of nothing; the server answers so.
                let name = std::str::from_utf8(name).unwrap_or("\u{fffd}");
                let kind = server.serve(header.handle, name, payload, &mut self.reply)?;
                let payload_len = u32::try_from(self.reply.len()).unwrap_or(u32::MAX);
                let answer = FrameHeader {
                    kind,
                    id: header.id,
                    handle: 0,
                    name_len: 0,
                    payload_len,
                };
                self.outgoing.extend_from_slice(&answer.to_bytes());
                self.outgoing.extend_from_slice(&self.reply);
            }
            FrameKind::Return | FrameKind::Error => {
                let mut kept = std::mem::take(&mut self.spare);
                kept.clear();
                kept.extend_from_slice(payload);
                self.accept(header, kept)?;
            }
        }
        Ok(())
    }

    /// Takes an answer, whichever way it came.
    fn accept(&mut self, header: &FrameHeader, payload: Vec<u8>) -> Result<(), MuscleFault> {
        if self.waiting_for != Some(header.id) {
            return Err(MuscleFault::UnexpectedAnswer(header.id));
        }
        self.waiting_for = None;
        self.in_lane = None;
        self.answer = Some(Answer {
            kind: header.kind,
            payload,
        });
        Ok(())
    }
}

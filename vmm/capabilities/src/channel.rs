//! Capability `channel`: messages to other deployments of a node.
//!
//! A message leaves the broker by a [`ChannelLine`], which whoever runs the cell holds too, and its answer comes back there. The muscle's
//! call is interrupted in between: the cell stops, its thread is free for others, and the same call goes on once there is an answer.
//!
//! ```text
//!   channel.send ─► role, payload, limits ─► record ─► line ─► Interrupted       the cell stops here
//!                                            take() ◄───┘
//!                                            answer() ──► line
//!   the same call again ─────────────────────────────────► the muscle's answer
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use muscle_abi::capability::delegate::CALL_MAX;
use muscle_abi::frame::ErrorCode;
use referee_audit::Value;
use referee_policy::{ChannelRole, Grant, Narrowing};

use crate::broker::Act;
use crate::delegate;
use crate::error::{CallError, Refusal, Stop};
use crate::op::Op;
use crate::payload::{self, Arguments};

/// Most bytes of an error's words; what is beyond is cut off.
const WORDS_MAX: usize = 4096;

/// A message on its way out of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The slot by which it is sent.
    pub slot: String,
    /// Whether the muscle waits for an answer.
    pub asks: bool,
    /// The message; nobody has looked whether it is CBOR.
    pub bytes: Vec<u8>,
}

/// A grant that is lent to whoever receives on a channel, or taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    /// The slot of the channel.
    pub by: String,
    /// The slot of which something is lent.
    pub slot: String,
    /// The receiver's slot; nobody has looked whether there is one.
    pub to: String,
    /// What is lent of it, all if that says nothing; none to take back what was lent.
    pub narrowing: Option<Narrowing>,
}

/// What leaves a cell by a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outgoing {
    /// A message.
    Message(Message),
    /// A delegation.
    Delegation(Delegation),
}

impl Outgoing {
    /// The slot of the channel.
    fn by(&self) -> &str {
        match self {
            Outgoing::Message(message) => &message.slot,
            Outgoing::Delegation(delegation) => &delegation.by,
        }
    }
}

/// What came of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageAnswer {
    /// It is in the queues of so many receivers.
    Sent(u32),
    /// The receiver's answer, CBOR.
    Replied(Vec<u8>),
    /// The receiver's own error, in its words.
    Failed(String),
    /// What was to be delegated, or taken back, is.
    Done,
    /// It was not sent, or there is no answer.
    Refused(ErrorCode, &'static str),
}

/// Where a cell's messages wait to be carried on, and their answers to be fetched. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct ChannelLine(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    state: State,
    /// Messages of the present call, by slot.
    sent: BTreeMap<String, u64>,
    /// Delegations of the present call.
    delegations: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Asked(Outgoing),
    /// Carried on; the slot is the one that waits.
    Waiting(String),
    Answered(String, MessageAnswer),
}

/// How far the message of a slot is.
enum Progress {
    New,
    Underway,
    Over(MessageAnswer),
}

impl ChannelLine {
    /// Forgets what was under way and lets every slot send as much as it may in a call: another call begins.
    pub fn begin_call(&self) {
        *self.lock() = Line::default();
    }

    /// What waits to be carried on, once.
    pub fn take(&self) -> Option<Outgoing> {
        let mut line = self.lock();
        match std::mem::take(&mut line.state) {
            State::Asked(outgoing) => {
                line.state = State::Waiting(outgoing.by().to_owned());
                Some(outgoing)
            }
            other => {
                line.state = other;
                None
            }
        }
    }

    /// Says what came of what was taken last. Without effect when none waits for it.
    pub fn answer(&self, answer: MessageAnswer) {
        let mut line = self.lock();
        if let State::Waiting(slot) = &line.state {
            line.state = State::Answered(slot.clone(), answer);
        }
    }

    /// What is under way by another slot belongs to a call that ended without its answer: its grant was taken back meanwhile.
    fn progress(&self, slot: &str) -> Progress {
        let mut line = self.lock();
        match std::mem::take(&mut line.state) {
            State::Answered(of, answer) if of == slot => Progress::Over(answer),
            State::Waiting(of) if of == slot => {
                line.state = State::Waiting(of);
                Progress::Underway
            }
            State::Asked(outgoing) if outgoing.by() == slot => {
                line.state = State::Asked(outgoing);
                Progress::Underway
            }
            State::Idle | State::Asked(_) | State::Waiting(_) | State::Answered(..) => Progress::New,
        }
    }

    fn may_send(&self, slot: &str, most: u64) -> bool {
        self.lock().sent.get(slot).is_none_or(|sent| *sent < most)
    }

    fn put(&self, message: Message) {
        let mut line = self.lock();
        let sent = line.sent.entry(message.slot.clone()).or_default();
        *sent = sent.saturating_add(1);
        line.state = State::Asked(Outgoing::Message(message));
    }

    pub(crate) fn may_delegate(&self) -> bool {
        self.lock().delegations < CALL_MAX
    }

    fn pass(&self, delegation: Delegation) {
        let mut line = self.lock();
        line.delegations = line.delegations.saturating_add(1);
        line.state = State::Asked(Outgoing::Delegation(delegation));
    }

    /// No change of what is locked here can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a slot may do.
pub(crate) struct May<'a> {
    pub channel: &'a str,
    pub role: &'a ChannelRole,
    pub max_bytes: u64,
}

/// Sends a message or delegates one of `grants`, or goes on waiting for what comes of it.
pub(crate) fn act<'p>(
    op: Op,
    may: &May<'_>,
    grants: &[Grant],
    line: &ChannelLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    match line.progress(act.grant.slot()) {
        Progress::New if matches!(op, Op::ChannelDelegate | Op::ChannelUndelegate) => {
            if let ChannelRole::Receive { .. } = may.role {
                let message = "the slot takes messages, and nothing is delegated by it";
                return Err(CallError::new(ErrorCode::Denied, message).into());
            }
            let delegation = delegate::read(op, may, grants, line, payload, act)?;
            line.pass(delegation);
            Err(Refusal::Stop(Stop::Interrupted))
        }
        Progress::New => send(op, may, line, payload, act),
        Progress::Underway => Err(Refusal::Stop(Stop::Interrupted)),
        Progress::Over(answer) => {
            act.was_recorded();
            reply(answer, act)
        }
    }
}

fn send<'p>(
    op: Op,
    may: &May<'_>,
    line: &ChannelLine,
    payload: &'p [u8],
    act: &mut Act<'_>,
) -> Result<(), Refusal<'p>> {
    let asks = op == Op::ChannelRequest;
    match (may.role, asks) {
        (ChannelRole::Send { .. }, false) | (ChannelRole::Request { .. }, true) => {}
        (ChannelRole::Receive { .. }, _) => {
            return Err(CallError::new(ErrorCode::Denied, "the slot takes messages and sends none").into());
        }
        (ChannelRole::Send { .. }, true) => {
            return Err(CallError::new(ErrorCode::Denied, "the slot sends and has no answers").into());
        }
        (ChannelRole::Request { .. }, false) => {
            return Err(CallError::new(ErrorCode::Denied, "the slot asks and does not only send").into());
        }
    }
    let mut arguments = Arguments::new(payload, 1)?;
    let bytes = arguments.bytes()?;
    arguments.finish()?;
    let length = bytes.len() as u64;
    if length > may.max_bytes {
        return Err(CallError::new(ErrorCode::TooLarge, "longer than the manifest asks for").into());
    }
    let slot = act.grant.slot();
    if !line.may_send(slot, may.role.max_messages()) {
        let message = "more messages in one call than the manifest asks for";
        return Err(CallError::new(ErrorCode::Quota, message).into());
    }
    // What it says stays the muscles' own: the log has where it went and how much it was.
    act.record(&[
        ("channel", Value::Text(may.channel)),
        ("bytes", Value::Number(length)),
    ])?;
    line.put(Message {
        slot: slot.to_owned(),
        asks,
        bytes: bytes.to_vec(),
    });
    Err(Refusal::Stop(Stop::Interrupted))
}

fn reply<'p>(answer: MessageAnswer, act: &mut Act<'_>) -> Result<(), Refusal<'p>> {
    match answer {
        MessageAnswer::Sent(receivers) => payload::write(act.reply, |out| out.u32(receivers)?.ok()),
        MessageAnswer::Replied(value) if value.len() > act.max_chunk as usize => {
            let message = "the answer is longer than a message may be";
            return Err(CallError::new(ErrorCode::TooLarge, message).into());
        }
        MessageAnswer::Replied(value) => {
            payload::write(act.reply, |out| out.array(2)?.bool(false)?.bytes(&value)?.ok());
        }
        MessageAnswer::Failed(words) => {
            let end = words.floor_char_boundary(WORDS_MAX);
            let words = words.get(..end).unwrap_or_default();
            payload::write(act.reply, |out| out.array(2)?.bool(true)?.str(words)?.ok());
        }
        MessageAnswer::Done => payload::null(act.reply),
        MessageAnswer::Refused(code, why) => return Err(CallError::new(code, why).into()),
    }
    Ok(())
}

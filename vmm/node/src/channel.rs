//! Channels as the node speaks of them: what a deployment may do with which, and what comes of a message.

use muscle_abi::capability::MESSAGE_MAX;
use muscle_abi::frame::ErrorCode;
use referee::MessageAnswer;
use referee_policy::{ChannelRole, Grants, Narrowing};
use serde::{Deserialize, Serialize};

/// How often at most a message may lead to another: beyond that a circle is more likely than a purpose.
pub(crate) const HOPS_MAX: u32 = 8;

/// One granted slot of the kind `channel`. The nursery says it, never a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChannelGrant {
    pub slot: String,
    pub channel: String,
    pub role: Role,
    /// Bytes of a message at most.
    pub max_bytes: u64,
}

/// Which way messages go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Role {
    Send { max_messages: u64 },
    Request { max_messages: u64 },
    Receive { function: String },
}

/// All that was granted.
pub(crate) fn granted(grants: &Grants) -> Vec<ChannelGrant> {
    let grant = |(slot, channel, role, max_bytes): (&str, &str, &ChannelRole, u64)| ChannelGrant {
        slot: slot.to_owned(),
        channel: channel.to_owned(),
        role: match role.clone() {
            ChannelRole::Send { max_messages } => Role::Send { max_messages },
            ChannelRole::Request { max_messages } => Role::Request { max_messages },
            ChannelRole::Receive { function } => Role::Receive { function },
        },
        max_bytes,
    };
    grants.channels().map(grant).collect()
}

impl ChannelGrant {
    /// The function that takes messages of this channel, if the slot is for that.
    pub(crate) fn takes(&self, channel: &str) -> Option<&str> {
        match &self.role {
            Role::Receive { function } if self.channel == channel => Some(function),
            Role::Receive { .. } | Role::Send { .. } | Role::Request { .. } => None,
        }
    }

    /// Messages that the slot may send in one call, in this way.
    pub(crate) fn sends(&self, asks: bool) -> Option<u64> {
        match (&self.role, asks) {
            (Role::Send { max_messages }, false) | (Role::Request { max_messages }, true) => {
                Some(*max_messages)
            }
            (Role::Send { .. } | Role::Request { .. } | Role::Receive { .. }, _) => None,
        }
    }
}

/// A message as it comes from a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sending {
    pub slot: String,
    /// Whether the muscle waits for an answer.
    pub asks: bool,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// A delegation as it comes from a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delegating {
    /// The slot of the channel.
    pub by: String,
    /// The slot of which something is lent.
    pub slot: String,
    /// The receiver's slot.
    pub to: String,
    /// What is lent of it; none to take it back.
    pub narrowing: Option<Narrowing>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Answered {
    /// It waits at so many receivers.
    Sent(u32),
    /// The receiver's answer, as CBOR.
    Replied(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The receiver's own error.
    Failed(String),
    /// It is delegated, or taken back.
    Done,
    /// It was not sent, or there is no answer.
    Refused(Why),
}

/// Why a message was not sent, or has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Why {
    /// A receiver has as much waiting as it may.
    Busy,
    Nobody,
    Several,
    TooFar,
    TooLarge,
    AnswerTooLarge,
    Timeout,
    Paused,
    /// The receiver may not receive any more.
    NotGranted,
    /// The receiver broke a rule, or ended.
    ReceiverFailed,
    HostFailed,
    Draining,
    GivenUp,
    /// Nothing is left of the slot that is to be delegated.
    NothingToLend,
    /// What was delegated to it is not to be delegated on.
    NotOnward,
    /// More would be delegated than there is.
    WiderThanLender,
    /// The receiver has no such slot that is delegated over this channel.
    NoSlotThere,
    OtherKind,
    /// The two slots lead to two things.
    OtherThing,
    /// Another has delegated to the slot.
    Taken,
    Circle,
    /// Nothing was delegated so.
    NothingLent,
}

impl Why {
    /// As the muscle is told.
    fn told(self) -> (ErrorCode, &'static str) {
        match self {
            Why::Busy => (ErrorCode::Busy, "a receiver has as much waiting as it may"),
            Why::Nobody => (ErrorCode::NotFound, "nobody receives on the channel"),
            Why::Several => (
                ErrorCode::Invalid,
                "several receive on the channel, and one is to answer",
            ),
            Why::TooFar => (ErrorCode::Invalid, "too many messages have led to this one"),
            Why::TooLarge => (ErrorCode::TooLarge, "longer than a receiver takes"),
            Why::AnswerTooLarge => (ErrorCode::TooLarge, "the answer is longer than a message may be"),
            Why::Timeout => (ErrorCode::Timeout, "no answer came in time"),
            Why::Paused => (ErrorCode::Busy, "the receiver is paused"),
            Why::NotGranted => (
                ErrorCode::Denied,
                "the receiver may not receive on the channel any more",
            ),
            Why::ReceiverFailed => (ErrorCode::Io, "the receiver failed"),
            Why::HostFailed => (ErrorCode::Io, "the host failed"),
            Why::Draining => (ErrorCode::Busy, "the node is ending"),
            Why::GivenUp => (ErrorCode::Io, "the call was given up"),
            Why::NothingToLend => (
                ErrorCode::Denied,
                "nothing is left of the slot that is to be delegated",
            ),
            Why::NotOnward => (
                ErrorCode::Denied,
                "what was delegated to the slot is not delegated on",
            ),
            Why::WiderThanLender => (ErrorCode::Denied, "more would be delegated than the slot has"),
            Why::NoSlotThere => (
                ErrorCode::NotFound,
                "the receiver has no slot of this name to which is delegated over the channel",
            ),
            Why::OtherKind => (ErrorCode::Invalid, "the two slots are of different kinds"),
            Why::OtherThing => (ErrorCode::Invalid, "the two slots have nothing in common"),
            Why::Taken => (ErrorCode::Exists, "another muscle has delegated to the slot"),
            Why::Circle => (
                ErrorCode::Invalid,
                "it would be delegated back to where it is from",
            ),
            Why::NothingLent => (ErrorCode::NotFound, "nothing was delegated to the slot"),
        }
    }
}

impl From<Answered> for MessageAnswer {
    fn from(answered: Answered) -> MessageAnswer {
        match answered {
            Answered::Sent(receivers) => MessageAnswer::Sent(receivers),
            Answered::Replied(value) => MessageAnswer::Replied(value),
            Answered::Failed(words) => MessageAnswer::Failed(words),
            Answered::Done => MessageAnswer::Done,
            Answered::Refused(why) => {
                let (code, words) = why.told();
                MessageAnswer::Refused(code, words)
            }
        }
    }
}

/// Whether an answer is no longer than a message may be.
pub(crate) fn fits(answer: &[u8]) -> bool {
    u64::try_from(answer.len()).is_ok_and(|length| length <= MESSAGE_MAX)
}

//! A cell of a worker, with the lines by which it speaks to others than its caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use referee::{Cell, ChannelLine, Outgoing, TpmQuestion, TpmQuestions};
use referee_capabilities::Answer;

use crate::channel::{Delegating, Sending};
use crate::line::How;
use crate::vouching::{Asking, TpmAnswer};
use crate::worker::stream::StreamLine;

/// A cell, and whose output it writes.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) cell: Cell,
    /// The call that its console belongs to.
    pub(super) call: Arc<AtomicU64>,
    /// Since when nobody has called it.
    pub(super) since: Instant,
    /// Whether its memory went to swap since.
    pub(super) asleep: bool,
    /// Where its messages come out.
    pub(super) messages: ChannelLine,
    /// Where its console leads in a call that streams.
    pub(super) stream: StreamLine,
    /// Where its questions to the TPM come out.
    pub(super) questions: TpmQuestions,
    /// Which version of each state this life of the cell knows.
    pub(super) known: BTreeMap<String, String>,
}

/// What comes out of a cell for others.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) messages: ChannelLine,
    pub(super) questions: TpmQuestions,
    pub(super) stream: StreamLine,
}

impl Seat {
    pub(super) fn asking(&self, question: TpmQuestion) -> Asking {
        Asking {
            after: self.known.get(&question.slot).cloned(),
            slot: question.slot,
            kind: question.question as u8,
            payload: question.payload,
        }
    }

    /// Gives the cell what came of what it asked.
    pub(super) fn told(&mut self, answer: TpmAnswer) {
        let slot = self.questions.waiting();
        if let (Some(slot), Some(version)) = (slot, answer.version) {
            self.known.insert(slot, version);
        }
        let kind = Answer::from_number(answer.kind).unwrap_or(Answer::Failed);
        self.questions.answer(kind, answer.bytes);
    }
}

/// How a piece ends of which something goes to other deployments.
pub(super) fn carried(outgoing: Outgoing) -> How {
    match outgoing {
        Outgoing::Message(message) => How::Sends(Sending {
            slot: message.slot,
            asks: message.asks,
            bytes: message.bytes,
        }),
        Outgoing::Delegation(delegation) => How::Delegates(Delegating {
            by: delegation.by,
            slot: delegation.slot,
            to: delegation.to,
            narrowing: delegation.narrowing,
        }),
    }
}

//! Questions to the TPM that somebody carries for the cell, as messages of channels are carried: the muscle's call is interrupted, its thread is free for
//! others, and the same call goes on once there is an answer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::tpm_line::{Answer, QUESTIONS_MAX, Question};

/// A question on its way out of a cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TpmQuestion {
    /// The slot by which it is asked.
    pub slot: String,
    /// What is asked for.
    pub question: Question,
    /// CBOR, as the question's kind has it.
    pub payload: Vec<u8>,
}

/// Where a cell's questions wait to be carried on, and their answers to be fetched. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct TpmQuestions(Arc<Mutex<Line>>);

#[derive(Debug, Default)]
struct Line {
    state: State,
    /// Questions of the present call.
    asked: u32,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Idle,
    Asked(TpmQuestion),
    /// Carried on; the slot is the one that waits.
    Waiting(String),
    Answered(String, Answer, Vec<u8>),
}

/// How far the question of a slot is.
pub(crate) enum Progress {
    New,
    Underway,
    Over(Answer, Vec<u8>),
}

impl TpmQuestions {
    /// Forgets what was under way, and lets the cell ask as often as it may in a call: another call begins.
    pub fn begin_call(&self) {
        *self.lock() = Line::default();
    }

    /// The question that waits to be carried on, once.
    pub fn take(&self) -> Option<TpmQuestion> {
        let mut line = self.lock();
        match std::mem::take(&mut line.state) {
            State::Asked(question) => {
                line.state = State::Waiting(question.slot.clone());
                Some(question)
            }
            other => {
                line.state = other;
                None
            }
        }
    }

    /// The slot whose question was taken last and has no answer yet.
    pub fn waiting(&self) -> Option<String> {
        match &self.lock().state {
            State::Waiting(slot) => Some(slot.clone()),
            State::Idle | State::Asked(_) | State::Answered(..) => None,
        }
    }

    /// Answers the question that was taken last. Without effect when nobody waits for it.
    pub fn answer(&self, answer: Answer, bytes: Vec<u8>) {
        let mut line = self.lock();
        if let State::Waiting(slot) = &line.state {
            line.state = State::Answered(slot.clone(), answer, bytes);
        }
    }

    /// What is under way by another slot belongs to a call that ended without its answer: its grant was taken back meanwhile.
    pub(crate) fn progress(&self, slot: &str) -> Progress {
        let mut line = self.lock();
        match std::mem::take(&mut line.state) {
            State::Answered(of, answer, bytes) if of == slot => Progress::Over(answer, bytes),
            State::Waiting(of) if of == slot => {
                line.state = State::Waiting(of);
                Progress::Underway
            }
            State::Asked(question) if question.slot == slot => {
                line.state = State::Asked(question);
                Progress::Underway
            }
            State::Idle | State::Asked(_) | State::Waiting(_) | State::Answered(..) => Progress::New,
        }
    }

    pub(crate) fn may_ask(&self) -> bool {
        self.lock().asked < QUESTIONS_MAX
    }

    pub(crate) fn put(&self, question: TpmQuestion) {
        let mut line = self.lock();
        line.asked = line.asked.saturating_add(1);
        line.state = State::Asked(question);
    }

    /// No change of what is locked here can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

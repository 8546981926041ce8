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

#[cfg(test)]
mod tests {
    use super::*;

    fn question(slot: &str) -> TpmQuestion {
        TpmQuestion {
            slot: slot.into(),
            question: Question::Load,
            payload: Vec::new(),
        }
    }

    #[test]
    fn an_answer_is_for_the_slot_that_asked_and_for_nobody_else() {
        let line = TpmQuestions::default();
        line.put(question("notes"));
        assert!(matches!(line.progress("notes"), Progress::Underway));
        assert_eq!(line.take(), Some(question("notes")));
        assert_eq!(line.take(), None, "it is carried on once");
        assert_eq!(line.waiting().as_deref(), Some("notes"));
        line.answer(Answer::Given, vec![7]);
        assert_eq!(line.waiting(), None);
        // One that comes unasked says nothing.
        line.answer(Answer::Given, vec![8]);
        assert!(matches!(line.progress("notes"), Progress::Over(Answer::Given, bytes) if bytes == [7]));
        assert!(matches!(line.progress("notes"), Progress::New));
        // The grant of the slot was taken back meanwhile, and another asks.
        line.put(question("notes"));
        assert!(line.take().is_some());
        line.answer(Answer::Given, vec![9]);
        assert!(matches!(line.progress("other"), Progress::New));
        assert!(matches!(line.progress("notes"), Progress::New));
    }

    #[test]
    fn a_call_may_ask_so_often_and_the_next_one_again() {
        let line = TpmQuestions::default();
        for _ in 0..QUESTIONS_MAX {
            assert!(line.may_ask());
            line.put(question("notes"));
        }
        assert!(!line.may_ask());
        line.begin_call();
        assert!(line.may_ask());
        assert!(matches!(line.progress("notes"), Progress::New));
    }
}

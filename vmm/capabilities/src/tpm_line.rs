//! The line to the parent, which speaks to the host's TPM: the cell's process cannot.
//!
//! ```text
//!   asked:     kind │ length in 4 bytes, little-endian │ CBOR array
//!              0 evidence  [user_data, nonce, public_key]
//!              1 load      [slot]
//!              2 save      [slot, bytes]
//!   answered:  kind │ length in 4 bytes │ so many bytes
//!              0 what was asked for, 1 why not, for the log, 2 there is nothing, 3 another cell saved in between
//! ```
//! Who the muscle is, what it was granted and what was measured is the parent's to say; nothing of it comes from here.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;
use rustix::io::Errno;

use crate::broker::Act;
use crate::error::{CallError, HostError, Refusal, Stop};
use crate::tpm_questions::{Progress, TpmQuestion, TpmQuestions};

/// Most questions of one cell: each keeps a TPM busy that others wait for.
pub const QUESTIONS_MAX: u32 = 64;
/// Most bytes of an answer; the log of a long boot makes evidence long.
const ANSWER_MAX: usize = 16 << 20;
const HEAD: usize = 5;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Question {
    /// Evidence of the host's TPM.
    Evidence = 0,
    /// A muscle's state.
    Load = 1,
    /// To replace it.
    Save = 2,
}

impl Question {
    /// The question with this number.
    pub const fn from_number(number: u8) -> Option<Question> {
        match number {
            0 => Some(Question::Evidence),
            1 => Some(Question::Load),
            2 => Some(Question::Save),
            _ => None,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Answer {
    /// It is done, and here is what was asked for.
    Given = 0,
    /// It could not be done, and why.
    Failed = 1,
    /// There is nothing yet.
    Nothing = 2,
    /// Another cell saved since this one loaded.
    Conflict = 3,
}

impl Answer {
    /// The answer with this number.
    pub const fn from_number(number: u8) -> Option<Answer> {
        match number {
            0 => Some(Answer::Given),
            1 => Some(Answer::Failed),
            2 => Some(Answer::Nothing),
            3 => Some(Answer::Conflict),
            _ => None,
        }
    }
}

/// How a cell asks the TPM. One question at a time: the muscle waits for the answer.
#[derive(Debug)]
pub(crate) enum TpmLine {
    /// By a line to the parent, on which the thread waits too.
    Direct(DirectLine),
    /// By whoever runs the cell, which stops meanwhile.
    Carried(TpmQuestions),
}

impl TpmLine {
    /// The descriptor that must stay open.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            TpmLine::Direct(line) => Some(line.line.as_fd()),
            TpmLine::Carried(_) => None,
        }
    }

    /// Records the question and asks it, or goes on waiting for its answer.
    pub fn ask<'p>(
        &mut self,
        question: Question,
        payload: &[u8],
        detail: &[(&'static str, Value<'_>)],
        act: &mut Act<'_>,
    ) -> Result<(Answer, Vec<u8>), Refusal<'p>> {
        let (answer, bytes) = match self {
            TpmLine::Direct(line) => line.ask(question, payload, detail, act)?,
            TpmLine::Carried(line) => carried(line, question, payload, detail, act)?,
        };
        if answer == Answer::Failed {
            // For whoever reads the log; a muscle learns that it failed.
            act.record(&[("tpm", Value::Text(&String::from_utf8_lossy(&bytes)))])?;
        }
        Ok((answer, bytes))
    }

    /// Lets a slot not wait any more.
    pub fn abandon(&mut self, slot: &str) {
        match self {
            TpmLine::Direct(line) => line.abandon(slot),
            // Another slot's question takes its place.
            TpmLine::Carried(_) => {}
        }
    }
}

fn carried<'p>(
    line: &TpmQuestions,
    question: Question,
    payload: &[u8],
    detail: &[(&'static str, Value<'_>)],
    act: &mut Act<'_>,
) -> Result<(Answer, Vec<u8>), Refusal<'p>> {
    let slot = act.grant.slot();
    match line.progress(slot) {
        Progress::Over(answer, bytes) => {
            act.was_recorded();
            return Ok((answer, bytes));
        }
        Progress::Underway => {}
        Progress::New if !line.may_ask() => return Err(too_often().into()),
        Progress::New => {
            act.record(detail)?;
            line.put(TpmQuestion {
                slot: slot.to_owned(),
                question,
                payload: payload.to_vec(),
            });
        }
    }
    Err(Refusal::Stop(Stop::Interrupted))
}

fn too_often() -> CallError<'static> {
    CallError::new(ErrorCode::Denied, "no more of the TPM's time for this cell")
}

/// The cell's end of a line to the parent.
#[derive(Debug)]
pub(crate) struct DirectLine {
    line: OwnedFd,
    /// The slot that waits for an answer.
    asked: Option<String>,
    /// Whether the next answer is to a question that nobody waits for any more.
    owed: bool,
    questions: u32,
    answer: Vec<u8>,
}

impl DirectLine {
    pub fn new(line: OwnedFd) -> DirectLine {
        DirectLine {
            line,
            asked: None,
            owed: false,
            questions: 0,
            answer: Vec::new(),
        }
    }

    /// Records the question and asks it, or goes on waiting where a signal interrupted.
    fn ask<'p>(
        &mut self,
        question: Question,
        payload: &[u8],
        detail: &[(&'static str, Value<'_>)],
        act: &mut Act<'_>,
    ) -> Result<(Answer, Vec<u8>), Refusal<'p>> {
        if self.owed {
            self.answer()?;
            self.answer.clear();
            self.owed = false;
        }
        if self.asked.is_none() {
            if self.questions >= QUESTIONS_MAX {
                return Err(too_often().into());
            }
            self.questions += 1;
            act.record(detail)?;
            self.write(question, payload).map_err(failed)?;
            self.asked = Some(act.grant.slot().to_owned());
        }
        let answer = self.answer()?;
        self.asked = None;
        let mut bytes = std::mem::take(&mut self.answer);
        bytes.drain(..HEAD.min(bytes.len()));
        Ok((answer, bytes))
    }

    /// Lets a slot not wait any more: what was asked for is done at the other end, and its answer is dropped.
    fn abandon(&mut self, slot: &str) {
        self.owed |= self.asked.take_if(|asked| asked == slot).is_some();
    }

    fn write(&mut self, question: Question, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let message = [&[question as u8][..], &length.to_le_bytes(), payload].concat();
        let mut rest = &message[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.line, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.answer.clear();
        Ok(())
    }

    /// Reads until the answer is whole.
    fn answer<'p>(&mut self) -> Result<Answer, Refusal<'p>> {
        loop {
            if let Some(&[kind, a, b, c, d]) = self.answer.first_chunk::<HEAD>() {
                let length = u32::from_le_bytes([a, b, c, d]) as usize;
                let Some(kind) = Answer::from_number(kind) else {
                    return Err(failed(io::ErrorKind::InvalidData.into()));
                };
                if length > ANSWER_MAX || self.answer.len() > HEAD + length {
                    return Err(failed(io::ErrorKind::InvalidData.into()));
                }
                if self.answer.len() == HEAD + length {
                    return Ok(kind);
                }
            }
            let mut chunk = [0; 4096];
            match rustix::io::read(&self.line, &mut chunk) {
                Ok(0) => return Err(failed(io::ErrorKind::UnexpectedEof.into())),
                Ok(count) => self.answer.extend(chunk.iter().take(count)),
                Err(Errno::INTR) => return Err(Refusal::Stop(Stop::Interrupted)),
                Err(error) => return Err(failed(error.into())),
            }
        }
    }
}

fn failed<'p>(error: io::Error) -> Refusal<'p> {
    Refusal::Stop(Stop::Host(HostError::Tpm(error)))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    use super::*;

    /// A parent that answers each question with these bytes, and gives back what it was asked.
    fn parent(mut line: UnixStream, answers: Vec<Vec<u8>>) -> std::thread::JoinHandle<Vec<Vec<u8>>> {
        std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let mut head = [0; HEAD];
                if line.read_exact(&mut head).is_err() {
                    break;
                }
                let [_, a, b, c, d] = head;
                let mut question = vec![0; u32::from_le_bytes([a, b, c, d]) as usize];
                line.read_exact(&mut question).expect("the question follows");
                asked.push(question);
                // In pieces, as a socket may have it.
                for piece in answer.chunks(3) {
                    line.write_all(piece).expect("is read");
                }
            }
            asked
        })
    }

    fn answer_of(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("is short");
        [&[kind][..], &length.to_le_bytes(), body].concat()
    }

    #[test]
    fn an_answer_in_pieces_is_whole_and_the_next_question_gets_its_own() {
        let (cell, host) = UnixStream::pair().expect("a pair");
        let parent = parent(
            host,
            vec![answer_of(0, b"first"), answer_of(1, b"no"), answer_of(0, b"")],
        );
        let mut line = DirectLine::new(cell.into());
        for (kind, body) in [
            (Answer::Given, &b"first"[..]),
            (Answer::Failed, b"no"),
            (Answer::Given, b""),
        ] {
            line.write(Question::Load, b"question").expect("asks");
            assert_eq!(line.answer().expect("answers"), kind);
            assert_eq!(line.answer.get(HEAD..), Some(body));
        }
        assert_eq!(parent.join().expect("ends"), vec![b"question".to_vec(); 3]);
    }

    #[test]
    fn a_parent_that_is_gone_or_lies_about_lengths_is_the_hosts_failure() {
        for answer in [
            vec![],
            vec![0],
            answer_of(0, b"cut")[..6].to_vec(),
            vec![0, 0xff, 0xff, 0xff, 0xff],
            answer_of(4, b"of no kind"),
        ] {
            let (cell, host) = UnixStream::pair().expect("a pair");
            let parent = parent(host, vec![answer]);
            let mut line = DirectLine::new(cell.into());
            line.write(Question::Load, b"question").expect("asks");
            let stopped = line.answer();
            assert!(
                matches!(stopped, Err(Refusal::Stop(Stop::Host(HostError::Tpm(_))))),
                "{stopped:?}"
            );
            parent.join().expect("ends");
        }
    }
}

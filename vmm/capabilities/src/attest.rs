//! Capability `attest`: evidence of the host's TPM. The cell's process cannot speak to a TPM; it asks its parent, over a socket.
//!
//! ```text
//!   asked:     length in 4 bytes, little-endian │ CBOR [user_data, nonce, public_key]
//!   answered:  0 evidence, 1 a reason │ length in 4 bytes │ so many bytes
//! ```
//! Who the muscle is, what it was granted and what was measured is the parent's to say; nothing of it comes from here.

use std::io;
use std::os::fd::OwnedFd;

use muscle_abi::frame::ErrorCode;
use referee_audit::Value;
use rustix::io::Errno;

use crate::broker::Act;
use crate::error::{CallError, HostError, Refusal, Stop};
use crate::payload::{self, Arguments};

/// Most bytes of what a muscle says.
pub const USER_DATA_MAX: usize = 512;
/// Bytes of a nonce.
pub const NONCE_BYTES: std::ops::RangeInclusive<usize> = 16..=64;
/// Most bytes of a muscle's public key.
pub const PUBLIC_KEY_MAX: usize = 1024;
/// Most bytes of an answer; the log of a long boot makes evidence long.
const ANSWER_MAX: usize = 16 << 20;
/// Most questions of one cell: each keeps a TPM busy that others wait for.
pub const QUESTIONS_MAX: u32 = 64;
const HEAD: usize = 5;

/// The line to the parent. One question at a time: the muscle waits for the answer.
#[derive(Debug)]
pub(crate) struct AttestLine {
    line: OwnedFd,
    asked: bool,
    questions: u32,
    answer: Vec<u8>,
}

impl AttestLine {
    pub fn new(line: OwnedFd) -> AttestLine {
        AttestLine {
            line,
            asked: false,
            questions: 0,
            answer: Vec::new(),
        }
    }

    /// Asks, or goes on waiting where a signal interrupted.
    pub fn act<'p>(&mut self, payload: &'p [u8], act: &mut Act<'_>) -> Result<(), Refusal<'p>> {
        let mut arguments = Arguments::new(payload, 3)?;
        let (user_data, nonce, public_key) = (arguments.bytes()?, arguments.bytes()?, arguments.bytes()?);
        arguments.finish()?;
        if user_data.len() > USER_DATA_MAX
            || public_key.len() > PUBLIC_KEY_MAX
            || !NONCE_BYTES.contains(&nonce.len())
        {
            let message = "user data of at most 512 bytes, a nonce of 16 to 64, a public key of at most 1024";
            return Err(CallError::new(ErrorCode::BadArguments, message).into());
        }
        if !self.asked {
            if self.questions >= QUESTIONS_MAX {
                return Err(CallError::new(ErrorCode::Denied, "no more evidence for this cell").into());
            }
            self.questions += 1;
            act.record(&[
                ("user_data", Value::Guest(user_data)),
                ("nonce", Value::Guest(nonce)),
            ])?;
            self.ask(payload).map_err(failed)?;
        }
        let kind = self.answer()?;
        let answer = std::mem::take(&mut self.answer);
        let body = answer.get(HEAD..).unwrap_or_default();
        if kind != 0 {
            // The reason is for the operator, who finds it in the log of the TPM's process; a muscle learns that there is none.
            return Err(CallError::new(ErrorCode::Io, "the host's TPM gives no evidence now").into());
        }
        if body.len() > act.max_chunk as usize {
            return Err(CallError::new(
                ErrorCode::TooLarge,
                "the evidence of this boot is longer than one answer",
            )
            .into());
        }
        payload::byte_string(act.reply, body.len(), |room| {
            room.copy_from_slice(body);
            Ok::<_, HostError>(body.len())
        })
        .map(|_| ())
        .map_err(|error| Refusal::Stop(Stop::Host(error)))
    }

    fn ask(&mut self, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap_or(0);
        let question = [&length.to_le_bytes()[..], payload].concat();
        let mut rest = &question[..];
        while !rest.is_empty() {
            match rustix::io::write(&self.line, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.asked = true;
        self.answer.clear();
        Ok(())
    }

    /// Reads until the answer is whole, and gives its kind.
    fn answer<'p>(&mut self) -> Result<u8, Refusal<'p>> {
        loop {
            if let Some(&[kind, a, b, c, d]) = self.answer.first_chunk::<HEAD>() {
                let length = u32::from_le_bytes([a, b, c, d]) as usize;
                if length > ANSWER_MAX {
                    return Err(failed(io::ErrorKind::InvalidData.into()));
                }
                if self.answer.len() >= HEAD + length {
                    self.asked = false;
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
    Refusal::Stop(Stop::Host(HostError::Attest(error)))
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
                let mut length = [0; 4];
                if line.read_exact(&mut length).is_err() {
                    break;
                }
                let mut question = vec![0; u32::from_le_bytes(length) as usize];
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
        let mut line = AttestLine::new(cell.into());
        for (kind, body) in [(0, &b"first"[..]), (1, b"no"), (0, b"")] {
            line.ask(b"question").expect("asks");
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
        ] {
            let (cell, host) = UnixStream::pair().expect("a pair");
            let parent = parent(host, vec![answer]);
            let mut line = AttestLine::new(cell.into());
            line.ask(b"question").expect("asks");
            let stopped = line.answer();
            assert!(
                matches!(stopped, Err(Refusal::Stop(Stop::Host(HostError::Attest(_))))),
                "{stopped:?}"
            );
            parent.join().expect("ends");
        }
    }
}

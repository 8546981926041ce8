//! What came into a cell and what went out of it, as two digests, so that a run can be compared with another one.
//!
//! Standard streams are hashed as the bytes that they are, however they were cut into calls; every other call with its slot, name,
//! payload and answer, in order. Handles are left out: they are drawn for each cell.

use std::sync::{Arc, Mutex, PoisonError};

use muscle_abi::capability::call;
use muscle_abi::frame::FrameKind;
use sha2::{Digest, Sha256};

/// A transcript that is being written; clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct Transcript(Arc<Mutex<Hashes>>);

#[derive(Debug, Clone, Default)]
struct Hashes {
    standard_input: Sha256,
    answers: Sha256,
    standard_output: Sha256,
    standard_error: Sha256,
    calls: Sha256,
}

/// SHA-256 of everything in and of everything out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Arguments, environment, the call's payload, standard input, and every answer of the host.
    pub input: [u8; 32],
    /// Standard output and error, every other call to the host, and the end: exit code, fault or result.
    pub output: [u8; 32],
}

impl Transcript {
    /// Begins with what the cell is started with.
    pub fn of(start: &[&[u8]]) -> Transcript {
        let transcript = Transcript::default();
        transcript.with(|hashes| add(&mut hashes.answers, start));
        transcript
    }

    /// Adds a call that was answered.
    pub fn call(&self, slot: &str, name: &str, payload: &[u8], kind: FrameKind, answer: &[u8]) {
        self.with(|hashes| {
            // A stream's call has one argument and its answer one value, a byte string each: behind its head are the bytes.
            match name {
                call::CONSOLE_IN => hashes.standard_input.update(byte_string(answer)),
                call::CONSOLE_OUT => hashes
                    .standard_output
                    .update(byte_string(payload.get(1..).unwrap_or_default())),
                call::CONSOLE_ERR => hashes
                    .standard_error
                    .update(byte_string(payload.get(1..).unwrap_or_default())),
                _ => {
                    add(&mut hashes.calls, &[slot.as_bytes(), name.as_bytes(), payload]);
                    add(&mut hashes.answers, &[&[kind as u8], answer]);
                }
            }
        });
    }

    /// Adds a read or write of an I/O port.
    pub fn port(&self, write: bool, port: u16, value: u32) {
        let bytes = value.to_le_bytes();
        self.with(|hashes| {
            add(&mut hashes.calls, &[&[u8::from(write)], &port.to_le_bytes()]);
            add(
                if write {
                    &mut hashes.calls
                } else {
                    &mut hashes.answers
                },
                &[&bytes],
            );
        });
    }

    /// The digests, with how the cell ended.
    pub fn digests(&self, end: &[&[u8]]) -> Digests {
        self.with(|hashes| {
            let Hashes {
                standard_input,
                answers,
                standard_output,
                standard_error,
                mut calls,
            } = hashes.clone();
            add(&mut calls, end);
            let both = |parts: &[Sha256]| {
                let digests = parts.iter().flat_map(|part| part.clone().finalize());
                Sha256::digest(digests.collect::<Vec<u8>>()).into()
            };
            Digests {
                input: both(&[standard_input, answers]),
                output: both(&[standard_output, standard_error, calls]),
            }
        })
    }

    fn with<T>(&self, act: impl FnOnce(&mut Hashes) -> T) -> T {
        // Hashing does not panic, so the hashes are whole whatever happened elsewhere.
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Hashes parts with their lengths, so that no two lists of parts are the same bytes.
fn add(hash: &mut Sha256, parts: &[&[u8]]) {
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
}

/// The bytes of a CBOR byte string; of anything else, such as an error, everything.
fn byte_string(value: &[u8]) -> &[u8] {
    minicbor::Decoder::new(value).bytes().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(value: &[u8]) -> Vec<u8> {
        let mut encoded = Vec::new();
        minicbor::Encoder::new(&mut encoded).bytes(value).expect("fits");
        encoded
    }

    fn written(pieces: &[&[u8]]) -> Digests {
        let transcript = Transcript::of(&[b"argument"]);
        for piece in pieces {
            let payload = [&[0x81][..], &bytes(piece)].concat();
            transcript.call("out", call::CONSOLE_OUT, &payload, FrameKind::Return, &[0xf6]);
        }
        transcript.digests(&[b"exited", &[0]])
    }

    #[test]
    fn streams_are_their_bytes_however_they_are_cut() {
        assert_eq!(written(&[b"ab", b"c"]), written(&[b"a", b"bc"]));
        assert_ne!(written(&[b"ab"]).output, written(&[b"abc"]).output);
        assert_eq!(written(&[b"ab"]).input, written(&[b"abc"]).input);
    }

    #[test]
    fn every_part_of_a_call_counts() {
        let of = |slot: &str, name: &str, payload: &[u8], answer: &[u8]| {
            let transcript = Transcript::of(&[]);
            transcript.call(slot, name, payload, FrameKind::Return, answer);
            transcript.digests(&[])
        };
        let base = of("in", call::FILES_READ, b"1", b"2");
        assert_ne!(base.output, of("out", call::FILES_READ, b"1", b"2").output);
        assert_ne!(base.output, of("in", call::FILES_STAT, b"1", b"2").output);
        assert_ne!(base.output, of("in", call::FILES_READ, b"3", b"2").output);
        assert_ne!(base.input, of("in", call::FILES_READ, b"1", b"3").input);
        assert_eq!(base.output, of("in", call::FILES_READ, b"1", b"3").output);
    }
}

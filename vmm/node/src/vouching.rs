//! What muscles ask of the TPM: evidence with their own words in it, and their states.
//!
//! ```text
//!   worker ─ Asks ─► granted to its worker? ─► nursery: whose worker it is ─► notary: granted to that muscle? ─► TPM
//!                    else it is ended            (bundle, publisher, grants)
//!   worker ◄─ Tpm ── the answer, in the next piece of the call; its slot was others' meanwhile
//! ```
//! Who the muscle is, the nursery says, which verified it. Neither the worker nor the supervisor can ask for another.

use std::collections::BTreeMap;

use referee_capabilities::{Answer, NONCE_BYTES, PUBLIC_KEY_MAX, QUESTIONS_MAX, Question, USER_DATA_MAX};
use referee_policy::{Grants, Power};
use serde::{Deserialize, Serialize};

use crate::error::NodeError;
use crate::line::FRAME_MAX;
use crate::node::Node;

/// Most bytes of a state's version, which is the notary's word and goes through the worker.
const VERSION_MAX: usize = 128;

/// Most bytes of an answer: with what is around it, it must fit into a frame.
const ANSWER_MAX: usize = FRAME_MAX - 4096;

/// What a muscle may ask for. The nursery says it, never a worker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TpmGrants {
    attest: Vec<String>,
    /// Slots of states, with the bytes that each may have.
    keep: BTreeMap<String, u64>,
}

/// A question as it comes from a worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asking {
    pub slot: String,
    /// Of [`Question`].
    pub kind: u8,
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
    /// Which version of the slot's state the cell knows. It is the muscle's own affair: whoever lies about it overwrites what is its own.
    pub after: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TpmAnswer {
    /// Of [`Answer`].
    pub kind: u8,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// Which version of the slot's state the cell knows from now on.
    pub version: Option<String>,
}

impl TpmAnswer {
    /// Whether it fits onto a worker's line, and what it names into the next question.
    pub(crate) fn can_be_passed_on(&self) -> bool {
        let names_too_much = |version: &String| version.len() > VERSION_MAX;
        Answer::from_number(self.kind).is_some()
            && self.bytes.len() <= ANSWER_MAX
            && !self.version.as_ref().is_some_and(names_too_much)
    }

    /// There is none.
    pub(crate) fn failed(why: &str) -> TpmAnswer {
        TpmAnswer {
            kind: Answer::Failed as u8,
            bytes: why.as_bytes().to_vec(),
            version: None,
        }
    }
}

impl TpmGrants {
    /// Of these grants.
    pub(crate) fn of(grants: &Grants) -> TpmGrants {
        let mut all = TpmGrants::default();
        for grant in grants.slots() {
            match grant.power() {
                Power::Attest => all.attest.push(grant.slot().to_owned()),
                Power::State { max_bytes } => {
                    all.keep.insert(grant.slot().to_owned(), *max_bytes);
                }
                _ => {}
            }
        }
        all
    }

    /// Holds a question against what was granted. The worker did the same before it asked: one that asks for anything else is not itself any more.
    ///
    /// # Errors
    /// What the worker did.
    pub(crate) fn check(&self, asking: &Asking) -> Result<(), &'static str> {
        let not_granted = Err("asked the TPM for what it was not granted");
        if asking
            .after
            .as_ref()
            .is_some_and(|version| version.len() > VERSION_MAX)
        {
            return not_granted;
        }
        let mut decoder = minicbor::Decoder::new(&asking.payload);
        let fits = match Question::from_number(asking.kind) {
            Some(Question::Evidence) if self.attest.contains(&asking.slot) => evidence_fits(&mut decoder),
            Some(Question::Load) if self.keep.contains_key(&asking.slot) => {
                names(&mut decoder, 1, &asking.slot)
            }
            Some(Question::Save) => match self.keep.get(&asking.slot) {
                Some(most) => {
                    names(&mut decoder, 2, &asking.slot)
                        && decoder.bytes().is_ok_and(|bytes| bytes.len() as u64 <= *most)
                }
                None => return not_granted,
            },
            _ => return not_granted,
        };
        match fits && decoder.position() == asking.payload.len() {
            true => Ok(()),
            false => not_granted,
        }
    }
}

fn names(decoder: &mut minicbor::Decoder<'_>, items: u64, slot: &str) -> bool {
    decoder.array().is_ok_and(|found| found == Some(items)) && decoder.str().is_ok_and(|found| found == slot)
}

fn evidence_fits(decoder: &mut minicbor::Decoder<'_>) -> bool {
    if !decoder.array().is_ok_and(|found| found == Some(3)) {
        return false;
    }
    let mut has = |lengths: std::ops::RangeInclusive<usize>| {
        decoder.bytes().is_ok_and(|bytes| lengths.contains(&bytes.len()))
    };
    has(0..=USER_DATA_MAX) && has(NONCE_BYTES) && has(0..=PUBLIC_KEY_MAX)
}

/// What a call has asked of the TPM.
#[derive(Debug, Default)]
pub(crate) struct Asked(u32);

impl Asked {
    /// Counts a question.
    ///
    /// # Errors
    /// What the worker did, which counts too.
    pub(crate) fn check(&mut self, granted: &TpmGrants, asking: &Asking) -> Result<(), &'static str> {
        self.0 += 1;
        match self.0 > QUESTIONS_MAX {
            true => Err("asked more of the TPM than a call may"),
            false => granted.check(asking),
        }
    }
}

impl Node {
    /// Has the TPM asked for a worker's muscle.
    pub(crate) async fn ask_tpm(&self, worker: u64, call: u64, asking: Asking) -> TpmAnswer {
        let Some(notary) = self.notary() else {
            return TpmAnswer::failed("no-tpm: this node has none");
        };
        match notary.speak(worker, call, asking).await {
            Ok(answer) => answer,
            Err(error @ NodeError::Host { .. }) => TpmAnswer::failed(&error.with_causes()),
            Err(error) => TpmAnswer::failed(&error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted() -> TpmGrants {
        TpmGrants {
            attest: vec!["speak".into()],
            keep: BTreeMap::from([("notes".into(), 4)]),
        }
    }

    fn asking(slot: &str, kind: Question, payload: &[u8]) -> Asking {
        Asking {
            slot: slot.into(),
            kind: kind as u8,
            payload: payload.to_vec(),
            after: None,
        }
    }

    fn words(user_data: usize, nonce: usize, public_key: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut out = minicbor::Encoder::new(&mut bytes);
        out.array(3).expect("in memory");
        for length in [user_data, nonce, public_key] {
            out.bytes(&vec![7; length]).expect("in memory");
        }
        bytes
    }

    fn state(slot: &str, bytes: Option<&[u8]>) -> Vec<u8> {
        let mut out = minicbor::Encoder::new(Vec::new());
        let items = if bytes.is_some() { 2 } else { 1 };
        out.array(items).and_then(|out| out.str(slot)).expect("in memory");
        if let Some(bytes) = bytes {
            out.bytes(bytes).expect("in memory");
        }
        out.into_writer()
    }

    #[test]
    fn what_was_granted_may_be_asked() {
        for asking in [
            asking("speak", Question::Evidence, &words(512, 64, 1024)),
            asking("speak", Question::Evidence, &words(0, 16, 0)),
            asking("notes", Question::Load, &state("notes", None)),
            asking("notes", Question::Save, &state("notes", Some(b"four"))),
        ] {
            assert_eq!(granted().check(&asking), Ok(()), "{asking:?}");
        }
    }

    #[test]
    fn a_worker_that_asks_for_anything_else_is_not_itself() {
        let mut known = asking("notes", Question::Load, &state("notes", None));
        known.after = Some("x".repeat(VERSION_MAX + 1));
        let mut kind = asking("notes", Question::Load, &state("notes", None));
        kind.kind = 3;
        let trailing = [state("notes", None), vec![0]].concat();
        for asking in [
            known,
            kind,
            asking("notes", Question::Evidence, &words(0, 16, 0)),
            asking("other", Question::Evidence, &words(0, 16, 0)),
            asking("speak", Question::Evidence, &words(513, 16, 0)),
            asking("speak", Question::Evidence, &words(0, 15, 0)),
            asking("speak", Question::Evidence, &words(0, 65, 0)),
            asking("speak", Question::Evidence, &words(0, 16, 1025)),
            asking("speak", Question::Load, &state("speak", None)),
            asking("notes", Question::Load, &state("other", None)),
            asking("notes", Question::Load, &trailing),
            asking("notes", Question::Save, &state("notes", Some(b"fifth"))),
            asking("notes", Question::Save, &state("other", Some(b"four"))),
            asking("other", Question::Save, &state("other", Some(b"four"))),
            asking("notes", Question::Save, &[0xff]),
        ] {
            assert_eq!(
                granted().check(&asking),
                Err("asked the TPM for what it was not granted"),
                "{asking:?}"
            );
        }
        let load = asking("notes", Question::Load, &state("notes", None));
        let mut asked = Asked::default();
        for _ in 0..QUESTIONS_MAX {
            assert_eq!(asked.check(&granted(), &load), Ok(()));
        }
        assert_eq!(
            asked.check(&granted(), &load),
            Err("asked more of the TPM than a call may")
        );
    }
}

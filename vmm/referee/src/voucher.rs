//! The host's end of the line on which a cell asks the TPM for something: it says who the muscle is, and has `referee-tpm` do the rest.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use referee_attest::{AttestError, Bundle, Reply, Request, Spoke, StateOwner, from_hex, to_hex};
use referee_bundle::VerifiedBundle;
use referee_capabilities::{Answer, QUESTIONS_MAX, Question};
use referee_policy::{Decision, Grants, Power};
use serde::{Deserialize, Serialize};

use crate::powers::grants_digest;
use crate::tpm::{HostTpm, measured};

/// Asks the TPM one thing.
pub type Ask<'a> = dyn FnMut(&Request) -> referee_attest::Answer + 'a;

/// Longest question: a state, with its slot's name.
const QUESTION_MAX: u64 = muscle_abi::capability::STATE_MAX + 1024;

/// Who a muscle is and what of the TPM it may ask for, as whoever verified its bundle and knows its grants says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vouched {
    bundle: Bundle,
    /// Publisher and name of the muscle.
    owner: (String, String),
    grants: [u8; 32],
    may_attest: bool,
    /// Granted states with the bytes that each may have.
    may_keep: BTreeMap<String, u64>,
}

impl Vouched {
    /// Of this bundle, with these grants.
    pub fn new(bundle: &VerifiedBundle, decision: &Decision, grants: &Grants) -> Vouched {
        Vouched {
            bundle: measured(bundle),
            owner: (
                bundle.signer().publisher.clone(),
                bundle.manifest().name.to_string(),
            ),
            grants: grants_digest(decision, grants),
            may_attest: grants.slots().iter().any(|grant| *grant.power() == Power::Attest),
            may_keep: grants
                .slots()
                .iter()
                .filter_map(|grant| match grant.power() {
                    Power::State { max_bytes } => Some((grant.slot().to_owned(), *max_bytes)),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The bundle as it is measured.
    pub fn bundle(&self) -> &Bundle {
        &self.bundle
    }
}

/// Answers one cell.
#[derive(Debug)]
pub struct Voucher {
    cell: String,
    vouched: Vouched,
    /// What it has asked so far.
    questions: u32,
    /// Which version of a slot's state this cell knows.
    known: BTreeMap<String, String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum VoucherError {
    /// The TPM does not serve.
    #[error("{name}: {error}", name = .0.name(), error = .0)]
    Tpm(#[from] AttestError),
    /// The cell's process does not speak as agreed.
    #[error("a question of another shape")]
    Question,
    /// It asks for what is not its own.
    #[error("not-granted: the cell's process asks for what its muscle was not granted, or too often")]
    NotGranted,
    /// `referee-tpm` does not speak as agreed.
    #[error("referee-tpm is of another version than this program")]
    Reply,
}

impl From<minicbor::decode::Error> for VoucherError {
    fn from(_: minicbor::decode::Error) -> VoucherError {
        VoucherError::Question
    }
}

impl Voucher {
    /// For this cell.
    pub fn new(cell: &str, bundle: &VerifiedBundle, decision: &Decision, grants: &Grants) -> Voucher {
        Voucher::of(cell, Vouched::new(bundle, decision, grants))
    }

    /// For this cell, of which this is said.
    pub fn of(cell: &str, vouched: Vouched) -> Voucher {
        Voucher {
            cell: cell.to_owned(),
            vouched,
            questions: 0,
            known: BTreeMap::new(),
        }
    }

    /// Says which version of a slot's state the cell knows: what it saves is to replace that one.
    pub fn knows(&mut self, slot: &str, version: String) {
        self.known.insert(slot.to_owned(), version);
    }

    /// Which version of a slot's state the cell knows.
    pub fn known(&self, slot: &str) -> Option<&str> {
        self.known.get(slot).map(String::as_str)
    }

    /// Answers until the cell's end of the line is closed. What goes wrong is in the cell's audit log, and is told to `tell`.
    pub fn serve(mut self, tpm: &HostTpm, mut line: UnixStream, tell: impl Fn(&str)) {
        while let Ok(Some((kind, question))) = question(&mut line) {
            let (answer, bytes) = match self.answer(&mut |request| tpm.ask(request), kind, &question) {
                Ok(answered) => answered,
                Err(error) => {
                    let why = error.to_string();
                    tell(&why);
                    (Answer::Failed, why.into_bytes())
                }
            };
            let length = u32::try_from(bytes.len()).unwrap_or(0);
            let reply = [&[answer as u8][..], &length.to_le_bytes(), &bytes].concat();
            if line.write_all(&reply).is_err() {
                return;
            }
        }
    }

    /// Answers one question, by whoever asks the TPM.
    ///
    /// # Errors
    /// [`VoucherError`].
    pub fn answer(
        &mut self,
        ask: &mut Ask<'_>,
        kind: u8,
        question: &[u8],
    ) -> Result<(Answer, Vec<u8>), VoucherError> {
        // The cell's process has looked at all of this. It is the one that a muscle would have broken out into, so it is not believed.
        self.questions += 1;
        if self.questions > QUESTIONS_MAX {
            return Err(VoucherError::NotGranted);
        }
        let mut decoder = minicbor::Decoder::new(question);
        let items = decoder.array()?;
        match (Question::from_number(kind), items) {
            (Some(Question::Evidence), Some(3)) if self.vouched.may_attest => {
                let mut bytes = || decoder.bytes().map(to_hex);
                let (user_data, nonce, public_key) = (bytes()?, bytes()?, bytes()?);
                let request = self.evidence(user_data, nonce, public_key);
                match ask(&request)? {
                    Reply::Bytes { bytes } => given(&bytes),
                    _ => Err(VoucherError::Reply),
                }
            }
            (Some(Question::Load), Some(1)) => {
                let slot = decoder.str()?;
                self.granted(slot, &[])?;
                self.load(ask, slot)
            }
            (Some(Question::Save), Some(2)) => {
                let (slot, bytes) = (decoder.str()?, decoder.bytes()?);
                self.granted(slot, bytes)?;
                self.save(ask, slot, bytes)
            }
            (Some(Question::Evidence), Some(3)) => Err(VoucherError::NotGranted),
            _ => Err(VoucherError::Question),
        }
    }

    fn granted(&self, slot: &str, bytes: &[u8]) -> Result<(), VoucherError> {
        match self.vouched.may_keep.get(slot) {
            Some(max_bytes) if bytes.len() as u64 <= *max_bytes => Ok(()),
            _ => Err(VoucherError::NotGranted),
        }
    }

    fn evidence(&self, user_data: String, nonce: String, public_key: String) -> Request {
        let spoke = Spoke {
            bundle: self.vouched.bundle.clone(),
            grants: self.vouched.grants,
            user_data,
            nonce: nonce.clone(),
            public_key,
        };
        Request::Evidence {
            nonce,
            spoke: BTreeMap::from([(self.cell.clone(), spoke)]),
            audit_head: None,
        }
    }

    fn load(&mut self, ask: &mut Ask<'_>, slot: &str) -> Result<(Answer, Vec<u8>), VoucherError> {
        let request = Request::LoadState {
            owner: self.owner(slot),
            epoch: self.vouched.bundle.epoch,
        };
        let Reply::State { version, bytes, .. } = ask(&request)? else {
            return Err(VoucherError::Reply);
        };
        self.known.insert(slot.to_owned(), version);
        match bytes {
            Some(bytes) => given(&bytes),
            None => Ok((Answer::Nothing, Vec::new())),
        }
    }

    fn save(
        &mut self,
        ask: &mut Ask<'_>,
        slot: &str,
        bytes: &[u8],
    ) -> Result<(Answer, Vec<u8>), VoucherError> {
        let request = Request::SaveState {
            owner: self.owner(slot),
            bundle: self.vouched.bundle.clone(),
            after: self.known.get(slot).cloned(),
            bytes: to_hex(bytes),
        };
        match ask(&request) {
            Ok(Reply::State { version, .. }) => {
                self.known.insert(slot.to_owned(), version);
                Ok((Answer::Given, Vec::new()))
            }
            Err(error) if error.name() == "state-conflict" => Ok((Answer::Conflict, Vec::new())),
            Err(error) => Err(error.into()),
            Ok(_) => Err(VoucherError::Reply),
        }
    }

    fn owner(&self, slot: &str) -> StateOwner {
        let (publisher, muscle) = self.vouched.owner.clone();
        StateOwner {
            publisher,
            muscle,
            slot: slot.to_owned(),
        }
    }
}

fn given(text: &str) -> Result<(Answer, Vec<u8>), VoucherError> {
    let bytes = from_hex(text).ok_or(VoucherError::Reply)?;
    Ok((Answer::Given, bytes))
}

/// The next question; `None` for one that is too long.
fn question(line: &mut UnixStream) -> std::io::Result<Option<(u8, Vec<u8>)>> {
    let mut head = [0; 5];
    line.read_exact(&mut head)?;
    let [kind, a, b, c, d] = head;
    let length = u32::from_le_bytes([a, b, c, d]);
    if u64::from(length) > QUESTION_MAX {
        return Ok(None);
    }
    let mut question = vec![0; length as usize];
    line.read_exact(&mut question)?;
    Ok(Some((kind, question)))
}

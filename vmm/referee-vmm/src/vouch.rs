//! The parent's end of the line on which a cell asks for evidence: it says who the muscle is, and has the TPM say the rest.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use anyhow::bail;
use referee::{grants_digest, measured};
use referee_attest::{Bundle, Request, Spoke, to_hex};
use referee_bundle::VerifiedBundle;
use referee_policy::{Decision, Grants};

use crate::cli::TpmArgs;
use crate::measured::{HostIdentity, ask_document};

/// Longest question: user data, nonce and key of a muscle.
const QUESTION_MAX: usize = 4096;

/// Answers until the cell's process is gone.
#[derive(Debug)]
pub struct Voucher<'a> {
    tpm: &'a TpmArgs,
    host: &'a HostIdentity,
    cell: String,
    bundle: Bundle,
    grants: [u8; 32],
}

impl<'a> Voucher<'a> {
    /// For this cell.
    pub fn new(
        tpm: &'a TpmArgs,
        host: &'a HostIdentity,
        cell: &str,
        bundle: &VerifiedBundle,
        decision: &Decision,
        grants: &Grants,
    ) -> Voucher<'a> {
        Voucher {
            tpm,
            host,
            cell: cell.to_owned(),
            bundle: measured(bundle),
            grants: grants_digest(decision, grants),
        }
    }

    /// Answers until the cell's process is gone; what goes wrong is said to the operator, and that it went wrong to the muscle.
    pub fn serve(&self, mut line: UnixStream) {
        while let Ok(Some(question)) = question(&mut line) {
            let (kind, answer) = match self.evidence(&question) {
                Ok(evidence) => (0u8, evidence),
                Err(error) => {
                    eprintln!("referee-vmm: no evidence for the muscle: {error:#}");
                    (1, Vec::new())
                }
            };
            let length = u32::try_from(answer.len()).unwrap_or(0);
            let reply = [&[kind][..], &length.to_le_bytes(), &answer].concat();
            if line.write_all(&reply).is_err() {
                return;
            }
        }
    }

    fn evidence(&self, question: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut decoder = minicbor::Decoder::new(question);
        if decoder.array()? != Some(3) {
            bail!("a question of another shape");
        }
        let (user_data, nonce, public_key) = (
            to_hex(decoder.bytes()?),
            to_hex(decoder.bytes()?),
            to_hex(decoder.bytes()?),
        );
        let spoke = Spoke {
            bundle: self.bundle.clone(),
            grants: self.grants,
            user_data,
            nonce: nonce.clone(),
            public_key,
        };
        let request = Request::Evidence {
            nonce,
            spoke: BTreeMap::from([(self.cell.clone(), spoke)]),
            audit_head: None,
        };
        ask_document(self.tpm, self.host, &request)
    }
}

fn question(line: &mut UnixStream) -> std::io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    line.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length) as usize;
    if length > QUESTION_MAX {
        return Ok(None);
    }
    let mut question = vec![0; length];
    line.read_exact(&mut question)?;
    Ok(Some(question))
}

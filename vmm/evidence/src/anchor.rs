//! The anchor of a checkpoint: the TPM certified the anti-rollback counter over the checkpoint's hash, when the counter had gone up for it.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};
use sha2::{Digest as _, Sha256};

use crate::check::{attestation_key, counter, key_known, no};
use crate::error::{Malformed, decode, encode};
use crate::evidence::Certified;
use crate::reference::Reference;
use crate::report::Report;

/// What a TPM says about a checkpoint of an audit log.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Anchor {
    #[n(0)]
    format: u32,
    /// TPMT_PUBLIC of the attestation key.
    #[n(1)]
    pub attestation_key: ByteVec,
    /// NV_Certify of the anti-rollback counter; its qualifying data is the SHA-256 of the checkpoint's text.
    #[n(2)]
    pub counter: Certified,
}

impl Anchor {
    const FORMAT: u32 = 1;

    /// Puts the parts together.
    pub fn new(attestation_key: Vec<u8>, counter: Certified) -> Anchor {
        Anchor {
            format: Anchor::FORMAT,
            attestation_key: attestation_key.into(),
            counter,
        }
    }

    /// The hash that the TPM's statement carries.
    pub fn qualifying(checkpoint: &str) -> [u8; 32] {
        Sha256::digest(checkpoint).into()
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Anchor, Malformed> {
        let anchor: Anchor = decode("anchor", bytes)?;
        match anchor.format {
            Anchor::FORMAT => Ok(anchor),
            other => Err(Malformed::new(
                "anchor",
                format!("format {other}; this program reads format 1"),
            )),
        }
    }

    /// The file in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

/// Checks that a TPM which the reference knows certified its counter over this checkpoint, and gives the counter's value.
pub fn check_anchor(
    report: &mut Report,
    bytes: &[u8],
    checkpoint: &str,
    reference: &Reference,
) -> Option<u64> {
    let checked = || {
        let anchor = Anchor::parse(bytes)?;
        let (key, _) = attestation_key(&anchor.attestation_key)?;
        let (known, _) = key_known(&key, reference)?;
        if known.software && !reference.allow_software_tpm {
            return no("TPM", "a program of the host, which the reference does not allow");
        }
        let (value, _) = counter(&anchor.counter, &key, &Anchor::qualifying(checkpoint), reference)?;
        if value < reference.counter.minimum {
            let minimum = reference.counter.minimum;
            return no(
                "counter",
                format!("{value}; the reference wants at least {minimum}"),
            );
        }
        Ok((
            value,
            format!("certified by the TPM when its counter was {value}"),
        ))
    };
    report.note("anchor", checked())
}

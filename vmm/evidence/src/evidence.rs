//! The one file that holds everything a verifier needs, but the nonce and the reference, which are the verifier's own.

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::claims::Token;
use crate::error::{Malformed, decode, encode};
use crate::event_log::EventLog;
use crate::tpm::{AttestationKey, Attested};

/// A statement of the TPM and its signature, as the TPM gave them.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Certified {
    /// TPMS_ATTEST.
    #[n(0)]
    pub statement: ByteVec,
    /// TPMT_SIGNATURE.
    #[n(1)]
    pub signature: ByteVec,
}

impl Certified {
    /// The statement, if this key made it and it carries `qualifying`.
    ///
    /// # Errors
    /// [`Malformed`] with what does not hold.
    pub fn open(&self, key: &AttestationKey, qualifying: &[u8]) -> Result<Attested, Malformed> {
        key.verify(&self.statement, &self.signature)?;
        let attested = Attested::parse(&self.statement)?;
        let no = |what: &str| Err(Malformed::new("TPM statement", what));
        if attested.signer != key.qualified_name() {
            return no("its signer is no primary key of the endorsement hierarchy with this public part");
        }
        if attested.qualifying != qualifying {
            return no("made for something else: its qualifying data is not the hash of this document");
        }
        Ok(attested)
    }
}

/// Evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Evidence {
    #[n(0)]
    format: u32,
    /// COSE_Sign.
    #[n(1)]
    pub token: ByteVec,
    /// The quote over identity and muscles.
    #[n(2)]
    pub quote: Certified,
    /// NV_Certify of the anti-rollback counter.
    #[n(3)]
    pub counter: Certified,
    /// TPMT_PUBLIC of the attestation key.
    #[n(4)]
    pub attestation_key: ByteVec,
    /// Certificates of the endorsement key in DER, the TPM's own first; empty where the TPM has none.
    #[n(5)]
    pub certificates: Vec<ByteVec>,
    /// The event log, a CBOR sequence.
    #[n(6)]
    pub log: ByteVec,
}

impl Evidence {
    /// Version of the format.
    pub const FORMAT: u32 = 1;

    /// Puts the parts together.
    pub fn new(
        token: &Token,
        quote: Certified,
        counter: Certified,
        attestation_key: Vec<u8>,
        certificates: Vec<Vec<u8>>,
        log: &EventLog,
    ) -> Evidence {
        Evidence {
            format: Evidence::FORMAT,
            token: token.to_bytes().into(),
            quote,
            counter,
            attestation_key: attestation_key.into(),
            certificates: certificates.into_iter().map(ByteVec::from).collect(),
            log: log.to_bytes().into(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Malformed`] when it is no evidence of this format.
    pub fn parse(bytes: &[u8]) -> Result<Evidence, Malformed> {
        let evidence: Evidence = decode("evidence", bytes)?;
        if evidence.format != Evidence::FORMAT {
            return Err(Malformed::new(
                "evidence",
                format!(
                    "format {}; this program reads format {}",
                    evidence.format,
                    Evidence::FORMAT
                ),
            ));
        }
        Ok(evidence)
    }

    /// The file in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// The event log, whole.
    ///
    /// # Errors
    /// [`Malformed`]; a torn record at the end is one.
    pub fn event_log(&self) -> Result<EventLog, Malformed> {
        match EventLog::parse(&self.log)? {
            (log, 0) => Ok(log),
            (_, torn) => Err(Malformed::new(
                "event log",
                format!("{torn} bytes of an unfinished record at its end"),
            )),
        }
    }
}

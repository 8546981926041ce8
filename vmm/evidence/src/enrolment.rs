//! Enrolment: how somebody else becomes sure that an attestation key is in a real TPM (TCG TPM 2.0 Library, Part 1, 24: credential
//! protection).
//!
//! ```text
//!   host ─► request: attestation key, endorsement key, its certificates ─► verifier: chain to the maker's CA, then
//!   host ◄─ challenge: a secret that the TPM opens only if both keys are in it ◄─┘
//!   host ─► the secret ─► verifier: now the attestation key is known
//! ```

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Encode};

use crate::error::{Malformed, decode, encode};
use crate::reader::Reader;

const FORMAT: u32 = 1;

/// What a host says about the keys of its TPM.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct EnrolmentRequest {
    #[n(0)]
    format: u32,
    /// TPMT_PUBLIC of the attestation key.
    #[n(1)]
    pub attestation_key: ByteVec,
    /// TPMT_PUBLIC of the endorsement key.
    #[n(2)]
    pub endorsement_key: ByteVec,
    /// Certificates in DER, the endorsement key's own first.
    #[n(3)]
    pub certificates: Vec<ByteVec>,
}

impl EnrolmentRequest {
    /// Puts the parts together.
    pub fn new(
        attestation_key: Vec<u8>,
        endorsement_key: Vec<u8>,
        certificates: Vec<Vec<u8>>,
    ) -> EnrolmentRequest {
        EnrolmentRequest {
            format: FORMAT,
            attestation_key: attestation_key.into(),
            endorsement_key: endorsement_key.into(),
            certificates: certificates.into_iter().map(ByteVec::from).collect(),
        }
    }

    /// Reads the file; nothing in it is believed yet.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<EnrolmentRequest, Malformed> {
        let request: EnrolmentRequest = decode("enrolment request", bytes)?;
        known("enrolment request", request.format)?;
        Ok(request)
    }

    /// The file in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

/// A secret for a TPM that has both keys.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Challenge {
    #[n(0)]
    format: u32,
    /// TPMS_ID_OBJECT: the secret under a key that only the endorsement key opens, bound to the attestation key's name.
    #[n(1)]
    pub credential: ByteVec,
    /// The seed of that key, encrypted to the endorsement key.
    #[n(2)]
    pub seed: ByteVec,
}

impl Challenge {
    /// Puts the parts together.
    pub fn new(credential: Vec<u8>, seed: Vec<u8>) -> Challenge {
        Challenge {
            format: FORMAT,
            credential: credential.into(),
            seed: seed.into(),
        }
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Challenge, Malformed> {
        let challenge: Challenge = decode("challenge", bytes)?;
        known("challenge", challenge.format)?;
        Ok(challenge)
    }

    /// The file in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }
}

fn known(document: &'static str, format: u32) -> Result<(), Malformed> {
    match format {
        FORMAT => Ok(()),
        other => Err(Malformed::new(
            document,
            format!("format {other}; this program reads format {FORMAT}"),
        )),
    }
}

/// An endorsement key by the default template for RSA 2048 (TCG EK Credential Profile 2.5, B.3.3), which nearly every TPM has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndorsementKey {
    /// 256 bytes, big-endian; the exponent is 65537.
    pub modulus: Vec<u8>,
}

impl EndorsementKey {
    /// Reads a TPMT_PUBLIC and checks that such a key decrypts nothing but what binds another key's name.
    ///
    /// # Errors
    /// [`Malformed`] with the field.
    pub fn parse(public: &[u8]) -> Result<EndorsementKey, Malformed> {
        const ALG_RSA: u16 = 0x0001;
        const ALG_SHA256: u16 = 0x000B;
        const ALG_AES: u16 = 0x0006;
        const ALG_CFB: u16 = 0x0043;
        const ALG_NULL: u16 = 0x0010;
        // fixedTPM, fixedParent, sensitiveDataOrigin, restricted, decrypt; and sign.
        const NEEDED: u32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 17;
        const SIGN: u32 = 1 << 18;
        let mut reader = Reader::new("endorsement key", public);
        reader.expect_u16("type", ALG_RSA)?;
        reader.expect_u16("name algorithm", ALG_SHA256)?;
        let attributes = reader.u32()?;
        if attributes & (NEEDED | SIGN) != NEEDED {
            return Err(reader.no(format!(
                "attributes are {attributes:#010x}; fixedTPM, fixedParent, sensitiveDataOrigin, restricted and decrypt must be set, \
                 and sign clear"
            )));
        }
        let _policy = reader.sized()?;
        reader.expect_u16("symmetric algorithm", ALG_AES)?;
        reader.expect_u16("symmetric key bits", 128)?;
        reader.expect_u16("symmetric mode", ALG_CFB)?;
        reader.expect_u16("scheme", ALG_NULL)?;
        reader.expect_u16("key bits", 2048)?;
        let exponent = reader.u32()?;
        let modulus = reader.sized()?.to_vec();
        if !matches!(exponent, 0 | 65537) || modulus.len() != 256 {
            return Err(reader.no(format!(
                "exponent {exponent} and a modulus of {} bytes; 65537 and 256 were expected",
                modulus.len()
            )));
        }
        reader.end()?;
        Ok(EndorsementKey { modulus })
    }
}

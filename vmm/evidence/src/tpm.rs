//! What a TPM signs, read and checked without one (TCG TPM 2.0 Library, Part 2: 10.12.8 TPMS_ATTEST, 12.2.4 TPMT_PUBLIC,
//! 11.3.4 TPMT_SIGNATURE).

use p256::ecdsa::signature::Verifier as _;
use p256::ecdsa::{Signature, VerifyingKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use sha2::{Digest as _, Sha256};

use crate::error::Malformed;
use crate::reader::Reader;

/// Registers that software of the host may set back to zero at any time (PC Client Platform Profile, PCR attributes).
pub const NULL_PCRS_RESETTABLE: [u32; 2] = [16, 23];

const ALG_ECC: u16 = 0x0023;
const ALG_SHA256: u16 = 0x000B;
const ALG_NULL: u16 = 0x0010;
const ALG_ECDSA: u16 = 0x0018;
const CURVE_P256: u16 = 0x0003;
const RH_ENDORSEMENT: u32 = 0x4000_000B;

const FIXED_TPM: u32 = 1 << 1;
const FIXED_PARENT: u32 = 1 << 4;
const SENSITIVE_DATA_ORIGIN: u32 = 1 << 5;
const RESTRICTED: u32 = 1 << 16;
const DECRYPT: u32 = 1 << 17;
const SIGN: u32 = 1 << 18;

/// The public part of a key that a TPM made itself, never gives away, and signs nothing with but its own statements.
#[derive(Debug, Clone)]
pub struct AttestationKey {
    key: VerifyingKey,
    name: [u8; 34],
}

impl AttestationKey {
    /// Reads a TPMT_PUBLIC and checks that it can be an attestation key: ECC P-256, ECDSA with SHA-256, fixed to its TPM, made
    /// in it, restricted, for signing alone.
    ///
    /// # Errors
    /// [`Malformed`] with the field. A key without `restricted` would sign a forged statement for whoever asks.
    pub fn parse(public: &[u8]) -> Result<AttestationKey, Malformed> {
        let mut reader = Reader::new("attestation key", public);
        reader.expect_u16("type", ALG_ECC)?;
        reader.expect_u16("name algorithm", ALG_SHA256)?;
        let attributes = reader.u32()?;
        let needed = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN;
        if attributes & (needed | DECRYPT) != needed {
            return Err(reader.no(format!(
                "attributes are {attributes:#010x}; fixedTPM, fixedParent, sensitiveDataOrigin, restricted and sign must be set, \
                 and decrypt clear"
            )));
        }
        let _policy = reader.sized()?;
        reader.expect_u16("symmetric algorithm", ALG_NULL)?;
        reader.expect_u16("signing scheme", ALG_ECDSA)?;
        reader.expect_u16("hash of the scheme", ALG_SHA256)?;
        reader.expect_u16("curve", CURVE_P256)?;
        reader.expect_u16("key derivation", ALG_NULL)?;
        let (x, y) = (reader.sized()?, reader.sized()?);
        let mut point = [4u8; 65];
        let (first, second) = point[1..].split_at_mut(32);
        for (from, to) in [(x, first), (y, second)] {
            padded(from, to).ok_or_else(|| reader.no("coordinate longer than 32 bytes"))?;
        }
        let key = VerifyingKey::from_sec1_bytes(&point).map_err(|_| reader.no("no point of the curve"))?;
        reader.end()?;
        Ok(AttestationKey {
            key,
            name: name(public),
        })
    }

    /// The object's name: its hash algorithm and the hash of its public area (Part 1, 16).
    pub fn name(&self) -> [u8; 34] {
        self.name
    }

    /// The name that statements of this key carry when it is a primary key of the endorsement hierarchy (Part 1, 26.5).
    pub fn qualified_name(&self) -> [u8; 34] {
        name(&[&RH_ENDORSEMENT.to_be_bytes()[..], &self.name].concat())
    }

    /// Checks a TPMT_SIGNATURE over a TPMS_ATTEST.
    ///
    /// # Errors
    /// [`Malformed`] when the signature is none of ECDSA with SHA-256, or is not by this key over these bytes.
    pub fn verify(&self, attested: &[u8], signature: &[u8]) -> Result<(), Malformed> {
        let parsed = ecdsa(signature)?;
        self.key
            .verify(attested, &parsed)
            .map_err(|_| Malformed::new("signature", "not made by this key over these bytes"))
    }

    /// A TPMT_SIGNATURE as `openssl` reads it.
    ///
    /// # Errors
    /// [`Malformed`] when it is none of ECDSA with SHA-256.
    pub fn signature_to_der(signature: &[u8]) -> Result<Vec<u8>, Malformed> {
        Ok(ecdsa(signature)?.to_der().as_bytes().to_vec())
    }

    /// The key as `openssl` and `tpm2_checkquote` read it.
    pub fn to_pem(&self) -> String {
        self.key.to_public_key_pem(LineEnding::LF).unwrap_or_default()
    }
}

/// SHA-256 name of a public area.
pub(crate) fn name(public: &[u8]) -> [u8; 34] {
    let mut name = [0; 34];
    let (algorithm, digest) = name.split_at_mut(2);
    algorithm.copy_from_slice(&ALG_SHA256.to_be_bytes());
    digest.copy_from_slice(&Sha256::digest(public));
    name
}

/// TPMs leave out leading zeroes, so that one signature in 128 has a short half.
fn padded(from: &[u8], to: &mut [u8]) -> Option<()> {
    let start = to.len().checked_sub(from.len())?;
    let (zeroes, rest) = to.split_at_mut(start);
    zeroes.fill(0);
    rest.copy_from_slice(from);
    Some(())
}

fn ecdsa(signature: &[u8]) -> Result<Signature, Malformed> {
    let mut reader = Reader::new("signature", signature);
    reader.expect_u16("algorithm", ALG_ECDSA)?;
    reader.expect_u16("hash", ALG_SHA256)?;
    let (r, s) = (reader.sized()?, reader.sized()?);
    let mut both = [0; 64];
    let (first, second) = both.split_at_mut(32);
    for (from, to) in [(r, first), (s, second)] {
        padded(from, to).ok_or_else(|| reader.no("half of a signature longer than 32 bytes"))?;
    }
    let parsed = Signature::from_slice(&both).map_err(|_| reader.no("no signature of the curve"))?;
    reader.end()?;
    Ok(parsed)
}

/// A statement of the TPM, before anything about it is checked but its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// Qualified name of the key that signed.
    pub signer: Vec<u8>,
    /// What the caller had bound in.
    pub qualifying: Vec<u8>,
    /// Milliseconds that the TPM has been running.
    pub clock_ms: u64,
    /// How often it was reset, and with it the host.
    pub reset_count: u32,
    /// How often it was restarted or resumed since.
    pub restart_count: u32,
    /// Whether the clock cannot have gone backwards.
    pub clock_safe: bool,
    /// Firmware version of the vendor.
    pub firmware: u64,
    /// What is stated.
    pub body: Body,
}

/// What a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// Platform configuration registers.
    Quote {
        /// Hash algorithm and registers of each bank.
        selection: Vec<(u16, Vec<u32>)>,
        /// Hash of the selected registers' values, one after the other.
        digest: Vec<u8>,
    },
    /// Contents of an NV index.
    Nv {
        /// The index's name.
        name: Vec<u8>,
        /// Where the contents begin.
        offset: u16,
        /// The contents.
        contents: Vec<u8>,
    },
}

impl Attested {
    /// Reads a TPMS_ATTEST of a quote or of an NV index.
    ///
    /// # Errors
    /// [`Malformed`] with the offset: not made by a TPM (magic), of another kind, cut, or with bytes after its end.
    pub fn parse(bytes: &[u8]) -> Result<Attested, Malformed> {
        /// TPM_GENERATED_VALUE: a restricted key signs nothing from outside that begins with it.
        const GENERATED: u32 = 0xFF54_4347;
        const TYPE_NV: u16 = 0x8014;
        const TYPE_QUOTE: u16 = 0x8018;

        let mut reader = Reader::new("TPM statement", bytes);
        if reader.u32()? != GENERATED {
            return Err(reader.no("does not begin with TPM_GENERATED_VALUE"));
        }
        let kind = reader.u16()?;
        let signer = reader.sized()?.to_vec();
        let qualifying = reader.sized()?.to_vec();
        let clock_ms = reader.u64()?;
        let reset_count = reader.u32()?;
        let restart_count = reader.u32()?;
        let clock_safe = reader.u8()? == 1;
        let firmware = reader.u64()?;
        let body = match kind {
            TYPE_QUOTE => quote(&mut reader)?,
            TYPE_NV => Body::Nv {
                name: reader.sized()?.to_vec(),
                offset: reader.u16()?,
                contents: reader.sized()?.to_vec(),
            },
            other => return Err(reader.no(format!("type {other:#06x} is no quote and no NV_Certify"))),
        };
        reader.end()?;
        Ok(Attested {
            signer,
            qualifying,
            clock_ms,
            reset_count,
            restart_count,
            clock_safe,
            firmware,
            body,
        })
    }
}

fn quote(reader: &mut Reader<'_>) -> Result<Body, Malformed> {
    /// Banks that a TPM can have (Part 2, HASH_COUNT) never reach this.
    const BANKS_MAX: u32 = 16;
    let count = reader.u32()?;
    if count > BANKS_MAX {
        return Err(reader.no(format!("{count} banks")));
    }
    let mut selection = Vec::new();
    for _ in 0..count {
        let algorithm = reader.u16()?;
        let size = reader.u8()?;
        let mask = reader.bytes(usize::from(size))?;
        let bits = (0u32..).zip(mask.iter()).flat_map(|(index, byte)| {
            (0..8)
                .filter(move |bit| byte & (1 << bit) != 0)
                .map(move |bit| index * 8 + bit)
        });
        selection.push((algorithm, bits.collect()));
    }
    Ok(Body::Quote {
        selection,
        digest: reader.sized()?.to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Attested::parse(&bytes);
            let _ = AttestationKey::parse(&bytes);
            let _ = ecdsa(&bytes);
        }
    }
}

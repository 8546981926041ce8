//! The token: an Entity Attestation Token (RFC 9711) in COSE_Sign (RFC 9052), signed by the instance key that it names.
//!
//! ```text
//!   6 iat  8 cnf: the instance key (RFC 8747)  10 nonce  265 profile  266 submods: { cell: claims of one muscle }
//!   −70001 TPM {kind, manufacturer}   −70002 registers {identity, muscles}   −70003 events counted
//!   −70004 epoch of the anti-rollback counter   −70005 head of the audit log {records, hash}
//!   −70006 SHA-256 of the ML-DSA-44 key that cosigns checkpoints of audit logs   −70007 the instance key's ML-DSA-65 half
//! ```
//! A restricted key of a TPM signs nothing but the TPM's own statements; so the instance key signs the token, and the TPM's quote
//! has the token's hash bound in. That makes the instance key as good as the quote, for whatever it signs later.

use std::collections::BTreeMap;

use minicbor::bytes::ByteVec;
use minicbor::{Decode, Decoder, Encode, Encoder};
use referee_bundle::{Algorithm, Digest, PublicKey, Signature, SignatureSet, to_be_signed};

use crate::error::{Malformed, decode, encode};
use crate::hex::to_hex;

/// What every signature of a token is also over, so that no other signature of the key can be taken for one.
pub const TOKEN_AAD: &[u8] = b"referee evidence token 1";

const PROFILE: &str = "urn:referee:evidence:1";

/// What kind of TPM stands behind the evidence, as the host says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum TpmKind {
    /// A chip, or firmware of the platform.
    #[n(0)]
    Hardware,
    /// A program of the host: whoever is root there can make it say anything.
    #[n(1)]
    Software,
}

/// What one muscle had put into the evidence.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Submodule {
    /// SHA-256 of its bundle; by the VMM.
    #[n(0)]
    #[cbor(with = "minicbor::bytes")]
    pub bundle: [u8; 32],
    /// Name and version; by the VMM.
    #[n(1)]
    pub muscle: String,
    /// Key id of the bundle's signer; by the VMM.
    #[n(2)]
    #[cbor(with = "minicbor::bytes")]
    pub signer: [u8; 32],
    /// Security epoch of the bundle; by the VMM.
    #[n(3)]
    pub epoch: u64,
    /// SHA-256 of the granted powers; by the VMM.
    #[n(4)]
    #[cbor(with = "minicbor::bytes")]
    pub grants: [u8; 32],
    /// Whether the VMM lets the cell be debugged; by the VMM.
    #[n(5)]
    pub debug: bool,
    /// Whatever the muscle says.
    #[n(6)]
    pub user_data: ByteVec,
    /// Nonce that the muscle was given.
    #[n(7)]
    pub nonce: ByteVec,
    /// A public key that the muscle made.
    #[n(8)]
    pub public_key: ByteVec,
}

impl Submodule {
    /// As people and machines read it.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "muscle": self.muscle, "bundle": to_hex(&self.bundle), "signer": to_hex(&self.signer), "security_epoch": self.epoch,
            "grants": to_hex(&self.grants), "debug": self.debug, "user_data": to_hex(&self.user_data),
            "nonce": to_hex(&self.nonce), "public_key": to_hex(&self.public_key),
        })
    }
}

/// The claims of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// When it was made, in seconds since 1970, by the host's clock.
    pub issued_at: u64,
    /// The instance key, Ed25519.
    pub instance_key: [u8; 32],
    /// The verifier's nonce.
    pub nonce: Vec<u8>,
    /// Muscles that spoke, by cell.
    pub submodules: BTreeMap<String, Submodule>,
    /// The TPM, as the host says.
    pub tpm: TpmKind,
    /// The TPM's manufacturer and model, as it says.
    pub tpm_model: String,
    /// Register of the VMM's identity.
    pub identity_pcr: u32,
    /// Register of the muscles.
    pub muscle_pcr: u32,
    /// Records of the log that the quote counts.
    pub events: u64,
    /// Value of the anti-rollback counter.
    pub epoch: u64,
    /// How many records the audit log has, and the hash of the last.
    pub audit_head: Option<(u64, [u8; 32])>,
    /// SHA-256 of the ML-DSA-44 key that cosigns checkpoints of this host's audit logs; absent where there is none.
    pub log_key: Option<[u8; 32]>,
    /// The instance key's second half, ML-DSA-65: 1952 bytes; absent where there is none.
    pub ml_dsa_key: Option<Vec<u8>>,
}

/// Public halves of an instance key. What it signs is signed by both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceKey {
    /// Ed25519.
    pub ed25519: [u8; 32],
    /// ML-DSA-65, which a quantum computer does not break; `None` where it is not known.
    pub ml_dsa: Option<Vec<u8>>,
}

impl InstanceKey {
    /// By its first half alone.
    pub fn classical(ed25519: [u8; 32]) -> InstanceKey {
        InstanceKey {
            ed25519,
            ml_dsa: None,
        }
    }

    fn halves(&self) -> Result<Vec<PublicKey>, Malformed> {
        let half = |algorithm, bytes: &[u8]| {
            PublicKey::new(algorithm, bytes)
                .map_err(|error| Malformed::new("instance key", error.to_string()))
        };
        let mut halves = vec![half(Algorithm::Ed25519, &self.ed25519)?];
        if let Some(bytes) = &self.ml_dsa {
            halves.push(half(Algorithm::MlDsa65, bytes)?);
        }
        Ok(halves)
    }
}

impl Encode<()> for Claims {
    fn encode<W: minicbor::encode::Write>(
        &self,
        out: &mut Encoder<W>,
        _: &mut (),
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        let pairs = 9
            + u64::from(self.audit_head.is_some())
            + u64::from(self.log_key.is_some())
            + u64::from(self.ml_dsa_key.is_some());
        out.map(pairs)?.u8(6)?.u64(self.issued_at)?;
        // A COSE_Key within `cnf`: {1 kty: OKP, -1 crv: Ed25519, -2 x}.
        out.u8(8)?.map(1)?.u8(1)?.map(3)?;
        out.u8(1)?
            .u8(1)?
            .i8(-1)?
            .u8(6)?
            .i8(-2)?
            .bytes(&self.instance_key)?;
        out.u8(10)?.bytes(&self.nonce)?.u16(265)?.str(PROFILE)?;
        out.u16(266)?.encode(&self.submodules)?;
        out.i32(-70001)?
            .array(2)?
            .encode(self.tpm)?
            .str(&self.tpm_model)?;
        out.i32(-70002)?
            .array(2)?
            .u32(self.identity_pcr)?
            .u32(self.muscle_pcr)?;
        out.i32(-70003)?.u64(self.events)?.i32(-70004)?.u64(self.epoch)?;
        if let Some((sequence, hash)) = &self.audit_head {
            out.i32(-70005)?.array(2)?.u64(*sequence)?.bytes(hash)?;
        }
        if let Some(hash) = &self.log_key {
            out.i32(-70006)?.bytes(hash)?;
        }
        if let Some(key) = &self.ml_dsa_key {
            out.i32(-70007)?.bytes(key)?;
        }
        Ok(())
    }
}

impl<'b> Decode<'b, ()> for Claims {
    fn decode(from: &mut Decoder<'b>, _: &mut ()) -> Result<Claims, minicbor::decode::Error> {
        let wrong = |what: &'static str| minicbor::decode::Error::message(what);
        let pairs = from.map()?;
        let key = |from: &mut Decoder<'b>, label: i64| match from.i64()? == label {
            true => Ok(()),
            false => Err(wrong("another claim than expected here")),
        };
        key(from, 6)?;
        let issued_at = from.u64()?;
        key(from, 8)?;
        let head = (
            from.map()?,
            from.u8()?,
            from.map()?,
            from.u8()?,
            from.u8()?,
            from.i8()?,
            from.u8()?,
            from.i8()?,
        );
        if head != (Some(1), 1, Some(3), 1, 1, -1, 6, -2) {
            return Err(wrong("the instance key is no Ed25519 COSE_Key"));
        }
        let instance_key = hash(from)?;
        key(from, 10)?;
        let nonce = from.bytes()?.to_vec();
        key(from, 265)?;
        if from.str()? != PROFILE {
            return Err(wrong("unknown profile"));
        }
        key(from, 266)?;
        let submodules = from.decode()?;
        let two = |from: &mut Decoder<'b>| match from.array()? {
            Some(2) => Ok(()),
            _ => Err(wrong("a pair was expected")),
        };
        key(from, -70001)?;
        two(from)?;
        let (tpm, tpm_model) = (from.decode()?, from.str()?.to_owned());
        key(from, -70002)?;
        two(from)?;
        let (identity_pcr, muscle_pcr) = (from.u32()?, from.u32()?);
        key(from, -70003)?;
        let events = from.u64()?;
        key(from, -70004)?;
        let epoch = from.u64()?;
        let Some(more) = pairs.and_then(|pairs| pairs.checked_sub(9)) else {
            return Err(wrong("claims are missing"));
        };
        let (mut audit_head, mut log_key, mut ml_dsa_key) = (None, None, None);
        let mut last = -70004;
        for _ in 0..more {
            let label = from.i64()?;
            match label {
                -70005 => {
                    two(from)?;
                    audit_head = Some((from.u64()?, hash(from)?));
                }
                -70006 => log_key = Some(hash(from)?),
                -70007 => ml_dsa_key = Some(from.bytes()?.to_vec()),
                _ => return Err(wrong("an unknown claim")),
            }
            if label >= last {
                return Err(wrong("claims are not in order"));
            }
            last = label;
        }
        Ok(Claims {
            issued_at,
            instance_key,
            nonce,
            submodules,
            tpm,
            tpm_model,
            identity_pcr,
            muscle_pcr,
            events,
            epoch,
            audit_head,
            log_key,
            ml_dsa_key,
        })
    }
}

fn hash(from: &mut Decoder<'_>) -> Result<[u8; 32], minicbor::decode::Error> {
    from.bytes()?
        .try_into()
        .map_err(|_| minicbor::decode::Error::message("32 bytes were expected"))
}

impl Claims {
    /// The claims in bytes, to be signed.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(self)
    }

    /// The instance key that they name.
    pub fn instance(&self) -> InstanceKey {
        InstanceKey {
            ed25519: self.instance_key,
            ml_dsa: self.ml_dsa_key.clone(),
        }
    }
}

/// A signed document of the instance key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(SignatureSet);

impl Token {
    /// Signs a payload with `sign`, which has the secret halves of this key.
    ///
    /// # Errors
    /// [`Malformed`] when a half is no sound key.
    pub fn sign(
        payload: Vec<u8>,
        aad: &[u8],
        key: &InstanceKey,
        sign: impl Fn(Algorithm, &[u8]) -> Vec<u8>,
    ) -> Result<Token, Malformed> {
        let signature = |half: PublicKey| {
            let (algorithm, key_id) = (half.algorithm(), half.key_id());
            Signature {
                algorithm,
                key_id,
                bytes: sign(algorithm, &to_be_signed(algorithm, key_id, aad, &payload)),
            }
        };
        let mut signatures: Vec<Signature> = key.halves()?.into_iter().map(signature).collect();
        signatures.sort_by_key(|signature| signature.key_id);
        Ok(Token(SignatureSet {
            payload: Some(payload),
            signatures,
        }))
    }

    /// Reads a token; nothing about it is checked yet.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Token, Malformed> {
        SignatureSet::decode(bytes)
            .map(Token)
            .map_err(|error| Malformed::new("token", error.to_string()))
    }

    /// The token in bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.encode().unwrap_or_default()
    }

    /// What is signed.
    pub fn payload(&self) -> &[u8] {
        self.0.payload.as_deref().unwrap_or_default()
    }

    /// The claims, whoever signed them.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn claims(&self) -> Result<Claims, Malformed> {
        decode("claims", self.payload())
    }

    /// Checks that this key signed, with each of its halves that are known, and that no other key of their algorithms did.
    ///
    /// # Errors
    /// [`Malformed`] when a signature is missing, does not hold, or is by another key.
    pub fn verify(&self, aad: &[u8], key: &InstanceKey) -> Result<(), Malformed> {
        for half in key.halves()? {
            let algorithm = half.algorithm();
            let mut found = self.0.signatures.iter().filter(|one| one.algorithm == algorithm);
            let (Some(signature), None) = (found.next(), found.next()) else {
                return Err(Malformed::new(
                    "token",
                    format!("not exactly one signature with {algorithm}"),
                ));
            };
            if signature.key_id != half.key_id() {
                return Err(Malformed::new("token", "signed by another key than it names"));
            }
            let signed = to_be_signed(algorithm, signature.key_id, aad, self.payload());
            half.verify(&signed, &signature.bytes)
                .map_err(|error| Malformed::new("token", error.to_string()))?;
        }
        Ok(())
    }

    /// How many keys have signed, whether or not they are known.
    pub fn signatures(&self) -> usize {
        self.0.signatures.len()
    }

    /// SHA-256 of the token, which the TPM's statements carry.
    pub fn digest(&self) -> [u8; 32] {
        Digest::of(&self.to_bytes()).0
    }
}

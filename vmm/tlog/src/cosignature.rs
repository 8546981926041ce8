//! Cosignatures of a checkpoint (c2sp.org/tlog-cosignature): a witness says that it has seen the log grow up to here, and when. With
//! Ed25519, and with ML-DSA-44, which a quantum computer does not break.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use ml_dsa::{EncodedVerifyingKey, KeyInit as _, Keypair as _, MlDsa44};
use zeroize::Zeroizing;

use crate::checkpoint::Checkpoint;
use crate::error::TlogError;
use crate::note::{Algorithm, Note, NoteSignature, VerifierKey};

/// A signature with the time at which it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timestamped {
    /// Seconds since 1970; 0 when the cosigner says nothing about the time.
    pub time: u64,
    /// The signature.
    pub signature: Vec<u8>,
}

impl Timestamped {
    /// Reads the bytes of a signature line.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Timestamped> {
        let (time, signature) = bytes.split_first_chunk::<8>()?;
        let time = u64::from_be_bytes(*time);
        (time <= i64::MAX.unsigned_abs()).then(|| Timestamped {
            time,
            signature: signature.to_vec(),
        })
    }

    /// The bytes of a signature line.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.time.to_be_bytes()[..], &self.signature].concat()
    }
}

/// What an Ed25519 cosigner signs.
pub(crate) fn ed25519_message(time: u64, text: &str) -> String {
    format!("cosignature/v1\ntime {time}\n{text}")
}

/// What an ML-DSA-44 cosigner signs: `cosigned_message`, for a whole tree.
pub fn cosigned_message(cosigner: &str, time: u64, checkpoint: &Checkpoint) -> Vec<u8> {
    // Both names have at most 255 bytes (`key_name_is_valid`).
    let length = |text: &str| u8::try_from(text.len()).unwrap_or(u8::MAX);
    [
        &b"subtree/v1\n\0"[..],
        &[length(cosigner)],
        cosigner.as_bytes(),
        &time.to_be_bytes(),
        &[length(&checkpoint.origin)],
        checkpoint.origin.as_bytes(),
        &0u64.to_be_bytes(),
        &checkpoint.head.size.to_be_bytes(),
        &checkpoint.head.root.0,
    ]
    .concat()
}

pub(crate) fn ed25519_holds(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = <&[u8; 32]>::try_from(public)
        .ok()
        .and_then(|key| VerifyingKey::from_bytes(key).ok());
    let signature = ed25519_dalek::Signature::from_slice(signature).ok();
    match (key, signature) {
        (Some(key), Some(signature)) => key.verify_strict(message, &signature).is_ok(),
        _ => false,
    }
}

pub(crate) fn ml_dsa_44_holds(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let key = EncodedVerifyingKey::<MlDsa44>::try_from(public)
        .map(|key| ml_dsa::VerifyingKey::<MlDsa44>::decode(&key));
    let signature = ml_dsa::Signature::<MlDsa44>::try_from(signature);
    match (key, signature) {
        (Ok(key), Ok(signature)) => key.verify_with_context(message, &[], &signature),
        _ => false,
    }
}

/// The secret halves of a cosigner's two keys, from one seed each.
pub struct CosignerKeys {
    name: String,
    ed25519: SigningKey,
    ml_dsa: ml_dsa::SigningKey<MlDsa44>,
}

impl CosignerKeys {
    /// Draws new ones and gives them with the text to keep: name and seeds. Keep it secret.
    ///
    /// # Errors
    /// [`TlogError::Key`] when the host gives no random bytes; [`TlogError::Malformed`] when the name cannot be one.
    pub fn generate(name: &str) -> Result<(CosignerKeys, Zeroizing<String>), TlogError> {
        let mut seeds = Zeroizing::new([0u8; 64]);
        getrandom::fill(&mut *seeds).map_err(|error| TlogError::Key(format!("no random bytes: {error}")))?;
        let text = Zeroizing::new(format!("{name}\n{}\n", BASE64_STANDARD.encode(*seeds)));
        Ok((CosignerKeys::parse(&text)?, text))
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(text: &str) -> Result<CosignerKeys, TlogError> {
        let no = |what: &str| TlogError::malformed("cosigner's key", what);
        let (name, seeds) = text
            .trim_end()
            .split_once('\n')
            .ok_or_else(|| no("has not two lines: name, seeds"))?;
        let seeds = Zeroizing::new(BASE64_STANDARD.decode(seeds).map_err(|_| no("is not base64"))?);
        match (seeds.first_chunk::<32>(), seeds.last_chunk::<32>(), seeds.len()) {
            (Some(ed25519), Some(ml_dsa), 64) => CosignerKeys::from_seeds(name, ed25519, ml_dsa),
            _ => Err(no("has not 64 bytes of seeds")),
        }
    }

    /// Keys from their seeds.
    ///
    /// # Errors
    /// [`TlogError::Malformed`] when the name cannot be one.
    pub fn from_seeds(name: &str, ed25519: &[u8; 32], ml_dsa: &[u8; 32]) -> Result<CosignerKeys, TlogError> {
        let keys = CosignerKeys {
            name: name.to_owned(),
            ed25519: SigningKey::from_bytes(ed25519),
            ml_dsa: ml_dsa::SigningKey::<MlDsa44>::new(&(*ml_dsa).into()),
        };
        keys.public().map(|_| keys)
    }

    /// The public halves.
    ///
    /// # Errors
    /// [`TlogError::Malformed`] when the name cannot be one.
    pub fn public(&self) -> Result<[VerifierKey; 2], TlogError> {
        let ed25519 = self.ed25519.verifying_key().to_bytes();
        let ml_dsa = self.ml_dsa.verifying_key().encode();
        Ok([
            VerifierKey::new(&self.name, Algorithm::CosignatureEd25519, &ed25519)?,
            VerifierKey::new(&self.name, Algorithm::CosignatureMlDsa44, &ml_dsa)?,
        ])
    }

    /// Cosigns with both keys.
    ///
    /// # Errors
    /// [`TlogError::Malformed`] when the note is no checkpoint.
    pub fn cosign(&self, note: &Note, time: u64) -> Result<Vec<NoteSignature>, TlogError> {
        let [ed25519, _] = self.public()?;
        let message = ed25519_message(time, &note.text);
        let signature = self.ed25519.sign(message.as_bytes()).to_bytes().to_vec();
        let stamped = Timestamped { time, signature };
        Ok(vec![
            ed25519.line(stamped.to_bytes()),
            self.cosign_ml_dsa(note, time)?,
        ])
    }

    /// Cosigns with ML-DSA-44 alone, as a log does beside its own signature.
    ///
    /// # Errors
    /// [`TlogError::Malformed`] when the note is no checkpoint.
    pub fn cosign_ml_dsa(&self, note: &Note, time: u64) -> Result<NoteSignature, TlogError> {
        let [_, key] = self.public()?;
        let message = cosigned_message(&self.name, time, &Checkpoint::parse(&note.text)?);
        let signature = self
            .ml_dsa
            .expanded_key()
            .sign_deterministic(&message, &[])
            .map_err(|error| TlogError::Key(error.to_string()))?;
        let signature = signature.encode().to_vec();
        Ok(key.line(Timestamped { time, signature }.to_bytes()))
    }
}

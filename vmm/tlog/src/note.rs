//! Signed text (c2sp.org/signed-note): the text, an empty line, and a line for each signature,
//! `— NAME base64(KEY ID ‖ SIGNATURE)`.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::cosignature::{self, Timestamped};
use crate::error::TlogError;

/// Largest note that is read: room for sixteen signatures of post-quantum size, and then some.
const NOTE_MAX: usize = 1 << 20;
const SIGNATURES_MAX: usize = 64;

/// A text with signatures, none of which is believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The text; ends with a newline.
    pub text: String,
    /// In the order of their lines.
    pub signatures: Vec<NoteSignature>,
}

/// A line of signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// Name of the key.
    pub name: String,
    /// First bytes of a hash over name, kind and key: says which key, proves nothing.
    pub id: [u8; 4],
    /// In the form of the kind of key.
    pub bytes: Vec<u8>,
}

impl Note {
    /// A text without signatures.
    pub fn unsigned(text: String) -> Note {
        Note {
            text,
            signatures: Vec::new(),
        }
    }

    /// Reads a note. Only its form is checked.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Note, TlogError> {
        let no = |what: &str| TlogError::malformed("signed note", what);
        if bytes.len() > NOTE_MAX {
            return Err(no("is larger than 1 MiB"));
        }
        let whole = std::str::from_utf8(bytes).map_err(|_| no("is not UTF-8"))?;
        if whole.chars().any(|char| char < ' ' && char != '\n') {
            return Err(no("has control characters"));
        }
        // The empty line is no part of the text, the newline before it is.
        let at = whole
            .rfind("\n\n")
            .ok_or_else(|| no("has no empty line before its signatures"))?;
        let (text, lines) = whole.split_at_checked(at + 1).unwrap_or((whole, ""));
        let lines = lines.strip_prefix('\n').unwrap_or(lines);
        if !lines.ends_with('\n') {
            return Err(no("does not end with a newline, or has no signature"));
        }
        Ok(Note {
            text: text.to_owned(),
            signatures: signature_lines(lines)?,
        })
    }
}

/// Reads lines of signatures, as a witness answers them.
///
/// # Errors
/// [`TlogError::Malformed`].
pub(crate) fn signature_lines(lines: &str) -> Result<Vec<NoteSignature>, TlogError> {
    let signatures: Vec<NoteSignature> = lines
        .lines()
        .map(NoteSignature::parse)
        .collect::<Result<_, _>>()?;
    match signatures.len() {
        1..=SIGNATURES_MAX => Ok(signatures),
        count => Err(TlogError::malformed(
            "signed note",
            format!("{count} signatures; 1 to {SIGNATURES_MAX} are read"),
        )),
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures
            .iter()
            .try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

impl NoteSignature {
    fn parse(line: &str) -> Result<NoteSignature, TlogError> {
        let no = |what: &str| TlogError::malformed("signature line", what);
        let rest = line
            .strip_prefix("— ")
            .ok_or_else(|| no("does not begin with an em dash"))?;
        let (name, text) = rest.split_once(' ').ok_or_else(|| no("has no name"))?;
        if !key_name_is_valid(name) {
            return Err(no("its name cannot be one"));
        }
        let bytes = BASE64_STANDARD.decode(text).map_err(|_| no("is not base64"))?;
        match bytes.split_first_chunk::<4>() {
            Some((id, bytes)) if !bytes.is_empty() => Ok(NoteSignature {
                name: name.to_owned(),
                id: *id,
                bytes: bytes.to_vec(),
            }),
            _ => Err(no("is too short")),
        }
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, BASE64_STANDARD.encode(bytes))
    }
}

/// 1 to 255 bytes, no spaces, no control characters, no `+`.
pub(crate) fn key_name_is_valid(name: &str) -> bool {
    let unfit = |char: char| char.is_whitespace() || char.is_control() || char == '+';
    (1..=255).contains(&name.len()) && !name.chars().any(unfit)
}

/// What a key signs, and how; the number is that of C2SP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Algorithm {
    /// Ed25519 over the text of a note.
    Ed25519 = 0x01,
    /// Ed25519 over a time and a checkpoint.
    CosignatureEd25519 = 0x04,
    /// ML-DSA-44 over a time and a tree head.
    CosignatureMlDsa44 = 0x06,
}

impl Algorithm {
    fn from_number(number: u8) -> Option<Algorithm> {
        let all = [
            Algorithm::Ed25519,
            Algorithm::CosignatureEd25519,
            Algorithm::CosignatureMlDsa44,
        ];
        all.into_iter().find(|algorithm| *algorithm as u8 == number)
    }

    fn key_bytes(self) -> usize {
        match self {
            Algorithm::Ed25519 | Algorithm::CosignatureEd25519 => 32,
            Algorithm::CosignatureMlDsa44 => 1312,
        }
    }
}

/// A public key with its name. In text: `NAME+KEY ID+base64(ALGORITHM ‖ KEY)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifierKey {
    /// Its name.
    pub name: String,
    /// What it signs.
    pub algorithm: Algorithm,
    public: Vec<u8>,
}

/// What a key says about a note.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verification {
    /// It has not signed it.
    Missing,
    /// It has signed it.
    Signed,
    /// It has signed it at this time, in seconds since 1970.
    SignedAt(u64),
}

impl VerifierKey {
    /// A key from its bytes.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn new(name: &str, algorithm: Algorithm, public: &[u8]) -> Result<VerifierKey, TlogError> {
        if !key_name_is_valid(name) {
            return Err(TlogError::malformed(
                "key",
                format!("{name:?} cannot be a key's name"),
            ));
        }
        if public.len() != algorithm.key_bytes() {
            return Err(TlogError::malformed(
                "key",
                format!("{} bytes; {} were expected", public.len(), algorithm.key_bytes()),
            ));
        }
        Ok(VerifierKey {
            name: name.to_owned(),
            algorithm,
            public: public.to_vec(),
        })
    }

    /// Reads the text.
    ///
    /// # Errors
    /// [`TlogError::Malformed`].
    pub fn parse(text: &str) -> Result<VerifierKey, TlogError> {
        let no = |what: &str| TlogError::malformed("key", what);
        let mut parts = text.trim_end().splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(no("has not the form NAME+ID+KEY"));
        };
        let bytes = BASE64_STANDARD.decode(key).map_err(|_| no("is not base64"))?;
        let (number, public) = bytes.split_first().ok_or_else(|| no("is empty"))?;
        let algorithm =
            Algorithm::from_number(*number).ok_or_else(|| no("is of an algorithm that is not known here"))?;
        let key = VerifierKey::new(name, algorithm, public)?;
        if key.id_digits() != id {
            return Err(no("its id is not that of name and key"));
        }
        Ok(key)
    }

    /// The public key.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The key id: SHA-256 over name, newline, algorithm, key; its first four bytes.
    pub fn id(&self) -> [u8; 4] {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.algorithm as u8])
            .chain_update(&self.public)
            .finalize();
        let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
        [a, b, c, d]
    }

    fn id_digits(&self) -> String {
        self.id().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Looks for this key's signature on a note, and checks it. Others are not looked at.
    ///
    /// # Errors
    /// [`TlogError::BadSignature`] when there is one that does not hold; [`TlogError::Malformed`] when a cosignature is on something that
    /// is no checkpoint.
    pub fn verify(&self, note: &Note) -> Result<Verification, TlogError> {
        let id = self.id();
        let mut result = Verification::Missing;
        for signature in &note.signatures {
            if signature.name == self.name && signature.id == id {
                result = self.check(&note.text, &signature.bytes)?;
            }
        }
        Ok(result)
    }

    fn check(&self, text: &str, bytes: &[u8]) -> Result<Verification, TlogError> {
        let bad = || TlogError::BadSignature {
            name: self.name.clone(),
        };
        let (time, holds) = match self.algorithm {
            Algorithm::Ed25519 => (
                None,
                cosignature::ed25519_holds(&self.public, text.as_bytes(), bytes),
            ),
            Algorithm::CosignatureEd25519 => {
                let stamped = Timestamped::parse(bytes).ok_or_else(bad)?;
                let message = cosignature::ed25519_message(stamped.time, text);
                let holds = cosignature::ed25519_holds(&self.public, message.as_bytes(), &stamped.signature);
                (Some(stamped.time), holds)
            }
            Algorithm::CosignatureMlDsa44 => {
                let stamped = Timestamped::parse(bytes).ok_or_else(bad)?;
                let message =
                    cosignature::cosigned_message(&self.name, stamped.time, &Checkpoint::parse(text)?);
                let holds = cosignature::ml_dsa_44_holds(&self.public, &message, &stamped.signature);
                (Some(stamped.time), holds)
            }
        };
        match (holds, time) {
            (false, _) => Err(bad()),
            (true, None) => Ok(Verification::Signed),
            (true, Some(time)) => Ok(Verification::SignedAt(time)),
        }
    }

    /// A line of signature by this key, around what its secret half signed.
    pub fn line(&self, bytes: Vec<u8>) -> NoteSignature {
        NoteSignature {
            name: self.name.clone(),
            id: self.id(),
            bytes,
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.algorithm as u8][..], &self.public].concat();
        write!(
            f,
            "{}+{}+{}",
            self.name,
            self.id_digits(),
            BASE64_STANDARD.encode(key)
        )
    }
}

#[cfg(test)]
mod tests;

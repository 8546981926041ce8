//! The COSE_Sign block (RFC 9052 §4.1) with exactly the headers that we define.
//!
//! ```text
//!   98([ h'', {}, payload or null, [ [ h'{1: algorithm, 4: key id}', {}, signature ], … ] ])
//! ```
//!
//! Algorithm and key id are in the protected header; everything else must be empty, so that no byte of the
//! block is free to change. A signature is over
//! `["Signature", h'', h'{1: algorithm, 4: key id}', external_aad, payload]`.

use std::cmp::Ordering;

use coset::iana::EnumI64 as _;
use coset::{
    CoseSign, CoseSignBuilder, CoseSignature, CoseSignatureBuilder, HeaderBuilder, ProtectedHeader,
    RegisteredLabelWithPrivate, SignatureContext, TaggedCborSerializable as _, iana,
};

use crate::cbor::same_again;
use crate::digest::KeyId;
use crate::keys::Algorithm;
use crate::rejected::{Document, Rejected};

/// Most signatures of one block.
pub(crate) const SIGNATURES_MAX: usize = 8;

/// One signature and the key that it claims to be made with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The algorithm in the protected header.
    pub algorithm: Algorithm,
    /// Where to look for the key.
    pub key_id: KeyId,
    /// The signature.
    pub bytes: Vec<u8>,
}

/// A decoded block of signatures.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SignatureSet {
    /// What is signed, when it is in the block: a trust store has it there, a bundle elsewhere.
    pub payload: Option<Vec<u8>>,
    /// The signatures, each by another key, sorted by key id.
    pub signatures: Vec<Signature>,
}

impl SignatureSet {
    /// Decodes a block and refuses every other form of the same.
    ///
    /// # Errors
    /// [`Rejected::MalformedCbor`], [`Rejected::SignatureMalformed`], [`Rejected::AlgorithmUnsupported`],
    /// [`Rejected::SignatureDuplicate`], [`Rejected::NotSorted`], [`Rejected::TooMany`], [`Rejected::NonCanonical`].
    pub fn decode(bytes: &[u8]) -> Result<SignatureSet, Rejected> {
        let block = CoseSign::from_tagged_slice(bytes).map_err(|_| Rejected::MalformedCbor {
            document: Document::Signatures,
            field: "COSE_Sign",
            offset: 0,
        })?;
        if block.signatures.len() > SIGNATURES_MAX {
            return Err(Rejected::TooMany {
                document: Document::Signatures,
                field: "signatures",
                count: block.signatures.len() as u64,
                limit: SIGNATURES_MAX as u64,
            });
        }
        let mut signatures: Vec<Signature> = Vec::with_capacity(block.signatures.len());
        for (index, signature) in block.signatures.into_iter().enumerate() {
            let signature = signature_from_cose(index, signature)?;
            match signatures.last().map(|last| last.key_id.cmp(&signature.key_id)) {
                None | Some(Ordering::Less) => {}
                Some(Ordering::Equal) => {
                    return Err(Rejected::SignatureDuplicate {
                        key_id: signature.key_id,
                    });
                }
                Some(Ordering::Greater) => {
                    return Err(Rejected::NotSorted {
                        field: "signatures",
                        index,
                    });
                }
            }
            signatures.push(signature);
        }
        let set = SignatureSet {
            payload: block.payload,
            signatures,
        };
        same_again(Document::Signatures, bytes, &set.encode()?)?;
        Ok(set)
    }

    /// Encodes the block.
    ///
    /// # Errors
    /// [`Rejected::MalformedCbor`] when the encoder refuses; no value of this type is known to make it.
    pub fn encode(&self) -> Result<Vec<u8>, Rejected> {
        let mut block = CoseSignBuilder::new();
        if let Some(payload) = &self.payload {
            block = block.payload(payload.clone());
        }
        for signature in &self.signatures {
            block = block.add_signature(
                CoseSignatureBuilder::new()
                    .protected(protected_header(signature.algorithm, signature.key_id))
                    .signature(signature.bytes.clone())
                    .build(),
            );
        }
        block
            .build()
            .to_tagged_vec()
            .map_err(|_| Rejected::MalformedCbor {
                document: Document::Signatures,
                field: "COSE_Sign",
                offset: 0,
            })
    }
}

/// The bytes that a signature of this algorithm and key is made over (RFC 9052 §4.4).
pub fn to_be_signed(algorithm: Algorithm, key_id: KeyId, external_aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let protected = ProtectedHeader {
        original_data: None,
        header: protected_header(algorithm, key_id),
    };
    coset::sig_structure_data(
        SignatureContext::CoseSignature,
        ProtectedHeader::default(),
        Some(protected),
        external_aad,
        payload,
    )
}

fn signature_from_cose(index: usize, signature: CoseSignature) -> Result<Signature, Rejected> {
    let header = signature.protected.header;
    let algorithm = match header.alg {
        Some(RegisteredLabelWithPrivate::Assigned(algorithm)) => algorithm.to_i64(),
        Some(RegisteredLabelWithPrivate::PrivateUse(number)) => number,
        Some(RegisteredLabelWithPrivate::Text(_)) | None => {
            return Err(Rejected::SignatureMalformed {
                index,
                field: "algorithm",
            });
        }
    };
    let algorithm = Algorithm::from_number(algorithm).ok_or(Rejected::AlgorithmUnsupported { algorithm })?;
    let key_id = header
        .key_id
        .try_into()
        .map_err(|_| Rejected::SignatureMalformed {
            index,
            field: "key id",
        })?;
    if signature.signature.len() != algorithm.signature_bytes() {
        return Err(Rejected::SignatureMalformed {
            index,
            field: "signature",
        });
    }
    Ok(Signature {
        algorithm,
        key_id: KeyId(key_id),
        bytes: signature.signature,
    })
}

fn protected_header(algorithm: Algorithm, key_id: KeyId) -> coset::Header {
    let algorithm = match algorithm {
        Algorithm::MlDsa65 => iana::Algorithm::ML_DSA_65,
        Algorithm::Ed25519 => iana::Algorithm::Ed25519,
    };
    HeaderBuilder::new()
        .algorithm(algorithm)
        .key_id(key_id.0.to_vec())
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> SignatureSet {
        SignatureSet {
            payload: Some(vec![1, 2, 3]),
            signatures: vec![
                Signature {
                    algorithm: Algorithm::Ed25519,
                    key_id: KeyId([1; 32]),
                    bytes: vec![9; 64],
                },
                Signature {
                    algorithm: Algorithm::MlDsa65,
                    key_id: KeyId([2; 32]),
                    bytes: vec![9; 3309],
                },
            ],
        }
    }

    #[test]
    fn a_block_survives_a_round_trip() {
        for set in [example(), SignatureSet::default()] {
            assert_eq!(SignatureSet::decode(&set.encode().expect("encodes")), Ok(set));
        }
    }

    #[test]
    fn the_block_is_the_cose_of_the_standard() {
        let mut set = example();
        set.signatures.truncate(1);
        let mut expected = vec![0xd8, 98, 0x84, 0x40, 0xa0, 0x43, 1, 2, 3, 0x81, 0x83, 0x58, 38];
        expected.extend([0xa2, 1, 0x32, 4, 0x58, 32]);
        expected.extend([1; 32]);
        expected.extend([0xa0, 0x58, 64]);
        expected.extend([9; 64]);
        assert_eq!(set.encode().expect("encodes"), expected);
        // An unprotected header, here a second key id, is refused.
        let at = expected
            .iter()
            .rposition(|byte| *byte == 0xa0)
            .expect("an empty map");
        expected.splice(at..=at, [0xa1, 4, 0x41, 7]);
        assert_eq!(
            SignatureSet::decode(&expected),
            Err(Rejected::NonCanonical {
                document: Document::Signatures,
                offset: at
            })
        );
    }

    #[test]
    fn each_rule_has_its_own_refusal() {
        let broken = |change: fn(&mut SignatureSet)| {
            let mut set = example();
            change(&mut set);
            SignatureSet::decode(&set.encode().expect("encodes"))
        };
        assert_eq!(
            broken(|set| set.signatures[1].bytes.truncate(3308)),
            Err(Rejected::SignatureMalformed {
                index: 1,
                field: "signature"
            })
        );
        assert_eq!(
            broken(|set| set.signatures[1].key_id = KeyId([1; 32])),
            Err(Rejected::SignatureDuplicate {
                key_id: KeyId([1; 32])
            })
        );
        assert_eq!(
            broken(|set| set.signatures.reverse()),
            Err(Rejected::NotSorted {
                field: "signatures",
                index: 1
            })
        );
        assert_eq!(
            broken(|set| set.signatures = vec![set.signatures[0].clone(); 9]),
            Err(Rejected::TooMany {
                document: Document::Signatures,
                field: "signatures",
                count: 9,
                limit: 8
            })
        );
    }

    #[test]
    fn an_algorithm_of_another_number_is_unsupported() {
        let mut set = example();
        set.signatures.truncate(1);
        let mut bytes = set.encode().expect("encodes");
        let at = bytes
            .windows(3)
            .position(|bytes| bytes == [1, 0x32, 4])
            .expect("a label");
        bytes[at + 1] = 0x27;
        assert_eq!(
            SignatureSet::decode(&bytes),
            Err(Rejected::AlgorithmUnsupported { algorithm: -8 })
        );
    }
}

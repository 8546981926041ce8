//! The endorsement key's certificate, up to an authority that the verifier names. Chains are checked by `webpki`; the signatures in them by
//! the same implementations of RSA and ECDSA as everything else here. Revocation is looked at
//! in the lists that the verifier names, and then of every certificate of the chain.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use minicbor::bytes::ByteVec;
use p256::ecdsa::signature::Verifier as _;
use referee_evidence::{EndorsementKey, Malformed};
use rsa::pkcs1::DecodeRsaPublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{
    AlgorithmIdentifier, CertificateDer, CertificateRevocationListDer, InvalidSignature,
    SignatureVerificationAlgorithm, UnixTime, alg_id,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList,
    RevocationCheckDepth, RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};

use crate::evidence::read;

/// `tcg-kp-EKCertificate`, 2.23.133.8.1 (TCG EK Credential Profile 2.5, 3.2.16).
const EK_CERTIFICATE: &[u8] = &[0x67, 0x81, 0x05, 0x08, 0x01];
/// RFC 8017: the key's algorithm in a certificate.
const RSA: AlgorithmIdentifier = alg_id::RSA_ENCRYPTION;

/// Reads the certificates of an authority, PEM.
///
/// # Errors
/// When the file cannot be read or has none.
pub fn authority(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match read {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => bail!("{shown} has no certificate in PEM"),
        Err(error) => Err(anyhow::anyhow!("{error}")).with_context(|| format!("authority {shown}")),
    }
}

/// Reads revocation lists, DER or PEM.
///
/// # Errors
/// When the file cannot be read or has none.
pub fn revocation_lists(path: &Path) -> anyhow::Result<Vec<CertRevocationList<'static>>> {
    let shown = path.display();
    let bytes = read(path, "revocation list")?;
    let ders: Vec<Vec<u8>> = if bytes.starts_with(b"-----BEGIN") {
        CertificateRevocationListDer::pem_slice_iter(&bytes)
            .map(|list| list.map(|der| der.as_ref().to_vec()))
            .collect::<Result<_, _>>()
            .map_err(|error| anyhow::anyhow!("{error}"))
            .with_context(|| format!("revocation list {shown}"))?
    } else {
        vec![bytes]
    };
    if ders.is_empty() {
        bail!("{shown} has no revocation list in PEM");
    }
    ders.iter()
        .map(|der| OwnedCertRevocationList::from_der(der).map(CertRevocationList::from))
        .collect::<Result<_, _>>()
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("revocation list {shown}"))
}

/// Whether one of the certificates is for this key and made by one of the authorities. Of those, the ones that sign themselves are the
/// roots; the others may stand between. With revocation lists, each certificate below the root must be told good by one that its issuer
/// signed and that has not expired.
pub fn check(
    certificates: &[ByteVec],
    key: &EndorsementKey,
    authorities: &[CertificateDer<'static>],
    lists: &[CertRevocationList<'static>],
) -> Result<((), String), Malformed> {
    let no = |what: String| Malformed::new("endorsement certificate", what);
    let anchors: Vec<_> = authorities
        .iter()
        .filter_map(|authority| anchor_from_trusted_cert(authority).ok())
        .collect();
    let lists: Vec<&CertRevocationList<'_>> = lists.iter().collect();
    // No list at all is the only thing that the builder refuses.
    let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
        options
            .with_depth(RevocationCheckDepth::Chain)
            .with_status_policy(UnknownStatusPolicy::Deny)
            .with_expiration_policy(ExpirationPolicy::Enforce)
            .build()
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let carried = certificates
        .iter()
        .map(|bytes| CertificateDer::from(bytes.to_vec()));
    let between: Vec<CertificateDer<'_>> = carried.chain(authorities.iter().cloned()).collect();
    let mut why = "there is none in the request: this TPM has no RSA 2048 endorsement certificate".to_owned();
    for der in certificates {
        let der = CertificateDer::from(der.to_vec());
        let found = EndEntityCert::try_from(&der)
            .map_err(|error| error.to_string())
            .and_then(|certificate| {
                if !is_for(&certificate, key) {
                    return Err("it is for another key".to_owned());
                }
                certificate
                    .verify_for_usage(
                        &ALGORITHMS,
                        &anchors,
                        &between,
                        UnixTime::since_unix_epoch(now),
                        KeyUsage::required(EK_CERTIFICATE),
                        revocation,
                        None,
                    )
                    .map(|_| ())
                    .map_err(|error| error.to_string())
            });
        match found {
            Ok(()) => {
                return Ok((
                    (),
                    format!(
                        "made by one of {} authorities given, {}",
                        authorities.len(),
                        match lists.is_empty() {
                            true => "revocation not looked at",
                            false => "not revoked",
                        }
                    ),
                ));
            }
            // What was said about the right certificate counts more than that another one is for another key.
            Err(error) if why.starts_with("there is none") || error != "it is for another key" => why = error,
            Err(_) => {}
        }
    }
    Err(no(why))
}

/// Whether the certificate's RSA key is this one.
fn is_for(certificate: &EndEntityCert<'_>, key: &EndorsementKey) -> bool {
    let spki = certificate.subject_public_key_info();
    let Ok(spki) = rsa::pkcs8::SubjectPublicKeyInfoRef::try_from(spki.as_ref()) else {
        return false;
    };
    match rsa::PublicKey::try_from(spki) {
        Ok(found) => found.n_bytes()[..] == key.modulus[..] && found.e_bytes()[..] == [1, 0, 1],
        Err(_) => false,
    }
}

/// What makers of TPMs sign with.
static ALGORITHMS: [&dyn SignatureVerificationAlgorithm; 6] = [
    &RsaSha256,
    &RsaSha384,
    &RsaSha512,
    &P256Sha256,
    &P384Sha256,
    &P384Sha384,
];

macro_rules! algorithm {
    ($name:ident, $key:expr, $signature:expr, $verify:expr) => {
        #[derive(Debug)]
        struct $name;

        impl SignatureVerificationAlgorithm for $name {
            fn verify_signature(
                &self,
                public_key: &[u8],
                message: &[u8],
                signature: &[u8],
            ) -> Result<(), InvalidSignature> {
                let verify: fn(&[u8], &[u8], &[u8]) -> Option<()> = $verify;
                verify(public_key, message, signature).ok_or(InvalidSignature)
            }

            fn public_key_alg_id(&self) -> AlgorithmIdentifier {
                $key
            }

            fn signature_alg_id(&self) -> AlgorithmIdentifier {
                $signature
            }
        }
    };
}

algorithm!(
    RsaSha256,
    RSA,
    alg_id::RSA_PKCS1_SHA256,
    rsa_holds::<sha2::Sha256>
);
algorithm!(
    RsaSha384,
    RSA,
    alg_id::RSA_PKCS1_SHA384,
    rsa_holds::<sha2::Sha384>
);
algorithm!(
    RsaSha512,
    RSA,
    alg_id::RSA_PKCS1_SHA512,
    rsa_holds::<sha2::Sha512>
);
algorithm!(
    P256Sha256,
    alg_id::ECDSA_P256,
    alg_id::ECDSA_SHA256,
    |key, message, signature| {
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
        key.verify(message, &p256::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok()
    }
);
algorithm!(
    P384Sha384,
    alg_id::ECDSA_P384,
    alg_id::ECDSA_SHA384,
    |key, message, signature| {
        let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
        key.verify(message, &p384::ecdsa::DerSignature::from_bytes(signature).ok()?)
            .ok()
    }
);
algorithm!(
    P384Sha256,
    alg_id::ECDSA_P384,
    alg_id::ECDSA_SHA256,
    |key, message, signature| {
        use p384::ecdsa::signature::DigestVerifier as _;
        use sha2::Digest as _;
        let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
        let signature = p384::ecdsa::DerSignature::from_bytes(signature).ok()?;
        let hash = |digest: &mut sha2::Sha256| {
            digest.update(message);
            Ok(())
        };
        key.verify_digest(hash, &signature).ok()
    }
);

fn rsa_holds<D>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<()>
where
    D: sha2::Digest + rsa::pkcs8::AssociatedOid,
{
    let key = rsa::PublicKey::from_pkcs1_der(key).ok()?;
    let key = rsa::pkcs1v15::VerifyingKey::<D>::new(key);
    let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
    key.verify(message, &signature).ok()
}

//! Clients' certificates: good by `webpki`, and with one name by which policies know the client.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, UnixTime};
use tokio_rustls::rustls::client::danger::HandshakeSignatureValid;
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
};
use webpki::EndEntityCert;

/// Most bytes of a name.
const NAME_MAX: usize = 255;

/// Ends handshakes of clients whose certificate does not name them, too.
#[derive(Debug)]
pub(super) struct Named(Arc<dyn ClientCertVerifier>);

impl Named {
    pub(super) fn new(inner: Arc<dyn ClientCertVerifier>) -> Named {
        Named(inner)
    }
}

impl ClientCertVerifier for Named {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.0.verify_client_cert(end_entity, intermediates, now)?;
        match client_name(end_entity) {
            Some(_) => Ok(verified),
            None => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// The client's name: the certificate's only URI, or if it has none its only DNS name in small letters. None when it has several, or
/// what is no one's name, as `*.example.com`, or characters that a log should not have.
pub(crate) fn client_name(certificate: &CertificateDer<'_>) -> Option<Arc<str>> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let name = match only(certificate.valid_uri_names()) {
        // With a colon no URI is another client's DNS name.
        Some(uri) => uri.filter(|uri| uri.contains(':'))?.to_owned(),
        None => {
            let name = only(certificate.valid_dns_names())?;
            name.filter(|name| !name.contains('*'))?.to_ascii_lowercase()
        }
    };
    let plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    (plain && (1..=NAME_MAX).contains(&name.len())).then(|| name.into())
}

/// None if there is none, and none inside if there are several.
fn only<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<Option<&'a str>> {
    let first = names.next()?;
    Some(names.next().is_none().then_some(first))
}

//! TLS for the API on TCP: version 1.3 and nothing older, nobody without a certificate of the operator's own authority, and no sessions
//! that are taken up again, so that each connection is looked at by what is in force when it begins.
//!
//! Who a client is, its certificate says: by its one URI among the subject alternative names (as SPIFFE has it), or if it has none by its
//! one DNS name. A subject's common name says nothing (RFC 9525, 2).

pub(crate) mod files;
mod named;

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion, version};

use crate::config::Tcp;
use crate::error::NodeError;

pub(crate) use named::client_name;

/// What is spoken.
pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// By whose code.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// The server's side, with the certificates that are in force.
#[derive(Debug)]
pub(crate) struct Tls {
    tcp: Tcp,
    in_force: RwLock<Arc<ServerConfig>>,
}

impl Tls {
    /// Reads certificate, key and the clients' authority.
    ///
    /// # Errors
    /// [`NodeError::Rejected`] with the file and what is wrong with it.
    pub(crate) fn open(tcp: Tcp) -> Result<Tls, NodeError> {
        Ok(Tls {
            in_force: RwLock::new(read(&tcp)?),
            tcp,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.tcp.address
    }

    /// Connections at once.
    pub(crate) fn connections(&self) -> usize {
        self.tcp.connections
    }

    /// Reads them again; [`Tls::put_in_force`] has connections that begin from then on use them.
    ///
    /// # Errors
    /// As [`Tls::open`].
    pub(crate) fn read_again(&self) -> Result<Arc<ServerConfig>, NodeError> {
        read(&self.tcp)
    }

    pub(crate) fn put_in_force(&self, config: Arc<ServerConfig>) {
        *self.in_force.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// What takes a connection, by what is in force now.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        let in_force = self.in_force.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&in_force))
    }
}

fn read(tcp: &Tcp) -> Result<Arc<ServerConfig>, NodeError> {
    let refuse = |key: &str, why: String| NodeError::Rejected {
        name: "tls-invalid".into(),
        message: format!("api.tcp.{key}: {why}"),
    };
    let authority = files::authority(&tcp.client_ca).map_err(|why| refuse("client_ca", why))?;
    let certificates = files::certificates(&tcp.certificate).map_err(|why| refuse("certificate", why))?;
    let key = files::key(&tcp.key).map_err(|why| refuse("key", why))?;
    let verifier = WebPkiClientVerifier::builder_with_provider(authority.into(), provider())
        .build()
        .map_err(|error| refuse("client_ca", error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| refuse("certificate", error.to_string()))?
        .with_client_cert_verifier(Arc::new(named::Named::new(verifier)))
        .with_single_cert(certificates, key)
        .map_err(|error| refuse("key", format!("{}: {error}", tcp.key.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

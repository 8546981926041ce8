//! Which node, and the way to it: a Unix socket of this host, or TLS to another.

use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;

use super::ClientError;
use crate::tls::{VERSIONS, files, provider};

/// How long the way to a node on another host may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The port when none is named, that of `https`.
const PORT: u16 = 443;

/// Which node.
#[derive(Debug, Clone)]
pub struct Host {
    /// As it was named.
    shown: String,
    way: Way,
}

#[derive(Debug, Clone)]
enum Way {
    Socket(PathBuf),
    Tls {
        name: ServerName<'static>,
        port: u16,
        config: Arc<ClientConfig>,
    },
}

/// What a client shows to a node that it reaches by TLS, and by what it knows that node.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The client's certificate, with those between it and its authority.
    pub certificate: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authority of the node's certificate.
    pub authority: Option<PathBuf>,
}

impl Host {
    /// The node of `https://NAME:PORT`, else of a Unix socket.
    ///
    /// # Errors
    /// [`ClientError::Host`] when that is no host, or the files are not what they should be.
    pub fn new(host: &OsStr, credentials: &Credentials) -> Result<Host, ClientError> {
        let shown = host.to_string_lossy().into_owned();
        let way = match host.to_str() {
            Some(url) if url.contains("://") => tls(url, credentials).map_err(ClientError::Host)?,
            _ => Way::Socket(host.into()),
        };
        Ok(Host { shown, way })
    }

    /// A node of this host.
    pub fn socket(path: impl Into<PathBuf>) -> Host {
        let path = path.into();
        Host {
            shown: path.display().to_string(),
            way: Way::Socket(path),
        }
    }

    /// What a request names as its host.
    pub(super) fn authority(&self) -> String {
        match &self.way {
            Way::Socket(_) => "referee".into(),
            Way::Tls { name, port, .. } => authority(name, *port),
        }
    }

    pub(super) async fn connect(&self) -> Result<Box<dyn Stream>, ClientError> {
        let not_there = |source| ClientError::Connect {
            host: self.shown.clone(),
            source,
        };
        match &self.way {
            Way::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(not_there)?;
                Ok(Box::new(stream))
            }
            Way::Tls { name, port, config } => {
                let reach = async {
                    let stream = TcpStream::connect((bare(name), *port)).await.map_err(not_there)?;
                    // Only answers come later for it.
                    let _ = stream.set_nodelay(true);
                    let connector = TlsConnector::from(Arc::clone(config));
                    let stream = connector.connect(name.clone(), stream).await;
                    stream.map_err(|source| ClientError::Tls {
                        host: self.shown.clone(),
                        source,
                    })
                };
                let late = |_| not_there(io::Error::from(ErrorKind::TimedOut));
                let stream = tokio::time::timeout(CONNECT_WITHIN, reach)
                    .await
                    .map_err(late)??;
                Ok(Box::new(stream))
            }
        }
    }
}

fn tls(url: &str, credentials: &Credentials) -> Result<Way, String> {
    let wrong = |why: &str| format!("`{url}` {why}: write https://NAME:PORT, or the path of a Unix socket");
    let uri: Uri = url.parse().map_err(|_| wrong("is no URL"))?;
    if uri.scheme_str() != Some("https") {
        return Err(wrong("does not begin with https"));
    }
    if !matches!(uri.path(), "" | "/") || uri.query().is_some() {
        return Err(wrong("has a path"));
    }
    let authority = uri.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') {
        return Err(wrong("names a user"));
    }
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(name.to_owned()).map_err(|_| wrong("names no host"))?;
    let port = match authority.as_str().strip_prefix(authority.host()) {
        Some("") => PORT,
        _ => authority
            .port_u16()
            .filter(|port| *port != 0)
            .ok_or_else(|| wrong("names no port"))?,
    };
    let needed = |file: &Option<PathBuf>, option: &str| {
        file.clone().ok_or_else(|| {
            format!("a node on another host is reached with --cert, --key and --ca; {option} is missing")
        })
    };
    let certificates = files::certificates(&needed(&credentials.certificate, "--cert")?)?;
    let key = files::key(&needed(&credentials.key, "--key")?)?;
    let authorities = files::authority(&needed(&credentials.authority, "--ca")?)?;
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| error.to_string())?
        .with_root_certificates(authorities)
        .with_client_auth_cert(certificates, key)
        .map_err(|error| format!("--cert and --key: {error}"))?;
    Ok(Way::Tls {
        name,
        port,
        config: Arc::new(config),
    })
}

/// A name as it is looked up.
fn bare(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

fn authority(name: &ServerName<'_>, port: u16) -> String {
    let name = bare(name);
    match name.contains(':') {
        true => format!("[{name}]:{port}"),
        false => format!("{name}:{port}"),
    }
}

/// What bytes go over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_host_is_refused_with_what_to_write() {
        for bad in [
            "http://node:1",
            "https://",
            "https://node:1/v1",
            "https://node:1/?x",
            "https://user@node:1",
            "https://no de",
            "https://node:99999",
            "https://node:0",
            "https://node:",
            "https://[::1]:x",
            "unix:///run/x",
        ] {
            let refused = Host::new(OsStr::new(bad), &Credentials::default());
            let Err(ClientError::Host(why)) = refused else {
                panic!("{bad}: {refused:?}");
            };
            assert!(why.contains("write https://NAME:PORT"), "{bad}: {why}");
        }
        let without = Host::new(OsStr::new("https://node:1"), &Credentials::default());
        assert!(matches!(without, Err(ClientError::Host(why)) if why.contains("--cert")));
    }

    #[test]
    fn an_address_is_written_as_a_request_needs_it() {
        for (text, written) in [
            ("node.example", "node.example:1"),
            ("::1", "[::1]:1"),
            ("127.0.0.1", "127.0.0.1:1"),
        ] {
            let name = ServerName::try_from(text.to_owned()).expect("is a name");
            assert_eq!(authority(&name, 1), written);
        }
    }
}

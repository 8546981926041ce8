//! Speaking to the collector: one request on one connection, plain HTTP, on the node's own runtime.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::http::Uri;
use hyper_util::rt::TokioIo;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::net::TcpStream;
use tokio::runtime::Handle;

/// Most bytes of an answer.
const ANSWER_MAX: usize = 64 << 10;
/// Where OTLP over HTTP takes traces.
const PATH: &str = "/v1/traces";

/// Where a collector takes traces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Uri);

/// Why that is no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoEndpoint {
    /// It is no URL.
    #[error("is no URL such as http://127.0.0.1:4318")]
    NoUrl,
    /// It is one of another kind.
    #[error("does not begin with http://: let a collector on this host pass traces on over TLS")]
    NotHttp,
}

impl FromStr for Endpoint {
    type Err = NoEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NoEndpoint> {
        let url: Uri = text.parse().map_err(|_| NoEndpoint::NoUrl)?;
        if url.scheme_str() != Some("http") {
            return Err(NoEndpoint::NotHttp);
        }
        if url.host().is_none_or(str::is_empty) || url.authority().is_some_and(|at| at.as_str().contains('@'))
        {
            return Err(NoEndpoint::NoUrl);
        }
        match url.path() {
            "" | "/" => {
                let whole = format!("{}{PATH}", text.trim_end_matches('/'));
                whole.parse().map(Endpoint).map_err(|_| NoEndpoint::NoUrl)
            }
            _ => Ok(Endpoint(url)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The exporter's client. The exporter has a thread of its own that knows no runtime, so each request is made on the node's.
#[derive(Debug)]
pub(crate) struct Client {
    runtime: Handle,
    within: Duration,
    failures: Arc<AtomicU64>,
}

impl Client {
    pub(crate) fn new(runtime: Handle, within: Duration, failures: Arc<AtomicU64>) -> Client {
        Client {
            runtime,
            within,
            failures,
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let within = self.within;
        let sent = self
            .runtime
            .spawn(async move { tokio::time::timeout(within, send(request)).await });
        let answer = match sent.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(late)) => Err(late.into()),
            Err(lost) => Err(lost.into()),
        };
        if !answer.as_ref().is_ok_and(|answer| answer.status().is_success()) {
            self.failures.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }
}

async fn send(request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
    let (mut head, body) = request.into_parts();
    let host = head.uri.host().unwrap_or_default().to_owned();
    let port = head.uri.port_u16().unwrap_or(80);
    let authority = head
        .uri
        .authority()
        .map(|authority| authority.as_str().to_owned());
    if let Some(authority) = authority {
        head.headers.insert(HOST, authority.parse()?);
    }
    // In the form of a request to an origin server (RFC 9112, 3.2.1).
    head.uri = head
        .uri
        .path_and_query()
        .map_or(PATH, |path| path.as_str())
        .parse()?;
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or the answer says that it broke.
    let connection = tokio::spawn(connection);
    let answer = sender
        .send_request(Request::from_parts(head, Full::new(body)))
        .await?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, ANSWER_MAX).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(head, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_plain_http_and_has_a_path() {
        for (text, whole) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector/", "http://collector/v1/traces"),
            ("http://[::1]:4318/own/path", "http://[::1]:4318/own/path"),
        ] {
            assert_eq!(
                text.parse::<Endpoint>().map(|found| found.to_string()).as_deref(),
                Ok(whole)
            );
        }
        for (text, why) in [
            ("", NoEndpoint::NoUrl),
            ("https://collector", NoEndpoint::NotHttp),
            ("127.0.0.1:4318", NoEndpoint::NotHttp),
            ("/v1/traces", NoEndpoint::NotHttp),
            ("http://user@collector", NoEndpoint::NoUrl),
            ("http://a b", NoEndpoint::NoUrl),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(why), "{text}");
        }
    }
}

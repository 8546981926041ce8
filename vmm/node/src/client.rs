//! A client of the API, as the command line uses it: one request on one connection.

mod host;

use std::io;

use crate::api::{Explained, Explanation};
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, TE};
use hyper::http::request::Builder;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::{mpsc, oneshot};

pub use host::{Credentials, Host};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node answers on {host}: start it with `referee-vmm serve`, or name another with --host")]
    Connect {
        /// As it was named.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Who answers is not the node that is meant, or does not take this client.
    #[error("{host} is no node that --ca vouches for, or takes no client with this --cert")]
    Tls {
        /// As it was named.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No node is named like that, or not by these files.
    #[error("{0}")]
    Host(String),
    /// The connection broke.
    #[error("the connection to the node broke")]
    Http(#[from] hyper::Error),
    /// The request has no form in HTTP.
    #[error("the request has no form in HTTP")]
    Request(#[from] hyper::http::Error),
    /// The node says no.
    #[error("{}", .body.error.message)]
    Refused {
        /// HTTP status.
        status: u16,
        /// Why.
        body: Box<Explained>,
    },
    /// The end of an answer that is a stream does not say how the call ended.
    #[error("the node's answer broke off; what came of it is not whole")]
    BrokeOff,
    /// The answer is none of the API.
    #[error("the node answered with status {status} and no explanation")]
    Unexplained {
        /// HTTP status.
        status: u16,
    },
}

/// Sends a request and waits for the whole answer.
///
/// # Errors
/// [`ClientError`].
pub async fn ask(
    host: &Host,
    method: Method,
    path: &str,
    content_type: &str,
    body: Vec<u8>,
) -> Result<Vec<u8>, ClientError> {
    let answer = open(host, request(method, path, content_type), body).await?;
    Ok(answer.into_body().collect().await?.to_bytes().to_vec())
}

/// Calls a function with arguments in JSON; `retries` is how often the node may make the call again when its worker ended.
///
/// # Errors
/// [`ClientError`].
pub async fn call(host: &Host, path: &str, body: Vec<u8>, retries: u32) -> Result<Vec<u8>, ClientError> {
    let request = request(Method::POST, path, JSON).header("referee-retry", retries);
    let answer = open(host, request, body).await?;
    Ok(answer.into_body().collect().await?.to_bytes().to_vec())
}

/// Sends a request and gives each piece of the answer to `take` as it comes, until it says false.
///
/// # Errors
/// [`ClientError`].
pub async fn follow(host: &Host, path: &str, mut take: impl FnMut(&[u8]) -> bool) -> Result<(), ClientError> {
    let mut answer = open(host, request(Method::GET, path, JSON), Vec::new()).await?;
    while let Some(frame) = answer.body_mut().frame().await {
        if let Some(data) = frame?.data_ref()
            && !take(data)
        {
            break;
        }
    }
    Ok(())
}

/// Input of a stream as it comes; an error breaks the stream off.
pub type StreamInput = mpsc::Receiver<io::Result<Vec<u8>>>;

/// Calls a function with a stream in and a stream out, gives each piece of its output to `take` as it comes, and the result as JSON. Nothing of the
/// input is taken before the node has taken the call. When `take` says false the call is given up and has no result.
///
/// # Errors
/// [`ClientError`]; [`ClientError::Refused`] also for a call that failed after it had written something.
pub async fn stream(
    host: &Host,
    path: &str,
    input: StreamInput,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<Option<String>, ClientError> {
    let (taken, is_taken) = oneshot::channel::<()>();
    let pieces = stream::unfold((Some(is_taken), input), |(is_taken, mut input)| async move {
        if let Some(is_taken) = is_taken {
            // The other end goes only with all of this.
            let _ = is_taken.await;
        }
        let piece = input.recv().await?;
        Some((piece.map(|bytes| Frame::data(Bytes::from(bytes))), (None, input)))
    });
    let request = request(Method::POST, path, "application/octet-stream").header(TE, "trailers");
    let mut answer = send(host, request, StreamBody::new(Box::pin(pieces))).await?;
    let _ = taken.send(());
    while let Some(frame) = answer.body_mut().frame().await {
        match frame?.into_data() {
            Ok(data) if take(&data) => {}
            Ok(_) => return Ok(None),
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                return outcome(answer.status(), &trailers).map(Some);
            }
        }
    }
    Err(ClientError::BrokeOff)
}

/// How a streaming call ended, by its trailers.
fn outcome(status: StatusCode, trailers: &HeaderMap) -> Result<String, ClientError> {
    let text = |name: &str| trailers.get(name).and_then(|value| value.to_str().ok());
    if text("referee-outcome") == Some("returned") {
        return Ok(text("referee-result").unwrap_or("null").to_owned());
    }
    let error = text("referee-error").and_then(|text| serde_json::from_str::<Explanation>(text).ok());
    let error = error.ok_or(ClientError::BrokeOff)?;
    Err(ClientError::Refused {
        status: status.as_u16(),
        body: Box::new(Explained { error }),
    })
}

/// Media type of JSON.
pub const JSON: &str = "application/json";

fn request(method: Method, path: &str, content_type: &str) -> Builder {
    Request::builder()
        .method(method)
        .uri(path)
        .header(CONTENT_TYPE, content_type)
        .header(ACCEPT, JSON)
}

async fn open(host: &Host, request: Builder, body: Vec<u8>) -> Result<Response<Incoming>, ClientError> {
    send(host, request, Full::new(Bytes::from(body))).await
}

async fn send<B>(host: &Host, request: Builder, body: B) -> Result<Response<Incoming>, ClientError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = host.connect().await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends with the answer, or the answer says that it broke.
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let request = request.header(HOST, host.authority()).body(body)?;
    let answer = sender.send_request(request).await?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let bytes = answer.into_body().collect().await?.to_bytes();
    Err(explained(status, &bytes))
}

fn explained(status: StatusCode, bytes: &[u8]) -> ClientError {
    let status = status.as_u16();
    match serde_json::from_slice(bytes) {
        Ok(body) => ClientError::Refused {
            status,
            body: Box::new(body),
        },
        Err(_) => ClientError::Unexplained { status },
    }
}

/// A name as one segment of a path (RFC 3986, 3.3).
pub fn segment(name: &str) -> String {
    let mut segment = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            segment.push(char::from(byte));
        } else {
            segment.push_str(&format!("%{byte:02X}"));
        }
    }
    segment
}

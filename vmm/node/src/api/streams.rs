//! Calling a function with a stream in and a stream out.
//!
//! ```text
//!   POST …/stream/FUNCTION?arguments=[…]     200, before it is known how the call ends
//!   TE: trailers                             Trailer: referee-outcome, …
//!   a body of any length            ──►      console.in
//!                     console.out   ──►      a body of any length
//!                                            referee-outcome: returned, or by whose fault it did not
//! ```
//! A call that ended before it wrote or read anything is answered like any other. After that the status is out: a client that asks for trailers
//! finds in them how the call ended, and one that does not has its connection, or HTTP/2 stream, broken off if the call failed. So no answer that
//! ends in order is other than whole, or says that it is not.

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, Query, Request, State};
use axum::http::header::{CONTENT_TYPE, TE, TRAILER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use http_body_util::StreamBody;
use hyper::body::Frame;
use referee::json;
use referee_policy::Access;
use referee_trace::Trace;
use serde::Deserialize;
use utoipa::IntoParams;

use crate::api::Peer;
use crate::api::calls::{CALL, NO_ARGUMENTS, RETRY, USED};
use crate::api::failure::{ApiError, ApiResult, ErrorKind, Explanation};
use crate::api::openapi::{Calling, Name, Octets};
use crate::api::path::Named;
use crate::call::Reply;
use crate::line::{Begin, Failure, Wants};
use crate::node::Node;
use crate::stream::{Broken, Ended, Streaming};

/// How the call ended: `returned`, or the kind of an error.
const OUTCOME: HeaderName = HeaderName::from_static("referee-outcome");
/// The function's result, JSON.
const RESULT: HeaderName = HeaderName::from_static("referee-result");
/// The error, as the body of an answer would have it in `error`.
const ERROR: HeaderName = HeaderName::from_static("referee-error");
/// All of them, as an answer announces them.
const TRAILERS: &str = "referee-outcome, referee-result, referee-error, referee-used-us";
/// Most bytes of a result in a trailer.
const RESULT_MAX: usize = 4 << 10;
/// Most bytes of an error's words in a trailer.
const WORDS_MAX: usize = 1 << 10;

/// Query of `stream`.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StreamQuery {
    /// The arguments, as JSON: an object (by name), an array (by position) or one value.
    #[param(required = false)]
    arguments: Option<String>,
}

/// Calls a function whose standard input is the request's body, and whose standard output is the answer's, while it runs.
///
/// Neither has a bound; a side that is slower than the other has it wait. How the call ended is in trailers, if the request has `TE: trailers`: `referee-outcome`
/// is `returned`, then `referee-result` is the result as JSON; or it is the kind of an error, then `referee-error` is that. Without, an answer that ends in order is that of a call
/// that returned, and one of a call that failed breaks off. The muscle needs a console, with input if it is to read.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/stream/{function}", tag = "calls",
    params(
        ("name" = Name, Path, description = "The deployment."),
        ("function" = String, Path, description = "One of its `exports`."),
        StreamQuery,
    ),
    request_body(content = Octets, content_type = "application/octet-stream", description = "Standard input."),
    responses(
        (
            status = 200, description = "Standard output.",
            content((Octets = "application/octet-stream")),
            headers(("referee-call" = u64, description = "The call's number in the logs.")),
        ),
        Calling,
    ),
)]
pub(crate) async fn stream(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named((name, function)): Named<(String, String)>,
    query: Result<Query<StreamQuery>, QueryRejection>,
    request: Request,
) -> ApiResult<Response> {
    let headers = request.headers();
    let trace = node
        .tracer()
        .call(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    let stage = trace.stage("authorise");
    let access = Access::Call {
        name: &name,
        function: &function,
    };
    let allowed = node.allow(&peer, access);
    drop(stage);
    let answer = match allowed {
        Ok(()) => begun(&node, (&name, function), query, request, &trace).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &answer {
        trace.failed(error.name());
    }
    answer
}

async fn begun(
    node: &Node,
    (name, function): (&str, String),
    query: Result<Query<StreamQuery>, QueryRejection>,
    request: Request,
    trace: &Trace,
) -> ApiResult<Response> {
    let Query(query) = query.map_err(|error| ApiError::bad_request("query-invalid", error.body_text()))?;
    if request.headers().contains_key(RETRY) {
        return Err(ApiError::bad_request(
            "header-invalid",
            "a stream is not made again, as its body is gone: leave Referee-Retry out",
        ));
    }
    if request.version() < Version::HTTP_11 {
        return Err(ApiError::bad_request(
            "http-too-old",
            "a stream takes HTTP/1.1 or HTTP/2: before that nobody could tell whether its answer is whole",
        ));
    }
    let deployment = node.deployment(name)?;
    if deployment.tick().is_some() {
        return Err(ApiError::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            ErrorKind::Rejected,
            "stream-on-ticks",
            format!(
                "replies of `{name}` leave on ticks (release_ms), and a stream would show how long what took: call it, or deploy it without"
            ),
        ));
    }
    let payload = match &query.arguments {
        None => NO_ARGUMENTS.to_vec(),
        Some(text) => json::arguments(text.as_bytes()).map_err(|error| {
            ApiError::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ErrorKind::Rejected,
                "arguments-invalid",
                format!("arguments: {error}"),
            )
        })?,
    };
    let tells = asks_for_trailers(request.headers());
    let begin = Begin { function, payload };
    let mut streaming = node.stream(deployment, begin, request.into_body(), trace.clone())?;
    let call = streaming.call;
    let goes_on = match streaming.begins().await {
        None => GoesOn::Streams(streaming),
        Some(ended) => GoesOn::Returned(Returned::of(ended)?),
    };
    let answering = Answering {
        goes_on,
        tells,
        trace: trace.clone(),
    };
    let head = [
        (CONTENT_TYPE, HeaderValue::from_static("application/octet-stream")),
        (CALL, HeaderValue::from(call)),
    ];
    let body = Body::new(StreamBody::new(answering.frames()));
    let mut response = (head, body).into_response();
    if tells {
        response
            .headers_mut()
            .insert(TRAILER, HeaderValue::from_static(TRAILERS));
    }
    Ok(response)
}

/// Whether trailers are asked for (RFC 9110, 10.1.4).
fn asks_for_trailers(headers: &HeaderMap) -> bool {
    let values = headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    let mut codings = values.flat_map(|value| value.split(','));
    codings.any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// An answer that is given while its call runs.
struct Answering {
    goes_on: GoesOn,
    /// Whether the client wants to be told how the call ended.
    tells: bool,
    trace: Trace,
}

/// How an answer goes on.
enum GoesOn {
    /// With what the muscle writes.
    Streams(Streaming),
    /// With how the call ended.
    Returned(Returned),
    Over,
}

/// The call failed, and its answer breaks off.
#[derive(Debug, thiserror::Error)]
#[error("the call failed: {0}")]
struct BreaksOff(String);

impl Answering {
    /// What the muscle writes, and how the call ended.
    fn frames(self) -> impl Stream<Item = Result<Frame<Bytes>, BreaksOff>> {
        futures_util::stream::unfold(self, |mut answering| async move {
            let frame = answering.next().await?;
            Some((frame, answering))
        })
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BreaksOff>> {
        let returned = match std::mem::replace(&mut self.goes_on, GoesOn::Over) {
            GoesOn::Over => return None,
            GoesOn::Returned(returned) => Ok(returned),
            GoesOn::Streams(mut streaming) => match streaming.next().await {
                Ok(Some(bytes)) => {
                    self.goes_on = GoesOn::Streams(streaming);
                    return Some(Ok(Frame::data(bytes)));
                }
                Ok(None) => Returned::of(streaming.end().await),
                Err(not_whole) => return Some(Err(BreaksOff(not_whole.to_string()))),
            },
        };
        if let Err(error) = &returned {
            self.trace.failed(error.name());
        }
        match returned {
            Ok(_) if !self.tells => None,
            Ok(returned) => Some(Ok(Frame::trailers(returned.trailers()))),
            Err(error) if self.tells => Some(Ok(Frame::trailers(trailers_of(&error)))),
            Err(error) => Some(Err(BreaksOff(error.name().to_owned()))),
        }
    }
}

/// What a call returned that wrote its output to a stream.
struct Returned {
    /// JSON.
    result: String,
    used_us: u64,
}

impl Returned {
    /// How a stream ended, if that is well.
    fn of(ended: Ended) -> ApiResult<Returned> {
        let Reply { used, result, .. } = ended.result?;
        let result = match (result, ended.broken) {
            (Err(Failure::Cancelled), Some(broken)) => return Err(because_of_client(broken)),
            (result, _) => result?,
        };
        let used_us = u64::try_from(used.as_micros()).unwrap_or(u64::MAX);
        let result = match json::from_cbor(&result) {
            Ok(value) => in_ascii(&value.to_string()),
            Err(error) => {
                return Err(wrong_result(
                    "answer-malformed",
                    format!("the muscle's answer is not CBOR: {error}"),
                ));
            }
        };
        if result.len() > RESULT_MAX {
            return Err(wrong_result(
                "answer-too-large",
                format!(
                    "the result of a stream is given in a trailer, and has no more than {RESULT_MAX} bytes as JSON: what is larger is to be written to standard output"
                ),
            ));
        }
        Ok(Returned { result, used_us })
    }

    fn trailers(self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert(OUTCOME, HeaderValue::from_static("returned"));
        // In ASCII without control characters, so it has a form in a header.
        if let Ok(result) = HeaderValue::try_from(self.result) {
            trailers.insert(RESULT, result);
        }
        trailers.insert(USED, HeaderValue::from(self.used_us));
        trailers
    }
}

fn wrong_result(name: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, ErrorKind::Fault, name, message)
}

fn because_of_client(broken: Broken) -> ApiError {
    let slow = |name, what: &str| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Rejected,
            name,
            format!("the client {what} within api.stream_idle_seconds, and the call was given up"),
        )
    };
    match broken {
        Broken::Slow(Wants::Input) => slow("input-slow", "sent nothing that the muscle waited for"),
        Broken::Slow(Wants::Room) => slow("output-slow", "took nothing of what the muscle wrote"),
        Broken::Cut => ApiError::bad_request(
            "body-broken",
            "the request's body did not arrive whole, and the call was given up",
        ),
    }
}

fn trailers_of(error: &ApiError) -> HeaderMap {
    let Explanation {
        kind, name, message, ..
    } = error.explanation();
    let words = message.get(..message.floor_char_boundary(WORDS_MAX));
    let error = serde_json::json!({ "kind": kind, "name": name, "message": words });
    let mut trailers = HeaderMap::new();
    let texts = [
        (OUTCOME, error["kind"].as_str().unwrap_or_default().to_owned()),
        (ERROR, in_ascii(&error.to_string())),
    ];
    for (name, text) in texts {
        // In ASCII without control characters, so it has a form in a header.
        if let Ok(value) = HeaderValue::try_from(text) {
            trailers.insert(name, value);
        }
    }
    trailers
}

/// JSON in printable ASCII: whatever else there is stands within its strings, and has an escape there (RFC 8259, 7).
fn in_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for letter in json.chars() {
        match letter {
            ' '..='~' => text.push(letter),
            _ => {
                let mut units = [0; 2];
                for unit in letter.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn trailers_are_asked_for_by_name() {
        for (te, asked) in [
            (None, false),
            (Some("trailers"), true),
            (Some("deflate;q=0.5, Trailers"), true),
            (Some("gzip"), false),
            (Some("trailersx"), false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(te) = te {
                headers.insert(TE, HeaderValue::from_static(te));
            }
            assert_eq!(asks_for_trailers(&headers), asked, "{te:?}");
        }
    }

    #[test]
    fn an_error_of_any_words_has_a_form_in_a_trailer() {
        let words = "\u{1b}[2J\r\nreferee-outcome: returned\u{7f}é😀".repeat(100);
        let error = ApiError::new(
            StatusCode::BAD_GATEWAY,
            ErrorKind::Fault,
            "panicked",
            words.clone(),
        );
        let trailers = trailers_of(&error);
        assert_eq!(trailers[OUTCOME], "fault");
        let said: serde_json::Value = serde_json::from_slice(trailers[ERROR].as_bytes()).expect("is JSON");
        let message = said["message"].as_str().expect("is text");
        assert!(words.starts_with(message) && message.len() > WORDS_MAX - 4);
    }

    proptest! {
        #[test]
        fn json_in_ascii_says_the_same(text: String) {
            let value = serde_json::Value::String(text);
            let ascii = in_ascii(&value.to_string());
            prop_assert!(ascii.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&ascii).expect("is JSON"), value);
        }
    }
}

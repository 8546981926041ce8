//! Calling a function.

use std::time::Duration;

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use referee::json;
use referee_policy::Access;
use referee_trace::Trace;
use tokio::time::Instant;

use crate::api::Peer;
use crate::api::body::{self, Bound};
use crate::api::failure::{ApiError, ApiResult, ErrorKind};
use crate::api::openapi::{Calling, Name, Octets, Retry};
use crate::api::path::Named;
use crate::call::Origin;
use crate::error::NodeError;
use crate::node::Node;
use crate::release::{in_ticks, release};

const CBOR: &str = "application/cbor";
const JSON: &str = "application/json";
/// The call's number, by which its output is found in the logs.
pub(super) const CALL: HeaderName = HeaderName::from_static("referee-call");
/// Microseconds for which the call had one of the host's slots.
pub(super) const USED: HeaderName = HeaderName::from_static("referee-used-us");
/// How often the call may be made again when its worker ended.
pub(super) const RETRY: HeaderName = HeaderName::from_static("referee-retry");
/// How often it was.
const RETRIED: HeaderName = HeaderName::from_static("referee-retried");
/// Most that [`RETRY`] may ask for.
pub(super) const RETRIES_MAX: u32 = 10;

/// Calls a function of a deployment.
///
/// Arguments are an object (by name), an array (by position) or one value, in JSON; or an array or map in CBOR. The result comes in the
/// form of the arguments, or in the one that `Accept` names.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/call/{function}", tag = "calls",
    params(
        ("name" = Name, Path, description = "The deployment."),
        ("function" = String, Path, description = "One of its `exports`."),
        Retry,
    ),
    request_body(
        description = "The arguments; none when it is left out. JSON of at most 1 MiB.",
        content((Option<serde_json::Value> = "application/json"), (Octets = "application/cbor")),
    ),
    responses(
        (
            status = 200, description = "The result.",
            content((serde_json::Value = "application/json"), (Octets = "application/cbor")),
            headers(
                ("referee-call" = u64, description = "The call's number in the logs."),
                ("referee-used-us" = u64, description = "Microseconds for which it had a processor."),
                ("referee-retried" = u32, description = "How often it was made again."),
            ),
        ),
        Calling,
    ),
)]
pub(crate) async fn call(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named((name, function)): Named<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let arrived = Instant::now();
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
    // Whoever may not call it does not learn how it replies either.
    let tick = match &allowed {
        Ok(()) => node.deployment(&name).ok(),
        Err(_) => None,
    };
    let tick = tick.and_then(|deployment| deployment.tick());
    let answer = match allowed {
        Ok(()) => traced(node, peer, (name, function), request, tick, &trace).await,
        Err(error) => Err(error.into()),
    };
    if let Err(error) = &answer {
        trace.failed(error.name());
    }
    let _stage = tick.is_some().then(|| trace.stage("release"));
    release(arrived, tick).await;
    answer
}

async fn traced(
    node: Node,
    peer: Peer,
    (name, function): (String, String),
    request: Request,
    tick: Option<Duration>,
    trace: &Trace,
) -> ApiResult<Response> {
    let access = Access::Call {
        name: &name,
        function: &function,
    };
    let retries = retries(request.headers())?;
    let Arguments {
        mut payload,
        wants_cbor,
    } = read_arguments(&node, request, trace).await?;
    let mut retried = 0;
    let reply = loop {
        // Only now, and each time: it may have been removed or changed while the body came or a worker ended.
        let deployment = node.deployment(&name)?;
        let payload = match retried < retries {
            true => payload.clone(),
            false => std::mem::take(&mut payload),
        };
        match node
            .call(
                deployment,
                function.clone(),
                payload,
                trace.clone(),
                Origin::default(),
            )
            .await
        {
            Err(NodeError::WorkerGone { .. }) if retried < retries => retried += 1,
            reply => break reply?,
        }
        node.allow(&peer, access)?;
    };
    let _stage = trace.stage("answer");
    let used = tick.map_or(reply.used, |tick| in_ticks(reply.used, tick));
    answered(reply.result?, wants_cbor, reply.call, used, retried)
}

/// A call's arguments, read.
pub(super) struct Arguments {
    /// As CBOR.
    pub payload: Vec<u8>,
    /// Whether the result is wanted as CBOR.
    pub wants_cbor: bool,
}

/// Reads a request's body.
pub(super) async fn read_arguments(node: &Node, request: Request, trace: &Trace) -> ApiResult<Arguments> {
    let stage = trace.stage("arguments");
    let takes_cbor = is(request.headers(), &header::CONTENT_TYPE, CBOR);
    let wants_cbor = match request.headers().contains_key(header::ACCEPT) {
        true => is(request.headers(), &header::ACCEPT, CBOR),
        false => takes_cbor,
    };
    let bound = bound(node.config().api.call_bytes, takes_cbor);
    let body = body::read(node, bound, request).await?;
    let payload = match takes_cbor {
        true => checked(body.to_vec())?,
        false if body.is_empty() => NO_ARGUMENTS.to_vec(),
        false => json::arguments(&body)
            .map_err(|error| ApiError::bad_request("arguments-invalid", error.to_string()))?,
    };
    drop((body, stage));
    Ok(Arguments { payload, wants_cbor })
}

/// A result in the form that is wanted.
pub(super) fn answered(
    result: Vec<u8>,
    wants_cbor: bool,
    call: u64,
    used: Duration,
    retried: u32,
) -> ApiResult<Response> {
    let (form, bytes) = match wants_cbor {
        true => (CBOR, result),
        false if result.len() > JSON_MAX => {
            return Err(ApiError::new(
                StatusCode::BAD_GATEWAY,
                ErrorKind::Fault,
                "answer-too-large",
                format!("a result of more than {JSON_MAX} bytes is given as CBOR only: Accept: {CBOR}"),
            ));
        }
        false => {
            let value = json::from_cbor(&result).map_err(|error| {
                ApiError::new(
                    StatusCode::BAD_GATEWAY,
                    ErrorKind::Fault,
                    "answer-malformed",
                    format!("the muscle's answer is not CBOR: {error}"),
                )
            })?;
            (JSON, value.to_string().into_bytes())
        }
    };
    let used = u64::try_from(used.as_micros()).unwrap_or(u64::MAX);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(form)),
        (CALL, HeaderValue::from(call)),
        (USED, HeaderValue::from(used)),
        (RETRIED, HeaderValue::from(retried)),
    ];
    Ok((headers, bytes).into_response())
}

/// Most bytes of arguments or a result that become another form here: as values in memory they are many times larger.
const JSON_MAX: usize = 1 << 20;
/// How much of the room for bodies JSON takes, beside its bytes.
const JSON_WEIGHT: usize = 16;

/// How large arguments may be: JSON no larger than what becomes CBOR here, so that it does not take the room of what is refused.
fn bound(call_bytes: usize, takes_cbor: bool) -> Bound {
    match takes_cbor {
        true => Bound {
            bytes: call_bytes,
            weight: 1,
            beyond: body::TOO_LARGE,
        },
        false if call_bytes > JSON_MAX => Bound {
            bytes: JSON_MAX,
            weight: JSON_WEIGHT,
            beyond: "arguments of more than 1 MiB are sent as CBOR",
        },
        false => Bound {
            bytes: call_bytes,
            weight: JSON_WEIGHT,
            beyond: body::TOO_LARGE,
        },
    }
}

/// How often the caller lets the node make the call again.
fn retries(headers: &HeaderMap) -> ApiResult<u32> {
    let mut all = headers.get_all(RETRY).iter();
    let (Some(value), None) = (all.next(), all.next()) else {
        return match headers.contains_key(RETRY) {
            true => Err(retry_invalid()),
            false => Ok(0),
        };
    };
    // A sign, which a number may have for Rust, is none of the digits.
    let digits = value
        .to_str()
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let retries = digits.and_then(|text| text.parse().ok());
    retries
        .filter(|retries| *retries <= RETRIES_MAX)
        .ok_or_else(retry_invalid)
}

fn retry_invalid() -> ApiError {
    ApiError::bad_request(
        "header-invalid",
        format!("Referee-Retry is a number from 0 to {RETRIES_MAX}, once"),
    )
}

/// An empty array.
pub(super) const NO_ARGUMENTS: [u8; 1] = [0x80];

/// Arguments must be an array or a map (RFC 8949, major types 4 and 5); what is in them is for the muscle to read.
fn checked(payload: Vec<u8>) -> ApiResult<Vec<u8>> {
    match payload.first().map(|first| first >> 5) {
        Some(4 | 5) => Ok(payload),
        _ => Err(ApiError::bad_request(
            "arguments-invalid",
            "arguments in CBOR are an array or a map",
        )),
    }
}

/// Whether a header names this media type, whatever parameters follow it.
fn is(headers: &HeaderMap, name: &HeaderName, wanted: &str) -> bool {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split([';', ',']).next())
        .is_some_and(|media_type| media_type.trim().eq_ignore_ascii_case(wanted))
}

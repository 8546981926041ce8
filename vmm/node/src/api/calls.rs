//! Calling a function.

use axum::extract::{Extension, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use referee::json;
use referee_policy::Access;
use referee_trace::Trace;

use crate::api::failure::{ApiError, ApiResult};
use crate::api::path::Named;
use crate::api::{Peer, body};
use crate::node::Node;

const CBOR: &str = "application/cbor";
const JSON: &str = "application/json";
/// The call's number, by which its output is found in the logs.
const CALL: HeaderName = HeaderName::from_static("referee-call");
/// Microseconds for which the call had one of the host's slots.
const USED: HeaderName = HeaderName::from_static("referee-used-us");

/// `POST /v1/deployments/{name}/call/{function}`
pub(crate) async fn call(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named((name, function)): Named<(String, String)>,
    request: Request,
) -> ApiResult<Response> {
    let headers = request.headers();
    let trace = node
        .tracer()
        .call(|name| headers.get(name).and_then(|value| value.to_str().ok()));
    let answer = traced(node, peer, (name, function), request, &trace).await;
    if let Err(error) = &answer {
        trace.failed(error.name());
    }
    answer
}

async fn traced(
    node: Node,
    peer: Peer,
    (name, function): (String, String),
    request: Request,
    trace: &Trace,
) -> ApiResult<Response> {
    let stage = trace.stage("authorise");
    node.allow(
        peer,
        Access::Call {
            name: &name,
            function: &function,
        },
    )?;
    drop(stage);
    let stage = trace.stage("arguments");
    let takes_cbor = is(request.headers(), &header::CONTENT_TYPE, CBOR);
    let wants_cbor = match request.headers().contains_key(header::ACCEPT) {
        true => is(request.headers(), &header::ACCEPT, CBOR),
        false => takes_cbor,
    };
    let limit = node.config().api.call_bytes;
    let weight = if takes_cbor { 1 } else { JSON_WEIGHT };
    let body = body::read(&node, limit, weight, request).await?;
    let payload = match takes_cbor {
        true => checked(body.to_vec())?,
        false if body.is_empty() => NO_ARGUMENTS.to_vec(),
        false if body.len() > JSON_MAX => {
            return Err(ApiError::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "rejected",
                "body-too-large",
                format!("arguments of more than {JSON_MAX} bytes are sent as CBOR"),
            ));
        }
        false => json::arguments(&body)
            .map_err(|error| ApiError::bad_request("arguments-invalid", error.to_string()))?,
    };
    drop((body, stage));
    // Only now: it may have been removed or changed while the body came.
    let deployment = node.deployment(&name)?;
    let reply = node.call(deployment, function, payload, trace.clone()).await?;
    let _stage = trace.stage("answer");
    let result = reply.result?;
    let (form, bytes) = match wants_cbor {
        true => (CBOR, result),
        false if result.len() > JSON_MAX => {
            return Err(ApiError::new(
                StatusCode::BAD_GATEWAY,
                "fault",
                "answer-too-large",
                format!("a result of more than {JSON_MAX} bytes is given as CBOR only: Accept: {CBOR}"),
            ));
        }
        false => {
            let value = json::from_cbor(&result).map_err(|error| {
                ApiError::new(
                    StatusCode::BAD_GATEWAY,
                    "fault",
                    "answer-malformed",
                    format!("the muscle's answer is not CBOR: {error}"),
                )
            })?;
            (JSON, value.to_string().into_bytes())
        }
    };
    let used = u64::try_from(reply.used.as_micros()).unwrap_or(u64::MAX);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(form)),
        (CALL, HeaderValue::from(reply.call)),
        (USED, HeaderValue::from(used)),
    ];
    Ok((headers, bytes).into_response())
}

/// Most bytes of arguments or a result that become another form here: as values in memory they are many times larger.
const JSON_MAX: usize = 1 << 20;
/// How much of the room for bodies JSON takes, beside its bytes.
const JSON_WEIGHT: usize = 16;

/// An empty array.
const NO_ARGUMENTS: [u8; 1] = [0x80];

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

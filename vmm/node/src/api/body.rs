//! Bodies of requests: bounded in size and time, each and all together.

use std::ops::Deref;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use crate::api::failure::{ApiError, ApiResult, ErrorKind};
use crate::error::NodeError;
use crate::node::Node;

/// A body of at most `limit` bytes, with its part of the room that all have.
pub(crate) struct Held<'a> {
    bytes: Bytes,
    _room: SemaphorePermit<'a>,
}

impl Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// How much of a body is read, and what that takes of the room that all bodies have.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bound {
    /// Most bytes.
    pub bytes: usize,
    /// How many times its size a body takes of the room.
    pub weight: usize,
    /// What a larger one is told.
    pub beyond: &'static str,
}

/// What a body is told that is larger than its path takes in any form.
pub(crate) const TOO_LARGE: &str = "the request's body is larger than this path takes";

/// Reads a request's body whole.
///
/// # Errors
/// When it is larger than `bound` (413), does not come in time (408), or there is no room beside others' (429).
pub(crate) async fn read(node: &Node, bound: Bound, request: Request) -> ApiResult<Held<'_>> {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            ErrorKind::Rejected,
            "body-too-large",
            bound.beyond,
        )
    };
    if length.is_some_and(|length| length > bound.bytes) {
        return Err(too_large());
    }
    // A body that does not say how long it is may be as long as any.
    let needed = length
        .unwrap_or(bound.bytes)
        .div_ceil(1024)
        .saturating_mul(bound.weight);
    let needed = u32::try_from(needed).unwrap_or(u32::MAX);
    let room = node
        .bodies()
        .try_acquire_many(needed)
        .map_err(|_| NodeError::Busy {
            what: "bytes of requests' bodies",
            limit: node.config().api.bodies_bytes,
        })?;
    let within = Duration::from_secs(node.config().api.body_seconds);
    let read = Limited::new(request.into_body(), bound.bytes).collect();
    let body = tokio::time::timeout(within, read).await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            ErrorKind::Rejected,
            "body-slow",
            "the request's body did not arrive in time",
        )
    })?;
    let bytes = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => too_large(),
        false => ApiError::bad_request("body-broken", "the request's body did not arrive whole"),
    })?;
    Ok(Held {
        bytes: bytes.to_bytes(),
        _room: room,
    })
}

/// Reads a request's body as a JSON object.
///
/// # Errors
/// As [`read`], and when it is not of the form.
pub(crate) async fn json<T: DeserializeOwned>(node: &Node, request: Request) -> ApiResult<T> {
    let bound = Bound {
        bytes: SMALL_BODY,
        weight: 1,
        beyond: TOO_LARGE,
    };
    let body = read(node, bound, request).await?;
    let invalid =
        |error: String| ApiError::bad_request("body-invalid", format!("the request's body: {error}"));
    // An array would be taken for an object's fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("is no JSON object".into()));
    }
    serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))
}

/// Most bytes of a JSON body that changes something.
const SMALL_BODY: usize = 64 << 10;

//! Bodies of requests: bounded in size by their route and in time here.

use std::ops::Deref;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_LENGTH;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;
use tokio::sync::SemaphorePermit;

use crate::api::SMALL_BODY;
use crate::api::failure::{ApiError, ApiResult};
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

/// Reads a request's body whole. Of the room that all bodies have it takes `weight` times its size.
///
/// # Errors
/// When it is larger than its route allows (413), does not come in time (408), or there is no room beside others' (429).
pub(crate) async fn read(node: &Node, limit: usize, weight: usize, request: Request) -> ApiResult<Held<'_>> {
    let length = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    // A body that does not say how long it is may be as long as any; one that says too much is refused below.
    let needed = length
        .unwrap_or(limit)
        .min(limit)
        .div_ceil(1024)
        .saturating_mul(weight);
    let needed = u32::try_from(needed).unwrap_or(u32::MAX);
    let room = node
        .bodies()
        .try_acquire_many(needed)
        .map_err(|_| NodeError::Busy {
            what: "bytes of requests' bodies",
            limit: node.config().api.bodies_bytes,
        })?;
    let within = Duration::from_secs(node.config().api.body_seconds);
    let read = tokio::time::timeout(within, Bytes::from_request(request, &()));
    let body = read.await.map_err(|_| {
        ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "rejected",
            "body-slow",
            "the request's body did not arrive in time",
        )
    })?;
    let bytes = body.map_err(|error: BytesRejection| {
        let status = error.into_response().status();
        let (name, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => (
                "body-too-large",
                "the request's body is larger than this path takes",
            ),
            _ => ("body-broken", "the request's body did not arrive whole"),
        };
        ApiError::new(status, "rejected", name, message)
    })?;
    Ok(Held { bytes, _room: room })
}

/// Reads a request's body as a JSON object.
///
/// # Errors
/// As [`read`], and when it is not of the form.
pub(crate) async fn json<T: DeserializeOwned>(node: &Node, request: Request) -> ApiResult<T> {
    let body = read(node, SMALL_BODY, 1, request).await?;
    let invalid =
        |error: String| ApiError::bad_request("body-invalid", format!("the request's body: {error}"));
    // An array would be taken for an object's fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("is no JSON object".into()));
    }
    serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))
}

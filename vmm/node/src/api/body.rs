//! Bodies of requests: bounded in size by their route and in time here.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::de::DeserializeOwned;

use crate::api::failure::{ApiError, ApiResult};
use crate::node::Node;

/// Reads a request's body whole.
///
/// # Errors
/// When it is larger than its route allows (413), or does not come in time (408).
pub(crate) async fn read(node: &Node, request: Request) -> ApiResult<Bytes> {
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
    body.map_err(|error: BytesRejection| {
        let status = error.into_response().status();
        let (name, message) = match status {
            StatusCode::PAYLOAD_TOO_LARGE => {
                ("body-too-large", "the request's body is larger than this path takes")
            }
            _ => ("body-broken", "the request's body did not arrive whole"),
        };
        ApiError::new(status, "rejected", name, message)
    })
}

/// Reads a request's body as a JSON object.
///
/// # Errors
/// As [`read`], and when it is not of the form.
pub(crate) async fn json<T: DeserializeOwned>(node: &Node, request: Request) -> ApiResult<T> {
    let body = read(node, request).await?;
    let invalid =
        |error: String| ApiError::bad_request("body-invalid", format!("the request's body: {error}"));
    // An array would be taken for an object's fields in their order.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(invalid("is no JSON object".into()));
    }
    serde_json::from_slice(&body).map_err(|error| invalid(error.to_string()))
}

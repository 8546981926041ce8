//! The API: HTTP/1.1 and HTTP/2 on a Unix socket.
//!
//! ```text
//!   PUT    /v1/bundles/DIGEST                     the bundle's bytes, under their SHA-256
//!   GET    /v1/deployments                        all, as they stand
//!   PUT    /v1/deployments/NAME                   {"bundle": DIGEST, "settings": {…}}
//!   GET    /v1/deployments/NAME                   one, with what policy said
//!   DELETE /v1/deployments/NAME
//!   POST   /v1/deployments/NAME/call/FUNCTION     arguments as JSON or CBOR; the result in the same form
//!   POST   /v1/deployments/NAME/{pause,resume,kill}
//!   GET    /v1/deployments/NAME/logs?follow=true  JSON lines
//!   POST   /v1/reload                             trust store and policies
//!   GET    /v1/stats, /metrics, /health, /health/live, /health/ready
//! ```
//! `/metrics` and `/health`, and nothing else, are answered on a TCP socket too, where the configuration has one.
//! An error is `{"error": {"kind", "name", "message"}}` with a status that says whose fault it was.

mod body;
mod calls;
mod deployments;
mod failure;
mod metrics;
mod path;
mod server;
mod status;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post, put};

use crate::node::Node;

pub use deployments::{Deploy, Shown};
pub use failure::{Explained, Explanation};
pub(crate) use server::{Peer, serve};
pub use status::Stats;

/// Room around a call's arguments, and for other requests' bodies.
const SMALL_BODY: usize = 64 << 10;

/// What is answered over TCP, to whoever connects.
pub(crate) fn open_router(node: Node) -> Router {
    Router::new()
        .route("/metrics", get(metrics::open_metrics))
        .route("/health", get(status::open_health))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .layer(DefaultBodyLimit::max(0))
        .with_state(node)
}

pub(crate) fn router(node: Node) -> Router {
    let bundle_bytes = usize::try_from(node.config().cells.bundle_bytes).unwrap_or(usize::MAX);
    let call_bytes = node.config().api.call_bytes;
    Router::new()
        .route(
            "/v1/bundles/{digest}",
            put(deployments::send).layer(DefaultBodyLimit::max(bundle_bytes)),
        )
        .route(
            "/v1/deployments/{name}/call/{function}",
            post(calls::call).layer(DefaultBodyLimit::max(call_bytes)),
        )
        .route("/v1/deployments", get(deployments::list))
        .route(
            "/v1/deployments/{name}",
            get(deployments::show)
                .put(deployments::deploy)
                .delete(deployments::remove),
        )
        .route("/v1/deployments/{name}/pause", post(deployments::pause))
        .route("/v1/deployments/{name}/resume", post(deployments::resume))
        .route("/v1/deployments/{name}/kill", post(deployments::kill))
        .route("/v1/deployments/{name}/logs", get(deployments::logs))
        .route("/v1/reload", post(deployments::reload))
        .route("/v1/stats", get(status::stats))
        .route("/metrics", get(metrics::metrics))
        .route("/health", get(status::health))
        .route("/health/live", get(status::live))
        .route("/health/ready", get(status::ready))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .layer(DefaultBodyLimit::max(SMALL_BODY))
        .with_state(node)
}

//! The API: HTTP/1.1 and HTTP/2 on a Unix socket, and by TLS on TCP.
//!
//! ```text
//!   PUT    /v1/bundles/DIGEST                     the bundle's bytes, under their SHA-256
//!   GET    /v1/deployments                        all, as they stand
//!   PUT    /v1/deployments/NAME                   {"bundle": DIGEST, "settings": {…}}
//!   GET    /v1/deployments/NAME                   one, with what policy said
//!   DELETE /v1/deployments/NAME
//!   POST   /v1/deployments/NAME/call/FUNCTION     arguments as JSON or CBOR; the result in the same form
//!   POST   /v1/deployments/NAME/stream/FUNCTION   body to standard input, standard output to the answer, while it runs
//!   POST   /v1/deployments/NAME/{pause,resume,kill}
//!   POST   /v1/deployments/NAME/snapshot          {"snapshot": ID, "bytes"}
//!   GET    /v1/snapshots; DELETE /v1/snapshots/ID
//!   GET    /v1/deployments/NAME/grants            what each slot has now
//!   DELETE /v1/deployments/NAME/grants/SLOT       taken back from running cells
//!   PATCH  /v1/deployments/NAME/grants/SLOT       made smaller
//!   GET    /v1/deployments/NAME/logs?follow=true  JSON lines
//!   GET    /v1/audit?after=N&follow=true          the audit log, JSON lines
//!   GET    /v1/pipelines
//!   PUT    /v1/pipelines/NAME                     {"steps": [{"deployment", "function"}, …]}; GET and DELETE
//!   POST   /v1/pipelines/NAME/call                as a call of a deployment
//!   POST   /v1/attest                             {"nonce": HEX}; evidence by the host's TPM
//!   POST   /v1/reload                             trust store and policies
//!   GET    /v1/stats, /metrics, /health, /health/live, /health/ready
//!   GET    /v1/openapi.json                       all of this for programs
//! ```
//! `/metrics` and `/health`, and nothing else, are answered on a TCP socket too, where the configuration has one.
//! An error is `{"error": {"kind", "name", "message"}}` with a status that says whose fault it was.

mod attest;
mod audit;
mod body;
mod calls;
mod deployments;
mod failure;
mod grants;
mod logs;
mod metrics;
mod openapi;
mod path;
mod pipelines;
mod server;
mod snapshots;
mod status;
mod streams;

use axum::Router;
use axum::routing::get;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::node::Node;

pub use attest::Attest;
pub use deployments::{Deploy, DeploymentState, RingShown, Shown};
pub use failure::{ErrorKind, Explained, Explanation};
pub use grants::{EndShown, Narrow, PowerShown, SlotShown, SlotState};
pub use openapi::document;
pub use pipelines::ShownPipeline;
#[cfg(test)]
pub(crate) use server::serve_one;
pub(crate) use server::{FIRST_WORDS_AT_END, Listeners, Peer, serve, serve_openly};
pub use snapshots::{SnapshotMade, SnapshotShown};
pub use status::{Stats, TenantUsage};

/// What is answered over TCP, to whoever connects.
pub(crate) fn open_router(node: Node) -> Router {
    Router::new()
        .route("/metrics", get(metrics::open_metrics))
        .route("/health", get(status::open_health))
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(node)
}

pub(crate) fn router(node: Node) -> Router {
    let (router, _) = described().split_for_parts();
    router
        .fallback(failure::no_such_path)
        .method_not_allowed_fallback(failure::no_such_method)
        .with_state(node)
}

/// Every route, with its part of the document: there is no other way for a route to come into the router.
fn described() -> OpenApiRouter<Node> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(deployments::send))
        .routes(routes!(calls::call))
        .routes(routes!(streams::stream))
        .routes(routes!(deployments::list))
        .routes(routes!(
            deployments::show,
            deployments::deploy,
            deployments::remove
        ))
        .routes(routes!(deployments::pause))
        .routes(routes!(deployments::resume))
        .routes(routes!(deployments::kill))
        .routes(routes!(snapshots::keep))
        .routes(routes!(snapshots::list_snapshots))
        .routes(routes!(snapshots::forget))
        .routes(routes!(grants::show))
        .routes(routes!(grants::revoke, grants::narrow))
        .routes(routes!(pipelines::list_pipelines))
        .routes(routes!(
            pipelines::show_pipeline,
            pipelines::define_pipeline,
            pipelines::remove_pipeline
        ))
        .routes(routes!(pipelines::call_pipeline))
        .routes(routes!(logs::logs))
        .routes(routes!(audit::records))
        .routes(routes!(attest::attest))
        .routes(routes!(deployments::reload))
        .routes(routes!(status::stats))
        .routes(routes!(metrics::metrics))
        .routes(routes!(status::health))
        .routes(routes!(status::live))
        .routes(routes!(status::ready))
        .routes(routes!(openapi::show))
}

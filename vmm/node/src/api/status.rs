//! How the node is.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use referee_policy::Access;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Peer;
use crate::api::failure::{ApiError, ApiResult};
use crate::api::openapi::{Counting, Readying};
use crate::health::Health;
use crate::node::Node;

/// The node in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// Deployments.
    pub deployments: usize,
    /// Those that have a worker.
    pub workers: usize,
    /// Calls that may run at once.
    pub slots: usize,
    /// Of these, how many are free.
    pub free_slots: usize,
    /// Records in the audit log.
    pub audit_records: u64,
    /// Whether the node is ending.
    pub draining: bool,
    /// What each publisher's calls had, since the node started.
    pub tenants: BTreeMap<String, TenantUsage>,
}

/// What a publisher's calls had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TenantUsage {
    /// Microseconds for which they had a slot, as workers report it.
    pub used_us: u64,
    /// The same by the supervisor's clock, switching included: shares and caps go by this.
    pub held_us: u64,
    /// Turns.
    pub slices: u64,
    /// Turns that were cut short for somebody else.
    pub preempted: u64,
    /// Jobs of real-time deployments that did not have their budget before their deadline.
    pub late: u64,
}

/// Gives the node in numbers.
#[utoipa::path(
    get, path = "/v1/stats", tag = "node",
    responses((status = 200, description = "Since the node started.", body = Stats), Counting),
)]
pub(crate) async fn stats(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<Json<Stats>> {
    node.allow(&peer, Access::Node { action: "stats" })?;
    let deployments = node.deployments();
    Ok(Json(Stats {
        workers: deployments
            .iter()
            .filter(|deployment| deployment.present().is_some())
            .count(),
        deployments: deployments.len(),
        slots: node.slot_count(),
        free_slots: node.turns().free(node.slot_count()),
        audit_records: node.audit().head().records,
        draining: node.is_draining(),
        tenants: node
            .turns()
            .usage()
            .into_iter()
            .map(|(name, usage)| {
                let usage = TenantUsage {
                    used_us: usage.used.as_ns() / 1000,
                    held_us: usage.held.as_ns() / 1000,
                    slices: usage.slices,
                    preempted: usage.preempted,
                    late: usage.late,
                };
                (name, usage)
            })
            .collect(),
    }))
}

/// Says how the node is, and what is not as it should be.
#[utoipa::path(
    get, path = "/health", tag = "node",
    responses(
        (status = 200, description = "It takes calls.", body = Health),
        (status = 503, description = "It is ending.", body = Health),
        Counting,
    ),
)]
pub(crate) async fn health(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<(StatusCode, Json<Health>)> {
    // It names deployments.
    node.allow(&peer, Access::Node { action: "stats" })?;
    Ok(open_health(State(node)).await)
}

/// The same for whoever may connect.
pub(crate) async fn open_health(State(node): State<Node>) -> (StatusCode, Json<Health>) {
    let health = Health::of(&node);
    let status = match health.ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(health))
}

/// Says that the node is there.
#[utoipa::path(get, path = "/health/live", tag = "node", responses((status = 204, description = "It is.")))]
pub(crate) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// Says whether the node takes calls.
#[utoipa::path(get, path = "/health/ready", tag = "node", responses((status = 204, description = "It does."), Readying))]
pub(crate) async fn ready(State(node): State<Node>) -> Result<StatusCode, ApiError> {
    match node.is_draining() {
        false => Ok(StatusCode::NO_CONTENT),
        true => Err(crate::error::NodeError::Draining.into()),
    }
}

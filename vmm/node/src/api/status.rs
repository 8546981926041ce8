//! How the node is.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use crate::api::failure::ApiError;
use crate::node::Node;

/// The node in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// `GET /v1/stats`
pub(crate) async fn stats(State(node): State<Node>) -> Json<Stats> {
    let deployments = node.deployments();
    Json(Stats {
        workers: deployments
            .iter()
            .filter(|deployment| deployment.present().is_some())
            .count(),
        deployments: deployments.len(),
        slots: node.slot_count(),
        free_slots: node.slots().available_permits(),
        audit_records: node.audit().head().records,
        draining: node.is_draining(),
    })
}

/// `GET /health/live`
pub(crate) async fn live() -> StatusCode {
    StatusCode::NO_CONTENT
}

/// `GET /health/ready`
pub(crate) async fn ready(State(node): State<Node>) -> Result<StatusCode, ApiError> {
    match node.is_draining() {
        false => Ok(StatusCode::NO_CONTENT),
        true => Err(crate::error::NodeError::Draining.into()),
    }
}

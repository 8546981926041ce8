//! Snapshots: made of a deployment, listed, given up.

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::StatusCode;
use referee_policy::Access;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Peer;
use crate::api::deployments::to_its_end;
use crate::api::failure::ApiResult;
use crate::api::openapi::{DigestText, Forgetting, Keeping, Listing, Name};
use crate::api::path::Named;
use crate::node::Node;

/// A snapshot that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotMade {
    /// SHA-256 of its file, by which it is named.
    #[schema(value_type = DigestText)]
    pub snapshot: String,
    /// The file's length.
    pub bytes: u64,
}

/// A snapshot that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotShown {
    /// SHA-256 of its file, by which it is named.
    #[schema(value_type = DigestText)]
    pub snapshot: String,
    /// SHA-256 of the bundle that it is of.
    #[schema(value_type = DigestText)]
    pub bundle: String,
    /// The deployment that it was made of, which may be another by now, or gone.
    #[schema(value_type = Name)]
    pub deployment: String,
    /// Seconds since 1970.
    pub made_at: u64,
    /// The file's length.
    pub bytes: u64,
    /// Deployments that begin from it, of those that the caller may see.
    pub used_by: Vec<String>,
}

/// Keeps the muscle of a deployment as it stands between two calls.
///
/// For a deployment that keeps its memory in one cell. It waits for that cell as a call does, also while the deployment is paused. Deployments of the same bundle can
/// begin from it (`settings.snapshot`). It holds every secret that the muscle has.
#[utoipa::path(
    post, path = "/v1/deployments/{name}/snapshot", tag = "deployments",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 200, description = "It is on the disk.", body = SnapshotMade), Keeping),
)]
pub(crate) async fn keep(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<Json<SnapshotMade>> {
    let action = "snapshot";
    node.allow(&peer, Access::Deployment { name: &name, action })?;
    let made = to_its_end(async move { node.snapshot(&peer.principal(), &name).await }).await?;
    Ok(Json(made))
}

/// Lists the snapshots of deployments that the caller may see.
#[utoipa::path(
    get, path = "/v1/snapshots", tag = "deployments",
    responses((status = 200, description = "The oldest first.", body = Vec<SnapshotShown>), Listing),
)]
pub(crate) async fn list_snapshots(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
) -> ApiResult<Json<Vec<SnapshotShown>>> {
    Ok(Json(node.snapshots(&peer).await?))
}

/// Gives a snapshot up, for which its caller needs to be permitted to remove the deployment that it was made of.
#[utoipa::path(
    delete, path = "/v1/snapshots/{snapshot}", tag = "deployments",
    params(("snapshot" = DigestText, Path, description = "The snapshot.")),
    responses((status = 204, description = "Done."), Forgetting),
)]
pub(crate) async fn forget(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(snapshot): Named<String>,
) -> ApiResult<StatusCode> {
    let name = node.kept_snapshot(&snapshot).await?.deployment;
    let action = "remove";
    node.allow(&peer, Access::Deployment { name: &name, action })?;
    to_its_end(async move { node.forget_snapshot(&peer.principal(), &snapshot).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

//! Evidence of this node, by its TPM.

use axum::extract::{Extension, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use referee_policy::Access;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Peer;
use crate::api::body;
use crate::api::failure::ApiResult;
use crate::api::openapi::{Attesting, NonceText, Octets};
use crate::node::Node;

/// For whom evidence is to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Attest {
    /// The verifier's nonce, used once: 16 to 64 bytes in hexadecimal digits.
    #[schema(value_type = NonceText)]
    pub nonce: String,
}

/// Gives evidence of what this node is and what it ran.
///
/// Every bundle that may have run since the host was started is in it, and how far the audit log is. `referee-verify evidence` checks it.
#[utoipa::path(
    post, path = "/v1/attest", tag = "node", operation_id = "attest",
    request_body = Attest,
    responses(
        (status = 200, description = "Evidence, as `referee-vmm attest` writes it.", body = Octets, content_type = "application/octet-stream"),
        Attesting,
    ),
)]
pub(crate) async fn attest(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> ApiResult<impl IntoResponse> {
    node.allow(&peer, Access::Node { action: "attest" })?;
    let wanted: Attest = body::json(&node, request).await?;
    let evidence = node.evidence(&wanted.nonce).await?;
    Ok(([(CONTENT_TYPE, "application/octet-stream")], evidence))
}

//! Grants of a deployment's running cells: looked at, taken back, made smaller.

use axum::Json;
use axum::extract::{Extension, Request, State};
use axum::http::StatusCode;
use referee_policy::{Access, ClockGrade, FilesAccess, Narrowing, Power};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::Peer;
use crate::api::body as bodies;
use crate::api::deployments::to_its_end;
use crate::api::failure::ApiResult;
use crate::api::openapi::{Changing, Looking, Name, Restricting};
use crate::api::path::Named;
use crate::delegation::{Delegation, End};
use crate::deployment::Deployment;
use crate::error::NodeError;
use crate::forms::whole_or_none;
use crate::line::Restriction;
use crate::node::Node;

/// What a grant is to be left with. What is left out stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Narrow {
    /// `files`: nothing may be changed any more.
    pub read_only: bool,
    /// `files`: only what is at or below this path, relative to the granted directory.
    pub within: Option<String>,
    /// `files`: bytes by which a cell may grow what is there. `state`: bytes that are kept.
    #[serde(deserialize_with = "whole_or_none")]
    pub max_bytes: Option<u64>,
    /// `files`: files and directories that a cell may add.
    #[serde(deserialize_with = "whole_or_none")]
    #[schema(maximum = 4_294_967_295u32)]
    pub max_files: Option<u64>,
    /// `env`: only these names.
    pub names: Option<Vec<String>>,
    /// `console`: no input.
    pub no_input: bool,
    /// `clock`: milliseconds only.
    pub coarse: bool,
}

/// What became of a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SlotState {
    /// As policy gave it.
    Whole,
    /// Less than that.
    Narrowed,
    /// Nothing is left.
    Revoked,
    /// It has nothing until another muscle delegates to it.
    Dormant,
}

/// A slot's grant, as policy gave it and as it is now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SlotShown {
    /// The slot.
    pub slot: String,
    /// The kind of capability.
    pub capability: String,
    /// What became of it.
    pub state: SlotState,
    /// What policy gave when it was deployed.
    pub granted: PowerShown,
    /// What is left, and of a slot that is delegated what it has by that; nothing if it was revoked or is dormant.
    pub left: Option<PowerShown>,
    /// From whom it has that; of a slot that is delegated, while it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<EndShown>,
    /// Who has something of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<EndShown>,
}

/// The other end of a delegation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndShown {
    /// The deployment.
    pub deployment: String,
    /// Its slot.
    pub slot: String,
    /// The channel over which it was delegated.
    pub channel: String,
}

impl EndShown {
    fn of(end: &End, delegation: &Delegation) -> EndShown {
        EndShown {
            deployment: end.deployment.clone(),
            slot: end.slot.clone(),
            channel: delegation.channel.clone(),
        }
    }
}

/// What a grant allows; what its kind of capability does not have is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct PowerShown {
    /// The directory, or the socket.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Only what is at or below this path within it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Whether it may be changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only: Option<bool>,
    /// Bytes that may be added, or kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Files and directories that may be added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_files: Option<u32>,
    /// Variables, or functions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Whether there is input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<bool>,
    /// Whether the clock is coarse.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coarse: Option<bool>,
    /// The ring of the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ring: Option<String>,
    /// The port, or the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u32>,
}

impl From<&Power> for PowerShown {
    fn from(power: &Power) -> PowerShown {
        let nothing = PowerShown::default();
        let path = |path: &std::path::Path| Some(path.display().to_string());
        match power {
            Power::Console { input } => PowerShown {
                input: Some(*input),
                ..nothing
            },
            Power::Env { names } | Power::Functions { names } => PowerShown {
                names: Some(names.clone()),
                ..nothing
            },
            Power::Clock { grade } => PowerShown {
                coarse: Some(*grade == ClockGrade::Coarse),
                ..nothing
            },
            Power::State { max_bytes } | Power::Channel { max_bytes, .. } => PowerShown {
                max_bytes: Some(*max_bytes),
                ..nothing
            },
            Power::Ring { bytes, ring, .. } => PowerShown {
                max_bytes: Some(*bytes),
                ring: ring.clone(),
                ..nothing
            },
            Power::Files {
                path: folder,
                access,
                within,
                max_bytes,
                max_files,
            } => PowerShown {
                path: path(folder),
                within: within.clone(),
                read_only: Some(*access == FilesAccess::Read),
                max_bytes: Some(*max_bytes),
                max_files: Some(*max_files),
                ..nothing
            },
            Power::VsockListen { port, socket } | Power::VsockConnect { port, socket } => PowerShown {
                path: path(socket),
                port: Some(*port),
                ..nothing
            },
            Power::Pio { first, .. } => PowerShown {
                port: Some(u32::from(*first)),
                ..nothing
            },
            Power::Args | Power::Random | Power::Attest => nothing,
        }
    }
}

impl SlotShown {
    fn of(node: &Node, deployment: &Deployment, slot: &str, granted: &Power) -> SlotShown {
        let (all, end) = (node.delegations(), End::new(&deployment.name, slot));
        let own = deployment.left(slot);
        let left = match deployment.assessment().waits.contains_key(slot) {
            true => all.has(&end, &|end| node.seen(end)),
            false => own.clone(),
        };
        SlotShown {
            slot: slot.to_owned(),
            capability: granted.kind().name().to_owned(),
            from: all.above(&end).map(|above| EndShown::of(&above.from, above)),
            to: all
                .below(&end)
                .map(|(end, below)| EndShown::of(end, below))
                .collect(),
            state: match &left {
                None if own.is_some() => SlotState::Dormant,
                None => SlotState::Revoked,
                Some(left) if left == granted => SlotState::Whole,
                Some(_) => SlotState::Narrowed,
            },
            granted: granted.into(),
            left: left.as_ref().map(PowerShown::from),
        }
    }
}

/// Shows what each slot of a deployment has.
#[utoipa::path(
    get, path = "/v1/deployments/{name}/grants", tag = "deployments", operation_id = "grants",
    params(("name" = Name, Path, description = "The deployment.")),
    responses((status = 200, description = "In the manifest's order.", body = Vec<SlotShown>), Looking),
)]
pub(crate) async fn show(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named(name): Named<String>,
) -> ApiResult<Json<Vec<SlotShown>>> {
    let access = Access::Deployment {
        name: &name,
        action: "see",
    };
    node.allow(&peer, access)?;
    let deployment = node.deployment(&name)?;
    let granted = deployment.assessment().granted.iter();
    let shown = granted.map(|(slot, power)| SlotShown::of(&node, &deployment, slot, power));
    Ok(Json(shown.collect()))
}

/// Takes a grant back, from cells that run calls too.
///
/// With it goes what others have of it by delegation. When it is answered, no cell has the grant: the next use is refused, what was opened by it is closed, and no use is under way. Survives the service,
/// and a new bundle under the name unless that says otherwise. There is no way back but to deploy with `reset_grants`.
#[utoipa::path(
    delete, path = "/v1/deployments/{name}/grants/{slot}", tag = "deployments",
    params(
        ("name" = Name, Path, description = "The deployment."),
        ("slot" = String, Path, description = "The slot."),
    ),
    responses((status = 204, description = "Nothing is left of it."), Changing),
)]
pub(crate) async fn revoke(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named((name, slot)): Named<(String, String)>,
) -> ApiResult<StatusCode> {
    node.allow(&peer, access(&name, &slot, "revoke"))?;
    let restriction = Restriction {
        slot,
        narrowing: None,
    };
    to_its_end(async move { node.restrict(&peer.principal(), &name, restriction).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Makes a grant smaller, for cells that run calls too.
///
/// In force when it is answered, as for revoking, also for those who have something of it by delegation. What would be wider than it is now is refused.
#[utoipa::path(
    patch, path = "/v1/deployments/{name}/grants/{slot}", tag = "deployments",
    params(
        ("name" = Name, Path, description = "The deployment."),
        ("slot" = String, Path, description = "The slot."),
    ),
    request_body(content = Narrow, content_type = "application/json"),
    responses((status = 200, description = "As it is now.", body = SlotShown), Restricting),
)]
pub(crate) async fn narrow(
    State(node): State<Node>,
    Extension(peer): Extension<Peer>,
    Named((name, slot)): Named<(String, String)>,
    request: Request,
) -> ApiResult<Json<SlotShown>> {
    node.allow(&peer, access(&name, &slot, "narrow"))?;
    let wanted: Narrow = bodies::json(&node, request).await?;
    let restriction = Restriction {
        slot: slot.clone(),
        narrowing: Some(wanted.into()),
    };
    let restricting = node.clone();
    let restricted = async move { restricting.restrict(&peer.principal(), &name, restriction).await };
    let deployment = to_its_end(restricted).await?;
    let granted = deployment.granted(&slot).ok_or(NodeError::NoSlot(slot.clone()))?;
    Ok(Json(SlotShown::of(&node, &deployment, &slot, granted)))
}

fn access<'a>(name: &'a str, slot: &'a str, action: &'static str) -> Access<'a> {
    Access::Grant { name, slot, action }
}

impl From<Narrow> for Narrowing {
    fn from(narrow: Narrow) -> Narrowing {
        Narrowing {
            read_only: narrow.read_only,
            within: narrow.within,
            max_bytes: narrow.max_bytes,
            // More than there can be is wider than there is, or the same.
            max_files: narrow
                .max_files
                .map(|files| u32::try_from(files).unwrap_or(u32::MAX)),
            names: narrow.names,
            no_input: narrow.no_input,
            coarse: narrow.coarse,
        }
    }
}

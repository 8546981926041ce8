//! The API described for programs: an OpenAPI 3.1 document, made of what stands beside each route.
//!
//! A route comes into the router together with its part of the document (`api.rs`); what it may be refused with is here, once for each kind
//! of request. The statuses mean what `docs/api.md` says.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, KnownFormat, Object, ObjectBuilder, SchemaFormat, Type};
use utoipa::openapi::{
    ContentBuilder, HeaderBuilder, OpenApi, Ref, RefOr, Required, Response, ResponseBuilder,
    ResponsesBuilder, Schema,
};
use utoipa::{IntoParams, IntoResponses, OpenApi as _, PartialSchema, ToSchema};

use crate::api::calls::RETRIES_MAX;
use crate::api::failure::Explained;
use crate::logs::LogLine;

/// What stands in no route.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Referee node",
        description = "Muscles kept deployed, and their functions called. Paths that are not here are answered with 404, \
            methods that are not here with 405, both as every other error is: `{\"error\": {\"kind\", \"name\", \"message\"}}`. \
            Who asks is known by the Unix socket, or by the certificate of the TLS handshake; policy decides what they may.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(Explained, LogLine)),
    tags(
        (name = "deployments", description = "Muscles that are kept to be called."),
        (name = "calls", description = "Calls of their functions."),
        (name = "pipelines", description = "Calls of one deployment after another."),
        (name = "node", description = "The node itself."),
    ),
)]
struct Frame;

pub(super) fn frame() -> OpenApi {
    Frame::openapi()
}

/// The document as JSON, as `GET /v1/openapi.json` gives it.
pub fn document() -> &'static str {
    static DOCUMENT: LazyLock<String> = LazyLock::new(|| {
        let mut document = super::described().into_openapi();
        document.info.version = env!("CARGO_PKG_VERSION").into();
        complete(&mut document);
        // Plain data, all of it.
        document.to_pretty_json().unwrap_or_default()
    });
    &DOCUMENT
}

/// Says what cannot be said beside a route or a type.
fn complete(document: &mut OpenApi) {
    for path in [
        "/v1/deployments/{name}/call/{function}",
        "/v1/deployments/{name}/stream/{function}",
        "/v1/pipelines/{name}/call",
    ] {
        let call = document.paths.paths.get_mut(path);
        if let Some(body) = call.and_then(|path| path.post.as_mut()?.request_body.as_mut()) {
            body.required = Some(Required::False);
        }
    }
    let schemas = document
        .components
        .as_mut()
        .map(|components| &mut components.schemas);
    if let Some(RefOr::T(Schema::OneOf(priority))) = schemas.and_then(|schemas| schemas.get_mut("Priority")) {
        for class in &mut priority.items {
            if let RefOr::T(Schema::Object(class)) = class {
                class.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
            }
        }
    }
}

/// Gives this document.
#[utoipa::path(
    get, path = "/v1/openapi.json", tag = "node",
    responses((status = 200, description = "OpenAPI 3.1.", body = serde_json::Value)),
)]
pub(crate) async fn show() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], document())
}

/// A deployment's name.
pub(crate) struct Name;

impl ToSchema for Name {}

impl PartialSchema for Name {
    fn schema() -> RefOr<Schema> {
        text("^[a-z0-9][a-z0-9._-]{0,63}$").into()
    }
}

/// SHA-256 in hexadecimal digits.
pub(crate) struct DigestText;

impl ToSchema for DigestText {}

impl PartialSchema for DigestText {
    fn schema() -> RefOr<Schema> {
        text("^[0-9a-f]{64}$").into()
    }
}

/// A verifier's nonce in hexadecimal digits.
pub(crate) struct NonceText;

impl ToSchema for NonceText {}

impl PartialSchema for NonceText {
    fn schema() -> RefOr<Schema> {
        text("^([0-9a-fA-F]{2}){16,64}$").into()
    }
}

fn text(pattern: &str) -> Object {
    let text = ObjectBuilder::new().schema_type(Type::String);
    text.pattern(Some(pattern)).build()
}

/// Bytes without a form of their own.
pub(crate) struct Octets;

impl ToSchema for Octets {}

impl PartialSchema for Octets {
    fn schema() -> RefOr<Schema> {
        let binary = SchemaFormat::KnownFormat(KnownFormat::Binary);
        let octets = ObjectBuilder::new().schema_type(Type::String);
        octets.format(Some(binary)).build().into()
    }
}

/// The header by which a call may be made again.
pub(crate) struct Retry;

impl IntoParams for Retry {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let number = ObjectBuilder::new().schema_type(Type::Integer);
        let number = number.minimum(Some(0)).maximum(Some(RETRIES_MAX));
        let retry = ParameterBuilder::new()
            .name("referee-retry")
            .parameter_in(ParameterIn::Header)
            .required(Required::False)
            .schema(Some(number.build()))
            .description(Some(
                "How often the node may make the call again when its worker ended under way. \
                 To be said only of calls that may have their effect twice.",
            ));
        vec![retry.build()]
    }
}

/// What each status of a refusal means, as `docs/api.md` has it.
const MEANINGS: [(u16, &str); 12] = [
    (
        400,
        "`rejected`: the request is none: JSON, CBOR, path, query; or its body broke off.",
    ),
    (403, "`rejected`: policy about the API does not permit it."),
    (
        404,
        "`rejected`: there is no such deployment, function, slot, pipeline or snapshot.",
    ),
    (408, "`rejected`: the body, or a stream's client, is too slow."),
    (
        409,
        "`rejected`: the deployment is paused, or the call was given up.",
    ),
    (413, "`rejected`: the body is too large."),
    (
        422,
        "`rejected`: bundle, trust store, policy, binding or settings say no, or a grant would be wider; `name` is the rule. `function`: the function's own error.",
    ),
    (429, "`busy`: too much at once."),
    (500, "`host-error`: this host failed."),
    (
        502,
        "`fault`: the muscle broke a rule. `host-error`: the worker that ran the call ended; whether the call had an effect is not known.",
    ),
    (503, "`draining`: the node ends."),
    (504, "`time`: the muscle's deadline or CPU time was over."),
];

fn refusals(statuses: &[u16]) -> BTreeMap<String, RefOr<Response>> {
    let among = MEANINGS.iter().filter(|(status, _)| statuses.contains(status));
    let all = among.map(|(status, meaning)| (status.to_string(), refusal(*status, meaning)));
    all.fold(ResponsesBuilder::new(), |responses, (status, refusal)| {
        responses.response(status, refusal)
    })
    .build()
    .responses
}

fn refusal(status: u16, meaning: &str) -> Response {
    let explained = Ref::from_schema_name(Explained::name());
    let content = ContentBuilder::new().schema(Some(explained)).build();
    let refusal = ResponseBuilder::new()
        .description(meaning)
        .content("application/json", content);
    match status {
        429 | 503 => {
            let seconds = HeaderBuilder::new()
                .schema(u32::schema())
                .description(Some("Seconds after which to try again."));
            refusal.header("retry-after", seconds.build()).build()
        }
        _ => refusal.build(),
    }
}

macro_rules! refused_with {
    ($($what:literal $name:ident: $statuses:expr;)*) => {$(
        #[doc = $what]
        pub(crate) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                refusals(&$statuses)
            }
        }
    )*};
}

refused_with! {
    "Looking at the node." Counting: [403];
    "Asking whether the node takes calls." Readying: [503];
    "Reading the audit log." Auditing: [400, 403, 500];
    "Looking at a deployment." Looking: [400, 403, 404];
    "Listing snapshots." Listing: [500];
    "Keeping a muscle's memory." Keeping: [400, 403, 404, 422, 429, 500, 502, 503];
    "Giving a snapshot up." Forgetting: [400, 403, 404, 422, 500];
    "Changing a deployment." Changing: [400, 403, 404, 500];
    "Taking from a grant." Restricting: [400, 403, 404, 408, 413, 422, 429, 500];
    "Asking for evidence." Attesting: [400, 403, 408, 413, 422, 429, 500];
    "Reading trust store and policies again." Reloading: [403, 422, 500];
    "Sending and deploying." Sending: [400, 403, 408, 413, 422, 429, 500];
    "Calling." Calling: [400, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504];
}

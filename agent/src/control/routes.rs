//! The routes of the control socket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, Path, Query as Parameters, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::{get, post};
use axum::{Router, body};
use chrono::{DateTime, Utc};
use data_encoding::BASE64;
use muster_signing::{DOCUMENT_BYTES_MAX, DocumentParts, SIGNATURES_MAX, dearmor};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::server::Limits;
use super::wire::{SCHEMA, SignedDocument};
use super::{
    Answer, Ask, Code, Door, EVENTS_MAX, EventFilter, HookVerb, PeerCredentials, Problem, Query, events,
    problem,
};

/// The longest name that a path or a query can hold, in bytes: a rollout's, `channel@ref`.
const NAME_BYTES_MAX: usize = 63 + 1 + 128;
/// The length of a document's hash in hexadecimal.
const HASH_CHARS: usize = 64;
/// What stands before it.
const HASH_PREFIX: &str = "sha256-";
/// The media type of `/metrics`.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Who made a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub(crate) credentials: Option<PeerCredentials>,
}

/// What the handlers share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pub(super) door: Door,
    limits: Limits,
    followers: Arc<Semaphore>,
}

type Handled = Result<Response, Problem>;

pub(super) fn router(door: Door, limits: Limits) -> Router {
    let shared = Shared { door, limits, followers: Arc::new(Semaphore::new(limits.followers)) };
    let router = Router::new()
        .route("/v1/status", fixed(Query::Status))
        .route("/v1/fleet", fixed(Query::Fleet))
        .route("/v1/peers", fixed(Query::Peers))
        .route("/v1/rollouts", fixed(Query::Rollouts))
        .route("/v1/rollouts/{id}", get(rollout))
        .route("/v1/explain/{subject}", named(|subject| named_well(subject).map(Query::Explain)))
        .route("/v1/channels/{channel}", named(|channel| named_well(channel).map(Query::Channel)))
        .route("/v1/plan", post(plan))
        .route("/v1/events", get(list_events))
        .route("/v1/quarantines", fixed(Query::Quarantines))
        .route("/v1/id", fixed(Query::Id))
        .route("/v1/store", fixed(Query::Store))
        .route("/v1/store/verify", get(verify_store))
        .route("/v1/documents", post(publish))
        .route("/v1/hooks/{name}/test", hook(HookVerb::Test))
        .route("/v1/hooks/{name}/retry", hook(HookVerb::Retry))
        .route("/v1/hooks/{name}/forget", hook(HookVerb::Forget))
        .route("/v1/documents/{hash}", named(|hash| hashed(&hash).map(Query::Document)))
        .route("/healthz", get(healthz))
        .route("/metrics", fixed(Query::Metrics));
    with_refusals(router, "no such route; /v1/status is one").with_state(shared)
}

/// Says no in the same form to what no route takes.
pub(super) fn with_refusals<S: Clone + Send + Sync + 'static>(
    router: Router<S>,
    unknown: &'static str,
) -> Router<S> {
    router.fallback(async move || Problem::new(Code::NotFound, unknown)).method_not_allowed_fallback(
        async || {
            Problem::new(
                Code::MethodNotAllowed,
                "documents, plans and what hooks are to do are posted, all else is read with GET",
            )
        },
    )
}

/// Metrics as their readers want them.
pub(super) fn openmetrics(text: String) -> Response {
    ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
}

/// What a loop that answers is worth.
pub(super) fn healthy() -> impl IntoResponse {
    Json(serde_json::json!({ "schema": SCHEMA, "status": "ok" }))
}

/// What clients beyond the limit hear, whatever they ask.
pub(super) fn full(limits: Limits) -> Router {
    Router::new().fallback(async move || {
        let detail = format_args!("{} clients are connected already", limits.connections);
        ([(header::CONNECTION, "close")], Problem::new(Code::TooManyClients, detail))
    })
}

fn fixed(query: Query) -> axum::routing::MethodRouter<Shared> {
    get(async move |State(shared): State<Shared>, Extension(client): Extension<Client>| {
        respond(shared.door.ask(Ask::Query(query), client.credentials).await)
    })
}

fn named(
    query: impl Fn(String) -> Result<Query, Problem> + Clone + Send + Sync + 'static,
) -> axum::routing::MethodRouter<Shared> {
    get(
        async move |State(shared): State<Shared>,
                    Extension(client): Extension<Client>,
                    name: Result<Path<String>, PathRejection>| {
            let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error))?;
            respond(shared.door.ask(Ask::Query(query(name)?), client.credentials).await)
        },
    )
}

fn hook(verb: HookVerb) -> axum::routing::MethodRouter<Shared> {
    post(
        async move |State(shared): State<Shared>,
                    Extension(client): Extension<Client>,
                    name: Result<Path<String>, PathRejection>| {
            let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error))?;
            let (name, peer) = (named_well(name)?, client.credentials);
            tracing::info!(?peer, hook = name, ?verb, "somebody asks for a hook");
            respond(shared.door.ask(Ask::Hook { name, verb }, peer).await)
        },
    )
}

fn named_well(name: String) -> Result<String, Problem> {
    if name.len() <= NAME_BYTES_MAX && name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(name);
    }
    Err(Problem::new(
        Code::BadRequest,
        format_args!("a name is at most {NAME_BYTES_MAX} printable ASCII characters without spaces"),
    ))
}

/// A hash as receipts write it; the hexadecimal digits that `sha256sum` prints are enough.
fn hashed(hash: &str) -> Result<String, Problem> {
    let digits = hash.strip_prefix(HASH_PREFIX).unwrap_or(hash);
    if digits.len() == HASH_CHARS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(format!("{HASH_PREFIX}{}", digits.to_ascii_lowercase()));
    }
    Err(Problem::new(Code::BadRequest, format_args!("a document's hash is {HASH_CHARS} hexadecimal digits")))
}

fn respond(answer: Result<Answer, Problem>) -> Handled {
    fn body(status: StatusCode, value: &impl Serialize) -> Response {
        match serde_json::to_vec(value) {
            Ok(bytes) => (status, [(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
            Err(error) => Problem::new(Code::Internal, error).into_response(),
        }
    }
    Ok(match answer? {
        Answer::Status(value) => body(StatusCode::OK, &value),
        Answer::Fleet(value) => body(StatusCode::OK, &value),
        Answer::Peers(value) => body(StatusCode::OK, &value),
        Answer::Rollouts(value) => body(StatusCode::OK, &value),
        Answer::Rollout(value) => body(StatusCode::OK, &value),
        Answer::Explain(value) => body(StatusCode::OK, &value),
        Answer::Events(value) => body(StatusCode::OK, &value),
        Answer::Quarantines(value) => body(StatusCode::OK, &value),
        Answer::Id(value) => body(StatusCode::OK, &value),
        Answer::Store(value) => body(StatusCode::OK, &value),
        Answer::StoreVerified(value) => body(StatusCode::OK, &value),
        Answer::Document(value) => body(StatusCode::OK, &value),
        Answer::Metrics(text) => openmetrics(text),
        Answer::Channel(value) => body(StatusCode::OK, &value),
        Answer::Plan(value) => body(StatusCode::OK, &value),
        Answer::Hook(value) => body(StatusCode::OK, &value),
        Answer::Receipt(value) => body(StatusCode::ACCEPTED, &value),
    })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(header::CONTENT_TYPE, problem::PROBLEM_JSON)], Json(self)).into_response()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventParameters {
    host: Option<String>,
    rollout: Option<String>,
    since: Option<DateTime<Utc>>,
    after: Option<u64>,
    limit: Option<u32>,
    follow: Option<String>,
}

async fn list_events(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    headers: HeaderMap,
    parameters: Result<Parameters<EventParameters>, QueryRejection>,
) -> Handled {
    let Parameters(given) = parameters.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    // A client of server-sent events that lost its connection says how far it got.
    let resumed = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse().ok());
    let filter = EventFilter {
        host: given.host.map(named_well).transpose()?,
        rollout: given.rollout.map(named_well).transpose()?,
        since: given.since,
        after: resumed.or(given.after),
        limit: given.limit.unwrap_or(EVENTS_MAX).clamp(1, EVENTS_MAX),
    };
    match given.follow.as_deref() {
        None | Some("0" | "false") => {
            respond(shared.door.ask(Ask::Query(Query::Events(filter)), client.credentials).await)
        }
        Some("1" | "true") => {
            let place = shared.followers.clone().try_acquire_owned().map_err(|_| {
                let followers = shared.limits.followers;
                Problem::new(
                    Code::TooManyClients,
                    format_args!("{followers} clients follow the events already"),
                )
            })?;
            Ok(events::follow(shared.door, filter, client.credentials, place).into_response())
        }
        Some(_) => Err(Problem::new(Code::BadRequest, "follow is 1 or 0")),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RolloutParameters {
    timeline: Option<String>,
}

async fn rollout(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    name: Result<Path<String>, PathRejection>,
    parameters: Result<Parameters<RolloutParameters>, QueryRejection>,
) -> Handled {
    let Path(name) = name.map_err(|error| Problem::new(Code::BadRequest, error))?;
    let Parameters(given) = parameters.map_err(|error| Problem::new(Code::BadRequest, error.body_text()))?;
    let id = named_well(name)?;
    let query = match given.timeline.as_deref() {
        None | Some("1" | "true") => Query::Rollout(id),
        Some("0" | "false") => Query::RolloutNow(id),
        Some(_) => return Err(Problem::new(Code::BadRequest, "timeline is 1 or 0")),
    };
    respond(shared.door.ask(Ask::Query(query), client.credentials).await)
}

async fn verify_store(State(shared): State<Shared>, Extension(client): Extension<Client>) -> Handled {
    respond(shared.door.ask(Ask::VerifyStore, client.credentials).await)
}

async fn healthz(State(shared): State<Shared>, Extension(client): Extension<Client>) -> Handled {
    shared.door.ask(Ask::Query(Query::Id), client.credentials).await?;
    Ok(healthy().into_response())
}

async fn plan(State(shared): State<Shared>, Extension(client): Extension<Client>, request: Body) -> Handled {
    let parts = parts(&read(&shared, request).await?, 0)?;
    respond(shared.door.ask(Ask::Plan(parts), client.credentials).await)
}

async fn publish(
    State(shared): State<Shared>,
    Extension(client): Extension<Client>,
    request: Body,
) -> Handled {
    let outcome = take(&shared, client, request).await;
    let peer = client.credentials;
    let (uid, gid, pid) = (peer.map(|peer| peer.uid), peer.map(|peer| peer.gid), peer.map(|peer| peer.pid));
    match &outcome {
        Ok(Answer::Receipt(receipt)) => {
            let (hash, duplicate) = (&receipt.hash, receipt.duplicate);
            tracing::info!(uid, gid, pid, hash, duplicate, "a document was published here");
        }
        Ok(_) => {}
        Err(problem) => {
            let code = problem.code.name();
            tracing::info!(uid, gid, pid, code, detail = problem.detail, "a document was refused here");
        }
    }
    respond(outcome)
}

async fn take(shared: &Shared, client: Client, request: Body) -> Result<Answer, Problem> {
    let parts = parts(&read(shared, request).await?, 1)?;
    shared.door.ask(Ask::Publish(parts), client.credentials).await
}

async fn read(shared: &Shared, request: Body) -> Result<body::Bytes, Problem> {
    let Limits { body_bytes, request_time, .. } = shared.limits;
    match timeout(request_time, body::to_bytes(request, body_bytes)).await {
        Err(_) => {
            let seconds = request_time.as_secs();
            Err(Problem::new(
                Code::RequestTimeout,
                format_args!("the body did not arrive within {seconds} s"),
            ))
        }
        // Whatever else can go wrong with a body, nobody is left to be told of it.
        Ok(Err(_)) => {
            Err(Problem::new(Code::TooLarge, format_args!("a body has at most {body_bytes} bytes")))
        }
        Ok(Ok(bytes)) => Ok(bytes),
    }
}

/// Takes base64 and armor off; whether the signatures hold is not this side's matter.
fn parts(body: &[u8], signatures_min: usize) -> Result<DocumentParts, Problem> {
    let signed: SignedDocument = serde_json::from_slice(body).map_err(|error| {
        let code = match error.to_string() {
            text if text.starts_with("unknown field") => Code::UnknownField,
            _ if error.is_data() => Code::Invalid,
            _ => Code::NotJson,
        };
        Problem::new(code, format_args!("the request: {error}"))
    })?;
    if signed.signatures.len() < signatures_min {
        return Err(Problem::new(Code::Unsigned, "there is no signature with the document"));
    }
    let count = signed.signatures.len();
    if count > SIGNATURES_MAX {
        let detail = format_args!("a document has at most {SIGNATURES_MAX} signatures, not {count}");
        return Err(Problem::new(Code::Invalid, detail));
    }
    let bytes = BASE64
        .decode(signed.document.as_bytes())
        .map_err(|error| Problem::new(Code::Invalid, format_args!("`document` is not base64: {error}")))?;
    if bytes.len() > DOCUMENT_BYTES_MAX {
        let found = bytes.len();
        let detail = format_args!("a document has at most {DOCUMENT_BYTES_MAX} bytes, not {found}");
        return Err(Problem::new(Code::TooLarge, detail));
    }
    let dearmored = signed.signatures.iter().enumerate().map(|(place, text)| {
        dearmor(text).map_err(|error| {
            Problem::new(Code::BadSignature, format_args!("signature {} of {count}: {error}", place + 1))
        })
    });
    Ok(DocumentParts { bytes, signatures: dearmored.collect::<Result<_, _>>()? })
}

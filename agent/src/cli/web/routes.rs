//! The page, what belongs to it, and the agent's answers behind it.

use axum::Router;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get};
use chrono::Utc;

use super::super::report::{self, Story};
use super::feed::Feed;
use super::guard::{self, Names};
use crate::control::client::{Client, ClientError, encoded};
use crate::control::problem::PROBLEM_JSON;

/// What the handlers share.
#[derive(Debug, Clone)]
struct Shared {
    agent: Client,
    feed: Feed,
}

pub(super) fn router(agent: Client, names: Names) -> Router {
    let shared = Shared { feed: Feed::new(agent.clone()), agent };
    let html = "text/html; charset=utf-8";
    let css = "text/css; charset=utf-8";
    Router::new()
        .route("/", file(html, include_str!("page/index.html")))
        .route("/app.js", file("text/javascript; charset=utf-8", include_str!("page/app.js")))
        .route("/views.js", file("text/javascript; charset=utf-8", include_str!("page/views.js")))
        .route("/page.css", file(css, include_str!("page/page.css")))
        .route("/chart.css", file(css, report::STYLE))
        .route("/icon.svg", file("image/svg+xml", include_str!("page/icon.svg")))
        .route("/api/live", get(async |State(shared): State<Shared>| shared.feed.follow()))
        .route("/api/{list}", get(list))
        .route("/api/rollouts/{id}", get(rollout))
        .route("/api/rollouts/{id}/chart", get(chart))
        .route("/api/explain/{subject}", get(explain))
        .fallback(async || (StatusCode::NOT_FOUND, "there is nothing here; the page is at /\n"))
        .with_state(shared)
        .layer(from_fn_with_state(names, guard::check))
}

fn file(media_type: &'static str, text: &'static str) -> MethodRouter<Shared> {
    get(async move || ([(header::CONTENT_TYPE, media_type)], text))
}

/// What is read as it is, each with its query.
async fn list(State(shared): State<Shared>, Path(list): Path<String>, RawQuery(query): RawQuery) -> Response {
    if !["status", "peers", "rollouts", "quarantines", "events"].contains(&list.as_str()) {
        return (StatusCode::NOT_FOUND, "no such list\n").into_response();
    }
    // An answer that never ends is the live one's matter.
    let query = query.filter(|query| !query.contains("follow"));
    let query = query.map(|query| format!("?{query}")).unwrap_or_default();
    pass(shared.agent.get(&format!("/v1/{list}{query}")).await)
}

async fn rollout(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let now = if query.as_deref() == Some("timeline=0") { "?timeline=0" } else { "" };
    pass(shared.agent.get(&format!("/v1/rollouts/{}{now}", encoded(&id))).await)
}

async fn explain(State(shared): State<Shared>, Path(subject): Path<String>) -> Response {
    pass(shared.agent.get(&format!("/v1/explain/{}", encoded(&subject))).await)
}

/// The time line of a rollout, as the report draws it.
async fn chart(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    match shared.agent.read(&format!("/v1/rollouts/{}", encoded(&id))).await {
        Ok(show) => {
            let story = Story::of(show, Utc::now());
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], report::svg(&story)).into_response()
        }
        Err(error) => refused(error),
    }
}

fn pass(answer: Result<hyper::body::Bytes, ClientError>) -> Response {
    match answer {
        Ok(body) => ([(header::CONTENT_TYPE, "application/json")], body).into_response(),
        Err(error) => refused(error),
    }
}

fn refused(error: ClientError) -> Response {
    match error {
        ClientError::Refused(problem) => problem.into_response(),
        ClientError::Unreachable { .. } | ClientError::Silent { .. } | ClientError::Protocol(_) => {
            let body =
                serde_json::json!({ "title": "The agent does not answer", "detail": error.to_string() });
            (StatusCode::BAD_GATEWAY, [(header::CONTENT_TYPE, PROBLEM_JSON)], body.to_string())
                .into_response()
        }
    }
}

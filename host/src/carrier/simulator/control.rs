//! The simulator's control API: HTTP with JSON on loopback, for tests and for people with curl. Owns
//! routes and JSON alone; it has no password, so it is never served beyond the machine.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::delivery::{Mo, MoError};
use super::operations::Alert;
use super::{Settings, Shared};

/// Messages in one answer, where no limit is asked for and at most.
const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 1_000;

pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    mut stopped: watch::Receiver<bool>,
) {
    let router = Router::new()
        .route("/received", get(received).delete(clear))
        .route("/counters", get(counters))
        .route("/settings", get(settings).post(change))
        .route("/mo", post(inject))
        .route("/alert", post(alert))
        .route("/drop", post(drop_connections))
        .fallback(unknown)
        .with_state(shared);
    tokio::select! {
        served = axum::serve(listener, router).into_future() => {
            if let Err(error) = served {
                tracing::error!(%error, "the simulator's control API ended");
            }
        }
        _ = stopped.changed() => {}
    }
}

type Shareds = State<Arc<Shared>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
}

/// `next` is the `since` of the next page.
async fn received(State(shared): Shareds, page: Result<Query<Page>, QueryRejection>) -> Response {
    let Query(page) = match page {
        Ok(page) => page,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.body_text()),
    };
    let limit = page.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let (messages, end) = {
        let engine = shared.engine.lock();
        (
            engine.record.received(page.since, limit),
            engine.record.next_index(),
        )
    };
    let next = messages.last().map_or(page.since.min(end), |m| m.index + 1);
    json_of(json!({"messages": messages, "next": next}))
}

async fn clear(State(shared): Shareds) -> StatusCode {
    shared.engine.lock().record.clear();
    StatusCode::NO_CONTENT
}

async fn counters(State(shared): Shareds) -> Response {
    json_of(json!(shared.counters()))
}

async fn settings(State(shared): Shareds) -> Response {
    let settings = shared.engine.lock().behaviour.settings().clone();
    show(settings)
}

/// A JSON object with the settings to change; the others stay.
async fn change(State(shared): Shareds, body: Bytes) -> Response {
    let patch: Value = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match shared.patch(patch) {
        Ok(settings) => show(settings),
        Err(error) => problem(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    }
}

async fn inject(State(shared): Shareds, body: Bytes) -> Response {
    let mo: Mo = match serde_json::from_slice(&body) {
        Ok(mo) => mo,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match shared.inject(&mo) {
        Ok(parts) => (StatusCode::ACCEPTED, json_of(json!({"parts": parts}))).into_response(),
        Err(error) => {
            let status = match error {
                MoError::Field(..) => StatusCode::UNPROCESSABLE_ENTITY,
                MoError::NoReceiver => StatusCode::CONFLICT,
                MoError::Full => StatusCode::SERVICE_UNAVAILABLE,
            };
            problem(status, &error.to_string())
        }
    }
}

/// Says of a handset that it is back, or that it is not, to every session that receives.
async fn alert(State(shared): Shareds, body: Bytes) -> Response {
    let alert: Alert = match serde_json::from_slice(&body) {
        Ok(alert) => alert,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let told = shared.engine.lock().alert(&alert);
    match told {
        Ok(told) => (StatusCode::ACCEPTED, json_of(json!({"told": told}))).into_response(),
        Err(rule) => problem(StatusCode::UNPROCESSABLE_ENTITY, &rule),
    }
}

async fn drop_connections(State(shared): Shareds) -> Response {
    let dropped = shared.engine.lock().drop_connections();
    json_of(json!({"dropped": dropped}))
}

async fn unknown() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "there are GET /received?since=&limit=, DELETE /received, GET /counters, GET and POST /settings, \
         POST /mo, POST /alert, POST /drop",
    )
}

/// Passwords are not shown.
fn show(mut settings: Settings) -> Response {
    for credentials in &mut settings.binds {
        credentials.password = "***".to_owned();
    }
    json_of(json!(settings))
}

fn json_of(value: Value) -> Response {
    (
        [(header::CONTENT_TYPE, "application/json")],
        value.to_string(),
    )
        .into_response()
}

/// RFC 9457.
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    (
        status,
        [(header::CONTENT_TYPE, "application/problem+json")],
        body.to_string(),
    )
        .into_response()
}

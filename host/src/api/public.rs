//! Routes that need no message: health, readiness, metrics, the API's own description, carriers and
//! their call-backs.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::auth::Scope;
use super::http::{List, body_max, json_response, read_body};
use super::problem::{Code, Problem};
use super::reports::CarrierJson;
use super::{Api, messages, metrics as text, step_in};
use crate::carrier::adapter::CallbackError;
use crate::domain::CarrierId;
use crate::plugin::{HttpRequest, HttpResponse};

/// `GET /healthz`: the process is alive.
pub async fn health(api: Arc<Api>, _: Request) -> Result<Response, Problem> {
    let uptime = api.started.elapsed().as_secs();
    Ok(json_response(
        StatusCode::OK,
        &json!({ "status": "ok", "uptime_seconds": uptime }),
    ))
}

/// `GET /readyz`: submissions are being taken.
pub async fn ready(api: Arc<Api>, _: Request) -> Result<Response, Problem> {
    let health = api.pipeline.store.health();
    let connected = api
        .pipeline
        .carriers
        .iter()
        .filter(|c| c.status().connected)
        .count();
    let carriers = api.pipeline.carriers.iter().count();
    let answer = json!({
        "ready": health.accepting,
        "reason": health.reason,
        "carriers": carriers,
        "carriers_connected": connected,
        "policy_set": api.pipeline.policy.active().id().to_string(),
    });
    let status = if health.accepting {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    Ok(json_response(status, &answer))
}

/// `GET /metrics`, in Prometheus' text format 0.0.4.
pub async fn metrics(api: Arc<Api>, _: Request) -> Result<Response, Problem> {
    let mut response = text::exposition(&api).into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}

/// `GET /openapi.json`
pub async fn openapi(api: Arc<Api>, _: Request) -> Result<Response, Problem> {
    let mut response = api.openapi.clone().into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    Ok(response)
}

/// `GET /v1/carriers`
pub async fn carriers(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    messages::only(&api, &parts, Scope::Read)?;
    let items = api
        .pipeline
        .carriers
        .reports()
        .into_iter()
        .map(CarrierJson::of)
        .collect();
    Ok(json_response(
        StatusCode::OK,
        &List {
            items,
            next_cursor: None,
        },
    ))
}

/// `ANY /v1/carriers/{id}/callback`: no key of ours; whether it is genuine the carrier's
/// `callback` section says how to judge, or the plugin.
pub async fn callback(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let id = step_in(&parts);
    let Some(carrier) = api.callbacks.get(&CarrierId::from(id)) else {
        return Err(Problem::not_found("carrier with call-backs"));
    };
    let body = read_body(&parts.headers, body, body_max::CALLBACK).await?;
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
    });
    let call = HttpRequest {
        method: parts.method.to_string(),
        url: parts.uri.to_string(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    match carrier.callback(&call).await {
        Ok(answer) => plugin_response(answer),
        Err(CallbackError::NotVerified(why)) => {
            tracing::warn!(carrier = id, why, "a call-back is not the carrier's");
            Err(Problem::new(
                Code::CallbackNotVerified,
                "the call-back's signature or secret is missing or wrong",
            ))
        }
        Err(CallbackError::NotUnderstood(why)) => {
            tracing::info!(carrier = id, why, "a carrier's call-back was refused");
            Err(Problem::new(
                Code::InvalidCallback,
                "the call-back was not understood",
            ))
        }
        Err(CallbackError::NotNow(why)) => {
            tracing::warn!(
                carrier = id,
                why,
                "a carrier's call-back could not be taken"
            );
            let detail = "the call-back could not be taken now; send it again";
            Err(Problem::new(Code::Busy, detail).retry_after(Duration::from_secs(5)))
        }
    }
}

/// What the plugin answers its carrier. Framing is ours, so headers about it are left out.
fn plugin_response(answer: HttpResponse) -> Result<Response, Problem> {
    let status = StatusCode::from_u16(answer.status)
        .ok()
        .filter(|s| !s.is_informational());
    let Some(status) = status else {
        tracing::warn!(
            status = answer.status,
            "a plugin answered a call-back with what is no status"
        );
        return Err(Problem::new(
            Code::Internal,
            "the carrier's plugin gave no valid answer",
        ));
    };
    let mut response = (status, answer.body).into_response();
    let ours = [
        header::CONTENT_LENGTH,
        header::TRANSFER_ENCODING,
        header::CONNECTION,
        header::DATE,
    ];
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value))
            && !ours.contains(&name)
        {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}

/// A path that leads nowhere.
pub async fn no_route(_: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let path: String = request.uri().path().chars().take(100).collect();
    Err(Problem::new(
        Code::NotFound,
        format!("nothing is at {path}; /openapi.json lists what there is"),
    ))
}

/// A path that is there, but not with this method.
pub async fn no_method(_: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let path: String = request.uri().path().chars().take(100).collect();
    let detail = format!(
        "{path} does not take {}; /openapi.json lists what it takes",
        request.method()
    );
    Err(Problem::new(Code::MethodNotAllowed, detail))
}

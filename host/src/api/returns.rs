//! What comes back from carriers, beside the messages it belongs to: receipts that wait for theirs.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::Api;
use super::auth::Scope;
use super::http::{LIMIT_DEFAULT, List, bad_parameter, json_response, limit, parameters};
use super::messages::store_problem;
use super::problem::Problem;
use super::reports::OrphanView;
use crate::domain::CarrierId;

/// `GET /v1/receipts/orphans`
pub async fn orphans(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    api.authorize(&parts, Scope::Admin)?;
    let (mut carrier, mut cursor, mut size) = (None, None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["carrier", "limit", "cursor"])? {
        match name.as_str() {
            "carrier" => carrier = Some(CarrierId::from(value.as_str())),
            "limit" => size = limit(&value)?,
            _ => {
                let octets = URL_SAFE_NO_PAD.decode(&value);
                let octets = octets
                    .map_err(|_| bad_parameter("cursor", "is not one that this server gave"))?;
                cursor = Some(octets);
            }
        }
    }
    let store = &api.pipeline.store;
    let (found, next) = store
        .list_orphans(carrier, cursor, size)
        .await
        .map_err(store_problem)?;
    Ok(json_response(
        StatusCode::OK,
        &List {
            items: found.into_iter().map(OrphanView::of).collect(),
            next_cursor: next.map(|key| URL_SAFE_NO_PAD.encode(key)),
        },
    ))
}

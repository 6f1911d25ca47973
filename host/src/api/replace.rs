//! `POST /v1/messages/{id}/replace`: another text or other times for a message, while it waits, or at a
//! carrier that can replace it.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::answer::Summary;
use super::auth::Scope;
use super::http::{body_max, json_response, read_body};
use super::messages::{find, store_problem};
use super::problem::{Code, FieldError, Problem};
use super::{Api, id_in, json};
use crate::carrier::CallBackError;
use crate::domain::{Body, State};
use crate::pipeline::{Changed, NotExchanged, Replacement};
use crate::store::UpdateError;

pub async fn replace(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let caller = api.authorize(&parts, Scope::Send)?;
    let id = id_in(&parts)?;
    let bytes = read_body(&parts.headers, body, body_max::MESSAGE).await?;
    let wanted = api.requests.replacement(json::parse(&bytes)?)?;
    let message = find(&api, caller, id).await?;
    let (now, limits) = (api.pipeline.clock.now(), &api.pipeline.limits);
    let invalid = |pointer: &str, rule: String| {
        Problem::invalid(Code::InvalidRequest, vec![FieldError::new(pointer, rule)])
    };
    let latest = now.plus(Duration::from_secs(limits.max_schedule_seconds));
    if wanted.send_at.is_some_and(|at| at > latest) {
        let days = limits.max_schedule_seconds / 86_400;
        return Err(invalid(
            "/send_at",
            format!("lies more than {days} days ahead"),
        ));
    }
    let max = limits.max_validity_seconds;
    if wanted.validity_seconds.is_some_and(|s| s > max) {
        return Err(invalid(
            "/validity_seconds",
            format!("is not between 1 and {max}"),
        ));
    }
    let from = wanted.send_at.unwrap_or(message.send_at).max(now);
    let validity = wanted.validity_seconds.map(Duration::from_secs);
    let new = Replacement {
        body: wanted.text.map(Body::Text),
        send_at: wanted.send_at,
        expires_at: validity.map(|validity| from.plus(validity)),
        receipts: None,
    };
    let replaced = api.pipeline.replace(id, new.clone()).await;
    match replaced.map_err(not_updated)? {
        Err(error) => return Err(invalid("/text", error.to_string())),
        Ok(Changed::Done) => {}
        Ok(Changed::TooLate(State::Enroute)) => {
            let exchanged = api.pipeline.exchange(&message, new).await;
            exchanged.map_err(not_exchanged)?;
        }
        Ok(Changed::TooLate(state)) => return Err(too_late(state)),
    }
    let message = find(&api, caller, id).await?;
    Ok(json_response(StatusCode::OK, &Summary::of(&message)))
}

fn too_late(state: State) -> Problem {
    let detail = format!(
        "the message is {} and cannot be replaced any more",
        state.name()
    );
    Problem::new(Code::Conflict, detail)
}

fn not_updated(error: UpdateError) -> Problem {
    match error {
        UpdateError::NotFound => Problem::not_found("message"),
        UpdateError::Leased => Problem::new(
            Code::Conflict,
            "the message is being sent just now and cannot be replaced",
        ),
        UpdateError::Store(error) => store_problem(error),
    }
}

fn not_exchanged(why: NotExchanged) -> Problem {
    let conflict = |detail: String| Problem::new(Code::Conflict, detail);
    match why {
        NotExchanged::TooLate(state) => too_late(state),
        NotExchanged::Text(error) => {
            let error = FieldError::new("/text", error.to_string());
            Problem::invalid(Code::InvalidRequest, vec![error])
        }
        NotExchanged::Unfit(why) => conflict(format!("the carrier has the message, and {why}")),
        NotExchanged::Refused(refusal) => Problem::refused(&refusal.code, refusal.reason, None),
        NotExchanged::Carrier(CallBackError::NotSupported) => {
            conflict("the carrier has the message and cannot replace it".to_owned())
        }
        NotExchanged::Carrier(CallBackError::Refused { status }) => conflict(format!(
            "the carrier has the message and does not replace it: 0x{status:08x}"
        )),
        NotExchanged::Carrier(CallBackError::Unanswered) => conflict(
            "the carrier has the message and did not answer whether it is replaced".to_owned(),
        ),
        NotExchanged::Store(error) => not_updated(error),
    }
}

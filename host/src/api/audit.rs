//! The audit log at the API: which routes are acts, what is noted of them, and how the log is read. A
//! number that is a path's step is noted by its country code and length alone.

use std::future::Future;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{StatusCode, request};
use axum::response::{IntoResponse as _, Response};
use serde_json::value::RawValue;

use super::auth::Scope;
use super::http::{LIMIT_DEFAULT, List, bad_parameter, json_response, limit, parameters, peer};
use super::problem::{Code, Problem};
use super::wire::rfc3339;
use super::{Api, step_in};
use crate::store::Act;

/// What a handler adds to the entry of its act, in the answer's extensions: an outcome worth keeping.
#[derive(Clone)]
pub struct Noted(pub String);

/// An act under way: what is known before it is done.
struct Begun {
    act: Act,
}

impl Begun {
    /// None where a key may not act: whoever has none could fill the disk with attempts.
    fn of(api: &Api, action: &str, parts: &request::Parts) -> Option<Begun> {
        let known = api.keys.known(&parts.headers);
        let caller = known.filter(|caller| caller.has(Scope::Admin))?;
        Some(Begun {
            act: Act {
                at: rfc3339(api.pipeline.clock.now()),
                by: caller.name(),
                from: peer(parts).to_string(),
                action: action.to_owned(),
                subject: subject(parts),
                ..Act::default()
            },
        })
    }

    fn ended(mut self, answer: &Result<Response, Problem>) -> Act {
        match answer {
            Ok(response) => {
                let noted = response.extensions().get::<Noted>();
                self.act.detail = noted.map(|n| n.0.clone()).unwrap_or_default();
                "done".clone_into(&mut self.act.outcome);
            }
            Err(problem) => self.act.outcome.clone_from(&problem.body.code),
        }
        self.act
    }
}

/// The step of the path that says what is acted on.
fn subject(parts: &request::Parts) -> String {
    let step = step_in(parts);
    if parts.uri.path().starts_with("/v1/numbers/") {
        return masked(step);
    }
    // Names of routes are no subjects.
    match step {
        "check" | "rollback" | "replay" | "shadow" | "canary" => String::new(),
        step => step.to_owned(),
    }
}

/// `+44…(12)`: enough to tell one complaint from another, too little to write to.
pub fn masked(number: &str) -> String {
    let digits: String = number
        .replace("%2B", "+")
        .replace("%2b", "+")
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    let shown: String = digits.chars().take(2).collect();
    format!("+{shown}…({} digits)", digits.len())
}

/// `GET /v1/audit`, newest first.
pub async fn list(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    api.authorize(&parts, Scope::Admin)?;
    let (mut cursor, mut size) = (None, LIMIT_DEFAULT);
    for (name, value) in parameters(&parts.uri, &["limit", "cursor"])? {
        match name.as_str() {
            "limit" => size = limit(&value)?,
            _ => {
                let at = value.parse::<u64>();
                cursor =
                    Some(at.map_err(|_| {
                        bad_parameter("cursor", "is not one that this server gave")
                    })?);
            }
        }
    }
    let Some(log) = &api.audit else {
        return Ok(json_response(
            StatusCode::OK,
            &List::<()> {
                items: Vec::new(),
                next_cursor: None,
            },
        ));
    };
    let failed = |error: std::io::Error| {
        tracing::error!(%error, "the audit log cannot be read");
        Problem::new(
            Code::Internal,
            "the audit log cannot be read; the operator's log says more",
        )
    };
    let (lines, next) = log.list(cursor, size).await.map_err(failed)?;
    // As they lie there: the hash is of these octets.
    let items: Vec<Box<RawValue>> = lines
        .into_iter()
        .filter_map(|line| RawValue::from_string(line).ok())
        .collect();
    let next_cursor = next.map(|at| at.to_string());
    Ok(json_response(StatusCode::OK, &List { items, next_cursor }))
}

/// Does an act and notes it; the answer leaves once the note is durable.
pub async fn noted<F>(
    api: Arc<Api>,
    action: &'static str,
    request: Request,
    run: Run<F>,
) -> Response
where
    F: Future<Output = Result<Response, Problem>>,
{
    let (parts, body) = request.into_parts();
    let begun = match &api.audit {
        Some(_) => Begun::of(&api, action, &parts),
        None => None,
    };
    let answer = run(api.clone(), Request::from_parts(parts, body)).await;
    let act = begun.map(|begun| begun.ended(&answer));
    if let (Some(act), Some(log)) = (act, &api.audit) {
        log.append(act).await;
    }
    answer.unwrap_or_else(|problem| problem.into_response())
}

type Run<F> = fn(Arc<Api>, Request) -> F;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_noted_by_its_beginning_and_length() {
        assert_eq!(masked("%2B447700900123"), "+44…(12 digits)");
        assert_eq!(masked("+44 7700 900123"), "+44…(12 digits)");
        assert_eq!(masked("nobody"), "+…(0 digits)");
    }
}

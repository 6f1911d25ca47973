//! What all handlers share: reading a bounded body, parameters and headers, writing an answer. Knows
//! HTTP, no messages.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Query;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::Serialize;

use super::answer;
use super::edge::Peer;
use super::problem::{Code, FieldError, Problem};
use crate::plugin::{Signature, Signatures};

/// How long a body may take, from its head to its last octet.
const BODY_TIME_MAX: Duration = Duration::from_secs(15);
const COMPONENT_TIME_MAX: Duration = Duration::from_secs(60);
/// Signatures of an uploaded component.
pub const SIGNATURE_HEADER: &str = "x-heliograph-signature";
/// Characters of an Idempotency-Key.
const IDEMPOTENCY_KEY_MAX: usize = 255;

/// Octets of a body.
pub mod body_max {
    pub const MESSAGE: usize = 256 << 10;
    pub const BATCH: usize = 1 << 20;
    pub const POLICY: usize = 1 << 20;
    pub const TABLE: usize = 64 << 20;
    pub const CALLBACK: usize = 256 << 10;
    pub const SMALL: usize = 16 << 10;
}

/// The whole body, of at most `max` octets.
pub async fn read_body(headers: &HeaderMap, body: Body, max: usize) -> Result<Bytes, Problem> {
    read_body_within(headers, body, max, BODY_TIME_MAX).await
}

/// A component: `max_mib` is the operator's, and a large one may take its time.
pub async fn read_component(
    headers: &HeaderMap,
    body: Body,
    max_mib: u32,
) -> Result<Bytes, Problem> {
    let max = (max_mib as usize) << 20;
    let answer = read_body_within(headers, body, max, COMPONENT_TIME_MAX).await;
    answer.map_err(|problem| {
        if problem.status == StatusCode::PAYLOAD_TOO_LARGE {
            let detail =
                format!("the component is larger than plugins.max_component_mib = {max_mib}");
            return Problem::new(Code::BodyTooLarge, detail);
        }
        problem
    })
}

async fn read_body_within(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    time: Duration,
) -> Result<Bytes, Problem> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        let detail = "Content-Encoding is not supported: send the body as it is";
        return Err(Problem::new(Code::UnsupportedMediaType, detail));
    }
    let too_large = || {
        Problem::new(
            Code::BodyTooLarge,
            format!("the body has more than {max} octets"),
        )
    };
    let length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
    if length.is_some_and(|length| length > max as u64) {
        return Err(too_large());
    }
    match tokio::time::timeout(time, Limited::new(body, max).collect()).await {
        Ok(Ok(whole)) => Ok(whole.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(Problem::new(
            Code::InvalidRequest,
            format!("the body broke off: {error}"),
        )),
        Err(_) => {
            let detail = format!("the body did not arrive within {} seconds", time.as_secs());
            Err(Problem::new(Code::RequestTimeout, detail))
        }
    }
}

/// The other side of the connection; the unspecified address where the listener is not ours.
pub fn peer(parts: &request::Parts) -> IpAddr {
    parts
        .extensions
        .get::<Peer>()
        .map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0)
}

/// The Idempotency-Key, if there is one: at most 255 visible ASCII characters.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut all = headers.get_all("idempotency-key").iter();
    let Some(value) = all.next() else {
        return Ok(None);
    };
    let key = value.to_str().ok().filter(|key| {
        (1..=IDEMPOTENCY_KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
    });
    match (key, all.next()) {
        (Some(key), None) => Ok(Some(key)),
        _ => {
            let detail = format!(
                "Idempotency-Key is one value of 1 to {IDEMPOTENCY_KEY_MAX} visible ASCII characters"
            );
            Err(Problem::new(Code::InvalidHeader, detail))
        }
    }
}

/// What `X-Heliograph-Signature` gives: `KEYID:BASE64`, in several headers or one with commas.
pub fn signatures(headers: &HeaderMap) -> Result<Signatures, Problem> {
    let bad = |why: &dyn std::fmt::Display| {
        Problem::new(Code::InvalidHeader, format!("{SIGNATURE_HEADER}: {why}"))
    };
    let mut all = Signatures::default();
    for value in headers.get_all(SIGNATURE_HEADER) {
        let text = value.to_str().map_err(|_| bad(&"is not ASCII"))?;
        for one in text.split(',') {
            let signature = Signature::parse(one.trim()).map_err(|e| bad(&e))?;
            all.add(signature).map_err(|e| bad(&e))?;
        }
    }
    Ok(all)
}

/// The query's parameters. Each is one of `known` and stands once.
pub fn parameters(uri: &Uri, known: &[&str]) -> Result<Vec<(String, String)>, Problem> {
    let Ok(Query(all)) = Query::<Vec<(String, String)>>::try_from_uri(uri) else {
        return Err(Problem::new(
            Code::InvalidParameter,
            "the query is not application/x-www-form-urlencoded",
        ));
    };
    for (i, (name, _)) in all.iter().enumerate() {
        if !known.contains(&name.as_str()) {
            return Err(bad_parameter(
                name,
                format!("is not known here; known are {}", known.join(", ")),
            ));
        }
        if all.iter().take(i).any(|(earlier, _)| earlier == name) {
            return Err(bad_parameter(name, "stands twice"));
        }
    }
    Ok(all)
}

pub fn bad_parameter(name: &str, rule: impl std::fmt::Display) -> Problem {
    let name: String = name.chars().take(64).collect();
    let mut problem = Problem::new(Code::InvalidParameter, format!("{name} {rule}"));
    problem.body.errors = vec![FieldError::new(format!("?{name}"), rule.to_string())];
    problem
}

/// A page's size: 1 to 200, 50 where none is named.
pub fn limit(text: &str) -> Result<usize, Problem> {
    let limit = text.parse().ok().filter(|n| (1..=200).contains(n));
    limit.ok_or_else(|| bad_parameter("limit", "is a number from 1 to 200"))
}

/// Where `limit` is absent.
pub const LIMIT_DEFAULT: usize = 50;

pub fn json_response<T: Serialize>(status: StatusCode, value: &T) -> Response {
    let mut response = (status, answer::json(value)).into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

/// A part of a list: `{items, next_cursor}`.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct List<T> {
    pub items: Vec<T>,
    /// Give it as `cursor` for the items that follow; null at the end.
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(
                "idempotency-key",
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        headers
    }

    #[test]
    fn an_idempotency_key_is_one_visible_word() {
        assert_eq!(idempotency_key(&HeaderMap::new()), Ok(None));
        assert_eq!(idempotency_key(&keyed(&["order-1"])), Ok(Some("order-1")));
        let long = "x".repeat(256);
        for bad in [&["a", "b"][..], &[""], &["a b"], &["é"], &[&long]] {
            let problem = idempotency_key(&keyed(bad)).unwrap_err();
            assert_eq!(problem.body.code, "invalid_header", "{bad:?}");
        }
        assert!(idempotency_key(&keyed(&[&long[..255]])).is_ok());
    }

    #[test]
    fn parameters_are_known_and_stand_once() {
        let read =
            |query: &str| parameters(&format!("/x?{query}").parse().unwrap(), &["to", "limit"]);
        assert_eq!(
            read("to=%2B44&limit=5").unwrap()[0],
            ("to".to_owned(), "+44".to_owned())
        );
        assert!(read("").unwrap().is_empty());
        let problem = read("tO=1").unwrap_err();
        assert_eq!(problem.body.errors[0].pointer, "?tO");
        assert!(read("to=1&to=2").is_err());
    }

    #[test]
    fn a_page_has_a_bound() {
        assert_eq!(limit("200"), Ok(200));
        for bad in ["0", "201", "-1", "x", "", "1.0"] {
            assert!(limit(bad).is_err(), "{bad}");
        }
    }

    async fn read(body: &'static str, max: usize) -> Result<Bytes, Problem> {
        read_body(&HeaderMap::new(), Body::from(body), max).await
    }

    #[tokio::test]
    async fn a_body_is_bounded_whether_its_length_is_told_or_not() {
        assert_eq!(read("12345", 5).await.as_deref(), Ok(&b"12345"[..]));
        assert_eq!(
            read("123456", 5).await.unwrap_err().body.code,
            "body_too_large"
        );
        let mut headers = HeaderMap::new();
        headers.insert(
            header::CONTENT_LENGTH,
            HeaderValue::from_static("99999999999999"),
        );
        let problem = read_body(&headers, Body::empty(), 5).await.unwrap_err();
        assert_eq!(problem.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_has_its_time() {
        let time = Duration::from_millis(20);
        let problem = read_body_within(&HeaderMap::new(), Body::new(Never), 5, time)
            .await
            .unwrap_err();
        assert_eq!(problem.body.code, "request_timeout");
    }

    struct Never;

    impl hyper::body::Body for Never {
        type Data = Bytes;
        type Error = std::io::Error;

        fn poll_frame(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, std::io::Error>>> {
            std::task::Poll::Pending
        }
    }
}

//! `GET /v1/events`: what happens to the server, as server-sent events or as a page of JSON. Owns how
//! an event is written and how long a stream lives; what happens is the pipeline's.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::Api;
use super::answer::time;
use super::auth::Scope;
use super::http::{LIMIT_DEFAULT, List, bad_parameter, json_response, limit, parameters};
use super::messages::only;
use super::problem::{Code, Problem};
use crate::pipeline::Events;
use crate::pipeline::events::OperatorEvent;

/// Streams at once.
pub const STREAMS_MAX: usize = 32;
/// A comment that keeps proxies from closing a quiet stream.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// A stream ends after this and its client comes back with Last-Event-ID, as EventSource does by
/// itself: within the time that a connection may take for its answer.
const STREAM_TIME_MAX: Duration = Duration::from_secs(60);
/// Frames that a client may be behind. One that does not read loses its stream.
const FRAMES_MAX: usize = 64;
/// How long a full stream waits for its client.
const PATIENCE: Duration = Duration::from_secs(5);

/// `GET /v1/events`
pub async fn events(api: Arc<Api>, request: Request) -> Result<Response, Problem> {
    let (parts, _) = request.into_parts();
    only(&api, &parts, Scope::Admin)?;
    let mut since = last_event_id(&parts.headers)?;
    let mut as_page = wants_json(&parts.headers);
    let mut size = LIMIT_DEFAULT;
    for (name, value) in parameters(&parts.uri, &["since", "format", "limit"])? {
        match name.as_str() {
            "since" => since = sequence(&value).ok_or_else(|| bad_parameter("since", RULE))?,
            "limit" => size = limit(&value)?,
            _ => {
                as_page = match value.as_str() {
                    "json" => true,
                    "sse" => false,
                    _ => return Err(bad_parameter("format", "is neither json nor sse")),
                }
            }
        }
    }
    let events = api.pipeline.policy.events();
    if as_page {
        return Ok(page(events, since, size));
    }
    let Ok(place) = api.streams.clone().try_acquire_owned() else {
        let detail = format!("{STREAMS_MAX} event streams are open; close one, or ask for JSON");
        return Err(Problem::new(Code::Busy, detail));
    };
    Ok(stream(
        events.clone(),
        since,
        place,
        api.stopping.subscribe(),
    ))
}

const RULE: &str = "is not the number of an event";

fn sequence(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn last_event_id(headers: &HeaderMap) -> Result<u64, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(0);
    };
    let known = value.to_str().ok().and_then(sequence);
    known.ok_or_else(|| Problem::new(Code::InvalidHeader, format!("Last-Event-ID {RULE}")))
}

fn wants_json(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok());
    accept.is_some_and(|a| a.contains("application/json") && !a.contains("text/event-stream"))
}

/// Oldest first; the cursor is the `since` of the next page.
fn page(events: &Events, since: u64, size: usize) -> Response {
    let (kept, _) = events.follow(since);
    let shown = kept.iter().take(size);
    let items: Vec<Value> = shown.map(|event| view(event)).collect();
    let more = kept.len() > items.len();
    let next_cursor = kept
        .get(items.len().saturating_sub(1))
        .filter(|_| more)
        .map(|last| last.sequence.to_string());
    json_response(StatusCode::OK, &List { items, next_cursor })
}

fn view(event: &OperatorEvent) -> Value {
    json!({
        "id": event.sequence,
        "type": event.kind.name(),
        "at": time(event.at),
        "subject": event.subject,
        "detail": event.detail,
    })
}

/// JSON has no line ends outside its strings, so one `data:` line holds it.
fn frame(event: &OperatorEvent) -> Bytes {
    let (id, kind, data) = (event.sequence, event.kind.name(), view(event));
    Bytes::from(format!("id: {id}\nevent: {kind}\ndata: {data}\n\n"))
}

fn stream(
    events: Events,
    since: u64,
    place: OwnedSemaphorePermit,
    stopping: watch::Receiver<bool>,
) -> Response {
    let (frames, receiver) = mpsc::channel(FRAMES_MAX);
    tokio::spawn(async move {
        let fed = feed(events, since, frames, stopping);
        let _ = tokio::time::timeout(STREAM_TIME_MAX, fed).await;
        drop(place);
    });
    let mut response = Response::new(Body::new(Frames(receiver)));
    let headers = response.headers_mut();
    let fixed = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, fixed("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, fixed("no-store"));
    headers.insert("x-accel-buffering", fixed("no"));
    response
}

/// Ends where the client is gone or does not read, or the server stops.
async fn feed(
    events: Events,
    since: u64,
    frames: mpsc::Sender<Bytes>,
    mut stopping: watch::Receiver<bool>,
) -> Option<()> {
    let (kept, mut coming) = events.follow(since);
    send(&frames, Bytes::from_static(b"retry: 1000\n\n")).await?;
    let mut last = 0;
    for event in kept {
        last = event.sequence;
        send(&frames, frame(&event)).await?;
    }
    loop {
        let next = tokio::select! {
            next = tokio::time::timeout(HEARTBEAT, coming.recv()) => next,
            _ = stopping.wait_for(|stop| *stop) => return None,
            () = frames.closed() => return None,
        };
        match next {
            Err(_) => send(&frames, Bytes::from_static(b": still here\n\n")).await?,
            Ok(Ok(event)) if event.sequence > last => {
                last = event.sequence;
                send(&frames, frame(&event)).await?;
            }
            Ok(Ok(_)) => {}
            // What the feed has dropped for this reader is kept in the list.
            Ok(Err(RecvError::Lagged(_))) => {
                for event in events.since(last) {
                    last = event.sequence;
                    send(&frames, frame(&event)).await?;
                }
            }
            Ok(Err(RecvError::Closed)) => return None,
        }
    }
}

async fn send(frames: &mpsc::Sender<Bytes>, frame: Bytes) -> Option<()> {
    frames.send_timeout(frame, PATIENCE).await.ok()
}

/// A body out of frames as they come.
struct Frames(mpsc::Receiver<Bytes>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = self.0.poll_recv(context);
        frame.map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, Timestamp};
    use crate::pipeline::events::EventKind;

    #[tokio::test]
    async fn a_stream_tells_what_is_kept_then_what_comes_and_ends_with_the_server() {
        let events = Events::new(Clock::manual(Timestamp(1_000)));
        for n in 0..3 {
            events.emit(EventKind::PolicyActivated, format!("set {n}"), "a\nb");
        }
        let (frames, mut sent) = mpsc::channel(FRAMES_MAX);
        let (stop, stopping) = watch::channel(false);
        let fed = tokio::spawn(feed(events.clone(), 1, frames, stopping));
        let mut next = async || String::from_utf8(sent.recv().await.unwrap().to_vec()).unwrap();
        assert_eq!(next().await, "retry: 1000\n\n");
        let second = next().await;
        assert!(
            second.starts_with("id: 2\nevent: policy.activated\ndata: {"),
            "{second}"
        );
        assert_eq!(
            second.matches('\n').count(),
            4,
            "one line of data: {second}"
        );
        assert!(next().await.starts_with("id: 3\n"));
        events.emit(EventKind::BreakerOpened, "words", "");
        assert!(next().await.starts_with("id: 4\nevent: breaker.opened\n"));
        stop.send(true).unwrap();
        fed.await.unwrap();
        assert!(sent.recv().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_lags_finds_the_rest_in_the_list() {
        let events = Events::new(Clock::manual(Timestamp(1_000)));
        let (frames, mut sent) = mpsc::channel(1);
        let (_stop, stopping) = watch::channel(false);
        let fed = tokio::spawn(feed(events.clone(), 0, frames, stopping));
        tokio::task::yield_now().await;
        for n in 0..900 {
            events.emit(EventKind::PolicyActivated, format!("set {n}"), "");
        }
        let mut ids = Vec::new();
        while ids.len() < 900 {
            let frame = String::from_utf8(sent.recv().await.unwrap().to_vec()).unwrap();
            let id = frame
                .strip_prefix("id: ")
                .and_then(|f| f.split('\n').next());
            ids.extend(id.and_then(|id| id.parse::<u64>().ok()));
        }
        assert_eq!(ids, (1..=900).collect::<Vec<u64>>());
        drop(sent);
        fed.await.unwrap();
    }
}

//! What surrounds a plugin in a case: state that starts as the case says and remembers what was
//! written, carriers that answer by script, secrets without a value of their own, and captured logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::decision::{body_value, octets_value};
use super::input::{from_base64, header_pairs};
use crate::clock::{Clock, Timestamp};
use crate::plugin::{
    HttpAnswer, HttpClient, HttpFailure, HttpLimits, HttpRequest, HttpResponse, MemoryState,
    Resolver, Source, StateError, StateStore,
};

/// The entry under test: whose state, pseudonyms and log lines these are.
pub const ENTRY: &str = "plugin";
/// A counter of a case expires no sooner than this after the case's time, unless it says so.
const COUNTER_TTL: Duration = Duration::from_secs(86_400);

#[derive(Clone, Debug)]
pub struct Seed {
    pub key: String,
    pub value: SeedValue,
    pub ttl_seconds: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeedValue {
    Octets(Vec<u8>),
    Count(i64),
}

// ---------------------------------------------------------------------------- state

/// The state of one case; every call of the plugin finds it as the case has it.
pub struct State {
    clock: Clock,
    seeds: Vec<Seed>,
    inner: Mutex<Inner>,
}

struct Inner {
    store: MemoryState,
    /// The last write of each key, as the decision shows it.
    written: BTreeMap<String, Value>,
}

impl State {
    pub fn new(now: Timestamp, seeds: Vec<Seed>) -> State {
        let clock = Clock::manual(now);
        let state = State {
            inner: Mutex::new(Inner {
                store: MemoryState::new(clock.clone()),
                written: BTreeMap::new(),
            }),
            clock,
            seeds,
        };
        state.reset();
        state
    }

    /// As before the first call.
    pub fn reset(&self) {
        let store = MemoryState::new(self.clock.clone());
        for seed in &self.seeds {
            let ttl = seed.ttl_seconds.map(|s| Duration::from_secs(s.into()));
            // Neither can fail: memory has no quota here.
            let _ = match &seed.value {
                SeedValue::Octets(octets) => store.set(ENTRY, &seed.key, octets, ttl, u64::MAX),
                SeedValue::Count(count) => store
                    .increment(
                        ENTRY,
                        &seed.key,
                        *count,
                        ttl.unwrap_or(COUNTER_TTL),
                        u64::MAX,
                    )
                    .map(|_| ()),
            };
        }
        let mut inner = self.inner.lock();
        inner.store = store;
        inner.written.clear();
    }

    /// What was written since the last reset, by key.
    pub fn written(&self) -> Map<String, Value> {
        self.inner.lock().written.clone().into_iter().collect()
    }
}

fn with_ttl(mut write: Value, ttl: Option<Duration>) -> Value {
    if let Some(ttl) = ttl {
        write["ttl_seconds"] = json!(ttl.as_secs());
    }
    write
}

impl StateStore for State {
    fn get(&self, owner: &str, key: &str) -> Option<Vec<u8>> {
        self.inner.lock().store.get(owner, key)
    }

    fn set(
        &self,
        owner: &str,
        key: &str,
        value: &[u8],
        ttl: Option<Duration>,
        quota: u64,
    ) -> Result<(), StateError> {
        let mut inner = self.inner.lock();
        inner.store.set(owner, key, value, ttl, quota)?;
        let write = with_ttl(json!({ "set": octets_value(value) }), ttl);
        inner.written.insert(key.to_owned(), write);
        Ok(())
    }

    fn delete(&self, owner: &str, key: &str) {
        let mut inner = self.inner.lock();
        inner.store.delete(owner, key);
        inner
            .written
            .insert(key.to_owned(), json!({ "deleted": true }));
    }

    fn count(&self, owner: &str, key: &str) -> i64 {
        self.inner.lock().store.count(owner, key)
    }

    fn increment(
        &self,
        owner: &str,
        key: &str,
        by: i64,
        ttl: Duration,
        quota: u64,
    ) -> Result<i64, StateError> {
        let mut inner = self.inner.lock();
        let count = inner.store.increment(owner, key, by, ttl, quota)?;
        let write = with_ttl(json!({ "count": count }), Some(ttl));
        inner.written.insert(key.to_owned(), write);
        Ok(count)
    }
}

// ---------------------------------------------------------------------------- HTTP

/// An answer as a case has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnswerIn {
    status: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    json: Option<Value>,
    base64: Option<String>,
    failure: Option<FailureIn>,
    why: Option<String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum FailureIn {
    Denied,
    Connect,
    Timeout,
    TooLarge,
    Other,
}

/// What the carrier answers, in order, and what it was asked.
pub struct Script {
    answers: Vec<Result<HttpResponse, HttpFailure>>,
    asked: Mutex<Vec<HttpRequest>>,
}

impl Script {
    /// The error names the answer and the rule.
    pub fn new(answers: Vec<AnswerIn>) -> Result<Script, String> {
        let answers = answers
            .into_iter()
            .enumerate()
            .map(|(n, answer)| scripted(answer).map_err(|why| format!("http[{n}]: {why}")))
            .collect::<Result<_, _>>()?;
        Ok(Script {
            answers,
            asked: Mutex::new(Vec::new()),
        })
    }

    pub fn reset(&self) {
        self.asked.lock().clear();
    }

    pub fn asked(&self) -> Vec<Value> {
        self.asked.lock().iter().map(request_value).collect()
    }

    /// What the script and the requests disagree about.
    pub fn problem(&self) -> Option<String> {
        let (asked, scripted) = (self.asked.lock().len(), self.answers.len());
        match asked.cmp(&scripted) {
            std::cmp::Ordering::Equal => None,
            std::cmp::Ordering::Greater => Some(format!(
                "the plugin sent {asked} requests, and http has {scripted} answers: the others failed to connect"
            )),
            std::cmp::Ordering::Less => Some(format!(
                "http has {scripted} answers, and the plugin sent {asked} requests"
            )),
        }
    }
}

fn scripted(answer: AnswerIn) -> Result<Result<HttpResponse, HttpFailure>, String> {
    let plain = answer.body.is_none() && answer.json.is_none() && answer.base64.is_none();
    let (status, failure) = (answer.status, answer.failure);
    let status = match (status, failure) {
        (Some(status @ 100..=599), None) if answer.why.is_none() => status,
        (Some(_), None) if answer.why.is_none() => {
            return Err("status: is no HTTP status, 100 to 599".to_owned());
        }
        (None, Some(failure)) if plain && answer.headers.is_empty() => {
            let why = answer.why.unwrap_or_else(|| "as the case says".to_owned());
            return Ok(Err(match failure {
                FailureIn::Denied => HttpFailure::Denied(why),
                FailureIn::Connect => HttpFailure::Connect(why),
                FailureIn::Timeout => HttpFailure::Timeout,
                FailureIn::TooLarge => HttpFailure::TooLarge,
                FailureIn::Other => HttpFailure::Other(why),
            }));
        }
        _ => {
            return Err(
                "is either {status, headers, body | json | base64} or {failure, why}".to_owned(),
            );
        }
    };
    Ok(Ok(HttpResponse {
        status,
        headers: answer.headers.into_iter().collect(),
        body: body_octets(answer.body, answer.json, answer.base64)?,
    }))
}

/// One of three ways to write a body; none of them is an empty one.
pub fn body_octets(
    body: Option<String>,
    json: Option<Value>,
    base64: Option<String>,
) -> Result<Vec<u8>, String> {
    match (body, json, base64) {
        (None, None, None) => Ok(Vec::new()),
        (Some(text), None, None) => Ok(text.into_bytes()),
        (None, Some(json), None) => Ok(json.to_string().into_bytes()),
        (None, None, Some(base64)) => from_base64(&base64),
        _ => Err("has more than one of body, json and base64".to_owned()),
    }
}

fn request_value(request: &HttpRequest) -> Value {
    let mut value = json!({ "method": request.method, "url": request.url });
    if !request.headers.is_empty() {
        value["headers"] = header_pairs(&request.headers);
    }
    if let Some((name, body)) = body_value(&request.body) {
        value[name] = body;
    }
    value
}

impl HttpClient for Script {
    fn send<'a>(&'a self, request: HttpRequest, limits: &'a HttpLimits) -> HttpAnswer<'a> {
        Box::pin(async move {
            let mut asked = self.asked.lock();
            let answer = self.answers.get(asked.len()).cloned();
            asked.push(request);
            match answer {
                Some(Ok(response)) if response.body.len() > limits.max_response => {
                    Err(HttpFailure::TooLarge)
                }
                Some(answer) => answer,
                None => Err(HttpFailure::Connect(
                    "the case has no answer left".to_owned(),
                )),
            }
        })
    }
}

/// Shares a script with the plugin's host.
pub struct Scripted(pub Arc<super::case::Case>);

impl HttpClient for Scripted {
    fn send<'a>(&'a self, request: HttpRequest, limits: &'a HttpLimits) -> HttpAnswer<'a> {
        self.0.http.send(request, limits)
    }
}

// ---------------------------------------------------------------------------- files and secrets

/// The component, the case's tables, and a value for every secret.
pub struct Shelf {
    pub component: Arc<Vec<u8>>,
    pub case: Arc<super::case::Case>,
}

impl Shelf {
    /// Where the test policy has a secret: `env:` and its name in the grant, so that the value can
    /// be told from the name alone.
    pub fn reference(name: &str) -> String {
        format!("env:{name}")
    }
}

impl Resolver for Shelf {
    fn component(&self, _source: &Source) -> Result<Vec<u8>, String> {
        Ok(self.component.as_ref().clone())
    }

    fn table(&self, source: &Source) -> Result<Vec<u8>, String> {
        match source {
            Source::Path(name) => self.case.tables.get(name).cloned(),
            Source::Digest(_) => None,
        }
        .ok_or_else(|| "is no table of the case".to_owned())
    }

    fn secret(&self, reference: &str) -> Result<String, String> {
        let name = reference.trim_start_matches("env:");
        Ok(match self.case.secrets.get(name) {
            Some(value) => value.clone(),
            None => format!("secret-{name}-of-the-test"),
        })
    }
}

// ---------------------------------------------------------------------------- logs

/// What plugins log on this thread, as `level message name=value`.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock())
    }
}

#[derive(Default)]
struct Line {
    message: String,
    fields: String,
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "fields" {
            value.clone_into(&mut self.fields);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            self.message = format!("{value:?}");
        }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        if event.metadata().target() != "plugin" {
            return;
        }
        let mut line = Line::default();
        event.record(&mut line);
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut text = format!("{level} {}", line.message);
        if !line.fields.is_empty() {
            text.push(' ');
            text.push_str(&line.fields);
        }
        self.0.lock().push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_brings_back_what_the_case_has_and_forgets_what_was_written() {
        let state = State::new(
            Timestamp(1_000),
            vec![Seed {
                key: "n".to_owned(),
                value: SeedValue::Count(2),
                ttl_seconds: None,
            }],
        );
        let hour = Duration::from_secs(3_600);
        assert_eq!(state.increment(ENTRY, "n", 1, hour, 100), Ok(3));
        assert_eq!(state.set(ENTRY, "t", b"x", None, 100), Ok(()));
        assert_eq!(
            Value::Object(state.written()),
            json!({"n": {"count": 3, "ttl_seconds": 3_600}, "t": {"set": "x"}})
        );
        state.reset();
        assert!(state.written().is_empty());
        assert_eq!(state.increment(ENTRY, "n", 1, hour, 100), Ok(3));
        assert_eq!(state.get(ENTRY, "t"), None);
    }

    #[test]
    fn a_write_that_the_quota_refuses_is_no_write() {
        let state = State::new(Timestamp(1_000), Vec::new());
        assert!(state.set(ENTRY, "key", &[0; 100], None, 50).is_err());
        assert!(state.written().is_empty());
    }

    #[tokio::test]
    async fn answers_come_in_order_and_what_is_left_over_is_told() {
        let answers: Vec<AnswerIn> = serde_json::from_value(json!([
            {"status": 200, "json": {"id": 1}},
            {"failure": "timeout"},
        ]))
        .expect("answers");
        let script = Script::new(answers).expect("good answers");
        let limits = HttpLimits {
            private: false,
            timeout: Duration::from_secs(1),
            max_response: 100,
        };
        let ask = || script.send(HttpRequest::default(), &limits);
        assert_eq!(ask().await.map(|r| r.body), Ok(b"{\"id\":1}".to_vec()));
        assert!(script.problem().is_some_and(|p| p.contains("2 answers")));
        assert_eq!(ask().await, Err(HttpFailure::Timeout));
        assert_eq!(script.problem(), None);
        assert!(matches!(ask().await, Err(HttpFailure::Connect(_))));
        assert!(script.problem().is_some_and(|p| p.contains("3 requests")));
    }

    #[test]
    fn an_answer_that_is_two_things_is_refused_with_its_place() {
        for answer in [
            json!({"status": 200, "failure": "timeout"}),
            json!({"status": 99}),
            json!({"status": 200, "body": "x", "json": 1}),
            json!({}),
        ] {
            let answers = serde_json::from_value(json!([answer])).expect("fields");
            let error = Script::new(answers).err().expect("a refusal");
            assert!(error.starts_with("http[0]"), "{error}");
        }
    }
}

//! What a plugin may ask of the host while it runs: logs, state, tables, HTTP. Each is bounded per
//! call and answers from what the operator granted to the entry. Knows no WIT: `contract_v*` links it.

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use wasmtime::{ResourceLimiter, UpdateDeadline};

use super::engine::TABLE_ELEMENTS;
use super::http::HttpCaller;
use super::lane::{Lane, Slow, Turn};
use super::state::{StateError, StateStore};
use super::table::PrefixTable;
use super::wasi::{Inside, Stream, Wasi};
use super::witness::StateView;
use super::{HttpRequest, HttpResponse};
use crate::domain::{Context, Hook, HostAnswer, MessageId};

/// All calls of one hook call to the host.
pub const HOST_CALLS_MAX: u32 = 1_000;
pub const LOG_LINES_MAX: u32 = 100;
pub(super) const LOG_BYTES_MAX: usize = 64 << 10;
const LOG_FIELDS_MAX: usize = 16;
const LOG_CHARS_MAX: usize = 1_024;
/// Lines a second that one entry may write over time, and at once.
const LOG_LINES_PER_SECOND: f64 = 100.0;
const LOG_BURST: f64 = 500.0;
const STATE_KEY_BYTES_MAX: usize = 256;
const STATE_VALUE_BYTES_MAX: usize = 64 << 10;

/// What a call of the host was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum HostCall {
    Log = 0,
    State = 1,
    Tables = 2,
    Http = 3,
}

impl HostCall {
    pub const ALL: [HostCall; 4] = [
        HostCall::Log,
        HostCall::State,
        HostCall::Tables,
        HostCall::Http,
    ];

    pub fn name(self) -> &'static str {
        match self {
            HostCall::Log => "log",
            HostCall::State => "state",
            HostCall::Tables => "tables",
            HostCall::Http => "http",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

/// How far one HTTP exchange may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpLimits {
    /// Whether loopback, private, link-local and other special addresses may be connected to.
    pub private: bool,
    /// From the first octet sent to the last one read.
    pub timeout: Duration,
    pub max_response: usize,
}

/// How an HTTP exchange failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HttpFailure {
    /// Not allowed: nothing was sent.
    Denied(String),
    /// No connection was made: nothing was sent.
    Connect(String),
    /// Sent, perhaps, and no whole answer came in time.
    Timeout,
    TooLarge,
    Other(String),
}

impl fmt::Display for HttpFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HttpFailure::Denied(why) => write!(f, "not allowed: {why}"),
            HttpFailure::Connect(why) => write!(f, "no connection: {why}"),
            HttpFailure::Timeout => write!(f, "no whole answer in time"),
            HttpFailure::TooLarge => write!(f, "the answer is too large"),
            HttpFailure::Other(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for HttpFailure {}

pub type HttpAnswer<'a> =
    Pin<Box<dyn Future<Output = Result<HttpResponse, HttpFailure>> + Send + 'a>>;

/// Sends one request and reads the whole answer; follows no redirect, and checks the address that
/// it connects to.
pub trait HttpClient: Send + Sync {
    fn send<'a>(&'a self, request: HttpRequest, limits: &'a HttpLimits) -> HttpAnswer<'a>;
}

/// What one entry was granted, shared by its instances.
pub(super) struct Capabilities {
    /// The entry's name, and the account's behind an `@` where it is that account's own: who logs,
    /// whose state it is.
    pub owner: String,
    /// The plugin's own.
    pub version: String,
    pub state: Option<(Arc<dyn StateStore>, u64)>,
    pub tables: HashMap<String, Arc<PrefixTable>>,
    pub http: Option<HttpCaller>,
    pub log_rate: LogRate,
    pub lane: Lane,
}

impl Capabilities {
    /// For a component that is only asked to describe itself.
    pub fn none(owner: &str) -> Capabilities {
        Capabilities {
            owner: owner.to_owned(),
            version: String::new(),
            state: None,
            tables: HashMap::new(),
            http: None,
            log_rate: LogRate::new(),
            lane: Lane::new(),
        }
    }
}

/// A token bucket over an entry's log lines. What is over the rate is counted and not written.
pub(super) struct LogRate {
    bucket: Mutex<(f64, Instant)>,
    pub dropped: AtomicU64,
}

impl LogRate {
    pub fn new() -> LogRate {
        LogRate {
            bucket: Mutex::new((LOG_BURST, Instant::now())),
            dropped: AtomicU64::new(0),
        }
    }

    fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let (tokens, since) = *bucket;
        let filled = (tokens + now.duration_since(since).as_secs_f64() * LOG_LINES_PER_SECOND)
            .min(LOG_BURST);
        let admitted = filled >= 1.0;
        *bucket = (if admitted { filled - 1.0 } else { filled }, now);
        if !admitted {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        admitted
    }
}

/// The error that stops a guest which asked for too much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TooMuch(pub String);

impl fmt::Display for TooMuch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TooMuch {}

/// The error that stops a guest at its deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DeadlinePassed;

impl fmt::Display for DeadlinePassed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the deadline passed")
    }
}

impl std::error::Error for DeadlinePassed {}

/// The host's side of one instance: quotas of the call that runs, and the grants.
pub(super) struct CallState {
    grants: Arc<Capabilities>,
    memory: Memory,
    /// Epoch ticks that the call may still run through.
    ticks_left: u32,
    deadline: Duration,
    slow: Slow,
    /// Making an instance takes what it takes, once: only what comes of it counts.
    making: bool,
    host_calls_left: u32,
    /// Calls of the host in this call, by [`HostCall`].
    host_calls: [u32; HostCall::ALL.len()],
    /// Log lines of this call that were written, and that the entry's rate did not allow.
    logged: (u32, u32),
    about: About,
    log_lines_left: u32,
    log_bytes_left: usize,
    /// What the call sees of the plugin's state, and whether it may leave a trace.
    view: StateView,
    wasi: Wasi,
}

/// What a call is about: its log lines are joined by it to the message's trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct About {
    /// None while the plugin is configured.
    pub hook: Option<Hook>,
    /// The message, or the mobile-originated one.
    pub message: Option<MessageId>,
}

/// Keeps linear memory, all memories of an instance together, within the entry's limit and remembers the
/// most that was used.
pub(super) struct Memory {
    pub limit: usize,
    used: usize,
    pub high_water: usize,
    pub denied: bool,
}

impl ResourceLimiter for Memory {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            self.denied = true;
            return Ok(false);
        }
        self.used = used;
        self.high_water = self.high_water.max(used);
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= TABLE_ELEMENTS)
    }
}

type Bounded<T> = Result<T, TooMuch>;

impl CallState {
    pub fn new(grants: Arc<Capabilities>, memory_limit: usize) -> CallState {
        CallState {
            grants,
            memory: Memory {
                limit: memory_limit,
                used: 0,
                high_water: 0,
                denied: false,
            },
            ticks_left: 0,
            deadline: Duration::ZERO,
            slow: Slow::default(),
            making: false,
            host_calls_left: 0,
            host_calls: [0; HostCall::ALL.len()],
            logged: (0, 0),
            about: About::default(),
            log_lines_left: 0,
            log_bytes_left: 0,
            view: StateView::Preview,
            wasi: Wasi::new(),
        }
    }

    /// Fresh quotas for the next call.
    pub fn begin(&mut self, ticks: u32, about: About, view: StateView) {
        self.ticks_left = ticks;
        self.deadline = Duration::from_millis(ticks.into());
        self.slow = Slow::default();
        self.making = false;
        self.host_calls_left = HOST_CALLS_MAX;
        self.host_calls = [0; HostCall::ALL.len()];
        self.log_lines_left = LOG_LINES_MAX;
        self.log_bytes_left = LOG_BYTES_MAX;
        self.logged = (0, 0);
        self.about = about;
        self.view = view;
        self.memory.denied = false;
    }

    /// At every epoch tick in which the guest runs: let others run, or stop it. Ticks are counted
    /// rather than the clock read, so that a thread which the machine suspends costs the guest one.
    pub fn tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        match self.ticks_left.checked_sub(1) {
            None => Err(DeadlinePassed.into()),
            Some(left) => {
                self.ticks_left = left;
                let turn = match self.making {
                    true => self.slow.count(),
                    false => self
                        .slow
                        .tick(&self.grants.lane, self.deadline, Instant::now()),
                };
                match turn {
                    Turn::GoOn => Ok(UpdateDeadline::Yield(1)),
                    Turn::Wait(turn) => Ok(UpdateDeadline::YieldCustom(1, turn)),
                    Turn::Stop => Err(DeadlinePassed.into()),
                }
            }
        }
    }

    /// What the call saw, once it is over.
    pub fn take_view(&mut self) -> StateView {
        std::mem::replace(&mut self.view, StateView::Preview)
    }

    /// Quotas for what makes an instance: its start function and `configure`.
    pub fn begin_making(&mut self, ticks: u32) {
        self.begin(ticks, About::default(), StateView::Preview);
        self.making = true;
    }

    /// The call has its answer: others may have its turn.
    pub fn answered(&mut self) {
        self.slow = Slow::default();
    }

    /// The call came to nothing, and its entry pays for the time.
    pub fn failed(&mut self) {
        self.slow.failed(&self.grants.lane, Instant::now());
    }

    pub fn memory(&mut self) -> &mut Memory {
        &mut self.memory
    }

    /// The call that begins is this decision's: what WASI tells of time and chance follows from it.
    pub fn decide(&mut self, context: &Context) {
        self.wasi.decide(context.now.millis(), context.random);
    }

    /// The call has ended, well or not.
    pub fn end(&mut self) {
        for (stream, line) in self.wasi.unfinished() {
            self.write_line(stream, &line);
        }
    }

    pub fn wasi_call(&mut self) -> Bounded<&mut Inside> {
        self.wasi.call()
    }

    pub fn wasi_write(&mut self, stream: Stream, bytes: &[u8]) {
        for line in self.wasi.written(stream, bytes) {
            self.write_line(stream, &line);
        }
    }

    /// A print is no request: beyond the limits of a log it is dropped and counted, and the guest goes on.
    fn write_line(&mut self, stream: Stream, line: &[u8]) {
        let line = String::from_utf8_lossy(line.trim_ascii_end());
        if line.is_empty() {
            return;
        }
        match (
            self.log_lines_left.checked_sub(1),
            self.log_bytes_left.checked_sub(line.len()),
        ) {
            (Some(lines), Some(bytes)) => {
                self.log_lines_left = lines;
                self.log_bytes_left = bytes;
            }
            _ => {
                self.logged.1 += 1;
                return;
            }
        }
        let repeats = matches!(self.view, StateView::Recalled(_));
        if !repeats && self.grants.log_rate.admit(Instant::now()) {
            let level = match stream {
                Stream::Stdout => LogLevel::Info,
                Stream::Stderr => LogLevel::Warn,
            };
            let fields = [("stream".to_owned(), stream.name().to_owned())];
            self.logged.0 += 1;
            write_log(&self.grants, &self.about, level, &line, &fields);
        } else {
            self.logged.1 += 1;
        }
    }

    /// Log lines since [`CallState::begin`]: written, and dropped.
    pub fn logged(&self) -> (u32, u32) {
        self.logged
    }

    /// Calls of the host since [`CallState::begin`], by [`HostCall`].
    pub fn host_calls(&self) -> [u32; HostCall::ALL.len()] {
        self.host_calls
    }

    fn host_call(&mut self, kind: HostCall) -> Bounded<()> {
        match self.host_calls_left.checked_sub(1) {
            None => Err(TooMuch(format!(
                "more than {HOST_CALLS_MAX} calls of the host in one call"
            ))),
            Some(left) => {
                self.host_calls_left = left;
                self.host_calls[kind as usize] += 1;
                Ok(())
            }
        }
    }

    pub fn log(
        &mut self,
        level: LogLevel,
        message: &str,
        fields: &[(String, String)],
    ) -> Bounded<()> {
        self.host_call(HostCall::Log)?;
        let bytes = message.len() + fields.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>();
        match (
            self.log_lines_left.checked_sub(1),
            self.log_bytes_left.checked_sub(bytes),
        ) {
            (Some(lines), Some(bytes)) => {
                self.log_lines_left = lines;
                self.log_bytes_left = bytes;
            }
            _ => {
                return Err(TooMuch(format!(
                    "more than {LOG_LINES_MAX} log lines or {LOG_BYTES_MAX} bytes of them in one call"
                )));
            }
        }
        // What a plugin says while it repeats a call of another time is no news.
        let repeats = matches!(self.view, StateView::Recalled(_));
        if !repeats && self.grants.log_rate.admit(Instant::now()) {
            self.logged.0 += 1;
            write_log(&self.grants, &self.about, level, message, fields);
        } else {
            self.logged.1 += 1;
        }
        Ok(())
    }

    pub fn state_get(&mut self, key: &str) -> Bounded<Option<Vec<u8>>> {
        self.host_call(HostCall::State)?;
        state_key(key)?;
        let owner = &self.grants.owner;
        if let StateView::Recalled(recall) = &mut self.view {
            let then = recall.take(|answer| match answer {
                HostAnswer::Get { key: k, value } if k == key => Some(value.clone()),
                _ => None,
            });
            return Ok(then.unwrap_or_else(|| recall.aside.get(owner, key)));
        }
        let (store, _) = granted_state(&self.grants)?;
        let value = store.get(owner, key);
        self.view.note(|| HostAnswer::Get {
            key: key.to_owned(),
            value: value.clone(),
        });
        Ok(value)
    }

    /// The inner error is for the plugin.
    pub fn state_set(
        &mut self,
        key: &str,
        value: &[u8],
        ttl_seconds: Option<u32>,
    ) -> Bounded<Result<(), String>> {
        self.host_call(HostCall::State)?;
        state_key(key)?;
        if value.len() > STATE_VALUE_BYTES_MAX {
            return Ok(Err(format!(
                "the value has more than {STATE_VALUE_BYTES_MAX} bytes"
            )));
        }
        let (store, quota) = granted_state(&self.grants)?;
        let (owner, ttl) = (
            &self.grants.owner,
            ttl_seconds.map(|s| Duration::from_secs(s.into())),
        );
        match &mut self.view {
            StateView::Preview => return Ok(Ok(())),
            StateView::Recalled(recall) => {
                let then = recall.take(|answer| match answer {
                    HostAnswer::Set { key: k, taken } if k == key => Some(*taken),
                    _ => None,
                });
                let now = recall.aside.set(owner, key, value, ttl, quota);
                return Ok(match then {
                    Some(true) => Ok(()),
                    Some(false) => Err(StateError::Quota { bytes: quota }.to_string()),
                    None => now.map_err(|e| e.to_string()),
                });
            }
            StateView::Live | StateView::Listened(_) => {}
        }
        let answer = store
            .set(owner, key, value, ttl, quota)
            .map_err(|e| e.to_string());
        self.view.note(|| HostAnswer::Set {
            key: key.to_owned(),
            taken: answer.is_ok(),
        });
        Ok(answer)
    }

    pub fn state_delete(&mut self, key: &str) -> Bounded<()> {
        self.host_call(HostCall::State)?;
        state_key(key)?;
        let (store, _) = granted_state(&self.grants)?;
        match &self.view {
            StateView::Preview => {}
            StateView::Recalled(recall) => recall.aside.delete(&self.grants.owner, key),
            StateView::Live | StateView::Listened(_) => store.delete(&self.grants.owner, key),
        }
        Ok(())
    }

    pub fn state_increment(&mut self, key: &str, by: i64, ttl_seconds: u32) -> Bounded<i64> {
        self.host_call(HostCall::State)?;
        state_key(key)?;
        let (store, quota) = granted_state(&self.grants)?;
        let (owner, ttl) = (&self.grants.owner, Duration::from_secs(ttl_seconds.into()));
        // The contract has no error here, and a counter that does not count would open a frequency
        // cap: the call fails and the entry's fail mode decides.
        let failed = |e: StateError| TooMuch(e.to_string());
        match &mut self.view {
            StateView::Preview => return Ok(store.count(owner, key).saturating_add(by)),
            StateView::Recalled(recall) => {
                let then = recall.take(|answer| match answer {
                    HostAnswer::Count {
                        key: k,
                        by: b,
                        value,
                    } if k == key && *b == by => Some(*value),
                    _ => None,
                });
                let now = recall.aside.increment(owner, key, by, ttl, quota);
                return then.map_or_else(|| now.map_err(failed), Ok);
            }
            StateView::Live | StateView::Listened(_) => {}
        }
        let value = store
            .increment(owner, key, by, ttl, quota)
            .map_err(failed)?;
        self.view.note(|| HostAnswer::Count {
            key: key.to_owned(),
            by,
            value,
        });
        Ok(value)
    }

    pub fn table_lookup(&mut self, table: &str, key: &str) -> Bounded<Option<String>> {
        self.host_call(HostCall::Tables)?;
        let found = self.grants.tables.get(table).and_then(|t| t.lookup(key));
        Ok(found.map(str::to_owned))
    }

    /// The length of the key that was found, and the value.
    pub fn table_longest_prefix(
        &mut self,
        table: &str,
        key: &str,
    ) -> Bounded<Option<(usize, String)>> {
        self.host_call(HostCall::Tables)?;
        let found = self
            .grants
            .tables
            .get(table)
            .and_then(|t| t.longest_prefix(key));
        Ok(found.map(|(prefix, value)| (prefix.len(), value.to_owned())))
    }

    pub async fn http_send(
        &mut self,
        request: HttpRequest,
    ) -> Bounded<Result<HttpResponse, HttpFailure>> {
        self.host_call(HostCall::Http)?;
        self.slow.rest();
        let grants = self.grants.clone();
        Ok(match &grants.http {
            Some(caller) => match self.view {
                StateView::Live | StateView::Listened(_) => caller.send(request).await,
                StateView::Preview | StateView::Recalled(_) => {
                    Err(HttpFailure::Denied("a preview sends nothing".into()))
                }
            },
            None => Err(HttpFailure::Denied("http is not granted".into())),
        })
    }
}

fn granted_state(grants: &Capabilities) -> Bounded<(&dyn StateStore, u64)> {
    match &grants.state {
        Some((store, quota)) => Ok((store.as_ref(), *quota)),
        None => Err(TooMuch("state is not granted".into())),
    }
}

fn state_key(key: &str) -> Bounded<()> {
    if key.is_empty() || key.len() > STATE_KEY_BYTES_MAX {
        return Err(TooMuch(format!(
            "a state key that is not 1 to {STATE_KEY_BYTES_MAX} bytes"
        )));
    }
    Ok(())
}

fn write_log(
    grants: &Capabilities,
    about: &About,
    level: LogLevel,
    message: &str,
    fields: &[(String, String)],
) {
    let message = masked(escaped(message));
    let mut text = String::new();
    for (name, value) in fields.iter().take(LOG_FIELDS_MAX) {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&masked(escaped(name)));
        text.push('=');
        text.push_str(&masked(escaped(value)));
    }
    let (plugin, version) = (grants.owner.as_str(), escaped(&grants.version));
    let hook = about.hook.map(Hook::name);
    let id = about.message.map(tracing::field::display);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(target: "plugin", plugin, version, hook, message_id = id, fields = text, "{message}")
        };
    }
    match level {
        LogLevel::Debug => line!(debug),
        LogLevel::Info => line!(info),
        LogLevel::Warn => line!(warn),
        LogLevel::Error => line!(error),
    }
}

/// Characters that move a terminal's cursor, break a log line or turn its direction.
#[inline]
pub(super) fn is_unprintable(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_control(),
        false => {
            c.is_control()
                || matches!(
                    c,
                    '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{61c}'
                )
        }
    }
}

/// One line of inert text: whatever a terminal or a log reader would act on is written as an escape.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(LOG_CHARS_MAX));
    for (n, c) in text.chars().enumerate() {
        if n == LOG_CHARS_MAX {
            out.push('…');
            break;
        }
        if is_unprintable(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Digits of a number that a log may show, and from how many on it is a number.
const DIGITS_SHOWN: usize = 2;
const DIGITS_OF_A_NUMBER: usize = 7;

/// Plugins see the numbers that they are granted, and logs see none in full.
fn masked(text: String) -> String {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits < DIGITS_OF_A_NUMBER {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !c.is_ascii_digit());
        let (digits, after) = from.split_at(end.unwrap_or(from.len()));
        out.push_str(before);
        match digits.len() < DIGITS_OF_A_NUMBER {
            true => out.push_str(digits),
            false => {
                out.push_str(&digits[..DIGITS_SHOWN]);
                out.push('…');
            }
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::super::state::MemoryState;
    use super::*;
    use crate::clock::{Clock, Timestamp};

    #[test]
    fn a_preview_counts_on_and_writes_nothing() {
        let state = Arc::new(MemoryState::new(Clock::manual(Timestamp(1_000))));
        let grants = Capabilities {
            state: Some((state.clone(), 1_000)),
            ..Capabilities::none("a")
        };
        let mut call = CallState::new(Arc::new(grants), 0);
        call.begin(1, About::default(), StateView::Live);
        assert_eq!(call.state_increment("k", 5, 60), Ok(5));
        call.begin(1, About::default(), StateView::Preview);
        assert_eq!(call.state_increment("k", 5, 60), Ok(10));
        assert_eq!(call.state_set("x", b"v", None), Ok(Ok(())));
        assert_eq!(state.count("a", "k"), 5);
        assert_eq!(state.get("a", "x"), None);
    }

    #[test]
    fn a_number_in_a_log_line_is_masked() {
        let masked = |text: &str| masked(text.to_owned());
        assert_eq!(masked("to +447700900123, 3 of 160"), "to +44…, 3 of 160");
        assert_eq!(masked("4477009 and 447700"), "44… and 447700");
        assert_eq!(masked("no digits é"), "no digits é");
    }

    #[test]
    fn log_text_is_inert() {
        assert_eq!(escaped("a\r\nb"), "a\\u{d}\\u{a}b");
        assert_eq!(escaped("\u{1b}[31m"), "\\u{1b}[31m");
        assert_eq!(escaped("\u{202e}x"), "\\u{202e}x");
        assert_eq!(escaped("naïve 你好"), "naïve 你好");
        assert_eq!(
            escaped(&"x".repeat(5_000)).chars().count(),
            LOG_CHARS_MAX + 1
        );
    }

    #[test]
    fn a_log_flood_is_thinned() {
        let rate = LogRate::new();
        let start = Instant::now();
        let admitted = (0..2_000).filter(|_| rate.admit(start)).count();
        assert_eq!(admitted, LOG_BURST as usize);
        assert!(rate.admit(start + Duration::from_millis(20)));
        assert_eq!(
            rate.dropped.load(Ordering::Relaxed),
            2_000 - admitted as u64
        );
    }
}

//! For a plugin's own tests, natively: values of the contract with everything filled in, and a fake host that
//! answers the capabilities of this thread. It keeps what the plugin did (log lines, requests, state) for the
//! test to look at. It is as strict as the contract and no stricter: grants and quotas are the real host's.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap, VecDeque};

pub use crate::log::Level;
use crate::*;

/// The time of every fixture unless a test sets another: 2026-06-15T12:00:00Z, a Monday.
pub const NOW: Timestamp = 1_781_524_800_000;

/// A transactional message to an international number (E.164, '+' optional), one GSM 7-bit segment, accepted
/// at the fake host's `now`. Change fields with struct update syntax or by assignment.
pub fn message(to: &str, text: &str) -> Message {
    let now = with(|host| host.now);
    Message {
        id: MessageId(0x01890a5d_ac96_774b_bcce_b302099a8057),
        account: "acme".to_owned(),
        originator: alphanumeric("Heliograph"),
        recipient: international(to),
        network: Network::default(),
        body: Body::Text(text.to_owned()),
        alphabet: Alphabet::Gsm7,
        segments: 1,
        traffic: TrafficClass::Transactional,
        accepted_at: now,
        send_at: now,
        expires_at: now + 48 * 3_600_000,
        reference: String::new(),
        attempts: Vec::new(),
        tlvs: Vec::new(),
        metadata: Vec::new(),
    }
}

/// Admission, at the fake host's `now`.
pub fn context() -> Context {
    Context {
        now: with(|host| host.now),
        random: 0x9e37_79b9_7f4a_7c15,
        phase: Phase::Admission,
    }
}

/// Holds [`Plugin::SCHEMA`] against the type of the configuration. With HELIOGRAPH_UPDATE_SCHEMA=1 in the
/// environment it writes `schema.json` in `folder` instead.
pub fn check_schema<P: Plugin>(folder: &str) {
    let derived = format!("{:#}\n", crate::glue::derived_schema::<P>());
    let path = std::path::Path::new(folder).join("schema.json");
    if std::env::var_os("HELIOGRAPH_UPDATE_SCHEMA").is_some_and(|wish| wish == "1") {
        let written = std::fs::write(&path, derived);
        written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    } else if let Some(kept) = P::SCHEMA {
        assert!(
            kept == derived,
            "{} is not the schema of the configuration; HELIOGRAPH_UPDATE_SCHEMA=1 cargo test writes it",
            path.display()
        );
    }
}

/// A healthy, idle carrier with room for 100 submissions a second.
pub fn carrier(id: &str) -> Carrier {
    Carrier {
        id: id.to_owned(),
        connected: true,
        queued: 0,
        in_flight: 0,
        headroom: 100.0,
        delivered_ratio: None,
        p50_receipt_ms: None,
        tags: Vec::new(),
    }
}

/// A text from an international handset number to the short code 61616.
pub fn inbound(from: &str, text: &str) -> Inbound {
    Inbound {
        id: MessageId(0x01890a5d_ac96_774b_bcce_b302099a8058),
        carrier: "north".to_owned(),
        originator: international(from),
        recipient: Address {
            ton: TypeOfNumber::Abbreviated,
            npi: NumberingPlan::Isdn,
            value: "61616".to_owned(),
            prefix: Digits::default(),
            withheld: false,
        },
        body: Body::Text(text.to_owned()),
        received_at: with(|host| host.now),
        opted_out: false,
    }
}

/// A recipient of whom nothing is known but the clock: UTC.
pub fn recipient() -> RecipientProfile {
    RecipientProfile {
        opted_out: false,
        consent: None,
        utc_offset_minutes: Some(0),
        sent_last_day: 0,
    }
}

/// A GET without headers or body.
pub fn request(method: &str, url: &str) -> HttpRequest {
    HttpRequest {
        method: method.to_owned(),
        url: url.to_owned(),
        headers: Vec::new(),
        body: Vec::new(),
    }
}

/// An answer without headers.
pub fn response(status: u16, body: &str) -> HttpResponse {
    HttpResponse {
        status,
        headers: Vec::new(),
        body: body.as_bytes().to_vec(),
    }
}

/// The host shows so many digits as the prefix, and hides at least four.
const PREFIX_DIGITS_MAX: usize = 8;
const HIDDEN_DIGITS_MIN: usize = 4;

/// An international number, '+' optional.
pub fn international(number: &str) -> Address {
    let digits = number.trim_start_matches('+').to_owned();
    Address {
        ton: TypeOfNumber::International,
        npi: NumberingPlan::Isdn,
        prefix: Digits::new(
            &digits[..PREFIX_DIGITS_MAX.min(digits.len().saturating_sub(HIDDEN_DIGITS_MIN))],
        ),
        value: digits,
        withheld: false,
    }
}

/// An alphanumeric originator.
pub fn alphanumeric(name: &str) -> Address {
    Address {
        ton: TypeOfNumber::Alphanumeric,
        npi: NumberingPlan::Unknown,
        value: name.to_owned(),
        prefix: Digits::default(),
        withheld: false,
    }
}

/// A line that the plugin logged.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLine {
    pub level: Level,
    pub message: String,
    pub fields: Vec<(String, String)>,
}

thread_local! {
    static HOST: RefCell<Host> = RefCell::new(Host::default());
}

/// The handle to this thread's fake host. Tests run on threads of their own or one after the other, so
/// begin each test that uses a capability with `FakeHost::new()`, which forgets what came before.
pub struct FakeHost(());

impl FakeHost {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        with(|host| *host = Host::default());
        Self(())
    }

    /// Sets the clock: state expires by it, and fixtures made from here on carry it.
    pub fn set_now(&self, now: Timestamp) {
        with(|host| host.now = now);
    }

    /// Moves the clock forward.
    pub fn advance_seconds(&self, seconds: u64) {
        with(|host| host.now += seconds * 1000);
    }

    /// Uploads a table, replacing one of the same name.
    pub fn set_table(&self, table: &str, rows: &[(&str, &str)]) {
        let rows = rows
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        with(|host| host.tables.insert(table.to_owned(), rows));
    }

    /// Puts a value into the plugin's state.
    pub fn set_state(&self, key: &str, value: &[u8]) {
        with(|host| {
            host.state.insert(
                key.to_owned(),
                Entry {
                    value: value.to_vec(),
                    expires_at: None,
                },
            )
        });
    }

    /// What the plugin's state holds under `key` now.
    pub fn state(&self, key: &str) -> Option<Vec<u8>> {
        with(|host| host.state_get(key))
    }

    /// Makes every later `state::set` fail, as a used-up quota does; `None` lifts that.
    pub fn refuse_state(&self, error: Option<&str>) {
        with(|host| host.state_refusal = error.map(str::to_owned));
    }

    /// Scripts the answer to the next request that has none yet; requests take them in order.
    pub fn answer(&self, answer: Result<HttpResponse, HttpFailure>) {
        with(|host| host.answers.push_back(answer));
    }

    /// The requests sent so far, oldest first.
    pub fn requests(&self) -> Vec<HttpRequest> {
        with(|host| host.requests.clone())
    }

    /// The lines logged so far, oldest first.
    pub fn logs(&self) -> Vec<LogLine> {
        with(|host| host.logs.clone())
    }
}

struct Entry {
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
}

pub(crate) struct Host {
    now: Timestamp,
    tables: HashMap<String, BTreeMap<String, String>>,
    state: HashMap<String, Entry>,
    state_refusal: Option<String>,
    answers: VecDeque<Result<HttpResponse, HttpFailure>>,
    requests: Vec<HttpRequest>,
    logs: Vec<LogLine>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            now: NOW,
            tables: HashMap::new(),
            state: HashMap::new(),
            state_refusal: None,
            answers: VecDeque::new(),
            requests: Vec::new(),
            logs: Vec::new(),
        }
    }
}

pub(crate) fn with<R>(use_host: impl FnOnce(&mut Host) -> R) -> R {
    HOST.with_borrow_mut(use_host)
}

impl Host {
    pub(crate) fn log(&mut self, level: Level, message: &str, fields: Vec<(String, String)>) {
        self.logs.push(LogLine {
            level,
            message: message.to_owned(),
            fields,
        });
    }

    pub(crate) fn lookup(&self, table: &str, key: &str) -> Option<String> {
        self.tables.get(table)?.get(key).cloned()
    }

    pub(crate) fn longest_prefix(&self, table: &str, key: &str) -> Option<(u32, String)> {
        let rows = self.tables.get(table)?;
        let longest = rows
            .keys()
            .filter(|prefix| key.starts_with(prefix.as_str()))
            .max_by_key(|prefix| prefix.len())?;
        let value = rows.get(longest)?;
        Some((u32::try_from(longest.len()).ok()?, value.clone()))
    }

    pub(crate) fn state_get(&self, key: &str) -> Option<Vec<u8>> {
        self.live(key).map(|entry| entry.value.clone())
    }

    pub(crate) fn state_set(
        &mut self,
        key: &str,
        value: &[u8],
        ttl_seconds: Option<u32>,
    ) -> Result<(), String> {
        if let Some(refusal) = &self.state_refusal {
            return Err(refusal.clone());
        }
        let expires_at = ttl_seconds.map(|ttl| self.now + u64::from(ttl) * 1000);
        self.state.insert(
            key.to_owned(),
            Entry {
                value: value.to_vec(),
                expires_at,
            },
        );
        Ok(())
    }

    pub(crate) fn state_delete(&mut self, key: &str) {
        self.state.remove(key);
    }

    /// Counters are kept as the eight octets of an i64, little endian, as the contract's `get` would show them.
    pub(crate) fn state_increment(&mut self, key: &str, by: i64, ttl_seconds: u32) -> i64 {
        let (before, expires_at) = match self.live(key) {
            Some(entry) => (
                entry
                    .value
                    .as_slice()
                    .try_into()
                    .map_or(0, i64::from_le_bytes),
                entry.expires_at,
            ),
            None => (0, Some(self.now + u64::from(ttl_seconds) * 1000)),
        };
        let after = before.saturating_add(by);
        self.state.insert(
            key.to_owned(),
            Entry {
                value: after.to_le_bytes().to_vec(),
                expires_at,
            },
        );
        after
    }

    pub(crate) fn send(&mut self, request: HttpRequest) -> Result<HttpResponse, HttpFailure> {
        let unscripted = format!(
            "the fake host has no answer for {} {}",
            request.method, request.url
        );
        self.requests.push(request);
        self.answers
            .pop_front()
            .unwrap_or(Err(HttpFailure::Denied(unscripted)))
    }

    fn live(&self, key: &str) -> Option<&Entry> {
        self.state
            .get(key)
            .filter(|entry| entry.expires_at.is_none_or(|at| at > self.now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_wins() {
        let host = FakeHost::new();
        host.set_table(
            "deck",
            &[("44", "uk"), ("447", "uk mobile"), ("4479", "other")],
        );
        assert_eq!(
            tables::longest_prefix("deck", "447700900123"),
            Some(("447", "uk mobile".to_owned()))
        );
        assert_eq!(tables::longest_prefix("deck", "33"), None);
        assert_eq!(tables::longest_prefix("no such table", "44"), None);
    }

    #[test]
    fn a_counter_expires_after_its_first_increment_not_its_last() {
        let host = FakeHost::new();
        assert_eq!(state::increment("n", 1, 60), 1);
        host.advance_seconds(40);
        assert_eq!(state::increment("n", 1, 60), 2);
        host.advance_seconds(20);
        assert_eq!(state::increment("n", 5, 60), 5);
    }

    #[test]
    fn state_lives_until_its_time_is_over() {
        let host = FakeHost::new();
        assert_eq!(state::set("k", b"v", Some(10)), Ok(()));
        host.advance_seconds(9);
        assert_eq!(state::get("k"), Some(b"v".to_vec()));
        host.advance_seconds(1);
        assert_eq!(state::get("k"), None);
    }

    #[test]
    fn a_used_up_quota_reaches_the_plugin() {
        let host = FakeHost::new();
        host.refuse_state(Some("quota"));
        assert_eq!(state::set("k", b"v", None), Err("quota".to_owned()));
        assert_eq!(host.state("k"), None);
    }

    #[test]
    fn a_request_without_a_scripted_answer_is_denied_and_kept() {
        let host = FakeHost::new();
        let answer = http::send(request("GET", "https://carrier.example/"));
        assert!(
            matches!(answer, Err(HttpFailure::Denied(reason)) if reason.contains("carrier.example"))
        );
        assert_eq!(host.requests().len(), 1);
    }

    #[test]
    fn what_is_logged_is_kept_with_its_fields() {
        let host = FakeHost::new();
        log::warn("deck is stale", &[("table", "deck")]);
        let fields = vec![("table".to_owned(), "deck".to_owned())];
        assert_eq!(
            host.logs(),
            vec![LogLine {
                level: Level::Warn,
                message: "deck is stale".to_owned(),
                fields
            }]
        );
    }

    #[test]
    fn a_new_fake_host_forgets_the_last() {
        FakeHost::new().set_state("k", b"v");
        assert_eq!(FakeHost::new().state("k"), None);
    }
}

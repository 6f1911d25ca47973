//! What an operator writes: `policy.toml`, or the same as JSON. Reads it, says where it is wrong, and
//! checks what needs no component to check. Knows nothing of how plugins run.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A whole policy. The same shape as TOML and as JSON.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// Carriers in order, used where no routing policy decides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub default_route: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tables: BTreeMap<String, TableSpec>,
    /// The order within a hook is the order here.
    #[serde(default, rename = "plugin", skip_serializing_if = "Vec::is_empty")]
    pub plugins: Vec<PluginSpec>,
    /// What each account's own entries may use together.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub accounts: BTreeMap<String, AccountQuota>,
    /// Which failed receipts send a message to the next carrier of its plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reroute: Option<RerouteSpec>,
}

/// `[reroute]`. A message of which any segment may have arrived is never sent again, whatever stands
/// here.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RerouteSpec {
    /// Out of `undeliverable`, `rejected`, `expired` and `unknown`.
    pub on: Vec<String>,
    /// Error codes of receipts that count; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Classes of messages that it is for; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// How many carriers may fail before it ends there.
    #[serde(default = "reroute_max")]
    pub max: u8,
    /// Since the message was accepted; left out: as long as it is valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_seconds: Option<u64>,
}

fn reroute_max() -> u8 {
    1
}

/// What all entries of one account may use together; where it is left out, the default holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AccountQuota {
    /// Milliseconds of processor time in each second, over all cores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms_per_s: Option<u32>,
    /// What may be used at once after a pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_burst_ms: Option<u32>,
    /// Calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
    /// The sum of the entries' `limits.memory_mib`, each times its instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// The sum of the entries' `grants.state.bytes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_bytes: Option<u64>,
}

/// Where a table's rows are: exactly one of the two.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableSpec {
    /// Relative to the policy file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// `sha256:` and 64 hexadecimal digits, of a table that was uploaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PluginSpec {
    /// Unique in the policy: one component may stand in it twice.
    pub name: String,
    /// Relative to the policy file. Exactly one of `path` and `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// `sha256:` and 64 hexadecimal digits, of a component that was staged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Default: all that the component exports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hooks: Option<Vec<String>>,
    /// What happens where the plugin gives no answer; the default depends on the hook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail: Option<Fail>,
    /// Without it `fail = "open"` is refused for a compliance check: a failing plugin would let
    /// through what the law forbids.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_open_compliance: bool,
    #[serde(default = "empty_object")]
    pub config: Value,
    #[serde(default)]
    pub grants: Grants,
    #[serde(default)]
    pub limits: Limits,
    /// The accounts whose traffic it is asked about, each with instances and state of its own;
    /// empty: everybody's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accounts: Vec<String>,
    /// What answers in its place with `fail = "previous"`. Left out, it is filled in from the policy
    /// in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<PreviousSpec>,
    #[serde(default, skip_serializing_if = "BreakerSpec::is_default")]
    pub breaker: BreakerSpec,
}

/// A version that is known to work: it runs with its entry's grants and limits.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PreviousSpec {
    /// Relative to the policy file. Exactly one of `path` and `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Default: the entry's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<Value>,
}

/// When an entry that keeps failing is skipped, and for how long.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSpec {
    /// This many faults among the last `window` calls open it. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faults: Option<u32>,
    /// Default 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
    /// Until the first probe. Default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_s: Option<u32>,
    /// The pause doubles with every failed probe, up to this. Default 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pause_s: Option<u32>,
}

impl BreakerSpec {
    pub(super) fn is_default(&self) -> bool {
        *self == BreakerSpec::default()
    }
}

/// What becomes of a message where a plugin faults or is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// Hold it and try again.
    Closed,
    /// Go on as if the plugin had no opinion.
    Open,
    /// Routing alone: `default_route`.
    Default,
    /// The version before answers in its place.
    Previous,
}

impl Fail {
    pub fn name(self) -> &'static str {
        match self {
            Fail::Closed => "closed",
            Fail::Open => "open",
            Fail::Default => "default",
            Fail::Previous => "previous",
        }
    }
}

/// What a plugin may have beyond its arguments. Logging needs no grant.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Grants {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<StateGrant>,
    /// Names out of the policy's `tables`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tables: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGrant>,
    /// `{secret:NAME}` in a request to where the value is: `env:NAME` or `file:PATH`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
    #[serde(default)]
    pub numbers: NumbersGrant,
    #[serde(default)]
    pub content: ContentGrant,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct StateGrant {
    /// Keys and values together.
    #[serde(default = "state_bytes")]
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HttpGrant {
    /// `api.example.com:443` for HTTPS; `http://127.0.0.1:8080` for plain HTTP.
    pub hosts: Vec<String>,
    #[serde(default = "http_methods")]
    pub methods: Vec<String>,
    /// Whether `hosts` may resolve to loopback, private, link-local and other special addresses.
    #[serde(default)]
    pub private: bool,
    #[serde(default = "http_timeout_ms")]
    pub timeout_ms: u32,
    #[serde(default = "http_bytes")]
    pub max_request: u32,
    #[serde(default = "http_bytes")]
    pub max_response: u32,
}

/// How much of a number a plugin sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NumbersGrant {
    #[default]
    Full,
    /// A stable pseudonym, and the leading digits that routing needs.
    Prefix,
    /// A stable pseudonym and the country code.
    Pseudonym,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentGrant {
    #[default]
    Full,
    /// The length in characters or octets.
    Length,
    /// Not even that: the length is given as 0.
    None,
}

/// What one call may use. Zero stands nowhere for "without limit".
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Default 10 for decision hooks, 10,000 for a carrier adapter, its waits included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configure_ms: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u32>,
    /// Calls after which an instance is replaced by a fresh one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls: Option<u32>,
    /// Instances at once, and so calls at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<u32>,
}

/// Where an entry's component or a table's rows come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    Path(String),
    Digest([u8; 32]),
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

fn state_bytes() -> u64 {
    1 << 20
}

fn http_methods() -> Vec<String> {
    vec!["POST".into()]
}

fn http_timeout_ms() -> u32 {
    5_000
}

fn http_bytes() -> u32 {
    256 << 10
}

/// The text is no policy: where and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecError {
    /// JSON pointer of the value at fault, empty where the text itself is.
    pub pointer: String,
    /// With line and column.
    pub detail: String,
}

impl fmt::Display for SpecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.pointer.is_empty() {
            f.write_str(&self.detail)
        } else {
            write!(f, "{}: {}", self.pointer, self.detail)
        }
    }
}

impl std::error::Error for SpecError {}

impl PolicySpec {
    /// `policy.toml`. The detail shows the line, with a caret under the place.
    pub fn from_toml(text: &str) -> Result<PolicySpec, SpecError> {
        let mut spec: PolicySpec = toml::from_str(text).map_err(|e| SpecError {
            pointer: String::new(),
            detail: e.to_string().trim_end().to_owned(),
        })?;
        for plugin in &mut spec.plugins {
            dates_to_text(&mut plugin.config);
        }
        Ok(spec)
    }

    /// The body of `PUT /v1/policy`.
    pub fn from_json(bytes: &[u8]) -> Result<PolicySpec, SpecError> {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        let spec = serde_path_to_error::deserialize(&mut json).map_err(|e| SpecError {
            pointer: pointer_of(e.path()),
            detail: e.inner().to_string(),
        })?;
        json.end().map_err(|e| SpecError {
            pointer: String::new(),
            detail: e.to_string(),
        })?;
        Ok(spec)
    }
}

/// A path such as `plugin[0].name` as a JSON pointer (RFC 6901).
fn pointer_of(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => pointer.push_str(&format!("/{}", escaped_key(key))),
            Segment::Enum { variant } => pointer.push_str(&format!("/{variant}")),
            Segment::Unknown => {}
        }
    }
    pointer
}

/// A key as a segment of a JSON pointer.
pub(super) fn escaped_key(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// TOML's dates have no JSON; a configuration gets their text.
fn dates_to_text(value: &mut Value) {
    const DATE: &str = "$__toml_private_datetime";
    match value {
        Value::Object(map) => {
            if let (1, Some(Value::String(text))) = (map.len(), map.get(DATE)) {
                *value = Value::String(text.clone());
                return;
            }
            map.values_mut().for_each(dates_to_text);
        }
        Value::Array(items) => items.iter_mut().for_each(dates_to_text),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `sha256:` and 64 hexadecimal digits.
pub(super) fn parse_digest(text: &str) -> Option<[u8; 32]> {
    let hex = text.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (octet, pair) in digest.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *octet = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn toml_and_json_are_the_same_policy() {
        let toml = r#"
            default_route = ["north"]
            [tables.rates]
            file = "rates.csv"
            [[plugin]]
            name = "router"
            path = "router.wasm"
            fail = "default"
            config = { table = "rates", since = 2026-01-01 }
            grants = { tables = ["rates"], state = { bytes = 10 }, numbers = "prefix" }
            limits = { deadline_ms = 5 }
        "#;
        let json = br#"{"default_route": ["north"], "tables": {"rates": {"file": "rates.csv"}},
            "plugin": [{"name": "router", "path": "router.wasm", "fail": "default",
            "config": {"table": "rates", "since": "2026-01-01"},
            "grants": {"tables": ["rates"], "state": {"bytes": 10}, "numbers": "prefix"},
            "limits": {"deadline_ms": 5}}]}"#;
        let from_toml = PolicySpec::from_toml(toml).unwrap();
        assert_eq!(from_toml, PolicySpec::from_json(json).unwrap());
        let written = serde_json::to_vec(&from_toml).unwrap();
        assert_eq!(PolicySpec::from_json(&written).unwrap(), from_toml);
    }

    #[test]
    fn a_typo_in_toml_is_shown_with_its_line() {
        let error = PolicySpec::from_toml("[[plugin]]\nname = \"x\"\nlimit = {}\n").unwrap_err();
        assert!(
            error.detail.contains("line 3") && error.detail.contains("limit"),
            "{error}"
        );
    }

    #[test]
    fn a_typo_in_json_is_shown_with_its_pointer() {
        let error =
            PolicySpec::from_json(br#"{"plugin": [{"name": "x", "grants": {"numbers": "al"}}]}"#)
                .unwrap_err();
        assert_eq!(error.pointer, "/plugin/0/grants/numbers");
        assert!(error.detail.contains("pseudonym"), "{error}");
    }

    #[test]
    fn digests_are_sha256_in_hexadecimal() {
        let text = format!("sha256:{}", "0a".repeat(32));
        assert_eq!(parse_digest(&text), Some([10; 32]));
        assert_eq!(parse_digest("sha256:00"), None);
        assert_eq!(parse_digest(&format!("sha256:{}", "é".repeat(32))), None);
        assert_eq!(parse_digest(&format!("sha256:{}", "+1".repeat(32))), None);
    }
}

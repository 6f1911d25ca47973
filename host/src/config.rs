//! The configuration file: one TOML document, checked whole before anything starts. Errors name
//! the line and the key. Policy is another file (`plugin::set`), because it changes while we run.

mod adapter;
mod esme;
mod inbound;
mod smpp;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

pub use self::adapter::{
    AdapterSection, AlgorithmName, CallbackSection, EncodingName, VerifyName, VonageMethodName,
};
pub use self::esme::{
    AlphabetName, BindModeName, EsmeSection, LongInboundName, ReceiptFormName, SmppServerSection,
};
pub use self::inbound::{InboundRouteSection, InboundSection};
pub use self::smpp::{
    AddressRuleSection, AddressShape, Bind, HostOrder, Operation, OutbindBind, OutbindSection,
    ReceiptId, ReceiptPer, SmppSection, StatusAction, StatusSection, SubmitSection, Tls,
    TlsSection, TlvSection, ValidityForm,
};
pub use self::text::{AccountText, CarrierText};
use crate::plugin::EngineLimits;

/// Everything an operator sets. Every key has a default but those that cannot.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    pub http: Http,
    pub smpp: SmppServerSection,
    pub store: StoreSection,
    pub policy: PolicySection,
    pub recording: RecordingSection,
    pub plugins: PluginsSection,
    pub messages: Messages,
    pub numbers: NumbersSection,
    pub inbound: InboundSection,
    pub webhooks: Webhooks,
    pub log: Log,
    pub audit: AuditSection,
    #[schemars(length(max = 10_000))]
    pub accounts: Vec<AccountSection>,
    #[schemars(length(max = 254))]
    pub carriers: Vec<CarrierSection>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    /// Where the API listens without TLS: 127.0.0.1:8080 where `tls_listen` is not given either.
    pub listen: Option<SocketAddr>,
    pub tls_listen: Option<SocketAddr>,
    /// Where admin routes listen; beside all others where neither is given.
    pub admin_listen: Option<SocketAddr>,
    pub admin_tls_listen: Option<SocketAddr>,
    /// PEM: the certificate with its chain, and its key. Needed for TLS; read again when they change
    /// and on SIGHUP.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// Open connections at most, and of one address.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections: usize,
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_connections_per_ip: usize,
}

impl Default for Http {
    fn default() -> Http {
        Http {
            listen: None,
            tls_listen: None,
            admin_listen: None,
            admin_tls_listen: None,
            certificate: None,
            key: None,
            max_connections: 10_000,
            max_connections_per_ip: 1_000,
        }
    }
}

impl Http {
    pub fn plain(&self) -> Option<SocketAddr> {
        let default = SocketAddr::from(([127, 0, 0, 1], 8080));
        self.listen
            .or_else(|| self.tls_listen.is_none().then_some(default))
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    /// The data folder.
    pub path: PathBuf,
    /// Days that settled messages are kept.
    #[schemars(range(min = 1, max = 3650))]
    pub retention_days: u32,
    /// Memory for the store's page cache.
    #[schemars(range(min = 8, max = 65_536))]
    pub cache_mib: u64,
    /// How long a group commit waits for company. Longer: fewer syncs and less CPU; shorter: sooner answers.
    #[schemars(range(min = 0, max = 100_000))]
    pub commit_interval_us: u64,
    /// Submissions are refused with `storage_full` below this.
    #[schemars(range(min = 16, max = 1_048_576))]
    pub min_free_mib: u64,
    /// About how much of the database's log a start reads: where its pages are is noted again after so much.
    #[schemars(range(min = 1, max = 65_536))]
    pub checkpoint_mib: u64,
    pub encryption: EncryptionSection,
}

/// Encryption at rest: off where no key is named.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionSection {
    /// The first one seals what is written, all of them open what was.
    #[schemars(length(max = 16))]
    pub keys: Vec<EncryptionKey>,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptionKey {
    /// A name of yours: it shows in metrics.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    )]
    pub id: String,
    /// 32 random octets: 64 hexadecimal digits or their base64.
    pub key: Secret,
}

impl Default for StoreSection {
    fn default() -> StoreSection {
        StoreSection {
            path: PathBuf::from("data"),
            retention_days: 30,
            cache_mib: 64,
            commit_interval_us: 1_000,
            min_free_mib: 256,
            checkpoint_mib: 128,
            encryption: EncryptionSection::default(),
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySection {
    /// The policy file; watched. Without one, policy comes over `PUT /v1/policy`.
    pub file: Option<PathBuf>,
}

/// Decisions kept for replay, beside the store. They hold texts and numbers, as the message log does.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RecordingSection {
    pub enabled: bool,
    #[schemars(range(min = 1, max = 8_760))]
    pub retain_hours: u64,
    /// All recordings together; the oldest go first.
    #[schemars(range(min = 64, max = 1_048_576))]
    pub max_mib: u64,
}

impl Default for RecordingSection {
    fn default() -> RecordingSection {
        RecordingSection {
            enabled: true,
            retain_hours: 48,
            max_mib: 2_048,
        }
    }
}

/// Whose components may be used, and limits over all of them; those of one entry stand in the policy file. The defaults take components made of
/// JavaScript and Python.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PluginsSection {
    /// Public keys: `file:PATH` of what `heliograph plugin keygen` made, or its text.
    #[schemars(length(max = 64))]
    pub trusted_keys: Vec<String>,
    /// Refuse every component without a good signature by a trusted key.
    pub require_signature: bool,
    /// Size of a component.
    #[schemars(range(min = 1, max = 64))]
    pub max_component_mib: u32,
    #[schemars(range(min = 100, max = 1_000_000))]
    pub max_functions: u32,
    /// CPU time and address space of the process that compiles a component.
    #[schemars(range(min = 1, max = 3_600))]
    pub compile_seconds: u32,
    #[schemars(range(min = 256, max = 65_536))]
    pub compile_memory_mib: u32,
    /// The most that `limits.memory_mib` of an entry may ask for.
    #[schemars(range(min = 1, max = 1_024))]
    pub max_memory_mib: u32,
    /// Plugin instances that live at once, idle ones included.
    #[schemars(range(min = 16, max = 4_096))]
    pub instances: u32,
    /// Native code that is kept for the next start: what was used longest ago goes, what is in use stays.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub cache_mib: u32,
}

impl Default for PluginsSection {
    fn default() -> PluginsSection {
        let engine = EngineLimits::default();
        PluginsSection {
            trusted_keys: Vec::new(),
            require_signature: false,
            max_component_mib: engine.component.max_mib,
            max_functions: engine.component.max_functions,
            compile_seconds: engine.component.compile_seconds,
            compile_memory_mib: engine.component.compile_memory_mib,
            max_memory_mib: engine.memory_max_mib,
            instances: engine.instances,
            cache_mib: 1_024,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Messages {
    #[schemars(range(min = 1, max = 604_800))]
    pub default_validity_seconds: u64,
    #[schemars(range(min = 1, max = 2_592_000))]
    pub max_validity_seconds: u64,
    #[schemars(range(min = 0, max = 31_536_000))]
    pub max_schedule_seconds: u64,
    #[schemars(range(min = 1, max = 255))]
    pub max_segments: u8,
    #[schemars(range(min = 1, max = 64))]
    pub max_attempts: usize,
}

impl Default for Messages {
    fn default() -> Messages {
        Messages {
            default_validity_seconds: 72 * 3600,
            max_validity_seconds: 7 * 86_400,
            max_schedule_seconds: 35 * 86_400,
            max_segments: 10,
            max_attempts: 32,
        }
    }
}

#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NumbersSection {
    /// Number prefix (digits) to IANA time zone, for countries with several:
    /// `1212 = "America/New_York"`.
    pub timezones: BTreeMap<String, String>,
    /// Where numbers without a country code are dialled: ISO 3166-1 alpha-2, `GB`. Without it they
    /// are refused.
    pub default_region: Option<String>,
    /// How much a recipient's number must be.
    pub validate: ValidateName,
    /// Kinds of numbers that nothing is sent to, such as `premium_rate`.
    #[schemars(length(max = 11))]
    pub refuse_kinds: Vec<String>,
    /// Whether a short code may be written to.
    pub short_code_recipients: bool,
    /// Table of networks, read again when it changes: prefix, country, mcc, mnc, operator.
    pub networks: Option<PathBuf>,
    /// Table of ported numbers and ranges, which comes first: number, mcc, mnc, operator.
    pub ported: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ValidateName {
    /// 7 to 15 digits.
    Shape,
    /// A country's code, and as many digits as its numbers have.
    #[default]
    Possible,
    /// Of a range that is in use.
    Valid,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Webhooks {
    /// Allow targets with private, loopback and link-local addresses.
    pub allow_private: bool,
    #[schemars(range(min = 100, max = 60_000))]
    pub timeout_ms: u64,
    #[schemars(range(min = 60, max = 2_592_000))]
    pub give_up_seconds: u64,
}

impl Default for Webhooks {
    fn default() -> Webhooks {
        Webhooks {
            allow_private: false,
            timeout_ms: 15_000,
            give_up_seconds: 72 * 3600,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// A tracing filter such as `info` or `heliograph=debug`.
    pub filter: String,
    pub format: LogFormat,
}

/// The log of administrative acts.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AuditSection {
    /// What it may take of the disk: its oldest entries go, and an entry says so.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub keep_mib: u32,
}

impl Default for AuditSection {
    fn default() -> AuditSection {
        AuditSection { keep_mib: 256 }
    }
}

impl Default for Log {
    fn default() -> Log {
        Log {
            filter: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountSection {
    #[schemars(length(min = 1, max = 64), regex(pattern = r"^[a-z0-9][a-z0-9_-]*$"))]
    pub id: String,
    /// API keys: references, or tables with scopes.
    #[serde(default)]
    pub keys: Vec<Key>,
    /// `otp`, `transactional`, `promotional` or `alert`.
    #[serde(default)]
    pub default_class: Option<String>,
    #[serde(default)]
    pub receipt_url: Option<String>,
    #[serde(default)]
    pub inbound_url: Option<String>,
    #[serde(default)]
    pub webhook_secret: Option<Secret>,
    /// Numbers whose mobile-originated messages are this account's.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Submissions per second.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub throughput: Option<u32>,
    /// Applications of the account that speak SMPP.
    #[serde(default)]
    #[schemars(length(max = 1_000))]
    pub smpp: Vec<EsmeSection>,
    /// In the place of `numbers.default_region`.
    #[serde(default)]
    pub default_region: Option<String>,
    /// In which encodings texts may travel.
    #[serde(default)]
    pub text: AccountText,
    /// May send short message type 0 (3GPP TS 23.040, 9.2.3.9), which a phone takes and shows nobody.
    #[serde(default)]
    pub silent_messages: bool,
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Key {
    Plain(Secret),
    Scoped(ScopedKey),
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScopedKey {
    pub key: Secret,
    pub scopes: Vec<ScopeName>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScopeName {
    Send,
    Read,
    Admin,
}

impl Key {
    pub fn secret(&self) -> &Secret {
        match self {
            Key::Plain(secret) => secret,
            Key::Scoped(scoped) => &scoped.key,
        }
    }

    /// A key without scopes may send and read; only a named scope administers.
    pub fn scopes(&self) -> &[ScopeName] {
        match self {
            Key::Plain(_) => &[ScopeName::Send, ScopeName::Read],
            Key::Scoped(scoped) => &scoped.scopes,
        }
    }
}

#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum CarrierSection {
    Smpp(Box<SmppSection>),
    Plugin(Box<AdapterSection>),
}

impl CarrierSection {
    pub fn id(&self) -> &str {
        match self {
            CarrierSection::Smpp(c) => &c.id,
            CarrierSection::Plugin(c) => &c.id,
        }
    }
}

/// A secret by reference: `env:NAME`, `file:PATH`, or `literal:TEXT` for what is none.
#[derive(Clone, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn literal(text: &str) -> Secret {
        Secret(format!("literal:{text}"))
    }

    /// The secret itself, trimmed of the newline that editors leave in files.
    pub fn resolve(&self, base: &Path) -> Result<String, String> {
        match self.0.split_once(':') {
            Some(("env", name)) => {
                std::env::var(name).map_err(|_| format!("environment variable {name} is not set"))
            }
            Some(("file", path)) => std::fs::read_to_string(base.join(path))
                .map(|text| text.trim_end().to_owned())
                .map_err(|e| format!("{path}: {e}")),
            Some(("literal", text)) => Ok(text.to_owned()),
            _ => Err("a secret is given as env:NAME, file:PATH or literal:TEXT".to_owned()),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// What is wrong with a configuration, ready for a person.
#[derive(Debug)]
pub struct ConfigError(pub String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads, overlays the environment (`HELIOGRAPH_HTTP__LISTEN`), checks everything.
    pub fn load(
        path: &Path,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| ConfigError(format!("{}: {e}", path.display())))?;
        Config::parse(&text, &path.display().to_string(), environment)
    }

    pub fn parse(
        text: &str,
        name: &str,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Config, ConfigError> {
        // Once typed, for errors that point at line and column; once more with the environment on top.
        toml::from_str::<Config>(text).map_err(|e| ConfigError(format!("{name}: {e}")))?;
        let mut value: toml::Value =
            toml::from_str(text).map_err(|e| ConfigError(format!("{name}: {e}")))?;
        let overlaid = overlay(&mut value, environment)?;
        let json = serde_json::to_value(&value).map_err(|e| ConfigError(format!("{name}: {e}")))?;
        check_schema(&json, text, name)?;
        let config: Config = value.try_into().map_err(|e: toml::de::Error| {
            ConfigError(format!(
                "{name} with {}: {}",
                overlaid.join(", "),
                e.message()
            ))
        })?;
        config.check(name)?;
        Ok(config)
    }

    /// Rules that no schema can say.
    fn check(&self, name: &str) -> Result<(), ConfigError> {
        let mut seen = std::collections::HashSet::new();
        for (i, carrier) in self.carriers.iter().enumerate() {
            if !seen.insert(carrier.id()) {
                let id = carrier.id();
                return Err(ConfigError(format!(
                    "{name}: carriers[{i}].id: {id:?} is used twice; each carrier needs its own"
                )));
            }
        }
        let mut seen = std::collections::HashSet::new();
        for (i, account) in self.accounts.iter().enumerate() {
            if !seen.insert(&account.id) {
                return Err(ConfigError(format!(
                    "{name}: accounts[{i}].id: {:?} is used twice; each account needs its own",
                    account.id
                )));
            }
            if let Some(class) = &account.default_class
                && crate::domain::TrafficClass::from_name(class).is_none()
            {
                return Err(ConfigError(format!(
                    "{name}: accounts[{i}].default_class: {class:?} is none of otp, transactional, promotional, alert"
                )));
            }
        }
        if self.plugins.require_signature && self.plugins.trusted_keys.is_empty() {
            return Err(ConfigError(format!(
                "{name}: plugins.require_signature is true and plugins.trusted_keys names no key, so that no plugin could ever be used"
            )));
        }
        if self.messages.default_validity_seconds > self.messages.max_validity_seconds {
            return Err(ConfigError(format!(
                "{name}: messages.default_validity_seconds is more than messages.max_validity_seconds"
            )));
        }
        Ok(())
    }
}

/// Lays `HELIOGRAPH_SECTION__KEY=value` over the document. Returns the names that were used.
fn overlay(
    value: &mut toml::Value,
    environment: impl Iterator<Item = (String, String)>,
) -> Result<Vec<String>, ConfigError> {
    let mut used = Vec::new();
    for (name, text) in environment {
        let Some(path) = name
            .strip_prefix("HELIOGRAPH_")
            .filter(|p| p.contains("__"))
        else {
            continue;
        };
        let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
        let (Some((last, sections)), true) = (keys.split_last(), keys.len() >= 2) else {
            continue;
        };
        let mut table = value
            .as_table_mut()
            .ok_or_else(|| ConfigError("the document is no table".to_owned()))?;
        for section in sections {
            table = table
                .entry(section.clone())
                .or_insert_with(|| toml::Value::Table(toml::Table::new()))
                .as_table_mut()
                .ok_or_else(|| ConfigError(format!("{name}: {section} is no section")))?;
        }
        // Numbers and booleans as TOML reads them, all else is a string.
        let parsed = toml::from_str::<toml::Table>(&format!("x = {text}"))
            .ok()
            .and_then(|mut t| t.remove("x"))
            .filter(|v| v.is_integer() || v.is_bool())
            .unwrap_or_else(|| toml::Value::String(text.clone()));
        table.insert(last.clone(), parsed);
        used.push(name);
    }
    Ok(used)
}

/// The JSON Schema of the configuration file.
pub fn schema() -> serde_json::Value {
    schemars::schema_for!(Config).to_value()
}

fn check_schema(json: &serde_json::Value, text: &str, name: &str) -> Result<(), ConfigError> {
    let errors: Vec<String> = violations(&schema(), json, "")?
        .into_iter()
        .map(|(pointer, rule)| match line_of(text, &pointer) {
            Some(line) => format!("{name}:{line}: {}: {rule}", key_of(&pointer)),
            None => format!("{name}: {}: {rule}", key_of(&pointer)),
        })
        .collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ConfigError(errors.join("\n")))
    }
}

/// Broken rules: JSON pointer and what is wrong. A carrier is measured by the schema of its own
/// kind, because "none of these alternatives" helps nobody.
fn violations(
    schema: &serde_json::Value,
    json: &serde_json::Value,
    at: &str,
) -> Result<Vec<(String, String)>, ConfigError> {
    let validator = jsonschema::validator_for(schema)
        .map_err(|e| ConfigError(format!("the configuration's own schema: {e}")))?;
    let mut found = Vec::new();
    for error in validator.iter_errors(json).take(8) {
        let pointer = error.instance_path().to_string();
        let section = json.pointer(&pointer).filter(|v| {
            pointer.starts_with("/carriers/") && v.is_object() && pointer.matches('/').count() == 2
        });
        let Some(section) = section else {
            found.push((format!("{at}{pointer}"), error.to_string()));
            continue;
        };
        let kind = match section.get("kind").and_then(serde_json::Value::as_str) {
            Some("smpp") => schemars::schema_for!(SmppSection).to_value(),
            Some("plugin") => schemars::schema_for!(AdapterSection).to_value(),
            _ => {
                found.push((pointer, "kind is \"smpp\" or \"plugin\"".to_owned()));
                continue;
            }
        };
        let mut section = section.clone();
        if let Some(object) = section.as_object_mut() {
            object.remove("kind");
        }
        found.extend(violations(&kind, &section, &pointer)?);
    }
    Ok(found)
}

/// `/carriers/0/window` as people write it: `carriers[0].window`.
fn key_of(pointer: &str) -> String {
    let mut out = String::new();
    for step in pointer.split('/').skip(1) {
        if step.bytes().all(|b| b.is_ascii_digit()) && !step.is_empty() {
            out.push_str(&format!("[{step}]"));
        } else {
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(step);
        }
    }
    out
}

/// The line where the value at a JSON pointer stands.
fn line_of(text: &str, pointer: &str) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut steps = pointer.split('/').skip(1);
    let first = steps.next()?;
    let mut at: &Spanned<DeValue<'_>> = document.get_ref().get(first)?;
    for step in steps {
        at = match at.get_ref() {
            DeValue::Table(table) => table.get(step)?,
            DeValue::Array(list) => list.get(step.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    let start = at.span().start.min(text.len());
    Some(text[..start].matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
[http]
listen = "127.0.0.1:9000"

[[accounts]]
id = "acme"
keys = ["literal:k1", { key = "literal:k2", scopes = ["admin"] }]

[[carriers]]
id = "north"
kind = "smpp"
address = "127.0.0.1:2775"
system_id = "heliograph"
password = "literal:secret"
window = 50
"#;

    fn parse(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
        let env = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Config::parse(text, "heliograph.toml", env).map_err(|e| e.to_string())
    }

    #[test]
    fn a_good_file_is_read() {
        let config = parse(GOOD, &[]).unwrap();
        assert_eq!(config.carriers[0].id(), "north");
        assert_eq!(config.accounts[0].keys[1].scopes(), [ScopeName::Admin]);
    }

    #[test]
    fn the_environment_overrides() {
        let config = parse(GOOD, &[("HELIOGRAPH_HTTP__LISTEN", "127.0.0.1:1")]).unwrap();
        assert_eq!(config.http.plain().map(|a| a.port()), Some(1));
    }

    #[test]
    fn a_typo_names_its_line() {
        let error = parse(&GOOD.replace("window", "windwo"), &[]).unwrap_err();
        assert!(error.contains("windwo"), "{error}");
        assert!(error.contains("line"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_names_line_and_key() {
        let error = parse(&GOOD.replace("window = 50", "window = 0"), &[]).unwrap_err();
        assert!(error.contains("heliograph.toml:15"), "{error}");
        assert!(error.contains("carriers[0]"), "{error}");
    }

    #[test]
    fn two_carriers_of_one_name_are_refused() {
        let again = GOOD.split("[[carriers]]").nth(1).unwrap();
        let error = parse(&format!("{GOOD}\n[[carriers]]{again}"), &[]).unwrap_err();
        assert!(error.contains("carriers[1].id"), "{error}");
    }

    #[test]
    fn a_signature_cannot_be_required_of_nobody() {
        let text = format!("[plugins]\nrequire_signature = true\n{GOOD}");
        let error = parse(&text, &[]).unwrap_err();
        assert!(error.contains("plugins.trusted_keys"), "{error}");
        let named = text.replace("true\n", "true\ntrusted_keys = [\"file:ops.pub\"]\n");
        assert!(parse(&named, &[]).unwrap().plugins.require_signature);
    }

    #[test]
    fn a_secret_is_given_by_reference() {
        let here = Path::new(".");
        assert!(Secret("hunter2".to_owned()).resolve(here).is_err());
        assert_eq!(Secret::literal("x").resolve(here).as_deref(), Ok("x"));
        assert_eq!(format!("{:?}", Secret::literal("x")), "Secret(..)");
    }
}

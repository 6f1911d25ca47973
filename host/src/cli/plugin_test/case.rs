//! Reads cases: one JSON file each, laid over the folder's `defaults.json`, and the decision that is
//! expected of it. Says which field is wrong and why; does not know how a case is run.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value, json};

use super::input::{self, Callback, Carrier, Input, MessageIn, MobileOriginated, Recipient};
use super::world::{Script, Seed, SeedValue};
use crate::api::wire;
use crate::clock::Timestamp;
use crate::domain::{Hook, Phase};
use crate::pipeline::numbers::Numbers;
use crate::plugin::{Grants, Limits, StateGrant};

pub const DEFAULTS: &str = "defaults.json";
const EXPECT_ENDING: &str = ".expect.json";
/// Cases of one folder.
const CASES_MAX: usize = 1_000;
const CASE_OCTETS_MAX: u64 = 4 << 20;
const TABLE_OCTETS_MAX: u64 = 64 << 20;
/// The time of every case that sets none: 2026-06-15T12:00:00Z, a Monday, as in the SDK's fake host.
pub const NOW: Timestamp = Timestamp(1_781_524_800_000);
const RANDOM: u64 = 0x9e37_79b9_7f4a_7c15;
const STATE_OCTETS: u64 = 1 << 20;

/// One call of one hook, all that surrounds it, and what is to come of it.
pub struct Case {
    pub hook: Option<Hook>,
    pub config: Value,
    pub grants: Grants,
    pub limits: Limits,
    /// CSV by name.
    pub tables: BTreeMap<String, Vec<u8>>,
    pub state: Vec<Seed>,
    /// Values by name: what `{secret:NAME}` becomes.
    pub secrets: BTreeMap<String, String>,
    pub now: Timestamp,
    pub random: u64,
    pub phase: Phase,
    pub input: Input,
    pub http: Script,
    pub expected: Expected,
}

/// Where the expected decision stands.
pub enum Expected {
    /// In the case itself: its author's to change.
    Inline(Value),
    Golden(Value),
    /// Nowhere yet.
    Missing,
}

impl Expected {
    pub fn value(&self) -> Option<&Value> {
        match self {
            Expected::Inline(value) | Expected::Golden(value) => Some(value),
            Expected::Missing => None,
        }
    }
}

/// A case by name, or why it cannot be run.
pub struct Read {
    pub name: String,
    pub golden: PathBuf,
    pub case: Result<Box<Case>, String>,
}

/// A case's file, and the folder's defaults in the same form.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct CaseFile {
    /// For whoever reads it.
    #[serde(rename = "about")]
    _about: Option<String>,
    hook: Option<String>,
    config: Option<Value>,
    grants: Option<Grants>,
    limits: Option<Limits>,
    tables: BTreeMap<String, Rows>,
    state: Option<BTreeMap<String, StateIn>>,
    secrets: BTreeMap<String, String>,
    now: Option<String>,
    random: Option<u64>,
    phase: Option<String>,
    message: Option<MessageIn>,
    inbound: Option<MobileOriginated>,
    callback: Option<Callback>,
    carriers: Option<Vec<Carrier>>,
    recipient: Option<Recipient>,
    http: Vec<super::world::AnswerIn>,
    expect: Option<Value>,
}

/// A file's name, or the rows themselves.
enum Rows {
    File(String),
    Inline(Vec<(String, String)>),
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Rows, D::Error> {
        let rule =
            "a table is the name of a CSV file, or an object of keys and values that are text";
        match Value::deserialize(from)? {
            Value::String(file) => Ok(Rows::File(file)),
            Value::Object(rows) => rows
                .into_iter()
                .map(|(key, value)| match value {
                    Value::String(value) if !value.contains(['\n', '\r']) => Ok((key, value)),
                    _ => Err(D::Error::custom(format!(
                        "row {key:?}: {rule}, on one line"
                    ))),
                })
                .collect::<Result<_, _>>()
                .map(Rows::Inline),
            _ => Err(D::Error::custom(rule)),
        }
    }
}

struct StateIn(SeedValue, Option<u32>);

impl<'de> Deserialize<'de> for StateIn {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<StateIn, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Long {
            text: Option<String>,
            base64: Option<String>,
            count: Option<i64>,
            ttl_seconds: Option<u32>,
        }
        let rule =
            "a value is text, a whole number (a counter), or {text | base64 | count, ttl_seconds}";
        let value = Value::deserialize(from)?;
        if let Some(text) = value.as_str() {
            return Ok(StateIn(SeedValue::Octets(text.as_bytes().to_vec()), None));
        }
        if let Some(count) = value.as_i64() {
            return Ok(StateIn(SeedValue::Count(count), None));
        }
        if !value.is_object() {
            return Err(D::Error::custom(rule));
        }
        let long: Long = serde_json::from_value(value).map_err(D::Error::custom)?;
        let value = match (long.text, long.base64, long.count) {
            (Some(text), None, None) => SeedValue::Octets(text.into_bytes()),
            (None, Some(base64), None) => {
                SeedValue::Octets(input::from_base64(&base64).map_err(D::Error::custom)?)
            }
            (None, None, Some(count)) => SeedValue::Count(count),
            _ => return Err(D::Error::custom(rule)),
        };
        Ok(StateIn(value, long.ttl_seconds))
    }
}

/// All cases of a folder in the order of their names; the error is about the folder itself.
pub fn read_folder(folder: &Path, numbers: &Numbers) -> Result<Vec<Read>, String> {
    let entries = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let names: BTreeSet<String> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.ends_with(".json"))
        .collect();
    if names.len() > 2 * CASES_MAX {
        return Err(format!(
            "{}: has more than {CASES_MAX} cases",
            folder.display()
        ));
    }
    let defaults = defaults(folder, names.contains(DEFAULTS))?;
    let mut cases = Vec::new();
    for name in &names {
        if let Some(orphan) = name.strip_suffix(EXPECT_ENDING) {
            if !names.contains(&format!("{orphan}.json")) {
                cases.push(Read {
                    name: orphan.to_owned(),
                    golden: folder.join(name),
                    case: Err(format!(
                        "{name} expects a decision, and there is no {orphan}.json to decide: remove it, or write the case"
                    )),
                });
            }
            continue;
        }
        if name == DEFAULTS {
            continue;
        }
        let stem = name.trim_end_matches(".json").to_owned();
        let golden = folder.join(format!("{stem}{EXPECT_ENDING}"));
        let case = read_case(folder, name, &golden, &defaults, numbers);
        cases.push(Read {
            name: stem,
            golden,
            case: case.map(Box::new),
        });
    }
    Ok(cases)
}

fn defaults(folder: &Path, present: bool) -> Result<Map<String, Value>, String> {
    if !present {
        return Ok(Map::new());
    }
    let file = folder.join(DEFAULTS);
    let at = |why: String| format!("{}: {why}", file.display());
    let defaults = object(&file)?;
    for own in ["message", "inbound", "callback", "expect"] {
        if defaults.contains_key(own) {
            return Err(at(format!(
                "{own}: belongs into a case, not into the defaults"
            )));
        }
    }
    parsed(defaults.clone()).map_err(at)?;
    Ok(defaults)
}

fn read_case(
    folder: &Path,
    name: &str,
    golden: &Path,
    defaults: &Map<String, Value>,
    numbers: &Numbers,
) -> Result<Case, String> {
    let mut merged = defaults.clone();
    // A field of the case replaces the default's whole: what is not written here is not hidden there.
    merged.extend(object(&folder.join(name))?);
    let at = |why: String| format!("{name}: {why}");
    let file = parsed(merged).map_err(at)?;
    let now = match &file.now {
        Some(text) => wire::timestamp(text).map_err(|why| at(format!("now: {text:?} {why}")))?,
        None => NOW,
    };
    let expected = match file.expect {
        Some(_) if golden.exists() => {
            return Err(at(format!(
                "expect: stands in the case, and in {} as well: remove one of them",
                golden.display()
            )));
        }
        Some(value) => Expected::Inline(value),
        None if golden.exists() => Expected::Golden(Value::Object(object(golden)?)),
        None => Expected::Missing,
    };
    let tables = tables(folder, file.tables).map_err(at)?;
    let grants = grants(file.grants, &tables, file.state.is_some());
    Ok(Case {
        hook: hook(file.hook.as_deref()).map_err(at)?,
        config: file.config.unwrap_or_else(|| json!({})),
        grants,
        limits: file.limits.unwrap_or_default(),
        tables,
        state: seeds(file.state.unwrap_or_default()),
        secrets: file.secrets,
        now,
        random: file.random.unwrap_or(RANDOM),
        phase: phase(file.phase.as_deref()).map_err(at)?,
        input: input::of(
            input::Given {
                message: file.message,
                inbound: file.inbound,
                callback: file.callback,
                carriers: file.carriers,
                recipient: file.recipient,
            },
            now,
            numbers,
        )
        .map_err(at)?,
        http: Script::new(file.http).map_err(at)?,
        expected,
    })
}

fn object(file: &Path) -> Result<Map<String, Value>, String> {
    let at = |why: String| format!("{}: {why}", file.display());
    let bytes = octets(file, CASE_OCTETS_MAX)?;
    serde_json::from_slice(&bytes).map_err(|e| at(format!("is no JSON object: {e}")))
}

fn octets(file: &Path, max: u64) -> Result<Vec<u8>, String> {
    let at = |why: String| format!("{}: {why}", file.display());
    let opened = std::fs::File::open(file).map_err(|e| at(e.to_string()))?;
    let mut bytes = Vec::new();
    opened
        .take(max + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| at(e.to_string()))?;
    match bytes.len() as u64 > max {
        true => Err(at(format!("has more than {max} octets"))),
        false => Ok(bytes),
    }
}

fn parsed(object: Map<String, Value>) -> Result<CaseFile, String> {
    serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
        let path = error.path().to_string();
        match path.as_str() {
            "." => error.inner().to_string(),
            path => format!("{path}: {}", error.inner()),
        }
    })
}

fn hook(name: Option<&str>) -> Result<Option<Hook>, String> {
    let Some(name) = name else { return Ok(None) };
    let known = || Hook::ALL.map(Hook::name).join(", ");
    Hook::from_name(name)
        .map(Some)
        .ok_or_else(|| format!("hook: {name:?} is no hook; there are {}", known()))
}

fn phase(name: Option<&str>) -> Result<Phase, String> {
    let Some(name) = name else {
        return Ok(Phase::Admission);
    };
    (0..)
        .map_while(Phase::from_u8)
        .find(|phase| phase.name() == name)
        .ok_or_else(|| {
            format!("phase: {name:?} is no phase; there are admission, dispatch, retry, preview")
        })
}

fn tables(
    folder: &Path,
    named: BTreeMap<String, Rows>,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    named
        .into_iter()
        .map(|(name, rows)| {
            let bytes = match rows {
                Rows::File(file) => octets(&folder.join(file), TABLE_OCTETS_MAX)
                    .map_err(|why| format!("tables.{name}: {why}"))?,
                Rows::Inline(rows) => rows
                    .iter()
                    .map(|(key, value)| format!("{key},\"{}\"\n", value.replace('"', "\"\"")))
                    .collect::<String>()
                    .into_bytes(),
            };
            Ok((name, bytes))
        })
        .collect()
}

/// As the case says; what it brings along is granted where it says nothing of it.
fn grants(told: Option<Grants>, tables: &BTreeMap<String, Vec<u8>>, state: bool) -> Grants {
    let mut grants = told.unwrap_or_default();
    if grants.tables.is_empty() {
        grants.tables = tables.keys().cloned().collect();
    }
    if grants.state.is_none() && state {
        grants.state = Some(StateGrant {
            bytes: STATE_OCTETS,
        });
    }
    grants
}

fn seeds(state: BTreeMap<String, StateIn>) -> Vec<Seed> {
    state
        .into_iter()
        .map(|(key, StateIn(value, ttl_seconds))| Seed {
            key,
            value,
            ttl_seconds,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).expect("written");
        }
        folder
    }

    fn read(files: &[(&str, &str)]) -> Vec<Read> {
        let numbers = Numbers::new([]).expect("no rows");
        read_folder(folder(files).path(), &numbers).expect("a readable folder")
    }

    fn refusal(case: &str) -> String {
        let mut all = read(&[("one.json", case)]);
        all.remove(0).case.err().expect("a refusal")
    }

    #[test]
    fn a_field_of_the_case_replaces_the_defaults_whole() {
        let all = read(&[
            (
                DEFAULTS,
                r#"{"config": {"a": 1, "b": 2}, "tables": {"rates": {"44": "uk"}}}"#,
            ),
            (
                "one.json",
                r#"{"message": {"to": "+447700900123", "text": "hi"}}"#,
            ),
            (
                "two.json",
                r#"{"config": {"a": 3}, "message": {"to": "+447700900123", "text": "hi"}}"#,
            ),
        ]);
        let configs: Vec<&Value> = all
            .iter()
            .map(|read| &read.case.as_ref().unwrap_or_else(|e| panic!("{e}")).config)
            .collect();
        assert_eq!(configs, [&json!({"a": 1, "b": 2}), &json!({"a": 3})]);
        let case = all[0].case.as_ref().unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(case.grants.tables, ["rates"]);
        assert_eq!(case.tables["rates"], b"44,\"uk\"\n");
    }

    #[test]
    fn a_misspelt_field_is_named_with_its_place() {
        let error = refusal(r#"{"mesage": {}}"#);
        assert!(
            error.contains("one.json") && error.contains("mesage"),
            "{error}"
        );
        let error = refusal(r#"{"message": {"to": "+447700900123", "text": "x", "clas": "otp"}}"#);
        assert!(
            error.contains("message") && error.contains("clas"),
            "{error}"
        );
        let error = refusal(r#"{"message": {"to": "0770", "text": "x"}}"#);
        assert!(
            error.contains("message.to") && error.contains("digits"),
            "{error}"
        );
        let error = refusal(r#"{"now": "noon", "message": {"to": "+447700900123", "text": "x"}}"#);
        assert!(
            error.contains("now") && error.contains("RFC 3339"),
            "{error}"
        );
        let error = refusal("{");
        assert!(error.contains("line 1"), "{error}");
    }

    #[test]
    fn a_case_has_one_input() {
        for case in [
            "{}",
            r#"{"message": {"to": "+447700900123", "text": "x"}, "callback": {"url": "/x"}}"#,
        ] {
            let error = refusal(case);
            assert!(error.contains("message, inbound"), "{error}");
        }
    }

    #[test]
    fn an_expectation_without_a_case_is_no_silent_success() {
        let mut all = read(&[("gone.expect.json", r#"{"outcome": "pass"}"#)]);
        let error = all.remove(0).case.err().expect("a refusal");
        assert!(error.contains("gone.json"), "{error}");
    }

    #[test]
    fn the_decision_is_expected_in_one_place() {
        let case =
            r#"{"message": {"to": "+447700900123", "text": "x"}, "expect": {"outcome": "pass"}}"#;
        let mut all = read(&[("one.json", case), ("one.expect.json", "{}")]);
        let error = all.remove(0).case.err().expect("a refusal");
        assert!(error.contains("remove one"), "{error}");
    }

    #[test]
    fn state_is_text_a_counter_or_octets() {
        let case = r#"{"message": {"to": "+447700900123", "text": "x"},
            "state": {"a": "x", "b": 3, "c": {"base64": "AAE=", "ttl_seconds": 9}}}"#;
        let mut all = read(&[("one.json", case)]);
        let case = all.remove(0).case.unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(
            case.grants.state,
            Some(StateGrant {
                bytes: STATE_OCTETS
            })
        );
        let values: Vec<&SeedValue> = case.state.iter().map(|seed| &seed.value).collect();
        assert_eq!(
            values,
            [
                &SeedValue::Octets(b"x".to_vec()),
                &SeedValue::Count(3),
                &SeedValue::Octets(vec![0, 1])
            ]
        );
        let error = refusal(r#"{"state": {"a": {"count": 1, "text": "x"}}}"#);
        assert!(error.contains("state.a"), "{error}");
    }

    #[test]
    fn the_examples_of_the_guide_are_cases() {
        let guide = include_str!("../../../../plugin-sdk/TESTING.md");
        let examples: Vec<&str> = guide
            .split("```json\n")
            .skip(1)
            .filter_map(|rest| rest.split("```").next())
            .collect();
        assert!(examples.len() > Hook::ALL.len(), "{}", examples.len());
        for example in examples {
            let mut all = read(&[("one.json", example)]);
            if let Err(error) = all.remove(0).case {
                panic!("{error}\n{example}");
            }
        }
    }
}

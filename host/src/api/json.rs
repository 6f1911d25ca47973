//! Reading JSON that a stranger sent: bounded in depth, without duplicate keys, then measured by a
//! JSON Schema that names every broken rule. Knows no particular request.

use std::fmt;

use jsonschema::error::ValidationErrorKind;
use schemars::JsonSchema;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};
use serde_json::{Map, Value};

use super::problem::{Code, FieldError, Problem};

/// Objects and arrays within each other.
const DEPTH_MAX: usize = 16;
/// Broken rules that one answer tells.
const ERRORS_MAX: usize = 32;
/// Characters of one rule; it may quote what was sent.
const DETAIL_MAX: usize = 300;

/// One JSON document and nothing after it. Duplicate keys are refused (RFC 8259, 4: what they mean
/// differs between readers), lone surrogates too, because they are no text.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    Strict { depth: 0 }
        .deserialize(&mut json)
        .and_then(|value| json.end().map(|()| value))
        .map_err(|error| {
            let detail = if bytes.is_empty() {
                "the body is empty; JSON is expected".to_owned()
            } else {
                format!("the body is not acceptable JSON: {error}")
            };
            Problem::new(Code::InvalidJson, detail)
        })
}

/// A type with the JSON Schema (draft 2020-12) derived from it, compiled once.
pub struct Checked<T> {
    validator: jsonschema::Validator,
    known: Vec<String>,
    kind: std::marker::PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned + JsonSchema> Checked<T> {
    pub fn new() -> Checked<T> {
        let schema = schemars::schema_for!(T).to_value();
        let known = schema["properties"]
            .as_object()
            .map(|properties| properties.keys().cloned().collect())
            .unwrap_or_default();
        Checked {
            validator: jsonschema::draft202012::new(&schema)
                .expect("a schema derived from one of our own types is a schema"),
            known,
            kind: std::marker::PhantomData,
        }
    }

    /// The typed value, or every rule that `value` breaks. A member that is null counts as absent.
    pub fn read(&self, mut value: Value) -> Result<T, Vec<FieldError>> {
        if let Value::Object(members) = &mut value {
            members.retain(|_, member| !member.is_null());
        }
        if !self.validator.is_valid(&value) {
            return Err(self.broken_rules(&value));
        }
        serde_json::from_value(value).map_err(|error| vec![FieldError::new("", error.to_string())])
    }

    fn broken_rules(&self, value: &Value) -> Vec<FieldError> {
        let mut errors = Vec::new();
        for error in self.validator.iter_errors(value) {
            let at = error.instance_path().to_string();
            match error.kind() {
                ValidationErrorKind::AdditionalProperties { unexpected } => {
                    errors.extend(unexpected.iter().map(|name| {
                        let detail = if at.is_empty() {
                            format!("is not a known field; known are {}", self.known.join(", "))
                        } else {
                            "is not a known field".to_owned()
                        };
                        FieldError::new(format!("{at}/{}", escaped(name)), clipped(detail))
                    }));
                }
                ValidationErrorKind::Required { property } => {
                    let name = property.as_str().unwrap_or_default();
                    errors.push(FieldError::new(
                        format!("{at}/{}", escaped(name)),
                        "is required",
                    ));
                }
                _ => errors.push(FieldError::new(at, clipped(error.to_string()))),
            }
            if errors.len() >= ERRORS_MAX {
                break;
            }
        }
        errors.truncate(ERRORS_MAX);
        errors
    }
}

impl<T: DeserializeOwned + JsonSchema> Default for Checked<T> {
    fn default() -> Checked<T> {
        Checked::new()
    }
}

/// A key as a segment of a JSON pointer (RFC 6901, 3).
pub fn escaped(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

/// Long rules quote long values: the beginning says enough.
fn clipped(text: String) -> String {
    match text.char_indices().nth(DETAIL_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Builds a [`Value`] and refuses what [`serde_json`] would let pass.
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: Error>(&self) -> Result<usize, E> {
        if self.depth >= DEPTH_MAX {
            return Err(E::custom(format_args!(
                "it is nested deeper than {DEPTH_MAX} levels"
            )));
        }
        Ok(self.depth + 1)
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Strict { depth })? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let depth = self.deeper()?;
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if members.contains_key(&key) {
                return Err(A::Error::custom(format_args!(
                    "the key {key:?} stands twice"
                )));
            }
            let value = map.next_value_seed(Strict { depth })?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let problem = parse(text.as_bytes()).expect_err(text);
        assert_eq!(problem.body.code, "invalid_json");
        problem.body.detail
    }

    #[test]
    fn ordinary_json_is_read() {
        let text = r#"{"a": [1, -2, 0.5, true, null, "é \ud83d\ude00"], "b": {"c": {}}}"#;
        let expect: Value = serde_json::from_str(text).unwrap();
        assert_eq!(parse(text.as_bytes()), Ok(expect));
    }

    #[test]
    fn what_is_not_acceptable_is_named() {
        assert!(refused("").contains("empty"));
        assert!(refused("{\"a\": 1} x").contains("trailing"));
        assert!(
            refused(r#"{"a": 1, "b": {"a": 1, "a": 2}}"#).contains(r#"the key "a" stands twice"#)
        );
        assert!(refused(r#"{"text": "\ud83d"}"#).contains("line 1"));
        assert!(refused(r#"{"text": "\ude00"}"#).contains("surrogate"));
        assert!(refused("{'a': 1}").contains("column"));
        assert!(refused("1e999").contains("out of range"));
        assert!(parse(b"\"\xff\"").is_err());
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |n: usize| format!("{}1{}", "[".repeat(n), "]".repeat(n));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(refused(&nested(DEPTH_MAX + 1)).contains("nested deeper"));
        assert!(parse(nested(100_000).as_bytes()).is_err());
    }

    proptest::proptest! {
        /// What serde_json reads and we read is the same; garbage never panics.
        #[test]
        fn agrees_with_serde_json(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            if let Ok(value) = parse(&bytes) {
                proptest::prop_assert_eq!(serde_json::from_slice::<Value>(&bytes).ok(), Some(value));
            }
        }
    }
}

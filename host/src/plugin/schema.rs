//! The schema by which a plugin describes its configuration comes from the plugin, so it is hostile
//! until it is weighed: validation must end, soon, within a small stack. Knows JSON Schema and nothing
//! of components.

use std::collections::HashMap;

use jsonschema::PatternOptions;
use serde_json::Value;

/// Steps that a validation may take for one value: the schema with every reference written out.
const STEPS_MAX: u64 = 100_000;
/// Levels of it, references included: each is a frame or more of the validator's stack.
const LEVELS_MAX: usize = 64;
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// Refuses what would not end: references in a circle or to elsewhere, and schemas that grow without
/// bound when they are written out. Patterns run in time linear in the text.
pub(super) fn validator(text: &str) -> Result<jsonschema::Validator, String> {
    let schema: Value = serde_json::from_str(text).map_err(|e| e.to_string())?;
    let mut weighing = Weighing {
        root: &schema,
        known: HashMap::new(),
    };
    let Weight { steps, .. } = weighing.weight(&schema, 0)?;
    if steps > STEPS_MAX {
        return Err(format!(
            "written out it has {steps} values, more than {STEPS_MAX}"
        ));
    }
    let patterns = PatternOptions::regex()
        .size_limit(PATTERN_BYTES_MAX)
        .dfa_size_limit(PATTERN_BYTES_MAX);
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft202012)
        .with_pattern_options(patterns)
        .build(&schema)
        .map_err(|e| e.to_string())
}

/// What a value comes to with its references written out.
#[derive(Clone, Copy)]
struct Weight {
    steps: u64,
    levels: usize,
}

struct Weighing<'s> {
    root: &'s Value,
    /// What is known of the target of a reference; none while it is being weighed.
    known: HashMap<&'s str, Option<Weight>>,
}

impl<'s> Weighing<'s> {
    /// `level` is how deep the weighing itself is, so that it ends before its stack does.
    fn weight(&mut self, value: &'s Value, level: usize) -> Result<Weight, String> {
        let mut whole = Weight {
            steps: 1,
            levels: 1,
        };
        let mut add = |part: Weight| {
            whole.steps = whole.steps.saturating_add(part.steps);
            whole.levels = whole.levels.max(part.levels + 1);
        };
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match (key.as_str(), value) {
                        ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                            return Err(format!("{key} is not supported; write $ref"));
                        }
                        ("$id", Value::String(_)) if level > 0 => {
                            return Err("$id belongs to the top of the schema alone".into());
                        }
                        ("$ref", Value::String(target)) => add(self.target(target, level + 1)?),
                        _ => add(self.weight(value, level + 1)?),
                    }
                }
            }
            Value::Array(items) => {
                for item in items {
                    add(self.weight(item, level + 1)?);
                }
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        if level.max(whole.levels) > LEVELS_MAX {
            return Err(format!("it is nested more than {LEVELS_MAX} levels deep"));
        }
        Ok(whole)
    }

    fn target(&mut self, target: &'s str, level: usize) -> Result<Weight, String> {
        let shown: String = target.chars().take(80).collect();
        let pointer = target.strip_prefix('#');
        let found = pointer.and_then(|pointer| self.root.pointer(pointer));
        let Some(found) = found else {
            return Err(format!(
                "the reference {shown:?} leads to no place in this schema, as #/$defs/NAME does"
            ));
        };
        match self.known.get(target) {
            Some(Some(weight)) => Ok(*weight),
            Some(None) => Err(format!("the reference {shown:?} leads back to itself")),
            None if level > LEVELS_MAX => {
                Err(format!("it is nested more than {LEVELS_MAX} levels deep"))
            }
            None => {
                self.known.insert(target, None);
                let weight = self.weight(found, level)?;
                self.known.insert(target, Some(weight));
                Ok(weight)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        validator(&schema.to_string()).unwrap_err()
    }

    #[test]
    fn an_ordinary_schema_with_definitions_is_taken() {
        let schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$defs": { "name": { "type": "string", "pattern": "^[a-z]+$" } },
            "properties": { "a": { "$ref": "#/$defs/name" }, "b": { "items": { "$ref": "#/$defs/name" } } },
        });
        let validator = validator(&schema.to_string()).unwrap();
        assert!(validator.is_valid(&json!({ "a": "x", "b": ["y"] })));
        assert!(!validator.is_valid(&json!({ "b": ["Y"] })));
    }

    #[test]
    fn a_schema_that_leads_back_to_itself_is_refused() {
        assert!(refused(&json!({ "$ref": "#" })).contains("itself"));
        let circle = json!({ "$ref": "#/$defs/a", "$defs": {
            "a": { "allOf": [{ "$ref": "#/$defs/b" }] }, "b": { "anyOf": [{ "$ref": "#/$defs/a" }] } } });
        assert!(refused(&circle).contains("itself"));
        let dynamic = json!({ "$dynamicAnchor": "x", "allOf": [{ "$dynamicRef": "#x" }] });
        assert!(refused(&dynamic).contains("$dynamicRef"));
    }

    #[test]
    fn a_schema_that_multiplies_at_every_level_is_refused() {
        let mut defs = serde_json::Map::new();
        for n in 0..15 {
            let next = json!({ "$ref": format!("#/$defs/d{}", n + 1) });
            defs.insert(format!("d{n}"), json!({ "allOf": [next, next, next] }));
        }
        defs.insert("d15".into(), json!({ "type": "object" }));
        let bomb = json!({ "$defs": defs, "$ref": "#/$defs/d0" });
        let why = refused(&bomb);
        assert!(
            why.contains("written out") || why.contains("levels"),
            "{why}"
        );
    }

    #[test]
    fn a_long_chain_of_references_is_refused_in_whatever_order_it_stands() {
        for reversed in [false, true] {
            let mut defs = serde_json::Map::new();
            for n in 0..5_000 {
                let name = |n: usize| format!("d{:05}", if reversed { 5_000 - n } else { n });
                defs.insert(
                    name(n),
                    json!({ "$ref": format!("#/$defs/{}", name(n + 1)) }),
                );
            }
            defs.insert(if reversed { "d00000" } else { "d05000" }.into(), json!({}));
            let first = if reversed { "d05000" } else { "d00000" };
            let chain = json!({ "$defs": defs, "$ref": format!("#/$defs/{first}") });
            assert!(refused(&chain).contains("levels"));
        }
    }

    #[test]
    fn a_pattern_costs_time_in_proportion_to_the_text() {
        let evil = json!({ "properties": { "a": { "pattern": "^(a+)+$" } } });
        let validator = validator(&evil.to_string()).unwrap();
        assert!(!validator.is_valid(&json!({ "a": format!("{}!", "a".repeat(50_000)) })));
        let huge = json!({ "properties": { "a": { "pattern": "((a{1000}){1000}){1000}" } } });
        refused(&huge);
    }

    #[test]
    fn a_reference_to_elsewhere_is_refused() {
        assert!(refused(&json!({ "$ref": "https://example.com/x" })).contains("no place"));
        assert!(refused(&json!({ "$ref": "#/$defs/nothing" })).contains("no place"));
    }
}

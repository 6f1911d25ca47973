//! Where in a document an error is, as in `rules[1].limit`: found afterwards, by the line and the column that
//! serde_json tells. To keep count of the place while reading costs a third of a component's code.

/// The error's own text after its place in `json`.
pub(crate) fn placed(json: &str, error: &serde_json::Error) -> String {
    let place = place(json, offset(json, error.line(), error.column()));
    match place.is_empty() {
        true => error.to_string(),
        false => format!("{place}: {error}"),
    }
}

/// `line` counts from 1, `column` the octets of that line that were read.
fn offset(json: &str, line: usize, column: usize) -> usize {
    let before: usize = json
        .split_inclusive('\n')
        .take(line.saturating_sub(1))
        .map(str::len)
        .sum();
    before.saturating_add(column).min(json.len())
}

/// A container that is open.
enum Open<'a> {
    /// Under the key that was read last.
    Object { key: Option<&'a str>, wants: bool },
    /// At the element that began last.
    Array { index: Option<usize>, wants: bool },
}

/// Of the value or the key that was read last before `end`. `json` may be any text.
fn place(json: &str, end: usize) -> String {
    let octets = json.as_bytes();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while at < end {
        let octet = octets[at];
        let start = at;
        at += 1;
        match octet {
            b' ' | b'\t' | b'\n' | b'\r' | b':' => continue,
            b',' => match open.last_mut() {
                Some(Open::Object { wants, .. } | Open::Array { wants, .. }) => *wants = true,
                None => {}
            },
            b'}' | b']' => drop(open.pop()),
            _ => {
                let text = octet == b'"';
                if text {
                    at = after_string(octets, at);
                }
                match open.last_mut() {
                    Some(Open::Object { key, wants }) if *wants => {
                        *wants = false;
                        *key = json.get(start + 1..at.saturating_sub(1));
                    }
                    Some(Open::Array { index, wants }) if *wants => {
                        *wants = false;
                        *index = Some(index.map_or(0, |n| n + 1));
                    }
                    Some(_) | None => {}
                }
                match octet {
                    b'{' => open.push(Open::Object {
                        key: None,
                        wants: true,
                    }),
                    b'[' => open.push(Open::Array {
                        index: None,
                        wants: true,
                    }),
                    _ => {}
                }
            }
        }
    }
    let mut place = String::new();
    for container in &open {
        match container {
            Open::Object { key: Some(key), .. } => {
                place.push_str(if place.is_empty() { "" } else { "." });
                place.push_str(key);
            }
            Open::Array {
                index: Some(index), ..
            } => {
                place.push('[');
                place.push_str(&index.to_string());
                place.push(']');
            }
            Open::Object { key: None, .. } | Open::Array { index: None, .. } => {}
        }
    }
    place
}

/// The octet behind the string whose first one is at `at`.
fn after_string(octets: &[u8], mut at: usize) -> usize {
    while let Some(octet) = octets.get(at) {
        at += match octet {
            b'"' => return at + 1,
            b'\\' => 2,
            _ => 1,
        };
    }
    octets.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Document {
        #[serde(default)]
        rules: Vec<Rule>,
        #[serde(default)]
        by_name: std::collections::BTreeMap<String, Vec<Vec<u8>>>,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Rule {
        limit: u32,
        #[serde(default)]
        text: String,
    }

    #[track_caller]
    fn check(json: &str, expect: &str) {
        let error = serde_json::from_str::<Document>(json).expect_err("an error");
        let said = placed(json, &error);
        assert!(said.starts_with(expect), "{said}");
    }

    #[test]
    fn the_place_is_that_of_the_value() {
        check(
            r#"{"rules": [{"limit": 1}, {"limit": "a \" ] , {"}]}"#,
            "rules[1].limit: invalid type: string",
        );
        check(
            r#"{"rules": [{"limit": -1}]}"#,
            "rules[0].limit: invalid value",
        );
        check(
            "{\n \"rules\":\n [ {\"text\": \"}\",\n \"limit\": []}]}",
            "rules[0].limit: invalid type: sequence",
        );
        check(
            r#"{"by_name": {"x": [[1], [], [2, 3, 400]]}}"#,
            "by_name.x[2][2]: invalid value: integer `400`",
        );
    }

    #[test]
    fn what_is_missing_is_missing_in_its_container() {
        check(
            r#"{"rules": [{"limit": 1}, {}]}"#,
            "rules[1]: missing field `limit`",
        );
        check(
            r#"{"rules": [{"limit": 1, "more": 1}]}"#,
            "rules[0].more: unknown field",
        );
        check(r#"{"ruler": 1}"#, "ruler: unknown field");
        check("7", "invalid type: integer");
        check("", "EOF");
    }

    #[test]
    fn any_text_and_any_offset_will_do() {
        let texts = [
            "{\"a\":[{\"b\\",
            "]]}}",
            "\"é\u{1f600}",
            "[,,{:}\"",
            "é{\"é\":1",
        ];
        for text in texts {
            for end in 0..=text.len() {
                place(text, end);
                placed(
                    text,
                    &serde_json::from_str::<Document>(text).expect_err("no document"),
                );
            }
        }
    }
}

//! Finding values in what a carrier sends: JSON by pointer, header fields, form and query fields, plain text. All of
//! it is hostile: nothing here trusts a content type, a shape or a length.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;

use crate::config::{Condition, Source};

/// Values that a `*` finds at most.
const VALUES_MAX: usize = 1_000;
/// Fields of a form or a query that are read at most.
const FIELDS_MAX: usize = 256;

/// An answer or a call-back, parsed as far as somebody asks.
#[derive(Debug)]
pub struct Document<'a> {
    url: &'a str,
    headers: &'a [(String, String)],
    body: &'a [u8],
    json: OnceCell<Result<Value, String>>,
    fields: OnceCell<Vec<(String, String)>>,
}

impl<'a> Document<'a> {
    pub fn new(url: &'a str, headers: &'a [(String, String)], body: &'a [u8]) -> Self {
        Self {
            url,
            headers,
            body,
            json: OnceCell::new(),
            fields: OnceCell::new(),
        }
    }

    pub fn json(&self) -> Result<&Value, &str> {
        let parse =
            || serde_json::from_slice(self.body).map_err(|e| format!("the body is no JSON: {e}"));
        self.json
            .get_or_init(parse)
            .as_ref()
            .map_err(String::as_str)
    }

    /// What is wrong with the body, once somebody asked for its JSON.
    pub fn json_error(&self) -> Option<&str> {
        self.json
            .get()
            .and_then(|parsed| parsed.as_ref().err())
            .map(String::as_str)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
    }

    /// The form's fields, then the query's.
    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.fields.get_or_init(|| {
            let query = self.url.split_once('?').map_or("", |(_, query)| query);
            let query = query.split_once('#').map_or(query, |(query, _)| query);
            let form = String::from_utf8_lossy(self.body);
            form_fields(&form).chain(form_fields(query)).collect()
        });
        fields
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

fn form_fields(text: &str) -> impl Iterator<Item = (String, String)> {
    text.split('&')
        .filter(|pair| !pair.is_empty())
        .take(FIELDS_MAX)
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (percent_decode(name), percent_decode(value))
        })
}

/// WHATWG URL, 5.1: `+` is a space, a `%` without two hexadecimal digits stays, what is no UTF-8 is replaced.
fn percent_decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let decoded = match (first, after) {
            (b'%', [high, low, ..]) => hex_digit(*high)
                .zip(hex_digit(*low))
                .map(|(high, low)| high << 4 | low),
            _ => None,
        };
        match decoded {
            Some(octet) => {
                out.push(octet);
                rest = &after[2..];
            }
            None => {
                out.push(if first == b'+' { b' ' } else { first });
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

/// A checked `Source`.
#[derive(Clone, Debug)]
pub enum Locator {
    Json(Pointer),
    Header(String),
    Field(String),
    TextAfter(String),
}

impl Locator {
    pub fn new(source: &Source) -> Result<Self, String> {
        Ok(match source {
            Source::Json(pointer) => Locator::Json(Pointer::new(pointer)?),
            Source::Header(name) => Locator::Header(name.clone()),
            Source::Field(name) => Locator::Field(name.clone()),
            Source::TextAfter(words) => Locator::TextAfter(words.clone()),
        })
    }

    /// Every value found, in order, without those that are empty. `item` is what pointers are relative to; the whole
    /// body where there is none.
    pub fn all(&self, document: &Document<'_>, item: Option<&Value>) -> Vec<String> {
        let one = match self {
            Locator::Json(pointer) => {
                let root = item.or_else(|| document.json().ok());
                let found = root.map(|root| pointer.all(root)).unwrap_or_default();
                return found
                    .into_iter()
                    .filter_map(scalar)
                    .filter(|text| !text.is_empty())
                    .collect();
            }
            Locator::Header(name) => document.header(name).map(str::to_owned),
            Locator::Field(name) => document.field(name).map(str::to_owned),
            Locator::TextAfter(words) => text_after(document.body, words),
        };
        one.filter(|text| !text.is_empty()).into_iter().collect()
    }

    pub fn first(&self, document: &Document<'_>, item: Option<&Value>) -> Option<String> {
        self.all(document, item).into_iter().next()
    }
}

fn text_after(body: &[u8], words: &str) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start();
    let rest = if words.is_empty() {
        text
    } else {
        text.split_once(words)?.1
    };
    rest.lines().next().map(|line| line.trim().to_owned())
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.trim().to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A JSON Pointer (RFC 6901) in which `*` stands for every name or index.
#[derive(Clone, Debug)]
pub struct Pointer {
    steps: Vec<Step>,
}

#[derive(Clone, Debug)]
enum Step {
    Name(String),
    All,
}

impl Pointer {
    pub fn new(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self { steps: Vec::new() });
        }
        let rest = text.strip_prefix('/').ok_or_else(|| {
            format!("{text:?}: a JSON Pointer begins with '/', as in \"/messages/0/id\"")
        })?;
        let steps = rest.split('/').map(|step| match step {
            "*" => Step::All,
            name => Step::Name(name.replace("~1", "/").replace("~0", "~")),
        });
        Ok(Self {
            steps: steps.collect(),
        })
    }

    /// It points at the whole document.
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    pub fn all<'v>(&self, root: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![root], |found, step| {
            found
                .into_iter()
                .flat_map(|value| step.take(value))
                .take(VALUES_MAX)
                .collect()
        })
    }
}

impl Step {
    fn take<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        match (self, value) {
            (Step::All, Value::Array(items)) => items.iter().take(VALUES_MAX).collect(),
            (Step::All, Value::Object(members)) => members.values().take(VALUES_MAX).collect(),
            (Step::Name(name), Value::Object(members)) => members.get(name).into_iter().collect(),
            (Step::Name(name), Value::Array(items)) => name
                .parse::<usize>()
                .ok()
                .and_then(|index| items.get(index))
                .into_iter()
                .collect(),
            (_, Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => Vec::new(),
        }
    }
}

/// A checked `Condition`.
#[derive(Clone, Debug)]
pub struct Check {
    locator: Locator,
    one_of: Vec<String>,
    not: bool,
}

impl Check {
    /// The error names the field within a list called `at`.
    pub fn list(conditions: &[Condition], at: &str) -> Result<Vec<Check>, String> {
        let checks = conditions.iter().enumerate().map(|(i, condition)| {
            let locator = Locator::new(&condition.at).map_err(|e| format!("{at}[{i}].at: {e}"))?;
            Ok(Check {
                locator,
                one_of: condition.one_of.clone(),
                not: condition.not,
            })
        });
        checks.collect()
    }

    /// There is a value, and every value fits.
    pub fn every(&self, document: &Document<'_>, item: Option<&Value>) -> bool {
        let values = self.locator.all(document, item);
        (!values.is_empty() && values.iter().all(|value| self.fits(value))) != self.not
    }

    /// There is a value that fits.
    pub fn some(&self, document: &Document<'_>, item: Option<&Value>) -> bool {
        self.locator
            .all(document, item)
            .iter()
            .any(|value| self.fits(value))
            != self.not
    }

    fn fits(&self, value: &str) -> bool {
        self.one_of.is_empty()
            || self
                .one_of
                .iter()
                .any(|known| known.eq_ignore_ascii_case(value))
    }
}

/// What a person may be told of a carrier's words: one line, not too long, with long numbers masked, since carriers
/// like to repeat the recipient's, and with decimal fractions masked, since they like to tell prices and balances.
pub fn presentable(text: &str) -> Cow<'_, str> {
    let mut out = String::new();
    let mut digits = 0;
    let characters: Vec<char> = text.chars().take(PRESENTABLE_CHARACTERS_MAX).collect();
    let is_digit = |at: Option<usize>| {
        at.and_then(|at| characters.get(at))
            .is_some_and(char::is_ascii_digit)
    };
    let is_point = |at: usize| {
        characters.get(at).is_some_and(|c| matches!(c, '.' | ','))
            && is_digit(at.checked_sub(1))
            && is_digit(Some(at + 1))
    };
    let mut is_amount = false;
    for (at, c) in characters.iter().enumerate() {
        let in_number = c.is_ascii_digit() || is_point(at);
        // At the first digit of a number: whether a fraction comes.
        if in_number && !is_digit(at.checked_sub(1)) && !at.checked_sub(1).is_some_and(is_point) {
            let mut rest = (at..characters.len())
                .take_while(|at| characters[*at].is_ascii_digit() || is_point(*at));
            is_amount = rest.any(is_point);
        }
        digits = if c.is_ascii_digit() { digits + 1 } else { 0 };
        out.push(match c {
            c if c.is_control() => ' ',
            _ if c.is_ascii_digit() && (digits > VISIBLE_DIGITS_MAX || is_amount) => '*',
            c => *c,
        });
    }
    if out == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(out)
    }
}

const PRESENTABLE_CHARACTERS_MAX: usize = 160;
/// Of one run of digits; error codes are shorter, subscriber numbers longer.
const VISIBLE_DIGITS_MAX: usize = 6;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn found(source: Source, url: &str, headers: &[(String, String)], body: &str) -> Vec<String> {
        Locator::new(&source)
            .expect("a good source")
            .all(&Document::new(url, headers, body.as_bytes()), None)
    }

    #[test]
    fn json_values_by_pointer() {
        let body = json!({"messages": [{"id": "a", "n": 7}, {"id": " b ", "n": null}], "a/b": true, "": "empty name"}).to_string();
        for (pointer, expect) in [
            ("/messages/0/id", vec!["a"]),
            ("/messages/*/id", vec!["a", "b"]),
            ("/messages/*/n", vec!["7"]),
            ("/messages/5/id", vec![]),
            ("/messages/-1/id", vec![]),
            ("/a~1b", vec!["true"]),
            ("/", vec!["empty name"]),
            ("/messages", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(
                found(Source::Json(pointer.to_owned()), "", &[], &body),
                expect,
                "{pointer}"
            );
        }
    }

    #[test]
    fn fields_come_from_the_form_before_the_query() {
        let field = |name: &str, url, body| found(Source::Field(name.to_owned()), url, &[], body);
        assert_eq!(field("id", "/cb?id=query&x=1", "id=form"), ["form"]);
        assert_eq!(
            field("x", "/cb?id=query&x=a%20b+c%C3%A9#x=2", "id=form"),
            ["a b cé"]
        );
        assert_eq!(field("x", "/cb?x=100%&y", ""), ["100%"]);
        assert_eq!(field("y", "/cb?x=100%&y", ""), Vec::<String>::new());
    }

    #[test]
    fn headers_and_plain_text() {
        let headers = [("X-Message-Id".to_owned(), " 77 ".to_owned())];
        assert_eq!(
            found(Source::Header("x-message-id".to_owned()), "", &headers, ""),
            ["77"]
        );
        assert_eq!(
            found(
                Source::TextAfter("ID: ".to_owned()),
                "",
                &[],
                "OK\r\nID: abc-1\r\nbye"
            ),
            ["abc-1"]
        );
        assert_eq!(
            found(Source::TextAfter(String::new()), "", &[], "\nabc-1\n"),
            ["abc-1"]
        );
        assert_eq!(
            found(Source::TextAfter("ID:".to_owned()), "", &[], "ERR 4"),
            Vec::<String>::new()
        );
    }

    #[test]
    fn what_a_person_sees_has_no_subscriber_number_and_no_line_break() {
        assert_eq!(
            presentable("The number +447700900123 is\r\nbarred (21610)"),
            "The number +447700****** is  barred (21610)"
        );
        assert_eq!(
            presentable("Balance EUR 1,234.50 is below 0.0333, HTTP 402. Try 5 times, then 6."),
            "Balance EUR *,***.** is below *.****, HTTP 402. Try 5 times, then 6."
        );
        assert_eq!(
            presentable(&"x".repeat(500)).len(),
            PRESENTABLE_CHARACTERS_MAX
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_again(text in "\\PC{0,40}") {
            let mut encoded = String::new();
            crate::template::percent_encode(&mut encoded, &text);
            prop_assert_eq!(percent_decode(&encoded), text);
        }

        #[test]
        fn no_body_panics(body in proptest::collection::vec(any::<u8>(), 0..80), words in "[a-z]{0,2}") {
            let document = Document::new("/?a=%zz&%=1", &[], &body);
            for source in [Source::Json("/a/*/0".to_owned()), Source::Field("a".to_owned()), Source::TextAfter(words)] {
                let _ = Locator::new(&source).expect("a good source").all(&document, None);
            }
        }
    }
}

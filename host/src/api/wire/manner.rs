//! What a client says of how its message is to travel: encodings, message class, replacement, ports,
//! WAP push. Their JSON, and the step to the domain's types.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

use super::super::problem::FieldError;
use super::{hex, kept, one_of, timestamp};
use crate::clock::Timestamp;
use crate::domain::text::{EncodingWish, Language, TextWish, Udh, ports_element};
use crate::domain::wap_push::{
    Indication, IndicationAction, Loading, LoadingAction, Push, PushTime,
};
use crate::domain::{Body, SmParameters};

/// TP-Protocol-Identifier (3GPP TS 23.040, 9.2.3.9) before the first of seven types of
/// which a newer message takes the place of an older one from the same sender.
const REPLACE_TYPE_0: u8 = 0x40;

/// Octets instead of text, in hexadecimal.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BinaryRequest {
    /// A user data header without its length octet (3GPP TS 23.040, 9.2.3.24).
    #[serde(default)]
    #[schemars(length(max = 280))]
    pub udh: String,
    #[schemars(length(max = 71_400))]
    pub data: String,
    /// The program of the phone that the data is for; goes into the header.
    #[serde(default)]
    #[schemars(with = "PortsRequest")]
    pub ports: Option<PortsRequest>,
    /// Sent as it is; by the carrier's own for binary where absent.
    #[serde(default)]
    #[schemars(with = "u8")]
    pub data_coding: Option<u8>,
}

/// Application port addressing, 16 bit (3GPP TS 23.040, 9.2.3.24.4).
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PortsRequest {
    pub destination: u16,
    #[serde(default)]
    pub source: u16,
}

/// A WAP push: with `text` a service indication, without it a service loading.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PushRequest {
    #[schemars(length(min = 1, max = 2_048))]
    pub url: String,
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 1_024))]
    pub text: Option<String>,
    /// `signal-none`, `signal-low`, `signal-medium` (the default), `signal-high` or `delete` with a
    /// text; `execute-low` (the default), `execute-high` or `cache` without one.
    #[serde(default)]
    #[schemars(schema_with = "action_schema")]
    pub action: Option<String>,
    /// Names the indication, so that a later one can replace or delete it.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 128))]
    pub id: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64), extend("format" = "date-time"))]
    pub created: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    #[schemars(with = "String", length(min = 1, max = 64), extend("format" = "date-time"))]
    pub expires: Option<String>,
}

pub fn encoding_schema(_: &mut SchemaGenerator) -> Schema {
    one_of(&EncodingWish::ALL.map(EncodingWish::name))
}

pub fn languages_schema(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<_> = Language::ALL.iter().map(|l| l.name()).collect();
    json_schema!({
        "type": "array",
        "maxItems": names.len(),
        "items": { "type": "string", "enum": names },
    })
}

fn action_schema(_: &mut SchemaGenerator) -> Schema {
    let indication = IndicationAction::ALL.map(IndicationAction::name);
    let loading = LoadingAction::ALL.map(LoadingAction::name);
    let all: Vec<&str> = indication.into_iter().chain(loading).collect();
    one_of(&all)
}

/// The fields of a submission that say how it is to travel.
pub struct Manner {
    pub encoding: Option<String>,
    pub languages: Vec<String>,
    pub transliterate: Option<bool>,
    pub message_class: Option<u8>,
    pub flash: Option<bool>,
    pub replace_if_present: bool,
    pub replace_type: Option<u8>,
    pub protocol_id: Option<u8>,
}

/// The content of a submission, which is one of three.
pub struct Content {
    pub text: Option<String>,
    pub binary: Option<BinaryRequest>,
    pub push: Option<PushRequest>,
}

impl Content {
    /// The body, and a data_coding of its own where it has one.
    pub fn into_body(self, errors: &mut Vec<FieldError>) -> Option<(Body, Option<u8>)> {
        match (self.text, self.binary, self.push) {
            (Some(text), None, None) => Some((Body::Text(text), None)),
            (None, Some(binary), None) => binary.into_body(errors),
            (None, None, Some(push)) => push.into_body(errors).map(|body| (body, None)),
            (None, None, None) => {
                errors.push(FieldError::new("", "needs `text`, `binary` or `push`"));
                None
            }
            _ => {
                let rule =
                    "has more than one of `text`, `binary` and `push`; a message is one of them";
                errors.push(FieldError::new("", rule));
                None
            }
        }
    }
}

impl BinaryRequest {
    fn into_body(self, errors: &mut Vec<FieldError>) -> Option<(Body, Option<u8>)> {
        let udh = kept(errors, "/binary/udh", hex(&self.udh));
        let data = kept(errors, "/binary/data", hex(&self.data));
        let (mut udh, data) = udh.zip(data)?;
        if let Some(ports) = self.ports {
            let addressed =
                Udh::new(&udh).is_ok_and(|udh| udh.elements().any(|e| matches!(e.id, 0x04 | 0x05)));
            if addressed {
                let rule = "stand in udh already, in element 0x04 or 0x05";
                errors.push(FieldError::new("/binary/ports", rule));
                return None;
            }
            udh.splice(0..0, ports_element(ports.destination, ports.source));
        }
        Some((Body::Binary { udh, data }, self.data_coding))
    }
}

impl PushRequest {
    fn into_body(self, errors: &mut Vec<FieldError>) -> Option<Body> {
        let before = errors.len();
        let mut time = |field: &str, text: Option<String>| {
            let at = kept(errors, field, timestamp(&text?))?;
            kept(errors, field, push_time(at))
        };
        let created = time("/push/created", self.created);
        let expires = time("/push/expires", self.expires);
        let action = self.action.as_deref();
        let push = match self.text {
            Some(text) => {
                let known = IndicationAction::ALL.into_iter();
                let action = named(errors, action, known.map(|a| (a.name(), a)));
                Push::Indication(Indication {
                    url: self.url,
                    text,
                    id: self.id,
                    action,
                    created,
                    expires,
                })
            }
            None => {
                for (field, given) in [
                    ("/push/id", self.id.is_some()),
                    ("/push/created", created.is_some()),
                    ("/push/expires", expires.is_some()),
                ] {
                    if given {
                        let rule = "is for a service indication, which has a `text`";
                        errors.push(FieldError::new(field, rule));
                    }
                }
                let known = LoadingAction::ALL.into_iter();
                let action = named(errors, action, known.map(|a| (a.name(), a)));
                Push::Loading(Loading {
                    url: self.url,
                    action,
                })
            }
        };
        if errors.len() > before {
            return None;
        }
        push.body()
            .map_err(|e| {
                errors.push(FieldError::new(
                    format!("/push/{}", e.field()),
                    e.to_string(),
                ))
            })
            .ok()
    }
}

fn named<T: Default>(
    errors: &mut Vec<FieldError>,
    action: Option<&str>,
    known: impl Iterator<Item = (&'static str, T)> + Clone,
) -> T {
    let Some(action) = action else {
        return T::default();
    };
    match known.clone().find(|(name, _)| *name == action) {
        Some((_, found)) => found,
        None => {
            let names: Vec<_> = known.map(|(name, _)| name).collect();
            let rule = format!("is none of {} here", names.join(", "));
            errors.push(FieldError::new("/push/action", rule));
            T::default()
        }
    }
}

fn push_time(at: Timestamp) -> Result<PushTime, &'static str> {
    const RULE: &str = "lies beyond the year 9999";
    let millis = i64::try_from(at.millis()).map_err(|_| RULE)?;
    let at = jiff::Timestamp::from_millisecond(millis).map_err(|_| RULE)?;
    let at = at.to_zoned(jiff::tz::TimeZone::UTC);
    let digits = |n: i8| u8::try_from(n).unwrap_or(0);
    let rest = [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(digits);
    let year = u16::try_from(at.year()).map_err(|_| RULE)?;
    PushTime::new(year, rest).ok_or(RULE)
}

impl Manner {
    /// `is_text`, `data_coding`: of the body.
    pub fn into_parameters(
        self,
        is_text: bool,
        data_coding: Option<u8>,
        errors: &mut Vec<FieldError>,
    ) -> SmParameters {
        if !is_text {
            for (field, given) in [
                ("/encoding", self.encoding.is_some()),
                ("/languages", !self.languages.is_empty()),
                ("/transliterate", self.transliterate.is_some()),
            ] {
                if given {
                    errors.push(FieldError::new(field, "is for a `text`"));
                }
            }
        }
        let message_class = match (self.flash, self.message_class) {
            (Some(true), Some(1..)) => {
                let rule = "is the message class 0, and `message_class` says another";
                errors.push(FieldError::new("/flash", rule));
                None
            }
            (Some(true), _) => Some(0),
            (Some(false) | None, class) => class,
        };
        if message_class.is_some() && data_coding.is_some() {
            let rule = "cannot be told beside `binary.data_coding`, which says the class itself";
            errors.push(FieldError::new("/message_class", rule));
        }
        if self.replace_type.is_some() && self.protocol_id.is_some() {
            let rule = "is a protocol_id by another name; give one of the two";
            errors.push(FieldError::new("/replace_type", rule));
        }
        SmParameters {
            protocol_id: self
                .replace_type
                .map(|kind| REPLACE_TYPE_0 + kind)
                .or(self.protocol_id),
            replace_if_present: self.replace_if_present,
            message_class,
            data_coding,
            text: TextWish {
                encoding: self.encoding.as_deref().and_then(EncodingWish::from_name),
                languages: self
                    .languages
                    .iter()
                    .filter_map(|name| Language::from_name(name))
                    .collect(),
                transliterate: self.transliterate,
            },
            ..SmParameters::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::Requests;
    use super::*;
    use crate::pipeline::Submission;

    fn read(more: Value) -> Result<Submission, Vec<String>> {
        let mut request = json!({ "to": "+447700900123", "from": "Acme" });
        let (Value::Object(request_fields), Value::Object(more)) = (&mut request, more) else {
            panic!("objects");
        };
        request_fields.extend(more);
        let numbers = crate::pipeline::numbers::Numbers::new([]).unwrap();
        let read = Requests::default().submission(request, &numbers, &"acme".into());
        read.map_err(|problem| {
            let mut pointers: Vec<_> = problem.body.errors.into_iter().map(|e| e.pointer).collect();
            pointers.sort();
            pointers
        })
    }

    #[test]
    fn encodings_and_languages_are_read() {
        let submission = read(json!({
            "text": "merhaba", "encoding": "national", "languages": ["turkish"], "transliterate": true
        }))
        .unwrap();
        let wish = submission.sm.text;
        assert_eq!(wish.encoding, Some(EncodingWish::National));
        assert!(wish.languages.has(Language::Turkish) && !wish.languages.has(Language::Urdu));
        assert_eq!(wish.transliterate, Some(true));
        assert_eq!(
            read(json!({ "text": "x", "encoding": "utf8" })).unwrap_err(),
            ["/encoding"]
        );
        assert_eq!(
            read(json!({ "text": "x", "languages": ["klingon"] })).unwrap_err(),
            ["/languages/0"]
        );
        assert_eq!(
            read(json!({ "binary": { "data": "00" }, "encoding": "ucs2", "transliterate": false }))
                .unwrap_err(),
            ["/encoding", "/transliterate"]
        );
    }

    #[test]
    fn flash_and_replacement_are_parameters_of_submit_sm() {
        let sm = read(
            json!({ "text": "x", "flash": true, "replace_type": 3, "replace_if_present": true }),
        )
        .unwrap()
        .sm;
        assert_eq!(
            (sm.message_class, sm.protocol_id, sm.replace_if_present),
            (Some(0), Some(0x43), true)
        );
        let broken = |more| read(more).unwrap_err();
        assert_eq!(
            broken(json!({ "text": "x", "flash": true, "message_class": 1 })),
            ["/flash"]
        );
        assert_eq!(
            broken(json!({ "text": "x", "message_class": 4 })),
            ["/message_class"]
        );
        assert_eq!(
            broken(json!({ "text": "x", "replace_type": 8 })),
            ["/replace_type"]
        );
        assert_eq!(
            broken(json!({ "text": "x", "replace_type": 1, "protocol_id": 65 })),
            ["/replace_type"]
        );
        let class = json!({ "binary": { "data": "00", "data_coding": 245 }, "message_class": 1 });
        assert_eq!(broken(class), ["/message_class"]);
    }

    #[test]
    fn ports_are_an_element_of_the_header() {
        let submission = read(json!({ "binary": {
            "data": "AA", "udh": "0b0101", "ports": { "destination": 2948, "source": 9200 }
        } }))
        .unwrap();
        let udh = vec![5, 4, 0x0B, 0x84, 0x23, 0xF0, 0x0B, 1, 1];
        assert_eq!(
            submission.body,
            Body::Binary {
                udh,
                data: vec![0xAA]
            }
        );
        let twice = json!({ "binary": {
            "data": "AA", "udh": "050400010002", "ports": { "destination": 1 }
        } });
        assert_eq!(read(twice).unwrap_err(), ["/binary/ports"]);
        let far = json!({ "binary": { "data": "AA", "ports": { "destination": 65_536 } } });
        assert_eq!(read(far).unwrap_err(), ["/binary/ports/destination"]);
    }

    #[test]
    fn a_push_is_data_for_the_push_port() {
        let submission = read(json!({ "push": {
            "url": "http://www.example.com/a", "text": "News", "action": "signal-high",
            "created": "2026-11-22T09:00:00+01:00", "expires": "2026-12-01T00:00:00Z"
        } }))
        .unwrap();
        let Body::Binary { udh, data } = submission.body else {
            panic!("text");
        };
        assert_eq!(udh, [5, 4, 0x0B, 0x84, 0x23, 0xF0]);
        // created, and expires without its zeros.
        let created: &[u8] = &[0x0A, 0xC3, 0x05, 0x20, 0x26, 0x11, 0x22, 0x08];
        let expires: &[u8] = &[0x10, 0xC3, 0x04, 0x20, 0x26, 0x12, 0x01];
        assert!(
            data.windows(created.len()).any(|w| w == created),
            "{data:02x?}"
        );
        assert!(
            data.windows(expires.len()).any(|w| w == expires),
            "{data:02x?}"
        );

        let broken = |push: Value| read(json!({ "push": push })).unwrap_err();
        assert_eq!(
            broken(json!({ "url": "http://a", "action": "signal-low" })),
            ["/push/action"]
        );
        assert_eq!(
            broken(json!({ "url": "http://a", "text": "x", "action": "cache" })),
            ["/push/action"]
        );
        assert_eq!(
            broken(json!({ "url": "http://a", "id": "1" })),
            ["/push/id"]
        );
        assert_eq!(broken(json!({ "url": "http://a\u{0}" })), ["/push/url"]);
        assert_eq!(
            broken(json!({ "url": "http://a", "text": "x", "created": "now" })),
            ["/push/created"]
        );
        assert_eq!(
            read(json!({ "text": "x", "push": { "url": "http://a" } })).unwrap_err(),
            [""]
        );
    }
}

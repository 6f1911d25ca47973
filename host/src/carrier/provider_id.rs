//! The provider's own id of a text from a handset, as its call-back has it: what a repeat is known by,
//! whenever it comes and however it is signed.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::verify::{Scheme, form_fields, header, query_fields};
use crate::plugin::HttpRequest;

/// A longer id is known by its hash.
const ID_OCTETS_MAX: usize = 128;
/// Ids of one call-back that are read.
const IDS_MAX: usize = 1_000;

/// Where ids stand; the first place that has any counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdPlaces(Vec<IdPlace>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum IdPlace {
    /// A field of the query or the form.
    Field(String),
    /// A JSON pointer (RFC 6901), in which `*` is every element of an array.
    Pointer(Vec<String>),
}

impl IdPlaces {
    /// Names of fields, and JSON pointers, which begin with a slash. The error names the rule.
    pub fn parse(places: &[String]) -> Result<IdPlaces, String> {
        let place = |text: &String| match text.strip_prefix('/') {
            _ if text.is_empty() => Err("an empty place".to_owned()),
            None => Ok(IdPlace::Field(text.clone())),
            Some(pointer) => {
                let escaped = |step: &str| step.replace("~1", "/").replace("~0", "~");
                let steps: Vec<String> = pointer.split('/').map(escaped).collect();
                if steps.iter().any(String::is_empty) {
                    return Err(format!("{text:?} has an empty step"));
                }
                Ok(IdPlace::Pointer(steps))
            }
        };
        places
            .iter()
            .map(place)
            .collect::<Result<_, _>>()
            .map(IdPlaces)
    }

    /// Where providers who sign so have them, by their documentation.
    pub fn of(scheme: Option<&Scheme>) -> IdPlaces {
        let names: &[&str] = match scheme {
            // <https://www.twilio.com/docs/messaging/guides/webhook-request>
            Some(Scheme::Twilio) => &["MessageSid"],
            // <https://developer.vonage.com/en/api/sms#inbound-sms>
            Some(Scheme::Vonage(_)) => &["messageId", "/messageId"],
            // <https://developer.vonage.com/en/api/messages-olympus#webhooks>
            Some(Scheme::Jwt) => &["/message_uuid", "messageId", "/messageId"],
            Some(Scheme::Hmac(_) | Scheme::Shared(_) | Scheme::Basic) | None => &[],
        };
        let names: Vec<String> = names.iter().map(|n| (*n).to_owned()).collect();
        IdPlaces::parse(&names).unwrap_or_default()
    }

    /// The ids of a call-back, in their order.
    pub fn find(&self, request: &HttpRequest) -> Vec<String> {
        let reads_json = self.0.iter().any(|p| matches!(p, IdPlace::Pointer(_)));
        let json = reads_json.then(|| serde_json::from_slice::<Value>(&request.body));
        let json = json.and_then(Result::ok);
        let mut found = self.0.iter().map(|place| match place {
            IdPlace::Field(name) => field(request, name).into_iter().collect(),
            IdPlace::Pointer(steps) => {
                let mut ids = Vec::new();
                if let Some(json) = &json {
                    follow(json, steps, &mut ids);
                }
                ids
            }
        });
        found
            .find(|ids: &Vec<String>| !ids.is_empty())
            .unwrap_or_default()
    }
}

fn field(request: &HttpRequest, name: &str) -> Option<String> {
    let of = |fields: Vec<(String, String)>| {
        let mut fields = fields.into_iter().filter(|(known, _)| known == name);
        fields.next().and_then(|(_, value)| known_by(&value))
    };
    let is_form = header(request, "content-type")
        .is_some_and(|t| t.starts_with("application/x-www-form-urlencoded"));
    let in_query = query_fields(request).ok().and_then(of);
    in_query.or_else(|| {
        is_form
            .then(|| form_fields(&request.body).ok().and_then(of))
            .flatten()
    })
}

fn follow(value: &Value, steps: &[String], ids: &mut Vec<String>) {
    if ids.len() >= IDS_MAX {
        return;
    }
    match (value, steps) {
        (Value::String(id), []) => ids.extend(known_by(id)),
        (Value::Number(id), []) => ids.extend(known_by(&id.to_string())),
        (Value::Array(all), [star, rest @ ..]) if star == "*" => {
            all.iter().for_each(|one| follow(one, rest, ids));
        }
        (Value::Array(all), [step, rest @ ..]) => {
            let one = step.parse().ok().and_then(|n: usize| all.get(n));
            one.into_iter().for_each(|one| follow(one, rest, ids));
        }
        (Value::Object(members), [step, rest @ ..]) => {
            let one = members.get(step);
            one.into_iter().for_each(|one| follow(one, rest, ids));
        }
        _ => {}
    }
}

fn known_by(id: &str) -> Option<String> {
    match id.trim() {
        "" => None,
        id if id.len() <= ID_OCTETS_MAX && !id.contains('\0') => Some(id.to_owned()),
        long => {
            let hash = Sha256::digest(long.as_bytes());
            Some(hash.iter().map(|octet| format!("{octet:02x}")).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(url: &str, kind: &str, body: &str) -> HttpRequest {
        HttpRequest {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: vec![("Content-Type".to_owned(), kind.to_owned())],
            body: body.as_bytes().to_vec(),
        }
    }

    fn found(places: &[&str], request: &HttpRequest) -> Vec<String> {
        let places: Vec<String> = places.iter().map(|p| (*p).to_owned()).collect();
        IdPlaces::parse(&places).unwrap().find(request)
    }

    #[test]
    fn an_id_is_found_in_query_form_and_json() {
        const FORM: &str = "application/x-www-form-urlencoded";
        let query = request("/c?id=1&x=2", "text/plain", "id=3");
        assert_eq!(found(&["id"], &query), ["1"]);
        let form = request("/c", FORM, "From=%2B44&MessageSid=SM9");
        assert_eq!(found(&["MessageSid"], &form), ["SM9"]);
        let body = r#"{"results": [{"messageId": "a"}, {"x": 1}, {"messageId": 17}], "a/b": "z"}"#;
        let json = request("/c", "application/json", body);
        assert_eq!(found(&["/results/*/messageId"], &json), ["a", "17"]);
        assert_eq!(found(&["/results/2/messageId"], &json), ["17"]);
        assert_eq!(found(&["/a~1b"], &json), ["z"]);
        assert_eq!(
            found(&["messageId", "/none", "/results/0/messageId"], &json),
            ["a"]
        );
    }

    #[test]
    fn what_is_no_id_is_none_and_what_is_long_is_known_by_its_hash() {
        let json = |body: &str| request("/c", "application/json", body);
        for body in [
            "",
            "[",
            r#"{"id": null}"#,
            r#"{"id": {"id": 1}}"#,
            r#"{"id": " "}"#,
        ] {
            assert!(found(&["/id"], &json(body)).is_empty(), "{body}");
        }
        let long = |c: &str| json(&format!(r#"{{"id": "{}"}}"#, c.repeat(5_000)));
        let ids = [found(&["/id"], &long("a")), found(&["/id"], &long("b"))];
        assert!(ids.iter().all(|i| i[0].len() == 64) && ids[0] != ids[1]);
        let many = format!("[{}]", vec!["1"; 5_000].join(","));
        assert_eq!(found(&["/*"], &json(&many)).len(), IDS_MAX);
    }

    #[test]
    fn a_place_has_a_name() {
        for bad in ["", "/", "/a//b"] {
            assert!(IdPlaces::parse(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}

//! From a message to an HTTP request: the configured request compiled, with every rule about where which placeholder
//! may stand, and its rendering. It sends nothing and knows nothing of answers.

use heliograph_plugin::HttpRequest;
use serde_json::Value;

use crate::config::{BodyConfig, Method, RequestConfig};
use crate::template::{Constants, Piece, Slot, Template, Values, json_escape, percent_encode};

/// Servers commonly take 8 KiB of request line; a text that needs more belongs into a body.
const URL_OCTETS_MAX: usize = 8_000;

/// Fields that the host or HTTP itself sets.
const HOST_HEADERS: [&str; 6] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "te",
    "upgrade",
];

#[derive(Clone, Debug)]
pub struct RequestTemplate {
    method: &'static str,
    url: Template,
    url_has_query: bool,
    /// Names are percent-encoded already.
    query: Vec<(String, Template)>,
    headers: Vec<(String, Template)>,
    body: Option<BodyTemplate>,
    omit_empty: bool,
}

#[derive(Clone, Debug)]
enum BodyTemplate {
    Json(Node),
    Form(Vec<(String, Template)>),
}

/// A JSON value whose strings are templates. Names and structure are the operator's and never change.
#[derive(Clone, Debug)]
enum Node {
    /// null, true, false or a number, as JSON.
    Fixed(String),
    Text(Template),
    Number(Slot),
    Array(Vec<Node>),
    /// Names are JSON-escaped already.
    Object(Vec<(String, Node)>),
}

impl RequestTemplate {
    /// The error names the field within `config`.
    pub fn new(config: &RequestConfig, constants: Constants<'_>) -> Result<Self, String> {
        if config.method == Method::Get && config.body.is_some() {
            return Err("body: a GET has none; use query, or method POST".to_owned());
        }
        let headers = config
            .headers
            .iter()
            .map(|(name, text)| {
                header(name, text, constants).map_err(|e| format!("headers.{name}: {e}"))
            })
            .collect::<Result<_, _>>()?;
        let body = config
            .body
            .as_ref()
            .map(|body| -> Result<BodyTemplate, String> {
                match body {
                    BodyConfig::Json(value) => {
                        Ok(BodyTemplate::Json(node(value, "body.json", constants)?))
                    }
                    BodyConfig::Form(fields) => {
                        Ok(BodyTemplate::Form(pairs(fields, "body.form", constants)?))
                    }
                }
            });
        Ok(Self {
            method: match config.method {
                Method::Get => "GET",
                Method::Post => "POST",
                Method::Put => "PUT",
            },
            url: url(&config.url, constants).map_err(|e| format!("url: {e}"))?,
            url_has_query: config.url.contains('?'),
            query: pairs(&config.query, "query", constants)?,
            headers,
            body: body.transpose()?,
            omit_empty: config.omit_empty,
        })
    }

    /// The error says what about the message does not fit this carrier.
    pub fn render(&self, values: &Values<'_>) -> Result<HttpRequest, String> {
        let mut url = String::with_capacity(256);
        self.url.write_url(&mut url, values);
        let mut query = String::new();
        self.write_pairs(&mut query, &self.query, values);
        if !query.is_empty() {
            url.push(if self.url_has_query { '&' } else { '?' });
            url.push_str(&query);
        }
        if url.len() > URL_OCTETS_MAX {
            return Err(format!(
                "its URL has {} octets; at most {URL_OCTETS_MAX} fit",
                url.len()
            ));
        }
        let mut headers: Vec<(String, String)> = self
            .headers
            .iter()
            .map(|(name, template)| {
                let mut value = String::new();
                template.write_header(&mut value, values);
                (name.clone(), value)
            })
            .collect();
        let mut body = String::new();
        let content_type = match &self.body {
            None => None,
            Some(BodyTemplate::Json(node)) => {
                node.write(&mut body, values, self.omit_empty)?;
                Some("application/json")
            }
            Some(BodyTemplate::Form(fields)) => {
                self.write_pairs(&mut body, fields, values);
                Some("application/x-www-form-urlencoded")
            }
        };
        if let Some(content_type) = content_type
            && !headers.iter().any(|(name, _)| name == "content-type")
        {
            headers.push(("content-type".to_owned(), content_type.to_owned()));
        }
        Ok(HttpRequest {
            method: self.method.to_owned(),
            url,
            headers,
            body: body.into_bytes(),
        })
    }

    fn write_pairs(&self, out: &mut String, pairs: &[(String, Template)], values: &Values<'_>) {
        for (name, template) in pairs {
            if self.omit_empty && template.is_vacant(values) {
                continue;
            }
            if !out.is_empty() {
                out.push('&');
            }
            out.push_str(name);
            out.push('=');
            template.write_encoded(out, values);
        }
    }
}

impl Node {
    fn write(&self, out: &mut String, values: &Values<'_>, omit_empty: bool) -> Result<(), String> {
        match self {
            Node::Fixed(json) => out.push_str(json),
            Node::Text(template) => template.write_json(out, values),
            Node::Number(slot) => out.push_str(&number(&values.get(slot))?),
            Node::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    out.push_str(if i == 0 { "" } else { "," });
                    item.write(out, values, omit_empty)?;
                }
                out.push(']');
            }
            Node::Object(members) => {
                out.push('{');
                let mut separator = "";
                for (name, member) in members {
                    if omit_empty && member.is_vacant(values) {
                        continue;
                    }
                    out.push_str(separator);
                    separator = ",";
                    out.push('"');
                    out.push_str(name);
                    out.push_str("\":");
                    member.write(out, values, omit_empty)?;
                }
                out.push('}');
            }
        }
        Ok(())
    }

    fn is_vacant(&self, values: &Values<'_>) -> bool {
        match self {
            Node::Text(template) => template.is_vacant(values),
            Node::Number(slot) => values.get(slot).is_empty(),
            Node::Fixed(_) | Node::Array(_) | Node::Object(_) => false,
        }
    }
}

/// A whole JSON number (RFC 8259, 6): digits without a leading zero.
fn number(text: &str) -> Result<String, String> {
    let whole = text.bytes().all(|b| b.is_ascii_digit())
        && !text.is_empty()
        && (text == "0" || !text.starts_with('0'));
    if whole {
        Ok(text.to_owned())
    } else {
        Err("a value that this carrier wants as a number is none".to_owned())
    }
}

fn node(value: &Value, at: &str, constants: Constants<'_>) -> Result<Node, String> {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(Node::Fixed(value.to_string())),
        Value::String(text) => leaf(text, constants).map_err(|e| format!("{at}: {e}")),
        Value::Array(items) => {
            let items = items
                .iter()
                .enumerate()
                .map(|(i, item)| node(item, &format!("{at}/{i}"), constants));
            items.collect::<Result<_, _>>().map(Node::Array)
        }
        Value::Object(members) => {
            let members = members.iter().map(|(name, member)| {
                let at = format!("{at}/{name}");
                if name.contains('{') {
                    return Err(format!(
                        "{at}: placeholders belong into values, not into names"
                    ));
                }
                let mut escaped = String::new();
                json_escape(&mut escaped, name);
                Ok((escaped, node(member, &at, constants)?))
            });
            members.collect::<Result<_, _>>().map(Node::Object)
        }
    }
}

fn leaf(text: &str, constants: Constants<'_>) -> Result<Node, String> {
    let inner = text
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix(":number}"));
    let Some(name) = inner else {
        return Template::parse(text, constants).map(Node::Text);
    };
    let template = Template::parse(&format!("{{{name}}}"), constants)?;
    match template.slots().next() {
        Some(slot) if !slot.is_free_text() => Ok(Node::Number(slot.clone())),
        Some(_) | None => Err(format!("{{{name}}} is never a number")),
    }
}

fn pairs<'a>(
    fields: impl IntoIterator<Item = (&'a String, &'a String)>,
    at: &str,
    constants: Constants<'_>,
) -> Result<Vec<(String, Template)>, String> {
    fields
        .into_iter()
        .map(|(name, text)| {
            let mut encoded = String::new();
            percent_encode(&mut encoded, name);
            let template =
                Template::parse(text, constants).map_err(|e| format!("{at}.{name}: {e}"))?;
            Ok((encoded, template))
        })
        .collect()
}

fn header(name: &str, text: &str, constants: Constants<'_>) -> Result<(String, Template), String> {
    let lower = name.to_ascii_lowercase();
    let is_token = !lower.is_empty()
        && lower
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b));
    if !is_token {
        return Err("this is no header name (RFC 9110, 5.1)".to_owned());
    }
    if HOST_HEADERS.contains(&lower.as_str()) {
        return Err("this field is set by the host".to_owned());
    }
    let template = Template::parse(text, constants)?;
    if let Some(slot) = template.slots().find(|slot| slot.is_free_text()) {
        return Err(format!(
            "{{{slot}}} is free text, which belongs into the query or the body"
        ));
    }
    let mut rendered_literals = template.pieces.iter().filter_map(|piece| match piece {
        Piece::Literal(text) => Some(text),
        Piece::Secret(_) | Piece::Slot(_) => None,
    });
    if rendered_literals.any(|text| text.bytes().any(|b| !matches!(b, b' '..=b'~'))) {
        return Err("a header value is visible ASCII".to_owned());
    }
    Ok((lower, template))
}

fn url(text: &str, constants: Constants<'_>) -> Result<Template, String> {
    let after_scheme = text
        .strip_prefix("https://")
        .or_else(|| text.strip_prefix("http://"));
    let rest = after_scheme.ok_or("it must begin with https:// or http://")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, rest) = rest.split_at(end);
    if authority.is_empty()
        || !authority
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b))
    {
        return Err(format!(
            "{authority:?} is no host name; it takes neither placeholders nor credentials"
        ));
    }
    let (path, query) = rest.split_at(rest.find('?').unwrap_or(rest.len()));
    let (path, query) = (
        Template::parse(path, constants)?,
        Template::parse(query, constants)?,
    );
    if path.has_secret() {
        return Err(
            "secrets may stand in the query, a header or the body, not in the path".to_owned(),
        );
    }
    if let Some(slot) = path.slots().find(|slot| slot.is_free_text()) {
        return Err(format!(
            "{{{slot}}} is free text, which belongs into the query or the body, not into the path"
        ));
    }
    let mut template = Template::default();
    let scheme_and_host = &text[..text.len() - rest.len()];
    template
        .pieces
        .push(Piece::Literal(scheme_and_host.to_owned()));
    template.pieces.extend(path.pieces);
    template.pieces.extend(query.pieces);
    let is_syntax = |b: u8| b.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(&b);
    for piece in &template.pieces {
        if let Piece::Literal(text) = piece
            && let Some(bad) = text
                .chars()
                .find(|c| !u8::try_from(*c).is_ok_and(is_syntax))
        {
            return Err(format!(
                "{bad:?} has no place in a URL; percent-encode it (RFC 3986)"
            ));
        }
    }
    Ok(template)
}

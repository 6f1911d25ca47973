//! Text with placeholders: parsed and checked once, written out for each message with the escaping of the place it
//! stands in. What a message brings never becomes syntax: not JSON, not a URL, not a header, not a `{secret:NAME}`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use heliograph_plugin::{Address, Alphabet, Body, Message, Timestamp, TrafficClass, TypeOfNumber};

use crate::config::{Class, Encoding};
use crate::time;

/// A value that a message brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    To,
    ToPlus,
    From,
    FromPlus,
    Text,
    TextUcs2Hex,
    Id,
    Account,
    Reference,
    Class,
    Segments,
    Encoding,
    ValiditySeconds,
    ValidityMinutes,
    ExpiresAt,
    UdhHex,
    UdhWithLengthHex,
    DataHex,
    Metadata(String),
}

const SLOTS: [(&str, Slot); 18] = [
    ("to", Slot::To),
    ("to_plus", Slot::ToPlus),
    ("from", Slot::From),
    ("from_plus", Slot::FromPlus),
    ("text", Slot::Text),
    ("text_ucs2_hex", Slot::TextUcs2Hex),
    ("id", Slot::Id),
    ("account", Slot::Account),
    ("reference", Slot::Reference),
    ("class", Slot::Class),
    ("segments", Slot::Segments),
    ("encoding", Slot::Encoding),
    ("validity_seconds", Slot::ValiditySeconds),
    ("validity_minutes", Slot::ValidityMinutes),
    ("expires_at", Slot::ExpiresAt),
    ("udh_hex", Slot::UdhHex),
    ("udh_with_length_hex", Slot::UdhWithLengthHex),
    ("data_hex", Slot::DataHex),
];

impl Slot {
    fn named(name: &str) -> Option<Slot> {
        if let Some(key) = name.strip_prefix("metadata.") {
            return (!key.is_empty()).then(|| Slot::Metadata(key.to_owned()));
        }
        SLOTS
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, slot)| slot.clone())
    }

    /// Whoever submits the message chooses it freely: it belongs into no header and no path.
    pub fn is_free_text(&self) -> bool {
        match self {
            Slot::From | Slot::FromPlus | Slot::Text | Slot::Reference | Slot::Metadata(_) => true,
            Slot::To
            | Slot::ToPlus
            | Slot::TextUcs2Hex
            | Slot::Id
            | Slot::Account
            | Slot::Class
            | Slot::Segments
            | Slot::Encoding
            | Slot::ValiditySeconds
            | Slot::ValidityMinutes
            | Slot::ExpiresAt
            | Slot::UdhHex
            | Slot::UdhWithLengthHex
            | Slot::DataHex => false,
        }
    }
}

/// As it is written between braces.
impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Slot::Metadata(key) => write!(f, "metadata.{key}"),
            known => f.write_str(
                SLOTS
                    .iter()
                    .find(|(_, slot)| slot == known)
                    .map_or("", |(name, _)| name),
            ),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    Literal(String),
    /// Filled in by the host; written as `{secret:NAME}`.
    Secret(String),
    Slot(Slot),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    pub pieces: Vec<Piece>,
}

/// What the configuration itself fills in, once.
#[derive(Clone, Copy, Debug)]
pub struct Constants<'a> {
    pub variables: &'a BTreeMap<String, String>,
    pub callback_url: Option<&'a str>,
}

impl Template {
    pub fn parse(text: &str, constants: Constants<'_>) -> Result<Template, String> {
        let mut template = Template::default();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            template.literal(&rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                template.literal("{");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                template.literal("}");
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after
                    .split_once('}')
                    .ok_or("a '{' is not closed; write '{{' for the brace itself")?;
                template.placeholder(name, constants)?;
                rest = after;
            } else {
                return Err("a '}' closes nothing; write '}}' for the brace itself".to_owned());
            }
        }
        template.literal(rest);
        Ok(template)
    }

    fn literal(&mut self, text: &str) {
        match self.pieces.last_mut() {
            _ if text.is_empty() => {}
            Some(Piece::Literal(before)) => before.push_str(text),
            Some(Piece::Secret(_) | Piece::Slot(_)) | None => {
                self.pieces.push(Piece::Literal(text.to_owned()))
            }
        }
    }

    fn placeholder(&mut self, name: &str, constants: Constants<'_>) -> Result<(), String> {
        if let Some(secret) = name.strip_prefix("secret:") {
            if secret.is_empty()
                || !secret
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b))
            {
                return Err(format!(
                    "{{{name}}}: a secret's name is letters, digits, '_', '.' and '-'"
                ));
            }
            self.pieces.push(Piece::Secret(secret.to_owned()));
        } else if let Some(variable) = name.strip_prefix("var.") {
            let value = constants
                .variables
                .get(variable)
                .ok_or_else(|| format!("{{{name}}}: variables has no {variable:?}"))?;
            self.literal(value);
        } else if name == "callback_url" {
            self.literal(
                constants
                    .callback_url
                    .ok_or("{callback_url}: callback.url is not set")?,
            );
        } else {
            self.pieces.push(Piece::Slot(
                Slot::named(name).ok_or_else(|| unknown_placeholder(name))?,
            ));
        }
        Ok(())
    }

    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Slot(slot) => Some(slot),
            Piece::Literal(_) | Piece::Secret(_) => None,
        })
    }

    pub fn has_secret(&self) -> bool {
        self.pieces
            .iter()
            .any(|piece| matches!(piece, Piece::Secret(_)))
    }

    /// It asks for something of the message, and the message has nothing of it.
    pub fn is_vacant(&self, values: &Values<'_>) -> bool {
        let mut slots = self.slots().peekable();
        slots.peek().is_some() && slots.all(|slot| values.get(slot).is_empty())
    }

    /// As a JSON string with its quotes.
    pub fn write_json(&self, out: &mut String, values: &Values<'_>) {
        out.push('"');
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => json_escape(out, text),
                Piece::Secret(name) => secret(out, name),
                Piece::Slot(slot) => json_escape(out, &values.get(slot)),
            }
        }
        out.push('"');
    }

    /// As a component of a query or a form, all of it percent-encoded.
    pub fn write_encoded(&self, out: &mut String, values: &Values<'_>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => percent_encode(out, text),
                Piece::Secret(name) => secret(out, name),
                Piece::Slot(slot) => percent_encode(out, &values.get(slot)),
            }
        }
    }

    /// As a URL: what the operator wrote is its syntax, what a message brings is percent-encoded.
    pub fn write_url(&self, out: &mut String, values: &Values<'_>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Secret(name) => secret(out, name),
                Piece::Slot(slot) => percent_encode(out, &values.get(slot)),
            }
        }
    }

    /// As a header value: visible ASCII, no brace that the message brought.
    pub fn write_header(&self, out: &mut String, values: &Values<'_>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(text) => out.push_str(text),
                Piece::Secret(name) => secret(out, name),
                Piece::Slot(slot) => out.extend(
                    values
                        .get(slot)
                        .chars()
                        .filter(|c| matches!(c, ' '..='~') && *c != '{'),
                ),
            }
        }
    }
}

fn unknown_placeholder(name: &str) -> String {
    let known: Vec<&str> = SLOTS.iter().map(|(name, _)| *name).collect();
    format!(
        "{{{name}}} is no placeholder; there are {}, metadata.KEY, var.NAME, callback_url and secret:NAME",
        known.join(", ")
    )
}

fn secret(out: &mut String, name: &str) {
    let _ = write!(out, "{{secret:{name}}}");
}

/// RFC 8259, 7. An opening brace is escaped too, so that no text of a message reads as `{secret:NAME}` to the host.
pub fn json_escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\0'..='\u{1f}' | '{' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            other => out.push(other),
        }
    }
}

/// All but the unreserved characters (RFC 3986, 2.3).
pub fn percent_encode(out: &mut String, text: &str) {
    for &byte in text.as_bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// What placeholders stand for, of one message.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    pub message: &'a Message,
    pub now: Timestamp,
    pub encoding_names: &'a BTreeMap<Encoding, String>,
    pub class_names: &'a BTreeMap<Class, String>,
}

impl<'a> Values<'a> {
    pub fn get(&self, slot: &Slot) -> Cow<'a, str> {
        let message = self.message;
        match slot {
            Slot::To => Cow::Borrowed(&message.recipient.value),
            Slot::ToPlus => plus(&message.recipient),
            Slot::From => Cow::Borrowed(&message.originator.value),
            Slot::FromPlus => plus(&message.originator),
            Slot::Text => Cow::Borrowed(message.text().unwrap_or("")),
            Slot::TextUcs2Hex => {
                let units = message.text().unwrap_or("").encode_utf16();
                Cow::Owned(hex(units.flat_map(u16::to_be_bytes)))
            }
            Slot::Id => Cow::Owned(message.id.to_string()),
            Slot::Account => Cow::Borrowed(&message.account),
            Slot::Reference => Cow::Borrowed(&message.reference),
            Slot::Class => Cow::Borrowed(self.class()),
            Slot::Segments => Cow::Owned(message.segments.to_string()),
            Slot::Encoding => Cow::Borrowed(self.encoding()),
            Slot::ValiditySeconds => Cow::Owned(self.validity_seconds().to_string()),
            Slot::ValidityMinutes => Cow::Owned(self.validity_seconds().div_ceil(60).to_string()),
            Slot::ExpiresAt => Cow::Owned(time::to_rfc3339(message.expires_at)),
            Slot::UdhHex | Slot::UdhWithLengthHex | Slot::DataHex => self.binary(slot),
            Slot::Metadata(key) => Cow::Borrowed(message.metadata(key).unwrap_or("")),
        }
    }

    /// Carriers take no validity of zero; a message that expired is the host's to stop.
    fn validity_seconds(&self) -> u64 {
        (self.message.expires_at.saturating_sub(self.now) / 1000).max(1)
    }

    fn class(&self) -> &'a str {
        let (class, own) = match self.message.traffic {
            TrafficClass::Otp => (Class::Otp, "otp"),
            TrafficClass::Transactional => (Class::Transactional, "transactional"),
            TrafficClass::Promotional => (Class::Promotional, "promotional"),
            TrafficClass::Alert => (Class::Alert, "alert"),
        };
        self.class_names.get(&class).map_or(own, String::as_str)
    }

    fn encoding(&self) -> &'a str {
        let (encoding, own) = match self.message.alphabet {
            Alphabet::Gsm7 => (Encoding::Gsm7, "gsm7"),
            Alphabet::Ucs2 => (Encoding::Ucs2, "ucs2"),
            Alphabet::Octets => (Encoding::Octets, "octets"),
        };
        self.encoding_names
            .get(&encoding)
            .map_or(own, String::as_str)
    }

    fn binary(&self, slot: &Slot) -> Cow<'a, str> {
        let Body::Binary(octets) = &self.message.body else {
            return Cow::Borrowed("");
        };
        let header = &octets.user_data_header;
        match slot {
            Slot::DataHex => Cow::Owned(hex(octets.data.iter().copied())),
            _ if header.is_empty() => Cow::Borrowed(""),
            Slot::UdhWithLengthHex => {
                let length = u8::try_from(header.len()).unwrap_or(u8::MAX);
                Cow::Owned(hex([length].into_iter().chain(header.iter().copied())))
            }
            _ => Cow::Owned(hex(header.iter().copied())),
        }
    }
}

fn plus(address: &Address) -> Cow<'_, str> {
    if address.ton == TypeOfNumber::International {
        Cow::Owned(format!("+{}", address.value))
    } else {
        Cow::Borrowed(&address.value)
    }
}

fn hex(octets: impl Iterator<Item = u8>) -> String {
    octets.fold(String::new(), |mut out, octet| {
        let _ = write!(out, "{octet:02x}");
        out
    })
}

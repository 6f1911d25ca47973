//! What a carrier's call-back says: whose it is, which receipts and mobile-originated messages it brings, and what the
//! carrier is answered. One bad report in a batch costs that report and no other.

use heliograph_plugin::{
    CallbackAnswer, Event, HttpRequest, HttpResponse, MessageState, MobileOriginated, Receipt,
    Timestamp, log,
};
use serde_json::Value;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::config::{
    CallbackConfig, InboundConfig, OtherStatus, ReceiptConfig, Source, State, TimeFormat,
    TimeSource,
};
use crate::locate::{Check, Document, Locator, Pointer, presentable};
use crate::response::ID_OCTETS_MAX;
use crate::time;

/// A call-back's body is at most this large.
const BODY_OCTETS_MAX: usize = 1 << 20;
/// Reports in one call-back at most; the carrier is told no, so that it notices.
const REPORTS_MAX: usize = 1_000;
/// A number or a sender has at most this many octets.
const ADDRESS_OCTETS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub struct Callback {
    verify: Option<Secret>,
    receipt: Option<ReceiptReader>,
    inbound: Option<InboundReader>,
    answer: HttpResponse,
}

#[derive(Clone, Debug)]
struct Secret {
    at: Locator,
    sha256: [u8; 32],
}

#[derive(Clone, Debug)]
struct ReceiptReader {
    each: Pointer,
    when: Vec<Check>,
    id: Locator,
    status: Locator,
    /// In lower case.
    statuses: Vec<(String, MessageState)>,
    other_status: OtherStatus,
    error: Option<Locator>,
    at: Option<TimeReader>,
}

#[derive(Clone, Debug)]
struct InboundReader {
    each: Pointer,
    when: Vec<Check>,
    from: Locator,
    to: Locator,
    text: Locator,
    at: Option<TimeReader>,
}

#[derive(Clone, Debug)]
struct TimeReader {
    source: Locator,
    format: TimeFormat,
}

impl Callback {
    /// The error names the field within `config`.
    pub fn new(config: &CallbackConfig) -> Result<Self, String> {
        if let (Some(receipt), Some(inbound)) = (&config.receipt, &config.inbound)
            && (receipt.when.is_empty() || inbound.when.is_empty())
        {
            return Err(
                "receipt.when: give it and inbound.when, so that a call-back is one of the two"
                    .to_owned(),
            );
        }
        let answer = &config.answer;
        if !(200..=299).contains(&answer.status) {
            return Err(format!(
                "answer.status: {} is not 200 to 299",
                answer.status
            ));
        }
        if !answer
            .content_type
            .bytes()
            .all(|b| matches!(b, b' '..=b'~'))
        {
            return Err("answer.content_type: a header value is visible ASCII".to_owned());
        }
        let headers = if answer.body.is_empty() {
            Vec::new()
        } else {
            vec![("content-type".to_owned(), answer.content_type.clone())]
        };
        let body = answer.body.clone().into_bytes();
        Ok(Self {
            verify: config
                .verify
                .as_ref()
                .map(|v| secret(&v.at, &v.sha256))
                .transpose()?,
            receipt: config
                .receipt
                .as_ref()
                .map(ReceiptReader::new)
                .transpose()
                .map_err(|e| format!("receipt.{e}"))?,
            inbound: config
                .inbound
                .as_ref()
                .map(InboundReader::new)
                .transpose()
                .map_err(|e| format!("inbound.{e}"))?,
            answer: HttpResponse {
                status: answer.status,
                headers,
                body,
            },
        })
    }

    pub fn read(&self, request: &HttpRequest) -> Result<CallbackAnswer, String> {
        if request.body.len() > BODY_OCTETS_MAX {
            return Err(format!(
                "a body of {} octets; at most {BODY_OCTETS_MAX} are read",
                request.body.len()
            ));
        }
        let document = Document::new(&request.url, &request.headers, &request.body);
        if self
            .verify
            .as_ref()
            .is_some_and(|secret| !secret.is_in(&document))
        {
            return Err("callback.verify: the secret is missing or wrong".to_owned());
        }
        let mut events = Vec::new();
        let mut problems = Vec::new();
        if let Some(reader) = &self.receipt {
            collect(
                &document,
                &reader.each,
                |item| reader.read(&document, item),
                &mut events,
                &mut problems,
            )?;
        }
        if let Some(reader) = &self.inbound {
            collect(
                &document,
                &reader.each,
                |item| reader.read(&document, item),
                &mut events,
                &mut problems,
            )?;
        }
        match problems.first() {
            Some(first) if events.is_empty() => {
                // A body that is no JSON is the likelier cause than a field that is missing in it.
                let cause = document
                    .json_error()
                    .filter(|_| self.reads_json())
                    .unwrap_or(first);
                return Err(presentable(cause).into_owned());
            }
            Some(first) => {
                let count = problems.len().to_string();
                log::warn(
                    "some reports of a call-back could not be read",
                    &[("count", &count), ("first", &presentable(first))],
                );
            }
            None if events.is_empty() => {
                if let Some(cause) = document.json_error().filter(|_| self.reads_json()) {
                    return Err(presentable(cause).into_owned());
                }
                log::debug(
                    "a call-back brought nothing that the configuration reads",
                    &[],
                );
            }
            None => {}
        }
        Ok(CallbackAnswer {
            response: self.answer.clone(),
            events,
        })
    }

    fn reads_json(&self) -> bool {
        let receipt = self
            .receipt
            .as_ref()
            .is_some_and(|r| matches!(r.id, Locator::Json(_)));
        receipt
            || self
                .inbound
                .as_ref()
                .is_some_and(|r| matches!(r.from, Locator::Json(_)))
    }
}

/// Reads every item under `each`, or the whole body as one.
fn collect(
    document: &Document<'_>,
    each: &Pointer,
    read: impl Fn(Option<&Value>) -> Result<Option<Event>, String>,
    events: &mut Vec<Event>,
    problems: &mut Vec<String>,
) -> Result<(), String> {
    let mut take = |item| match read(item) {
        Ok(event) => events.extend(event),
        Err(problem) => problems.push(problem),
    };
    if each.is_root() {
        take(None);
        return Ok(());
    }
    for found in document
        .json()
        .ok()
        .map(|root| each.all(root))
        .unwrap_or_default()
    {
        match found {
            Value::Array(items) if items.len() > REPORTS_MAX => {
                return Err(format!(
                    "a call-back with {} reports; at most {REPORTS_MAX} are read",
                    items.len()
                ));
            }
            Value::Array(items) => items.iter().for_each(|item| take(Some(item))),
            one => take(Some(one)),
        }
    }
    Ok(())
}

impl ReceiptReader {
    fn new(config: &ReceiptConfig) -> Result<Self, String> {
        let statuses = config
            .statuses
            .iter()
            .map(|(text, state)| (text.to_ascii_lowercase(), message_state(*state)));
        Ok(Self {
            each: Pointer::new(&config.each).map_err(|e| format!("each: {e}"))?,
            when: Check::list(&config.when, "when")?,
            id: Locator::new(&config.id).map_err(|e| format!("id: {e}"))?,
            status: Locator::new(&config.status).map_err(|e| format!("status: {e}"))?,
            statuses: statuses.collect(),
            other_status: config.other_status,
            error: config
                .error
                .as_ref()
                .map(Locator::new)
                .transpose()
                .map_err(|e| format!("error: {e}"))?,
            at: config.at.as_ref().map(TimeReader::new).transpose()?,
        })
    }

    fn read(&self, document: &Document<'_>, item: Option<&Value>) -> Result<Option<Event>, String> {
        if !self.when.iter().all(|check| check.every(document, item)) {
            return Ok(None);
        }
        let id = self
            .id
            .first(document, item)
            .ok_or("a receipt without an id where receipt.id says")?;
        if id.len() > ID_OCTETS_MAX {
            return Err(format!(
                "a receipt's id of {} octets; at most {ID_OCTETS_MAX} are read",
                id.len()
            ));
        }
        let status = self
            .status
            .first(document, item)
            .ok_or("a receipt without a status where receipt.status says")?;
        let known = self
            .statuses
            .iter()
            .find(|(text, _)| text.eq_ignore_ascii_case(&status))
            .map(|(_, state)| *state);
        let state = match (known, self.other_status) {
            (Some(state), _) => state,
            (None, OtherStatus::Ignore) => return Ok(None),
            (None, OtherStatus::Unknown) => {
                log::warn(
                    "a receipt's status is not in receipt.statuses",
                    &[("status", &presentable(&status))],
                );
                MessageState::Unknown
            }
        };
        let error = self
            .error
            .as_ref()
            .and_then(|locator| locator.first(document, item));
        Ok(Some(Event::Receipt(Receipt {
            carrier_message_id: id,
            state,
            error: error.map(|text| presentable(&text).into_owned()),
            at: self
                .at
                .as_ref()
                .and_then(|reader| reader.read(document, item)),
        })))
    }
}

impl InboundReader {
    fn new(config: &InboundConfig) -> Result<Self, String> {
        Ok(Self {
            each: Pointer::new(&config.each).map_err(|e| format!("each: {e}"))?,
            when: Check::list(&config.when, "when")?,
            from: Locator::new(&config.from).map_err(|e| format!("from: {e}"))?,
            to: Locator::new(&config.to).map_err(|e| format!("to: {e}"))?,
            text: Locator::new(&config.text).map_err(|e| format!("text: {e}"))?,
            at: config.at.as_ref().map(TimeReader::new).transpose()?,
        })
    }

    fn read(&self, document: &Document<'_>, item: Option<&Value>) -> Result<Option<Event>, String> {
        if !self.when.iter().all(|check| check.every(document, item)) {
            return Ok(None);
        }
        let address = |locator: &Locator, field: &str| {
            let found = locator
                .first(document, item)
                .filter(|text| text.len() <= ADDRESS_OCTETS_MAX);
            found.ok_or_else(|| {
                format!("a mobile-originated message without a number where inbound.{field} says")
            })
        };
        Ok(Some(Event::Inbound(MobileOriginated {
            originator: address(&self.from, "from")?,
            recipient: address(&self.to, "to")?,
            // People do send empty messages.
            text: self.text.first(document, item).unwrap_or_default(),
            at: self
                .at
                .as_ref()
                .and_then(|reader| reader.read(document, item)),
        })))
    }
}

impl TimeReader {
    fn new(config: &TimeSource) -> Result<Self, String> {
        let source = Locator::new(&config.source).map_err(|e| format!("at.source: {e}"))?;
        Ok(Self {
            source,
            format: config.format,
        })
    }

    /// A time that cannot be read is no reason to lose what it belongs to.
    fn read(&self, document: &Document<'_>, item: Option<&Value>) -> Option<Timestamp> {
        time::parse(&self.source.first(document, item)?, self.format)
    }
}

impl Secret {
    /// Hashes are compared, in constant time, so that neither length nor content of the secret shows in the time taken.
    fn is_in(&self, document: &Document<'_>) -> bool {
        let given = self.at.first(document, None).unwrap_or_default();
        let hash: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        bool::from(hash.ct_eq(&self.sha256)) && !given.is_empty()
    }
}

fn secret(at: &Source, sha256: &str) -> Result<Secret, String> {
    match at {
        Source::Header(_) | Source::Field(_) => {}
        Source::Json(_) | Source::TextAfter(_) => {
            return Err("verify.at: a secret stands in a header or a field".to_owned());
        }
    }
    let octets = |i: usize| {
        sha256
            .get(2 * i..2 * i + 2)
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
    };
    let mut hash = [0; 32];
    for (i, octet) in hash.iter_mut().enumerate() {
        *octet = octets(i).ok_or(
            "verify.sha256: give 64 hexadecimal digits, from `printf %s SECRET | sha256sum`",
        )?;
    }
    if sha256.len() != 64 {
        return Err(
            "verify.sha256: give 64 hexadecimal digits, from `printf %s SECRET | sha256sum`"
                .to_owned(),
        );
    }
    Ok(Secret {
        at: Locator::new(at).map_err(|e| format!("verify.at: {e}"))?,
        sha256: hash,
    })
}

fn message_state(state: State) -> MessageState {
    match state {
        State::Enroute => MessageState::Enroute,
        State::Delivered => MessageState::Delivered,
        State::Expired => MessageState::Expired,
        State::Deleted => MessageState::Deleted,
        State::Undeliverable => MessageState::Undeliverable,
        State::Accepted => MessageState::Accepted,
        State::Unknown => MessageState::Unknown,
        State::Rejected => MessageState::Rejected,
    }
}

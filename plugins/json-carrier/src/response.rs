//! What a carrier's answer to a submission means: taken, and under which ids, or which failure and what helps. It is
//! handed the answer and decides; it sends nothing and remembers nothing.

use heliograph_plugin::{HttpFailure, HttpResponse, Message, SubmitError, Timestamp, log};

use crate::config::{ErrorKind, ErrorRule, MissingId, ResponseConfig};
use crate::locate::{Check, Document, Locator, presentable};
use crate::time;

/// A carrier's message id has at most this many octets; SMPP 3.4, 4.4.2 allows 64, HTTP carriers use up to 100.
pub const ID_OCTETS_MAX: usize = 255;

#[derive(Clone, Debug)]
pub struct Meaning {
    success_status: Vec<StatusRange>,
    success_when: Vec<Check>,
    id: Option<Locator>,
    missing_id: MissingId,
    errors: Vec<Rule>,
    otherwise: ErrorKind,
    reason: Option<Locator>,
    retry_after_ms: u32,
    max_retry_after_ms: u32,
}

#[derive(Clone, Debug)]
struct Rule {
    status: Vec<StatusRange>,
    when: Vec<Check>,
    kind: ErrorKind,
    retry_after_ms: Option<u32>,
}

impl Meaning {
    /// The error names the field within `config`.
    pub fn new(config: &ResponseConfig) -> Result<Self, String> {
        if config.success_status.is_empty() {
            return Err("success_status: give at least one status, as in \"2xx\"".to_owned());
        }
        let rule = |(i, rule): (usize, &ErrorRule)| {
            if rule.status.is_empty() && rule.when.is_empty() {
                return Err(format!(
                    "errors[{i}]: a rule without status and when fits everything; use otherwise"
                ));
            }
            Ok(Rule {
                status: statuses(&rule.status, &format!("errors[{i}].status"))?,
                when: Check::list(&rule.when, &format!("errors[{i}].when"))?,
                kind: rule.kind,
                retry_after_ms: rule.retry_after_ms,
            })
        };
        Ok(Self {
            success_status: statuses(&config.success_status, "success_status")?,
            success_when: Check::list(&config.success_when, "success_when")?,
            id: config
                .id
                .as_ref()
                .map(Locator::new)
                .transpose()
                .map_err(|e| format!("id: {e}"))?,
            missing_id: config.missing_id,
            errors: config
                .errors
                .iter()
                .enumerate()
                .map(rule)
                .collect::<Result<_, _>>()?,
            otherwise: config.otherwise,
            reason: config
                .reason
                .as_ref()
                .map(Locator::new)
                .transpose()
                .map_err(|e| format!("reason: {e}"))?,
            retry_after_ms: config.retry_after_ms,
            max_retry_after_ms: config.max_retry_after_ms,
        })
    }

    pub fn judge(
        &self,
        response: &HttpResponse,
        message: &Message,
        now: Timestamp,
    ) -> Result<Vec<String>, SubmitError> {
        let document = Document::new("", &response.headers, &response.body);
        let status_is_success = fits(&self.success_status, response.status);
        if status_is_success
            && self
                .success_when
                .iter()
                .all(|check| check.every(&document, None))
        {
            return self.ids(&document, message);
        }
        let rule = self.errors.iter().find(|rule| {
            (rule.status.is_empty() || fits(&rule.status, response.status))
                && rule.when.iter().all(|check| check.some(&document, None))
        });
        let kind = match rule {
            Some(rule) => rule.kind,
            None if status_is_success => self.otherwise,
            None => kind_of_status(response.status),
        };
        let said = self
            .reason
            .as_ref()
            .and_then(|locator| locator.first(&document, None));
        let reason = match said {
            Some(said) => format!("HTTP {}: {}", response.status, presentable(&said)),
            None => format!("HTTP {}", response.status),
        };
        Err(match kind {
            ErrorKind::Temporary => SubmitError::Temporary(reason),
            ErrorKind::Permanent => SubmitError::Permanent(reason),
            ErrorKind::Unknown => SubmitError::Unknown(reason),
            ErrorKind::Throttled => {
                let asked = document
                    .header("retry-after")
                    .and_then(|value| retry_after_ms(value, now));
                let wait = asked
                    .or(rule.and_then(|rule| rule.retry_after_ms))
                    .unwrap_or(self.retry_after_ms);
                SubmitError::Throttled(wait.min(self.max_retry_after_ms))
            }
        })
    }

    /// One id for the message, or one for each segment.
    fn ids(&self, document: &Document<'_>, message: &Message) -> Result<Vec<String>, SubmitError> {
        let Some(locator) = &self.id else {
            return Ok(vec![message.id.to_string()]);
        };
        let mut ids = locator.all(document, None);
        ids.retain(|id| id.len() <= ID_OCTETS_MAX);
        if ids.is_empty() {
            return match self.missing_id {
                MissingId::UseOwn => Ok(vec![message.id.to_string()]),
                MissingId::Unknown => Err(SubmitError::Unknown(
                    "the carrier took the message but gave no id where response.id says".to_owned(),
                )),
            };
        }
        if ids.len() > 1 && ids.len() != usize::from(message.segments) {
            let (got, want) = (ids.len().to_string(), message.segments.to_string());
            log::warn(
                "the carrier gave a number of ids that fits no segments; the first is kept",
                &[("ids", &got), ("segments", &want)],
            );
            ids.truncate(1);
        }
        Ok(ids)
    }
}

/// What it means that there was no whole answer.
pub fn failure(failure: HttpFailure) -> SubmitError {
    match failure {
        // The grant is the operator's to mend; messages are better kept than refused meanwhile.
        HttpFailure::Denied(why) => SubmitError::Temporary(format!(
            "not allowed by the plugin's grant: {}",
            presentable(&why)
        )),
        HttpFailure::Connect(why) => {
            SubmitError::Temporary(format!("no connection: {}", presentable(&why)))
        }
        HttpFailure::Timeout => SubmitError::Unknown("no whole answer in time".to_owned()),
        HttpFailure::TooLarge => {
            SubmitError::Unknown("the answer is larger than the plugin's grant allows".to_owned())
        }
        HttpFailure::Other(why) => SubmitError::Unknown(presentable(&why).into_owned()),
    }
}

/// Where no rule says otherwise (RFC 9110, 15). Statuses about our account or our address at the carrier, such as 401,
/// are temporary: the message is sound, and somebody will mend the rest.
fn kind_of_status(status: u16) -> ErrorKind {
    match status {
        429 => ErrorKind::Throttled,
        300..=399 | 401 | 402 | 407 | 408 | 421 | 425 | 500..=599 => ErrorKind::Temporary,
        400..=499 => ErrorKind::Permanent,
        _ => ErrorKind::Unknown,
    }
}

/// Seconds or an HTTP date (RFC 9110, 10.2.3).
fn retry_after_ms(value: &str, now: Timestamp) -> Option<u32> {
    let millis = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        value
            .parse::<u64>()
            .unwrap_or(u64::MAX)
            .saturating_mul(1000)
    } else {
        time::rfc5322(value)?.saturating_sub(now)
    };
    Some(u32::try_from(millis).unwrap_or(u32::MAX))
}

#[derive(Clone, Copy, Debug)]
struct StatusRange {
    first: u16,
    last: u16,
}

fn fits(ranges: &[StatusRange], status: u16) -> bool {
    ranges
        .iter()
        .any(|range| (range.first..=range.last).contains(&status))
}

fn statuses(texts: &[String], at: &str) -> Result<Vec<StatusRange>, String> {
    let range = |text: &String| {
        let status = |text: &str| {
            text.trim()
                .parse::<u16>()
                .ok()
                .filter(|status| (100..=599).contains(status))
        };
        let ends = match text.strip_suffix("xx") {
            Some(hundreds) => status(&format!("{hundreds}00")).map(|first| (first, first + 99)),
            None => match text.split_once('-') {
                Some((first, last)) => status(first)
                    .zip(status(last))
                    .filter(|(first, last)| first <= last),
                None => status(text).map(|only| (only, only)),
            },
        };
        let (first, last) = ends.ok_or_else(|| {
            format!("{at}: {text:?} is no HTTP status; write \"429\", \"500-599\" or \"5xx\"")
        })?;
        Ok(StatusRange { first, last })
    };
    texts.iter().map(range).collect()
}

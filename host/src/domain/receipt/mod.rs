//! Delivery receipts (SMPP 3.4, 2.11, appendix B and the TLVs of 5.3.2): what a carrier says became
//! of a segment. Knows neither the message it belongs to (`id` and `evidence` find that one, `settle`
//! applies it) nor the PDU that the octets came in.

mod evidence;
mod id;
mod learn;
mod settle;

use std::fmt;

use crate::clock::Timestamp;
use crate::domain::message::PartState;

pub use evidence::{Evidence, Likeness, same_subscriber, subscriber_key};
pub use id::{ID_OCTETS_MAX, IdCandidate, IdForm, id_candidates, response_key};
pub use learn::{IdLearner, IdMemory, Per, PerLearner};
pub use settle::ReceiptEffect;

/// The fields come first; what follows is the message's own text.
pub const TEXT_OCTETS_MAX: usize = 1024;
/// Of an `err` value.
pub const ERROR_CHARACTERS_MAX: usize = 64;

/// What became of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// `Enroute`: an intermediate notification, another receipt follows.
    pub state: PartState,
    /// The carrier's code, empty where it gave none.
    pub error: String,
    /// Whose code it is: the first octet of network_error_code (SMPP 3.4, 5.3.2.31).
    pub network_type: Option<u8>,
    /// `done date`. Carriers give no time zone: local time counts as UTC here.
    pub done_at: Option<Timestamp>,
}

impl Report {
    /// A report of this state that says nothing else.
    pub fn of(state: PartState) -> Report {
        Report {
            state,
            error: String::new(),
            network_type: None,
            done_at: None,
        }
    }
}

/// A report, and whatever tells of which segment it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// As the carrier wrote it.
    pub id: String,
    pub report: Report,
    pub evidence: Evidence,
}

impl Receipt {
    /// An intermediate notification is on the way to another receipt, whatever its state says
    /// (SMPP 3.4, 5.2.12: esm_class 0x20).
    pub fn into_intermediate(mut self) -> Receipt {
        self.report.state = PartState::Enroute;
        self
    }
}

/// How a carrier's receipts are to be read, as its operator says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiptStyle {
    pub id_form: IdForm,
    pub per: Per,
}

impl Default for ReceiptStyle {
    fn default() -> ReceiptStyle {
        ReceiptStyle {
            id_form: IdForm::Auto,
            per: Per::Auto,
        }
    }
}

/// network_error_code's first octet in words (SMPP 3.4, 5.3.2.31).
pub fn network_type_name(network_type: u8) -> &'static str {
    match network_type {
        1 => "ansi-136",
        2 => "is-95",
        3 => "gsm",
        _ => "reserved",
    }
}

/// The TLVs of a receipt (SMPP 3.4, 5.3.2.12, 5.3.2.35 and 5.3.2.31). They outweigh the text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiptTlvs<'a> {
    /// Read up to its NUL, which may be missing.
    pub receipted_message_id: Option<&'a [u8]>,
    pub message_state: Option<u8>,
    /// Network type and a 16-bit code.
    pub network_error_code: Option<&'a [u8]>,
}

/// Why something is no receipt. The carrier's fault; it would not help to have it sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAReceipt {
    /// Neither receipted_message_id nor `id:`.
    NoId,
    /// An id of that many octets.
    IdTooLong(usize),
    /// Neither message_state nor `stat:`.
    NoState,
    /// A `stat:` that nobody is known to send.
    State(String),
}

impl fmt::Display for NotAReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotAReceipt::NoId => write!(f, "has neither receipted_message_id nor an id: field"),
            NotAReceipt::IdTooLong(octets) => {
                write!(
                    f,
                    "has a message id of {octets} octets; {ID_OCTETS_MAX} are the most"
                )
            }
            NotAReceipt::NoState => write!(f, "has neither message_state nor a stat: field"),
            NotAReceipt::State(word) => write!(f, "has the unknown state {word:?}"),
        }
    }
}

impl std::error::Error for NotAReceipt {}

impl Receipt {
    /// Reads short_message or message_payload (empty where there is none) and the TLVs; total.
    ///
    /// Takes octets, not text: carriers write receipts in ASCII whatever their data_coding says,
    /// and an `_` of an id read in the GSM alphabet would be another character.
    pub fn parse(short_message: &[u8], tlvs: &ReceiptTlvs<'_>) -> Result<Receipt, NotAReceipt> {
        let text = readable(short_message);
        let fields = Fields::scan(&text);
        let id = tlvs
            .receipted_message_id
            .and_then(|id| id.split(|octet| *octet == 0).next())
            .map(|id| readable(id).trim().to_owned())
            .filter(|id| !id.is_empty())
            .or_else(|| fields.id.map(str::to_owned))
            .ok_or(NotAReceipt::NoId)?;
        if id.len() > ID_OCTETS_MAX {
            return Err(NotAReceipt::IdTooLong(id.len()));
        }
        let state = match (tlvs.message_state.and_then(state_of_code), fields.stat) {
            (Some(state), _) => state,
            (None, Some(word)) => state_of_word(word)
                .ok_or_else(|| NotAReceipt::State(word.chars().take(16).collect()))?,
            (None, None) => return Err(NotAReceipt::NoState),
        };
        let (error, network_type) = error_of(tlvs.network_error_code, fields.err);
        Ok(Receipt {
            id,
            report: Report {
                state,
                error,
                network_type,
                done_at: fields.done_date.and_then(parse_date),
            },
            evidence: Evidence::default(),
        })
    }
}

/// Whether a short_message has the shape of a receipt, for carriers that forget to say so in
/// esm_class. Whoever can text the number can write this too: believe it only where the
/// operator said that this carrier forgets.
pub fn looks_like_receipt(short_message: &[u8]) -> bool {
    let text = readable(short_message);
    let fields = Fields::scan(&text);
    fields.id.is_some()
        && fields.done_date.is_some()
        && fields.stat.and_then(state_of_word).is_some()
}

/// message_state (SMPP 3.4, 5.2.28; 0 and 9 are from SMPP 5.0, 4.7.15). `None` for reserved values.
pub fn state_of_code(message_state: u8) -> Option<PartState> {
    Some(match message_state {
        // Scheduled, en route, accepted. The last is final by the letter; carriers send it on
        // the way to another.
        0 | 1 | 6 => PartState::Enroute,
        2 => PartState::Delivered,
        3 => PartState::Expired,
        // Deleted, undeliverable, skipped.
        4 | 5 | 9 => PartState::Undeliverable,
        7 => PartState::Unknown,
        8 => PartState::Rejected,
        _ => return None,
    })
}

/// Octets as text: UTF-8 where they are, and UCS-2 of ASCII with its zero octets left out.
/// Control characters become spaces.
fn readable(octets: &[u8]) -> String {
    let octets = &octets[..octets.len().min(TEXT_OCTETS_MAX)];
    let ascii: Vec<u8> = octets.iter().copied().filter(|b| *b != 0).collect();
    String::from_utf8_lossy(&ascii)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// The fields that matter, each as its first appearance has it, without the words around it.
#[derive(Default)]
struct Fields<'a> {
    id: Option<&'a str>,
    stat: Option<&'a str>,
    err: Option<&'a str>,
    done_date: Option<&'a str>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Key {
    Id,
    Stat,
    Err,
    DoneDate,
    /// Known, and ends the value before it: sub, dlvrd, submit date.
    Other,
    /// All that follows is the sender's own words.
    Text,
}

impl<'a> Fields<'a> {
    /// Finds keys by their colons; a value runs to the next known key. Any order, any case, any
    /// number of spaces, any field missing, unknown fields between.
    fn scan(text: &'a str) -> Fields<'a> {
        let mut fields = Fields::default();
        let mut open: Option<(Key, usize)> = None;
        for (colon, _) in text.match_indices(':') {
            let Some((key, at)) = key_before(text, colon) else {
                continue;
            };
            if let Some((previous, from)) = open {
                fields.set(previous, &text[from..at.max(from)]);
            }
            open = Some((key, colon + 1));
            if key == Key::Text {
                break;
            }
        }
        if let Some((key, from)) = open {
            fields.set(key, &text[from..]);
        }
        fields
    }

    fn set(&mut self, key: Key, value: &'a str) {
        let field = match key {
            Key::Id => &mut self.id,
            Key::Stat => &mut self.stat,
            Key::Err => &mut self.err,
            Key::DoneDate => &mut self.done_date,
            Key::Other | Key::Text => return,
        };
        const AROUND: [char; 5] = ['"', '\'', ',', ';', '|'];
        let value = value.trim_matches(|c: char| c.is_whitespace() || AROUND.contains(&c));
        let word = match key {
            // A date may stand in two words: 2017-01-24 09:04:00.
            Key::DoneDate => value,
            Key::Id | Key::Stat | Key::Err | Key::Other | Key::Text => {
                let word = value.split_whitespace().next().unwrap_or_default();
                word.trim_matches(AROUND)
            }
        };
        if field.is_none() && !word.is_empty() {
            *field = Some(word);
        }
    }
}

/// The known key that ends at `colon`, and where it begins.
fn key_before(text: &str, colon: usize) -> Option<(Key, usize)> {
    const KEYS: [(&str, Key); 12] = [
        ("id", Key::Id),
        ("stat", Key::Stat),
        ("status", Key::Stat),
        ("err", Key::Err),
        ("error", Key::Err),
        ("text", Key::Text),
        ("done_date", Key::DoneDate),
        ("donedate", Key::DoneDate),
        ("sub", Key::Other),
        ("dlvrd", Key::Other),
        ("submit_date", Key::Other),
        ("submitdate", Key::Other),
    ];
    const DATES: [(&str, Key); 2] = [("done", Key::DoneDate), ("submit", Key::Other)];
    let find = |keys: &[(&str, Key)], word: &str| {
        let found = keys
            .iter()
            .find(|(name, _)| word.eq_ignore_ascii_case(name));
        found.map(|(_, key)| *key)
    };
    let (word, at) = last_word(&text[..colon]);
    if word.eq_ignore_ascii_case("date") {
        let (word, at) = last_word(&text[..at]);
        return Some((find(&DATES, word)?, at));
    }
    Some((find(&KEYS, word)?, at))
}

/// The letters that `text` ends in, spaces behind them left out, and where they begin.
fn last_word(text: &str) -> (&str, usize) {
    let text = text.trim_end_matches(' ');
    let letters = text
        .bytes()
        .rev()
        .take_while(|b| b.is_ascii_alphabetic() || *b == b'_');
    let at = text.len() - letters.count();
    (&text[at..], at)
}

/// The words of SMPP 3.4, appendix B, and those that carriers use in their place.
fn state_of_word(word: &str) -> Option<PartState> {
    const WORDS: [(&str, PartState); 30] = [
        ("DELIVRD", PartState::Delivered),
        ("DELIVERD", PartState::Delivered),
        ("DELIVERED", PartState::Delivered),
        ("EXPIRED", PartState::Expired),
        ("EXPIRD", PartState::Expired),
        ("DELETED", PartState::Undeliverable),
        ("UNDELIV", PartState::Undeliverable),
        ("UNDELIVRD", PartState::Undeliverable),
        ("UNDELIVERED", PartState::Undeliverable),
        ("UNDELIVERABLE", PartState::Undeliverable),
        ("FAILED", PartState::Undeliverable),
        ("SKIPPED", PartState::Undeliverable),
        ("REJECTD", PartState::Rejected),
        ("REJECTED", PartState::Rejected),
        ("UNKNOWN", PartState::Unknown),
        ("UNKNOWD", PartState::Unknown),
        ("ACCEPTD", PartState::Enroute),
        ("ACCEPTED", PartState::Enroute),
        ("ENROUTE", PartState::Enroute),
        ("ACKED", PartState::Enroute),
        ("BUFFRED", PartState::Enroute),
        ("BUFFERD", PartState::Enroute),
        ("BUFFERED", PartState::Enroute),
        ("SCHEDULED", PartState::Enroute),
        ("PENDING", PartState::Enroute),
        ("SUBMITD", PartState::Enroute),
        ("SUBMITTED", PartState::Enroute),
        ("TRANSIT", PartState::Enroute),
        ("QUEUED", PartState::Enroute),
        ("SENT", PartState::Enroute),
    ];
    WORDS
        .iter()
        .find(|(name, _)| word.eq_ignore_ascii_case(name))
        .map(|(_, state)| *state)
        // Some write the number of message_state.
        .or_else(|| word.parse().ok().and_then(state_of_code))
}

/// The TLV's code and whose it is, unless it says "none" and the text says more.
fn error_of(network_error_code: Option<&[u8]>, err: Option<&str>) -> (String, Option<u8>) {
    let said = err.map(|err| err.chars().take(ERROR_CHARACTERS_MAX).collect::<String>());
    let (code, network_type) = match network_error_code {
        // Some write digits where the octets belong.
        Some(digits)
            if (1..=8).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit) =>
        {
            let code = String::from_utf8_lossy(digits).into_owned();
            (Some(code), None)
        }
        Some(&[network_type, high, low]) => {
            let code = u16::from_be_bytes([high, low]);
            (Some(format!("{code:03}")), Some(network_type))
        }
        Some(&[high, low]) => (
            Some(format!("{:03}", u16::from_be_bytes([high, low]))),
            None,
        ),
        _ => (None, None),
    };
    match (code, said) {
        (Some(code), _) if code.bytes().any(|b| b != b'0') => (code, network_type),
        (_, Some(said)) => (said, None),
        (code, None) => (code.unwrap_or_default(), network_type),
    }
}

/// YYMMDDhhmm (appendix B), YYMMDDhhmmss, YYYYMMDDhhmm, YYYYMMDDhhmmss, the last also with dashes,
/// colons and a `T` between, or the absolute time of SMPP 3.4, 7.1.1: YYMMDDhhmmsstnn and a sign.
fn parse_date(value: &str) -> Option<Timestamp> {
    let word = value.split_whitespace().next().unwrap_or_default();
    if word.contains(['-', '/']) && word.len() >= 8 && !word.ends_with('-') {
        return punctuated(value);
    }
    if let Some((local, quarters_from_utc)) = absolute_time(word) {
        let offset = quarters_from_utc * 15 * 60_000;
        return Some(Timestamp(
            u64::try_from(i64::try_from(local.0).ok()? - offset).ok()?,
        ));
    }
    if !word.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match word.len() {
        10 => date_of(&format!("20{word}00")),
        // From 2013 on a four-digit year read as YYMM has no such month, so one reading is left.
        12 => date_of(&format!("20{word}")).or_else(|| date_of(&format!("{word}00"))),
        14 => date_of(word),
        _ => None,
    }
}

/// 2017-01-24 09:04:00, 2017/01/24T09:04:00Z, 2017-01-24 09:04.
fn punctuated(value: &str) -> Option<Timestamp> {
    let date_and_time = value.split_once('.').map_or(value, |(whole, _)| whole);
    let known = |c: char| c.is_ascii_digit() || matches!(c, '-' | '/' | ':' | 'T' | 'Z' | ' ');
    if !date_and_time.chars().all(known) {
        return None;
    }
    let mut digits: String = date_and_time.chars().filter(char::is_ascii_digit).collect();
    if digits.len() == 12 {
        digits.push_str("00");
    }
    (digits.len() == 14).then(|| date_of(&digits))?
}

fn absolute_time(word: &str) -> Option<(Timestamp, i64)> {
    let sign = match word.as_bytes().last()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let digits = &word[..word.len() - 1];
    if digits.len() != 15 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let quarters: i64 = digits[13..].parse().ok()?;
    let local = date_of(&format!("20{}", &digits[..12]))?;
    (quarters <= 48).then_some((local, sign * quarters))
}

/// Fourteen digits, YYYYMMDDhhmmss.
fn date_of(digits: &str) -> Option<Timestamp> {
    let number = |from: usize, to: usize| digits.get(from..to)?.parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    let leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days_in_month = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + u64::from(leap),
        _ => return None,
    };
    if year < 1970 || day == 0 || day > days_in_month || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    // Days of a year that begins in March, so that the leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1;
    const DAYS_TO_1970: u64 = 719_468;
    let seconds = (days - DAYS_TO_1970) * 86_400 + hour * 3_600 + minute * 60 + second;
    Some(Timestamp(seconds * 1_000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 2017-01-24 09:04:00 UTC.
    const DONE: Option<Timestamp> = Some(Timestamp(1_485_248_640_000));

    fn read(text: &str) -> Receipt {
        Receipt::parse(text.as_bytes(), &ReceiptTlvs::default()).expect(text)
    }

    fn receipt(id: &str, state: PartState, error: &str, done_at: Option<Timestamp>) -> Receipt {
        Receipt {
            id: id.into(),
            report: Report {
                state,
                error: error.into(),
                network_type: None,
                done_at,
            },
            evidence: Evidence::default(),
        }
    }

    #[test]
    fn the_format_of_appendix_b_is_read() {
        let text = "id:0123456789 sub:001 dlvrd:001 submit date:1701240903 done date:1701240904 \
                    stat:DELIVRD err:000 text:hellow";
        assert_eq!(
            read(text),
            receipt("0123456789", PartState::Delivered, "000", DONE)
        );
    }

    #[test]
    fn deviations_of_the_field_are_read() {
        let expected = receipt("a_1-B@x", PartState::Undeliverable, "0A7", DONE);
        for text in [
            // No sub and dlvrd, no text.
            "id:a_1-B@x submit date:1701240903 done date:1701240904 stat:UNDELIV err:0A7",
            // Case, and spaces around colons and between fields.
            "ID: a_1-B@x  SUB: 001   Submit Date : 1701240903 Done Date: 1701240904  STAT: undeliv ERR : 0A7 Text:",
            // Order, separators, NUL at the end.
            "stat:UNDELIV, err:0A7, done date:170124090400, id:a_1-B@x\0",
            // Twelve and fourteen digits, fields run together by one word.
            "id:a_1-B@x donedate:201701240904 stat:UNDELIV err:0A7",
            "id:a_1-B@x done_date:20170124090400 stat:UNDELIV err:0A7 text:",
            // The absolute time of 7.1.1, two hours east of UTC.
            "id:a_1-B@x sub:000 done date:170124110400008+ stat:UNDELIV err:0A7",
            // Fields that nobody specified, and lines.
            "id:a_1-B@x\r\nsmsc:7 done date:1701240904 op:12:3 stat:UNDELIV\r\nerr:0A7",
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn ids_of_64_characters_and_more_are_kept_whole() {
        let id = "0af".repeat(30);
        assert_eq!(read(&format!("id:{id} stat:DELIVRD")).id, id);
        let long = format!("id:{} stat:DELIVRD", "a".repeat(300));
        let error = Receipt::parse(long.as_bytes(), &ReceiptTlvs::default());
        assert_eq!(error, Err(NotAReceipt::IdTooLong(300)));
    }

    #[test]
    fn interim_states_are_enroute() {
        for word in ["ENROUTE", "ACKED", "BUFFRED", "BUFFERD", "ACCEPTD"] {
            assert_eq!(
                read(&format!("id:1 stat:{word}")).report.state,
                PartState::Enroute,
                "{word}"
            );
        }
    }

    #[test]
    fn final_states_are_those_of_the_specification() {
        for (word, code, state) in [
            ("DELIVRD", 2, PartState::Delivered),
            ("EXPIRED", 3, PartState::Expired),
            ("DELETED", 4, PartState::Undeliverable),
            ("UNDELIV", 5, PartState::Undeliverable),
            ("UNKNOWN", 7, PartState::Unknown),
            ("REJECTD", 8, PartState::Rejected),
        ] {
            assert_eq!(read(&format!("id:1 stat:{word}")).report.state, state);
            assert_eq!(read(&format!("id:1 stat:{code:03}")).report.state, state);
            assert_eq!(state_of_code(code), Some(state));
        }
    }

    #[test]
    fn tlvs_outweigh_the_text() {
        let tlvs = ReceiptTlvs {
            receipted_message_id: Some(b"7f\0!"),
            message_state: Some(5),
            network_error_code: Some(&[3, 0, 34]),
        };
        let text = b"id:127 done date:1701240904 stat:DELIVRD err:000 text:";
        let mut expected = receipt("7f", PartState::Undeliverable, "034", DONE);
        expected.report.network_type = Some(3);
        assert_eq!(Receipt::parse(text, &tlvs), Ok(expected.clone()));
        expected.report.done_at = None;
        assert_eq!(Receipt::parse(b"", &tlvs), Ok(expected));
    }

    #[test]
    fn empty_and_reserved_tlvs_leave_the_text() {
        let tlvs = ReceiptTlvs {
            receipted_message_id: Some(b"\0"),
            message_state: Some(200),
            network_error_code: Some(&[3, 0, 0]),
        };
        let text = b"id:127 stat:UNDELIV err:069";
        assert_eq!(
            Receipt::parse(text, &tlvs),
            Ok(receipt("127", PartState::Undeliverable, "069", None))
        );
    }

    #[test]
    fn a_receipt_in_ucs2_is_read() {
        let text: Vec<u8> = "id:1 stat:DELIVRD".bytes().flat_map(|b| [0, b]).collect();
        let read = Receipt::parse(&text, &ReceiptTlvs::default());
        assert_eq!(read, Ok(receipt("1", PartState::Delivered, "", None)));
    }

    #[test]
    fn the_senders_own_words_are_not_believed() {
        let text = "id:1 stat:UNDELIV err:001 text:id:2 stat:DELIVRD";
        assert_eq!(
            read(text),
            receipt("1", PartState::Undeliverable, "001", None)
        );
        let none = Receipt::parse(b"id:1 text:stat:DELIVRD", &ReceiptTlvs::default());
        assert_eq!(none, Err(NotAReceipt::NoState));
    }

    #[test]
    fn what_is_no_receipt_says_why() {
        let read =
            |text: &str| Receipt::parse(text.as_bytes(), &ReceiptTlvs::default()).unwrap_err();
        assert_eq!(read("Hello, how are you?"), NotAReceipt::NoId);
        assert_eq!(read("paid:5 stat:DELIVRD"), NotAReceipt::NoId);
        assert_eq!(read("id: sub:001 stat:DELIVRD"), NotAReceipt::NoId);
        assert_eq!(read("id:5 sub:001"), NotAReceipt::NoState);
        assert_eq!(read("id:5 stat:HAPPY"), NotAReceipt::State("HAPPY".into()));
    }

    #[test]
    fn the_shape_of_a_receipt_is_recognised() {
        assert!(looks_like_receipt(
            b"id:1 done date:1701240904 stat:DELIVRD"
        ));
        assert!(!looks_like_receipt(b"id:1 stat:DELIVRD"));
        assert!(!looks_like_receipt(b"my id: 7, done date: soon"));
    }

    #[test]
    fn dates_are_read_and_impossible_ones_are_not() {
        let at = |word: &str| parse_date(word).map(|t| t.0 / 1000);
        assert_eq!(
            at("7001010000"),
            Some(3_155_760_000),
            "two digits are years from 2000 on"
        );
        assert_eq!(at("19700101000000"), Some(0));
        assert_eq!(at("240229235959"), Some(1_709_251_199));
        assert_eq!(at("202402292359"), Some(1_709_251_140));
        assert_eq!(at("180711070012912+"), Some(1_531_281_612));
        assert_eq!(at("180711070012912-"), Some(1_531_281_612 + 6 * 3600));
        for impossible in [
            "2302290000",
            "2413010000",
            "2401012400",
            "0000000000",
            "24010100",
            "soon",
            "",
            "+",
            "é+",
        ] {
            assert_eq!(parse_date(impossible), None, "{impossible}");
        }
    }

    proptest! {
        #[test]
        fn parsing_is_total(octets: Vec<u8>, state: Option<u8>, id: Option<Vec<u8>>, code: Option<Vec<u8>>) {
            let tlvs = ReceiptTlvs {
                receipted_message_id: id.as_deref(),
                message_state: state,
                network_error_code: code.as_deref(),
            };
            if let Ok(receipt) = Receipt::parse(&octets, &tlvs) {
                prop_assert!(!receipt.id.is_empty() && receipt.id.len() <= ID_OCTETS_MAX);
                prop_assert!(receipt.report.error.chars().count() <= ERROR_CHARACTERS_MAX);
            }
        }

        #[test]
        fn parsing_is_total_on_what_resembles_a_receipt(
            text in "((id|stat|err|sub|done date|submit  date|text|é|date|done)( ?: ?|:)[0-9A-Za-zé+ -]{0,16} ?){0,12}"
        ) {
            let parsed = Receipt::parse(text.as_bytes(), &ReceiptTlvs::default());
            if looks_like_receipt(text.as_bytes()) {
                prop_assert!(parsed.is_ok());
            }
        }
    }
}

#[cfg(test)]
#[path = "samples_tests.rs"]
mod samples_tests;

//! What the simulated SMSC remembers: counters, the messages it received (a bounded ring of whole
//! PDUs, decoded only when somebody asks) and a key of each message it took, from which lost and
//! duplicated messages are counted. Knows no session and decides nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::behaviour::write_id;
use super::settings::{IdStyle, Keep, Settings};
use crate::clock::Timestamp;
use crate::domain::message::Body;
use crate::domain::text::{self, Concat};
use crate::smpp::pdu::{self, Sm, tag};

/// Statuses counted one by one; further ones count as [`OTHER_STATUS`], so that hostile settings
/// cannot grow the map.
const STATUSES_MAX: usize = 1_024;
const OTHER_STATUS: u32 = u32::MAX;

/// How often a message was taken, by [`message_key`].
pub type Keys = HashMap<u64, u32, BuildHasherDefault<KeyHasher>>;

/// Everything that is counted, since the start or since the record was last cleared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Open now.
    pub connections: u64,
    pub connections_refused: u64,
    /// Sessions bound now.
    pub bound: u64,
    pub binds: u64,
    pub binds_refused: u64,
    /// submit_sm and data_sm that were read.
    pub submits: u64,
    /// Decided answers by command_status; those swallowed count as what they would have been.
    #[serde(serialize_with = "by_status")]
    pub submits_by_status: BTreeMap<u32, u64>,
    /// Taken: command_status 0, swallowed ones included.
    pub accepted: u64,
    /// Distinct messages among the accepted.
    pub unique: u64,
    /// Accepted ones that had been accepted before.
    pub duplicated: u64,
    /// Accepted ones that could not be told apart because the limit of keys is reached.
    pub untracked: u64,
    pub swallowed: u64,
    /// Connections cut by a rate, a rule or a request.
    pub dropped: u64,
    /// Receipts that will be or were sent, duplicates included.
    pub receipts: u64,
    /// Transmissions, repeats included.
    pub receipts_sent: u64,
    pub receipts_acked: u64,
    /// Left out because the loss rate or a rule said so.
    pub receipts_lost: u64,
    /// Sent twice because the duplication rate said so.
    pub receipts_duplicated: u64,
    pub mo: u64,
    pub mo_sent: u64,
    pub mo_acked: u64,
    /// deliver_sm sent again after a refusal, a time-out or a lost session.
    pub deliveries_repeated: u64,
    /// deliver_sm refused for good, or as often as may be.
    pub deliveries_refused: u64,
    /// deliver_sm lost because too many waited.
    pub deliveries_overflowed: u64,
    /// deliver_sm that wait now for their time or for a session.
    pub deliveries_waiting: u64,
    pub enquire_links: u64,
    pub queries: u64,
    /// cancel_sm that ended their message.
    pub cancels: u64,
    /// replace_sm that were taken.
    pub replaces: u64,
    /// submit_sm_resp whose message_id was made wrong.
    pub id_faults: u64,
    /// submit_sm that were answered twice.
    pub answered_twice: u64,
    /// Times that octets out of place were sent.
    pub garbage: u64,
    /// Steps of the script that were begun.
    pub steps: u64,
    /// PDUs that could not be read or have no place here.
    pub malformed: u64,
}

/// One received message, decoded for people and tests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Received {
    pub index: u64,
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    pub system_id: String,
    /// None: the connection was cut instead of an answer, or the answer was swallowed.
    pub command_status: Option<u32>,
    pub accepted: bool,
    /// As submit_sm_resp gave it, empty where the message was not taken.
    pub message_id: String,
    pub service_type: String,
    pub source_addr_ton: u8,
    pub source_addr_npi: u8,
    pub source_addr: String,
    pub dest_addr_ton: u8,
    pub dest_addr_npi: u8,
    pub destination_addr: String,
    pub esm_class: u8,
    pub protocol_id: u8,
    pub priority_flag: u8,
    pub validity_period: String,
    pub registered_delivery: u8,
    pub data_coding: u8,
    /// Hexadecimal, the user data header included; message_payload where short_message is empty.
    pub short_message: String,
    /// None where the content is binary.
    pub text: Option<String>,
    /// What replace_sm put in its place, hexadecimal.
    pub replaced_with: Option<String>,
    pub concat: Option<Part>,
    pub tlvs: Vec<ReceivedTlv>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    pub reference: u16,
    pub total: u8,
    pub index: u8,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReceivedTlv {
    pub tag: u16,
    /// Hexadecimal.
    pub value: String,
}

/// How a message was answered, for the record.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// None: the connection is cut instead.
    pub command_status: Option<u32>,
    /// Decided and not sent.
    pub swallowed: bool,
    /// The id of a message that was taken.
    pub id: Option<u64>,
}

/// The same message taken twice has the same key: recipient, part and content count; the
/// originator and the concatenation reference, which a repeat may choose anew, do not.
pub fn message_key(destination_addr: &[u8], part: Option<(u8, u8)>, content: &[u8]) -> u64 {
    let digits = destination_addr
        .strip_prefix(b"+")
        .unwrap_or(destination_addr);
    let (total, index) = part.unwrap_or((1, 1));
    // SipHash with fixed keys: the same in every process of one build.
    let mut hasher = std::hash::DefaultHasher::new();
    hasher.write(digits);
    hasher.write(&[0, total, index]);
    hasher.write(content);
    hasher.finish()
}

pub struct Record {
    pub counters: Counters,
    ring: VecDeque<Entry>,
    /// Index of the ring's first entry: indices go on when old entries leave.
    first: u64,
    octets: usize,
    keys: Keys,
}

struct Entry {
    at: Timestamp,
    system_id: Arc<str>,
    answer: Answer,
    id_style: IdStyle,
    id_width: u8,
    frame: Box<[u8]>,
    replaced_with: Option<Box<[u8]>>,
}

/// How far back replace_sm finds its message.
const REPLACE_SPAN: usize = 10_000;

impl Record {
    pub fn new() -> Record {
        Record {
            counters: Counters::default(),
            ring: VecDeque::new(),
            first: 0,
            octets: 0,
            keys: Keys::default(),
        }
    }

    /// Takes note of one submit_sm or data_sm; `frame` is the whole PDU, `sm` the same decoded.
    pub fn note(
        &mut self,
        settings: &Settings,
        at: Timestamp,
        system_id: &Arc<str>,
        frame: &[u8],
        sm: &Sm<'_>,
        answer: Answer,
    ) {
        if answer.id.is_some() {
            self.counters.accepted += 1;
            self.count_key(settings, sm);
        }
        self.count_status(answer.command_status);
        if settings.keep == Keep::Full {
            self.ring.push_back(Entry {
                at,
                system_id: Arc::clone(system_id),
                answer,
                id_style: settings.id_response,
                id_width: settings.id_response_width,
                frame: frame.into(),
                replaced_with: None,
            });
            self.octets += frame.len() + size_of::<Entry>();
        }
        while self.ring.len() > settings.received_max || self.octets > settings.received_bytes_max {
            let Some(oldest) = self.ring.pop_front() else {
                break;
            };
            let replaced = oldest.replaced_with.as_ref().map_or(0, |r| r.len());
            self.octets -= oldest.frame.len() + replaced + size_of::<Entry>();
            self.first += 1;
        }
    }

    /// Entries from index `since`, at most `limit`.
    pub fn received(&self, since: u64, limit: usize) -> Vec<Received> {
        let skip = usize::try_from(since.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let numbered = (self.first..).zip(&self.ring);
        numbered
            .skip(skip)
            .take(limit)
            .map(|(index, entry)| entry.show(index))
            .collect()
    }

    /// The index that the next message will have.
    pub fn next_index(&self) -> u64 {
        self.first + self.ring.len() as u64
    }

    /// Notes the content that replace_sm gave to a message, if it is still remembered.
    pub fn replaced(&mut self, id: u64, content: &[u8]) {
        let recent = self.ring.iter_mut().rev().take(REPLACE_SPAN);
        if let Some(entry) = recent.into_iter().find(|e| e.answer.id == Some(id)) {
            let before = entry.replaced_with.replace(content.into());
            self.octets += content.len();
            self.octets -= before.map_or(0, |b| b.len());
        }
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Forgets messages, keys and counts; indices go on, and what is open now stays counted.
    pub fn clear(&mut self) {
        self.first = self.next_index();
        self.ring = VecDeque::new();
        self.octets = 0;
        self.keys = Keys::default();
        self.counters = Counters {
            connections: self.counters.connections,
            bound: self.counters.bound,
            ..Counters::default()
        };
    }

    fn count_status(&mut self, command_status: Option<u32>) {
        self.counters.submits += 1;
        let Some(decided) = command_status else {
            return;
        };
        let by_status = &mut self.counters.submits_by_status;
        let known = by_status.len() < STATUSES_MAX || by_status.contains_key(&decided);
        let status = if known { decided } else { OTHER_STATUS };
        *by_status.entry(status).or_default() += 1;
    }

    fn count_key(&mut self, settings: &Settings, sm: &Sm<'_>) {
        if settings.keep == Keep::Nothing {
            return;
        }
        let (concat, content) = parts_of(sm);
        let part = concat.map(|c| (c.total, c.index));
        let key = message_key(sm.destination_addr, part, content);
        if let Some(times) = self.keys.get_mut(&key) {
            *times = times.saturating_add(1);
            self.counters.duplicated += 1;
        } else if self.keys.len() < settings.keys_max {
            self.keys.insert(key, 1);
            self.counters.unique += 1;
        } else {
            self.counters.untracked += 1;
        }
    }
}

impl Entry {
    fn show(&self, index: u64) -> Received {
        // Only frames that decoded as one of the two are kept.
        let sm = match pdu::decode(&self.frame).map(|p| p.body) {
            Ok(pdu::Body::SubmitSm(sm)) => sm,
            Ok(pdu::Body::DataSm(data_sm)) => data_sm.as_sm(),
            _ => Sm::default(),
        };
        let mut message_id = Vec::new();
        if let Some(id) = self.answer.id {
            write_id(&mut message_id, id, self.id_style, self.id_width);
        }
        let payload = sm.payload();
        let decoded = text::decode(sm.data_coding, sm.has_udh(), payload);
        Received {
            index,
            at: self.at.millis(),
            system_id: self.system_id.to_string(),
            command_status: self
                .answer
                .command_status
                .filter(|_| !self.answer.swallowed),
            accepted: self.answer.id.is_some(),
            message_id: words(&message_id),
            service_type: words(sm.service_type),
            source_addr_ton: sm.source_addr_ton,
            source_addr_npi: sm.source_addr_npi,
            source_addr: words(sm.source_addr),
            dest_addr_ton: sm.dest_addr_ton,
            dest_addr_npi: sm.dest_addr_npi,
            destination_addr: words(sm.destination_addr),
            esm_class: sm.esm_class,
            protocol_id: sm.protocol_id,
            priority_flag: sm.priority_flag,
            validity_period: words(sm.validity_period),
            registered_delivery: sm.registered_delivery,
            data_coding: sm.data_coding,
            short_message: hex(payload),
            text: match decoded.body {
                Body::Text(text) => Some(text),
                Body::Binary { .. } => None,
            },
            replaced_with: self.replaced_with.as_deref().map(hex),
            concat: parts_of(&sm).0.map(|c| Part {
                reference: c.reference,
                total: c.total,
                index: c.index,
            }),
            tlvs: sm
                .tlvs
                .iter()
                .map(|t| ReceivedTlv {
                    tag: t.tag,
                    value: hex(t.value),
                })
                .collect(),
        }
    }
}

/// Which part of which message this is, by user data header or by sar_ parameters, and the
/// content without the header.
pub fn parts_of<'a>(sm: &Sm<'a>) -> (Option<Concat>, &'a [u8]) {
    let payload = sm.payload();
    if sm.has_udh()
        && let Ok((udh, content)) = text::parse_udh(payload)
    {
        return (udh.concat().ok().flatten(), content);
    }
    if sm.tlvs.is_empty() {
        return (None, payload);
    }
    let number = |tag: u16| sm.tlvs.integer(tag);
    let concat = || {
        let reference = u16::try_from(number(tag::SAR_MSG_REF_NUM)?).ok()?;
        let total = u8::try_from(number(tag::SAR_TOTAL_SEGMENTS)?).ok()?;
        let index = u8::try_from(number(tag::SAR_SEGMENT_SEQNUM)?).ok()?;
        Concat::new(reference, total, index).ok()
    };
    (concat(), payload)
}

pub fn hex(octets: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    octets
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]])
        .map(char::from)
        .collect()
}

fn words(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}

fn by_status<S: Serializer>(map: &BTreeMap<u32, u64>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(map.iter().map(|(status, n)| {
        let name = match *status {
            OTHER_STATUS => "other".to_owned(),
            status => format!("{status:#010x}"),
        };
        (name, n)
    }))
}

/// The keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = self.0.rotate_left(8) ^ u64::from(*octet);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::smpp::pdu::{Pdu, encode};

    fn note(record: &mut Record, settings: &Settings, sm: Sm<'_>, answer: Answer) {
        let mut frame = Vec::new();
        encode(&Pdu::request(1, pdu::Body::SubmitSm(sm)), &mut frame).unwrap();
        record.note(settings, Timestamp(5), &"esme".into(), &frame, &sm, answer);
    }

    const TAKEN: Answer = Answer {
        command_status: Some(0),
        swallowed: false,
        id: Some(48_879),
    };

    fn sm<'a>(destination_addr: &'a [u8], short_message: &'a [u8]) -> Sm<'a> {
        Sm {
            destination_addr,
            short_message,
            ..Sm::default()
        }
    }

    #[test]
    fn a_repeat_counts_as_duplicated_whatever_its_reference_and_sender() {
        let (mut record, settings) = (Record::new(), Settings::default());
        let part = |reference: u8, index: u8| [5, 0, 3, reference, 2, index, b'a', b'a'];
        let (one, two, again) = (part(7, 1), part(7, 2), part(8, 1));
        for message in [&one, &two, &again] {
            let udh = Sm {
                esm_class: pdu::esm_class::UDHI,
                source_addr: message.get(3..4).unwrap(),
                ..sm(b"447700900123", message)
            };
            note(&mut record, &settings, udh, TAKEN);
        }
        assert_eq!((record.counters.unique, record.counters.duplicated), (2, 1));
        let key = message_key(b"+447700900123", Some((2, 1)), b"aa");
        assert_eq!(record.keys().get(&key), Some(&2));
    }

    #[test]
    fn a_refused_message_sent_again_is_no_duplicate() {
        let (mut record, settings) = (Record::new(), Settings::default());
        let refused = Answer {
            command_status: Some(0x58),
            id: None,
            ..TAKEN
        };
        note(&mut record, &settings, sm(b"1", b"a"), refused);
        note(&mut record, &settings, sm(b"1", b"a"), TAKEN);
        assert_eq!((record.counters.unique, record.counters.duplicated), (1, 0));
        assert_eq!(record.counters.submits_by_status.get(&0x58), Some(&1));
    }

    #[test]
    fn the_ring_keeps_the_newest_and_their_indices() {
        let settings = Settings {
            received_max: 3,
            ..Settings::default()
        };
        let mut record = Record::new();
        for text in [b"a", b"b", b"c", b"d", b"e"] {
            note(&mut record, &settings, sm(b"1", text), TAKEN);
        }
        let shown: Vec<(u64, Option<String>)> = record
            .received(0, 10)
            .into_iter()
            .map(|r| (r.index, r.text))
            .collect();
        let expect = [(2, "c"), (3, "d"), (4, "e")].map(|(i, t)| (i, Some(t.to_owned())));
        assert_eq!(shown, expect);
        assert_eq!(record.received(4, 10).len(), 1);
        assert_eq!(record.received(99, 10).len(), 0);
        record.clear();
        assert_eq!((record.next_index(), record.received(0, 10).len()), (5, 0));
    }

    #[test]
    fn the_ring_is_bounded_in_octets_too() {
        let settings = Settings {
            received_bytes_max: 1_000,
            ..Settings::default()
        };
        let mut record = Record::new();
        for _ in 0..100 {
            note(&mut record, &settings, sm(b"1", &[b'x'; 100]), TAKEN);
        }
        assert!(record.received(0, 100).len() < 10);
        assert_eq!(record.next_index(), 100);
    }

    #[test]
    fn keys_alone_are_kept_for_benchmarks() {
        let settings = Settings {
            keep: Keep::Keys,
            keys_max: 1,
            ..Settings::default()
        };
        let mut record = Record::new();
        for text in [b"a", b"a", b"b"] {
            note(&mut record, &settings, sm(b"1", text), TAKEN);
        }
        let counters = &record.counters;
        assert_eq!(
            (counters.unique, counters.duplicated, counters.untracked),
            (1, 1, 1)
        );
        assert_eq!(record.received(0, 10).len(), 0);
    }
}

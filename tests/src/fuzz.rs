//! What must hold of arbitrary octets: a target for each codec that reads what peers send. Each is run
//! on its committed corpus by the tests, and on what a coverage-guided fuzzer makes of it by
//! `make fuzz`. A target panics where its rule is broken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use heliograph::carrier::InboundPart;
use heliograph::clock::Timestamp;
use heliograph::domain::message::Body as Content;
use heliograph::domain::receipt::{
    ID_OCTETS_MAX, IdForm, Receipt, ReceiptTlvs, id_candidates, looks_like_receipt, response_key,
};
use heliograph::domain::text::{
    self, Concat, EncodingWish, Language, Languages, Manner, TextStyle, TextWish, gsm,
};
use heliograph::domain::wap_push::{
    Indication, IndicationAction, Loading, LoadingAction, Push, PushTime,
};
use heliograph::domain::{Address, CarrierId};
use heliograph::pipeline::reassembly::{Added, Joined, Reassembly};
use heliograph::smpp::pdu::{self, Body, Framing, Pdu, Sm, SmResp, decode, encode, tag};
use heliograph::smpp::session::{Event, Role, Session, Settings};
use rusmpp::tokio_codec::CommandCodec;
use tokio_util::bytes::BytesMut;
use tokio_util::codec::Decoder;

/// A name and the rule.
pub type Target = (&'static str, fn(&[u8]));

pub const TARGETS: &[Target] = &[
    ("pdu", pdu),
    ("session", session),
    ("receipt", receipt),
    ("udh", udh),
    ("reassembly", reassembly),
    ("text", text_codecs),
    ("shift", shift),
    ("push", push),
];

/// A bug that `make fuzz` must find first, so that a fuzzer that sees nothing is found out.
pub const PLANTED: Target = ("planted", planted);

/// It has no response (SMPP 3.4, 4.12.1).
const ALERT_NOTIFICATION: u32 = 0x102;

pub fn target(name: &str) -> Option<fn(&[u8])> {
    let mut all = TARGETS.iter().chain([&PLANTED]);
    all.find(|t| t.0 == name).map(|t| t.1)
}

/// The decoder is total; what it read can be written, and is then read as the same; a codec that is
/// not ours reads the same message out of it.
fn pdu(octets: &[u8]) {
    let Framing::Frame(length) = pdu::frame(octets) else {
        return;
    };
    let frame = &octets[..length];
    let read = match decode(frame) {
        Ok(pdu) => pdu,
        Err(error) => {
            assert!(!error.field.is_empty());
            let refusal = error.response();
            let command_id = error.header.command_id;
            let has_none = command_id & 0x8000_0000 != 0 || command_id == ALERT_NOTIFICATION;
            assert_eq!(
                refusal.is_none(),
                has_none,
                "what has a response is answered"
            );
            return;
        }
    };
    let mut written = Vec::new();
    // Longer than SMPP 3.4 has it, and so not to be sent on.
    if encode(&read, &mut written).is_err() {
        assert!(written.is_empty(), "a refused PDU leaves nothing behind");
        return;
    }
    let again = decode(&written).expect("what we write we read");
    assert_eq!(again.sequence_number, read.sequence_number);
    // An error response has no body (SMPP 3.4, 4.4.2).
    if read.command_status == 0 {
        assert_eq!(again, read);
    }
    let mut twice = Vec::new();
    encode(&again, &mut twice).expect("what was written can be written");
    assert_eq!(twice, written, "canonical");
    judged(&written, &again);
}

/// rusmpp refuses more than we do; where it reads, it reads the same.
fn judged(frame: &[u8], ours: &Pdu<'_>) {
    let mut octets = BytesMut::from(frame);
    let Ok(Some(theirs)) = CommandCodec::new().decode(&mut octets) else {
        return;
    };
    assert_eq!(theirs.sequence_number, ours.sequence_number);
    let (Body::SubmitSm(sm) | Body::DeliverSm(sm)) = ours.body else {
        return;
    };
    let same = |source: &str, destination: &str, message: &[u8]| {
        assert_eq!(source.as_bytes(), sm.source_addr);
        assert_eq!(destination.as_bytes(), sm.destination_addr);
        assert_eq!(message, sm.short_message);
    };
    match theirs.pdu() {
        Some(rusmpp::Pdu::SubmitSm(theirs)) => same(
            theirs.source_addr.as_str(),
            theirs.destination_addr.as_str(),
            theirs.short_message().as_ref(),
        ),
        Some(rusmpp::Pdu::DeliverSm(theirs)) => same(
            theirs.source_addr.as_str(),
            theirs.destination_addr.as_str(),
            theirs.short_message().as_ref(),
        ),
        _ => {}
    }
}

/// A stream of octets in pieces of any size, and time that passes: the session owes every request one
/// answer, its window holds, and what it wants to say is bounded by what it heard.
fn session(octets: &[u8]) {
    const WINDOW: usize = 4;
    let Some((seed, stream)) = octets.split_first() else {
        return;
    };
    let settings = Settings {
        window: WINDOW,
        ..Settings::default()
    };
    let mut now = Instant::now();
    let mut session: Session<u32> = Session::new(Role::Smsc, settings, now).expect("a session");
    let mut buffer: VecDeque<u8> = VecDeque::new();
    let (mut token, mut answered, mut said) = (0, 0, 0);
    for piece in stream.chunks(usize::from(seed % 61) + 1) {
        buffer.extend(piece);
        loop {
            let flat = buffer.make_contiguous();
            let length = match pdu::frame(flat) {
                Framing::Incomplete => break,
                Framing::Bad(length) => {
                    session.unframeable(length);
                    assert!(session.closed().is_some());
                    return;
                }
                Framing::Frame(length) => length,
            };
            let frame: Vec<u8> = buffer.drain(..length).collect();
            match session.handle(now, &frame) {
                Event::BindRequest {
                    sequence_number,
                    mode,
                    bind,
                } => {
                    session.accept_bind(now, sequence_number, mode, bind.interface_version, b"smsc")
                }
                Event::Request {
                    sequence_number, ..
                } => {
                    let resp = Body::SubmitSmResp(SmResp::default());
                    session.respond(now, &Pdu::response(sequence_number, 0, resp));
                }
                Event::Answer { token: of, .. } => {
                    assert!(of < token, "an answer to what was never asked");
                    answered += 1;
                    assert!(answered <= token, "answered twice");
                }
                Event::Notice { .. } => {
                    // It has no response, and takes no place.
                    session.notify_encoded(now, &frame).ok();
                }
                // Half of them wait for answers until their patience ends.
                Event::UnbindRequest if seed % 2 == 0 => session.let_go(),
                Event::None | Event::Bound | Event::UnbindRequest => {}
            }
            if session.is_bound() && session.window_free() > 0 {
                let sm = Sm::default();
                if session.request(now, Body::DeliverSm(sm), token).is_ok() {
                    token += 1;
                }
            }
            assert!(session.in_flight() <= WINDOW, "the window");
            said += session.output().len();
            session.wrote(session.output().len());
        }
        now += Duration::from_secs(u64::from(seed % 7));
        let mut expired = Vec::new();
        session.handle_timeout(now, &mut expired);
        answered += expired.len() as u32;
        said += session.output().len();
        session.wrote(session.output().len());
    }
    // An answer is at most a header and a name; a deliver_sm of ours has 33 octets.
    assert!(
        said <= 128 * (octets.len() / 16 + octets.len() / 8 + 4),
        "{said}"
    );
    let lost = session.abandon().len() as u32;
    session.close(heliograph::smpp::session::CloseReason::Aborted);
    assert_eq!(answered + lost, token, "every request ends once");
}

/// The parser is total and bounded, an id that it found meets the response that gave it, and no
/// number of keys is looked up.
fn receipt(octets: &[u8]) {
    let Some((cut, rest)) = octets.split_first() else {
        return;
    };
    let (text, id) = rest.split_at(rest.len().min(usize::from(*cut) * 8));
    let tlvs = ReceiptTlvs {
        receipted_message_id: (!id.is_empty()).then_some(id),
        message_state: id.get(1).copied(),
        network_error_code: id.get(2..5),
    };
    for tlvs in [ReceiptTlvs::default(), tlvs] {
        let Ok(receipt) = Receipt::parse(text, &tlvs) else {
            continue;
        };
        assert!(!receipt.id.is_empty() && receipt.id.len() <= ID_OCTETS_MAX);
        assert!(receipt.report.error.chars().count() <= 64);
        assert!(!receipt.id.contains(|c: char| c.is_control()));
        for form in IdForm::ALL {
            let keys = id_candidates(&receipt.id, form);
            assert!((1..=4).contains(&keys.len()) || response_key(&receipt.id).is_none());
        }
        if let Some(key) = response_key(&receipt.id) {
            let keys = id_candidates(&receipt.id, IdForm::Auto);
            assert_eq!(keys[0].key, key, "as it is, first");
            assert_eq!(
                response_key(&key),
                Some(key.clone()),
                "a key is its own key"
            );
        }
    }
    // An id of digits meets its own other notation.
    if let Some(number) = rest.first_chunk::<8>() {
        let number = u64::from_be_bytes(*number);
        let (hex, decimal) = (format!("{number:X}"), number.to_string());
        let meets = |response: &str, receipt: &str| {
            let key = response_key(response);
            let keys = id_candidates(receipt, IdForm::Auto);
            keys.iter().any(|k| Some(&k.key) == key.as_ref())
        };
        assert!(meets(&hex, &decimal) && meets(&decimal, &hex));
    }
    let _ = looks_like_receipt(text);
}

/// A header reads as its elements add up; a part that claims to be one is one.
fn udh(octets: &[u8]) {
    let Ok((header, content)) = text::parse_udh(octets) else {
        return;
    };
    assert_eq!(1 + header.as_bytes().len() + content.len(), octets.len());
    let elements: usize = header.elements().map(|e| e.data.len() + 2).sum();
    assert_eq!(elements, header.as_bytes().len());
    if let Ok(Some(Concat { total, index, .. })) = header.concat() {
        assert!((1..=total).contains(&index));
    }
    let rest = header.without_concat();
    let rest = text::Udh::new(&rest).expect("what remains is a header");
    assert_eq!(rest.concat(), Ok(None));
    for data_coding in [0, 3, 4, 8] {
        let _ = text::decode(data_coding, true, octets);
    }
}

/// Since when, and which parts are there.
type Awaited = (Timestamp, BTreeMap<u8, Vec<u8>>);

/// Parts in any order, twice, of messages that are never whole: what comes out is what a slow and
/// simple table says, once, and what waits too long comes out as far as it came.
fn reassembly(octets: &[u8]) {
    let carrier = CarrierId::from("north");
    let mut now = Timestamp(1_800_000_000_000);
    let mut table = Reassembly::default();
    let mut model: HashMap<(u8, u8, u8), Awaited> = HashMap::new();
    for (n, op) in octets.chunks_exact(3).enumerate() {
        let (sender, reference) = (op[0] % 3, op[0] / 3 % 4);
        let total = op[1] % 5 + 1;
        let index = op[2] % total + 1;
        if op[0] == 0xFF {
            now = Timestamp(now.0 + u64::from(op[1]) * 1_000_000);
            let late = table.overdue(now, usize::MAX);
            let before = model.len();
            model.retain(|_, (since, _)| now.0 - since.0 < 24 * 3600 * 1000);
            assert_eq!(
                late.len(),
                before - model.len(),
                "as many as waited too long"
            );
            continue;
        }
        let content = vec![n as u8, sender];
        let part = InboundPart {
            originator: Address::international(&format!("44790090000{sender}")).expect("a number"),
            recipient: Address::originator("60777").expect("a short code"),
            data_coding: 4,
            udh: Vec::new(),
            payload: content.clone(),
            concat: Concat::new(u16::from(reference), total, index).ok(),
        };
        let added = table.add(&carrier, part, now);
        let key = (sender, reference, total);
        let all = |parts: &BTreeMap<u8, Vec<u8>>| parts.values().flatten().copied().collect();
        let payload = |joined: Joined| joined.whole().map(|whole| whole.payload);
        match added {
            Added::Complete(joined) => {
                let (_, mut parts) = model.remove(&key).expect("parts that came before");
                parts.insert(index, content);
                assert_eq!(parts.len(), usize::from(total), "complete too early");
                let expect: Vec<u8> = all(&parts);
                assert_eq!(payload(joined), Some(expect), "in order, each part once");
            }
            Added::Waiting => {
                let (_, parts) = model.entry(key).or_insert_with(|| (now, BTreeMap::new()));
                parts.insert(index, content);
                assert!(parts.len() < usize::from(total), "whole, and kept waiting");
            }
            Added::Renewed(before) => {
                let (_, parts) = model.remove(&key).expect("a message before");
                assert!(parts.get(&index).is_some_and(|p| *p != content));
                let expect: Vec<u8> = all(&parts);
                assert_eq!(payload(before), Some(expect), "as far as it came");
                model.insert(key, (now, BTreeMap::from([(index, content)])));
            }
            // Of what waits, or of what was whole a moment ago.
            Added::Repeated => {
                let known = model.get(&key).map(|(_, parts)| parts.get(&index));
                assert!(known.is_none_or(|part| part == Some(&content)));
            }
            Added::Alone(_) => assert_eq!(total, 1, "the table has room for so few"),
        }
    }
}

/// What is written is read as it was; packing is undone by unpacking; segments hold the whole text
/// within their limits, and say what the plan says.
fn text_codecs(octets: &[u8]) {
    for data_coding in [0, 1, 3, 4, 8, 0x11, 0xF5] {
        let _ = text::decode(data_coding, false, octets);
    }
    let read = gsm::decode(octets);
    if octets.iter().all(|b| *b < 0x80) {
        let mut written = Vec::new();
        gsm::encode(&read, &mut written).expect("the alphabet's own characters");
        assert_eq!(gsm::decode(&written), read);
        assert_eq!(gsm::count(&read), Some(written.len()));
        for fill in 0..=6 {
            let packed = gsm::pack(&written, fill);
            assert_eq!(gsm::unpack(&packed, fill, written.len()), written);
        }
    }
    let words = String::from_utf8_lossy(octets);
    let mut ucs2 = Vec::new();
    text::encode_ucs2(&words, &mut ucs2);
    assert_eq!(text::decode_ucs2(&ucs2), words);
    segments(&words);
}

fn segments(words: &str) {
    let content = Content::Text(words.to_owned());
    let plan = text::plan(&content);
    let cut = text::segment(&content, 7);
    let (Ok(plan), Ok(cut)) = (&plan, &cut) else {
        assert_eq!(plan.is_err(), cut.is_err(), "the plan and the cut agree");
        return;
    };
    assert_eq!(usize::from(plan.segments), cut.segments.len());
    let mut whole = String::new();
    for segment in &cut.segments {
        let message = segment.short_message();
        assert!(message.len() <= 160, "{} octets", message.len());
        let decoded = text::decode(cut.data_coding, segment.udhi(), &message);
        match decoded.body {
            Content::Text(part) => whole.push_str(&part),
            other => panic!("a text became {other:?}"),
        }
    }
    assert_eq!(whole, words, "no character is lost or cut");
}

/// Letters under any national tables (3GPP TS 23.038, 6.2.1.2): whatever septets a phone sends under
/// them are read, one letter each at most; and what they read as travels under every choice of tables
/// and comes back as it was, counted as it was planned.
fn shift(octets: &[u8]) {
    let [single, locking, septets @ ..] = octets else {
        return;
    };
    // The elements of both tables, known languages and unknown ones.
    let mut message = vec![6, 0x24, 1, single % 16, 0x25, 1, locking % 16];
    message.extend_from_slice(septets);
    let Content::Text(words) = text::decode(0, true, &message).body else {
        return;
    };
    assert!(
        words.chars().count() <= septets.len(),
        "a septet is a letter at most"
    );
    let named = [single, locking].map(|code| Language::from_code(code % 16));
    let languages: Languages = named.into_iter().flatten().collect();
    for encoding in [
        EncodingWish::Auto,
        EncodingWish::National,
        EncodingWish::Ucs2,
        EncodingWish::Gsm7,
    ] {
        let wish = TextWish {
            encoding: Some(encoding),
            languages,
            transliterate: Some(false),
        };
        let manner = Manner {
            wish,
            message_class: None,
            data_coding: None,
        };
        comes_back(&words, &manner);
    }
}

fn comes_back(words: &str, manner: &Manner) {
    let (content, style) = (Content::Text(words.to_owned()), TextStyle::default());
    let plan = text::plan_for(&content, manner, &style);
    let cut = text::render(&content, manner, &style, 7);
    let (Ok(plan), Ok(cut)) = (&plan, &cut) else {
        assert_eq!(plan.is_err(), cut.is_err(), "the plan and the cut agree");
        let encoding = manner.wish.encoding;
        let too_long = words.chars().count() > 1_000;
        let narrow = encoding == Some(EncodingWish::Gsm7);
        assert!(
            words.is_empty() || too_long || narrow,
            "{words:?} cannot travel"
        );
        return;
    };
    assert_eq!(usize::from(plan.segments), cut.segments.len());
    let mut whole = String::new();
    for segment in &cut.segments {
        let message = segment.short_message();
        // Septets travel one an octet, behind a header that takes its room.
        assert!(message.len() <= 160, "{} octets", message.len());
        match text::decode(cut.data_coding, segment.udhi(), &message).body {
            Content::Text(part) => whole.push_str(&part),
            other => panic!("a text became {other:?}"),
        }
    }
    assert_eq!(whole, words, "under {manner:?}");
}

/// A push is read by its own rules (WAP-167, WAP-168, WAP-192) as what it was made of, and its parts
/// hold all of it.
fn push(octets: &[u8]) {
    const PREFIXES: [&str; 5] = ["", "http://", "http://www.", "https://", "https://www."];
    let [kind, action, time, rest @ ..] = octets else {
        return;
    };
    let words = String::from_utf8_lossy(rest);
    let mut pieces = words.splitn(3, '\u{1}').map(str::to_owned);
    let mut piece = || pieces.next().unwrap_or_default();
    let url = format!("{}{}", PREFIXES[usize::from(kind >> 1) % 5], piece());
    let (shown, id) = (piece(), Some(piece()).filter(|id| !id.is_empty()));
    let moment = PushTime::new(
        u16::from(*time) * 40,
        [*action % 13, *kind, 23, 59, *time % 60],
    );
    let made = if kind & 1 == 0 {
        Push::Indication(Indication {
            url: url.clone(),
            text: shown.clone(),
            id: id.clone(),
            action: IndicationAction::ALL[usize::from(*action) % 5],
            created: moment,
            expires: moment.filter(|_| action & 8 != 0),
        })
    } else {
        Push::Loading(Loading {
            url: url.clone(),
            action: LoadingAction::ALL[usize::from(*action) % 3],
        })
    };
    let all = match kind & 1 {
        0 => vec![Some(&url), Some(&shown), id.as_ref()],
        _ => vec![Some(&url)],
    };
    let holds = |text: &&String| !text.is_empty() && !text.contains('\0');
    let sound = all.iter().flatten().all(holds);
    let body = match made.body() {
        Ok(body) => body,
        Err(error) => {
            assert!(
                !sound && ["url", "id", "text"].contains(&error.field()),
                "{error}"
            );
            return;
        }
    };
    assert!(sound, "what WBXML cannot hold was written");
    let Content::Binary { udh, data } = &body else {
        panic!("a push is octets");
    };
    // WAP-259: to port 2948, from 9200, by 16-bit addresses.
    assert_eq!(udh[..], [0x05, 0x04, 0x0B, 0x84, 0x23, 0xF0]);
    let read = ReadPush::of(data).expect("what a phone can read");
    assert_eq!(read.url, url);
    if kind & 1 == 0 {
        assert_eq!((read.text, read.id), (Some(shown), id));
    }
    let Ok(cut) = text::segment(&body, 7) else {
        assert!(data.len() > 140 * 100, "{} octets", data.len());
        return;
    };
    let mut whole = Vec::new();
    for segment in &cut.segments {
        assert!(segment.short_message().len() <= 140);
        whole.extend_from_slice(&segment.payload);
    }
    assert_eq!(&whole, data);
}

/// What a phone makes of a push: written from the specifications' tables of tokens alone.
#[derive(Default)]
struct ReadPush {
    url: String,
    text: Option<String>,
    id: Option<String>,
}

impl ReadPush {
    fn of(data: &[u8]) -> Option<ReadPush> {
        // Transaction, Push, four octets of headers: content type and charset UTF-8.
        let [_, 0x06, 0x04, 0x03, content_type, 0x81, 0xEA, rest @ ..] = data else {
            return None;
        };
        // WBXML 1.2, the document, UTF-8, no string table.
        let [0x02, document, 0x6A, 0x00, tokens @ ..] = rest else {
            return None;
        };
        let mut rest = tokens;
        let href = match (content_type, document) {
            (0xAE, 0x05) => {
                rest = rest.strip_prefix(&[0x45, 0xC6])?;
                0x0B
            }
            (0xB0, 0x06) => {
                rest = rest.strip_prefix(&[0x85])?;
                0x08
            }
            _ => return None,
        };
        let mut read = ReadPush::default();
        while !rest.starts_with(&[0x01]) {
            let (token, after) = rest.split_first()?;
            rest = after;
            match *token {
                prefix if (href..href + 5).contains(&prefix) => {
                    let prefixes = ["", "http://", "http://www.", "https://", "https://www."];
                    read.url = prefixes[usize::from(prefix - href)].to_owned();
                    read.url.push_str(&ReadPush::value(&mut rest)?);
                }
                0x11 if href == 0x0B => read.id = Some(ReadPush::value(&mut rest)?),
                0x0A | 0x10 if href == 0x0B => {
                    let [0xC3, length, after @ ..] = rest else {
                        return None;
                    };
                    let (digits, after) = after.split_at_checked(usize::from(*length))?;
                    if digits.len() > 7 || digits.iter().any(|d| d >> 4 > 9 || d & 15 > 9) {
                        return None;
                    }
                    rest = after;
                }
                0x05..=0x09 => {}
                _ => return None,
            }
        }
        rest = &rest[1..];
        if href == 0x0B {
            read.text = Some(ReadPush::value(&mut rest)?);
            rest = rest.strip_prefix(&[0x01, 0x01])?;
        }
        rest.is_empty().then_some(read)
    }

    /// Inline strings, and the domains that have a token.
    fn value(rest: &mut &[u8]) -> Option<String> {
        let mut value = String::new();
        loop {
            match *rest {
                [0x03, after @ ..] => {
                    let end = after.iter().position(|b| *b == 0)?;
                    value.push_str(std::str::from_utf8(&after[..end]).ok()?);
                    *rest = &after[end + 1..];
                }
                [domain @ 0x85..=0x88, after @ ..] => {
                    let domains = [".com/", ".edu/", ".net/", ".org/"];
                    value.push_str(domains[usize::from(domain - 0x85)]);
                    *rest = after;
                }
                _ => return Some(value),
            }
        }
    }
}

fn planted(octets: &[u8]) {
    let tlvs = match decode(octets).map(|p| p.body) {
        Ok(Body::DeliverSm(sm)) => sm.tlvs,
        _ => return,
    };
    assert!(tlvs.get(tag::USER_MESSAGE_REFERENCE).is_none(), "planted");
}

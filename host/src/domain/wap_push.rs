//! WAP push: a service indication or a service loading as binary WBXML behind a WSP header, sent to the
//! phone's push port (WAP-167, WAP-168, WAP-192, WAP-230, WAP-259). Makes a binary body; sends nothing.

use std::fmt;

use super::message::Body;
use super::text::ports_element;

/// Connectionless session service, push, and the port that the originator answers to (WAP-259, annex B).
const PORT_PUSH: u16 = 2948;
const PORT_WSP: u16 = 9200;

/// What a phone is to be shown or to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    Indication(Indication),
    Loading(Loading),
}

/// A text with a link (WAP-167).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indication {
    pub url: String,
    pub text: String,
    /// Names the indication, so that a later one can replace or delete it; none: the URL does.
    pub id: Option<String>,
    pub action: IndicationAction,
    pub created: Option<PushTime>,
    pub expires: Option<PushTime>,
}

/// A page to be loaded without asking (WAP-168).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loading {
    pub url: String,
    pub action: LoadingAction,
}

/// How much it is to be noticed (WAP-167, 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IndicationAction {
    None,
    Low,
    #[default]
    Medium,
    High,
    Delete,
}

impl IndicationAction {
    pub const ALL: [IndicationAction; 5] = [
        IndicationAction::None,
        IndicationAction::Low,
        IndicationAction::Medium,
        IndicationAction::High,
        IndicationAction::Delete,
    ];

    pub fn name(self) -> &'static str {
        match self {
            IndicationAction::None => "signal-none",
            IndicationAction::Low => "signal-low",
            IndicationAction::Medium => "signal-medium",
            IndicationAction::High => "signal-high",
            IndicationAction::Delete => "delete",
        }
    }

    fn token(self) -> u8 {
        match self {
            IndicationAction::None => 0x05,
            IndicationAction::Low => 0x06,
            IndicationAction::Medium => 0x07,
            IndicationAction::High => 0x08,
            IndicationAction::Delete => 0x09,
        }
    }
}

/// Whether the page is shown at once (WAP-168, 5.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LoadingAction {
    #[default]
    Low,
    High,
    Cache,
}

impl LoadingAction {
    pub const ALL: [LoadingAction; 3] = [
        LoadingAction::Low,
        LoadingAction::High,
        LoadingAction::Cache,
    ];

    pub fn name(self) -> &'static str {
        match self {
            LoadingAction::Low => "execute-low",
            LoadingAction::High => "execute-high",
            LoadingAction::Cache => "cache",
        }
    }

    fn token(self) -> u8 {
        match self {
            LoadingAction::Low => 0x05,
            LoadingAction::High => 0x06,
            LoadingAction::Cache => 0x07,
        }
    }
}

/// A moment, UTC, as two decimal digits an octet: century, year, month, day, hour, minute, second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PushTime([u8; 7]);

impl PushTime {
    /// None where a number has more than its digits.
    pub fn new(year: u16, rest: [u8; 5]) -> Option<PushTime> {
        let [century, in_century] = [year / 100, year % 100].map(|n| u8::try_from(n).ok());
        let [month, day, hour, minute, second] = rest;
        let all = [century?, in_century?, month, day, hour, minute, second];
        all.iter()
            .all(|n| *n < 100)
            .then(|| PushTime(all.map(|n| ((n / 10) << 4) | (n % 10))))
    }

    /// Zeros at the end are left out (WAP-167, 8.2.2).
    fn octets(&self) -> &[u8] {
        let zeros = self.0.iter().rev().take_while(|o| **o == 0).count();
        &self.0[..self.0.len() - zeros]
    }
}

/// A string that WBXML cannot hold. The client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    Empty(&'static str),
    /// An inline string ends at its first U+0000.
    Null(&'static str),
}

impl PushError {
    pub fn field(&self) -> &'static str {
        match self {
            PushError::Empty(field) | PushError::Null(field) => field,
        }
    }
}

impl fmt::Display for PushError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PushError::Empty(_) => write!(f, "is empty"),
            PushError::Null(_) => write!(f, "holds U+0000, which a WBXML string cannot"),
        }
    }
}

impl std::error::Error for PushError {}

/// WBXML tokens that both documents share (WAP-192, 7.1).
const END: u8 = 0x01;
const STR_I: u8 = 0x03;
const OPAQUE: u8 = 0xC3;

impl Push {
    /// The message that carries it: data for the push port.
    pub fn body(&self) -> Result<Body, PushError> {
        let mut data = Vec::with_capacity(140);
        match self {
            Push::Indication(indication) => {
                wsp_header(&mut data, 0x2E);
                indication.write(&mut data)?;
            }
            Push::Loading(loading) => {
                wsp_header(&mut data, 0x30);
                loading.write(&mut data)?;
            }
        }
        Ok(Body::Binary {
            udh: ports_element(PORT_PUSH, PORT_WSP).to_vec(),
            data,
        })
    }
}

/// Transaction id, the PDU type Push, and the content type with its charset (WAP-230, 8.2.4.1 and
/// 8.4.2.24): application/vnd.wap.sic or slc, UTF-8.
fn wsp_header(out: &mut Vec<u8>, content_type: u8) {
    out.extend_from_slice(&[0x01, 0x06, 0x04, 0x03, 0x80 | content_type, 0x81, 0xEA]);
}

/// WBXML 1.2, the document's public identifier, UTF-8, no string table (WAP-192, 5.4).
fn wbxml_header(out: &mut Vec<u8>, document: u8) {
    out.extend_from_slice(&[0x02, document, 0x6A, 0x00]);
}

impl Indication {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), PushError> {
        wbxml_header(out, 0x05);
        // <si> with content; <indication> with attributes and content (WAP-167, 8.3).
        out.extend_from_slice(&[0x45, 0xC6]);
        address(out, &self.url, 0x0B)?;
        if let Some(created) = &self.created {
            out.push(0x0A);
            opaque(out, created);
        }
        if let Some(expires) = &self.expires {
            out.push(0x10);
            opaque(out, expires);
        }
        if let Some(id) = &self.id {
            out.push(0x11);
            string(out, "id", id)?;
        }
        // The default one is not written.
        if self.action != IndicationAction::default() {
            out.push(self.action.token());
        }
        out.push(END);
        string(out, "text", &self.text)?;
        out.extend_from_slice(&[END, END]);
        Ok(())
    }
}

impl Loading {
    fn write(&self, out: &mut Vec<u8>) -> Result<(), PushError> {
        wbxml_header(out, 0x06);
        // <sl> with attributes and no content (WAP-168, 9.3).
        out.push(0x85);
        address(out, &self.url, 0x08)?;
        if self.action != LoadingAction::default() {
            out.push(self.action.token());
        }
        out.push(END);
        Ok(())
    }
}

/// The attribute href; `href` is its token without a prefix, those with one follow it.
fn address(out: &mut Vec<u8>, url: &str, href: u8) -> Result<(), PushError> {
    const PREFIXES: [(u8, &str); 4] = [
        (2, "http://www."),
        (1, "http://"),
        (4, "https://www."),
        (3, "https://"),
    ];
    const DOMAINS: [(u8, &str); 4] = [
        (0x85, ".com/"),
        (0x86, ".edu/"),
        (0x87, ".net/"),
        (0x88, ".org/"),
    ];
    check("url", url)?;
    let (offset, rest) = PREFIXES
        .iter()
        .find_map(|(offset, prefix)| Some((*offset, url.strip_prefix(prefix)?)))
        .unwrap_or((0, url));
    out.push(href + offset);
    let host_end = rest.find('/').map_or(rest.len(), |slash| slash + 1);
    let (host, path) = rest.split_at(host_end);
    match DOMAINS
        .iter()
        .find_map(|(token, domain)| Some((*token, host.strip_suffix(domain)?)))
    {
        Some((token, host)) => {
            inline(out, host);
            out.push(token);
            inline(out, path);
        }
        None => inline(out, rest),
    }
    Ok(())
}

fn string(out: &mut Vec<u8>, field: &'static str, text: &str) -> Result<(), PushError> {
    check(field, text)?;
    inline(out, text);
    Ok(())
}

fn check(field: &'static str, text: &str) -> Result<(), PushError> {
    if text.is_empty() {
        return Err(PushError::Empty(field));
    }
    if text.contains('\0') {
        return Err(PushError::Null(field));
    }
    Ok(())
}

fn inline(out: &mut Vec<u8>, text: &str) {
    if !text.is_empty() {
        out.push(STR_I);
        out.extend_from_slice(text.as_bytes());
        out.push(0);
    }
}

fn opaque(out: &mut Vec<u8>, time: &PushTime) {
    let octets = time.octets();
    out.push(OPAQUE);
    // At most seven.
    out.push(octets.len() as u8);
    out.extend_from_slice(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    const WSP: usize = 7;

    fn data(push: &Push) -> Vec<u8> {
        match push.body().expect("can be written") {
            Body::Binary { udh, data } => {
                assert_eq!(udh, [0x05, 0x04, 0x0B, 0x84, 0x23, 0xF0]);
                data
            }
            Body::Text(_) => panic!("text"),
        }
    }

    fn indication(url: &str, text: &str) -> Indication {
        Indication {
            url: url.to_owned(),
            text: text.to_owned(),
            id: None,
            action: IndicationAction::Medium,
            created: None,
            expires: None,
        }
    }

    #[test]
    fn an_indication_is_the_example_of_its_specification() {
        // WAP-167, 8.4.
        let push = Push::Indication(Indication {
            created: PushTime::new(1999, [6, 25, 15, 23, 15]),
            expires: PushTime::new(1999, [6, 30, 0, 0, 0]),
            ..indication(
                "http://www.xyz.com/email/123/abc.wml",
                "You have 4 new emails",
            )
        });
        let mut expected = vec![0x02, 0x05, 0x6A, 0x00, 0x45, 0xC6, 0x0D, 0x03];
        expected.extend(b"xyz\0\x85\x03email/123/abc.wml\0");
        expected.extend([0x0A, 0xC3, 0x07, 0x19, 0x99, 0x06, 0x25, 0x15, 0x23, 0x15]);
        expected.extend([0x10, 0xC3, 0x04, 0x19, 0x99, 0x06, 0x30, 0x01, 0x03]);
        expected.extend(b"You have 4 new emails\0\x01\x01");
        let data = data(&push);
        assert_eq!(data[..WSP], [0x01, 0x06, 0x04, 0x03, 0xAE, 0x81, 0xEA]);
        assert_eq!(data[WSP..], expected);
    }

    #[test]
    fn a_loading_is_the_example_of_its_specification() {
        // WAP-168, 9.4.
        let push = Push::Loading(Loading {
            url: "http://www.xyz.com/ppaid/123/abc.wml".to_owned(),
            action: LoadingAction::Low,
        });
        let mut expected = vec![0x02, 0x06, 0x6A, 0x00, 0x85, 0x0A, 0x03];
        expected.extend(b"xyz\0\x85\x03ppaid/123/abc.wml\0\x01");
        let data = data(&push);
        assert_eq!(data[4], 0xB0);
        assert_eq!(data[WSP..], expected);
    }

    #[test]
    fn actions_ids_and_other_schemes_have_their_tokens() {
        let push = Push::Indication(Indication {
            id: Some("a1".to_owned()),
            action: IndicationAction::High,
            ..indication("https://example.org/", "hé")
        });
        let mut expected = vec![0x0E, 0x03];
        expected.extend(b"example\0\x88\x11\x03a1\0\x08\x01\x03h\xc3\xa9\0\x01\x01");
        assert_eq!(data(&push)[WSP + 6..], expected);
        let push = Push::Loading(Loading {
            url: "wtai://wp/mc;5551234".to_owned(),
            action: LoadingAction::High,
        });
        let mut expected = vec![0x08, 0x03];
        expected.extend(b"wtai://wp/mc;5551234\0\x06\x01");
        assert_eq!(data(&push)[WSP + 5..], expected);
        // The path may end as a domain does; only the host's end has a token.
        let push = Push::Loading(Loading {
            url: "http://a/b.com/".to_owned(),
            action: LoadingAction::Low,
        });
        let mut expected = vec![0x09, 0x03];
        expected.extend(b"a/b.com/\0\x01");
        assert_eq!(data(&push)[WSP + 5..], expected);
    }

    #[test]
    fn what_would_end_a_string_early_is_refused() {
        let refused = |url, text| Push::Indication(indication(url, text)).body().unwrap_err();
        assert_eq!(refused("http://a\0b", "x"), PushError::Null("url"));
        assert_eq!(refused("http://a", "x\0"), PushError::Null("text"));
        assert_eq!(refused("http://a", ""), PushError::Empty("text"));
        assert_eq!(PushTime::new(2026, [11, 100, 0, 0, 0]), None);
        assert_eq!(PushTime::new(10_000, [1, 1, 0, 0, 0]), None);
    }
}

//! How a body would travel, for a preview: the encoding and its tables, every segment with its header,
//! what would be rewritten, and which characters the GSM default alphabet lacks.

use schemars::JsonSchema;
use serde::Serialize;

use super::hex;
use crate::domain::Body;
use crate::domain::text::{Multipart, Segment, Segmented, TextStyle, Unit, Wire, gsm};

/// Characters beyond GSM that are listed at most.
const STRANGERS_MAX: usize = 100;

/// What the first carrier of the route would get; what most carriers would where there is no route.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Rendering")]
pub struct RenderingView<'a> {
    /// `gsm7`, `ascii`, `latin1`, `ucs2` or `octets`: what the octets are.
    pub encoding: &'static str,
    /// Languages of the national tables that it uses.
    pub locking_shift: Option<&'static str>,
    pub single_shift: Option<&'static str>,
    /// `septets`, `UTF-16 code units` or `octets`.
    pub unit: &'static str,
    /// Headers are not counted.
    pub units: usize,
    /// SMPP 3.4, 5.2.19.
    pub data_coding: u8,
    /// SMPP 3.4, 5.3.2.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dest_addr_subunit: Option<u8>,
    /// How several segments are tied together: `udh8`, `udh16`, `sar` or `payload`, the last as one
    /// submission that the carrier cuts.
    pub multipart: &'static str,
    pub segments: Vec<SegmentView<'a>>,
    /// The text that is sent, where it was rewritten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewritten: Option<RewrittenView<'a>>,
    /// The first hundred characters that the GSM default alphabet and its extension lack: what makes
    /// a text UCS-2, or needs a national table.
    pub beyond_gsm7: Vec<StrangerView>,
}

/// One submission.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Segment")]
pub struct SegmentView<'a> {
    /// None in a binary message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<&'a str>,
    /// Where it begins and ends: in characters of the text that is sent, or in octets of the data.
    pub start: usize,
    pub end: usize,
    pub units: usize,
    /// The user data header without its length octet, hexadecimal; empty where there is none.
    pub udh: String,
    /// Of short_message, header included.
    pub octets: usize,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Rewritten")]
pub struct RewrittenView<'a> {
    pub text: &'a str,
    pub changes: Vec<ChangeView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Change")]
pub struct ChangeView<'a> {
    /// In characters of the text as it was, from 0.
    pub position: usize,
    pub from: &'a str,
    pub to: &'a str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Character")]
pub struct StrangerView {
    /// In characters of the text that is sent, from 0.
    pub position: usize,
    pub character: char,
    /// As `U+20AC`.
    pub code_point: String,
}

impl<'a> RenderingView<'a> {
    pub fn of(body: &'a Body, segmented: &'a Segmented, style: &TextStyle) -> RenderingView<'a> {
        let text = match (body, &segmented.rewritten) {
            (_, Some(rewritten)) => Some(rewritten.text.as_str()),
            (Body::Text(text), None) => Some(text.as_str()),
            (Body::Binary { .. }, None) => None,
        };
        let characters = text.into_iter().flat_map(|t| t.chars().enumerate());
        let strangers = characters.filter(|(_, c)| gsm::septets(*c) == 0);
        RenderingView {
            encoding: segmented.wire.name(),
            locking_shift: segmented.shift.locking.map(|l| l.name()),
            single_shift: segmented.shift.single.map(|l| l.name()),
            unit: Unit::of(segmented.alphabet).name(),
            units: segmented.units,
            data_coding: segmented.data_coding,
            dest_addr_subunit: segmented.dest_addr_subunit,
            multipart: tied_by(segmented, style),
            segments: segments(text, segmented),
            rewritten: segmented.rewritten.as_ref().map(|r| RewrittenView {
                text: &r.text,
                changes: r
                    .changes
                    .iter()
                    .map(|c| ChangeView {
                        position: c.position,
                        from: &c.from,
                        to: &c.to,
                    })
                    .collect(),
            }),
            beyond_gsm7: strangers
                .take(STRANGERS_MAX)
                .map(|(position, character)| StrangerView {
                    position,
                    character,
                    code_point: format!("U+{:04X}", u32::from(character)),
                })
                .collect(),
        }
    }
}

/// As it is for these segments: a header of our own leaves the carrier no place for its.
fn tied_by(segmented: &Segmented, style: &TextStyle) -> &'static str {
    let own: Vec<u8> = segmented
        .segments
        .first()
        .map_or(Vec::new(), |s| s.udh.clone());
    match style.multipart.beside(&own) {
        Multipart::Udh8 => "udh8",
        Multipart::Udh16 => "udh16",
        Multipart::Sar => "sar",
        Multipart::Payload => "payload",
    }
}

fn segments<'a>(text: Option<&'a str>, segmented: &Segmented) -> Vec<SegmentView<'a>> {
    let (mut begin, mut start) = (0, 0);
    let all = segmented.segments.iter().map(|segment| {
        let part = text.and_then(|t| t.get(begin..segment.end));
        let length = part.map_or(segment.end - begin, |p| p.chars().count());
        let view = SegmentView {
            text: part,
            start,
            end: start + length,
            units: units(segment, part, segmented.wire),
            udh: hex(&segment.udh),
            octets: segment.short_message_len(),
        };
        begin = segment.end;
        start = view.end;
        view
    });
    all.collect()
}

fn units(segment: &Segment, part: Option<&str>, wire: Wire) -> usize {
    match (wire, part) {
        // An octet each, and two septets where the phone will need them.
        (Wire::Default(_), Some(part)) => part.chars().map(gsm::septets).sum(),
        (Wire::Ucs2, _) => segment.payload.len() / 2,
        (Wire::Gsm7 | Wire::Default(_) | Wire::Latin1 | Wire::Octets, _) => segment.payload.len(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::domain::text::{EncodingWish, Manner, TextWish, render};

    fn shown(text: &str, wish: TextWish, style: TextStyle) -> Value {
        let body = Body::Text(text.to_owned());
        let manner = Manner {
            wish,
            ..Manner::default()
        };
        let segmented = render(&body, &manner, &style, 0x0107).unwrap();
        serde_json::to_value(RenderingView::of(&body, &segmented, &style)).unwrap()
    }

    #[test]
    fn each_segment_is_shown_with_its_text_and_header() {
        let text = format!("{}€z", "é".repeat(152));
        let long = format!("{text}{}", "y".repeat(20));
        let view = shown(&long, TextWish::default(), TextStyle::default());
        assert_eq!(view["encoding"], "gsm7");
        assert_eq!(view["units"], 152 + 2 + 21);
        assert_eq!(view["segments"][0]["udh"], "0003070201");
        assert_eq!(view["segments"][0]["text"], "é".repeat(152));
        assert_eq!(view["segments"][0]["octets"], 158);
        let second = &view["segments"][1];
        assert_eq!(
            (&second["start"], &second["end"]),
            (&json!(152), &json!(174))
        );
        assert_eq!(second["units"], 23);
        assert_eq!(view["beyond_gsm7"], json!([]));
        let sar = TextStyle {
            multipart: Multipart::Sar,
            ..TextStyle::default()
        };
        let view = shown(&long, TextWish::default(), sar);
        assert_eq!(
            (&view["multipart"], &view["segments"][0]["udh"]),
            (&json!("sar"), &json!(""))
        );
    }

    #[test]
    fn characters_that_force_ucs2_are_named() {
        let view = shown("a “😀", TextWish::default(), TextStyle::default());
        assert_eq!(view["encoding"], "ucs2");
        assert_eq!(
            view["beyond_gsm7"],
            json!([
                { "position": 2, "character": "“", "code_point": "U+201C" },
                { "position": 3, "character": "😀", "code_point": "U+1F600" },
            ])
        );
    }

    #[test]
    fn what_would_be_rewritten_is_shown() {
        let wish = TextWish {
            transliterate: Some(true),
            ..TextWish::default()
        };
        let view = shown("it’s", wish, TextStyle::default());
        assert_eq!(view["rewritten"]["text"], "it's");
        let change = json!({ "position": 2, "from": "’", "to": "'" });
        assert_eq!(view["rewritten"]["changes"], json!([change]));
        assert_eq!(view["segments"][0]["text"], "it's");
        assert_eq!(view["beyond_gsm7"], json!([]));
    }

    #[test]
    fn national_tables_are_named() {
        let wish = TextWish {
            encoding: Some(EncodingWish::National),
            ..TextWish::default()
        };
        let view = shown(&format!("{}ş", "a".repeat(100)), wish, TextStyle::default());
        assert_eq!(
            (&view["single_shift"], &view["locking_shift"]),
            (&json!("turkish"), &Value::Null)
        );
        assert_eq!(view["segments"][0]["udh"], "240101");
        assert_eq!(view["beyond_gsm7"][0]["position"], 100);
    }
}

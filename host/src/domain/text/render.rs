//! A body as its carrier is to get it: chosen, counted, cut and written, each segment with its
//! header. Owns the order of these steps; what each decides is in the modules it names.

use super::choice::{Abilities, TextWish, choose};
use super::segment::{
    Limits, Reference, SegmentPlan, TextError, USER_DATA_OCTETS, Unit, count_text, cut, finish,
    plan_coded,
};
use super::shift::{Codec, IE_LOCKING_SHIFT, IE_SINGLE_SHIFT};
use super::style::{Labels, Multipart, TextStyle, Wire, charset_of, ends_in_escape, latin1};
use super::transliterate::Change;
use super::udh::{Concat, IE_PORTS_8, IE_PORTS_16, Udh};
use super::{Alphabet, Charset, ShiftTables, encode_ucs2, gsm};
use crate::domain::message::Body;

/// What a message says of how its body is to travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    pub wish: TextWish,
    /// 0 to 3 (3GPP TS 23.038, 4).
    pub message_class: Option<u8>,
    /// Of a binary body, sent as it is.
    pub data_coding: Option<u8>,
}

/// One short message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// User data header without its length octet; empty where there is none.
    pub udh: Vec<u8>,
    pub payload: Vec<u8>,
    /// Told in sar_msg_ref_num, sar_total_segments and sar_segment_seqnum.
    pub sar: Option<Concat>,
    /// Where it ends in the body: octets of the text (as UTF-8) or of the data.
    pub end: usize,
}

/// A body as its carrier is to get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segmented {
    pub alphabet: Alphabet,
    pub shift: ShiftTables,
    pub wire: Wire,
    /// SMPP 3.4, 5.2.19.
    pub data_coding: u8,
    /// SMPP 3.4, 5.3.2.1.
    pub dest_addr_subunit: Option<u8>,
    /// What is submitted, each as one submit_sm.
    pub segments: Vec<Segment>,
    /// Short messages that reach the phone: more than are submitted where the SMSC cuts.
    pub count: u8,
    /// Septets, code units or octets, by alphabet; headers are not counted.
    pub units: usize,
    /// The text that is sent, where it was rewritten.
    pub rewritten: Option<Rewritten>,
}

/// A text that was rewritten to need fewer segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewritten {
    pub text: String,
    pub changes: Vec<Change>,
}

impl Segment {
    pub fn new(udh: Vec<u8>, payload: Vec<u8>) -> Segment {
        Segment {
            end: payload.len(),
            udh,
            payload,
            sar: None,
        }
    }

    /// Whether esm_class needs [`super::ESM_CLASS_UDHI`].
    pub fn udhi(&self) -> bool {
        !self.udh.is_empty()
    }

    /// sm_length. At most 160 but where the SMSC is to cut.
    pub fn short_message_len(&self) -> usize {
        match self.udh.len() {
            0 => self.payload.len(),
            n => 1 + n + self.payload.len(),
        }
    }

    /// Appends the octets of short_message: header length, header, payload.
    pub fn write_short_message(&self, out: &mut Vec<u8>) {
        if self.udhi() {
            // All makers of a header keep it below 140 octets.
            out.push(self.udh.len() as u8);
            out.extend_from_slice(&self.udh);
        }
        out.extend_from_slice(&self.payload);
    }

    pub fn short_message(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.short_message_len());
        self.write_short_message(&mut out);
        out
    }
}

impl Segmented {
    /// One short message as somebody else made it, `units` in its alphabet.
    pub fn ready(alphabet: Alphabet, data_coding: u8, units: usize, segment: Segment) -> Segmented {
        Segmented {
            alphabet,
            shift: ShiftTables::default(),
            wire: match alphabet {
                Alphabet::Gsm7 => Wire::Gsm7,
                Alphabet::Ucs2 => Wire::Ucs2,
                Alphabet::Octets => Wire::Octets,
            },
            data_coding,
            dest_addr_subunit: None,
            segments: vec![segment],
            count: 1,
            units,
            rewritten: None,
        }
    }

    /// Whether the SMSC cuts, so that the one submit_sm stands for `count` short messages.
    pub fn is_payload(&self) -> bool {
        self.segments.len() < usize::from(self.count)
    }
}

/// Counts for a carrier that has no ways of its own, and a client without wishes.
pub fn plan(body: &Body) -> Result<SegmentPlan, TextError> {
    plan_for(body, &Manner::default(), &TextStyle::default())
}

/// Counts, without writing a segment.
pub fn plan_for(body: &Body, manner: &Manner, style: &TextStyle) -> Result<SegmentPlan, TextError> {
    match body {
        Body::Text(text) => match plan_usual(text, manner, style) {
            Some(plan) => plan,
            None => Way::of(text, manner, style)?.plan(0),
        },
        Body::Binary { udh, data } => {
            let way = BinaryWay::of(udh, manner, style)?;
            way.plan(data, 0)
        }
    }
}

/// What most messages are is counted by itself, because every submission is counted; none where the
/// text is another.
fn plan_usual(
    text: &str,
    manner: &Manner,
    style: &TextStyle,
) -> Option<Result<SegmentPlan, TextError>> {
    let usual = style.default_alphabet == super::DefaultAlphabet::Gsm7
        && manner.wish.encoding() != super::EncodingWish::Ucs2
        && !text.is_empty();
    let units = usual.then(|| gsm::count(text)).flatten()?;
    let limits = Limits::of(Unit::Septet, 0, style.multipart.reference(0));
    let segments = count_text(text, units, limits, gsm::septets);
    let shift = ShiftTables::default();
    Some(finish(Alphabet::Gsm7, shift, segments, units))
}

/// Cuts `body` under an 8-bit concatenation reference, for a carrier that has no ways of its own.
pub fn segment(body: &Body, reference: u8) -> Result<Segmented, TextError> {
    render(
        body,
        &Manner::default(),
        &TextStyle::default(),
        u16::from(reference),
    )
}

/// Cuts `body` into exactly the segments that [`plan_for`] counts. A reference of 8 bits is the lower
/// half of `reference`.
pub fn render(
    body: &Body,
    manner: &Manner,
    style: &TextStyle,
    reference: u16,
) -> Result<Segmented, TextError> {
    match body {
        Body::Text(text) => render_text(text, manner, style, reference),
        Body::Binary { udh, data } => render_binary(udh, data, manner, style, reference),
    }
}

/// How a text travels to one carrier.
struct Way<'a> {
    text: std::borrow::Cow<'a, str>,
    wire: Wire,
    shift: ShiftTables,
    multipart: Multipart,
    /// Septets, where they are known.
    septets: Option<usize>,
    changes: Vec<Change>,
}

impl<'a> Way<'a> {
    fn of(text: &'a str, manner: &Manner, style: &TextStyle) -> Result<Way<'a>, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        let able = Abilities {
            shift_tables: style.takes_shift_tables(),
            transliterate: style.transliterate,
            reference: style.multipart.reference(0),
        };
        let choice = choose(text, &manner.wish, able)?;
        let class = manner.message_class;
        let forced = manner.wish.encoding() == super::EncodingWish::Ucs2;
        let wire = match choice.alphabet {
            Alphabet::Gsm7 if !choice.shift.is_default() => Some(Wire::Gsm7),
            Alphabet::Gsm7 => style.gsm_wire(&choice.text, class),
            Alphabet::Ucs2 | Alphabet::Octets => None,
        };
        let wire = wire.unwrap_or_else(|| {
            if !forced && style.takes_latin1(&choice.text, class) {
                Wire::Latin1
            } else {
                Wire::Ucs2
            }
        });
        Ok(Way {
            wire,
            shift: choice.shift,
            multipart: style.multipart.beside(&choice.shift.elements()),
            septets: choice.units,
            text: choice.text,
            changes: choice.changes,
        })
    }

    fn alphabet(&self) -> Alphabet {
        match self.wire {
            Wire::Gsm7 | Wire::Default(_) => Alphabet::Gsm7,
            Wire::Ucs2 => Alphabet::Ucs2,
            Wire::Latin1 | Wire::Octets => Alphabet::Octets,
        }
    }

    fn limits(&self, reference: Reference) -> Limits {
        let unit = Unit::of(self.alphabet());
        Limits::of(unit, self.shift.element_octets(), reference)
    }

    fn plan(&self, number: u16) -> Result<SegmentPlan, TextError> {
        let reference = self.multipart.reference(number);
        if let Some(units) = self.septets.filter(|_| self.alphabet() == Alphabet::Gsm7) {
            let segments = count_text(&self.text, units, self.limits(reference), gsm::septets);
            return finish(Alphabet::Gsm7, self.shift, segments, units);
        }
        if self.wire != Wire::Latin1 {
            return plan_coded(&self.text, self.alphabet(), self.shift, reference);
        }
        let units = self.text.chars().count();
        let segments = count_text(&self.text, units, self.limits(reference), |_| 1);
        finish(self.alphabet(), self.shift, segments, units)
    }

    /// The text in so many parts.
    fn cut(&self, parts: usize, limits: Limits) -> Vec<&str> {
        let limit = limits.part;
        match self.wire {
            Wire::Gsm7 if !self.shift.is_default() => {
                let codec = Codec::of(self.shift);
                cut(&self.text, parts, limit, |c| codec.septets(c))
            }
            Wire::Gsm7 | Wire::Default(_) => cut(&self.text, parts, limit, gsm::septets),
            Wire::Latin1 | Wire::Octets => cut(&self.text, parts, limit, |_| 1),
            Wire::Ucs2 => cut(&self.text, parts, limit, char::len_utf16),
        }
    }

    fn write(&self, part: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match self.wire {
            Wire::Gsm7 if self.shift.is_default() => {
                let written = gsm::encode(part, &mut out);
                debug_assert!(written.is_ok(), "chosen as GSM 7 bit: {written:?}");
            }
            Wire::Gsm7 => {
                let written = Codec::of(self.shift).encode(part, &mut out);
                debug_assert!(written.is_ok(), "chosen as these tables: {written:?}");
            }
            Wire::Default(alphabet) => out.extend(part.chars().filter_map(|c| alphabet.octet(c))),
            Wire::Latin1 | Wire::Octets => out.extend(part.chars().filter_map(latin1)),
            Wire::Ucs2 => encode_ucs2(part, &mut out),
        }
        out
    }
}

fn render_text(
    text: &str,
    manner: &Manner,
    style: &TextStyle,
    number: u16,
) -> Result<Segmented, TextError> {
    let way = Way::of(text, manner, style)?;
    let plan = way.plan(number)?;
    let reference = way.multipart.reference(number);
    // What the SMSC cuts is written whole.
    let parts = match way.multipart {
        Multipart::Payload => 1,
        Multipart::Udh8 | Multipart::Udh16 | Multipart::Sar => usize::from(plan.segments),
    };
    let mut end = 0;
    let pieces = way
        .cut(parts, way.limits(reference))
        .into_iter()
        .map(|part| {
            end += part.len();
            (way.write(part), end)
        });
    let segments = tie(
        pieces.collect(),
        &way.shift.elements(),
        way.multipart,
        number,
    );
    let labels = style.labels(way.wire, manner.message_class);
    Ok(Segmented {
        alphabet: plan.alphabet,
        shift: way.shift,
        wire: way.wire,
        data_coding: labels.data_coding,
        dest_addr_subunit: labels.dest_addr_subunit,
        segments,
        count: plan.segments,
        units: plan.units,
        rewritten: (!way.changes.is_empty()).then(|| Rewritten {
            text: way.text.into_owned(),
            changes: way.changes,
        }),
    })
}

/// Headers around what was cut: a piece each with its end in the body.
fn tie(
    pieces: Vec<(Vec<u8>, usize)>,
    elements: &[u8],
    multipart: Multipart,
    number: u16,
) -> Vec<Segment> {
    // Whoever cut made at most 255.
    let total = u8::try_from(pieces.len()).unwrap_or(u8::MAX);
    let tied = total > 1;
    (1..=total)
        .zip(pieces)
        .map(|(index, (payload, end))| {
            let mut udh = Vec::new();
            let mut sar = None;
            match multipart {
                Multipart::Udh8 | Multipart::Udh16 if tied => {
                    udh = multipart.reference(number).element(total, index);
                }
                Multipart::Sar if tied => sar = Concat::new(number, total, index).ok(),
                _ => {}
            }
            udh.extend_from_slice(elements);
            Segment {
                udh,
                payload,
                sar,
                end,
            }
        })
        .collect()
}

/// How a binary body travels to one carrier.
struct BinaryWay<'a> {
    udh: &'a [u8],
    charset: Charset,
    multipart: Multipart,
    labels: Labels,
}

impl<'a> BinaryWay<'a> {
    fn of(udh: &'a [u8], manner: &Manner, style: &TextStyle) -> Result<BinaryWay<'a>, TextError> {
        Udh::new(udh).map_err(TextError::Udh)?;
        let mut labels = style.labels(Wire::Octets, manner.message_class);
        if let Some(data_coding) = manner.data_coding {
            labels.data_coding = data_coding;
        }
        Ok(BinaryWay {
            udh,
            charset: charset_of(manner.data_coding),
            multipart: style.multipart.beside(udh),
            labels,
        })
    }

    fn unit(&self) -> Unit {
        match self.charset {
            Charset::Gsm7 => Unit::Septet,
            Charset::Ucs2 => Unit::CodeUnit,
            Charset::Latin1 | Charset::Cyrillic | Charset::Hebrew | Charset::Octets => Unit::Octet,
        }
    }

    /// Octets of data that hold one unit.
    fn width(&self) -> usize {
        match self.unit() {
            Unit::CodeUnit => 2,
            Unit::Septet | Unit::Octet => 1,
        }
    }

    /// Octets of data that a short message holds.
    fn limits(&self, reference: Reference) -> Limits {
        let units = Limits::of(self.unit(), self.udh.len(), reference);
        Limits {
            single: units.single * self.width(),
            part: units.part * self.width(),
        }
    }

    /// Whether the header says nothing of a place in the data, so that it holds in every part.
    fn can_be_cut(&self) -> bool {
        let holds_everywhere = |id| {
            matches!(
                id,
                IE_PORTS_8 | IE_PORTS_16 | IE_SINGLE_SHIFT | IE_LOCKING_SHIFT
            )
        };
        Udh::new(self.udh).is_ok_and(|udh| udh.elements().all(|e| holds_everywhere(e.id)))
    }

    fn plan(&self, data: &[u8], number: u16) -> Result<SegmentPlan, TextError> {
        if data.is_empty() && self.udh.is_empty() {
            return Err(TextError::Empty);
        }
        let limits = self.limits(self.multipart.reference(number));
        let header = match self.udh.len() {
            0 => 0,
            n => n + 1,
        };
        let segments = if header <= USER_DATA_OCTETS && data.len() <= limits.single {
            1
        } else if limits.part < PART_OCTETS_MIN || !self.can_be_cut() {
            let octets = header + data.len();
            return Err(TextError::BinaryTooLong { octets });
        } else {
            self.ends(data, limits.part).count()
        };
        finish(
            Alphabet::Octets,
            ShiftTables::default(),
            segments,
            data.len(),
        )
    }

    /// Where parts of at most `limit` octets end: inside no pair of octets, escape or surrogate pair.
    fn ends(&self, data: &[u8], limit: usize) -> impl Iterator<Item = usize> {
        let mut start = 0;
        std::iter::from_fn(move || {
            if start >= data.len() {
                return None;
            }
            let full = (start + limit).min(data.len());
            let spare = if full == data.len() {
                0
            } else {
                match self.unit() {
                    Unit::Septet if ends_in_escape(&data[start..full]) => 1,
                    Unit::CodeUnit if (0xD8..0xDC).contains(&data[full - 2]) => 2,
                    Unit::Septet | Unit::CodeUnit | Unit::Octet => 0,
                }
            };
            start = full - spare;
            Some(start)
        })
    }
}

/// A header that leaves parts less room is not worth its parts.
const PART_OCTETS_MIN: usize = 8;

fn render_binary(
    udh: &[u8],
    data: &[u8],
    manner: &Manner,
    style: &TextStyle,
    number: u16,
) -> Result<Segmented, TextError> {
    let way = BinaryWay::of(udh, manner, style)?;
    let plan = way.plan(data, number)?;
    let limits = way.limits(way.multipart.reference(number));
    let pieces = if plan.segments == 1 || way.multipart == Multipart::Payload {
        vec![(data.to_vec(), data.len())]
    } else {
        let mut start = 0;
        way.ends(data, limits.part)
            .map(|end| {
                let piece = data[start..end].to_vec();
                start = end;
                (piece, end)
            })
            .collect()
    };
    Ok(Segmented {
        alphabet: plan.alphabet,
        shift: ShiftTables::default(),
        wire: Wire::Octets,
        data_coding: way.labels.data_coding,
        dest_addr_subunit: way.labels.dest_addr_subunit,
        segments: tie(pieces, udh, way.multipart, number),
        count: plan.segments,
        units: plan.units,
        rewritten: None,
    })
}

#[cfg(test)]
#[path = "render_tests.rs"]
mod tests;

//! Which alphabet and tables a text travels in: the cheapest that its client allows and its carrier
//! knows, and the text itself where rewriting it saves segments. Decides; cuts and writes nothing.

use std::borrow::Cow;

use super::segment::{Reference, TextError, plan_coded};
use super::shift::{Codec, has_locking};
use super::transliterate::{Change, transliterate};
use super::{Alphabet, Language, ShiftTables, gsm};

/// What a client allows. The default says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct TextWish {
    /// None: [`EncodingWish::Auto`].
    pub encoding: Option<EncodingWish>,
    /// Whose shift tables may be used.
    pub languages: Languages,
    /// Whether a text may be rewritten where that saves segments; none: as the carrier has it.
    pub transliterate: Option<bool>,
}

/// The encodings that a text may travel in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum EncodingWish {
    /// The cheapest of the default alphabet, the shift tables of `languages`, and UCS-2.
    #[default]
    Auto = 0,
    /// The default alphabet and no other: a text beyond it is refused.
    Gsm7 = 1,
    Ucs2 = 2,
    /// As `auto`, with the shift tables of every language where none is named.
    National = 3,
}

impl EncodingWish {
    pub const ALL: [EncodingWish; 4] = [
        EncodingWish::Auto,
        EncodingWish::Gsm7,
        EncodingWish::Ucs2,
        EncodingWish::National,
    ];

    pub fn name(self) -> &'static str {
        match self {
            EncodingWish::Auto => "auto",
            EncodingWish::Gsm7 => "gsm7",
            EncodingWish::Ucs2 => "ucs2",
            EncodingWish::National => "national",
        }
    }

    pub fn from_name(name: &str) -> Option<EncodingWish> {
        EncodingWish::ALL.into_iter().find(|e| e.name() == name)
    }

    pub fn from_u8(value: u8) -> Option<EncodingWish> {
        EncodingWish::ALL.get(usize::from(value)).copied()
    }
}

/// A set of languages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Languages(u16);

impl Languages {
    pub const NONE: Languages = Languages(0);

    pub fn all() -> Languages {
        Language::ALL.iter().copied().collect()
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub fn has(self, language: Language) -> bool {
        self.0 & Languages::bit(language) != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Language> {
        Language::ALL.iter().copied().filter(move |l| self.has(*l))
    }

    /// For the record; unknown bits are dropped.
    pub fn from_bits(bits: u16) -> Languages {
        Languages(bits & Languages::all().0)
    }

    pub fn bits(self) -> u16 {
        self.0
    }

    fn bit(language: Language) -> u16 {
        1 << language as u8
    }
}

impl FromIterator<Language> for Languages {
    fn from_iter<I: IntoIterator<Item = Language>>(languages: I) -> Languages {
        let bits = languages.into_iter().map(Languages::bit);
        Languages(bits.fold(0, |all, bit| all | bit))
    }
}

impl TextWish {
    /// These wishes, and `others` where they say nothing.
    pub fn or(self, others: TextWish) -> TextWish {
        TextWish {
            encoding: self.encoding.or(others.encoding),
            languages: if self.languages.is_empty() {
                others.languages
            } else {
                self.languages
            },
            transliterate: self.transliterate.or(others.transliterate),
        }
    }

    pub fn encoding(&self) -> EncodingWish {
        self.encoding.unwrap_or_default()
    }

    /// The languages whose tables may be used.
    fn allowed(&self) -> Languages {
        match self.encoding() {
            EncodingWish::Auto => self.languages,
            EncodingWish::National if self.languages.is_empty() => Languages::all(),
            EncodingWish::National => self.languages,
            EncodingWish::Gsm7 | EncodingWish::Ucs2 => Languages::NONE,
        }
    }
}

/// How a text is to travel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// Rewritten where that was worth it.
    pub text: Cow<'a, str>,
    pub alphabet: Alphabet,
    pub shift: ShiftTables,
    /// Septets, where they were counted on the way.
    pub units: Option<usize>,
    /// What was rewritten.
    pub changes: Vec<Change>,
}

/// What a carrier knows beside the default alphabet and UCS-2.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub shift_tables: bool,
    /// Where the client does not say.
    pub transliterate: bool,
    /// The size of the reference that its parts carry.
    pub reference: Reference,
}

/// The cheapest way that is allowed. `text` is not empty.
pub fn choose<'a>(
    text: &'a str,
    wish: &TextWish,
    able: Abilities,
) -> Result<Choice<'a>, TextError> {
    let as_it_is = |alphabet, shift| Choice {
        text: Cow::Borrowed(text),
        alphabet,
        shift,
        units: None,
        changes: Vec::new(),
    };
    if wish.encoding() == EncodingWish::Ucs2 {
        return Ok(as_it_is(Alphabet::Ucs2, ShiftTables::default()));
    }
    // What most messages are.
    if let Some(units) = gsm::count(text) {
        let mut choice = as_it_is(Alphabet::Gsm7, ShiftTables::default());
        choice.units = Some(units);
        return Ok(choice);
    }
    let languages = if able.shift_tables {
        wish.allowed()
    } else {
        Languages::NONE
    };
    let own = cheapest(text, languages, able.reference);
    if wish.transliterate.unwrap_or(able.transliterate)
        && let Some(rewritten) = transliterate(text)
    {
        let other = if gsm::count(&rewritten.text).is_some() {
            Way::plain(&rewritten.text, Alphabet::Gsm7, able.reference)
        } else {
            cheapest(&rewritten.text, languages, able.reference)
        };
        let saves = other.segments < own.segments
            || (other.alphabet == Alphabet::Gsm7 && own.alphabet == Alphabet::Ucs2);
        let allowed = wish.encoding() != EncodingWish::Gsm7 || other.alphabet == Alphabet::Gsm7;
        if saves && allowed {
            return Ok(Choice {
                text: Cow::Owned(rewritten.text),
                alphabet: other.alphabet,
                shift: other.shift,
                units: None,
                changes: rewritten.changes,
            });
        }
    }
    if wish.encoding() == EncodingWish::Gsm7 {
        let stranger = text
            .chars()
            .enumerate()
            .find(|(_, c)| gsm::septets(*c) == 0);
        let (position, character) = stranger.unwrap_or_default();
        return Err(TextError::NotGsm7 {
            character,
            position,
        });
    }
    Ok(as_it_is(own.alphabet, own.shift))
}

/// A way to travel and what it costs.
#[derive(Clone, Copy)]
struct Way {
    alphabet: Alphabet,
    shift: ShiftTables,
    /// [`usize::MAX`] where they are too many.
    segments: usize,
    strangeness: u8,
    units: usize,
}

impl Way {
    fn plain(text: &str, alphabet: Alphabet, reference: Reference) -> Way {
        Way::of(text, alphabet, ShiftTables::default(), reference)
    }

    fn of(text: &str, alphabet: Alphabet, shift: ShiftTables, reference: Reference) -> Way {
        let plan = plan_coded(text, alphabet, shift, reference);
        Way {
            alphabet,
            shift,
            segments: plan.map_or(usize::MAX, |p| usize::from(p.segments)),
            strangeness: 2 * u8::from(shift.locking.is_some()) + u8::from(shift.single.is_some()),
            units: plan.map_or(usize::MAX, |p| p.units),
        }
    }

    /// Among ways of as many segments the one that more handsets read: UCS-2, then a single shift
    /// table, which leaves the other letters what they are, then a locking one, then both.
    fn rank(&self) -> (usize, u8, usize) {
        (self.segments, self.strangeness, self.units)
    }
}

/// The cheapest of UCS-2 and the shift tables of `languages`, for a text beyond the default alphabet.
fn cheapest(text: &str, languages: Languages, reference: Reference) -> Way {
    let ucs2 = Way::plain(text, Alphabet::Ucs2, reference);
    // No table could do better than one segment in UCS-2 does.
    if languages.is_empty() || ucs2.segments == 1 {
        return ucs2;
    }
    let tried = candidates(text, languages)
        .into_iter()
        .flatten()
        .map(|shift| Way::of(text, Alphabet::Gsm7, shift, reference));
    tried.fold(
        ucs2,
        |best, way| {
            if way.rank() < best.rank() { way } else { best }
        },
    )
}

/// The best single shift table, locking shift table and pair that hold every character of `text`.
/// Asks each table for each character once, so that a long text costs hardly more than a short one.
fn candidates(text: &str, languages: Languages) -> [Option<ShiftTables>; 3] {
    let letters = census(text);
    let units = |shift: ShiftTables| {
        let codec = Codec::of(shift);
        letters
            .iter()
            .try_fold(0, |sum, (letter, times)| match codec.septets(*letter) {
                0 => None,
                septets => Some(sum + septets * times),
            })
    };
    let best = |pairs: &mut dyn Iterator<Item = ShiftTables>| {
        let counted = pairs.filter_map(|shift| Some((units(shift)?, shift)));
        let least = counted.min_by_key(|(units, _)| *units);
        least.map(|(_, shift)| shift)
    };
    let of = |locking, single| ShiftTables { locking, single };
    let lockings = || languages.iter().filter(|l| has_locking(*l));
    let mut pairs =
        lockings().flat_map(|locking| languages.iter().map(move |l| of(Some(locking), Some(l))));
    [
        best(&mut languages.iter().map(|l| of(None, Some(l)))),
        best(&mut lockings().map(|l| of(Some(l), None))),
        best(&mut pairs),
    ]
}

/// Each character and how often it stands there.
fn census(text: &str) -> Vec<(char, usize)> {
    let mut all: Vec<char> = text.chars().collect();
    all.sort_unstable();
    all.chunk_by(|a, b| a == b)
        .map(|same| (same[0], same.len()))
        .collect()
}

#[cfg(test)]
#[path = "choice_tests.rs"]
mod tests;

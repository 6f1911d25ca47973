//! Finds listed words, however they are disguised. One pass over the text through an Aho-Corasick automaton of
//! character classes says "surely clean" for nearly all messages; what it suspects is verified letter by letter.
//! Knows words and their options; what is done about a hit is decided by the rules.

use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous;
use aho_corasick::{Anchored, MatchKind, dfa};

use crate::screen::Screen;
use heliograph_plugin_text::fold::{self, Plain};

/// Above this many characters in all words the dense automaton gives way to a compact one.
const DENSE_CHARACTERS: usize = 8_000;
/// Visible characters that may stand between two letters of one word.
const MAX_GAP: u8 = 3;
/// Code points below this have their classes in a table.
const TABLED: usize = 0x590;

/// Which look-alike letters of other scripts are read as Latin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scripts {
    Mixed,
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub whole_word: bool,
    pub see_through: bool,
    pub repeats: bool,
    pub scripts: Scripts,
}

/// One listed word or phrase, in plain letters.
#[derive(Debug)]
pub struct Pattern {
    pub rule: usize,
    pub listed: String,
    letters: Vec<Letter>,
    options: Options,
}

#[derive(Clone, Copy, Debug)]
struct Letter {
    plain: char,
    /// The first letter of a further word of a phrase.
    starts_word: bool,
}

/// Where a pattern was found: octets of the original text.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hit {
    pub start: usize,
    pub end: usize,
    pub pattern: usize,
}

impl Pattern {
    /// None where the listed text has too few letters or digits to be looked for.
    pub fn new(rule: usize, listed: &str, options: Options) -> Option<Self> {
        let units = units(listed, false);
        let letters: Vec<Letter> = units
            .iter()
            .map(|unit| Letter {
                plain: unit.plain,
                starts_word: unit.gap.visible > 0,
            })
            .collect();
        let enough =
            letters.len() >= 2 || letters.iter().any(|letter| fold::is_unspaced(letter.plain));
        enough.then(|| Self {
            rule,
            listed: listed.to_owned(),
            letters,
            options,
        })
    }
}

/// All words of all rules.
pub struct Words {
    patterns: Vec<Pattern>,
    exact: Option<Machine>,
    /// For patterns that tolerate repeated letters: runs of one class count once.
    collapsed: Option<Machine>,
    classes: Classes,
}

struct Machine {
    automaton: Kind,
    /// Automaton pattern to index in `Words::patterns`.
    patterns: Vec<usize>,
    /// Classes in each automaton pattern.
    lengths: Vec<usize>,
    collapse: bool,
}

enum Kind {
    Dense(Box<dfa::DFA>, Option<Screen>),
    Compact(contiguous::NFA),
}

impl Words {
    pub fn new(patterns: Vec<Pattern>) -> Result<Self, String> {
        let exact = Machine::new(&patterns, false)?;
        let collapsed = Machine::new(&patterns, true)?;
        Ok(Self {
            patterns,
            exact,
            collapsed,
            classes: Classes::new(),
        })
    }

    pub fn pattern(&self, index: usize) -> &Pattern {
        &self.patterns[index]
    }

    /// False where the text surely holds none of the words: the fast path.
    pub fn suspects(&self, text: &str) -> bool {
        let screen = |machine: &Option<Machine>, soft: bool| match machine {
            Some(machine) => self.classes.run(machine, text, soft),
            None => false,
        };
        let soft = has_soft_letters(text);
        screen(&self.exact, false)
            || screen(&self.collapsed, false)
            || (soft && (screen(&self.exact, true) || screen(&self.collapsed, true)))
    }

    /// Every hit of the patterns whose rule is wanted, in the order of the text.
    pub fn find(&self, text: &str, wanted: impl Fn(usize) -> bool) -> Vec<Hit> {
        let mut hits = Vec::new();
        let readings: &[bool] = if has_soft_letters(text) {
            &[false, true]
        } else {
            &[false]
        };
        for &soft in readings {
            let units = units(text, soft);
            for machine in [&self.exact, &self.collapsed].into_iter().flatten() {
                self.find_in(&units, machine, &wanted, &mut hits);
            }
        }
        hits.sort_unstable();
        hits.dedup();
        hits
    }

    fn find_in(
        &self,
        units: &[Unit],
        machine: &Machine,
        wanted: &impl Fn(usize) -> bool,
        hits: &mut Vec<Hit>,
    ) {
        let foreign = units
            .iter()
            .any(|unit| fold::is_look_alike_script(unit.plain) && !fold::is_twin(unit.original));
        // Where each class that the automaton saw begins: a unit, or a run of units when collapsing.
        let mut runs: Vec<usize> = Vec::with_capacity(units.len() + 1);
        let mut ends: Vec<(usize, usize)> = Vec::new();
        let mut state = machine.start();
        for (index, unit) in units.iter().enumerate() {
            let repeated = machine.collapse && index > 0 && units[index - 1].class == unit.class;
            if repeated {
                continue;
            }
            runs.push(index);
            state = machine.step(state, unit.class);
            machine.each_match(state, |found| ends.push((runs.len(), found)));
        }
        runs.push(units.len());
        for (end, found) in ends {
            let index = machine.patterns[found];
            let pattern = &self.patterns[index];
            if !wanted(pattern.rule) {
                continue;
            }
            let first = end - machine.lengths[found];
            for start in runs[first]..runs[first + 1] {
                if let Some(stop) = verify(units, start, pattern, foreign) {
                    let hit = Hit {
                        pattern: index,
                        start: units[start].start,
                        end: units[stop - 1].end,
                    };
                    hits.push(hit);
                    break;
                }
            }
        }
    }
}

impl Machine {
    fn new(patterns: &[Pattern], collapse: bool) -> Result<Option<Self>, String> {
        let mut owners = Vec::new();
        let mut classes: Vec<Vec<u8>> = Vec::new();
        for (index, pattern) in patterns
            .iter()
            .enumerate()
            .filter(|(_, pattern)| pattern.options.repeats == collapse)
        {
            let mut seen: Vec<u8> = pattern
                .letters
                .iter()
                .map(|letter| fold::class(letter.plain, letter.plain))
                .collect();
            if collapse {
                seen.dedup();
            }
            owners.push(index);
            classes.push(seen);
        }
        if owners.is_empty() {
            return Ok(None);
        }
        let characters: usize = classes.iter().map(Vec::len).sum();
        let automaton = if characters <= DENSE_CHARACTERS {
            dfa::Builder::new()
                .match_kind(MatchKind::Standard)
                .build(&classes)
                .map(|dfa| {
                    let screen = (!collapse).then(|| Screen::new(&dfa, &classes));
                    Kind::Dense(Box::new(dfa), screen)
                })
        } else {
            contiguous::Builder::new()
                .match_kind(MatchKind::Standard)
                .build(&classes)
                .map(Kind::Compact)
        };
        let automaton =
            automaton.map_err(|error| format!("the word lists are too large: {error}"))?;
        Ok(Some(Self {
            automaton,
            patterns: owners,
            lengths: classes.iter().map(Vec::len).collect(),
            collapse,
        }))
    }

    fn start(&self) -> StateID {
        let start = match &self.automaton {
            Kind::Dense(dfa, _) => dfa.start_state(Anchored::No),
            Kind::Compact(nfa) => nfa.start_state(Anchored::No),
        };
        // Both automata are built for unanchored searches, the only kind made here.
        start.unwrap_or_default()
    }

    fn step(&self, state: StateID, class: u8) -> StateID {
        match &self.automaton {
            Kind::Dense(dfa, _) => dfa.next_state(Anchored::No, state, class),
            Kind::Compact(nfa) => nfa.next_state(Anchored::No, state, class),
        }
    }

    fn each_match(&self, state: StateID, mut found: impl FnMut(usize)) {
        fn visit(automaton: &impl Automaton, state: StateID, found: &mut impl FnMut(usize)) {
            if automaton.is_match(state) {
                (0..automaton.match_len(state))
                    .for_each(|nth| found(automaton.match_pattern(state, nth).as_usize()));
            }
        }
        match &self.automaton {
            Kind::Dense(dfa, _) => visit(dfa.as_ref(), state, &mut found),
            Kind::Compact(nfa) => visit(nfa, state, &mut found),
        }
    }
}

/// Character classes by table, so that the fast path decides nothing per character.
struct Classes {
    ascii: [u8; 128],
    ascii_soft: [u8; 128],
    /// Two classes per code point from 128 to `TABLED`; zero means none.
    tabled: Vec<[u8; 2]>,
}

impl Classes {
    fn new() -> Self {
        let mut ascii = [0; 128];
        let mut ascii_soft = [0; 128];
        for code in 0..128u8 {
            let c = char::from(code);
            ascii[usize::from(code)] = classes_of(c, false)[0];
            ascii_soft[usize::from(code)] = classes_of(c, true)[0];
        }
        let tabled = (128..TABLED as u32)
            .map(|code| char::from_u32(code).map_or([0, 0], |c| classes_of(c, false)))
            .collect();
        Self {
            ascii,
            ascii_soft,
            tabled,
        }
    }

    fn run(&self, machine: &Machine, text: &str, soft: bool) -> bool {
        let ascii = if soft { &self.ascii_soft } else { &self.ascii };
        if let Kind::Dense(_, Some(screen)) = &machine.automaton
            && text.is_ascii()
        {
            return screen.run(text.bytes().map(|byte| ascii[usize::from(byte & 0x7f)]));
        }
        let classes = text.chars().flat_map(|c| match c as usize {
            code @ 0..128 => [ascii[code], 0],
            code if code < TABLED && !soft => self.tabled[code - 128],
            _ => classes_of(c, soft),
        });
        match &machine.automaton {
            Kind::Dense(_, Some(screen)) => screen.run(classes),
            Kind::Dense(dfa, None) => matches_any(dfa.as_ref(), machine, classes),
            Kind::Compact(nfa) => matches_any(nfa, machine, classes),
        }
    }
}

fn matches_any(
    automaton: &impl Automaton,
    machine: &Machine,
    classes: impl Iterator<Item = u8>,
) -> bool {
    let mut state = machine.start();
    let mut last = 0;
    for class in classes.filter(|&class| class != 0) {
        if machine.collapse && class == last {
            continue;
        }
        last = class;
        state = automaton.next_state(Anchored::No, state, class);
        if automaton.is_match(state) {
            return true;
        }
    }
    false
}

fn classes_of(c: char, soft: bool) -> [u8; 2] {
    match fold::plain(c) {
        Plain::One(one) => [fold::class(c, one), 0],
        Plain::Two(one, two) => [fold::class(one, one), fold::class(two, two)],
        Plain::Separator if soft && fold::is_soft_symbol(c) => [fold::class(c, c), 0],
        Plain::Separator | Plain::Invisible => [0, 0],
    }
}

/// Whether a symbol such as `$` touches a letter so that it may stand for one. "Win!" and "$5" are innocent.
fn has_soft_letters(text: &str) -> bool {
    // The soft symbols outside ASCII begin with one of two octets.
    let may_have = |byte| matches!(byte, b'@' | b'$' | b'!' | b'|' | b'(' | b'+' | 0xc2 | 0xe2);
    if !text.bytes().any(may_have) {
        return false;
    }
    let mut before = ' ';
    let mut letters = text.chars().filter(|&c| !fold::is_invisible(c)).peekable();
    while let Some(c) = letters.next() {
        if fold::is_soft_symbol(c) {
            let after = letters.peek().copied().unwrap_or(' ');
            let leads =
                after.is_alphabetic() || fold::is_soft_symbol(after) && before.is_alphabetic();
            if leads || (!matches!(c, '!' | '(' | '+') && before.is_alphabetic()) {
                return true;
            }
        }
        before = c;
    }
    false
}

/// A letter or digit (or a symbol that may stand for one) of the text, with where it is and what is before it.
#[derive(Clone, Copy, Debug)]
struct Unit {
    original: char,
    plain: char,
    class: u8,
    symbol: bool,
    start: usize,
    end: usize,
    gap: Gap,
}

/// What stands between a unit and the one before it.
#[derive(Clone, Copy, Debug, Default)]
struct Gap {
    /// Visible characters, counted up to 255.
    visible: u8,
    /// Whether one of them is white space, or a mark that joins or lists words: apostrophe, comma, bracket.
    divides: bool,
}

fn units(text: &str, soft: bool) -> Vec<Unit> {
    let mut units = Vec::with_capacity(text.len());
    let mut gap = Gap::default();
    for (start, c) in text.char_indices() {
        let end = start + c.len_utf8();
        let mut push = |plain: char, symbol: bool| {
            let gap = std::mem::take(&mut gap);
            units.push(Unit {
                original: c,
                plain,
                class: fold::class(c, plain),
                symbol,
                start,
                end,
                gap,
            });
        };
        match fold::plain(c) {
            Plain::One(one) => push(one, false),
            Plain::Two(one, two) => {
                push(one, false);
                push(two, false);
            }
            Plain::Separator if soft && fold::is_soft_symbol(c) => push(c, true),
            Plain::Separator => {
                gap.visible = gap.visible.saturating_add(1);
                gap.divides |= !is_thin(c);
            }
            Plain::Invisible => {}
        }
    }
    units
}

/// Marks that tricksters put inside words, and that ordinary writing does not put between words without a space.
fn is_thin(c: char) -> bool {
    matches!(
        c,
        '.' | '-'
            | '_'
            | '*'
            | '~'
            | '|'
            | '/'
            | '\\'
            | ':'
            | '='
            | '^'
            | '#'
            | '+'
            | '\u{b7}'
            | '\u{2010}'..='\u{2015}' | '\u{2022}' | '\u{2027}' | '\u{22c5}' | '\u{30fb}'
    )
}

/// How the letters of a disguised word are laid out.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Side by side, with at most thin marks inside a word.
    Joined,
    /// `f r e e`: each letter stands alone.
    Spaced,
}

/// The disguises that a reading of the text as a pattern takes.
#[derive(Default)]
struct Reading {
    end: usize,
    /// Letters that are what they seem.
    honest: usize,
    digits: usize,
    /// Letters of another script read as Latin.
    poses: usize,
    /// Latin letters read as a letter of the pattern's script.
    reverse_poses: usize,
}

/// The unit after the last one of `pattern`, if the units from `start` on can be read as it.
fn verify(units: &[Unit], start: usize, pattern: &Pattern, foreign: bool) -> Option<usize> {
    let believable = |layout| {
        let reading = read(units, start, pattern, layout)?;
        let plausible = is_plausible(units, start, &reading, pattern, foreign);
        (plausible && is_bounded(units, start, reading.end, pattern, layout)).then_some(reading.end)
    };
    believable(Layout::Joined).or_else(|| believable(Layout::Spaced))
}

fn read(units: &[Unit], start: usize, pattern: &Pattern, layout: Layout) -> Option<Reading> {
    let options = pattern.options;
    if layout == Layout::Spaced && (!options.see_through || pattern.letters.len() < 3) {
        return None;
    }
    let mut reading = Reading::default();
    let mut at = start;
    for (nth, letter) in pattern.letters.iter().enumerate() {
        loop {
            let unit = units.get(at)?;
            let joined = nth == 0 || joins(unit.gap, letter.starts_word, options, layout);
            if joined && record(units, at, letter.plain, options, &mut reading) {
                at += 1;
                break;
            }
            if !(options.repeats && at > start && repeats(units, at, layout)) {
                return None;
            }
            at += 1;
        }
    }
    while options.repeats && at < units.len() && repeats(units, at, layout) {
        at += 1;
    }
    reading.end = at;
    Some(reading)
}

fn joins(gap: Gap, starts_word: bool, options: Options, layout: Layout) -> bool {
    match layout {
        Layout::Spaced => (1..=MAX_GAP).contains(&gap.visible),
        Layout::Joined if gap.visible == 0 => !starts_word || options.see_through,
        Layout::Joined if starts_word => true,
        Layout::Joined => options.see_through && !gap.divides && gap.visible < MAX_GAP,
    }
}

fn repeats(units: &[Unit], at: usize, layout: Layout) -> bool {
    let (unit, before) = (&units[at], &units[at - 1]);
    unit.class == before.class && (layout == Layout::Spaced || unit.gap.visible == 0)
}

/// Whether the unit may be read as `letter`; if so, counts how.
fn record(
    units: &[Unit],
    at: usize,
    letter: char,
    options: Options,
    reading: &mut Reading,
) -> bool {
    let unit = &units[at];
    if unit.plain == letter {
        reading.honest += 1;
        return true;
    }
    if !options.see_through {
        return false;
    }
    if fold::pose(unit.original) == Some(letter) || fold::pose(unit.plain) == Some(letter) {
        reading.poses += 1;
        return true;
    }
    if fold::leet(unit.plain).contains(letter) {
        reading.digits += usize::from(unit.plain.is_ascii_digit());
        return true;
    }
    if unit.plain.is_ascii() && fold::pose(letter) == Some(unit.plain) {
        reading.reverse_poses += 1;
        return true;
    }
    // A capital I among small letters is drawn like a small L.
    if unit.original == 'I'
        && letter == 'l'
        && at > 0
        && unit.gap.visible == 0
        && units[at - 1].original.is_lowercase()
    {
        reading.honest += 1;
        return true;
    }
    false
}

/// Few digits among letters, and look-alikes only where honest writing would not have put them.
fn is_plausible(
    units: &[Unit],
    start: usize,
    reading: &Reading,
    pattern: &Pattern,
    foreign: bool,
) -> bool {
    if reading.digits > reading.honest + reading.poses {
        return false;
    }
    if reading.reverse_poses > 0 && reading.honest == 0 {
        return false;
    }
    if reading.poses == 0 {
        return true;
    }
    match pattern.options.scripts {
        Scripts::Always => true,
        Scripts::Never => false,
        Scripts::Mixed => !foreign && is_all_twins(units) || is_mixed(units, start, reading.end),
    }
}

fn is_all_twins(units: &[Unit]) -> bool {
    units
        .iter()
        .all(|unit| !fold::is_look_alike_script(unit.plain) || fold::is_twin(unit.original))
}

/// Whether the words from `start` to `end` mix Latin with another script.
fn is_mixed(units: &[Unit], start: usize, end: usize) -> bool {
    let mut first = start;
    while first > 0 && units[first].gap.visible == 0 {
        first -= 1;
    }
    let mut last = end;
    while last < units.len() && units[last].gap.visible == 0 {
        last += 1;
    }
    units[first..last]
        .iter()
        .any(|unit| unit.plain.is_ascii_alphabetic())
}

fn is_bounded(units: &[Unit], start: usize, end: usize, pattern: &Pattern, layout: Layout) -> bool {
    let border = |at: usize| {
        at == 0 || at == units.len() || units[at].gap.visible > 0 || is_symbol_edge(units, at)
    };
    let unspaced = |at: usize| fold::is_unspaced(units[at].plain);
    match layout {
        Layout::Joined => {
            !pattern.options.whole_word
                || (border(start) || unspaced(start)) && (border(end) || unspaced(end - 1))
        }
        Layout::Spaced => {
            // "e s s e x" is one word spelled out, "f r e e m o n e y" is two, and so is "s e x   n o w".
            let width = units[start + 1].gap.visible;
            let goes_on = |border_at: usize, at: usize| {
                units[border_at].gap.visible <= width && border(at) && border(at + 1)
            };
            let embedded =
                start > 0 && goes_on(start, start - 1) || end < units.len() && goes_on(end, end);
            border(start) && border(end) && (!embedded || pattern.letters.len() >= 4)
        }
    }
}

/// A symbol read as a letter still borders a word that it is no part of.
fn is_symbol_edge(units: &[Unit], at: usize) -> bool {
    units[at].symbol || units[at - 1].symbol
}

#[cfg(test)]
#[path = "words_tests.rs"]
mod tests;

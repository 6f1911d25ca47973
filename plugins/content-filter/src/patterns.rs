//! Regular expressions under size limits: all of them in one automaton that says which match, and each by itself for
//! the places. Also makes the plain view of a text that expressions may ask for.
//! Matching is linear in the text (no back-references exist); the limits bound what a pattern may cost in memory.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use regex_syntax::ParserBuilder;
use regex_syntax::hir::{Hir, HirKind, Repetition};

use heliograph_plugin_text::fold::{self, Plain};

/// Octets that one compiled expression may take.
const MAX_COMPILED: usize = 256 * 1024;
/// Octets that all expressions of one view may take together.
const MAX_COMPILED_TOGETHER: usize = 2 * 1024 * 1024;
/// Octets of the automaton that is built while matching.
const MAX_CACHE: usize = 512 * 1024;
const MAX_NESTING: u32 = 50;
/// Code points below this have their plain form in a table.
const TABLED: u32 = 0x590;

/// One expression and the rule it belongs to.
pub struct Expression {
    pub rule: usize,
    pub regex: Regex,
}

/// The expressions that look at one view of the text.
pub struct Patterns {
    screen: RegexSet,
    expressions: Vec<Expression>,
}

/// A pattern as it was configured.
pub struct Source<'a> {
    pub rule: usize,
    pub rule_name: &'a str,
    pub pattern: &'a str,
    pub case_sensitive: bool,
}

impl Patterns {
    /// None where there is nothing to look for. The error names the rule and the pattern.
    pub fn new(sources: &[Source]) -> Result<Option<Self>, String> {
        if sources.is_empty() {
            return Ok(None);
        }
        let mut expressions = Vec::with_capacity(sources.len());
        for source in sources {
            let regex = RegexBuilder::new(source.pattern)
                .case_insensitive(!source.case_sensitive)
                .size_limit(MAX_COMPILED)
                .dfa_size_limit(MAX_CACHE)
                .nest_limit(MAX_NESTING)
                .build()
                .map_err(|error| source.fault(&explain(&error)))?;
            if regex.is_match("") {
                return Err(source.fault("matches the empty text, so it would match all"));
            }
            expressions.push(Expression {
                rule: source.rule,
                regex,
            });
        }
        let screened = sources
            .iter()
            .map(|source| source.screened())
            .collect::<Result<Vec<_>, _>>()?;
        let screen = RegexSetBuilder::new(screened)
            .size_limit(MAX_COMPILED_TOGETHER)
            .dfa_size_limit(MAX_CACHE)
            .build()
            .map_err(|error| format!("all patterns together: {}", explain(&error)))?;
        Ok(Some(Self {
            screen,
            expressions,
        }))
    }

    /// The expressions that match the text.
    pub fn matching<'a>(&'a self, text: &str) -> impl Iterator<Item = &'a Expression> + use<'a> {
        // Nearly every text matches none, and saying so needs no list.
        let matched = self
            .screen
            .is_match(text)
            .then(|| self.screen.matches(text));
        matched
            .into_iter()
            .flatten()
            .map(|index| &self.expressions[index])
    }
}

impl Source<'_> {
    /// The pattern without its assertions, which matches wherever the pattern does. The automaton cannot decide word
    /// borders in texts outside ASCII, and would leave those texts to a far slower engine.
    fn screened(&self) -> Result<String, String> {
        let parsed = ParserBuilder::new()
            .case_insensitive(!self.case_sensitive)
            .nest_limit(MAX_NESTING)
            .build()
            .parse(self.pattern)
            .map_err(|error| {
                self.fault(error.to_string().lines().last().unwrap_or_default().trim())
            })?;
        Ok(without_assertions(parsed).to_string())
    }

    fn fault(&self, what: &str) -> String {
        format!(
            "rule `{}`: pattern `{}`: {what}",
            self.rule_name, self.pattern
        )
    }
}

fn without_assertions(pattern: Hir) -> Hir {
    match pattern.into_kind() {
        HirKind::Empty | HirKind::Look(_) => Hir::empty(),
        HirKind::Literal(literal) => Hir::literal(literal.0),
        HirKind::Class(class) => Hir::class(class),
        HirKind::Repetition(repetition) => Hir::repetition(Repetition {
            sub: Box::new(without_assertions(*repetition.sub)),
            ..repetition
        }),
        // Groups are for captures, of which a screen has none.
        HirKind::Capture(capture) => without_assertions(*capture.sub),
        HirKind::Concat(parts) => Hir::concat(parts.into_iter().map(without_assertions).collect()),
        HirKind::Alternation(parts) => {
            Hir::alternation(parts.into_iter().map(without_assertions).collect())
        }
    }
}

fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(limit) => {
            format!("compiles to more than {limit} octets; use smaller repetitions")
        }
        other => other
            .to_string()
            .lines()
            .last()
            .unwrap_or_default()
            .trim()
            .to_owned(),
    }
}

/// Makes the text as a reader sees it: lower case, without diacritics, invisible characters and look-alikes of mixed
/// words; white space is a space. Digits and punctuation stay.
pub struct PlainView {
    /// The plain forms of the first code points, which most texts are made of.
    forms: Vec<Plain>,
}

/// For each octet of a plain text: where its character begins and ends in the original.
pub struct Places(Vec<(u32, u32)>);

impl Places {
    /// The octets of the original that `start..end` of the plain text stands for.
    pub fn original(&self, start: usize, end: usize) -> (usize, usize) {
        (self.0[start].0 as usize, self.0[end - 1].1 as usize)
    }
}

impl PlainView {
    pub fn new() -> Self {
        let forms = (0..TABLED)
            .filter_map(char::from_u32)
            .map(fold::plain)
            .collect();
        Self { forms }
    }

    pub fn text(&self, original: &str) -> String {
        if original.is_ascii() {
            let plain = original.to_ascii_lowercase();
            let is_plain = |byte: u8| byte == b' ' || !char::from(byte).is_whitespace();
            return match plain.bytes().all(is_plain) {
                true => plain,
                false => plain.replace(char::is_whitespace, " "),
            };
        }
        let mut text = String::with_capacity(original.len());
        self.each(original, |c, _, _| text.push(c));
        text
    }

    pub fn places(&self, original: &str) -> Places {
        let mut places = Vec::with_capacity(original.len());
        self.each(original, |c, start, end| {
            places.extend(std::iter::repeat_n(
                (start as u32, end as u32),
                c.len_utf8(),
            ));
        });
        Places(places)
    }

    /// Each character of the plain text, with the octets of the original that it stands for.
    fn each(&self, original: &str, mut push: impl FnMut(char, usize, usize)) {
        // Up to here it is known whether the word has a Latin letter.
        let mut judged = 0;
        let mut has_latin = false;
        for (start, c) in original.char_indices() {
            let end = start + c.len_utf8();
            match self.form(c) {
                Plain::Separator if c.is_whitespace() => push(' ', start, end),
                Plain::Separator => push(fold::compatibility(c).unwrap_or(c), start, end),
                Plain::Invisible => {}
                Plain::One(one) if !fold::is_look_alike_script(c) => push(one, start, end),
                Plain::One(one) => {
                    if start >= judged {
                        (judged, has_latin) = self.judge_word(original, start);
                    }
                    push(
                        fold::pose(c).filter(|_| has_latin).unwrap_or(one),
                        start,
                        end,
                    );
                }
                Plain::Two(one, two) => {
                    push(one, start, end);
                    push(two, start, end);
                }
            }
        }
    }

    /// Where the word around `at` ends, and whether it has a Latin letter.
    fn judge_word(&self, original: &str, at: usize) -> (usize, bool) {
        let is_border = |c: char| self.form(c) == Plain::Separator;
        let end = original[at..]
            .find(is_border)
            .map_or(original.len(), |offset| at + offset);
        let before = original[..at].chars().rev().take_while(|&c| !is_border(c));
        let mut letters = before.chain(original[at..end].chars());
        (
            end,
            letters.any(|c| matches!(self.form(c), Plain::One(one) if one.is_ascii_alphabetic())),
        )
    }

    fn form(&self, c: char) -> Plain {
        self.forms
            .get(c as usize)
            .copied()
            .unwrap_or_else(|| fold::plain(c))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(pattern: &str) -> Result<Option<Patterns>, String> {
        Patterns::new(&[Source {
            rule: 0,
            rule_name: "test",
            pattern,
            case_sensitive: false,
        }])
    }

    #[test]
    fn a_hostile_pattern_is_refused_before_it_costs_anything() {
        for pattern in [
            "(a{1000}){1000}",
            r"\w{5000}",
            &"(".repeat(60),
            "(?:a{0,500}){0,500}b",
            "((((a{9}){9}){9}){9}){9}",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn a_pattern_that_matches_nothing_visible_is_refused() {
        assert!(
            compile("a*")
                .unwrap_err_text()
                .contains("matches the empty text")
        );
    }

    #[test]
    fn a_syntax_error_names_the_pattern_and_the_fault() {
        let error = compile("(abc").unwrap_err_text();
        assert!(
            error.contains("`(abc`") && error.contains("unclosed group"),
            "{error}"
        );
    }

    #[test]
    fn plain_text_leads_back_to_the_original() {
        let original = "Ｐay\u{200b}PаL ß!";
        let view = PlainView::new();
        assert_eq!(view.text(original), "paypal ss!");
        let plain = view.places(original);
        let (start, end) = plain.original(0, 6);
        assert_eq!(&original[start..end], "Ｐay\u{200b}PаL");
        let (start, end) = plain.original(8, 9);
        assert_eq!(&original[start..end], "ß");
    }

    #[test]
    fn plain_text_leaves_genuine_cyrillic_alone() {
        assert_eq!(PlainView::new().text("Москва, code"), "москва, code");
        assert_eq!(PlainView::new().text("Line\n\tTWO $5"), "line  two $5");
    }

    #[test]
    fn word_borders_hold_in_every_script() {
        let patterns = compile(r"\bказино\b").unwrap().unwrap();
        let found = |text: &str| {
            patterns
                .matching(text)
                .filter(|expression| expression.regex.is_match(text))
                .count()
        };
        assert_eq!((found("Лучшее КАЗИНО!"), found("Мегаказино")), (1, 0));
    }

    trait ErrorText {
        fn unwrap_err_text(self) -> String;
    }

    impl ErrorText for Result<Option<Patterns>, String> {
        fn unwrap_err_text(self) -> String {
            self.err().unwrap_or_default()
        }
    }
}

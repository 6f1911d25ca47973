//! Regular expressions under size limits: all of them in one automaton that says which match, and each by itself for
//! the places. Also makes the plain view of a text that expressions may ask for.
//! Matching is linear in the text (no back-references exist); the limits bound what a pattern may cost in memory.

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

use crate::fold::{self, Plain};

/// Octets that one compiled expression may take.
const MAX_COMPILED: usize = 256 * 1024;
/// Octets that all expressions of one view may take together.
const MAX_COMPILED_TOGETHER: usize = 2 * 1024 * 1024;
/// Octets of the automaton that is built while matching.
const MAX_CACHE: usize = 512 * 1024;
const MAX_NESTING: u32 = 50;

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
        // The flag goes into the pattern, because a set has one for all.
        let flagged = sources.iter().map(|source| match source.case_sensitive {
            true => source.pattern.to_owned(),
            false => format!("(?i:{})", source.pattern),
        });
        let screen = RegexSetBuilder::new(flagged)
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
    fn fault(&self, what: &str) -> String {
        format!(
            "rule `{}`: pattern `{}`: {what}",
            self.rule_name, self.pattern
        )
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

/// The text as a reader sees it: lower case, without diacritics, invisible characters and look-alikes of mixed words;
/// white space is a space. Digits and punctuation stay. `starts` and `ends` lead back to the original octets.
pub struct PlainText {
    pub text: String,
    /// For each octet of `text`: where its character begins and ends in the original.
    spans: Vec<(u32, u32)>,
}

impl PlainText {
    pub fn new(original: &str) -> Self {
        let mut plain = Self {
            text: String::with_capacity(original.len()),
            spans: Vec::with_capacity(original.len()),
        };
        let mut rest = 0;
        while rest < original.len() {
            let word = original[rest..]
                .find(is_border)
                .map_or(original.len(), |at| rest + at);
            plain.push_word(original, rest, word);
            rest = word;
            if let Some(border) = original[rest..].chars().next() {
                let end = rest + border.len_utf8();
                plain.push(
                    if border.is_whitespace() {
                        ' '
                    } else {
                        border_character(border)
                    },
                    rest,
                    end,
                );
                rest = end;
            }
        }
        plain
    }

    /// The octets of the original that `start..end` of the plain text stands for.
    pub fn original(&self, start: usize, end: usize) -> (usize, usize) {
        (self.spans[start].0 as usize, self.spans[end - 1].1 as usize)
    }

    fn push_word(&mut self, original: &str, start: usize, end: usize) {
        let word = &original[start..end];
        let has_latin = word
            .chars()
            .any(|c| matches!(fold::plain(c), Plain::One(one) if one.is_ascii_alphabetic()));
        for (at, c) in word.char_indices() {
            let (from, to) = (start + at, start + at + c.len_utf8());
            match fold::plain(c) {
                Plain::One(one) => {
                    let seen = fold::pose(c).filter(|_| has_latin).unwrap_or(one);
                    self.push(seen, from, to);
                }
                Plain::Two(one, two) => {
                    self.push(one, from, to);
                    self.push(two, from, to);
                }
                Plain::Separator | Plain::Invisible => {}
            }
        }
    }

    fn push(&mut self, c: char, start: usize, end: usize) {
        self.text.push(c);
        self.spans
            .resize(self.text.len(), (start as u32, end as u32));
    }
}

fn is_border(c: char) -> bool {
    fold::plain(c) == Plain::Separator
}

fn border_character(c: char) -> char {
    fold::compatibility(c).unwrap_or(c)
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
        let plain = PlainText::new(original);
        assert_eq!(plain.text, "paypal ss!");
        let (start, end) = plain.original(0, 6);
        assert_eq!(&original[start..end], "Ｐay\u{200b}PаL");
        let (start, end) = plain.original(8, 9);
        assert_eq!(&original[start..end], "ß");
    }

    #[test]
    fn plain_text_leaves_genuine_cyrillic_alone() {
        assert_eq!(PlainText::new("Москва, code").text, "москва, code");
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

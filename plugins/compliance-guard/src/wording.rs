//! Opt-out wording: whether a text already tells how to opt out, and the text with the wording appended.
//! Knows text only; which wording a message needs is decided by the guard.

use crate::config::{Class, Wording};

/// One wording, ready to compare.
#[derive(Debug)]
pub struct Notice {
    text: String,
    separator: String,
    countries: Vec<String>,
    classes: Vec<Class>,
    accounts: Vec<String>,
    present: Phrases,
}

impl Notice {
    /// The error names the field.
    pub fn new(wording: &Wording) -> Result<Self, String> {
        if wording.text.trim().is_empty() {
            return Err("`opt_out_wording`: `text` is empty".to_owned());
        }
        if wording
            .unless_present
            .iter()
            .any(|phrase| phrase.trim().is_empty())
        {
            return Err(
                "`opt_out_wording`: an empty `unless_present` would be present in every text"
                    .to_owned(),
            );
        }
        let phrases = wording.unless_present.iter().map(String::as_str);
        let present = Phrases::new(phrases.chain([wording.text.trim()]));
        Ok(Self {
            text: wording.text.clone(),
            separator: wording.separator.clone(),
            countries: wording.countries.clone(),
            classes: wording.classes.clone(),
            accounts: wording.accounts.clone(),
            present,
        })
    }

    pub fn is_for(&self, country: Option<&str>, class: Class, account: &str) -> bool {
        self.classes.contains(&class)
            && (self.countries.is_empty()
                || country
                    .is_some_and(|country| self.countries.iter().any(|listed| listed == country)))
            && (self.accounts.is_empty() || self.accounts.iter().any(|listed| listed == account))
    }

    /// The amended text, or none where the text says it already.
    pub fn append_to(&self, text: &str) -> Option<String> {
        if self.present.any_in(text) {
            return None;
        }
        let text = text.trim_end();
        let separator = if text.is_empty() {
            ""
        } else {
            self.separator.as_str()
        };
        Some([text, separator, self.text.as_str()].concat())
    }
}

/// Phrases to look for in one pass over a text, in any case.
#[derive(Debug)]
struct Phrases {
    /// By first octet, lower case.
    by_first: Vec<Vec<String>>,
}

impl Phrases {
    fn new<'a>(phrases: impl Iterator<Item = &'a str>) -> Self {
        let mut by_first = vec![Vec::new(); 256];
        for phrase in phrases.map(str::to_lowercase) {
            if let Some(&first) = phrase.as_bytes().first() {
                by_first[usize::from(first)].push(phrase);
            }
        }
        Self { by_first }
    }

    fn any_in(&self, text: &str) -> bool {
        let lower = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            text.to_lowercase()
        };
        let lower = lower.as_bytes();
        (0..lower.len()).any(|at| {
            let phrases = &self.by_first[usize::from(lower[at])];
            phrases
                .iter()
                .any(|phrase| lower[at..].starts_with(phrase.as_bytes()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_are_found_in_any_case_at_any_place() {
        let phrases = Phrases::new(["Reply STOP", "désinscr"].into_iter());
        assert!(
            phrases.any_in("reply stop")
                && phrases.any_in("To end REPLY STOP!")
                && phrases.any_in("DÉSINSCRIRE")
        );
        assert!(
            !phrases.any_in("reply sto")
                && !phrases.any_in("")
                && !phrases.any_in("no reply, stop")
        );
    }
}

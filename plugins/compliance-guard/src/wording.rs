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
    /// Lower case.
    present: Vec<String>,
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
        let mut present: Vec<String> = wording
            .unless_present
            .iter()
            .map(|phrase| phrase.to_lowercase())
            .collect();
        present.push(wording.text.trim().to_lowercase());
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
        let lower = text.to_lowercase();
        if self
            .present
            .iter()
            .any(|phrase| lower.contains(phrase.as_str()))
        {
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

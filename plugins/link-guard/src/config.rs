//! The configuration as the operator writes it, and its checks. It decides nothing.

use std::collections::BTreeMap;

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

const ACCOUNTS_MAX: usize = 5_000;
const LINKS_MAX: u32 = 50;

/// Which links may be in a message.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Hosts that are good, with everything under them.
    pub allow_hosts: Vec<String>,
    /// Table of further good hosts; the values do not matter.
    pub allow_table: Option<String>,
    /// Hosts that are bad, with everything under them.
    pub block_hosts: Vec<String>,
    /// Table of further bad hosts; the value is the reason.
    pub block_table: Option<String>,
    /// Names that others may not pose as.
    pub brands: Vec<Brand>,
    /// Link shorteners beside the built-in ones.
    pub shorteners: Vec<String>,
    /// True: every link must be to a host that is good, or the account's own.
    pub only_listed: bool,
    /// Accounts that differ, by id.
    pub accounts: BTreeMap<String, Account>,
    /// What follows from each finding.
    pub actions: Actions,
    /// Classes that are looked at. Empty: all.
    pub classes: Vec<Class>,
    /// Links that a message may have, 1 to 50.
    pub max_links: u32,
    /// Put in the place of a link that is stripped.
    pub replacement: String,
    /// Where the grant withholds the content.
    pub on_withheld: Fallback,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            allow_hosts: Vec::new(),
            allow_table: None,
            block_hosts: Vec::new(),
            block_table: None,
            brands: Vec::new(),
            shorteners: Vec::new(),
            only_listed: false,
            accounts: BTreeMap::new(),
            actions: Actions::default(),
            classes: Vec::new(),
            max_links: 5,
            replacement: "[link removed]".to_owned(),
            on_withheld: Fallback::Refuse,
        }
    }
}

/// A name that others may not pose as.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Brand {
    /// Hosts that are the brand's own, with everything under them. Each one's main label is a protected word.
    pub domains: Vec<String>,
    /// Further protected words, three letters or more.
    #[serde(default)]
    pub words: Vec<String>,
}

/// Where an account differs.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Account {
    /// Hosts that are good in this account's messages, with everything under them. They beat the block lists.
    pub hosts: Vec<String>,
    /// Instead of the common setting.
    pub only_listed: Option<bool>,
    /// True: nothing of this account is looked at.
    pub exempt: bool,
}

/// What follows from each finding. The severest decides: refuse, hold, strip, pass.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Actions {
    /// The host is on a block list.
    pub blocked: Action,
    /// Something that looks like a host stands before an '@'.
    pub user_name: Action,
    /// The host is an IP address, in any notation.
    pub address: Action,
    /// A public link shortener.
    pub shortener: Action,
    /// A host that is drawn like a protected word and is not it.
    pub lookalike: Action,
    /// A protected word in a host that is not the brand's.
    pub brand_in_host: Action,
    /// A host one letter away from a protected word (two, from nine letters on).
    pub near_brand: Action,
    /// A label that mixes scripts, or is made of foreign letters that all look Latin.
    pub mixed_script: Action,
    /// Only listed hosts may be linked to, and this is none.
    pub not_listed: Action,
    /// More links than `max_links`.
    pub too_many: Action,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            blocked: Action::Refuse,
            user_name: Action::Refuse,
            address: Action::Refuse,
            shortener: Action::Refuse,
            lookalike: Action::Refuse,
            brand_in_host: Action::Hold,
            near_brand: Action::Hold,
            mixed_script: Action::Hold,
            not_listed: Action::Refuse,
            too_many: Action::Hold,
        }
    }
}

/// By severity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    Pass,
    /// Take the link out of the text.
    Strip,
    /// Park the message for a person.
    Hold,
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    Pass,
    Hold,
    /// With `content_withheld`.
    Refuse,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

impl Class {
    pub fn of(class: TrafficClass) -> Self {
        match class {
            TrafficClass::Otp => Self::Otp,
            TrafficClass::Transactional => Self::Transactional,
            TrafficClass::Promotional => Self::Promotional,
            TrafficClass::Alert => Self::Alert,
        }
    }
}

impl Config {
    /// The error names the field and the rule. Hosts and brands are read elsewhere.
    pub fn check(&self) -> Result<(), String> {
        if !(1..=LINKS_MAX).contains(&self.max_links) {
            return Err(format!(
                "max_links: {} is not 1 to {LINKS_MAX}",
                self.max_links
            ));
        }
        if self.accounts.len() > ACCOUNTS_MAX {
            return Err(format!(
                "accounts: {} entries, at most {ACCOUNTS_MAX} are allowed",
                self.accounts.len()
            ));
        }
        if self.replacement.chars().count() > 100 || self.replacement.contains("://") {
            return Err("replacement: it has a link or more than 100 characters".to_owned());
        }
        Ok(())
    }
}

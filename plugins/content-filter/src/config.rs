//! The configuration as the operator writes it, and its checks. Fields that do not belong to a rule's kind are
//! refused by name, so that a misplaced field never goes unnoticed.

use heliograph_plugin::TrafficClass;
use schemars::JsonSchema;
use serde::Deserialize;

/// Characters in all words of all rules together.
pub const MAX_WORD_CHARACTERS: usize = 200_000;
pub const MAX_RULES: usize = 500;
pub const MAX_PATTERNS: usize = 200;
pub const MAX_PATTERN_LENGTH: usize = 1_000;
pub const MAX_HOSTS: usize = 50_000;
/// Characters that the host keeps of a reason.
pub const MAX_REASON: usize = 512;

/// What the filter looks for, and what it does about it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Rules in order: the first one that refuses, holds or drops decides; replacements add up.
    pub rules: Vec<Rule>,
    /// Rule lists that come with the plugin, applied after `rules`.
    pub presets: Vec<Preset>,
    /// What to do with a message whose content the grant withholds from this plugin, if there are rules for it.
    pub on_withheld: Fallback,
    /// What to do with a binary message, which has no text to look at, if there are rules for it.
    pub on_binary: Fallback,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            presets: Vec::new(),
            on_withheld: Fallback::Refuse,
            on_binary: Fallback::Pass,
        }
    }
}

/// One rule.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Shown in reasons.
    pub name: String,
    pub kind: Kind,
    #[serde(default)]
    pub action: Action,
    /// The stable code of a refusal, lower_snake_case. Default: blocked_word, blocked_pattern or blocked_url.
    pub code: Option<String>,
    /// Replaces the reason that names the rule and what was found.
    pub reason: Option<String>,
    /// For action `replace`: what to put in. Default: one `*` for each character.
    pub replacement: Option<String>,
    /// Traffic classes that the rule applies to. Empty: all.
    #[serde(default)]
    pub classes: Vec<Class>,
    /// Accounts that the rule applies to. Empty: all.
    #[serde(default)]
    pub accounts: Vec<String>,
    /// Accounts that the rule does not apply to.
    #[serde(default)]
    pub except_accounts: Vec<String>,

    /// Kind `words`: words and phrases, in any case, with or without accents.
    #[serde(default)]
    pub words: Vec<String>,
    /// Kind `words`: only as whole words (default true). False finds them inside other words too.
    pub whole_word: Option<bool>,
    /// Kind `words`: also find words disguised by look-alike letters, digits for letters, thin marks and spaced-out
    /// letters (default true).
    pub see_through: Option<bool>,
    /// Kind `words`: also find words with repeated letters, as in `freeee` (default false).
    pub repeats: Option<bool>,
    /// Kind `words`: when a letter of another script is read as the Latin letter it looks like (default mixed).
    pub look_alikes: Option<LookAlikes>,

    /// Kind `regex`: regular expressions in the syntax of the Rust crate `regex`.
    #[serde(default)]
    pub patterns: Vec<String>,
    /// Kind `regex`: default false.
    pub case_sensitive: Option<bool>,
    /// Kind `regex`: which view of the text the patterns see (default original).
    pub view: Option<View>,

    /// Kind `url`: these hosts and everything under them are never a hit; with no other field of this kind, every
    /// other host is.
    #[serde(default)]
    pub allow_hosts: Vec<String>,
    /// Kind `url`: these hosts and everything under them are a hit.
    #[serde(default)]
    pub deny_hosts: Vec<String>,
    /// Kind `url`: public link shorteners are a hit.
    pub deny_shorteners: Option<bool>,
    /// Kind `url`: hosts that are IP addresses are a hit.
    pub deny_addresses: Option<bool>,
    /// Kind `url`: hosts with letters outside ASCII (IDN, punycode) are a hit.
    pub deny_idn: Option<bool>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Words,
    Regex,
    Url,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The client gets the code.
    #[default]
    Refuse,
    /// A person releases or refuses the message.
    Hold,
    /// The found text is masked or replaced, and the message goes on.
    Replace,
    /// Accepted and discarded.
    Drop,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    Otp,
    Transactional,
    Promotional,
    Alert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LookAlikes {
    /// In words that mix scripts, and in a text whose foreign letters are all look-alikes.
    Mixed,
    /// Wherever they stand, in genuine Cyrillic or Greek words too.
    Always,
    Never,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum View {
    /// As it was submitted.
    Original,
    /// As it reads: lower case, without accents, invisible characters and look-alike letters.
    Plain,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// `shorteners`, `disguised_links` and `phishing`.
    Defaults,
    /// Refuses links through public link shorteners.
    Shorteners,
    /// Holds links to IP addresses and to hosts with letters outside ASCII.
    DisguisedLinks,
    /// Holds messages that ask for a password, PIN or card number.
    Phishing,
    /// Refuses gambling words in promotional messages.
    Gambling,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Fallback {
    Pass,
    Hold,
    Refuse,
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

impl Rule {
    /// A rule of this kind with everything else at its default.
    pub fn new(name: &str, kind: Kind, action: Action) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            action,
            code: None,
            reason: None,
            replacement: None,
            classes: Vec::new(),
            accounts: Vec::new(),
            except_accounts: Vec::new(),
            words: Vec::new(),
            whole_word: None,
            see_through: None,
            repeats: None,
            look_alikes: None,
            patterns: Vec::new(),
            case_sensitive: None,
            view: None,
            allow_hosts: Vec::new(),
            deny_hosts: Vec::new(),
            deny_shorteners: None,
            deny_addresses: None,
            deny_idn: None,
        }
    }

    pub fn applies_to(&self, account: &str, class: Class) -> bool {
        (self.classes.is_empty() || self.classes.contains(&class))
            && (self.accounts.is_empty() || self.accounts.iter().any(|listed| listed == account))
            && !self.except_accounts.iter().any(|listed| listed == account)
    }

    pub fn code(&self) -> &str {
        let default = match self.kind {
            Kind::Words => "blocked_word",
            Kind::Regex => "blocked_pattern",
            Kind::Url => "blocked_url",
        };
        self.code.as_deref().unwrap_or(default)
    }

    /// What the schema cannot say.
    pub fn check(&self) -> Result<(), String> {
        if self.name.trim().is_empty() || self.name.len() > 64 {
            return Err("a rule needs a `name` of 1 to 64 characters".to_owned());
        }
        let fault = |what: String| Err(format!("rule `{}`: {what}", self.name));
        if let Some((field, kind)) = self.misplaced() {
            return fault(format!("`{field}` belongs to kind `{kind}`"));
        }
        if self.kind == Kind::Words && self.words.is_empty() {
            return fault("kind `words` needs `words`".to_owned());
        }
        if self.kind == Kind::Regex && self.patterns.is_empty() {
            return fault("kind `regex` needs `patterns`".to_owned());
        }
        if self.replacement.is_some() && self.action != Action::Replace {
            return fault("`replacement` belongs to action `replace`".to_owned());
        }
        if self.code.is_some() && self.action != Action::Refuse {
            return fault("`code` belongs to action `refuse`".to_owned());
        }
        if self
            .reason
            .as_ref()
            .is_some_and(|reason| reason.chars().count() > MAX_REASON)
        {
            return fault(format!("`reason` has more than {MAX_REASON} characters"));
        }
        if !is_code(self.code()) {
            return fault(format!(
                "`code` is `{}`, not lower_snake_case of 1 to 64 characters",
                self.code()
            ));
        }
        Ok(())
    }

    fn misplaced(&self) -> Option<(&'static str, &'static str)> {
        let of_words = [
            (!self.words.is_empty(), "words"),
            (self.whole_word.is_some(), "whole_word"),
            (self.see_through.is_some(), "see_through"),
            (self.repeats.is_some(), "repeats"),
            (self.look_alikes.is_some(), "look_alikes"),
        ];
        let of_regex = [
            (!self.patterns.is_empty(), "patterns"),
            (self.case_sensitive.is_some(), "case_sensitive"),
            (self.view.is_some(), "view"),
        ];
        let of_url = [
            (!self.allow_hosts.is_empty(), "allow_hosts"),
            (!self.deny_hosts.is_empty(), "deny_hosts"),
            (self.deny_shorteners.is_some(), "deny_shorteners"),
            (self.deny_addresses.is_some(), "deny_addresses"),
            (self.deny_idn.is_some(), "deny_idn"),
        ];
        let first_set = |fields: &[(bool, &'static str)]| {
            fields.iter().find(|(set, _)| *set).map(|&(_, field)| field)
        };
        let of_other_kinds = [
            (Kind::Words, first_set(&of_words), "words"),
            (Kind::Regex, first_set(&of_regex), "regex"),
            (Kind::Url, first_set(&of_url), "url"),
        ];
        let mut others = of_other_kinds
            .into_iter()
            .filter(|(kind, ..)| *kind != self.kind);
        others.find_map(|(_, field, kind)| field.map(|field| (field, kind)))
    }
}

fn is_code(code: &str) -> bool {
    (1..=64).contains(&code.len())
        && code.starts_with(|c: char| c.is_ascii_lowercase())
        && code
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

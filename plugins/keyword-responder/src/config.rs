//! The configuration as the operator writes it. Everything has a default; an empty configuration answers STOP, START
//! and HELP in the language of the word that was sent.

use std::collections::BTreeMap;

use heliograph_plugin::Scope;
use schemars::JsonSchema;
use serde::Deserialize;

/// Keywords, and what they do.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Languages whose opt-out, opt-in and help words are known. The international ones always are.
    pub languages: Vec<Language>,
    /// The language of replies to international words such as STOP.
    pub reply_language: Language,
    /// Further opt-out words.
    pub opt_out_words: Vec<String>,
    /// Further opt-in words.
    pub opt_in_words: Vec<String>,
    /// Further help words.
    pub help_words: Vec<String>,
    /// Built-in words that shall not count, such as `CANCEL` where customers cancel appointments by text.
    pub ignore: Vec<String>,
    /// How the built-in words and those above are looked for.
    #[serde(rename = "match")]
    pub matching: Matching,
    /// What an opt-out or opt-in reaches.
    pub scope: Reach,
    /// An opt-in word opts in although the handset had not opted out. Otherwise such a message is left to the application.
    pub always_opt_in: bool,
    /// Opt-out, opt-in and help messages are not delivered to the application.
    pub consume: bool,
    /// Put before the built-in replies as in `Acme: `; `{brand}` stands for it in the operator's own texts.
    pub brand: String,
    /// Reply texts by language, in place of the built-in ones. An empty text: no reply.
    pub replies: BTreeMap<Language, Replies>,
    /// Numbers that differ. The first entry that lists the texted number is used.
    pub numbers: Vec<Number>,
    /// The operator's own keywords.
    pub keywords: Vec<Keyword>,
    /// Replies to one handset from one number within an hour; further ones are left out. 0: no limit, and no state used.
    pub max_replies_per_hour: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            languages: Language::ALL.to_vec(),
            reply_language: Language::En,
            opt_out_words: Vec::new(),
            opt_in_words: Vec::new(),
            help_words: Vec::new(),
            ignore: Vec::new(),
            matching: Matching::Whole,
            scope: Reach::Number,
            always_opt_in: false,
            consume: false,
            brand: String::new(),
            replies: BTreeMap::new(),
            numbers: Vec::new(),
            keywords: Vec::new(),
            max_replies_per_hour: 5,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Language {
    En,
    De,
    Es,
    Fr,
    It,
    Nl,
    Pl,
    Pt,
    Sv,
    Tr,
}

impl Language {
    pub const ALL: [Self; 10] = [
        Self::En,
        Self::De,
        Self::Es,
        Self::Fr,
        Self::It,
        Self::Nl,
        Self::Pl,
        Self::Pt,
        Self::Sv,
        Self::Tr,
    ];
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matching {
    /// The message is the keyword, give or take courtesy, punctuation, case and accents.
    Whole,
    /// The message begins with the keyword.
    Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// The number that was texted.
    Number,
    /// Every number of the account that owns it.
    Account,
    /// Everything that this platform sends.
    Everything,
}

/// Reply texts. `{number}` is the texted number, `{brand}` the configured name. Not given: the built-in text. Empty: none.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Replies {
    pub opt_out: Option<String>,
    pub opt_in: Option<String>,
    pub help: Option<String>,
}

/// What is different at some numbers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Number {
    /// Texted numbers or short codes, '+' optional.
    pub numbers: Vec<String>,
    /// The language of all replies from them.
    pub language: Option<Language>,
    pub brand: Option<String>,
    pub scope: Option<Reach>,
    /// Texts in place of those of any language.
    #[serde(default)]
    pub replies: Replies,
}

/// A keyword of the operator's own.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keyword {
    /// Words or phrases; case, accents and punctuation do not matter.
    pub words: Vec<String>,
    #[serde(rename = "match", default = "whole")]
    pub matching: Matching,
    /// Texted numbers it is for. Empty: all.
    #[serde(default)]
    pub numbers: Vec<String>,
    /// Text back. Empty: none.
    #[serde(default)]
    pub reply: String,
    /// Attached to the stored message.
    #[serde(default)]
    pub label: String,
    /// Not delivered to the application.
    #[serde(default)]
    pub consume: bool,
    /// Records a wish of the handset.
    pub wish: Option<Wish>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    OptIn,
    OptOut,
}

impl From<Reach> for Scope {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::Number => Self::Number,
            Reach::Account => Self::Account,
            Reach::Everything => Self::Everything,
        }
    }
}

fn whole() -> Matching {
    Matching::Whole
}

//! The rule lists that come with the plugin. They are ordinary rules: whoever disagrees with one copies it from the
//! README and changes it. What they hold is part of the plugin's promise, so they change with its version only.

use crate::config::{Action, Class, Kind, Preset, Rule, View};

pub fn rules(preset: Preset) -> Vec<Rule> {
    match preset {
        Preset::Defaults => [Preset::Shorteners, Preset::DisguisedLinks, Preset::Phishing]
            .into_iter()
            .flat_map(rules)
            .collect(),
        Preset::Shorteners => {
            vec![Rule {
                deny_shorteners: Some(true),
                ..Rule::new("preset-shorteners", Kind::Url, Action::Refuse)
            }]
        }
        Preset::DisguisedLinks => vec![Rule {
            deny_addresses: Some(true),
            deny_idn: Some(true),
            ..Rule::new("preset-disguised-links", Kind::Url, Action::Hold)
        }],
        Preset::Phishing => vec![Rule {
            patterns: PHISHING.iter().map(|&pattern| pattern.to_owned()).collect(),
            view: Some(View::Plain),
            ..Rule::new("preset-phishing", Kind::Regex, Action::Hold)
        }],
        Preset::Gambling => vec![Rule {
            words: GAMBLING.iter().map(|&word| word.to_owned()).collect(),
            classes: vec![Class::Promotional],
            ..Rule::new("preset-gambling", Kind::Words, Action::Refuse)
        }],
    }
}

/// Written for the plain view. "Never share your PIN" is what honest senders write, so the verb must ask.
const PHISHING: &[&str] = &[
    r"\b(?:confirm|verify|update|enter|provide|validate) (?:your|ur) (?:pin|password|passcode|card|bank|account|billing|payment)\b",
    r"\b(?:reply|respond|text back) with (?:your|ur) (?:pin|password|passcode|card|cvv|code)\b",
    r"\b(?:account|card|parcel|package) (?:is|has been|was|will be) (?:suspended|locked|blocked|restricted)\b.{0,80}\b(?:click|tap|visit|verify|confirm)\b",
];

const GAMBLING: &[&str] = &[
    "casino",
    "online casino",
    "free spins",
    "jackpot",
    "roulette",
    "blackjack",
    "sportsbook",
    "betting bonus",
    "deposit bonus",
    "slot machine",
];

//! Answers STOP, START, HELP and the operator's own keywords, in several languages, without ever talking to a machine
//! for long. Opt-outs are recorded by the host, which enforces them; this plugin only reads the wish out of the text.
//! Its one capability is `state`, for counting replies.

mod config;
mod words;

use std::collections::BTreeMap;

use heliograph_plugin::{
    Action, Address, Context, Inbound, InboundHandler, Plugin, TypeOfNumber, state,
};

pub use config::{Config, Keyword, Language, Matching, Number, Reach, Replies, Wish};

use words::{Request, VOCABULARIES, comparable, without_courtesy};

/// Octets that a keyword may have.
const MAX_KEYWORD: usize = 60;
/// Octets of a message that are looked at; a longer one is no keyword, however courteous.
const MAX_LOOK: usize = 200;
const MAX_KEYWORDS: usize = 2_000;
/// Characters that the host keeps of a label.
const MAX_LABEL: usize = 64;
/// Words that the longest keyword may have, for messages that begin with it.
const MAX_WORDS: usize = 8;
/// Shorter numbers are short codes: machines that answer by themselves.
const MIN_HANDSET_DIGITS: usize = 7;
const HOUR_SECONDS: u32 = 3_600;

pub struct Responder {
    known: BTreeMap<String, Known>,
    keywords: Vec<Own>,
    /// Configured word to the entries of `keywords` that list it.
    own_words: BTreeMap<String, Vec<usize>>,
    config: Config,
}

/// A word for opting out, opting in or help.
#[derive(Clone, Copy)]
struct Known {
    request: Request,
    /// None for international words.
    language: Option<Language>,
}

/// A keyword of the operator's own.
struct Own {
    keyword: Keyword,
    numbers: Vec<String>,
}

impl Plugin for Responder {
    type Config = Config;
    const NAME: &'static str = "keyword-responder";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Answers STOP, START and HELP with their synonyms in ten languages, and the operator's own keywords.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(mut config: Config) -> Result<Self, String> {
        let known = known_words(&config)?;
        let mut keywords = Vec::new();
        let mut own_words: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, keyword) in config.keywords.drain(..).enumerate() {
            let numbers = keyword
                .numbers
                .iter()
                .map(|number| digits(number).to_owned())
                .collect();
            for word in &keyword.words {
                let word = checked(word, "keywords")?;
                if known
                    .get(&word)
                    .is_some_and(|known| known.request == Request::OptOut)
                {
                    return Err(format!(
                        "`keywords`: `{word}` is an opt-out word; put it under `ignore` to use it otherwise"
                    ));
                }
                own_words.entry(word).or_default().push(index);
            }
            check_keyword(&keyword)?;
            keywords.push(Own { keyword, numbers });
        }
        if own_words.len() > MAX_KEYWORDS {
            return Err(format!(
                "`keywords`: {} words, at most {MAX_KEYWORDS} are allowed",
                own_words.len()
            ));
        }
        if let Some(word) = ambiguous(&own_words, &keywords) {
            return Err(format!(
                "`keywords`: `{word}` is listed twice for the same number"
            ));
        }
        for number in &mut config.numbers {
            for listed in &mut number.numbers {
                *listed = digits(listed).to_owned();
            }
        }
        Ok(Self {
            known,
            keywords,
            own_words,
            config,
        })
    }
}

impl InboundHandler for Responder {
    fn receive(&self, inbound: &Inbound, _context: &Context) -> Vec<Action> {
        let Some(text) = inbound.body.as_text() else {
            return Vec::new();
        };
        let words = comparable(text, MAX_LOOK);
        if words.is_empty() {
            return Vec::new();
        }
        let known = self.known(&words);
        if let Some(known) = known.filter(|known| known.request == Request::OptOut) {
            return self.answer(inbound, known);
        }
        if let Some(own) = self.own(&words, &inbound.recipient.value) {
            return self.answer_own(inbound, &own.keyword);
        }
        known
            .map(|known| self.answer(inbound, known))
            .unwrap_or_default()
    }
}

heliograph_plugin::export!(Responder: InboundHandler);

impl Responder {
    fn known(&self, words: &str) -> Option<Known> {
        readings(words, true)
            .filter(|(_, matching)| {
                *matching == Matching::Whole || self.config.matching == Matching::Start
            })
            .find_map(|(reading, _)| self.known.get(reading).copied())
    }

    fn own(&self, words: &str, number: &str) -> Option<&Own> {
        if self.own_words.is_empty() {
            return None;
        }
        readings(words, true).find_map(|(reading, matching)| {
            let entries = self
                .own_words
                .get(reading)?
                .iter()
                .map(|&index| &self.keywords[index]);
            entries.into_iter().find(|own| {
                (matching == Matching::Whole || own.keyword.matching == Matching::Start)
                    && own.is_for(number)
            })
        })
    }

    fn answer(&self, inbound: &Inbound, known: Known) -> Vec<Action> {
        let number = self.number(inbound);
        let scope = number
            .and_then(|number| number.scope)
            .unwrap_or(self.config.scope)
            .into();
        let (wish, label, silent) = match known.request {
            // Recorded again, because the wish may reach further now; answered once.
            Request::OptOut => (Some(Action::OptOut(scope)), "opt-out", inbound.opted_out),
            // "Yes" is an answer to many questions. It is this one's only from somebody who had opted out.
            Request::OptIn if !inbound.opted_out && !self.config.always_opt_in => {
                return Vec::new();
            }
            Request::OptIn => (Some(Action::OptIn(scope)), "opt-in", false),
            Request::Help => (None, "help", false),
        };
        let mut actions: Vec<Action> = wish.into_iter().collect();
        actions.push(Action::Label(label.to_owned()));
        if !silent {
            actions.extend(self.reply(inbound, self.text(known, number, inbound)));
        }
        if self.config.consume {
            actions.push(Action::Consume);
        }
        actions
    }

    fn answer_own(&self, inbound: &Inbound, keyword: &Keyword) -> Vec<Action> {
        let number = self.number(inbound);
        let scope = number
            .and_then(|number| number.scope)
            .unwrap_or(self.config.scope)
            .into();
        let mut actions = Vec::new();
        match keyword.wish {
            Some(Wish::OptIn) => actions.push(Action::OptIn(scope)),
            Some(Wish::OptOut) => actions.push(Action::OptOut(scope)),
            None => {}
        }
        if !keyword.label.is_empty() {
            actions.push(Action::Label(keyword.label.clone()));
        }
        let silent = keyword.wish == Some(Wish::OptOut) && inbound.opted_out;
        if !silent {
            actions.extend(self.reply(inbound, self.fill(&keyword.reply, number, inbound)));
        }
        if keyword.consume {
            actions.push(Action::Consume);
        }
        actions
    }

    /// The reply, unless it is empty, would go to a machine, or would be one too many.
    fn reply(&self, inbound: &Inbound, text: String) -> Option<Action> {
        if text.trim().is_empty() || !is_handset(&inbound.originator, &inbound.recipient) {
            return None;
        }
        let limit = i64::from(self.config.max_replies_per_hour);
        if limit > 0 {
            let key = format!(
                "replies/{}/{}",
                inbound.recipient.value, inbound.originator.value
            );
            if state::increment(&key, 1, HOUR_SECONDS) > limit {
                return None;
            }
        }
        Some(Action::Reply(text))
    }

    /// The number's own text, else the language's, else the built-in one.
    fn text(&self, known: Known, number: Option<&Number>, inbound: &Inbound) -> String {
        let language = number
            .and_then(|number| number.language)
            .or(known.language)
            .unwrap_or(self.config.reply_language);
        let of_number = number.and_then(|number| number.replies.of(known.request));
        let of_language = || {
            self.config
                .replies
                .get(&language)
                .and_then(|replies| replies.of(known.request))
        };
        if let Some(text) = of_number.or_else(of_language) {
            return self.fill(text, number, inbound);
        }
        let text = self.fill(words::built_in(language, known.request), number, inbound);
        match self.brand(number) {
            "" => text,
            brand => format!("{brand}: {text}"),
        }
    }

    fn fill(&self, template: &str, number: Option<&Number>, inbound: &Inbound) -> String {
        template
            .replace("{number}", &inbound.recipient.value)
            .replace("{brand}", self.brand(number))
    }

    fn brand<'a>(&'a self, number: Option<&'a Number>) -> &'a str {
        number
            .and_then(|number| number.brand.as_deref())
            .unwrap_or(&self.config.brand)
    }

    fn number(&self, inbound: &Inbound) -> Option<&Number> {
        let texted = inbound.recipient.value.as_str();
        self.config
            .numbers
            .iter()
            .find(|number| number.numbers.iter().any(|listed| listed == digits(texted)))
    }
}

impl Own {
    fn is_for(&self, number: &str) -> bool {
        self.numbers.is_empty() || self.numbers.iter().any(|listed| listed == digits(number))
    }
}

/// The ways to read a message as a keyword, most of it first: all of it, without courtesy, and its first words.
fn readings(words: &str, beginnings: bool) -> impl Iterator<Item = (&str, Matching)> {
    let cut = words.len() >= MAX_LOOK;
    let whole = [words, without_courtesy(words)]
        .into_iter()
        .filter(move |_| !cut)
        .map(|text| (text, Matching::Whole));
    let borders: Vec<usize> = if beginnings {
        words
            .match_indices(' ')
            .map(|(at, _)| at)
            .take(MAX_WORDS)
            .collect()
    } else {
        Vec::new()
    };
    whole.chain(
        borders
            .into_iter()
            .rev()
            .map(|at| (&words[..at], Matching::Start)),
    )
}

fn known_words(config: &Config) -> Result<BTreeMap<String, Known>, String> {
    let mut known = BTreeMap::new();
    let mut add = |word: String, request, language| {
        known.entry(word).or_insert(Known { request, language });
    };
    // The operator's words first: they stand above the built-in ones.
    let own = [
        (Request::OptOut, &config.opt_out_words, "opt_out_words"),
        (Request::OptIn, &config.opt_in_words, "opt_in_words"),
        (Request::Help, &config.help_words, "help_words"),
    ];
    for (request, listed, field) in own {
        for word in listed {
            add(checked(word, field)?, request, None);
        }
    }
    let international = VOCABULARIES
        .iter()
        .filter(|vocabulary| vocabulary.language.is_none());
    let spoken = config.languages.iter().flat_map(|language| {
        VOCABULARIES
            .iter()
            .filter(move |vocabulary| vocabulary.language == Some(*language))
    });
    for vocabulary in international.chain(spoken) {
        let lists = [
            (Request::OptOut, vocabulary.opt_out),
            (Request::OptIn, vocabulary.opt_in),
            (Request::Help, vocabulary.help),
        ];
        for (request, list) in lists {
            list.iter()
                .for_each(|word| add((*word).to_owned(), request, vocabulary.language));
        }
    }
    for word in &config.ignore {
        let word = checked(word, "ignore")?;
        if known.remove(&word).is_none() {
            return Err(format!(
                "`ignore`: `{word}` is not a word that the configured languages know"
            ));
        }
    }
    Ok(known)
}

/// The word in comparable form. The error names the field and the word.
fn checked(word: &str, field: &str) -> Result<String, String> {
    let form = comparable(word, MAX_LOOK);
    if form.is_empty() {
        return Err(format!("`{field}`: `{word}` has no letter or digit"));
    }
    if form.len() > MAX_KEYWORD || form.split(' ').count() > MAX_WORDS {
        return Err(format!(
            "`{field}`: `{word}` has more than {MAX_KEYWORD} octets or {MAX_WORDS} words"
        ));
    }
    Ok(form)
}

fn check_keyword(keyword: &Keyword) -> Result<(), String> {
    let Some(first) = keyword.words.first() else {
        return Err("`keywords`: an entry without `words`".to_owned());
    };
    if keyword.label.chars().count() > MAX_LABEL {
        return Err(format!(
            "`keywords`: the `label` of `{first}` has more than {MAX_LABEL} characters"
        ));
    }
    let does_nothing = keyword.reply.is_empty()
        && keyword.label.is_empty()
        && !keyword.consume
        && keyword.wish.is_none();
    if does_nothing {
        return Err(format!(
            "`keywords`: `{first}` does nothing; give it `reply`, `label`, `consume` or `wish`"
        ));
    }
    Ok(())
}

fn ambiguous<'a>(
    own_words: &'a BTreeMap<String, Vec<usize>>,
    keywords: &[Own],
) -> Option<&'a String> {
    let clash = |a: &Own, b: &Own| {
        a.numbers == b.numbers || a.numbers.iter().any(|number| b.numbers.contains(number))
    };
    let listed_twice = |entries: &Vec<usize>| {
        entries.iter().enumerate().any(|(nth, &one)| {
            entries[nth + 1..]
                .iter()
                .any(|&other| one == other || clash(&keywords[one], &keywords[other]))
        })
    };
    own_words
        .iter()
        .find(|(_, entries)| listed_twice(entries))
        .map(|(word, _)| word)
}

/// Names and short codes are machines: an answer to them may be answered again.
fn is_handset(originator: &Address, recipient: &Address) -> bool {
    let is_machine = match originator.ton {
        TypeOfNumber::Alphanumeric | TypeOfNumber::Abbreviated | TypeOfNumber::NetworkSpecific => {
            true
        }
        TypeOfNumber::Unknown
        | TypeOfNumber::International
        | TypeOfNumber::National
        | TypeOfNumber::Subscriber => false,
    };
    // A withheld number is a pseudonym of whatever length; its prefix is what is real.
    let value = digits(&originator.value);
    let is_short =
        value.bytes().all(|byte| byte.is_ascii_digit()) && value.len() < MIN_HANDSET_DIGITS;
    !is_machine && !is_short && value != digits(&recipient.value)
}

fn digits(number: &str) -> &str {
    number.trim().trim_start_matches('+')
}

#[cfg(test)]
mod tests;

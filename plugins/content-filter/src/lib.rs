//! A content filter: words, regular expressions and links, each rule with its own action. It compiles everything when
//! it is configured; a clean message is judged in one pass over its text.
//! Pure: it uses no capability, keeps nothing between messages and looks nothing up.

mod config;
mod patterns;
mod presets;
mod screen;
mod words;

use heliograph_plugin::{Body, ContentFilter, Context, Message, Plugin, Verdict};

pub use config::{Action, Class, Config, Fallback, Kind, LookAlikes, Preset, Rule, View};

use heliograph_plugin_text::urls::Hosts;
use heliograph_plugin_text::{fold, urls};
use patterns::{Patterns, PlainView, Source};
use words::{Options, Pattern, Scripts, Words};

pub struct Filter {
    rules: Vec<Rule>,
    words: Option<Words>,
    original: Option<Patterns>,
    plain: Option<Patterns>,
    plain_view: PlainView,
    links: Vec<LinkRule>,
    on_withheld: Fallback,
    on_binary: Fallback,
}

/// A rule of kind `url`, ready to compare.
struct LinkRule {
    rule: usize,
    allow: Hosts,
    deny: Hosts,
    shorteners: bool,
    addresses: bool,
    idn: bool,
}

/// What a rule found: octets of the original text.
struct Finding {
    rule: usize,
    start: usize,
    end: usize,
    /// The listed word or the host.
    what: String,
}

impl Plugin for Filter {
    type Config = Config;
    const NAME: &'static str = "content-filter";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Refuses, holds, masks or drops messages by words, regular expressions and links, however disguised.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        let mut rules = config.rules;
        rules.extend(config.presets.iter().copied().flat_map(presets::rules));
        check(&rules)?;
        Ok(Self {
            words: compile_words(&rules)?,
            original: compile_patterns(&rules, View::Original)?,
            plain: compile_patterns(&rules, View::Plain)?,
            plain_view: PlainView::new(),
            links: compile_links(&rules)?,
            rules,
            on_withheld: config.on_withheld,
            on_binary: config.on_binary,
        })
    }
}

impl ContentFilter for Filter {
    fn inspect(&self, message: &Message, _context: &Context) -> Verdict {
        let class = Class::of(message.traffic);
        let applies = |rule: usize| self.rules[rule].applies_to(&message.account, class);
        if !(0..self.rules.len()).any(applies) {
            return Verdict::Pass;
        }
        match &message.body {
            Body::Text(text) => self.judge(text, self.findings(text, applies)),
            Body::Binary(_) => self.without_text(
                self.on_binary,
                "binary_content",
                "binary content has no text",
            ),
            Body::Withheld(_) => self.without_text(
                self.on_withheld,
                "content_withheld",
                "the content is withheld from the filter",
            ),
        }
    }
}

heliograph_plugin::export!(Filter: ContentFilter);

impl Filter {
    fn findings(&self, text: &str, applies: impl Fn(usize) -> bool) -> Vec<Finding> {
        let mut findings = Vec::new();
        if let Some(words) = self.words.as_ref().filter(|words| words.suspects(text)) {
            findings.extend(words.find(text, &applies).into_iter().map(|hit| {
                let pattern = words.pattern(hit.pattern);
                Finding {
                    rule: pattern.rule,
                    start: hit.start,
                    end: hit.end,
                    what: pattern.listed.clone(),
                }
            }));
        }
        if let Some(patterns) = &self.original {
            for expression in patterns
                .matching(text)
                .filter(|expression| applies(expression.rule))
            {
                findings.extend(expression.regex.find_iter(text).map(|found| Finding {
                    rule: expression.rule,
                    start: found.start(),
                    end: found.end(),
                    what: String::new(),
                }));
            }
        }
        if let Some(patterns) = &self.plain {
            self.findings_in_plain(patterns, text, &applies, &mut findings);
        }
        if !self.links.is_empty() && urls::may_have_links(text) {
            for link in urls::find(text) {
                let denying = self
                    .links
                    .iter()
                    .filter(|rule| applies(rule.rule) && rule.denies(&link));
                findings.extend(denying.map(|rule| Finding {
                    rule: rule.rule,
                    start: link.start,
                    end: link.end,
                    what: link.host.clone(),
                }));
            }
        }
        findings
    }

    fn findings_in_plain(
        &self,
        patterns: &Patterns,
        text: &str,
        applies: impl Fn(usize) -> bool,
        findings: &mut Vec<Finding>,
    ) {
        let view = self.plain_view.text(text);
        let mut places = None;
        for expression in patterns
            .matching(&view)
            .filter(|expression| applies(expression.rule))
        {
            let places = places.get_or_insert_with(|| self.plain_view.places(text));
            findings.extend(
                expression
                    .regex
                    .find_iter(&view)
                    .filter(|found| !found.is_empty())
                    .map(|found| {
                        let (start, end) = places.original(found.start(), found.end());
                        Finding {
                            rule: expression.rule,
                            start,
                            end,
                            what: String::new(),
                        }
                    }),
            );
        }
    }

    /// The first rule in order that ends the matter does; otherwise all replacements are made.
    fn judge(&self, text: &str, mut findings: Vec<Finding>) -> Verdict {
        findings.sort_by_key(|finding| (finding.rule, finding.start));
        let decisive = findings
            .iter()
            .find(|finding| self.rules[finding.rule].action != Action::Replace);
        let Some(found) = decisive else {
            return self.replace(text, findings);
        };
        let rule = &self.rules[found.rule];
        let reason = rule
            .reason
            .clone()
            .unwrap_or_else(|| describe(rule, &found.what));
        match rule.action {
            Action::Refuse => Verdict::refuse(rule.code(), reason),
            Action::Hold => Verdict::Hold(reason),
            Action::Drop => Verdict::Drop(reason),
            Action::Replace => self.replace(text, findings),
        }
    }

    fn replace(&self, text: &str, mut findings: Vec<Finding>) -> Verdict {
        let Some(first) = findings.first() else {
            return Verdict::Pass;
        };
        let rule = &self.rules[first.rule];
        let reason = rule
            .reason
            .clone()
            .unwrap_or_else(|| describe(rule, &first.what));
        // Where two overlap, the one that begins first (the longer of two) takes the place of both.
        findings
            .sort_by_key(|finding| (finding.start, std::cmp::Reverse(finding.end), finding.rule));
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        for finding in &findings {
            if finding.end <= done {
                continue;
            }
            let start = finding.start.max(done);
            replaced.push_str(&text[done..start]);
            match &self.rules[finding.rule].replacement {
                Some(_) if finding.start < done => {}
                Some(replacement) => replaced.push_str(replacement),
                None => mask(&text[start..finding.end], &mut replaced),
            }
            done = finding.end;
        }
        replaced.push_str(&text[done..]);
        if replaced == text {
            Verdict::Pass
        } else {
            Verdict::replace(replaced, reason)
        }
    }

    fn without_text(&self, fallback: Fallback, code: &str, reason: &str) -> Verdict {
        match fallback {
            Fallback::Pass => Verdict::Pass,
            Fallback::Hold => Verdict::Hold(reason.to_owned()),
            Fallback::Refuse => Verdict::refuse(code, reason),
        }
    }
}

impl LinkRule {
    fn denies(&self, link: &urls::Link) -> bool {
        if self.allow.covers(&link.host) {
            return false;
        }
        let lists_nothing =
            self.deny.is_empty() && !self.shorteners && !self.addresses && !self.idn;
        lists_nothing
            || self.deny.covers(&link.host)
            || (self.shorteners && urls::is_shortener(&link.host))
            || (self.addresses && link.is_address)
            || (self.idn && urls::is_idn(&link.host))
    }
}

fn check(rules: &[Rule]) -> Result<(), String> {
    rules.iter().try_for_each(Rule::check)?;
    let within = |what: &str, count: usize, limit: usize| {
        (count <= limit)
            .then_some(())
            .ok_or_else(|| format!("{count} {what}, at most {limit} are allowed"))
    };
    let characters = rules
        .iter()
        .flat_map(|rule| &rule.words)
        .map(String::len)
        .sum();
    within("rules", rules.len(), config::MAX_RULES)?;
    within(
        "characters in all words",
        characters,
        config::MAX_WORD_CHARACTERS,
    )?;
    within(
        "patterns",
        rules.iter().map(|rule| rule.patterns.len()).sum(),
        config::MAX_PATTERNS,
    )?;
    let hosts = rules
        .iter()
        .map(|rule| rule.allow_hosts.len() + rule.deny_hosts.len())
        .sum();
    within("hosts", hosts, config::MAX_HOSTS)
}

fn compile_words(rules: &[Rule]) -> Result<Option<Words>, String> {
    let mut patterns = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let options = Options {
            whole_word: rule.whole_word.unwrap_or(true),
            see_through: rule.see_through.unwrap_or(true),
            repeats: rule.repeats.unwrap_or(false),
            scripts: match rule.look_alikes.unwrap_or(LookAlikes::Mixed) {
                LookAlikes::Mixed => Scripts::Mixed,
                LookAlikes::Always => Scripts::Always,
                LookAlikes::Never => Scripts::Never,
            },
        };
        for word in &rule.words {
            let pattern = Pattern::new(index, word, options).ok_or_else(|| {
                format!(
                    "rule `{}`: word `{word}` needs two letters or digits",
                    rule.name
                )
            })?;
            patterns.push(pattern);
        }
    }
    if patterns.is_empty() {
        Ok(None)
    } else {
        Words::new(patterns).map(Some)
    }
}

fn compile_patterns(rules: &[Rule], view: View) -> Result<Option<Patterns>, String> {
    let mut sources = Vec::new();
    for (index, rule) in rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.view.unwrap_or(View::Original) == view)
    {
        for pattern in &rule.patterns {
            if pattern.len() > config::MAX_PATTERN_LENGTH {
                let (name, limit) = (&rule.name, config::MAX_PATTERN_LENGTH);
                return Err(format!(
                    "rule `{name}`: a pattern of {} octets, at most {limit} are allowed",
                    pattern.len()
                ));
            }
            let case_sensitive = rule.case_sensitive.unwrap_or(false);
            sources.push(Source {
                rule: index,
                rule_name: &rule.name,
                pattern,
                case_sensitive,
            });
        }
    }
    Patterns::new(&sources)
}

fn compile_links(rules: &[Rule]) -> Result<Vec<LinkRule>, String> {
    let of_links = rules
        .iter()
        .enumerate()
        .filter(|(_, rule)| rule.kind == Kind::Url);
    of_links
        .map(|(index, rule)| {
            let hosts = |field: &str, listed: &[String]| {
                Hosts::new(listed)
                    .map_err(|error| format!("rule `{}`: `{field}`: {error}", rule.name))
            };
            Ok(LinkRule {
                rule: index,
                allow: hosts("allow_hosts", &rule.allow_hosts)?,
                deny: hosts("deny_hosts", &rule.deny_hosts)?,
                shorteners: rule.deny_shorteners.unwrap_or(false),
                addresses: rule.deny_addresses.unwrap_or(false),
                idn: rule.deny_idn.unwrap_or(false),
            })
        })
        .collect()
}

fn describe(rule: &Rule, what: &str) -> String {
    let found: String = what.chars().take(60).collect();
    match rule.kind {
        Kind::Words => format!("rule `{}`: the text has the word `{found}`", rule.name),
        // What a pattern found may be a card number; reasons are stored longer than texts.
        Kind::Regex => format!("rule `{}`: the text matches one of its patterns", rule.name),
        Kind::Url => format!("rule `{}`: the text links to `{found}`", rule.name),
    }
}

/// One asterisk for each character that is seen; white space stays, so that the shape of the text does too.
fn mask(found: &str, into: &mut String) {
    for c in found.chars().filter(|&c| !fold::is_invisible(c)) {
        into.push(if c.is_whitespace() { c } else { '*' });
    }
}

#[cfg(test)]
mod tests;

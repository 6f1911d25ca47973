//! Keeps phishing out of messages: links to hosts that are listed as bad, that pose as a protected brand, that hide
//! where they lead (shorteners, addresses, user names, foreign letters), or that the account may not link to. Judges
//! hosts only; nothing is looked up beyond the operator's tables.

mod brands;
mod config;

use std::collections::BTreeMap;

use heliograph_plugin::{Body, ContentFilter, Context, Message, Plugin, Verdict, tables};
use heliograph_plugin_text::fold;
use heliograph_plugin_text::urls::{self, Hosts, Link};

use brands::{Brands, Pose};
pub use config::{Account, Action, Actions, Brand, Class, Config, Fallback};

/// Parents of a host that are looked up in a table; each is a call of the host.
const PARENTS_MAX: usize = 8;
/// A table's key has no more octets.
const TABLE_KEY_MAX: usize = 63;

pub struct LinkGuard {
    config: Config,
    allow: Hosts,
    block: Hosts,
    shorteners: Hosts,
    brands: Brands,
    own_hosts: Vec<Hosts>,
    accounts: BTreeMap<String, Hosts>,
}

impl Plugin for LinkGuard {
    type Config = Config;
    const NAME: &'static str = "link-guard";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str =
        "Refuses, holds or strips links that pose as a brand, hide their target, or are on a list.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        config.check()?;
        let hosts = |field: &str, listed: &[String]| {
            Hosts::new(listed).map_err(|error| format!("{field}: {error}"))
        };
        let accounts = config.accounts.iter().map(|(id, account)| {
            let own = hosts(&format!("accounts.{id}.hosts"), &account.hosts)?;
            Ok::<_, String>((id.clone(), own))
        });
        let (brands, own_hosts) = Brands::new(&config.brands)?;
        Ok(Self {
            allow: hosts("allow_hosts", &config.allow_hosts)?,
            block: hosts("block_hosts", &config.block_hosts)?,
            shorteners: hosts("shorteners", &config.shorteners)?,
            accounts: accounts.collect::<Result<_, _>>()?,
            brands,
            own_hosts,
            config,
        })
    }
}

impl ContentFilter for LinkGuard {
    fn inspect(&self, message: &Message, _context: &Context) -> Verdict {
        let config = &self.config;
        let account = config.accounts.get(&message.account);
        let is_looked_at =
            config.classes.is_empty() || config.classes.contains(&Class::of(message.traffic));
        if !is_looked_at || account.is_some_and(|account| account.exempt) {
            return Verdict::Pass;
        }
        match &message.body {
            Body::Text(text) if urls::may_have_links(text) => self.judge(text, message, account),
            Body::Text(_) | Body::Binary(_) => Verdict::Pass,
            Body::Withheld(_) => self.withheld(),
        }
    }
}

heliograph_plugin::export!(LinkGuard: ContentFilter);

/// Something about a link that the operator has an action for.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    action: Action,
    code: &'static str,
    reason: String,
}

impl LinkGuard {
    fn judge(&self, text: &str, message: &Message, account: Option<&Account>) -> Verdict {
        let links = urls::find(text);
        let most = self.config.max_links as usize;
        let mut worst: Option<Finding> = None;
        if links.len() > most {
            let reason = format!("{} links; at most {most} are allowed", links.len());
            worst = self.found(self.config.actions.too_many, "too_many_links", || reason);
        }
        let own = self.accounts.get(&message.account);
        let only_listed = account
            .and_then(|account| account.only_listed)
            .unwrap_or(self.config.only_listed);
        let mut stripped = String::new();
        let mut kept_from = 0;
        let mut first_stripped = None;
        // What is beyond is not read: it is stripped with the rest, held or refused as too much.
        for (index, link) in links.iter().enumerate() {
            let finding = match index < most {
                true => self.worst(link, own, only_listed),
                false => self.found(self.config.actions.too_many, "too_many_links", || {
                    "beyond the number of links that is allowed".to_owned()
                }),
            };
            let Some(finding) = finding else {
                continue;
            };
            if finding.action == Action::Strip {
                stripped.push_str(&text[kept_from..link.start]);
                stripped.push_str(&self.config.replacement);
                kept_from = link.end;
                first_stripped.get_or_insert(finding.reason);
            } else if worst.as_ref().is_none_or(|w| w.action < finding.action) {
                worst = Some(finding);
            }
        }
        match (worst, first_stripped) {
            (Some(finding), _) if finding.action == Action::Refuse => {
                Verdict::refuse(finding.code, finding.reason)
            }
            (Some(finding), _) if finding.action == Action::Hold => {
                Verdict::Hold(format!("{}: {}", finding.code, finding.reason))
            }
            (_, Some(reason)) => {
                stripped.push_str(&text[kept_from..]);
                Verdict::replace(stripped, format!("link removed: {reason}"))
            }
            (Some(_) | None, None) => Verdict::Pass,
        }
    }

    /// The severest finding about one link.
    fn worst(&self, link: &Link, own: Option<&Hosts>, only_listed: bool) -> Option<Finding> {
        let host = link.host.as_str();
        if !link.is_address && self.is_good(host, own) {
            return None;
        }
        let actions = &self.config.actions;
        let shown = shown(host);
        let findings = [
            self.blocked(host),
            self.when(link.has_user, actions.user_name, "link_disguised", || {
                format!("what stands before the @ hides that the link leads to {shown}")
            }),
            self.when(link.is_address, actions.address, "link_address", || {
                format!("{shown} is an address, not a name")
            }),
            self.when(
                self.is_shortener(host),
                actions.shortener,
                "link_shortener",
                || format!("{shown} is a link shortener, which hides where it leads"),
            ),
            self.brand(link),
            self.when(
                is_deceptive(host),
                actions.mixed_script,
                "link_mixed_script",
                || format!("{shown} has foreign letters that look like Latin ones"),
            ),
            self.when(only_listed, actions.not_listed, "link_not_listed", || {
                format!("{shown} is not on the list of hosts that may be linked to")
            }),
        ];
        // The first of the severest.
        findings.into_iter().flatten().reduce(|worst, next| {
            if next.action > worst.action {
                next
            } else {
                worst
            }
        })
    }

    fn is_good(&self, host: &str, own: Option<&Hosts>) -> bool {
        own.is_some_and(|own| own.covers(host))
            || self.allow.covers(host)
            || self.own_hosts.iter().any(|hosts| hosts.covers(host))
            || self
                .config
                .allow_table
                .as_deref()
                .is_some_and(|table| in_table(table, host).is_some())
    }

    fn blocked(&self, host: &str) -> Option<Finding> {
        let action = self.config.actions.blocked;
        if self.block.covers(host) {
            return self.found(action, "link_blocked", || {
                format!("{} is on the block list", shown(host))
            });
        }
        let said = in_table(self.config.block_table.as_deref()?, host)?;
        self.found(action, "link_blocked", || match said.trim() {
            "" => format!("{} is on the block list", shown(host)),
            said => format!("{}: {said}", shown(host)),
        })
    }

    fn is_shortener(&self, host: &str) -> bool {
        urls::is_shortener(host) || self.shorteners.covers(host)
    }

    fn brand(&self, link: &Link) -> Option<Finding> {
        if self.brands.is_empty() || link.is_address {
            return None;
        }
        let actions = &self.config.actions;
        let host = shown(&link.host);
        match self.brands.pose(&link.host)? {
            Pose::Lookalike(word) => self.found(actions.lookalike, "link_lookalike", || {
                format!("{host} is drawn like {word} and is not it")
            }),
            Pose::Inside(word) => self.found(actions.brand_in_host, "link_brand", || {
                format!("{host} has {word} in it and is not {word}'s")
            }),
            Pose::Near(word) => self.found(actions.near_brand, "link_near_brand", || {
                format!("{host} is nearly {word}")
            }),
        }
    }

    fn when(
        &self,
        is_so: bool,
        action: Action,
        code: &'static str,
        reason: impl FnOnce() -> String,
    ) -> Option<Finding> {
        is_so.then(|| self.found(action, code, reason)).flatten()
    }

    fn found(
        &self,
        action: Action,
        code: &'static str,
        reason: impl FnOnce() -> String,
    ) -> Option<Finding> {
        (action != Action::Pass).then(|| Finding {
            action,
            code,
            reason: reason(),
        })
    }

    fn withheld(&self) -> Verdict {
        let reason = "the grant withholds the content, so links cannot be judged";
        match self.config.on_withheld {
            Fallback::Pass => Verdict::Pass,
            Fallback::Hold => Verdict::Hold(reason.to_owned()),
            Fallback::Refuse => Verdict::refuse("content_withheld", reason),
        }
    }
}

/// The value of the row for the host or for the nearest of its parents; a top-level domain alone is no row.
fn in_table(table: &str, host: &str) -> Option<String> {
    let mut rest = host;
    let labels = host.split('.').count();
    for _ in PARENTS_MAX..labels {
        rest = rest.split_once('.')?.1;
    }
    loop {
        if rest.len() <= TABLE_KEY_MAX
            && let Some(said) = tables::lookup(table, rest)
        {
            return Some(said);
        }
        rest = rest.split_once('.').map(|(_, parent)| parent)?;
        if !rest.contains('.') {
            return None;
        }
    }
}

/// Whether a label mixes Latin letters with ones that look like them, or is made of such letters alone.
fn is_deceptive(host: &str) -> bool {
    if !urls::is_idn(host) {
        return false;
    }
    host.split('.').any(|label| {
        let seen = urls::unicode_label(label).unwrap_or_default();
        let foreign = || seen.chars().filter(|c| fold::is_look_alike_script(*c));
        let has_latin = seen.chars().any(|c| c.is_ascii_alphabetic());
        foreign().next().is_some() && (has_latin || foreign().all(fold::is_twin))
    })
}

/// As much of a host as a reason needs.
fn shown(host: &str) -> &str {
    const SHOWN_MAX: usize = 80;
    match host.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => &host[..end],
        None => host,
    }
}

#[cfg(test)]
mod tests;

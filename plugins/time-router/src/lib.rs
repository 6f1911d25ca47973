//! Time router: which carriers a message takes, or that it waits, by the clock and the calendar of a place, summer time
//! included. Pure: the time is the context's, for a scheduled message the time at which it will be sent.

mod config;
mod window;
mod zone;

use heliograph_plugin::{
    Address, Carrier, Context, Hop, Message, Plan, Plugin, Routing, RoutingPolicy, Timestamp,
};

pub use config::{Class, Config, Day, Rule};

use window::Window;
use zone::DAY_SECONDS;

const RULES_MAX: usize = 500;
/// Half a day: more would defer into the next night.
const SPREAD_MINUTES_MAX: u16 = 720;
const HOPS_MAX: usize = 16;

pub struct TimeRouter {
    rules: Vec<Timed>,
    spread_ms: u64,
}

/// A rule and when it holds.
struct Timed {
    rule: Rule,
    window: Window,
    then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Send,
    Defer,
    Refuse,
    Pass,
}

impl Plugin for TimeRouter {
    type Config = Config;
    const NAME: &'static str = "time-router";
    const VERSION: &'static str = env!("CARGO_PKG_VERSION");
    const SUMMARY: &'static str = "Chooses carriers, defers or refuses by local time of day, weekday and date, in any time zone.";
    const SCHEMA: Option<&'static str> = Some(include_str!("../schema.json"));

    fn new(config: Config) -> Result<Self, String> {
        if config.rules.len() > RULES_MAX {
            return Err(format!(
                "rules: {} entries, at most {RULES_MAX} are allowed",
                config.rules.len()
            ));
        }
        if config.spread_minutes > SPREAD_MINUTES_MAX {
            return Err(format!(
                "spread_minutes: {} is more than {SPREAD_MINUTES_MAX}",
                config.spread_minutes
            ));
        }
        zone::Zone::new(&config.zone).map_err(|error| format!("zone: {error}"))?;
        let rules = config.rules.into_iter().enumerate().map(|(index, rule)| {
            Timed::new(rule, &config.zone).map_err(|error| format!("rules[{index}].{error}"))
        });
        Ok(Self {
            rules: rules.collect::<Result<_, _>>()?,
            spread_ms: u64::from(config.spread_minutes) * 60_000,
        })
    }
}

impl RoutingPolicy for TimeRouter {
    fn route(&self, message: &Message, carriers: &[Carrier], context: &Context) -> Routing {
        let now = seconds(context.now);
        for timed in &self.rules {
            if !timed.is_for(message) || !timed.window.holds(now) {
                continue;
            }
            match timed.then {
                Then::Pass => return Routing::Pass,
                Then::Refuse => {
                    let said = timed.rule.refuse.as_deref().unwrap_or_default();
                    let reason = format!("rule {}: {said}", timed.rule.name);
                    return Routing::refuse("refused_by_time", reason);
                }
                Then::Defer => return self.defer(timed, message, context),
                Then::Send => {
                    if let Some(plan) = timed.plan(carriers) {
                        return Routing::Send(plan);
                    }
                }
            }
        }
        Routing::Pass
    }
}

heliograph_plugin::export!(TimeRouter: RoutingPolicy);

impl TimeRouter {
    fn defer(&self, timed: &Timed, message: &Message, context: &Context) -> Routing {
        let name = &timed.rule.name;
        let end = timed
            .window
            .end(seconds(context.now), seconds(message.expires_at));
        let Some(end) = end else {
            return Routing::refuse(
                "deferred_past_expiry",
                format!(
                    "rule {name}: the message expires before its time is over; give it a longer validity"
                ),
            );
        };
        let clock = local_clock(&timed.window, end);
        let end = u64::try_from(end).unwrap_or(0).saturating_mul(1_000);
        let room = self
            .spread_ms
            .min(message.expires_at.saturating_sub(end) / 2);
        let spread = context.random.checked_rem(room).unwrap_or(0);
        let zone = &timed.window.zone.name;
        Routing::defer(
            end.saturating_add(spread),
            format!("rule {name}: until {clock} {zone}"),
        )
    }
}

impl Timed {
    /// The error names the field.
    fn new(mut rule: Rule, common_zone: &str) -> Result<Self, String> {
        if rule.name.trim().is_empty() {
            return Err("name: it is empty".to_owned());
        }
        let said = [
            (!rule.carriers.is_empty(), Then::Send),
            (rule.defer, Then::Defer),
            (rule.refuse.is_some(), Then::Refuse),
            (rule.pass, Then::Pass),
        ];
        let mut said = said.into_iter().filter(|(is_said, _)| *is_said);
        let (Some((_, then)), None) = (said.next(), said.next()) else {
            return Err(
                "carriers: give exactly one of `carriers`, `defer`, `refuse`, `pass`".to_owned(),
            );
        };
        for country in &rule.countries {
            if country.len() != 2 || !country.bytes().all(|byte| byte.is_ascii_uppercase()) {
                return Err(format!(
                    "countries: `{country}` is not an ISO 3166-1 alpha-2 country code in capitals, like GB"
                ));
            }
        }
        for prefix in &mut rule.prefixes {
            let digits = prefix.trim().trim_start_matches('+').to_owned();
            if !(1..=15).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return Err(format!("prefixes: `{prefix}` is not 1 to 15 digits"));
            }
            *prefix = digits;
        }
        let window = Window::new(&rule, common_zone)?;
        if then == Then::Defer && window.is_always() {
            return Err(
                "defer: the rule's time never ends, so that nothing would ever be sent".to_owned(),
            );
        }
        Ok(Self { rule, window, then })
    }

    fn is_for(&self, message: &Message) -> bool {
        let rule = &self.rule;
        let number = destination(&message.recipient);
        let country = message.network.country.as_deref();
        (rule.classes.is_empty() || rule.classes.contains(&Class::of(message.traffic)))
            && (rule.accounts.is_empty() || rule.accounts.contains(&message.account))
            && (rule.countries.is_empty()
                || country.is_some_and(|country| rule.countries.iter().any(|c| c == country)))
            && (rule.prefixes.is_empty()
                || rule.prefixes.iter().any(|p| number.starts_with(p.as_str())))
    }

    /// None where none of the carriers is configured any more.
    fn plan(&self, offered: &[Carrier]) -> Option<Plan> {
        let find = |id: &String| offered.iter().find(|carrier| carrier.id == *id);
        let mut listed: Vec<&Carrier> = self.rule.carriers.iter().filter_map(find).collect();
        listed.sort_by_key(|carrier| !carrier.connected);
        listed.truncate(HOPS_MAX);
        let hops: Vec<Hop> = listed.into_iter().map(Carrier::hop).collect();
        (!hops.is_empty()).then(|| Plan {
            hops,
            reason: format!("rule {} by {}", self.rule.name, self.window.zone.name),
        })
    }
}

fn seconds(at: Timestamp) -> i64 {
    (at / 1_000) as i64
}

fn local_clock(window: &Window, utc: i64) -> String {
    let local = utc + i64::from(window.zone.offset_at(utc));
    let minutes = local.rem_euclid(DAY_SECONDS) / 60;
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// The digits to compare: the number, or as much of it as the grant shows.
fn destination(recipient: &Address) -> &str {
    match recipient.value.bytes().all(|byte| byte.is_ascii_digit()) {
        true => &recipient.value,
        false => &recipient.prefix,
    }
}

#[cfg(test)]
mod tests;

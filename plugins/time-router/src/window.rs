//! When a rule holds: minutes of local days, weekdays and dates, by a zone's clock; and when that ends. An hour that the
//! clock skips does not exist, one that it repeats counts twice. Knows no messages.

use crate::config::Rule;
use crate::zone::{DAY_SECONDS, Zone, civil_from_days, days_from_civil, days_in_month};

const DAY_MINUTES: i64 = 1_440;
const DATES_MAX: usize = 400;
/// Borders that the search for an end looks at: three a day for a year, and the clock's changes.
const BORDERS_MAX: usize = 1_200;

#[derive(Clone, Debug)]
pub struct Window {
    pub zone: Zone,
    /// Minutes of the day; wraps when the first is the larger.
    from: i64,
    to: i64,
    /// Bit n: the n-th weekday, Monday first.
    days: u8,
    dates: Vec<Span>,
    except: Vec<Span>,
}

/// From the first to the last day, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Span {
    /// Month times 100 and day; over the new year when the first is the larger.
    Yearly(i64, i64),
    /// Days since 1970-01-01.
    Once(i64, i64),
}

impl Window {
    /// The error names the field.
    pub fn new(rule: &Rule, common_zone: &str) -> Result<Self, String> {
        let zone = Zone::new(rule.zone.as_deref().unwrap_or(common_zone))
            .map_err(|error| format!("zone: {error}"))?;
        let (from, to) = match (&rule.from, &rule.to) {
            (Some(from), Some(to)) => (
                minute_of(from).map_err(|error| format!("from: {error}"))?,
                minute_of(to).map_err(|error| format!("to: {error}"))?,
            ),
            (None, None) => (0, DAY_MINUTES),
            (Some(_), None) | (None, Some(_)) => {
                return Err("from: give both `from` and `to`, or neither".to_owned());
            }
        };
        if from == to || from == DAY_MINUTES {
            return Err("from: from it to `to` there is no minute".to_owned());
        }
        let days = match rule.days.is_empty() {
            true => 0x7f,
            false => rule.days.iter().fold(0, |days, day| days | 1 << *day as u8),
        };
        Ok(Self {
            zone,
            from,
            to,
            days,
            dates: spans("dates", &rule.dates)?,
            except: spans("except_dates", &rule.except_dates)?,
        })
    }

    /// Whether it has neither hours nor days nor dates.
    pub fn is_always(&self) -> bool {
        let is_whole = (self.from, self.to) == (0, DAY_MINUTES) && self.days == 0x7f;
        is_whole && self.dates.is_empty() && self.except.is_empty()
    }

    /// `utc` in seconds since the epoch.
    pub fn holds(&self, utc: i64) -> bool {
        let local = utc + i64::from(self.zone.offset_at(utc));
        let today = local.div_euclid(DAY_SECONDS);
        let minute = local.rem_euclid(DAY_SECONDS) / 60;
        let day = match self.from < self.to {
            true if (self.from..self.to).contains(&minute) => today,
            false if minute >= self.from => today,
            false if minute < self.to => today - 1,
            true | false => return false,
        };
        self.is_on(day)
    }

    /// The first instant after `utc` at which it does not hold; none before `limit`.
    pub fn end(&self, utc: i64, limit: i64) -> Option<i64> {
        let mut at = utc;
        for _ in 0..BORDERS_MAX {
            at = self.next_border(at);
            if at >= limit {
                return None;
            }
            if !self.holds(at) {
                return Some(at);
            }
        }
        None
    }

    /// The next instant at which the answer may be another: midnight, `from`, `to`, or a change of the clock.
    fn next_border(&self, utc: i64) -> i64 {
        let local = utc + i64::from(self.zone.offset_at(utc));
        let midnight = local.div_euclid(DAY_SECONDS) * DAY_SECONDS;
        let borders = [self.from, self.to, DAY_MINUTES].map(|minute| midnight + minute * 60);
        let tomorrow = midnight + DAY_SECONDS;
        let next = borders.into_iter().filter(|at| *at > local).min();
        let by_clock = utc + next.unwrap_or(tomorrow) - local;
        match self.zone.next_change(utc) {
            Some(change) => change.min(by_clock),
            None => by_clock,
        }
    }

    fn is_on(&self, day: i64) -> bool {
        // 1970-01-01 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        let on = |spans: &[Span]| spans.iter().any(|span| span.contains(day));
        self.days & 1 << weekday != 0
            && (self.dates.is_empty() || on(&self.dates))
            && !on(&self.except)
    }
}

impl Span {
    fn contains(self, day: i64) -> bool {
        match self {
            Self::Once(first, last) => (first..=last).contains(&day),
            Self::Yearly(first, last) => {
                let (_, month, of_month) = civil_from_days(day);
                let date = month * 100 + of_month;
                match first <= last {
                    true => (first..=last).contains(&date),
                    false => date >= first || date <= last,
                }
            }
        }
    }

    fn read(text: &str) -> Option<Self> {
        let (first, last) = text.split_once("..").unwrap_or((text, text));
        match (date(first.trim())?, date(last.trim())?) {
            (Date::Yearly(first), Date::Yearly(last)) => Some(Self::Yearly(first, last)),
            (Date::Once(first), Date::Once(last)) if first <= last => Some(Self::Once(first, last)),
            _ => None,
        }
    }
}

enum Date {
    Yearly(i64),
    Once(i64),
}

fn date(text: &str) -> Option<Date> {
    let number = |part: &str| match part.bytes().all(|byte| byte.is_ascii_digit()) {
        true => part.parse::<i64>().ok(),
        false => None,
    };
    let parts: Vec<i64> = text.split('-').map(number).collect::<Option<_>>()?;
    let is_day = |year: i64, month: i64, day: i64| {
        (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&day)
    };
    match parts[..] {
        // A leap year, so that 02-29 may be named.
        [month, day] if is_day(2000, month, day) => Some(Date::Yearly(month * 100 + day)),
        [year, month, day] if (1970..3000).contains(&year) && is_day(year, month, day) => {
            Some(Date::Once(days_from_civil(year, month, day)))
        }
        _ => None,
    }
}

fn spans(field: &str, listed: &[String]) -> Result<Vec<Span>, String> {
    if listed.len() > DATES_MAX {
        return Err(format!(
            "{field}: {} entries, at most {DATES_MAX} are allowed",
            listed.len()
        ));
    }
    let read = listed.iter().map(|text| {
        Span::read(text).ok_or_else(|| {
            format!(
                "{field}: `{text}` is no date; write 12-25, 2026-04-06, 12-24..12-26 or 2026-07-01..2026-08-31"
            )
        })
    });
    read.collect()
}

fn minute_of(time: &str) -> Result<i64, String> {
    let fault = || format!("`{time}` is not a time of day from 00:00 to 24:00, written HH:MM");
    let (hours, minutes) = time.split_once(':').ok_or_else(fault)?;
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<i64>().map_err(|_| fault()),
        false => Err(fault()),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY_MINUTES)
        .then_some(total)
        .ok_or_else(fault)
}

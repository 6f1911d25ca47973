//! Local time: what the offset from UTC is at an instant, and when it changes next. A fixed offset, or a zone of the
//! IANA database by the rule that holds for the years to come. Knows no rules of routing.

include!(concat!(env!("OUT_DIR"), "/zones.rs"));

pub const DAY_SECONDS: i64 = 86_400;

/// A zone, ready to ask.
#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    pub name: String,
    /// Seconds since the epoch, and the offset in seconds from then on; empty where `rule` always held.
    changes: &'static [(i64, i32)],
    rule: Rule,
}

/// A POSIX TZ string (IEEE 1003.1, 8.3): a standard offset and perhaps summer time.
#[derive(Clone, Debug, PartialEq)]
struct Rule {
    standard: i32,
    summer: Option<Summer>,
}

#[derive(Clone, Debug, PartialEq)]
struct Summer {
    offset: i32,
    /// By standard time.
    begins: Moment,
    /// By summer time.
    ends: Moment,
}

/// `M10.5.0/3`: the fifth (which is the last) Sunday of October, three hours after midnight.
#[derive(Clone, Debug, PartialEq)]
struct Moment {
    month: i64,
    week: i64,
    weekday: i64,
    seconds: i64,
}

impl Zone {
    /// `Europe/Paris` in any case, `UTC`, or a fixed offset such as `+05:30`. The error says what is wrong.
    pub fn new(name: &str) -> Result<Self, String> {
        if let Some(offset) = fixed(name) {
            return Ok(Self {
                name: name.to_owned(),
                changes: &[],
                rule: Rule {
                    standard: offset,
                    summer: None,
                },
            });
        }
        let found = ZONES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        let unknown = || {
            format!(
                "`{name}` is no time zone; give one of the IANA database such as Europe/Paris, UTC, or an offset such as +05:30"
            )
        };
        let (known, index) = found.ok_or_else(unknown)?;
        let (posix, changes) = RULES.get(usize::from(*index)).ok_or_else(unknown)?;
        Ok(Self {
            name: (*known).to_owned(),
            changes,
            rule: Rule::read(posix).ok_or_else(unknown)?,
        })
    }

    /// Seconds to add to UTC.
    pub fn offset_at(&self, utc: i64) -> i32 {
        match self.listed(utc) {
            Some(offset) => offset,
            None => self.rule.offset_at(utc),
        }
    }

    /// The first instant after `utc` at which the clock may be set; none where it never is.
    pub fn next_change(&self, utc: i64) -> Option<i64> {
        let listed = self.changes.iter().map(|(at, _)| *at).find(|at| *at > utc);
        listed.or_else(|| self.rule.next_change(utc))
    }

    /// The offset by the listed changes; none from the last one on, where the rule holds.
    fn listed(&self, utc: i64) -> Option<i32> {
        let (last, _) = self.changes.last()?;
        if utc >= *last {
            return None;
        }
        let after = self.changes.partition_point(|(at, _)| *at <= utc);
        self.changes
            .get(after.checked_sub(1)?)
            .map(|(_, offset)| *offset)
    }
}

impl Rule {
    fn read(posix: &str) -> Option<Self> {
        let mut parts = posix.split(',');
        let names = parts.next()?;
        let (standard, rest) = name_and_offset(names)?;
        let standard = standard?;
        if rest.is_empty() {
            return parts.next().is_none().then_some(Self {
                standard,
                summer: None,
            });
        }
        let (offset, rest) = name_and_offset(rest)?;
        let summer = Summer {
            // An hour ahead, unless it says otherwise.
            offset: offset.unwrap_or(standard + 3_600),
            begins: Moment::read(parts.next()?)?,
            ends: Moment::read(parts.next()?)?,
        };
        (rest.is_empty() && parts.next().is_none()).then_some(Self {
            standard,
            summer: Some(summer),
        })
    }

    fn offset_at(&self, utc: i64) -> i32 {
        let Some(summer) = &self.summer else {
            return self.standard;
        };
        let (year, _, _) =
            civil_from_days((utc + i64::from(self.standard)).div_euclid(DAY_SECONDS));
        let begins = summer.begins.in_year(year) - i64::from(self.standard);
        let ends = summer.ends.in_year(year) - i64::from(summer.offset);
        let is_summer = match begins < ends {
            true => (begins..ends).contains(&utc),
            // South of the equator it goes over the new year.
            false => !(ends..begins).contains(&utc),
        };
        if is_summer {
            summer.offset
        } else {
            self.standard
        }
    }

    fn next_change(&self, utc: i64) -> Option<i64> {
        let summer = self.summer.as_ref()?;
        let (year, _, _) = civil_from_days(utc.div_euclid(DAY_SECONDS));
        let changes = (year - 1..=year + 1).flat_map(|year| {
            [
                summer.begins.in_year(year) - i64::from(self.standard),
                summer.ends.in_year(year) - i64::from(summer.offset),
            ]
        });
        changes.filter(|at| *at > utc).min()
    }
}

impl Moment {
    fn read(text: &str) -> Option<Self> {
        let (date, time) = match text.split_once('/') {
            Some((date, time)) => (date, clock(time)?),
            // IEEE 1003.1: 02:00 unless it says otherwise.
            None => (text, 7_200),
        };
        let mut numbers = date.strip_prefix('M')?.split('.').map(str::parse::<i64>);
        let moment = Self {
            month: numbers.next()?.ok()?,
            week: numbers.next()?.ok()?,
            weekday: numbers.next()?.ok()?,
            seconds: time.into(),
        };
        let valid = (1..=12).contains(&moment.month)
            && (1..=5).contains(&moment.week)
            && (0..=6).contains(&moment.weekday)
            && numbers.next().is_none();
        valid.then_some(moment)
    }

    /// Seconds since the epoch by the local clock.
    fn in_year(&self, year: i64) -> i64 {
        let first = days_from_civil(year, self.month, 1);
        // 1970-01-01 was a Thursday; Sunday is 0.
        let of_first = (first + 4).rem_euclid(7);
        let mut day = first + (self.weekday - of_first).rem_euclid(7) + (self.week - 1) * 7;
        if day >= first + days_in_month(year, self.month) {
            day -= 7;
        }
        day * DAY_SECONDS + self.seconds
    }
}

/// `CET-1` or `<+0530>-5:30`: the offset, whose sign is the other way round, and what follows.
fn name_and_offset(text: &str) -> Option<(Option<i32>, &str)> {
    let after = match text.strip_prefix('<') {
        Some(quoted) => quoted.split_once('>')?.1,
        None => text.trim_start_matches(|c: char| c.is_ascii_alphabetic()),
    };
    let end = after
        .find(|c: char| !(c.is_ascii_digit() || matches!(c, '+' | '-' | ':')))
        .unwrap_or(after.len());
    let (offset, rest) = after.split_at(end);
    if offset.is_empty() {
        return Some((None, rest));
    }
    Some((Some(-clock(offset)?), rest))
}

/// `3`, `-1`, `5:30`, `26`: seconds.
fn clock(text: &str) -> Option<i32> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let mut seconds = 0;
    let mut unit = 3_600;
    for part in digits.split(':') {
        let number: i32 = part.parse().ok().filter(|n| (0..=167).contains(n))?;
        seconds += number * unit;
        unit /= 60;
    }
    Some(sign * seconds)
}

/// `+05:30` and `-03:00`; ISO 8601, so that east is plus. Not more than a day.
fn fixed(name: &str) -> Option<i32> {
    let sign = match name.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = name[1..].split_once(':')?;
    let number = |text: &str| match text.len() == 2 && text.bytes().all(|b| b.is_ascii_digit()) {
        true => text.parse::<i32>().ok(),
        false => None,
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    (hours <= 14 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60)
}

pub fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = match month {
        12 => (year + 1, 1),
        _ => (year, month + 1),
    };
    days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
pub fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse: year, month, day.
pub fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01T00:00:00Z.
    const NEW_YEAR: i64 = 1_767_225_600;

    #[test]
    fn every_zone_agrees_with_an_independent_library_for_twelve_years() {
        for (name, _) in ZONES {
            let zone = Zone::new(name).unwrap();
            let judge = jiff::tz::TimeZone::get(name).unwrap();
            let offset = |at: i64| judge.to_offset(jiff::Timestamp::from_second(at).unwrap());
            // Every 31 hours, so that all hours of the day come up.
            for step in 0..3_400 {
                let at = NEW_YEAR + step * 31 * 3_600;
                assert_eq!(zone.offset_at(at), offset(at).seconds(), "{name} at {at}");
            }
            let mut at = NEW_YEAR;
            for _ in 0..24 {
                let Some(change) = zone.next_change(at) else {
                    break;
                };
                for near in [change - 1, change] {
                    assert_eq!(
                        zone.offset_at(near),
                        offset(near).seconds(),
                        "{name} at {near}"
                    );
                }
                at = change;
            }
        }
    }

    #[test]
    fn changes_are_found_in_order() {
        let paris = Zone::new("europe/paris").unwrap();
        assert_eq!(paris.name, "Europe/Paris");
        // 2026-03-29T01:00Z and 2026-10-25T01:00Z.
        assert_eq!(paris.next_change(NEW_YEAR), Some(1_774_746_000));
        assert_eq!(paris.next_change(1_774_746_000), Some(1_792_890_000));
        assert_eq!(Zone::new("Asia/Tokyo").unwrap().next_change(NEW_YEAR), None);
    }

    #[test]
    fn fixed_offsets_are_read() {
        for (name, minutes) in [
            ("+05:30", 330),
            ("-03:00", -180),
            ("+00:00", 0),
            ("UTC", 0),
            ("+14:00", 840),
        ] {
            assert_eq!(
                Zone::new(name).unwrap().offset_at(NEW_YEAR),
                minutes * 60,
                "{name}"
            );
        }
        for name in [
            "",
            "+5:30",
            "+15:00",
            "+05:60",
            "Europe/Nowhere",
            "CET-1",
            "+",
            "+é:00",
        ] {
            assert!(
                Zone::new(name).unwrap_err().contains(&format!("`{name}`")),
                "{name}"
            );
        }
    }
}

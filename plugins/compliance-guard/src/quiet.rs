//! Quiet hours: whether a moment is quiet by a local clock, and when that ends. Minutes of local days, no time zone
//! database: the offset is an argument, taken as constant until the quiet hours end.

use heliograph_plugin::Timestamp;

use crate::config::{CountryHours, Day, DayHours, DayWord, QuietHours};

const MINUTE_MS: u64 = 60_000;
const DAY_MINUTES: i64 = 1_440;
/// Days that the search for an allowed minute looks ahead. Holidays and quiet weekdays in a row are fewer.
const MAX_DAYS_AHEAD: i64 = 15;

/// One country's quiet hours, ready to ask.
#[derive(Clone, Debug)]
pub struct Calendar {
    /// Monday first.
    days: [Quiet; 7],
    /// Month and day.
    yearly: Vec<(u8, u8)>,
    /// Days since 1970-01-01.
    once: Vec<i64>,
}

/// The quiet minutes of one local day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Quiet {
    Never,
    AllDay,
    /// From the first up to but without the second; wraps when the first is the larger.
    Between(i64, i64),
}

impl Calendar {
    pub fn new(general: &QuietHours, country: Option<&CountryHours>) -> Result<Self, String> {
        let own = country.and_then(|country| country.start.as_ref().zip(country.end.as_ref()));
        if let Some(country) = country
            && country.start.is_some() != country.end.is_some()
        {
            return Err("give both `start` and `end`, or neither".to_owned());
        }
        let (start, end) = own.unwrap_or((&general.start, &general.end));
        let mut days = [between(start, end)?; 7];
        for (day, hours) in country
            .and_then(|country| country.days.as_ref())
            .unwrap_or(&general.days)
        {
            days[*day as usize] = match hours {
                DayHours::Word(DayWord::AllDay) => Quiet::AllDay,
                DayHours::Word(DayWord::Never) => Quiet::Never,
                DayHours::Hours(hours) => between(&hours.start, &hours.end)?,
            };
        }
        if days.iter().all(|day| *day == Quiet::AllDay) {
            return Err("every weekday is quiet all day, so nothing could ever be sent".to_owned());
        }
        let mut calendar = Self {
            days,
            yearly: Vec::new(),
            once: Vec::new(),
        };
        for holiday in country
            .and_then(|country| country.holidays.as_ref())
            .unwrap_or(&general.holidays)
        {
            calendar.add_holiday(holiday)?;
        }
        Ok(calendar)
    }

    /// None where `now` is not quiet; otherwise the first moment that is not (`now` plus whole days at most), or the
    /// error that there is none in sight.
    pub fn quiet_until(
        &self,
        now: Timestamp,
        offset_minutes: i16,
    ) -> Option<Result<Timestamp, NoEnd>> {
        let local = local_minute(now, offset_minutes);
        let (today, minute) = (local.div_euclid(DAY_MINUTES), local.rem_euclid(DAY_MINUTES));
        if !self.on(today).covers(minute) {
            return None;
        }
        let end = self.next_allowed(today, minute);
        Some(
            end.map(|allowed| to_utc(allowed, offset_minutes))
                .ok_or(NoEnd),
        )
    }

    fn next_allowed(&self, today: i64, minute: i64) -> Option<i64> {
        (0..MAX_DAYS_AHEAD).find_map(|ahead| {
            let from = if ahead == 0 { minute } else { 0 };
            let allowed = self.on(today + ahead).first_allowed(from)?;
            Some((today + ahead) * DAY_MINUTES + allowed)
        })
    }

    fn on(&self, day: i64) -> Quiet {
        if !self.once.is_empty() && self.once.contains(&day) {
            return Quiet::AllDay;
        }
        if !self.yearly.is_empty() {
            let (_, month, of_month) = civil_from_days(day);
            if self.yearly.contains(&(month, of_month)) {
                return Quiet::AllDay;
            }
        }
        // 1970-01-01 was a Thursday.
        self.days[(day + 3).rem_euclid(7) as usize]
    }

    fn add_holiday(&mut self, holiday: &str) -> Result<(), String> {
        let fault = || format!("`holidays`: `{holiday}` is not a date, write 12-25 or 2026-04-06");
        let parts: Vec<u16> = holiday
            .split('-')
            .map(|part| part.parse().map_err(|_| fault()))
            .collect::<Result<_, _>>()?;
        let valid = |year: i64, month: u16, day: u16| {
            (1..=12).contains(&month)
                && day >= 1
                && i64::from(day) <= days_in_month(year, i64::from(month))
        };
        match parts[..] {
            // A leap year, so that 02-29 may be named.
            [month, day] if valid(2000, month, day) => self.yearly.push((month as u8, day as u8)),
            [year, month, day]
                if (1970..3000).contains(&year) && valid(year.into(), month, day) =>
            {
                self.once
                    .push(days_from_civil(year.into(), month.into(), day.into()));
            }
            _ => return Err(fault()),
        }
        Ok(())
    }
}

/// No allowed minute within the days that are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoEnd;

impl Quiet {
    fn covers(self, minute: i64) -> bool {
        match self {
            Self::Never => false,
            Self::AllDay => true,
            Self::Between(start, end) if start < end => (start..end).contains(&minute),
            Self::Between(start, end) => minute >= start || minute < end,
        }
    }

    /// The first minute of this day from `from` on that is not quiet.
    fn first_allowed(self, from: i64) -> Option<i64> {
        if !self.covers(from) {
            return Some(from);
        }
        match self {
            Self::Never => Some(from),
            Self::AllDay => None,
            Self::Between(_, end) if from < end => Some(end).filter(|&end| end < DAY_MINUTES),
            // Quiet up to midnight and beyond.
            Self::Between(..) => None,
        }
    }
}

/// Whole minutes; a started minute counts as begun.
fn local_minute(at: Timestamp, offset_minutes: i16) -> i64 {
    (at / MINUTE_MS) as i64 + i64::from(offset_minutes)
}

fn to_utc(local_minute: i64, offset_minutes: i16) -> Timestamp {
    u64::try_from(local_minute - i64::from(offset_minutes))
        .unwrap_or(0)
        .saturating_mul(MINUTE_MS)
}

fn between(start: &str, end: &str) -> Result<Quiet, String> {
    let (from, to) = (minute_of(start)?, minute_of(end)?);
    if from == to {
        return Err(format!(
            "quiet hours from {start} to {end} are empty or a whole day; write `never` or `all_day` for a weekday, or `enabled`: false"
        ));
    }
    Ok(match (from, to) {
        (0, DAY_MINUTES) => Quiet::AllDay,
        _ => Quiet::Between(from, to),
    })
}

fn minute_of(time: &str) -> Result<i64, String> {
    let fault = || format!("`{time}` is not a time of day from 00:00 to 24:00, written HH:MM");
    let (hours, minutes) = time.split_once(':').ok_or_else(fault)?;
    let number = |digits: &str| match digits.len() == 2
        && digits.bytes().all(|byte| byte.is_ascii_digit())
    {
        true => digits.parse::<i64>().map_err(|_| fault()),
        false => Err(fault()),
    };
    let (hours, minutes) = (number(hours)?, number(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= DAY_MINUTES)
        .then_some(total)
        .ok_or_else(fault)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    let (next_year, next) = if month == 12 {
        (year + 1, 1)
    } else {
        (year, month + 1)
    };
    days_from_civil(next_year, next, 1) - days_from_civil(year, month, 1)
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// The inverse: year, month, day.
fn civil_from_days(days: i64) -> (i64, u8, u8) {
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
    (
        year_of_era + era * 400 + i64::from(month <= 2),
        month as u8,
        day as u8,
    )
}

/// Named here so that the order of `Day` and of `Calendar::days` cannot drift apart.
const _: () = assert!(Day::Monday as usize == 0 && Day::Sunday as usize == 6);

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-06-15, a Monday.
    const MONDAY: i64 = 20_619;

    fn calendar(config: serde_json::Value) -> Calendar {
        Calendar::new(&serde_json::from_value(config).unwrap(), None).unwrap()
    }

    fn at(day: i64, hour: i64, minute: i64) -> Timestamp {
        (day * DAY_MINUTES + hour * 60 + minute) as Timestamp * MINUTE_MS
    }

    fn until(calendar: &Calendar, now: Timestamp, offset: i16) -> Option<Timestamp> {
        calendar.quiet_until(now, offset).map(|end| end.unwrap())
    }

    #[test]
    fn the_calendar_knows_its_dates() {
        assert_eq!(days_from_civil(1970, 1, 1), 0);
        assert_eq!(days_from_civil(2026, 6, 15), MONDAY);
        for day in [0, 59, 365, 11_016, 11_017, MONDAY, 100_000] {
            let (year, month, of_month) = civil_from_days(day);
            assert_eq!(days_from_civil(year, month.into(), of_month.into()), day);
        }
        assert_eq!(
            (
                days_in_month(2024, 2),
                days_in_month(2026, 2),
                days_in_month(2026, 12)
            ),
            (29, 28, 31)
        );
    }

    #[test]
    fn quiet_over_midnight_ends_in_the_morning() {
        let calendar = calendar(serde_json::json!({}));
        assert_eq!(until(&calendar, at(MONDAY, 20, 59), 0), None);
        assert_eq!(
            until(&calendar, at(MONDAY, 21, 0), 0),
            Some(at(MONDAY + 1, 8, 0))
        );
        assert_eq!(
            until(&calendar, at(MONDAY, 3, 30), 0),
            Some(at(MONDAY, 8, 0))
        );
        assert_eq!(until(&calendar, at(MONDAY, 8, 0), 0), None);
    }

    #[test]
    fn the_last_millisecond_of_a_quiet_minute_is_quiet() {
        let calendar = calendar(serde_json::json!({}));
        assert_eq!(
            until(&calendar, at(MONDAY, 8, 0) - 1, 0),
            Some(at(MONDAY, 8, 0))
        );
    }

    #[test]
    fn the_local_clock_counts_not_utc() {
        let calendar = calendar(serde_json::json!({}));
        // 12:00 UTC is 22:00 in Sydney and 05:00 in San Francisco.
        assert_eq!(
            until(&calendar, at(MONDAY, 12, 0), 600),
            Some(at(MONDAY, 22, 0))
        );
        assert_eq!(
            until(&calendar, at(MONDAY, 12, 0), -420),
            Some(at(MONDAY, 15, 0))
        );
        assert_eq!(until(&calendar, at(MONDAY, 12, 0), 345), None);
    }

    #[test]
    fn a_siesta_ends_the_same_day() {
        let calendar = calendar(serde_json::json!({"start": "12:30", "end": "14:00"}));
        assert_eq!(until(&calendar, at(MONDAY, 12, 29), 0), None);
        assert_eq!(
            until(&calendar, at(MONDAY, 13, 0), 0),
            Some(at(MONDAY, 14, 0))
        );
    }

    #[test]
    fn a_quiet_sunday_lasts_until_mondays_morning() {
        let calendar = calendar(
            serde_json::json!({"start": "20:00", "end": "08:00", "days": {"sunday": "all_day"}}),
        );
        let saturday = MONDAY + 5;
        assert_eq!(until(&calendar, at(saturday, 19, 0), 0), None);
        assert_eq!(
            until(&calendar, at(saturday, 22, 0), 0),
            Some(at(saturday + 2, 8, 0))
        );
        assert_eq!(
            until(&calendar, at(saturday + 1, 12, 0), 0),
            Some(at(saturday + 2, 8, 0))
        );
    }

    #[test]
    fn a_weekday_may_have_hours_of_its_own() {
        let calendar = calendar(
            serde_json::json!({"days": {"monday": {"start": "18:00", "end": "10:00"}, "tuesday": "never"}}),
        );
        assert_eq!(
            until(&calendar, at(MONDAY, 9, 0), 0),
            Some(at(MONDAY, 10, 0))
        );
        assert_eq!(
            until(&calendar, at(MONDAY, 19, 0), 0),
            Some(at(MONDAY + 1, 0, 0))
        );
    }

    #[test]
    fn holidays_are_quiet_all_day_in_local_time() {
        let calendar = calendar(serde_json::json!({"holidays": ["06-15", "2026-06-16"]}));
        assert_eq!(
            until(&calendar, at(MONDAY, 12, 0), 0),
            Some(at(MONDAY + 2, 8, 0))
        );
        assert_eq!(
            until(&calendar, at(MONDAY + 365, 12, 0), 0),
            Some(at(MONDAY + 366, 8, 0))
        );
        assert_eq!(until(&calendar, at(MONDAY + 366, 12, 0), 0), None);
        assert_eq!(until(&calendar, at(MONDAY, 5, 0), -600), None);
    }

    #[test]
    fn a_quiet_fortnight_has_no_end_in_sight() {
        let days: Vec<String> = (1..=30).map(|day| format!("06-{day:02}")).collect();
        let calendar = calendar(serde_json::json!({"holidays": days}));
        assert_eq!(
            calendar.quiet_until(at(MONDAY - 10, 12, 0), 0),
            Some(Err(NoEnd))
        );
    }

    #[test]
    fn faults_name_the_value() {
        for (config, names) in [
            (serde_json::json!({"start": "9pm"}), "`9pm`"),
            (serde_json::json!({"start": "24:01"}), "`24:01`"),
            (serde_json::json!({"start": "+9:00"}), "`+9:00`"),
            (serde_json::json!({"start": "08:00"}), "08:00 to 08:00"),
            (serde_json::json!({"holidays": ["02-30"]}), "`02-30`"),
            (
                serde_json::json!({"holidays": ["christmas"]}),
                "`christmas`",
            ),
            (
                serde_json::json!({"start": "00:00", "end": "24:00"}),
                "nothing could ever be sent",
            ),
        ] {
            let error = Calendar::new(&serde_json::from_value(config).unwrap(), None).unwrap_err();
            assert!(error.contains(names), "{error}");
        }
    }

    #[test]
    fn the_beginning_of_time_does_not_overflow() {
        let calendar = calendar(serde_json::json!({}));
        calendar.quiet_until(0, -720);
        calendar.quiet_until(u64::MAX, i16::MAX);
    }
}

//! Times as SMPP writes them: `YYMMDDhhmmsstnnp` (SMPP 3.4, 7.1.1), absolute or relative. Calendar
//! arithmetic only; what time it is, is the caller's knowledge.

use std::time::Duration;

use crate::clock::Timestamp;

const SECOND: u64 = 1000;
const DAY_SECONDS: u64 = 86_400;
/// Relative months and years have no fixed length; these are what SMSCs commonly take.
const MONTH_DAYS: u64 = 30;
const YEAR_DAYS: u64 = 365;

/// A schedule_delivery_time, validity_period or final_date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SmppTime {
    /// Empty: at once, or the SMSC's default.
    Default,
    Absolute(Timestamp),
    Relative(Duration),
}

impl SmppTime {
    /// The instant meant by a PDU that came at `now`; none for the default.
    pub fn resolve(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            SmppTime::Default => None,
            SmppTime::Absolute(at) => Some(at),
            SmppTime::Relative(after) => Some(now.plus(after)),
        }
    }
}

/// The text is neither empty nor 16 characters of SMPP 3.4, 7.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotATime;

/// Years are 2000 to 2099: SMPP 3.4 has two digits and was written in 1999.
pub fn parse(text: &[u8]) -> Result<SmppTime, NotATime> {
    if text.is_empty() {
        return Ok(SmppTime::Default);
    }
    if text.len() != 16 {
        return Err(NotATime);
    }
    let two = |i: usize| -> Result<u64, NotATime> {
        match (text[i], text[i + 1]) {
            (a @ b'0'..=b'9', b @ b'0'..=b'9') => {
                Ok(u64::from(a - b'0') * 10 + u64::from(b - b'0'))
            }
            _ => Err(NotATime),
        }
    };
    let (year, month, day) = (two(0)?, two(2)?, two(4)?);
    let (hour, minute, second) = (two(6)?, two(8)?, two(10)?);
    let tenth = match text[12] {
        t @ b'0'..=b'9' => u64::from(t - b'0'),
        _ => return Err(NotATime),
    };
    let quarters = two(13)?;
    let time_of_day = hour * 3600 + minute * 60 + second;
    match text[15] {
        b'R' => {
            let days = year * YEAR_DAYS + month * MONTH_DAYS + day;
            Ok(SmppTime::Relative(Duration::from_secs(
                days * DAY_SECONDS + time_of_day,
            )))
        }
        sign @ (b'+' | b'-') => {
            let in_range = (1..=12).contains(&month)
                && (1..=days_in_month(2000 + year, month)).contains(&day)
                && hour < 24
                && minute < 60
                && second < 60
                && quarters <= 48;
            if !in_range {
                return Err(NotATime);
            }
            let local = days_since_epoch(2000 + year, month, day) * DAY_SECONDS + time_of_day;
            // '+' is ahead of UTC. Years begin at 2000, so nothing falls below zero.
            let utc = match sign {
                b'+' => local - quarters * 900,
                _ => local + quarters * 900,
            };
            Ok(SmppTime::Absolute(Timestamp(utc * SECOND + tenth * 100)))
        }
        _ => Err(NotATime),
    }
}

/// A relative time in whole seconds, rounded down. Days go in the day field as far as it reaches
/// (31), because the length of months is the SMSC's own idea; longer than 99 years is cut.
pub fn relative(after: Duration) -> [u8; 16] {
    let seconds = after.as_secs();
    let mut days = seconds / DAY_SECONDS;
    let (mut years, mut months) = (0, 0);
    if days > 31 {
        years = (days / YEAR_DAYS).min(99);
        days -= years * YEAR_DAYS;
        months = (days / MONTH_DAYS).min(11);
        days = (days - months * MONTH_DAYS).min(31);
    }
    let of_day = seconds % DAY_SECONDS;
    let mut text = *b"000000000000000R";
    put(&mut text, 0, years);
    put(&mut text, 2, months);
    put(&mut text, 4, days);
    put(&mut text, 6, of_day / 3600);
    put(&mut text, 8, of_day / 60 % 60);
    put(&mut text, 10, of_day % 60);
    text
}

/// An absolute time in UTC. None outside 2000 to 2099, which the format cannot say.
pub fn absolute(at: Timestamp) -> Option<[u8; 16]> {
    let seconds = at.millis() / SECOND;
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let of_day = seconds % DAY_SECONDS;
    let mut text = *b"000000000000000+";
    put(&mut text, 0, year.checked_sub(2000).filter(|y| *y < 100)?);
    put(&mut text, 2, month);
    put(&mut text, 4, day);
    put(&mut text, 6, of_day / 3600);
    put(&mut text, 8, of_day / 60 % 60);
    put(&mut text, 10, of_day % 60);
    text[12] = digit(at.millis() % SECOND / 100);
    Some(text)
}

/// `YYMMDDhhmm`, as delivery receipts write their dates (SMPP 3.4, appendix B). UTC.
pub fn receipt_date(at: Timestamp) -> [u8; 10] {
    let mut short = *b"0001010000";
    if let Some(text) = absolute(at) {
        short.copy_from_slice(&text[..10]);
    }
    short
}

fn put(text: &mut [u8; 16], at: usize, value: u64) {
    text[at] = digit(value / 10 % 10);
    text[at + 1] = digit(value % 10);
}

fn digit(value: u64) -> u8 {
    b'0' + (value % 10) as u8
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_in_month(year: u64, month: u64) -> u64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Proleptic Gregorian, for years from 1970.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let before = |y: u64| y * 365 + y / 4 - y / 100 + y / 400;
    let years = before(year - 1) - before(1969);
    let months: u64 = (1..month).map(|m| days_in_month(year, m)).sum();
    years + months + day - 1
}

fn date(days: u64) -> (u64, u64, u64) {
    let mut year = 1970 + days / 366;
    while days_since_epoch(year + 1, 1, 1) <= days {
        year += 1;
    }
    let mut rest = days - days_since_epoch(year, 1, 1);
    let mut month = 1;
    while rest >= days_in_month(year, month) {
        rest -= days_in_month(year, month);
        month += 1;
    }
    (year, month, rest + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_specification() {
        // SMPP 3.4, 7.1.1.1: 020610233429000R is 2 years, 6 months, 10 days, 23:34:29.
        let days = 2 * 365 + 6 * 30 + 10;
        assert_eq!(
            parse(b"020610233429000R"),
            Ok(SmppTime::Relative(Duration::from_secs(
                days * 86_400 + 23 * 3600 + 34 * 60 + 29
            )))
        );
        // 2004-02-29 12:00:00.5, an hour ahead of UTC.
        assert_eq!(
            parse(b"040229120000504+"),
            Ok(SmppTime::Absolute(Timestamp(1_078_052_400_500)))
        );
        assert_eq!(parse(b""), Ok(SmppTime::Default));
    }

    #[test]
    fn what_is_no_time() {
        for text in [
            &b"0206102334290"[..],
            b"020610233429000X",
            b"0206102334290 0R",
            b"021310233429000+",
            b"020631233429000+",
            b"020610243429000+",
            b"020610233429049+",
        ] {
            assert_eq!(
                parse(text),
                Err(NotATime),
                "{}",
                String::from_utf8_lossy(text)
            );
        }
    }

    #[test]
    fn a_relative_time_resolves_from_now() {
        let now = Timestamp(1_700_000_000_000);
        let time = parse(&relative(Duration::from_secs(3 * 86_400))).unwrap();
        assert_eq!(time.resolve(now), Some(Timestamp(now.0 + 3 * 86_400_000)));
        assert_eq!(&relative(Duration::from_secs(90)), b"000000000130000R");
        assert_eq!(SmppTime::Default.resolve(now), None);
    }

    #[test]
    fn out_of_the_formats_reach() {
        assert_eq!(absolute(Timestamp(0)), None);
        assert_eq!(absolute(Timestamp(4_102_444_800_000)), None);
        assert_eq!(&receipt_date(Timestamp(1_700_000_000_000)), b"2311142213");
    }

    proptest! {
        #[test]
        fn absolute_times_survive(at in 946_684_800_000u64..4_102_444_800_000) {
            let text = absolute(Timestamp(at)).unwrap();
            prop_assert_eq!(parse(&text), Ok(SmppTime::Absolute(Timestamp(at / 100 * 100))));
        }

        #[test]
        fn relative_times_survive_up_to_a_month(seconds in 0u64..32 * 86_400) {
            let after = Duration::from_secs(seconds);
            prop_assert_eq!(parse(&relative(after)), Ok(SmppTime::Relative(after)));
        }

        #[test]
        fn any_octets_are_a_time_or_not(text in proptest::collection::vec(any::<u8>(), 0..20)) {
            let _ = parse(&text);
        }
    }
}

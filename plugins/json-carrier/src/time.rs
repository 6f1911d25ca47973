//! Times as carriers write them, to milliseconds since 1970 and back. Pure calendar arithmetic, proleptic Gregorian;
//! it knows no zones but numeric offsets and reads no clock.

use heliograph_plugin::Timestamp;

use crate::config::TimeFormat;

/// None where the text is no time of that format, or one before 1970.
pub fn parse(text: &str, format: TimeFormat) -> Option<Timestamp> {
    let text = text.trim();
    match format {
        TimeFormat::Rfc3339 => rfc3339(text),
        TimeFormat::Rfc5322 => rfc5322(text),
        TimeFormat::UnixSeconds => unix(text)?.checked_mul(1000),
        TimeFormat::UnixMilliseconds => unix(text),
        TimeFormat::Compact => compact(text),
    }
}

/// `2026-06-15T12:00:00Z`
pub fn to_rfc3339(at: Timestamp) -> String {
    let seconds = at / 1000;
    let (year, month, day) = civil(i64::try_from(seconds / 86_400).unwrap_or(0));
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A fraction of a second in a UNIX time is cut off.
fn unix(text: &str) -> Option<u64> {
    let whole = text.split_once('.').map_or(text, |(whole, _)| whole);
    number(whole.as_bytes())
}

fn rfc3339(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    if b.len() < 19 || b[4] != b'-' || b[7] != b'-' || !matches!(b[10], b'T' | b't' | b' ') {
        return None;
    }
    let clock = clock(&b[11..19])?;
    let date = days(number(&b[..4])?, number(&b[5..7])?, number(&b[8..10])?)?;
    let mut rest = &b[19..];
    let mut millis = 0;
    if let [b'.' | b',', fraction @ ..] = rest {
        let digits = fraction.iter().take_while(|b| b.is_ascii_digit()).count();
        millis = number(&fraction[..digits.min(3)])? * 10u64.pow(3 - digits.min(3) as u32);
        rest = &fraction[digits..];
    }
    at(date, clock, offset_minutes(rest.trim_ascii())?)?.checked_add(millis)
}

/// RFC 5322, 3.3; also the fixed format of HTTP (RFC 9110, 5.6.7), which ends in `GMT`.
pub fn rfc5322(text: &str) -> Option<Timestamp> {
    let text = text.split_once(',').map_or(text, |(_, rest)| rest);
    let mut words = text.split_ascii_whitespace();
    let day = number(words.next()?.as_bytes())?;
    let month = words.next()?;
    let month = MONTHS
        .iter()
        .position(|name| name.eq_ignore_ascii_case(month))? as u64
        + 1;
    let date = days(number(words.next()?.as_bytes())?, month, day)?;
    let clock = clock(words.next()?.as_bytes())?;
    at(
        date,
        clock,
        offset_minutes(words.next().unwrap_or("").as_bytes())?,
    )
}

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

fn compact(text: &str) -> Option<Timestamp> {
    let b = text.as_bytes();
    if !matches!(b.len(), 10 | 12) {
        return None;
    }
    let date = days(
        2000 + number(&b[..2])?,
        number(&b[2..4])?,
        number(&b[4..6])?,
    )?;
    let second = if b.len() == 12 {
        number(&b[10..12])?
    } else {
        0
    };
    at(
        date,
        seconds(number(&b[6..8])?, number(&b[8..10])?, second)?,
        0,
    )
}

/// `12:00:00`, or `12:00` (RFC 5322 allows it).
fn clock(b: &[u8]) -> Option<u64> {
    match b {
        [h1, h2, b':', m1, m2, b':', s1, s2] => seconds(
            number(&[*h1, *h2])?,
            number(&[*m1, *m2])?,
            number(&[*s1, *s2])?,
        ),
        [h1, h2, b':', m1, m2] => seconds(number(&[*h1, *h2])?, number(&[*m1, *m2])?, 0),
        _ => None,
    }
}

/// A leap second counts as the one before it.
fn seconds(hour: u64, minute: u64, second: u64) -> Option<u64> {
    (hour < 24 && minute < 60 && second <= 60).then(|| hour * 3600 + minute * 60 + second.min(59))
}

/// `Z`, `GMT`, `UTC`, `+02:00`, `+0200`, `+02` or nothing.
fn offset_minutes(b: &[u8]) -> Option<i64> {
    let (sign, digits) = match b {
        [] | b"Z" | b"z" | b"GMT" | b"UTC" | b"UT" => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        [h1, h2, m1, m2] | [h1, h2, b':', m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then(|| sign * (hours * 60 + minutes) as i64)
}

fn at(days: i64, seconds: u64, offset_minutes: i64) -> Option<Timestamp> {
    let seconds = days * 86_400 + seconds as i64 - offset_minutes * 60;
    u64::try_from(seconds).ok()?.checked_mul(1000)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Days since 1970-01-01, none for a date that there is not.
fn days(year: u64, month: u64, day: u64) -> Option<i64> {
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || day < 1 {
        return None;
    }
    // Years begin in March, so that a leap day is the last day of its year.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let (era, of_era) = (y / 400, y % 400);
    let of_year = (153 * m + 2) / 5 + day - 1;
    let total = (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year) as i64 - EPOCH;
    // A day beyond its month comes back as another date.
    (civil(total) == (year as i64, month as i64, day as i64)).then_some(total)
}

/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year + carry, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 2026-06-15T12:00:00Z, a Monday.
    const NOON: Timestamp = 1_781_524_800_000;

    #[test]
    fn times_as_carriers_write_them() {
        for (format, text, expect) in [
            (TimeFormat::Rfc3339, "2026-06-15T12:00:00Z", Some(NOON)),
            (TimeFormat::Rfc3339, "2026-06-15 12:00:00", Some(NOON)),
            (
                TimeFormat::Rfc3339,
                "2026-06-15T14:00:00.000+0200",
                Some(NOON),
            ),
            (
                TimeFormat::Rfc3339,
                "2026-06-15T06:30:00.25-05:30",
                Some(NOON + 250),
            ),
            (
                TimeFormat::Rfc3339,
                "2026-06-15T12:00:00.123456789Z",
                Some(NOON + 123),
            ),
            (
                TimeFormat::Rfc3339,
                "2024-02-29T00:00:00Z",
                Some(1_709_164_800_000),
            ),
            (TimeFormat::Rfc3339, "2026-02-29T00:00:00Z", None),
            (TimeFormat::Rfc3339, "2026-13-01T00:00:00Z", None),
            (TimeFormat::Rfc3339, "2026-06-15T24:00:00Z", None),
            (TimeFormat::Rfc3339, "1969-12-31T23:59:59Z", None),
            (TimeFormat::Rfc3339, "1970-01-01T00:00:00+01:00", None),
            (TimeFormat::Rfc3339, "2026-06-15T12:00:00.Z", None),
            (TimeFormat::Rfc3339, "yesterday, after lunch", None),
            (
                TimeFormat::Rfc5322,
                "Mon, 15 Jun 2026 12:00:00 +0000",
                Some(NOON),
            ),
            (
                TimeFormat::Rfc5322,
                "Mon, 15 Jun 2026 12:00:00 GMT",
                Some(NOON),
            ),
            (TimeFormat::Rfc5322, "15 Jun 2026 12:00", Some(NOON)),
            (TimeFormat::Rfc5322, "15 Brumaire 2026 12:00", None),
            (TimeFormat::UnixSeconds, "1781524800", Some(NOON)),
            (TimeFormat::UnixSeconds, "1781524800.731", Some(NOON)),
            (TimeFormat::UnixSeconds, "18446744073709551615", None),
            (TimeFormat::UnixMilliseconds, "1781524800000", Some(NOON)),
            (TimeFormat::UnixMilliseconds, "-1", None),
            (TimeFormat::Compact, "2606151200", Some(NOON)),
            (TimeFormat::Compact, "260615120000", Some(NOON)),
            (TimeFormat::Compact, "26061512000", None),
        ] {
            assert_eq!(parse(text, format), expect, "{format:?} {text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(seconds in 0u64..253_402_300_800) {
            prop_assert_eq!(parse(&to_rfc3339(seconds * 1000), TimeFormat::Rfc3339), Some(seconds * 1000));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}", near in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:]{8}[.,]?[0-9]{0,12}[-+Z]?[0-9:]{0,6}") {
            for format in [TimeFormat::Rfc3339, TimeFormat::Rfc5322, TimeFormat::UnixSeconds, TimeFormat::UnixMilliseconds, TimeFormat::Compact] {
                let _ = (parse(&text, format), parse(&near, format));
            }
        }
    }
}

//! Counters in a bounded key space: whatever numbers come, a kind of counter has a fixed number of keys. Names are
//! hashed into rows of slots and the smallest count is believed, so that strangers who share a slot in one row are told
//! apart by another (a count-min sketch). Knows no limits and no messages.

use heliograph_plugin::state;

pub const HOUR: u32 = 3_600;
pub const DAY: u32 = 86_400;

/// Bits of one number's count within the counter of its ten.
const FIELD_BITS: u32 = 6;
const FIELD: i64 = (1 << FIELD_BITS) - 1;
/// Days that a daily counter outlives its own, so that the seven after it can ask.
const MEAN_DAYS: u64 = 7;
/// The names of days come round after so many, when the counter has long expired.
const DAY_NAMES: u64 = 16;
const DAY_LETTERS: [char; DAY_NAMES as usize] = [
    'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p',
];
/// Slots of the counters by account and country. Who shares one shares the cap and the mean that it grows from.
const COUNTRY_SLOTS: u64 = 2_048;
/// Rows of the counters of numbers. Of the others there are two: their limits are far above what strangers add.
const NUMBER_ROWS: usize = 4;

/// Hashes names into slots.
#[derive(Clone, Copy, Debug)]
pub struct Slots {
    numbers: u64,
    /// A quarter of them for each of the other counters.
    others: u64,
    salt: u64,
}

/// What the numbers of one ten got within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ten {
    /// Messages to this very number, this one counted.
    pub recipient: u32,
    /// Different numbers.
    pub neighbours: u32,
}

impl Slots {
    pub fn new(slots: u32, salt: &str) -> Self {
        Self {
            numbers: u64::from(slots) - 1,
            others: u64::from(slots / 4) - 1,
            salt: hash(0, salt.as_bytes()),
        }
    }

    /// Counts one more of `name` within the hour and returns how many there were.
    pub fn count(&self, kind: char, name: &str) -> i64 {
        let [one, two] = self.places(kind, name);
        let first = state::increment(&key(kind, '0', one), 1, HOUR);
        let second = state::increment(&key(kind, '1', two), 1, HOUR);
        first.min(second)
    }

    /// Counts one more to a number. A counter holds the counts of all ten numbers that differ in the last digit alone,
    /// six bits each, so that one step answers how many it got and how many of its neighbours got any.
    pub fn count_number(&self, number: &str, window_seconds: u32) -> Ten {
        let last = number.bytes().last().filter(u8::is_ascii_digit);
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit());
        let (ten, digit) = match last {
            Some(last) if is_number => (&number[..number.len() - 1], u32::from(last - b'0')),
            // A pseudonym has no neighbours.
            Some(_) | None => (number, 0),
        };
        let mut least = Ten {
            recipient: u32::MAX,
            neighbours: u32::MAX,
        };
        for (row, slot) in ['0', '1', '2', '3']
            .into_iter()
            .zip(self.number_places(ten))
        {
            let here = count_digit(&key('n', row, slot), digit, window_seconds);
            least.recipient = least.recipient.min(here.recipient);
            least.neighbours = least.neighbours.min(here.neighbours);
        }
        least
    }

    /// Counts one more of an account. Accounts are the operator's own, so each has a key of its own.
    pub fn count_account(&self, account: &str) -> i64 {
        let name = hash(self.salt, account.as_bytes());
        state::increment(&format!("a{name:x}"), 1, HOUR)
    }

    /// Counts one more of an account in a country today, unless that is over the cap: `floor`, or `growth` times the
    /// mean of the seven days before. The error says the cap.
    pub fn count_country(
        &self,
        account: &str,
        country: &str,
        today: u64,
        floor: i64,
        growth: f32,
    ) -> Result<(), i64> {
        let mixed = hash(hash(self.salt, account.as_bytes()), country.as_bytes());
        let slot = mixed & (COUNTRY_SLOTS - 1);
        let counted = state::increment(&day_key(today, slot), 1, day_ttl());
        if counted <= floor {
            return Ok(());
        }
        let cap = match growth > 0.0 {
            true => grown_cap(today, slot, growth).max(floor),
            false => floor,
        };
        if counted <= cap {
            return Ok(());
        }
        // What is denied must not raise tomorrow's mean.
        state::increment(&day_key(today, slot), -1, day_ttl());
        Err(cap)
    }

    fn places(&self, kind: char, name: &str) -> [u64; 2] {
        let mixed = hash(self.salt ^ u64::from(kind), name.as_bytes());
        [mixed & self.others, (mixed >> 32) & self.others]
    }

    fn number_places(&self, ten: &str) -> [u64; NUMBER_ROWS] {
        let mixed = hash(self.salt ^ u64::from('n'), ten.as_bytes());
        [0, 16, 32, 48].map(|shift| (mixed >> shift) & self.numbers)
    }
}

fn count_digit(key: &str, digit: u32, window_seconds: u32) -> Ten {
    let step = 1i64 << (digit * FIELD_BITS);
    let field = |packed: i64, digit: u32| (packed >> (digit * FIELD_BITS)) & FIELD;
    let mut packed = state::increment(key, step, window_seconds);
    if field(packed, digit) == FIELD {
        // Full: the next step would carry into the neighbour. It stays one below.
        packed = state::increment(key, -step, window_seconds);
    }
    Ten {
        recipient: field(packed, digit) as u32,
        neighbours: (0..10).filter(|&d| field(packed, d) != 0).count() as u32,
    }
}

/// `growth` times the mean of the seven days before, worked out once a day and remembered.
fn grown_cap(today: u64, slot: u64, growth: f32) -> i64 {
    let key = key('c', '0', slot);
    let remembered = state::get(&key).and_then(|value| <[u8; 16]>::try_from(value).ok());
    if let Some(value) = remembered {
        let (day, cap) = value.split_at(8);
        let number = |octets: &[u8]| octets.try_into().map_or(0, u64::from_le_bytes);
        if number(day) == today {
            return number(cap) as i64;
        }
    }
    // Asked by adding nothing: how a counter is kept is the host's affair.
    let before = (1..=MEAN_DAYS).filter_map(|ago| today.checked_sub(ago));
    let sum: i64 = before
        .map(|day| state::increment(&day_key(day, slot), 0, DAY).max(0))
        .fold(0, i64::saturating_add);
    let cap = (sum as f64 / MEAN_DAYS as f64 * f64::from(growth)) as i64;
    let mut value = [0; 16];
    value[..8].copy_from_slice(&today.to_le_bytes());
    value[8..].copy_from_slice(&cap.to_le_bytes());
    // Not remembered: worked out again.
    let _ = state::set(&key, &value, Some(DAY));
    cap
}

/// A daily counter is asked for the last time on the seventh day after its own.
fn day_ttl() -> u32 {
    DAY * (MEAN_DAYS as u32 + 1)
}

fn day_key(day: u64, slot: u64) -> String {
    key('d', DAY_LETTERS[(day % DAY_NAMES) as usize], slot)
}

fn key(kind: char, row: char, slot: u64) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut key = String::with_capacity(8);
    key.push(kind);
    key.push(row);
    // Four digits are enough: there are at most 8,192 slots.
    for shift in [12, 8, 4, 0] {
        key.push(char::from(DIGITS[(slot >> shift) as usize & 15]));
    }
    key
}

/// FNV-1a, then the finaliser of MurmurHash3, so that neighbours land far apart in all bits.
fn hash(seed: u64, octets: &[u8]) -> u64 {
    let mut state = 0xcbf2_9ce4_8422_2325 ^ seed;
    for octet in octets {
        state = (state ^ u64::from(*octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    state = (state ^ (state >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    state = (state ^ (state >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    state ^ (state >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use heliograph_plugin::testing::FakeHost;

    use super::*;

    fn slots() -> Slots {
        Slots::new(8_192, "")
    }

    #[test]
    fn one_step_counts_a_number_and_its_neighbours() {
        FakeHost::new();
        let slots = slots();
        assert_eq!(
            slots.count_number("447700900120", HOUR),
            Ten {
                recipient: 1,
                neighbours: 1
            }
        );
        assert_eq!(slots.count_number("447700900120", HOUR).recipient, 2);
        assert_eq!(
            slots.count_number("447700900129", HOUR),
            Ten {
                recipient: 1,
                neighbours: 2
            }
        );
        assert_eq!(slots.count_number("447700900130", HOUR).neighbours, 1);
    }

    #[test]
    fn a_full_field_never_reaches_its_neighbour() {
        FakeHost::new();
        let slots = slots();
        for _ in 0..500 {
            slots.count_number("447700900125", HOUR);
        }
        let ten = slots.count_number("447700900125", HOUR);
        assert_eq!((ten.recipient, ten.neighbours), (62, 1));
        assert_eq!(slots.count_number("447700900129", HOUR).neighbours, 2);
    }

    #[test]
    fn a_pseudonym_has_a_count_and_no_neighbours() {
        FakeHost::new();
        let slots = slots();
        for last in 0..9 {
            assert_eq!(
                slots.count_number(&format!("pab{last}"), HOUR).neighbours,
                1
            );
        }
        assert_eq!(slots.count_number("pab1", HOUR).recipient, 2);
    }

    #[test]
    fn a_counter_starts_again_after_its_hour() {
        let host = FakeHost::new();
        let slots = slots();
        assert_eq!(slots.count('r', "x"), 1);
        assert_eq!(slots.count('r', "x"), 2);
        host.advance_seconds(3_600);
        assert_eq!(slots.count('r', "x"), 1);
    }

    #[test]
    fn strangers_are_told_apart_at_the_traffic_that_the_readme_names() {
        FakeHost::new();
        let slots = slots();
        // 15,000 numbers from all over within one window.
        let mut seen = Ten {
            recipient: 0,
            neighbours: 0,
        };
        let mut wrong = 0;
        for n in 0..15_000u64 {
            let number = 447_000_000_000 + n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 1_000_000_000;
            let ten = slots.count_number(&number.to_string(), HOUR);
            seen.recipient = seen.recipient.max(ten.recipient);
            wrong += u32::from(ten.neighbours >= 5);
        }
        assert!(seen.recipient <= 4, "{seen:?}");
        assert!(wrong <= 5, "{wrong}");
    }

    #[test]
    fn the_cap_follows_the_week_before_and_what_is_denied_does_not_raise_it() {
        let host = FakeHost::new();
        let slots = slots();
        let day = |day: u64, tries: usize| {
            (0..tries)
                .filter(|_| slots.count_country("acme", "GB", day, 10, 2.0).is_ok())
                .count()
        };
        // Nothing is known: the floor.
        assert_eq!(day(100, 50), 10);
        for past in 101..107 {
            host.advance_seconds(86_400);
            assert_eq!(day(past, 10), 10);
        }
        host.advance_seconds(86_400);
        // The mean is 10, denied tries not counted: the cap is 20.
        assert_eq!(day(107, 500), 20);
        host.advance_seconds(86_400);
        assert_eq!(day(108, 500), (2 * (6 * 10 + 20)) / 7);
        assert!(slots.count_country("other", "GB", 108, 10, 2.0).is_ok());
        // After weeks of silence it is the floor again.
        host.advance_seconds(30 * 86_400);
        assert_eq!(day(138, 50), 10);
    }

    #[test]
    fn keys_are_bounded_whatever_comes_and_counters_never_share_one() {
        let slots = Slots::new(256, "");
        let mut keys = HashSet::new();
        for n in 0..20_000u64 {
            let name = n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_string();
            for kind in ['r', 'i'] {
                let [one, two] = slots.places(kind, &name);
                keys.insert(key(kind, '0', one));
                keys.insert(key(kind, '1', two));
            }
            for (row, slot) in ['0', '1', '2', '3']
                .into_iter()
                .zip(slots.number_places(&name))
            {
                keys.insert(key('n', row, slot));
            }
        }
        assert_eq!(keys.len(), 4 * 256 + 2 * 2 * 64);
        assert!(keys.iter().all(|key| key.len() == 6));
        for day in 0..16 {
            keys.extend((0..COUNTRY_SLOTS).map(|slot| day_key(day, slot)));
        }
        assert_eq!(keys.len(), 5 * 256 + 16 * COUNTRY_SLOTS as usize);
    }
}

//! Prices and prefixes: reading a row of an uploaded rate deck, and a small map by longest prefix for what stands in
//! the configuration. It knows nothing of carriers beyond their names, nor where a row came from.

/// One carrier's part of a row. `price` is none where what stands there is no price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub carrier: &'a str,
    pub price: Option<u64>,
}

/// Reads `north=4200; south=5100` without copying. Whatever stands there, each part becomes an entry: one that is
/// malformed still says which carrier it was about, so that no other price is taken for it.
pub fn entries(row: &str) -> impl Iterator<Item = Entry<'_>> {
    let mut rest = Some(row);
    // Octet by octet: what is short and searched at each message is not worth a searcher.
    let parts = std::iter::from_fn(move || {
        let text = rest?;
        let end = text.bytes().position(|octet| octet == b';');
        let (part, after) = match end {
            Some(end) => (text.get(..end), text.get(end + 1..)),
            None => (rest, None),
        };
        rest = after;
        part.map(str::trim_ascii)
    });
    parts.filter(|part| !part.is_empty()).map(|part| {
        let named = |end: usize| Some((part.get(..end)?, part.get(end + 1..)?));
        let end = part.bytes().rposition(|octet| octet == b'=');
        match end.and_then(named) {
            Some((carrier, price)) => Entry {
                carrier: carrier.trim_ascii_end(),
                price: price_of(price),
            },
            None => Entry {
                carrier: part,
                price: None,
            },
        }
    })
}

/// A price in millionths: digits and nothing else, so that `0.0042` or `-1` is noticed and not rounded.
pub fn price_of(text: &str) -> Option<u64> {
    let digits = text.trim_ascii().as_bytes();
    digits.first()?;
    digits.iter().try_fold(0u64, |price, octet| {
        let digit = octet.is_ascii_digit().then(|| u64::from(octet - b'0'))?;
        price.checked_mul(10)?.checked_add(digit)
    })
}

/// Values by number prefix, of which the longest that fits counts.
#[derive(Clone, Debug)]
pub struct PrefixMap<T> {
    rows: Vec<(String, T)>,
    /// Bit n: there is a prefix of n digits.
    lengths: u32,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            lengths: 0,
        }
    }
}

/// E.164, 6.2.1: an international number has at most 15 digits.
pub const PREFIX_DIGITS_MAX: usize = 15;

impl<T> PrefixMap<T> {
    /// Keeps the first value of a prefix and returns whether this was it.
    /// The prefix is at most `PREFIX_DIGITS_MAX` digits; callers check that with `is_prefix`.
    pub fn insert(&mut self, prefix: &str, value: T) -> bool {
        match self
            .rows
            .binary_search_by(|(key, _)| key.as_str().cmp(prefix))
        {
            Ok(_) => false,
            Err(place) => {
                self.rows.insert(place, (prefix.to_owned(), value));
                self.lengths |= 1 << prefix.len().min(31);
                true
            }
        }
    }

    pub fn longest(&self, number: &str) -> Option<(&str, &T)> {
        let longest = number.len().min(PREFIX_DIGITS_MAX);
        (0..=longest)
            .rev()
            .filter(|length| self.lengths & (1 << length) != 0)
            .find_map(|length| {
                let prefix = number.get(..length)?;
                let place = self
                    .rows
                    .binary_search_by(|(key, _)| key.as_str().cmp(prefix))
                    .ok()?;
                self.rows
                    .get(place)
                    .map(|(key, value)| (key.as_str(), value))
            })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

pub fn is_prefix(text: &str) -> bool {
    text.len() <= PREFIX_DIGITS_MAX && text.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(row: &str, expect: &[(&str, Option<u64>)]) {
        let got: Vec<_> = entries(row)
            .map(|entry| (entry.carrier, entry.price))
            .collect();
        assert_eq!(got, expect);
    }

    #[test]
    fn rows() {
        check(
            "north=4200;south=5100",
            &[("north", Some(4200)), ("south", Some(5100))],
        );
        check(
            " north = 4200 ; south=5100; ",
            &[("north", Some(4200)), ("south", Some(5100))],
        );
        check("a=b=7", &[("a=b", Some(7))]);
        check("north=0", &[("north", Some(0))]);
        check("", &[]);
        check(
            "north=0.0042;south=5100",
            &[("north", None), ("south", Some(5100))],
        );
        check(
            "north;=5;south=-1",
            &[("north", None), ("", Some(5)), ("south", None)],
        );
        check("north=18446744073709551616", &[("north", None)]);
        check("north=+5", &[("north", None)]);
    }

    #[test]
    fn the_longest_prefix_counts() {
        let mut map = PrefixMap::default();
        for (prefix, value) in [("44", 1), ("447", 2), ("4477009", 3), ("", 0)] {
            assert!(map.insert(prefix, value));
        }
        assert_eq!(map.longest("447700900123"), Some(("4477009", &3)));
        assert_eq!(map.longest("447911123456"), Some(("447", &2)));
        assert_eq!(map.longest("442071838750"), Some(("44", &1)));
        assert_eq!(map.longest("12025550143"), Some(("", &0)));
        assert_eq!(map.longest(""), Some(("", &0)));
    }

    #[test]
    fn the_first_value_of_a_prefix_stays() {
        let mut map = PrefixMap::default();
        assert!(map.insert("44", 1));
        assert!(!map.insert("44", 2));
        assert_eq!(map.longest("44"), Some(("44", &1)));
    }

    proptest! {
        #[test]
        fn no_row_panics(row in "\\PC{0,60}") {
            let _ = entries(&row).count();
        }

        #[test]
        fn the_map_agrees_with_a_plain_scan(
            prefixes in proptest::collection::vec("[0-9]{0,6}", 0..20),
            number in "[0-9]{0,15}",
        ) {
            let mut map = PrefixMap::default();
            for prefix in &prefixes {
                map.insert(prefix, prefix.clone());
            }
            let scan = prefixes.iter().filter(|p| number.starts_with(p.as_str())).max_by_key(|p| p.len());
            prop_assert_eq!(map.longest(&number).map(|(key, _)| key), scan.map(String::as_str));
        }

        #[test]
        fn a_number_that_is_no_ascii_is_only_unknown(number in "\\PC{0,20}") {
            let mut map = PrefixMap::default();
            map.insert("44", ());
            let _ = map.longest(&number);
        }
    }
}

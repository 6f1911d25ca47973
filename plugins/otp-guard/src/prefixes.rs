//! Number prefixes with a meaning, of which the longest that fits counts. Knows no numbers' owners and no limits.

/// What a prefix stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listed {
    Allow,
    Block,
}

/// Sorted, with the lengths that occur, so that a lookup costs one search for each of them.
#[derive(Debug, Default)]
pub struct Prefixes {
    rows: Vec<(String, Listed)>,
    /// Bit n: there is a prefix of n digits.
    lengths: u32,
}

impl Prefixes {
    /// The error names a prefix that is on both lists.
    pub fn new(allow: Vec<String>, block: Vec<String>) -> Result<Self, String> {
        let allow = allow.into_iter().map(|prefix| (prefix, Listed::Allow));
        let block = block.into_iter().map(|prefix| (prefix, Listed::Block));
        let mut rows: Vec<(String, Listed)> = allow.chain(block).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.dedup();
        if let Some(both) = rows.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(format!(
                "block_prefixes: `{}` is under allow_prefixes too",
                both[0].0
            ));
        }
        let lengths = rows
            .iter()
            .fold(0, |lengths, (prefix, _)| lengths | 1 << prefix.len());
        Ok(Self { rows, lengths })
    }

    pub fn longest(&self, number: &str) -> Option<(&str, Listed)> {
        let longest = number.len().min(15);
        (1..=longest)
            .rev()
            .filter(|length| self.lengths & (1 << length) != 0)
            .find_map(|length| {
                let prefix = number.get(..length)?;
                let place = self
                    .rows
                    .binary_search_by(|(key, _)| key.as_str().cmp(prefix))
                    .ok()?;
                let (key, listed) = self.rows.get(place)?;
                Some((key.as_str(), *listed))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(listed: &[&str]) -> Vec<String> {
        listed.iter().map(|prefix| (*prefix).to_owned()).collect()
    }

    #[test]
    fn the_longest_prefix_of_both_lists_counts() {
        let prefixes =
            Prefixes::new(owned(&["4477", "447700900"]), owned(&["44", "44770"])).unwrap();
        assert_eq!(prefixes.longest("442071"), Some(("44", Listed::Block)));
        assert_eq!(prefixes.longest("447911"), Some(("44", Listed::Block)));
        assert_eq!(prefixes.longest("44771"), Some(("4477", Listed::Allow)));
        assert_eq!(prefixes.longest("447701"), Some(("44770", Listed::Block)));
        assert_eq!(
            prefixes.longest("447700900123"),
            Some(("447700900", Listed::Allow))
        );
        assert_eq!(prefixes.longest("33"), None);
        assert_eq!(prefixes.longest(""), None);
    }

    #[test]
    fn a_prefix_on_both_lists_is_named() {
        let error = Prefixes::new(owned(&["44"]), owned(&["33", "44"])).unwrap_err();
        assert!(error.contains("`44`"), "{error}");
        assert!(Prefixes::new(owned(&["44", "44"]), Vec::new()).is_ok());
    }
}

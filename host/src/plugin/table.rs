//! A read-only table that the operator uploads: keys and values, found by the whole key or by the
//! longest key that begins a number. Compact and built for lookups; what a value means is the plugin's.

use std::fmt;

/// A table of at most 5,000,000 rows. Built once, never changed.
pub struct PrefixTable {
    /// Keys and values of all rows, end to end.
    text: String,
    rows: Vec<Row>,
    /// Open addressing, a power of two, at most half full.
    slots: Vec<Slot>,
    /// Bit n: there is a key of n bytes.
    lengths: u64,
}

#[derive(Clone, Copy)]
struct Row {
    start: u32,
    key_len: u16,
    value_len: u16,
}

/// `row` is one more than the row's index; zero where the slot is free. `tag` is part of the key's
/// hash, so that a miss rarely touches `text`.
#[derive(Clone, Copy, Default)]
struct Slot {
    row: u32,
    tag: u32,
}

/// A line that cannot be read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// From 1; 0 where the whole file is at fault.
    pub line: usize,
    pub rule: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.rule)
        } else {
            write!(f, "line {}: {}", self.line, self.rule)
        }
    }
}

impl std::error::Error for TableError {}

pub(super) const TABLE_BYTES_MAX: usize = 256 << 20;
const ROWS_MAX: usize = 5_000_000;
const KEY_BYTES_MAX: usize = 63;
const VALUE_BYTES_MAX: usize = 4_096;

impl PrefixTable {
    /// Reads CSV or TSV: on each line a key, a comma or a tab, and the value, which is the rest of
    /// the line (quotes around it are taken off). Empty lines and lines that begin with `#` are
    /// skipped, and so is a first line whose key is `key` or `prefix`. A key may be written `+44`.
    pub fn parse(bytes: &[u8]) -> Result<PrefixTable, TableError> {
        let whole = |rule: String| TableError { line: 0, rule };
        if bytes.len() > TABLE_BYTES_MAX {
            return Err(whole(format!("has more than {TABLE_BYTES_MAX} bytes")));
        }
        let text = std::str::from_utf8(bytes).map_err(|e| {
            let line = bytes[..e.valid_up_to()]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            TableError {
                line,
                rule: "is not UTF-8".into(),
            }
        })?;
        let mut table = PrefixTable {
            text: String::with_capacity(text.len()),
            rows: Vec::new(),
            slots: vec![Slot::default(); 16],
            lengths: 0,
        };
        let mut first = true;
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let line = line.trim_end();
            if line.trim_start().is_empty() || line.starts_with('#') {
                continue;
            }
            let at = |rule: String| TableError {
                line: index + 1,
                rule,
            };
            let (key, value) = line
                .split_once([',', '\t'])
                .ok_or_else(|| at("has no comma or tab between key and value".into()))?;
            if std::mem::take(&mut first) && matches!(key.trim(), "key" | "prefix") {
                continue;
            }
            table.push(key_of(key), &value_of(value)).map_err(at)?;
        }
        table.text.shrink_to_fit();
        table.rows.shrink_to_fit();
        Ok(table)
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The value of the row whose key is `key`.
    pub fn lookup(&self, key: &str) -> Option<&str> {
        let row = self.find(key.as_bytes(), hash(key.as_bytes()))?;
        Some(self.value(row))
    }

    /// The row whose key is the longest prefix of `number`: that key and its value.
    pub fn longest_prefix(&self, number: &str) -> Option<(&str, &str)> {
        let bytes = number.as_bytes();
        let longest = bytes.len().min(KEY_BYTES_MAX);
        let mut hashes = [0u64; KEY_BYTES_MAX + 1];
        let mut state = SEED;
        for (n, byte) in bytes.iter().take(longest).enumerate() {
            state = step(state, *byte);
            hashes[n + 1] = state;
        }
        let mut lengths = self.lengths & (u64::MAX >> (KEY_BYTES_MAX - longest));
        while lengths != 0 {
            let length = lengths.ilog2() as usize;
            lengths &= !(1 << length);
            if let Some(row) = self.find(&bytes[..length], finish(hashes[length])) {
                return Some((self.key(row), self.value(row)));
            }
        }
        None
    }

    fn push(&mut self, key: &str, value: &str) -> Result<(), String> {
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(format!("its key is not 1 to {KEY_BYTES_MAX} bytes"));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(format!("its value has more than {VALUE_BYTES_MAX} bytes"));
        }
        if self.rows.len() == ROWS_MAX {
            return Err(format!(
                "is row {}; a table has at most {ROWS_MAX}",
                ROWS_MAX + 1
            ));
        }
        let hash = hash(key.as_bytes());
        if self.find(key.as_bytes(), hash).is_some() {
            return Err(format!("its key {key:?} stands on an earlier line already"));
        }
        let too_large = |_| "is beyond what a table can hold".to_string();
        let row = Row {
            start: u32::try_from(self.text.len()).map_err(too_large)?,
            key_len: u16::try_from(key.len()).map_err(too_large)?,
            value_len: u16::try_from(value.len()).map_err(too_large)?,
        };
        self.text.push_str(key);
        self.text.push_str(value);
        self.rows.push(row);
        self.lengths |= 1 << key.len();
        if self.rows.len() * 2 > self.slots.len() {
            self.grow();
        } else {
            self.place(hash, self.rows.len());
        }
        Ok(())
    }

    fn grow(&mut self) {
        self.slots = vec![Slot::default(); self.slots.len() * 2];
        for number in 1..=self.rows.len() {
            let hash = hash(self.key(self.rows[number - 1]).as_bytes());
            self.place(hash, number);
        }
    }

    fn place(&mut self, hash: u64, number: usize) {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots[at].row != 0 {
            at = (at + 1) & mask;
        }
        // At most ROWS_MAX rows: both fit.
        self.slots[at] = Slot {
            row: number as u32,
            tag: (hash >> 32) as u32,
        };
    }

    fn find(&self, key: &[u8], hash: u64) -> Option<Row> {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            let row = *self.rows.get((slot.row as usize).checked_sub(1)?)?;
            if slot.tag == (hash >> 32) as u32 && self.key(row).as_bytes() == key {
                return Some(row);
            }
            at = (at + 1) & mask;
        }
    }

    fn key(&self, row: Row) -> &str {
        let start = row.start as usize;
        &self.text[start..start + usize::from(row.key_len)]
    }

    fn value(&self, row: Row) -> &str {
        let start = row.start as usize + usize::from(row.key_len);
        &self.text[start..start + usize::from(row.value_len)]
    }
}

const SEED: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a: one step for each byte, so that all prefixes of a number are hashed in one pass.
fn step(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads the state over all bits: FNV's low bits alone cluster on digits.
fn finish(state: u64) -> u64 {
    let mixed = (state ^ (state >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ (mixed >> 29)
}

fn hash(key: &[u8]) -> u64 {
    finish(key.iter().fold(SEED, |state, byte| step(state, *byte)))
}

fn key_of(text: &str) -> &str {
    let text = text.trim().trim_matches('"');
    match text.strip_prefix('+') {
        Some(digits) if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) => digits,
        _ => text,
    }
}

fn value_of(text: &str) -> std::borrow::Cow<'_, str> {
    let text = text.trim();
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) => inner.replace("\"\"", "\"").into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(text: &str) -> PrefixTable {
        PrefixTable::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn the_longest_prefix_wins() {
        let t = table("44,uk\n447,uk mobile\n4,zone\n");
        assert_eq!(t.longest_prefix("447700900123"), Some(("447", "uk mobile")));
        assert_eq!(t.longest_prefix("441632960000"), Some(("44", "uk")));
        assert_eq!(t.longest_prefix("4"), Some(("4", "zone")));
        assert_eq!(t.longest_prefix("33"), None);
        assert_eq!(t.longest_prefix(""), None);
    }

    #[test]
    fn a_value_is_the_rest_of_the_line() {
        let t = table("# deck\nprefix\trates\n+44\tnorth=1; south=2, x\n33,\"a \"\"b\"\", c\"\n\n");
        assert_eq!(t.lookup("44"), Some("north=1; south=2, x"));
        assert_eq!(t.lookup("33"), Some("a \"b\", c"));
        assert_eq!(t.len(), 2);
    }

    #[test]
    fn a_bad_line_is_named_with_its_rule() {
        let error = |text: &[u8]| PrefixTable::parse(text).err().unwrap().to_string();
        assert_eq!(
            error(b"44,a\n33"),
            "line 2: has no comma or tab between key and value"
        );
        assert_eq!(error(b",a"), "line 1: its key is not 1 to 63 bytes");
        assert_eq!(
            error(b"1,a\n2,b\n1,c"),
            "line 3: its key \"1\" stands on an earlier line already"
        );
        assert_eq!(error(b"1,a\n2,\xff"), "line 2: is not UTF-8");
    }

    #[test]
    fn an_empty_table_answers_nothing() {
        assert_eq!(table("").lookup("44"), None);
        assert_eq!(table("").longest_prefix("44"), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_scan(
            rows in proptest::collection::btree_map("[0-9]{1,6}", "[a-z]{0,4}", 0..60),
            number in "[0-9]{0,9}",
        ) {
            let text: String = rows.iter().map(|(k, v)| format!("{k},{v}\n")).collect();
            let t = table(&text);
            let expect = rows
                .iter()
                .filter(|(k, _)| number.starts_with(k.as_str()))
                .max_by_key(|(k, _)| k.len())
                .map(|(k, v)| (k.as_str(), v.as_str()));
            prop_assert_eq!(t.longest_prefix(&number), expect);
            prop_assert_eq!(t.lookup(&number), rows.get(&number).map(String::as_str));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PrefixTable::parse(&bytes);
        }
    }
}

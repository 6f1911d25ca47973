//! The operator's tables of networks: number prefixes, or whole numbers, to the network that they are
//! in. Millions of rows in eight octets each and some room, found in a cache miss or two a length. Read whole or refused whole; which table says what, and when it is read again, is decided
//! elsewhere.

use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, Read as _};
use std::path::Path;

/// Rows of one table.
pub const ROWS_MAX: usize = 20_000_000;
/// Networks of one table, told apart by any of their columns.
pub const NETWORKS_MAX: usize = 1 << NETWORK_BITS;
const LINE_OCTETS_MAX: usize = 512;
const OPERATOR_CHARACTERS_MAX: usize = 64;
/// E.164, 6.2.
const DIGITS_MAX: usize = 15;
const NETWORK_BITS: u32 = 13;
const KEY_BITS: u32 = 51;
/// Digits of a number that may stand in an error.
const SHOWN_DIGITS: usize = 6;

/// A network as a row tells it. Mobile country and network codes are those of ITU-T E.212.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkRow {
    /// ISO 3166-1 alpha-2, upper case.
    pub country: Option<[u8; 2]>,
    pub mcc: Option<u16>,
    pub mnc: Option<u16>,
    /// An MNC of two digits is another than one of three: 2 or 3.
    pub mnc_digits: u8,
    /// Empty where the row has none.
    pub operator: Box<str>,
}

impl NetworkRow {
    /// `234-10`, with the zeros that belong to it.
    pub fn mcc_mnc(&self) -> Option<String> {
        let width = usize::from(self.mnc_digits);
        Some(format!("{:03}-{:0width$}", self.mcc?, self.mnc?))
    }
}

/// A row that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    pub network: &'a NetworkRow,
    /// Leading digits of the number that are the row's own.
    pub prefix_digits: u8,
}

/// Which columns a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Columns {
    /// prefix, country, mcc, mnc, operator
    Networks,
    /// number or prefix, mcc, mnc, operator
    Ported,
}

impl Columns {
    fn names(self) -> &'static str {
        match self {
            Columns::Networks => "prefix, country, mcc, mnc, operator",
            Columns::Ported => "number, mcc, mnc, operator",
        }
    }
}

/// Why a table is refused.
#[derive(Debug)]
pub enum TableError {
    Io(std::io::Error),
    /// A line, from 1, and the rule that it breaks.
    Line {
        line: usize,
        rule: String,
    },
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::Io(error) => write!(f, "{error}"),
            TableError::Line { line, rule } => write!(f, "line {line}: {rule}"),
        }
    }
}

impl std::error::Error for TableError {}

impl From<std::io::Error> for TableError {
    fn from(error: std::io::Error) -> TableError {
        TableError::Io(error)
    }
}

/// Prefixes and their networks. Built once, never changed.
///
/// A slot is the scrambled digits above the place of the network in `networks`; zero where it is
/// free. The slots are sorted, with a free one for every three, so that a row stands within a few
/// slots of the place that its digits name, and where a larger one stands it is not there.
#[derive(Default)]
pub struct NetworkTable {
    slots: Vec<u64>,
    /// Places that digits may name; the last rows may stand behind them.
    homes: usize,
    rows: usize,
    networks: Vec<NetworkRow>,
    /// Bit n: there is a prefix of n digits.
    lengths: u16,
}

impl fmt::Debug for NetworkTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NetworkTable({} rows, {} networks)",
            self.rows,
            self.networks.len()
        )
    }
}

impl NetworkTable {
    /// Reads a file. Blocking: large ones take a second.
    pub fn load(path: &Path, columns: Columns) -> Result<NetworkTable, TableError> {
        let open =
            || std::fs::File::open(path).map(|f| std::io::BufReader::with_capacity(1 << 16, f));
        match NetworkTable::read(open()?, columns)? {
            Ok(table) => Ok(table),
            Err(key) => Err(twice(open()?, columns, key)?),
        }
    }

    /// The same of text in memory.
    pub fn parse(text: &[u8], columns: Columns) -> Result<NetworkTable, TableError> {
        match NetworkTable::read(text, columns)? {
            Ok(table) => Ok(table),
            Err(key) => Err(twice(text, columns, key)?),
        }
    }

    /// The inner error is the scrambled digits that two rows give to different networks.
    fn read(
        input: impl BufRead,
        columns: Columns,
    ) -> Result<Result<NetworkTable, u64>, TableError> {
        let mut networks = Networks::default();
        let mut packed: Vec<u64> = Vec::new();
        let mut lengths = 0u16;
        each_row(input, columns, |_, digits, row| {
            if packed.len() == ROWS_MAX {
                return Err(format!(
                    "is beyond the {ROWS_MAX} rows that a table may have"
                ));
            }
            let network = networks.place_of(row)?;
            lengths |= 1 << digits.len();
            packed.push(scrambled(key_of(digits)) << NETWORK_BITS | u64::from(network));
            Ok(())
        })?;
        packed.sort_unstable();
        packed.dedup();
        let clash = packed
            .windows(2)
            .find(|w| w[0] >> NETWORK_BITS == w[1] >> NETWORK_BITS);
        if let Some(clash) = clash {
            return Ok(Err(clash[0] >> NETWORK_BITS));
        }
        let rows = packed.len();
        let homes = rows + rows / 3 + 1;
        let mut slots: Vec<u64> = Vec::with_capacity(homes + 64);
        for entry in packed {
            let home = home(entry >> NETWORK_BITS, homes);
            if slots.len() < home {
                slots.resize(home, 0);
            }
            slots.push(entry);
        }
        slots.shrink_to_fit();
        Ok(Ok(NetworkTable {
            slots,
            homes,
            rows,
            networks: networks.rows,
            lengths,
        }))
    }

    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Octets that the rows take in memory.
    pub fn memory(&self) -> usize {
        self.slots.len() * size_of::<u64>() + self.networks.len() * size_of::<NetworkRow>()
    }

    /// The row whose prefix is the longest that begins `digits`, which is 1 to 15 digits.
    pub fn longest(&self, digits: &str) -> Option<Found<'_>> {
        let count = digits.len();
        let plain = digits.bytes().all(|b| b.is_ascii_digit());
        if self.slots.is_empty() || !(1..=DIGITS_MAX).contains(&count) || !plain {
            return None;
        }
        let number: u64 = digits.parse().ok()?;
        let mut lengths = self.lengths & ((2u16 << count).wrapping_sub(1));
        while lengths != 0 {
            let length = lengths.ilog2();
            lengths &= !(1 << length);
            let leading = number / POWERS[count - length as usize];
            if let Some(network) = self.find(POWERS[length as usize] + leading) {
                return Some(Found {
                    network,
                    // At most 15.
                    prefix_digits: length as u8,
                });
            }
        }
        None
    }

    /// What another row of the table calls the network of these codes.
    pub fn operator_of(&self, row: &NetworkRow) -> Option<&str> {
        let same = |r: &&NetworkRow| {
            (r.mcc, r.mnc, r.mnc_digits) == (row.mcc, row.mnc, row.mnc_digits)
                && !r.operator.is_empty()
        };
        self.networks.iter().find(same).map(|r| &*r.operator)
    }

    fn find(&self, key: u64) -> Option<&NetworkRow> {
        let wanted = scrambled(key);
        let from = self.slots.get(home(wanted, self.homes)..)?;
        let slot = from
            .iter()
            .take_while(|slot| **slot != 0)
            .find(|slot| **slot >> NETWORK_BITS >= wanted)?;
        if slot >> NETWORK_BITS != wanted {
            return None;
        }
        let network = slot & ((1 << NETWORK_BITS) - 1);
        self.networks.get(network as usize)
    }
}

const POWERS: [u64; DIGITS_MAX + 1] = {
    let mut powers = [1; DIGITS_MAX + 1];
    let mut n = 1;
    while n <= DIGITS_MAX {
        powers[n] = powers[n - 1] * 10;
        n += 1;
    }
    powers
};

/// 1 to 15 digits behind a leading 1, so that `044` and `44` differ: at most 51 bits.
fn key_of(digits: &str) -> u64 {
    digits
        .bytes()
        .fold(1, |key, b| key * 10 + u64::from(b - b'0'))
}

/// Digits spread evenly over 51 bits, none like another: each step can be undone.
fn scrambled(key: u64) -> u64 {
    const MASK: u64 = (1 << KEY_BITS) - 1;
    let key = (key ^ (key >> 25)).wrapping_mul(0x9e37_79b9_7f4a_7c15) & MASK;
    let key = (key ^ (key >> 27)).wrapping_mul(0xd6e8_feb8_6659_fd93) & MASK;
    key ^ (key >> 26)
}

/// The place that scrambled digits name: larger ones never name an earlier place.
fn home(scrambled: u64, homes: usize) -> usize {
    // Less than `homes`, since the digits are less than 2^51.
    ((u128::from(scrambled) * homes as u128) >> KEY_BITS) as usize
}

/// The networks of a table, each kept once.
#[derive(Default)]
struct Networks {
    rows: Vec<NetworkRow>,
    places: HashMap<NetworkRow, u16>,
}

impl Networks {
    fn place_of(&mut self, row: NetworkRow) -> Result<u16, String> {
        if let Some(place) = self.places.get(&row) {
            return Ok(*place);
        }
        let place = u16::try_from(self.rows.len())
            .ok()
            .filter(|p| usize::from(*p) < NETWORKS_MAX)
            .ok_or_else(|| format!("names one network more than the {NETWORKS_MAX} that fit"))?;
        self.rows.push(row.clone());
        self.places.insert(row, place);
        Ok(place)
    }
}

/// Hands every row on: its line, its digits and its network.
fn each_row(
    mut input: impl BufRead,
    columns: Columns,
    mut take: impl FnMut(usize, &str, NetworkRow) -> Result<(), String>,
) -> Result<(), TableError> {
    let mut line = Vec::with_capacity(LINE_OCTETS_MAX);
    let mut number = 0;
    let mut first = true;
    loop {
        line.clear();
        number += 1;
        let broken = |rule: String| TableError::Line { line: number, rule };
        let limit = LINE_OCTETS_MAX as u64 + 1;
        if input.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        if line.len() > LINE_OCTETS_MAX {
            return Err(broken(format!("is longer than {LINE_OCTETS_MAX} octets")));
        }
        let text = std::str::from_utf8(&line).map_err(|_| broken("is not UTF-8".to_owned()))?;
        let text = text.trim_start_matches('\u{feff}').trim_end();
        if text.trim_start().is_empty() || text.starts_with('#') {
            continue;
        }
        let (digits, rest) = cut(text);
        let digits = digits.strip_prefix('+').unwrap_or(digits);
        if std::mem::take(&mut first) && matches!(digits, "prefix" | "number") {
            continue;
        }
        if !(1..=DIGITS_MAX).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit())
        {
            let rule = "its first column is not 1 to 15 digits of a number in international form";
            return Err(broken(format!("{rule} (columns: {})", columns.names())));
        }
        let row = network_of(rest, columns).map_err(broken)?;
        take(number, digits, row).map_err(broken)?;
    }
}

/// The first column and what follows it. A line with a tab is of tab-separated columns.
fn cut(text: &str) -> (&str, &str) {
    let separator = if text.contains('\t') { '\t' } else { ',' };
    let (column, rest) = text.split_once(separator).unwrap_or((text, ""));
    (unquoted(column), rest)
}

fn unquoted(column: &str) -> &str {
    let column = column.trim();
    column
        .strip_prefix('"')
        .and_then(|c| c.strip_suffix('"'))
        .unwrap_or(column)
}

fn network_of(rest: &str, columns: Columns) -> Result<NetworkRow, String> {
    let separator = if rest.contains('\t') { '\t' } else { ',' };
    let count = match columns {
        Columns::Networks => 4,
        Columns::Ported => 3,
    };
    let mut columns_left = rest.splitn(count, separator).map(unquoted);
    let mut next = || columns_left.next().unwrap_or_default();
    let country = match columns {
        Columns::Networks => country_of(next())?,
        Columns::Ported => None,
    };
    let (mcc, mnc, operator) = (next(), next(), next());
    if columns == Columns::Ported && (mcc.is_empty() || mnc.is_empty()) {
        return Err(format!(
            "has no mcc and mnc to say where the number went (columns: {})",
            columns.names()
        ));
    }
    if mcc.is_empty() && !mnc.is_empty() {
        return Err("has an mnc without an mcc".to_owned());
    }
    if operator.chars().count() > OPERATOR_CHARACTERS_MAX || operator.chars().any(char::is_control)
    {
        return Err(format!(
            "its operator is not at most {OPERATOR_CHARACTERS_MAX} printable characters"
        ));
    }
    let code = |name: &str, text: &str, sizes: std::ops::RangeInclusive<usize>| {
        if text.is_empty() {
            return Ok(None);
        }
        let fits = sizes.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
        let value = text.parse().ok().filter(|_| fits);
        value.map(Some).ok_or_else(|| {
            let sizes = (*sizes.start()..=*sizes.end()).map(|n| n.to_string());
            let sizes: Vec<String> = sizes.collect();
            format!(
                "its {name} {text:?} is not {} digits (ITU-T E.212)",
                sizes.join(" or ")
            )
        })
    };
    Ok(NetworkRow {
        country,
        mcc: code("mcc", mcc, 3..=3)?,
        mnc: code("mnc", mnc, 2..=3)?,
        mnc_digits: u8::try_from(mnc.len()).unwrap_or_default(),
        operator: operator.into(),
    })
}

fn country_of(text: &str) -> Result<Option<[u8; 2]>, String> {
    match text.as_bytes() {
        [] => Ok(None),
        [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok(Some([*a, *b])),
        _ => Err(format!(
            "its country {text:?} is not two upper-case letters (ISO 3166-1)"
        )),
    }
}

/// The two lines that give one key to two networks: the file is read once more to find them.
fn twice(input: impl BufRead, columns: Columns, key: u64) -> Result<TableError, TableError> {
    let mut seen: Option<(usize, NetworkRow)> = None;
    let mut clash = None;
    each_row(input, columns, |line, digits, row| {
        if clash.is_some() || scrambled(key_of(digits)) != key {
            return Ok(());
        }
        match &seen {
            Some((first, known)) if *known != row => {
                let shown = digits.get(..SHOWN_DIGITS).unwrap_or(digits);
                let rule =
                    format!("{shown}... stands on line {first} already, with another network");
                clash = Some(TableError::Line { line, rule });
            }
            Some(_) => {}
            None => seen = Some((line, row)),
        }
        Ok(())
    })?;
    Ok(clash.unwrap_or_else(|| TableError::Line {
        line: 0,
        rule: "the file changed while it was read".to_owned(),
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(text: &str) -> NetworkTable {
        NetworkTable::parse(text.as_bytes(), Columns::Networks).unwrap()
    }

    fn found(table: &NetworkTable, digits: &str) -> Option<(u8, Option<String>, String)> {
        let found = table.longest(digits)?;
        let network = found.network;
        Some((
            found.prefix_digits,
            network.mcc_mnc(),
            network.operator.to_string(),
        ))
    }

    #[test]
    fn the_longest_prefix_wins() {
        let table = networks(
            "prefix,country,mcc,mnc,operator\n44,GB,,,\n+447,GB,234,15,Vodafone\n# O2's\n447700\tGB\t234\t10\tO2, UK\n1,US,310,004,\"Verizon, Inc\"\n",
        );
        let answer = |digits: u8, code: Option<&str>, name: &str| {
            Some((digits, code.map(str::to_owned), name.to_owned()))
        };
        assert_eq!(
            found(&table, "447700900123"),
            answer(6, Some("234-10"), "O2, UK")
        );
        assert_eq!(
            found(&table, "447911123456"),
            answer(3, Some("234-15"), "Vodafone")
        );
        assert_eq!(found(&table, "442079460123"), answer(2, None, ""));
        assert_eq!(
            found(&table, "12025550143"),
            answer(1, Some("310-004"), "Verizon, Inc")
        );
        assert_eq!(found(&table, "33612345678"), None);
        assert_eq!(found(&table, ""), None);
        assert_eq!(found(&table, "44a"), None);
        assert_eq!(found(&table, &"4".repeat(16)), None);
        assert_eq!(table.longest("44").unwrap().network.country, Some(*b"GB"));
    }

    #[test]
    fn whole_numbers_and_prefixes_stand_in_one_portability_table() {
        let text =
            "number,mcc,mnc\n447700900123,234,30\n4477009,234,20,Three\n447700900123,234,30\n";
        let table = NetworkTable::parse(text.as_bytes(), Columns::Ported).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(found(&table, "447700900123").map(|f| f.0), Some(12));
        assert_eq!(found(&table, "447700900124").map(|f| f.0), Some(7));
    }

    #[track_caller]
    fn refused(text: &[u8], columns: Columns, expect: &str) {
        let error = NetworkTable::parse(text, columns).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn a_bad_line_is_named_with_its_rule() {
        use Columns::{Networks, Ported};
        refused(b"44,GB\nx4,GB\n", Networks, "line 2: its first column");
        refused(b"44,gb\n", Networks, "line 1: its country \"gb\"");
        refused(b"44,GB,23,10\n", Networks, "its mcc \"23\" is not 3 digits");
        refused(
            b"44,GB,234,1\n",
            Networks,
            "its mnc \"1\" is not 2 or 3 digits",
        );
        refused(b"44,GB,,10\n", Networks, "an mnc without an mcc");
        refused(b"44,GB,234,10,a\x07b\n", Networks, "its operator");
        refused(b"44,\xff\n", Networks, "line 1: is not UTF-8");
        refused(&[b'4'; 600], Networks, "line 1: is longer than 512 octets");
        refused(b"447700900123\n", Ported, "no mcc and mnc");
        refused(
            b"447700900123,234,30\n1,310,004\n447700900123,234,20\n",
            Ported,
            "line 3: 447700... stands on line 1 already",
        );
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        let table = networks("# nothing\n\n");
        assert!(table.is_empty());
        assert_eq!(found(&table, "447700900123"), None);
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_scan(
            rows in proptest::collection::btree_map("[0-9]{1,15}", 200u16..220, 0..80),
            number in "[0-9]{1,15}",
        ) {
            let text: String = rows.iter().map(|(k, mcc)| format!("{k},,{mcc},01,\n")).collect();
            let table = networks(&text);
            let expect = rows
                .iter()
                .filter(|(k, _)| number.starts_with(k.as_str()))
                .max_by_key(|(k, _)| k.len())
                .map(|(k, mcc)| (k.len() as u8, Some(*mcc)));
            let got = table.longest(&number).map(|f| (f.prefix_digits, f.network.mcc));
            prop_assert_eq!(got, expect);
        }

        #[test]
        fn arbitrary_octets_never_panic(text in proptest::collection::vec(any::<u8>(), 0..300), query in "\\PC{0,18}") {
            for columns in [Columns::Networks, Columns::Ported] {
                if let Ok(table) = NetworkTable::parse(&text, columns) {
                    let _ = table.longest(&query);
                }
            }
        }
    }
}

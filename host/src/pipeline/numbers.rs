//! Numbers: how a client's is read, where it lives (its country by libphonenumber's data, its network
//! by the operator's tables), and the clock on its wall. Decides nothing about messages.

mod plan;
mod table;
mod zones;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::tz::TimeZone;

use crate::clock::Timestamp;
use crate::domain::address::AddressError;
use crate::domain::{AccountId, Address, Network, NetworkSource};
pub use plan::{Kinds, Region, Rules, Validate};
pub use table::{Columns, NetworkRow, NetworkTable, TableError};
use zones::ZONES;

/// How numbers are read, from the configuration.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub rules: Rules,
    /// Regions of accounts that have one of their own.
    pub regions: HashMap<AccountId, Region>,
}

/// Resolves numbers to networks and wall clocks. One per server.
#[derive(Debug)]
pub struct Numbers {
    settings: Settings,
    /// Sorted by country, as `ZONES` is.
    zones: Vec<Option<TimeZone>>,
    /// The operator's own rows, longest prefix first: digits and zone.
    overrides: Vec<(String, TimeZone)>,
    /// Countries of number ranges seen lately: parsing a number costs more than most decisions.
    countries: parking_lot::RwLock<HashMap<u64, Option<[u8; 2]>>>,
    tables: parking_lot::RwLock<Tables>,
    reloads: [AtomicU64; 2],
}

/// The operator's tables as they stand.
#[derive(Debug, Default)]
pub struct Tables {
    pub networks: NetworkTable,
    pub ported: NetworkTable,
}

/// Where the tables are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableFiles {
    pub networks: Option<PathBuf>,
    pub ported: Option<PathBuf>,
}

impl TableFiles {
    pub fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.networks.iter().chain(&self.ported)
    }

    /// Reads all of them, or none: the error names the file, the line and the rule. Blocking.
    pub fn read(&self) -> Result<Tables, String> {
        let read = |path: &Option<PathBuf>, columns| match path {
            None => Ok(NetworkTable::default()),
            Some(path) => NetworkTable::load(path, columns)
                .map_err(|error| format!("{}: {error}", path.display())),
        };
        Ok(Tables {
            networks: read(&self.networks, Columns::Networks)?,
            ported: read(&self.ported, Columns::Ported)?,
        })
    }
}

/// All that is known of a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub address: Address,
    pub network: Network,
    /// `234-10`, with the zeros that belong to it.
    pub mcc_mnc: Option<String>,
    pub operator: Option<String>,
    /// Leading digits by which the table's row was found.
    pub matched: Option<String>,
    /// The network that the number was first given to, where it is another than it is in now.
    pub range_mcc_mnc: Option<String>,
    pub possible: bool,
    pub valid: bool,
    pub kind: Option<&'static str>,
    pub national: String,
    pub international: String,
    pub utc_offset_minutes: Option<i16>,
}

/// Ranges whose country is remembered; beyond it they are forgotten and learnt anew.
const COUNTRIES_MAX: usize = 65_536;

/// Digits that tell a number's range: country code, area code and the first of the block.
const RANGE_DIGITS: usize = 8;

/// A time zone of the configuration does not exist.
#[derive(Debug)]
pub struct UnknownZone(pub String);

impl Numbers {
    /// `overrides`: number prefix (digits) to IANA zone name, as in `1212 = "America/New_York"`.
    pub fn new(
        overrides: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Numbers, UnknownZone> {
        let mut rows = Vec::new();
        for (prefix, zone) in overrides {
            let tz = TimeZone::get(&zone).map_err(|_| UnknownZone(zone))?;
            rows.push((prefix, tz));
        }
        rows.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(Numbers {
            settings: Settings::default(),
            zones: ZONES
                .iter()
                .map(|(_, zone)| TimeZone::get(zone).ok())
                .collect(),
            overrides: rows,
            countries: parking_lot::RwLock::default(),
            tables: parking_lot::RwLock::default(),
            reloads: Default::default(),
        })
    }

    pub fn with_settings(self, settings: Settings) -> Numbers {
        Numbers { settings, ..self }
    }

    /// Puts other tables in the place of those in force.
    pub fn set_tables(&self, tables: Tables) {
        let old = std::mem::replace(&mut *self.tables.write(), tables);
        // Freed without the lock: it may be hundreds of megabytes.
        drop(old);
    }

    /// Counts a table that was read again: taken, or refused.
    pub fn note_reload(&self, taken: bool) {
        self.reloads[usize::from(taken)].fetch_add(1, Ordering::Relaxed);
    }

    /// Reloads that were refused, and that were taken.
    pub fn reloads(&self) -> [u64; 2] {
        [0, 1].map(|i: usize| self.reloads[i].load(Ordering::Relaxed))
    }

    /// Rows and octets in memory: networks, then portability.
    pub fn table_sizes(&self) -> [(usize, usize); 2] {
        let tables = self.tables.read();
        [&tables.networks, &tables.ported].map(|t| (t.len(), t.memory()))
    }

    /// The rules for what an account writes: `region` is the submission's own, before the account's,
    /// before the server's.
    pub fn rules(&self, account: &AccountId, region: Option<Region>) -> Rules {
        let rules = self.settings.rules;
        let own = region.or_else(|| self.settings.regions.get(account).copied());
        Rules {
            region: own.or(rules.region),
            ..rules
        }
    }

    /// A recipient as a client wrote it.
    pub fn recipient(&self, text: &str, rules: &Rules) -> Result<Address, AddressError> {
        plan::recipient(text, rules)
    }

    /// An originator as a client wrote it.
    pub fn originator(&self, text: &str, rules: &Rules) -> Result<Address, AddressError> {
        plan::originator(text, rules)
    }

    /// Where an international number lives; nothing for short codes and names. A row of the
    /// portability table comes before one of the networks, and that before the numbering plan.
    pub fn network(&self, address: &Address) -> Network {
        if !address.is_international() {
            return Network::default();
        }
        let tables = self.tables.read();
        let found = Resolved::of(&tables, &address.value);
        let (mcc, mnc) = found.row().map_or((None, None), |row| (row.mcc, row.mnc));
        let source = found.source();
        let country = found.country();
        drop(tables);
        let country = country.or_else(|| self.country(&address.value));
        Network {
            country,
            mcc,
            mnc,
            ported: source == Some(NetworkSource::Ported),
            source: source.unwrap_or(match country {
                Some(_) => NetworkSource::Plan,
                None => NetworkSource::Unknown,
            }),
        }
    }

    /// All that is known of a number, for a person.
    pub fn lookup(&self, address: Address, now: Timestamp) -> Lookup {
        let network = self.network(&address);
        let described = address
            .is_international()
            .then(|| plan::describe(&address.value))
            .flatten();
        let tables = self.tables.read();
        let found = Resolved::of(&tables, &address.value);
        let row = found.row();
        let matched = found.ported.or(found.range).map(|f| f.prefix_digits);
        let mcc_mnc = row.and_then(NetworkRow::mcc_mnc);
        let range = found.range.and_then(|f| f.network.mcc_mnc());
        Lookup {
            operator: found.operator(&tables).map(str::to_owned),
            matched: matched
                .and_then(|n| address.value.get(..usize::from(n)))
                .map(str::to_owned),
            range_mcc_mnc: range.filter(|range| mcc_mnc.as_ref() != Some(range)),
            mcc_mnc,
            possible: described.as_ref().is_some_and(|d| d.possible),
            valid: described.as_ref().is_some_and(|d| d.valid),
            kind: described.as_ref().and_then(|d| d.kind),
            national: described
                .as_ref()
                .map_or_else(|| address.to_string(), |d| d.national.clone()),
            international: described.map_or_else(|| address.to_string(), |d| d.international),
            utc_offset_minutes: self.utc_offset_minutes(&address, &network, now),
            network,
            address,
        }
    }

    fn country(&self, digits: &str) -> Option<[u8; 2]> {
        // The length belongs to the range: plans tell old and new numbers apart by it.
        let range = digits
            .get(..RANGE_DIGITS)
            .and_then(|d| d.parse::<u64>().ok());
        let Some(range) = range.map(|r| r * 100 + digits.len() as u64) else {
            return plan::country(digits);
        };
        if let Some(known) = self.countries.read().get(&range) {
            return *known;
        }
        let found = plan::country(digits);
        let mut countries = self.countries.write();
        if countries.len() >= COUNTRIES_MAX {
            countries.clear();
        }
        countries.insert(range, found);
        found
    }

    /// Minutes to add to UTC for the recipient's wall clock at `at`.
    pub fn utc_offset_minutes(
        &self,
        address: &Address,
        network: &Network,
        at: Timestamp,
    ) -> Option<i16> {
        let zone = self
            .overrides
            .iter()
            .find(|(prefix, _)| address.value.starts_with(prefix.as_str()))
            .map(|(_, zone)| zone)
            .or_else(|| {
                let country = network.country?;
                let index = ZONES.binary_search_by(|(c, _)| (*c).cmp(&country)).ok()?;
                self.zones[index].as_ref()
            })?;
        let instant = jiff::Timestamp::from_millisecond(i64::try_from(at.millis()).ok()?).ok()?;
        i16::try_from(zone.to_offset(instant).seconds() / 60).ok()
    }
}

/// What the tables say of one number.
#[derive(Clone, Copy)]
struct Resolved<'a> {
    ported: Option<table::Found<'a>>,
    range: Option<table::Found<'a>>,
}

impl<'a> Resolved<'a> {
    fn of(tables: &'a Tables, digits: &str) -> Resolved<'a> {
        Resolved {
            ported: tables.ported.longest(digits),
            range: tables.networks.longest(digits),
        }
    }

    fn row(&self) -> Option<&'a NetworkRow> {
        self.ported.or(self.range).map(|f| f.network)
    }

    fn source(&self) -> Option<NetworkSource> {
        if self.ported.is_some() {
            return Some(NetworkSource::Ported);
        }
        self.range.map(|_| NetworkSource::Table)
    }

    /// A ported number stays in its country.
    fn country(&self) -> Option<[u8; 2]> {
        self.range.and_then(|f| f.network.country)
    }

    /// The row's own name, else what the table of networks calls the same codes.
    fn operator(&self, tables: &'a Tables) -> Option<&'a str> {
        let row = self.row()?;
        if !row.operator.is_empty() {
            return Some(&row.operator);
        }
        tables.networks.operator_of(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers() -> Numbers {
        Numbers::new([("1212".to_owned(), "America/New_York".to_owned())])
            .unwrap_or_else(|e| panic!("{e:?}"))
    }

    fn offset(number: &str, at: u64) -> Option<i16> {
        let numbers = numbers();
        let address = Address::international(number).unwrap();
        let network = numbers.network(&address);
        numbers.utc_offset_minutes(&address, &network, Timestamp(at))
    }

    const JANUARY: u64 = 1_768_478_400_000; // 2026-01-15T12:00:00Z
    const JULY: u64 = 1_784_116_800_000; // 2026-07-15T12:00:00Z

    #[test]
    fn the_wall_clock_follows_daylight_saving() {
        assert_eq!(offset("+447400123456", JANUARY), Some(0));
        assert_eq!(offset("+447400123456", JULY), Some(60));
        assert_eq!(offset("+919876543210", JULY), Some(330));
    }

    #[test]
    fn a_number_of_no_known_range_still_has_a_country() {
        assert_eq!(offset("+447700900014", JULY), Some(60));
    }

    #[test]
    fn a_country_with_several_clocks_needs_the_operators_word() {
        assert_eq!(offset("+13105550143", JANUARY), None);
        assert_eq!(offset("+12125550143", JANUARY), Some(-300));
    }

    fn with_tables() -> Numbers {
        let numbers = numbers();
        let networks =
            "44,GB,,,\n447700,GB,234,10,O2\n447800,GB,234,30,EE\n3906698,VA,222,01,TIM\n";
        let ported = "447700900123,234,30\n447700900124,234,20,Three\n";
        numbers.set_tables(Tables {
            networks: NetworkTable::parse(networks.as_bytes(), Columns::Networks).unwrap(),
            ported: NetworkTable::parse(ported.as_bytes(), Columns::Ported).unwrap(),
        });
        numbers
    }

    #[track_caller]
    fn network(number: &str, expect: (&str, Option<(u16, u16)>, NetworkSource)) {
        let network = with_tables().network(&Address::international(number).unwrap());
        let country = network
            .country
            .map(|c| String::from_utf8(c.to_vec()).unwrap());
        assert_eq!(
            (
                country.as_deref().unwrap_or(""),
                network.mcc.zip(network.mnc),
                network.source
            ),
            expect
        );
        assert_eq!(network.ported, expect.2 == NetworkSource::Ported);
    }

    #[test]
    fn portability_comes_before_the_range_and_that_before_the_plan() {
        network(
            "+447700900123",
            ("GB", Some((234, 30)), NetworkSource::Ported),
        );
        network(
            "+447700900999",
            ("GB", Some((234, 10)), NetworkSource::Table),
        );
        network("+442079460123", ("GB", None, NetworkSource::Table));
        network(
            "+390669812345",
            ("VA", Some((222, 1)), NetworkSource::Table),
        );
        network("+33612345678", ("FR", None, NetworkSource::Plan));
        network("+2101234567", ("", None, NetworkSource::Unknown));
    }

    #[test]
    fn a_lookup_tells_all() {
        let numbers = with_tables();
        let of = |n: &str| numbers.lookup(Address::international(n).unwrap(), Timestamp(JULY));
        let ported = of("+447700900123");
        assert_eq!(ported.mcc_mnc.as_deref(), Some("234-30"));
        assert_eq!(ported.operator.as_deref(), Some("EE"), "by the codes");
        assert_eq!(ported.range_mcc_mnc.as_deref(), Some("234-10"));
        assert_eq!(ported.matched.as_deref(), Some("447700900123"));
        assert_eq!(ported.utc_offset_minutes, Some(60));
        assert!(ported.possible && !ported.valid, "a number for films");
        let mobile = of("+447400123456");
        assert_eq!((mobile.valid, mobile.kind), (true, Some("mobile")));
        assert_eq!(mobile.national, "07400 123456");
        assert_eq!(mobile.international, "+44 7400 123456");
    }

    #[test]
    fn the_submissions_region_comes_before_the_accounts_and_that_before_the_servers() {
        let region = |text: &str| Region::parse(text).unwrap();
        let numbers = numbers().with_settings(Settings {
            rules: Rules {
                region: Some(region("GB")),
                ..Rules::default()
            },
            regions: HashMap::from([(AccountId::from("fr"), region("FR"))]),
        });
        let read = |account: &str, own: Option<&str>| {
            let rules = numbers.rules(&AccountId::from(account), own.map(region));
            numbers.recipient("0612345678", &rules).map(|a| a.value)
        };
        assert_eq!(read("fr", None).as_deref(), Ok("33612345678"));
        assert_eq!(read("fr", Some("nl")).as_deref(), Ok("31612345678"));
        assert_eq!(read("acme", None).as_deref(), Ok("44612345678"));
    }

    #[test]
    fn files_are_read_all_or_none() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let files = TableFiles {
            networks: Some(write("networks.tsv", "44\tGB\t234\t10\tO2\n")),
            ported: Some(write("ported.csv", "447700900123,234\n")),
        };
        let error = files.read().unwrap_err();
        assert!(
            error.contains("ported.csv: line 1: has no mcc and mnc"),
            "{error}"
        );
        write("ported.csv", "447700900123,234,30\n");
        let tables = files.read().unwrap();
        assert_eq!((tables.networks.len(), tables.ported.len()), (1, 1));
    }
}

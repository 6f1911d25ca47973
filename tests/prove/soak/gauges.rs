//! What a server uses while days pass: its memory, descriptors and threads, the disk, and the tables that it
//! tells of in `/metrics`; and when that is flat.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Tables by their metric, with how much they may differ for no reason.
const TABLES: &[(&str, f64)] = &[
    ("heliograph_messages_live", 200.0),
    ("heliograph_receipts_awaited", 200.0),
    ("heliograph_receipts_orphaned", 50.0),
    ("heliograph_webhooks_owed", 200.0),
    ("heliograph_webhooks_dead", 10.0),
    ("heliograph_http_connections", 8.0),
    ("heliograph_inbound_incomplete", 10.0),
];

/// One look.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Days since the first midnight.
    pub at: f64,
    pub values: BTreeMap<&'static str, f64>,
}

/// Of a process and its folder; none where the process is gone.
pub fn look(pid: u32, data: &Path) -> Option<BTreeMap<&'static str, f64>> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    };
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(BTreeMap::from([
        (MEMORY, field("VmRSS:")? / 1024.0),
        (THREADS, field("Threads:")?),
        (DESCRIPTORS, descriptors as f64),
        (DISK, octets_of(data) as f64 / f64::from(1 << 20)),
    ]))
}

pub const MEMORY: &str = "memory (MiB)";
pub const DESCRIPTORS: &str = "descriptors";
pub const THREADS: &str = "threads";
pub const DISK: &str = "disk (MiB)";
pub const LINES: &str = "lines of /metrics";
/// Told beside the others: where in a day something was left out.
pub const LEFT_OUT: &str = "left out";

/// What the files of a folder take of the disk.
fn octets_of(folder: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let octets = entries.flatten().map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => octets_of(&entry.path()),
        Ok(found) => found.blocks() * 512,
        // It has just been removed.
        Err(_) => 0,
    });
    octets.sum()
}

/// The tables of one page of `/metrics`.
pub fn tables(page: &str) -> BTreeMap<&'static str, f64> {
    let lines: Vec<&str> = page.lines().filter(|l| !l.starts_with('#')).collect();
    let mut values = BTreeMap::from([(LINES, lines.len() as f64)]);
    for (name, _) in TABLES {
        let of_it = lines.iter().filter(|l| {
            let rest = l.strip_prefix(name);
            rest.is_some_and(|r| r.starts_with([' ', '{']))
        });
        let numbers = of_it.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok());
        values.insert(*name, numbers.sum());
    }
    values
}

/// What is kept goes by whole days: a quarter has one at least. For growth to be told, two: orphan receipts are kept
/// for three days, and the room of a day that was dropped is first used anew on the third.
pub const DAYS: u32 = 8;
pub const DAYS_SHORT: u32 = 4;

/// Judges the last quarter by the second: the first fills what is then full. Each quarter is whole days with the
/// same events, so that an hour is held against the same hour. Medians say what is held all day; the most that was
/// held is judged where it may be a matter of hours. Growth within a limit is allowed: the disk is given back in
/// pieces of segments, and an allocator keeps pages.
pub fn judge(samples: &[Sample], days: u32) -> (Vec<String>, Vec<String>) {
    let quarter = |n: u32| {
        let from = f64::from(days) / 4.0 * f64::from(n - 1);
        let to = from + f64::from(days) / 4.0;
        move |s: &&Sample| (from..to).contains(&s.at)
    };
    let of = |n: u32, name: &str| {
        let values = samples.iter().filter(quarter(n));
        let mut values: Vec<f64> = values.filter_map(|s| s.values.get(name).copied()).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let (mut faults, mut notes) = (Vec::new(), Vec::new());
    let mut hold =
        |name: &str, what: &str, before: Option<f64>, after: Option<f64>, limit: (f64, f64)| {
            let (Some(before), Some(after)) = (before, after) else {
                faults.push(format!("{name} was not looked at"));
                return;
            };
            if after > before * limit.0 + limit.1 {
                faults.push(format!(
                    "{name} grew from {before:.0} to {after:.0} ({what})"
                ));
            }
            if !name.starts_with("heliograph") {
                notes.push(format!("{name} {before:.0} then {after:.0}"));
            }
        };
    let median = |v: &[f64]| v.get(v.len() / 2).copied();
    let most = |v: &[f64]| v.last().copied();
    for (name, share, more) in [
        (MEMORY, 1.15, 16.0),
        (DESCRIPTORS, 1.0, 8.0),
        (THREADS, 1.0, 4.0),
        (LINES, 1.0, 8.0),
    ] {
        let (before, after) = (of(2, name), of(4, name));
        hold(
            name,
            "median of days",
            median(&before),
            median(&after),
            (share, more),
        );
    }
    let (before, after) = (of(2, DISK), of(4, DISK));
    hold(
        DISK,
        "most of days",
        most(&before),
        most(&after),
        (1.15, 16.0),
    );
    for (name, noise) in TABLES {
        let (before, after) = (of(2, name), of(4, name));
        hold(
            name,
            "median of days",
            median(&before),
            median(&after),
            (1.25, *noise),
        );
    }
    (faults, notes)
}

/// All samples, a line each, for who wants to see a curve.
pub fn table(samples: &[Sample]) -> String {
    let names: Vec<&str> = samples
        .last()
        .map_or(Vec::new(), |s| s.values.keys().copied().collect());
    let mut out = format!("day\t{}\n", names.join("\t"));
    for sample in samples {
        let values = names.iter().map(|n| sample.values.get(n).copied());
        let values: Vec<String> = values
            .map(|v| v.map_or(String::new(), |v| format!("{v:.1}")))
            .collect();
        out.push_str(&format!("{:.3}\t{}\n", sample.at, values.join("\t")));
    }
    out
}

/// How often it is looked.
pub fn interval(day: Duration) -> Duration {
    (day / 240).max(Duration::from_millis(50))
}

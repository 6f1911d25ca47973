//! The log of administrative acts: files of JSON lines, each with the hash of the one before, so that
//! whoever changes, removes or adds a line in the middle is found out. Synced before an act is answered,
//! which is fine because acts are rare. Knows lines and hashes, not what an act means. Never holds a
//! text or a full number: its callers see to that.
//!
//! A full file is kept under its number (`audit-000001.jsonl`) and the chain goes on in a new one. Where there
//! are too many the oldest goes, and a line of the chain says where it ended: the beginning is as little to be
//! cut off as the middle.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

/// Octets of one field; longer ones are cut.
const FIELD_MAX: usize = 256;
/// Octets of one line: all fields at their longest, escaped.
const LINE_MAX: usize = 16 << 10;
/// What is read at a time, from the end backwards.
const READ: usize = 64 << 10;
/// What the first line has in the place of a hash.
const BEGINNING: &str = "";
const HASH_FIELD: &str = ",\"hash\":\"";
/// Files at most, the one that is written to among them.
const FILES: u64 = 8;
/// The act that says which entries are gone: their last one is its subject, and that one's hash its detail.
const DROPPED: &str = "audit.dropped";
/// A cursor is the number of a file and octets of it, which take so many bits.
const OFFSET_BITS: u32 = 40;

/// Who did what, and how it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Act {
    /// RFC 3339.
    pub at: String,
    /// An account with its key's fingerprint, or what of the server itself acted.
    pub by: String,
    /// Where it came from, empty where from within.
    pub from: String,
    /// A stable name.
    pub action: String,
    pub subject: String,
    pub detail: String,
    /// `done`, or the code of the refusal.
    pub outcome: String,
}

/// A line without its own hash.
#[derive(Serialize, Deserialize)]
struct Line {
    sequence: u64,
    at: String,
    by: String,
    from: String,
    action: String,
    subject: String,
    detail: String,
    outcome: String,
    previous: String,
}

/// The log of a running server. A clone is the same one.
#[derive(Clone)]
pub struct AuditLog(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Of one file.
    octets_max: u64,
    head: Mutex<Head>,
    failures: AtomicU64,
}

struct Head {
    file: File,
    sequence: u64,
    hash: String,
}

/// How far a log is sound.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sound {
    pub entries: u64,
    /// The number of the first; those before it went in their time.
    pub first: u64,
    /// Of the last entry: write it down elsewhere, and a log that was cut short is found out too.
    pub hash: String,
}

/// The first line that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    Io(String),
    Entry {
        file: String,
        line: u64,
        why: &'static str,
    },
    /// The log begins with this entry, and no other says that those before it went in their time.
    Beginning(u64),
}

impl std::fmt::Display for Unsound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsound::Io(why) => f.write_str(why),
            Unsound::Entry { file, line, why } => {
                write!(f, "{file}: line {line} does not fit: {why}")
            }
            Unsound::Beginning(first) => write!(
                f,
                "it begins with entry {first}, and no entry says that those before it went in their time"
            ),
        }
    }
}

impl AuditLog {
    /// Opens or begins the log, which takes `octets_max` of the disk at most. What a crash left of a line, whose act
    /// was never answered, goes.
    pub fn open(path: &Path, octets_max: u64) -> io::Result<AuditLog> {
        let mut file = begun(path)?;
        let length = file.metadata()?.len();
        let whole = end_of_last_line(&mut file, length)?;
        if whole < length {
            tracing::warn!(octets = length - whole, "the audit log ended within a line");
            file.set_len(whole)?;
        }
        let mut last = last_line(path, whole)?;
        if last.is_none()
            && let Some(full) = full_files(path)?.into_values().next_back()
        {
            let length = std::fs::metadata(&full)?.len();
            last = last_line(&full, length)?;
        }
        let (sequence, hash) = match last {
            None => (0, BEGINNING.to_owned()),
            Some(line) => end_of(&line).unwrap_or_else(|| {
                tracing::error!(
                    "the audit log's last line cannot be read; the chain begins anew behind it"
                );
                (0, BEGINNING.to_owned())
            }),
        };
        file.sync_all()?;
        sync_folder(path)?;
        Ok(AuditLog(Arc::new(Inner {
            path: path.to_owned(),
            octets_max: octets_max / FILES,
            head: Mutex::new(Head {
                file,
                sequence,
                hash,
            }),
            failures: AtomicU64::new(0),
        })))
    }

    /// Durable on return. A log that cannot be written to is said, counted, and stops nobody: the act
    /// has been done already.
    pub async fn append(&self, act: Act) {
        let log = self.clone();
        let written = tokio::task::spawn_blocking(move || log.write(act)).await;
        let written = written.unwrap_or_else(|e| Err(io::Error::other(e)));
        if let Err(error) = written {
            self.0.failures.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, "an administrative act is not in the audit log");
        }
    }

    fn write(&self, act: Act) -> io::Result<()> {
        let mut head = self.0.head.lock();
        if head.file.metadata()?.len() >= self.0.octets_max
            && let Err(error) = self.next_file(&mut head, &act.at)
        {
            tracing::error!(%error, "the audit log goes on in a file that is full");
        }
        head.add(act)
    }

    /// Keeps the file under its number and begins another one; the oldest go where there are too many.
    fn next_file(&self, head: &mut Head, at: &str) -> io::Result<()> {
        let path = &self.0.path;
        let mut full = full_files(path)?;
        let number = full.keys().next_back().map_or(1, |n| n + 1);
        let name = full_name(path, number);
        std::fs::rename(path, &name)?;
        head.file = begun(path)?;
        sync_folder(path)?;
        full.insert(number, name);
        let excess = (full.len() as u64).saturating_sub(FILES - 1);
        let oldest: Vec<PathBuf> = full
            .into_values()
            .take(usize::try_from(excess).unwrap_or(0))
            .collect();
        let Some(last) = oldest.last() else {
            return Ok(());
        };
        let end = last_line(last, std::fs::metadata(last)?.len())?;
        if let Some((sequence, hash)) = end.as_deref().and_then(end_of) {
            // First it is said, then it is done.
            head.add(Act {
                at: at.to_owned(),
                by: "server".to_owned(),
                action: DROPPED.to_owned(),
                subject: sequence.to_string(),
                detail: hash,
                outcome: "done".to_owned(),
                ..Act::default()
            })?;
        }
        oldest.iter().try_for_each(std::fs::remove_file)?;
        sync_folder(path)
    }

    /// Entries as they lie there, newest first, at most `limit`, from `cursor` on, which an earlier
    /// answer gave.
    pub async fn list(
        &self,
        cursor: Option<u64>,
        limit: usize,
    ) -> io::Result<(Vec<String>, Option<u64>)> {
        let log = self.clone();
        let list = move || {
            // Files change their names meanwhile otherwise.
            let _head = log.0.head.lock();
            let mut files = full_files(&log.0.path)?;
            let last = files.keys().next_back().map_or(1, |n| n + 1);
            files.insert(last, log.0.path.clone());
            listed(&files, cursor, limit)
        };
        let listed = tokio::task::spawn_blocking(list).await;
        listed.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}

impl Head {
    fn add(&mut self, act: Act) -> io::Result<()> {
        let line = Line {
            sequence: self.sequence + 1,
            at: act.at,
            by: cut(act.by),
            from: cut(act.from),
            action: cut(act.action),
            subject: cut(act.subject),
            detail: cut(act.detail),
            outcome: cut(act.outcome),
            previous: self.hash.clone(),
        };
        let text = serde_json::to_string(&line)?;
        let hash = hash_of(&text);
        let open = text.strip_suffix('}').unwrap_or(&text);
        let length = self.file.metadata()?.len();
        let written = writeln!(self.file, "{open}{HASH_FIELD}{hash}\"}}");
        if let Err(error) = written.and_then(|()| self.file.sync_data()) {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(length);
            return Err(error);
        }
        self.sequence = line.sequence;
        self.hash = hash;
        Ok(())
    }
}

/// Follows a log from its first line to its last, through the full files beside `path` and that one.
pub fn verify(path: &Path) -> Result<Sound, Unsound> {
    let failed = |e: io::Error| Unsound::Io(format!("{}: {e}", path.display()));
    let mut chain = Chain::default();
    for file in full_files(path).map_err(failed)?.values() {
        chain.follow(file)?;
    }
    chain.follow(path)?;
    chain.sound()
}

/// What has been followed.
#[derive(Default)]
struct Chain {
    /// The number of the first entry, and what it says of the one before.
    first: Option<(u64, String)>,
    sequence: u64,
    hash: String,
    /// Some entry says that the log begins where it does.
    begins: bool,
}

impl Chain {
    fn follow(&mut self, path: &Path) -> Result<(), Unsound> {
        let failed = |e: io::Error| Unsound::Io(format!("{}: {e}", path.display()));
        let mut reader = BufReader::new(File::open(path).map_err(failed)?);
        for number in 1.. {
            let mut line = Vec::new();
            let mut bounded = reader.by_ref().take(LINE_MAX as u64 + 1);
            if bounded.read_until(b'\n', &mut line).map_err(failed)? == 0 {
                break;
            }
            self.take(&line).map_err(|why| Unsound::Entry {
                file: path.display().to_string(),
                line: number,
                why,
            })?;
        }
        Ok(())
    }

    fn take(&mut self, line: &[u8]) -> Result<(), &'static str> {
        let text = line.strip_suffix(b"\n").ok_or("it has no end")?;
        let text = std::str::from_utf8(text).map_err(|_| "it is no text")?;
        let (content, hash) = split_hash(text).ok_or("it has no hash")?;
        if hash_of(&content) != hash {
            return Err("its hash is not that of its content: it was changed");
        }
        let entry: Line = serde_json::from_str(&content).map_err(|_| "it is no entry")?;
        match &self.first {
            None => self.first = Some((entry.sequence, entry.previous)),
            Some(_) if entry.previous != self.hash || entry.sequence != self.sequence + 1 => {
                return Err(
                    "it does not follow the one before: lines were removed, added or moved",
                );
            }
            Some((first, previous)) => {
                self.begins |= entry.action == DROPPED
                    && entry.detail == *previous
                    && entry.subject.parse() == Ok(first - 1);
            }
        }
        self.sequence = entry.sequence;
        hash.clone_into(&mut self.hash);
        Ok(())
    }

    fn sound(self) -> Result<Sound, Unsound> {
        let (first, previous) = self.first.unwrap_or((1, BEGINNING.to_owned()));
        if !self.begins && (first != 1 || previous != BEGINNING) {
            return Err(Unsound::Beginning(first));
        }
        Ok(Sound {
            entries: (self.sequence + 1).saturating_sub(first),
            first,
            hash: self.hash,
        })
    }
}

fn begun(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).read(true).append(true).mode(0o600);
    options.open(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn full_name(path: &Path, number: u64) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!("{stem}-{number:06}.jsonl"))
}

/// The full files beside `path`, by their numbers.
fn full_files(path: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let number = |name: &str| {
        let digits = name.strip_prefix(&*stem)?.strip_prefix('-')?;
        digits.strip_suffix(".jsonl")?.parse::<u64>().ok()
    };
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder_of(path))? {
        let entry = entry?;
        if let Some(number) = entry.file_name().to_str().and_then(number) {
            files.insert(number, entry.path());
        }
    }
    Ok(files)
}

fn hash_of(content: &str) -> String {
    let hash = digest(&SHA256, content.as_bytes());
    hash.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// A line's content as it was hashed, and its hash.
fn split_hash(line: &str) -> Option<(String, &str)> {
    let (content, rest) = line.rsplit_once(HASH_FIELD)?;
    Some((format!("{content}}}"), rest.strip_suffix("\"}")?))
}

/// The number and the hash of an entry.
fn end_of(line: &str) -> Option<(u64, String)> {
    let entry: Line = serde_json::from_str(line).ok()?;
    Some((entry.sequence, split_hash(line)?.1.to_owned()))
}

fn cut(mut text: String) -> String {
    if text.len() > FIELD_MAX {
        let end = (0..=FIELD_MAX).rev().find(|n| text.is_char_boundary(*n));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

/// Where the last whole line ends.
fn end_of_last_line(file: &mut File, length: u64) -> io::Result<u64> {
    let start = length.saturating_sub(LINE_MAX as u64);
    file.seek(SeekFrom::Start(start))?;
    let mut end = Vec::new();
    file.take(LINE_MAX as u64).read_to_end(&mut end)?;
    let newline = end.iter().rposition(|b| *b == b'\n');
    Ok(newline.map_or(start, |at| start + at as u64 + 1))
}

fn last_line(path: &Path, end: u64) -> io::Result<Option<String>> {
    Ok(before(path, end, 1)?.0.pop())
}

/// Lines of all files, the last one first, from a cursor on; and the cursor of those before them.
fn listed(
    files: &BTreeMap<u64, PathBuf>,
    cursor: Option<u64>,
    limit: usize,
) -> io::Result<(Vec<String>, Option<u64>)> {
    let (from, at) = match cursor {
        None => (u64::MAX, u64::MAX),
        Some(cursor) => (cursor >> OFFSET_BITS, cursor & ((1 << OFFSET_BITS) - 1)),
    };
    let mut lines = Vec::new();
    let mut older = files.range(..=from).rev().peekable();
    while let Some((number, path)) = older.next() {
        let length = std::fs::metadata(path)?.len();
        let end = if *number == from {
            at.min(length)
        } else {
            length
        };
        let (mut some, rest) = before(path, end, limit - lines.len())?;
        lines.append(&mut some);
        let rest = rest.map(|offset| (*number, offset));
        let next = rest.or_else(|| older.peek().map(|(n, _)| (**n, (1 << OFFSET_BITS) - 1)));
        if lines.len() >= limit || next.is_none() {
            return Ok((lines, next.map(|(n, offset)| n << OFFSET_BITS | offset)));
        }
    }
    Ok((lines, None))
}

/// Lines that end before `end`, the last one first, and where those before them end.
fn before(path: &Path, end: u64, limit: usize) -> io::Result<(Vec<String>, Option<u64>)> {
    let mut file = File::open(path)?;
    let (mut start, mut tail) = (end, Vec::new());
    let max = LINE_MAX.saturating_mul(limit.saturating_add(1));
    // One more newline than lines: the end of the line before them.
    while start > 0 && tail.len() < max && tail.iter().filter(|b| **b == b'\n').count() <= limit {
        let size = start.min(READ as u64);
        start -= size;
        file.seek(SeekFrom::Start(start))?;
        let mut piece = Vec::new();
        Read::by_ref(&mut file).take(size).read_to_end(&mut piece)?;
        piece.append(&mut tail);
        tail = piece;
    }
    let mut lines = Vec::new();
    let mut rest = tail.strip_suffix(b"\n").unwrap_or(&tail);
    while lines.len() < limit && !rest.is_empty() {
        let newline = rest.iter().rposition(|b| *b == b'\n');
        if newline.is_none() && start > 0 {
            break;
        }
        let line = &rest[newline.map_or(0, |at| at + 1)..];
        lines.push(String::from_utf8_lossy(line).into_owned());
        rest = &rest[..newline.unwrap_or(0)];
    }
    // The newline that `rest` was cut at.
    let next = start
        + if rest.is_empty() {
            0
        } else {
            rest.len() as u64 + 1
        };
    Ok((lines, (next > 0).then_some(next)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn act(n: usize) -> Act {
        Act {
            at: "2026-01-01T00:00:00.000Z".to_owned(),
            by: "acme (key 01020304)".to_owned(),
            action: "policy.apply".to_owned(),
            subject: format!("set {n}"),
            detail: "\"quoted\",\"hash\":\"x\"}\nline".to_owned(),
            outcome: "done".to_owned(),
            ..Act::default()
        }
    }

    fn log(folder: &Path, count: usize) -> PathBuf {
        let path = folder.join("audit.jsonl");
        // Each opening goes on where the one before ended.
        for n in 1..=count {
            opened(&path).write(act(n)).unwrap();
        }
        path
    }

    fn opened(path: &Path) -> AuditLog {
        AuditLog::open(path, 1 << 30).unwrap()
    }

    #[test]
    fn a_log_is_sound_until_somebody_touches_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = log(folder.path(), 5);
        assert_eq!(verify(&path).unwrap().entries, 5);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let broken = |lines: Vec<String>| {
            std::fs::write(&path, lines.join("\n") + "\n").unwrap();
            match verify(&path) {
                Err(Unsound::Entry { line, .. }) => line,
                other => panic!("{other:?}"),
            }
        };
        let mut changed: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
        changed[2] = changed[2].replace("set 3", "set 9");
        assert_eq!(broken(changed), 3);
        let without = |n: usize| {
            let mut all: Vec<String> = lines.iter().map(|l| (*l).to_owned()).collect();
            all.remove(n);
            all
        };
        let cut = lines[1..].join("\n") + "\n";
        std::fs::write(&path, cut).unwrap();
        assert_eq!(verify(&path), Err(Unsound::Beginning(2)));
        assert_eq!(broken(without(3)), 4);
        let mut moved = without(4);
        moved.swap(1, 2);
        assert_eq!(broken(moved), 2);
        let mut doubled = without(4);
        doubled.insert(1, doubled[0].clone());
        assert_eq!(broken(doubled), 2);
        std::fs::write(&path, &text[..text.len() - 5]).unwrap();
        assert!(matches!(verify(&path), Err(Unsound::Entry { line: 5, .. })));
    }

    #[test]
    fn what_a_crash_left_of_a_line_goes_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = log(folder.path(), 2);
        let mut text = std::fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"sequence\":3,\"at\":\"2026");
        std::fs::write(&path, text).unwrap();
        opened(&path).write(act(3)).unwrap();
        assert_eq!(verify(&path).unwrap().entries, 3);
    }

    #[tokio::test]
    async fn entries_are_listed_newest_first_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let count = 400;
        let path = folder.path().join("audit.jsonl");
        // The last hundred lines are in the file that is written to, the others in full ones.
        let log = AuditLog::open(&path, FILES * 100_000).unwrap();
        assert_eq!(log.list(None, 10).await.unwrap(), (Vec::new(), None));
        for n in 1..=count {
            let mut act = act(n);
            act.detail = "x".repeat(n * 2);
            log.write(act).unwrap();
        }
        let (mut seen, mut cursor) = (Vec::new(), None);
        loop {
            let (lines, next) = log.list(cursor, 7).await.unwrap();
            for line in lines {
                let value: serde_json::Value = serde_json::from_str(&line).unwrap();
                seen.push(value["sequence"].as_u64().unwrap());
            }
            cursor = next;
            if cursor.is_none() {
                break;
            }
        }
        let expected: Vec<u64> = (1..=count as u64).rev().collect();
        assert_eq!(seen, expected);
        assert_eq!(verify(&path).unwrap().entries, count as u64);
    }

    /// As many files as there may be, and what went in its time.
    fn rotated(folder: &Path) -> PathBuf {
        let path = folder.join("audit.jsonl");
        for n in 1..=100 {
            // Each opening finds the end wherever it is.
            let log = AuditLog::open(&path, FILES * 2_000).unwrap();
            log.write(act(n)).unwrap();
        }
        path
    }

    #[test]
    fn full_files_are_kept_and_the_oldest_go_and_the_chain_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated(folder.path());
        let full = full_files(&path).unwrap();
        assert_eq!(full.len() as u64, FILES - 1);
        let sound = verify(&path).unwrap();
        assert!(sound.first > 1, "{sound:?}");
        let dropped = std::fs::read_to_string(&path).unwrap() + &all(&full);
        let dropped = dropped.matches(DROPPED).count() as u64;
        let written = sound.first - 1 + sound.entries;
        assert!(written > 100 && dropped > 0, "{written}, {dropped}");
        for file in full.values() {
            let length = std::fs::metadata(file).unwrap().len();
            assert!((2_000..4_000).contains(&length), "{length}");
        }
    }

    fn all(files: &BTreeMap<u64, PathBuf>) -> String {
        let texts = files.values().map(|f| std::fs::read_to_string(f).unwrap());
        texts.collect()
    }

    #[test]
    fn a_log_of_several_files_is_found_out_wherever_it_was_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated(folder.path());
        let full = full_files(&path).unwrap();
        for (n, file) in &full {
            let text = std::fs::read_to_string(file).unwrap();
            std::fs::remove_file(file).unwrap();
            assert!(verify(&path).is_err(), "without file {n}");
            let whole: Vec<&str> = text.lines().collect();
            for without in 0..whole.len() {
                let mut some = whole.clone();
                some.remove(without);
                std::fs::write(file, some.join("\n") + "\n").unwrap();
                assert!(verify(&path).is_err(), "without line {without} of file {n}");
            }
            std::fs::write(file, &text).unwrap();
            assert!(verify(&path).is_ok());
        }
    }

    #[test]
    fn a_crash_between_two_files_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = rotated(folder.path());
        let before = verify(&path).unwrap();
        // It was renamed, and no other was begun; or begun and not written to.
        std::fs::rename(&path, full_name(&path, 999)).unwrap();
        for _ in 0..2 {
            let log = AuditLog::open(&path, 1 << 30).unwrap();
            assert_eq!(verify(&path).unwrap(), before);
            drop(log);
        }
        opened(&path).write(act(101)).unwrap();
        assert_eq!(verify(&path).unwrap().entries, before.entries + 1);
    }
}

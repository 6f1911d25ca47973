//! The log of administrative acts: a file of JSON lines, each with the hash of the one before, so that
//! whoever changes, removes or adds a line in the middle is found out. Synced before an act is answered,
//! which is fine because acts are rare. Knows lines and hashes, not what an act means. Never holds a
//! text or a full number: its callers see to that.

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
    /// Of the last entry: write it down elsewhere, and a log that was cut short is found out too.
    pub hash: String,
}

/// The first line that does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unsound {
    Io(String),
    Entry { line: u64, why: &'static str },
}

impl std::fmt::Display for Unsound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Unsound::Io(why) => f.write_str(why),
            Unsound::Entry { line, why } => write!(f, "line {line} does not fit: {why}"),
        }
    }
}

impl AuditLog {
    /// Opens or begins the log. What a crash left of a line, whose act was never answered, goes.
    pub fn open(path: &Path) -> io::Result<AuditLog> {
        let mut options = OpenOptions::new();
        options.create(true).read(true).append(true).mode(0o600);
        let mut file = options.open(path)?;
        let length = file.metadata()?.len();
        let whole = end_of_last_line(&mut file, length)?;
        if whole < length {
            tracing::warn!(octets = length - whole, "the audit log ended within a line");
            file.set_len(whole)?;
        }
        let (last, _) = before(path, whole, 1)?;
        let (sequence, hash) = match last.first() {
            None => (0, BEGINNING.to_owned()),
            Some(line) => {
                let sequence = serde_json::from_str::<Line>(line).map(|l| l.sequence);
                let hash = split_hash(line).map(|(_, hash)| hash.to_owned());
                match (sequence, hash) {
                    (Ok(sequence), Some(hash)) => (sequence, hash),
                    _ => {
                        tracing::error!(
                            "the audit log's last line cannot be read; the chain begins anew behind it"
                        );
                        (0, BEGINNING.to_owned())
                    }
                }
            }
        };
        file.sync_all()?;
        if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            File::open(folder)?.sync_all()?;
        }
        Ok(AuditLog(Arc::new(Inner {
            path: path.to_owned(),
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
        let line = Line {
            sequence: head.sequence + 1,
            at: act.at,
            by: cut(act.by),
            from: cut(act.from),
            action: cut(act.action),
            subject: cut(act.subject),
            detail: cut(act.detail),
            outcome: cut(act.outcome),
            previous: head.hash.clone(),
        };
        let text = serde_json::to_string(&line)?;
        let hash = hash_of(&text);
        let open = text.strip_suffix('}').unwrap_or(&text);
        let length = head.file.metadata()?.len();
        let written = writeln!(head.file, "{open}{HASH_FIELD}{hash}\"}}");
        if let Err(error) = written.and_then(|()| head.file.sync_data()) {
            // Half a line would spoil the next one.
            let _ = head.file.set_len(length);
            return Err(error);
        }
        head.sequence = line.sequence;
        head.hash = hash;
        Ok(())
    }

    /// Entries as they lie there, newest first, at most `limit`, from `cursor` on, which an earlier
    /// answer gave.
    pub async fn list(
        &self,
        cursor: Option<u64>,
        limit: usize,
    ) -> io::Result<(Vec<String>, Option<u64>)> {
        let path = self.0.path.clone();
        let list = move || {
            let length = std::fs::metadata(&path)?.len();
            before(&path, cursor.unwrap_or(length).min(length), limit)
        };
        let listed = tokio::task::spawn_blocking(list).await;
        listed.unwrap_or_else(|e| Err(io::Error::other(e)))
    }

    pub fn failures(&self) -> u64 {
        self.0.failures.load(Ordering::Relaxed)
    }
}

/// Follows a log from its first line to its last.
pub fn verify(path: &Path) -> Result<Sound, Unsound> {
    let failed = |e: io::Error| Unsound::Io(format!("{}: {e}", path.display()));
    let mut reader = BufReader::new(File::open(path).map_err(failed)?);
    let mut sound = Sound {
        entries: 0,
        hash: BEGINNING.to_owned(),
    };
    loop {
        let mut line = Vec::new();
        let mut bounded = reader.by_ref().take(LINE_MAX as u64 + 1);
        if bounded.read_until(b'\n', &mut line).map_err(failed)? == 0 {
            return Ok(sound);
        }
        let unsound = |why| Unsound::Entry {
            line: sound.entries + 1,
            why,
        };
        let text = line
            .strip_suffix(b"\n")
            .ok_or_else(|| unsound("it has no end"))?;
        let text = std::str::from_utf8(text).map_err(|_| unsound("it is no text"))?;
        let (content, hash) = split_hash(text).ok_or_else(|| unsound("it has no hash"))?;
        if hash_of(&content) != hash {
            return Err(unsound(
                "its hash is not that of its content: it was changed",
            ));
        }
        let entry: Line = serde_json::from_str(&content).map_err(|_| unsound("it is no entry"))?;
        if entry.previous != sound.hash || entry.sequence != sound.entries + 1 {
            return Err(unsound(
                "it does not follow the one before: lines were removed, added or moved",
            ));
        }
        sound.hash = hash.to_owned();
        sound.entries = entry.sequence;
    }
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
            AuditLog::open(&path).unwrap().write(act(n)).unwrap();
        }
        path
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
        assert_eq!(broken(without(0)), 1);
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
        AuditLog::open(&path).unwrap().write(act(3)).unwrap();
        assert_eq!(verify(&path).unwrap().entries, 3);
    }

    #[tokio::test]
    async fn entries_are_listed_newest_first_page_by_page() {
        let folder = tempfile::tempdir().unwrap();
        let count = 400;
        let path = folder.path().join("audit.jsonl");
        let log = AuditLog::open(&path).unwrap();
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
}

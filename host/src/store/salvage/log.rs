//! sled's files as they are on disk, read and never written: which pages the log holds, and where it is
//! damaged. sled itself repairs as it opens, and what it takes for a torn end it zeroes; so whoever wants
//! to know what is there must look before. Follows sled 0.34's recovery (`pagecache/snapshot.rs` and
//! `iterator.rs` there), but goes on behind damage.
//!
//! The file is segments of equal size, each with a header (CRC-32, log sequence number, the highest number
//! known to be stable) and messages (CRC-32, kind, length, segment number, page, payload). A page is its
//! last replacement and the links behind that. The newest snapshot file holds the page table up to its own
//! log sequence number.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::engine::SEGMENT_OCTETS;
use super::super::journal;
use super::super::types::StoreError;
use super::page::{self, Cursor};

const SEGMENT: u64 = SEGMENT_OCTETS as u64;
const SEGMENT_HEADER: usize = 20;
/// No message begins closer than this to the end of a segment.
const MESSAGE_HEADER_MAX: usize = 32;

const CAP: u8 = 2;
const FREE: u8 = 4;
const COUNTER: u8 = 5;
const INLINE_META: u8 = 6;
const BLOB_META: u8 = 7;
const INLINE_NODE: u8 = 8;
const BLOB_NODE: u8 = 9;
const INLINE_LINK: u8 = 10;
const BLOB_LINK: u8 = 11;

/// The page that names the trees.
pub(super) const META_PAGE: u64 = 0;

/// Where a piece of a page is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub lsn: u64,
    at: u64,
    /// The file of its own that holds it.
    blob: Option<i64>,
}

pub(super) struct Page {
    pub base: Place,
    pub links: Vec<Place>,
}

/// Octets that should be messages and are not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Relative to the store's directory.
    pub file: String,
    pub offset: u64,
    pub what: String,
}

pub(super) struct Log {
    file: File,
    directory: PathBuf,
    pub pages: BTreeMap<u64, Page>,
    pub damage: Vec<Damage>,
    pub octets: u64,
}

/// How much is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What sled will replay, and each piece of each page, where the log is not too large for somebody who waits.
    Start,
    /// What is behind a torn end as well, and each piece of each page.
    Whole,
}

/// What is read whole within a fraction of a second.
const START_OCTETS_MAX: u64 = 512 << 20;
/// More threads than this wait for each other: what they read is copied from the same memory.
const THREADS_MAX: usize = 4;
/// Segments that are worth a thread of their own.
const THREAD_SEGMENTS: usize = 32;

/// As many as somebody who waits has processors for.
fn threads_for(segments: usize) -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (segments / THREAD_SEGMENTS).clamp(1, processors.min(THREADS_MAX))
}

/// Where a segment has its place in the file, and where in the log it begins, if its header tells.
type Slot = (Option<u64>, u64);

/// What is read of a segment before it is applied.
struct Found {
    lsn: u64,
    at: u64,
    kind: u8,
    pid: u64,
    blob: Option<i64>,
}

/// A place in the log where messages should be and are not, by log sequence number.
struct Hole {
    lsn: u64,
    offset: u64,
    what: &'static str,
}

/// What slots hold, one after the other.
#[derive(Default)]
struct Scanned {
    found: Vec<Found>,
    holes: Vec<Hole>,
    /// Where each commit of the journal is, and its sequence.
    commits: Vec<(u64, u64)>,
}

impl Log {
    /// `None` where there is no log. `durable`: the last commit that is known to have been synced, 0 where none
    /// is.
    pub fn open(directory: &Path, depth: Depth, durable: u64) -> Result<Option<Log>, StoreError> {
        let path = directory.join("db");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
        };
        let octets = file.metadata().map_err(|e| io(&path, e))?.len();
        let mut log = Log {
            file,
            directory: directory.to_owned(),
            pages: BTreeMap::new(),
            damage: Vec::new(),
            octets,
        };
        log.read_settings()?;
        let from = log.read_snapshot()?;
        log.replay(from, durable, depth).map_err(|e| io(&path, e))?;
        match depth {
            Depth::Whole => log.check_pages(),
            Depth::Start if octets <= START_OCTETS_MAX => log.check_pages(),
            Depth::Start => {}
        }
        Ok(Some(log))
    }

    /// The payload at a place; `None` where it cannot be read.
    pub fn payload(&self, place: &Place) -> Option<Vec<u8>> {
        if let Some(id) = place.blob {
            return self.blob(id);
        }
        let end = (place.at / SEGMENT + 1) * SEGMENT;
        let mut octets = vec![0; 4096.min(usize::try_from(end - place.at).ok()?)];
        let read = read_at(&self.file, &mut octets, place.at).ok()?;
        let header = page::header(&octets[..read])?;
        let size = header.size + header.length;
        if size > octets.len() {
            octets.resize(size, 0);
            read_at(&self.file, &mut octets, place.at).ok()?;
        }
        let message = page::message(&octets)?;
        (message.header.number == place.lsn / SEGMENT).then(|| message.payload.to_vec())
    }

    /// CRC-32 of what follows, kind, payload.
    fn blob(&self, id: i64) -> Option<Vec<u8>> {
        let octets = std::fs::read(self.directory.join("blobs").join(id.to_string())).ok()?;
        let (sum, rest) = octets.split_first_chunk::<4>()?;
        let payload = rest.get(1..)?;
        (crc32fast::hash(rest) == u32::from_le_bytes(*sum)).then(|| payload.to_vec())
    }

    /// sled's settings: text and CRC-32. It writes new ones where there are none.
    fn read_settings(&mut self) -> Result<(), StoreError> {
        let path = self.directory.join("conf");
        let octets = match std::fs::read(&path) {
            Ok(octets) => octets,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(io(&path, error)),
        };
        if let Some((text, sum)) = octets.split_last_chunk::<4>()
            && crc32fast::hash(text) != u32::from_le_bytes(*sum)
        {
            self.damage.push(Damage {
                file: "sled/conf".to_owned(),
                offset: 0,
                what: "the settings fail their checksum".to_owned(),
            });
        }
        Ok(())
    }

    /// The page table of the newest snapshot, and the log sequence number that it goes up to.
    fn read_snapshot(&mut self) -> Result<u64, StoreError> {
        let entries = std::fs::read_dir(&self.directory).map_err(|e| io(&self.directory, e))?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let newest = names
            .filter(|n| n.starts_with("snap.") && !n.ends_with(".generating"))
            .max();
        let Some(name) = newest else { return Ok(0) };
        let path = self.directory.join(&name);
        let octets = std::fs::read(&path).map_err(|e| io(&path, e))?;
        match snapshot(&octets) {
            Some((stable, pages)) => {
                self.pages = pages;
                Ok(stable)
            }
            None => {
                self.damage.push(Damage {
                    file: format!("sled/{name}"),
                    offset: 0,
                    what: "the snapshot of the page table fails its checksum".to_owned(),
                });
                Ok(0)
            }
        }
    }

    /// Applies what the log holds from `from` on, in its order.
    fn replay(&mut self, from: u64, durable: u64, depth: Depth) -> std::io::Result<()> {
        let slots = self.slots(from)?;
        let Scanned {
            mut found,
            holes,
            mut commits,
        } = self.scan(&slots, from, threads_for(slots.len()))?;
        // The end of the log may be torn by a crash. A commit behind a hole that was synced proves that it
        // was whole once. Of two commits the first was, with all before it, when the second began.
        commits.sort_unstable();
        let mut end = u64::MAX;
        for hole in holes {
            // What the snapshot goes up to was whole when it was written.
            if hole.lsn < from {
                self.note(hole);
                continue;
            }
            let mut behind = commits.iter().filter(|(lsn, _)| *lsn > hole.lsn);
            let synced = behind.next().is_some_and(|(_, first)| {
                *first <= durable || behind.any(|(_, sequence)| sequence != first)
            });
            match synced {
                true => self.note(hole),
                false => end = end.min(hole.lsn),
            }
        }
        // sled cuts off what is behind a torn end: whoever wants all that is there reads on.
        let end = match depth {
            Depth::Start => end,
            Depth::Whole => u64::MAX,
        };
        found.sort_by_key(|f| f.lsn);
        for one in found.iter().filter(|f| (from..end).contains(&f.lsn)) {
            self.apply(one);
        }
        Ok(())
    }

    /// The slots of the file that hold something from `from` on: those whose header cannot tell, and the others in the
    /// order of the log.
    fn slots(&self, from: u64) -> std::io::Result<Vec<Slot>> {
        let mut slots = Vec::new();
        for offset in (0..self.octets).step_by(SEGMENT_OCTETS) {
            let mut head = [0; SEGMENT_HEADER];
            let read = read_at(&self.file, &mut head, offset)?;
            let header = segment_header(&head[..read]);
            if header.is_none_or(|lsn| lsn + SEGMENT > from) {
                slots.push((header, offset));
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    /// Reads the slots, a share of them in each thread.
    fn scan(&self, slots: &[Slot], from: u64, threads: usize) -> std::io::Result<Scanned> {
        let scan = |slots: &[Slot]| -> std::io::Result<Scanned> {
            let mut scanned = Scanned::default();
            let mut slot = vec![0; SEGMENT_OCTETS];
            for (header, offset) in slots {
                let read = read_at(&self.file, &mut slot, *offset)?;
                scanned.take(&slot[..read], *offset, *header, from);
            }
            Ok(scanned)
        };
        let share = slots.len().div_ceil(threads).max(1);
        let mut all = std::thread::scope(|scope| {
            let (mine, others) = slots.split_at(share.min(slots.len()));
            let begin =
                |slots| std::thread::Builder::new().spawn_scoped(scope, move || scan(slots));
            let begun: Vec<_> = others.chunks(share).map(|s| (s, begin(s))).collect();
            let mut all = scan(mine)?;
            for (slots, thread) in begun {
                match thread.map(std::thread::ScopedJoinHandle::join) {
                    Ok(Ok(scanned)) => all.extend(scanned?),
                    Ok(Err(panic)) => std::panic::resume_unwind(panic),
                    // There may be no more threads than there are.
                    Err(_) => all.extend(scan(slots)?),
                }
            }
            Ok::<_, std::io::Error>(all)
        })?;
        all.holes.sort_by_key(|hole| hole.offset);
        Ok(all)
    }

    fn note(&mut self, hole: Hole) {
        self.damage.push(Damage {
            file: "sled/db".to_owned(),
            offset: hole.offset,
            what: hole.what.to_owned(),
        });
    }

    fn apply(&mut self, one: &Found) {
        let place = Place {
            lsn: one.lsn,
            at: one.at,
            blob: one.blob,
        };
        match one.kind {
            FREE => drop(self.pages.remove(&one.pid)),
            INLINE_LINK | BLOB_LINK => {
                if let Some(page) = self.pages.get_mut(&one.pid)
                    && page.links.last().unwrap_or(&page.base).lsn < place.lsn
                {
                    page.links.push(place);
                }
            }
            _ => {
                let links = Vec::new();
                self.pages.insert(one.pid, Page { base: place, links });
            }
        }
    }

    /// Whether each piece of each page is there.
    fn check_pages(&mut self) {
        let mut places: Vec<(u64, Place)> = Vec::new();
        for (pid, page) in &self.pages {
            places.extend(page.links.iter().chain([&page.base]).map(|p| (*pid, *p)));
        }
        places.sort_by_key(|(_, p)| p.at);
        for (pid, place) in places {
            if self.payload(&place).is_some() {
                continue;
            }
            let (file, offset) = match place.blob {
                Some(id) => (format!("sled/blobs/{id}"), 0),
                None => ("sled/db".to_owned(), place.at),
            };
            if !self
                .damage
                .iter()
                .any(|d| (&d.file, d.offset) == (&file, offset))
            {
                let what = format!("a piece of page {pid} cannot be read");
                self.damage.push(Damage { file, offset, what });
            }
        }
    }
}

impl Scanned {
    fn extend(&mut self, other: Scanned) {
        self.found.extend(other.found);
        self.holes.extend(other.holes);
        self.commits.extend(other.commits);
    }

    /// Reads one slot of the file: its messages, its holes, and the sequences of the journal's commits.
    fn take(&mut self, slot: &[u8], offset: u64, header: Option<u64>, from: u64) {
        let mut at = SEGMENT_HEADER;
        let Some(number) = header.map(|lsn| lsn / SEGMENT).or_else(|| {
            let (start, message) = next_message(slot, 0, |_| true)?;
            at = start;
            Some(message.header.number)
        }) else {
            return;
        };
        let base = number * SEGMENT;
        if base + SEGMENT <= from {
            return;
        }
        if header.is_none() {
            self.holes.push(Hole {
                lsn: base,
                offset,
                what: "the header of a segment is damaged",
            });
        }
        while at + MESSAGE_HEADER_MAX <= slot.len().max(SEGMENT_OCTETS) {
            let here = slot.get(at..).unwrap_or_default();
            let whole = page::message(here).filter(|m| m.header.number == number);
            let (start, message) = match whole {
                Some(message) => (at, message),
                None => {
                    let next = next_message(slot, at + 1, |n| n == number);
                    // The slot is being used again, and its new header was not written yet.
                    if next.is_none() && next_message(slot, at, |n| n > number).is_some() {
                        return;
                    }
                    self.holes.push(Hole {
                        lsn: base + at as u64,
                        offset: offset + at as u64,
                        what: "messages of the log are damaged",
                    });
                    match next {
                        Some(next) => next,
                        None => return,
                    }
                }
            };
            let lsn = base + start as u64;
            let header = &message.header;
            match header.kind {
                CAP => return,
                FREE | COUNTER | INLINE_META | BLOB_META | INLINE_NODE | BLOB_NODE
                | INLINE_LINK | BLOB_LINK => {
                    if header.kind == INLINE_LINK
                        && let Some(sequence) = commit_in(message.payload)
                    {
                        self.commits.push((lsn, sequence));
                    }
                    let blob = matches!(header.kind, BLOB_META | BLOB_NODE | BLOB_LINK)
                        .then(|| {
                            message
                                .payload
                                .first_chunk()
                                .map(|id| i64::from_le_bytes(*id))
                        })
                        .flatten();
                    self.found.push(Found {
                        lsn,
                        at: offset + start as u64,
                        kind: header.kind,
                        pid: header.pid,
                        blob,
                    });
                }
                _ => {}
            }
            at = start + header.size + header.length;
        }
    }
}

/// What is told to be zero at once.
const PIECE: usize = 256;

fn is_zero(octets: &[u8]) -> bool {
    octets.iter().fold(0, |all, octet| all | octet) == 0
}

/// The next whole message from `at` on, of a segment that is `wanted`.
fn next_message(
    slot: &[u8],
    at: usize,
    wanted: impl Fn(u64) -> bool,
) -> Option<(usize, page::Message<'_>)> {
    let end = slot.len().saturating_sub(MESSAGE_HEADER_MAX);
    // Most of what is looked through is nothing but zeros.
    let pieces = (at..end)
        .step_by(PIECE)
        .map(|from| from..end.min(from + PIECE));
    let mut starts = pieces
        .filter(|piece| !is_zero(&slot[piece.start + page::KIND_AT..piece.end + page::KIND_AT]))
        .flatten()
        .filter(|start| page::is_kind(slot[start + page::KIND_AT]));
    starts.find_map(|start| {
        let header = page::header(&slot[start..])?;
        if !wanted(header.number) || header.number >= 1 << 40 {
            return None;
        }
        page::message(&slot[start..]).map(|message| (start, message))
    })
}

/// The sequence of the commit that a link puts into the journal.
fn commit_in(link: &[u8]) -> Option<u64> {
    match page::link(link)? {
        page::Link::Set(key, value) if key.len() == 4 => journal::sequence_of(value),
        _ => None,
    }
}

fn segment_header(octets: &[u8]) -> Option<u64> {
    let (sum, rest) = octets.split_first_chunk::<4>()?;
    let lsn = u64::from_le_bytes(*rest.first_chunk()?) ^ 0x7FFF_FFFF_FFFF_FFFF;
    let whole = rest.len() == 16 && crc32fast::hash(rest) ^ 0xFFFF_FFFF == u32::from_le_bytes(*sum);
    (whole && lsn % SEGMENT == 0 && lsn < 1 << 56).then_some(lsn)
}

/// Page table, length, CRC-32.
fn snapshot(octets: &[u8]) -> Option<(u64, BTreeMap<u64, Page>)> {
    let (rest, sum) = octets.split_last_chunk::<4>()?;
    let (content, _) = rest.split_last_chunk::<8>()?;
    if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
        return None;
    }
    let mut cursor = Cursor::new(content);
    let stable = cursor
        .i64()?
        .checked_sub(1)
        .and_then(|n| u64::try_from(n).ok());
    let _active_segment = cursor.number()?;
    let mut pages = BTreeMap::new();
    let mut pid = 0;
    while !cursor.is_empty() {
        let pieces = cursor.octet()?;
        let mut read = |sized: bool| {
            let lsn = u64::try_from(cursor.i64()?).ok()?;
            let is_blob = cursor.octet()? == 1;
            let at = cursor.number()?;
            let blob = match is_blob {
                true => Some(cursor.i64()?),
                false => None,
            };
            if sized {
                cursor.number()?;
            }
            Some(Place { lsn, at, blob })
        };
        if pieces == 0 {
            read(false)?;
        } else {
            let base = read(true)?;
            let links = (1..pieces).map(|_| read(true)).collect::<Option<_>>()?;
            pages.insert(pid, Page { base, links });
        }
        pid += 1;
    }
    Some((stable.unwrap_or(0), pages))
}

/// As much as there is.
fn read_at(file: &File, octets: &mut [u8], at: u64) -> std::io::Result<usize> {
    let mut read = 0;
    while read < octets.len() {
        match file.read_at(&mut octets[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

fn io(path: &Path, error: std::io::Error) -> StoreError {
    StoreError::Io(format!("{}: {error}", path.display()))
}

/// Trees by name, from the page that names them.
pub(super) fn trees(log: &Log) -> Option<HashMap<Vec<u8>, u64>> {
    let payload = log.payload(&log.pages.get(&META_PAGE)?.base)?;
    let mut cursor = Cursor::new(&payload);
    let mut trees = HashMap::new();
    while !cursor.is_empty() {
        let name = cursor.octets()?.to_vec();
        trees.insert(name, cursor.number()?);
    }
    Some(trees)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_find_together_what_one_finds_alone() {
        let folder = tempfile::tempdir().unwrap();
        let config = sled::Config::new().path(folder.path());
        let db = config.segment_size(SEGMENT_OCTETS).open().unwrap();
        for n in 0_u32..2_000 {
            db.insert(n.to_be_bytes(), vec![0xEE; 6_000]).unwrap();
        }
        drop(db);
        // Segments that cannot tell what they are, and such of which a message is damaged.
        let path = folder.path().join("db");
        let mut octets = std::fs::read(&path).unwrap();
        let segments = octets.len() / SEGMENT_OCTETS;
        assert!(segments > 6, "{segments}");
        for n in 0..segments {
            octets[n * SEGMENT_OCTETS + [0, 1_000][n % 2]] ^= 1;
        }
        std::fs::write(&path, &octets).unwrap();

        let log = Log {
            file: File::open(&path).unwrap(),
            directory: folder.path().to_owned(),
            pages: BTreeMap::new(),
            damage: Vec::new(),
            octets: octets.len() as u64,
        };
        let slots = log.slots(0).unwrap();
        let told = |threads: usize| {
            let scanned = log.scan(&slots, 0, threads).unwrap();
            let found = scanned.found.iter();
            let found: Vec<_> = found.map(|f| (f.lsn, f.at, f.kind, f.pid)).collect();
            let holes = scanned.holes.iter().map(|h| (h.offset, h.lsn, h.what));
            (found, holes.collect::<Vec<_>>())
        };
        let alone = told(1);
        assert!(alone.0.len() > 100, "{}", alone.0.len());
        assert!(alone.1.len() > segments / 2, "{:?}", alone.1);
        for threads in [2, 3, 100] {
            assert!(told(threads) == alone, "{threads} threads");
        }
    }
}

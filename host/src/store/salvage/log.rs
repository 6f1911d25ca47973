//! sled's files as they are on disk, read and never written: which pages the log holds, and where it is
//! damaged. sled itself repairs as it opens, and what it takes for a torn end it zeroes; so whoever wants
//! to know what is there must look before. Follows sled 0.34's recovery (`pagecache/snapshot.rs` and
//! `iterator.rs` there), but goes on behind damage.
//!
//! The file is segments of equal size, each with a header (CRC-32, log sequence number, the highest number
//! known to be stable) and messages (CRC-32, kind, length, segment number, page, payload). A page is its
//! last replacement and the links behind that. The newest snapshot file holds the page table up to its own
//! log sequence number.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::super::engine::SEGMENT_OCTETS;
use super::super::journal;
use super::super::types::StoreError;
use super::page::{self, Cursor};
use super::table::{Change, Place, Table};

/// What a segment may have; sled allows more.
const SEGMENTS: std::ops::RangeInclusive<u64> = 256..=SEGMENT_OCTETS as u64;
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

/// How a snapshot's name ends while it is written.
pub(super) const UNFINISHED: &str = ".generating";

/// The page that names the trees.
pub(super) const META_PAGE: u64 = 0;

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
    /// Octets of one segment.
    segment: u64,
    pub table: Table,
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

/// How often a segment in use is looked at before it is called damaged.
const LOOKS: u32 = 20;
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
    change: Change,
    pid: u64,
    blob: Option<i64>,
    size: u64,
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
        let Some((mut log, from)) = Log::begin(directory)? else {
            return Ok(None);
        };
        log.replay(from, durable, depth)
            .map_err(|e| io(&directory.join("db"), e))?;
        match depth {
            Depth::Whole => log.check_pages(),
            Depth::Start if log.octets <= START_OCTETS_MAX => log.check_pages(),
            Depth::Start => {}
        }
        Ok(Some(log))
    }

    /// As its newest snapshot has it, and the log sequence number that this goes up to.
    fn begin(directory: &Path) -> Result<Option<(Log, u64)>, StoreError> {
        let path = directory.join("db");
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(&path, error)),
        };
        let octets = file.metadata().map_err(|e| io(&path, e))?.len();
        let mut log = Log {
            file,
            directory: directory.to_owned(),
            segment: SEGMENT_OCTETS as u64,
            table: Table::default(),
            damage: Vec::new(),
            octets,
        };
        log.read_settings()?;
        let from = log.read_snapshot()?;
        Ok(Some((log, from)))
    }

    /// Brings the snapshot of a database that is in use up to where its log is known to be written, where there are
    /// `least` octets of it. `sync` brings to the disk what is written by then; `goes_on` is asked before each
    /// segment. Whether there is a new snapshot.
    ///
    /// A segment that is written over meanwhile is passed over: that happens only once newer pieces of all its pages
    /// are in the log. Where these lie behind the new snapshot, a start applies them to it. Damage is an error.
    pub fn checkpoint(
        directory: &Path,
        least: u64,
        sync: impl FnOnce() -> Result<(), StoreError>,
        mut goes_on: impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let path = directory.join("db");
        let Some((mut log, from)) = Log::begin(directory)? else {
            return Ok(false);
        };
        if let Some(Damage { file, what, .. }) = log.damage.first() {
            return Err(StoreError::Corrupt(format!("{file}: {what}")));
        }
        let (to, slots) = log.written(from).map_err(|e| io(&path, e))?;
        if to < from.saturating_add(least.max(1)) {
            return Ok(false);
        }
        sync()?;
        if !log.take_in(&slots, (from, to), &mut goes_on)? {
            return Ok(false);
        }
        let Some(octets) = log.table.write(to) else {
            return Ok(false);
        };
        // What a start would find is looked at before anybody relies on it.
        let (end, slots) = log.written(to).map_err(|e| io(&path, e))?;
        if !log.take_in(&slots, (to, end), &mut goes_on)? {
            return Ok(false);
        }
        log.check_places(end).map_err(|e| io(&path, e))?;
        log.write_snapshot(to, &octets)?;
        Ok(true)
    }

    /// Applies what these slots hold of the log between two places; false where the caller is told to end.
    fn take_in(
        &mut self,
        slots: &[(u64, u64)],
        (from, to): (u64, u64),
        goes_on: &mut impl FnMut() -> bool,
    ) -> Result<bool, StoreError> {
        let path = self.directory.join("db");
        for slot in slots {
            let mut looked = 0;
            let scanned = loop {
                if !goes_on() {
                    return Ok(false);
                }
                looked += 1;
                let read = self.settled_slot(*slot, from).map_err(|e| io(&path, e))?;
                match read.as_ref().and_then(|scanned| scanned.holes.first()) {
                    None => break read,
                    // It may be about to be written over.
                    Some(_) if looked < LOOKS => {}
                    Some(hole) => {
                        let (path, offset, what) = (path.display(), hole.offset, hole.what);
                        let why = format!("{path}, octet {offset}: {what}");
                        return Err(StoreError::Corrupt(why));
                    }
                }
            };
            // Segments come in the order of the log.
            let found = scanned.iter().flat_map(|scanned| &scanned.found);
            for one in found.filter(|f| (from..to).contains(&f.lsn)) {
                self.apply(one);
            }
        }
        Ok(true)
    }

    /// Of all that the table names, up to `end`, nothing may lie where another segment of before `end` is now: newer
    /// pieces were in the log before that one was begun.
    fn check_places(&self, end: u64) -> std::io::Result<()> {
        let headers = self.headers()?.into_iter();
        let now: HashMap<u64, u64> = headers
            .map(|(lsn, _, offset)| (offset / self.segment, lsn))
            .collect();
        let mut places = self.table.places();
        let wrong = places.find(|place| {
            let there = now.get(&(place.at / self.segment));
            there.is_some_and(|lsn| *lsn < end && *lsn != place.lsn / self.segment * self.segment)
        });
        match wrong {
            None => Ok(()),
            Some(place) => Err(std::io::Error::other(format!(
                "octet {} has no longer what was written to the log at {}",
                place.at, place.lsn
            ))),
        }
    }

    /// Up to where all of the log is written, cut to where a segment begins, and which slots hold it from `from` on.
    fn written(&self, from: u64) -> std::io::Result<(u64, Vec<(u64, u64)>)> {
        let stable = self.headers()?.into_iter().map(|(_, stable, _)| stable);
        let to = stable.max().unwrap_or(0) / self.segment * self.segment;
        // Looked for again: a segment may have come to a slot after its turn, and be below `to` all the same. Those
        // below it are all there now, until newer pieces of their pages are behind it.
        let headers = self.headers()?.into_iter();
        let slots = headers.map(|(lsn, _, offset)| (lsn, offset));
        let mut slots: Vec<_> = slots
            .filter(|(lsn, _)| lsn + self.segment > from && *lsn < to)
            .collect();
        slots.sort_unstable();
        Ok((to, slots))
    }

    /// Of each segment: where in the log it begins, up to where all was written then, and its slot.
    fn headers(&self) -> std::io::Result<Vec<(u64, u64, u64)>> {
        let mut headers = Vec::new();
        for offset in (0..self.file.metadata()?.len()).step_by(self.segment as usize) {
            #[cfg(test)]
            std::thread::sleep(tests::SLOW.get());
            let header = self.header(offset)?;
            headers.extend(header.map(|(lsn, stable)| (lsn, stable, offset)));
        }
        Ok(headers)
    }

    /// What a slot holds, unless it is written over meanwhile.
    fn settled_slot(&self, slot: (u64, u64), from: u64) -> std::io::Result<Option<Scanned>> {
        let (lsn, offset) = slot;
        let mut octets = vec![0; self.segment as usize];
        let read = read_at(&self.file, &mut octets, offset)?;
        let mut scanned = Scanned::default();
        scanned.take(&octets[..read], self.segment, offset, Some(lsn), from);
        let now = self.header(offset)?.map(|(lsn, _)| lsn);
        Ok((now == Some(lsn)).then_some(scanned))
    }

    /// It is there whole or not at all, and the older ones go once it is on the disk.
    fn write_snapshot(&self, to: u64, octets: &[u8]) -> Result<(), StoreError> {
        let name = format!("snap.{to:016X}");
        // sled takes whatever is called after a snapshot for one.
        let (path, new) = (
            self.directory.join(&name),
            self.directory.join("checkpoint"),
        );
        let write = || -> std::io::Result<()> {
            let mut file = File::create(&new)?;
            file.write_all(octets)?;
            file.sync_all()?;
            std::fs::rename(&new, &path)?;
            File::open(&self.directory)?.sync_all()?;
            for entry in std::fs::read_dir(&self.directory)? {
                let entry = entry?;
                let is_older = |n: &str| n.starts_with("snap.") && *n < *name;
                if entry.file_name().to_str().is_some_and(is_older) {
                    std::fs::remove_file(entry.path())?;
                }
            }
            Ok(())
        };
        write().map_err(|e| {
            let _ = std::fs::remove_file(&new);
            io(&path, e)
        })
    }

    /// The payload at a place; `None` where it cannot be read.
    pub fn payload(&self, place: &Place) -> Option<Vec<u8>> {
        if let Some(id) = place.blob {
            return self.blob(id);
        }
        let end = (place.at / self.segment + 1) * self.segment;
        let mut octets = vec![0; 4096.min(usize::try_from(end - place.at).ok()?)];
        let read = read_at(&self.file, &mut octets, place.at).ok()?;
        let header = page::header(&octets[..read])?;
        let size = header.size + header.length;
        if size > octets.len() {
            octets.resize(size, 0);
            read_at(&self.file, &mut octets, place.at).ok()?;
        }
        let message = page::message(&octets)?;
        (message.header.number == place.lsn / self.segment).then(|| message.payload.to_vec())
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
            return Ok(());
        }
        let text = String::from_utf8_lossy(&octets);
        let mut lines = text.lines();
        let segment = lines.find_map(|l| l.strip_prefix("segment_size: ")?.parse().ok());
        if let Some(segment) = segment.filter(|s| SEGMENTS.contains(s)) {
            self.segment = segment;
        }
        Ok(())
    }

    /// The page table of the newest snapshot, and the log sequence number that it goes up to.
    fn read_snapshot(&mut self) -> Result<u64, StoreError> {
        let entries = std::fs::read_dir(&self.directory).map_err(|e| io(&self.directory, e))?;
        let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
        let newest = names
            .filter(|n| n.starts_with("snap.") && !n.ends_with(UNFINISHED))
            .max();
        let Some(name) = newest else { return Ok(0) };
        let path = self.directory.join(&name);
        let octets = std::fs::read(&path).map_err(|e| io(&path, e))?;
        match Table::read(&octets) {
            Some((stable, table)) => {
                self.table = table;
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
        for offset in (0..self.octets).step_by(self.segment as usize) {
            let header = self.header(offset)?.map(|(lsn, _)| lsn);
            if header.is_none_or(|lsn| lsn + self.segment > from) {
                slots.push((header, offset));
            }
        }
        slots.sort_unstable();
        Ok(slots)
    }

    /// Where in the log the slot at `offset` begins, and up to where all was written when it began.
    fn header(&self, offset: u64) -> std::io::Result<Option<(u64, u64)>> {
        let mut head = [0; SEGMENT_HEADER];
        let read = read_at(&self.file, &mut head, offset)?;
        Ok(segment_header(&head[..read], self.segment))
    }

    /// Reads the slots, a share of them in each thread.
    fn scan(&self, slots: &[Slot], from: u64, threads: usize) -> std::io::Result<Scanned> {
        let scan = |slots: &[Slot]| -> std::io::Result<Scanned> {
            let mut scanned = Scanned::default();
            let mut slot = vec![0; self.segment as usize];
            for (header, offset) in slots {
                let read = read_at(&self.file, &mut slot, *offset)?;
                scanned.take(&slot[..read], self.segment, *offset, *header, from);
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
            size: one.size,
        };
        self.table.apply(one.change, one.pid, place);
    }

    /// Whether each piece of each page is there.
    fn check_pages(&mut self) {
        let mut places: Vec<(u64, Place)> = Vec::new();
        for (pid, page) in &self.table.pages {
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
    fn take(&mut self, slot: &[u8], segment: u64, offset: u64, header: Option<u64>, from: u64) {
        let mut at = SEGMENT_HEADER;
        let Some(number) = header.map(|lsn| lsn / segment).or_else(|| {
            let (start, message) = next_message(slot, 0, |_| true)?;
            at = start;
            Some(message.header.number)
        }) else {
            return;
        };
        let base = number * segment;
        if base + segment <= from {
            return;
        }
        if header.is_none() {
            self.holes.push(Hole {
                lsn: base,
                offset,
                what: "the header of a segment is damaged",
            });
        }
        while at + MESSAGE_HEADER_MAX <= slot.len().max(segment as usize) {
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
            let size = header.size + header.length;
            let change = match header.kind {
                CAP => return,
                FREE => Some(Change::Free),
                INLINE_LINK | BLOB_LINK => Some(Change::Link),
                COUNTER | INLINE_META | BLOB_META | INLINE_NODE | BLOB_NODE => {
                    Some(Change::Replace)
                }
                _ => None,
            };
            if let Some(change) = change {
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
                    change,
                    pid: header.pid,
                    blob,
                    size: size as u64,
                });
            }
            at = start + size;
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

/// Where in the log a segment begins, and up to where all was written when it began.
fn segment_header(octets: &[u8], segment: u64) -> Option<(u64, u64)> {
    let (sum, rest) = octets.split_first_chunk::<4>()?;
    let lsn = u64::from_le_bytes(*rest.first_chunk()?) ^ 0x7FFF_FFFF_FFFF_FFFF;
    let stable = i64::from_le_bytes(*rest.get(8..)?.first_chunk()?) ^ 0x7FFF_FFFF_FFFF_FFFF;
    let whole = rest.len() == 16 && crc32fast::hash(rest) ^ 0xFFFF_FFFF == u32::from_le_bytes(*sum);
    // Before the first octet is written, it is -1.
    let stable = u64::try_from(stable).unwrap_or(0);
    (whole && lsn % segment == 0 && lsn < 1 << 56).then_some((lsn, stable))
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
    let payload = log.payload(&log.table.pages.get(&META_PAGE)?.base)?;
    let mut cursor = Cursor::new(&payload);
    let mut trees = HashMap::new();
    while !cursor.is_empty() {
        let name = cursor.octets()?.to_vec();
        trees.insert(name, cursor.number()?);
    }
    Some(trees)
}

#[cfg(test)]
pub(in super::super) mod tests {
    use std::cell::Cell;
    use std::time::Duration;

    use super::*;

    thread_local! {
        /// How long this thread takes to look at a header.
        pub static SLOW: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

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
            segment: SEGMENT_OCTETS as u64,
            table: Table::default(),
            damage: Vec::new(),
            octets: octets.len() as u64,
        };
        let slots = log.slots(0).unwrap();
        let told = |threads: usize| {
            let scanned = log.scan(&slots, 0, threads).unwrap();
            let found = scanned.found.iter();
            let found: Vec<_> = found.map(|f| (f.lsn, f.at, f.change, f.pid)).collect();
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

//! The files that recorded decisions lie in: appended block by block, begun anew each hour or at a
//! size, dropped whole when they are old or too many. A reader trusts nothing that it finds.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::bytes::Reader;
use super::super::sealing::Seals;
use super::case_record::{self, Said};
use super::{Block, Kind, RecordingOptions, inbound_record};
use crate::clock::{Clock, Timestamp};
use crate::domain::{Case, InboundCase};

const MAGIC: [u8; 4] = *b"HGRC";
/// Magic, version, whether it is sealed, two zero octets, count, first, last, raw length, stored length, checksum.
const HEADER: usize = 4 + 4 + 4 + 8 + 8 + 4 + 4 + 4;
const FILE_OCTETS: u64 = 64 << 20;
const FILE_TIME: Duration = Duration::from_secs(3_600);
/// A decision is in its file that much after it was made, at the latest.
const BEHIND: Duration = Duration::from_secs(10);
/// How often files whose time is over are looked for.
const LOOK: Duration = Duration::from_secs(60);
/// A block is at most its limit and one decision more; a decision is bounded by its message.
const RAW_MAX: usize = 4 << 20;
const ENDING: &str = "rec";
/// In the name of a file with decisions about mobile-originated messages, before the ending.
const INBOUND_MARK: &str = "-inbound";

impl Kind {
    /// The version octet of its blocks' headers. A reader that does not know one leaves the rest of the file.
    fn version(self) -> u8 {
        match self {
            Kind::Messages => 1,
            Kind::Inbound => 2,
        }
    }

    fn of_version(version: u8) -> Option<Kind> {
        Kind::ALL.into_iter().find(|k| k.version() == version)
    }

    fn mark(self) -> &'static str {
        match self {
            Kind::Messages => "",
            Kind::Inbound => INBOUND_MARK,
        }
    }
}

pub struct Writer {
    options: RecordingOptions,
    clock: Clock,
    /// By [`Kind`].
    current: [Option<Current>; Kind::ALL.len()],
    looked_at: Timestamp,
}

struct Current {
    file: File,
    path: PathBuf,
    octets: u64,
    begun: Timestamp,
}

impl Current {
    /// What comes now goes into another file.
    fn is_over(&self, now: Timestamp) -> bool {
        self.octets >= FILE_OCTETS || now.since(self.begun) >= FILE_TIME || now < self.begun
    }
}

impl Writer {
    pub fn new(options: RecordingOptions, clock: Clock) -> Writer {
        Writer {
            options,
            clock,
            current: [None, None],
            looked_at: Timestamp(0),
        }
    }

    /// Returns how many octets were written.
    pub fn append(&mut self, block: &Block) -> io::Result<u64> {
        if fs2::available_space(&self.options.folder)? < self.options.free_octets_min {
            return Err(io::Error::other("the disk is nearly full"));
        }
        let mut octets = Vec::new();
        put_block(block, self.options.seals.as_ref(), &mut octets)?;
        let now = self.clock.now();
        let held = self.current[block.kind as usize].as_ref();
        if held.is_none_or(|c| c.is_over(now)) {
            let begun = self.begin(now, block.kind, block.first)?;
            self.current[block.kind as usize] = Some(begun);
            self.drop_old(now);
        }
        let held = &mut self.current[block.kind as usize];
        if let Some(current) = held {
            if let Err(error) = current.file.write_all(&octets) {
                // What follows a torn block in its file would not be found: the next one begins anew.
                *held = None;
                return Err(error);
            }
            current.octets += octets.len() as u64;
        }
        Ok(octets.len() as u64)
    }

    /// What follows begins a file of its own; those that there are do not change any more.
    pub fn close(&mut self) {
        self.current = [None, None];
    }

    fn begin(&self, now: Timestamp, kind: Kind, first: Timestamp) -> io::Result<Current> {
        fs::create_dir_all(&self.options.folder)?;
        for attempt in 0..1_000u32 {
            let name = format!("{:015}-{attempt:03}{}.{ENDING}", first.0, kind.mark());
            let mut options = OpenOptions::new();
            // Texts and numbers are in it.
            options.create_new(true).append(true).mode(0o600);
            let path = self.options.folder.join(name);
            match options.open(&path) {
                Ok(file) => {
                    return Ok(Current {
                        file,
                        path,
                        octets: 0,
                        begun: now,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many recordings of one millisecond"))
    }

    /// Ends and drops files whose time is over, whether anything is recorded meanwhile or not.
    pub fn look_after(&mut self) {
        let now = self.clock.now();
        if now >= self.looked_at && now.since(self.looked_at) < LOOK {
            return;
        }
        self.looked_at = now;
        for current in &mut self.current {
            current.take_if(|c| c.is_over(now));
        }
        self.drop_old(now);
    }

    /// Removes files whose time is over, and the oldest while all together are too large; never one
    /// that is being written.
    fn drop_old(&self, now: Timestamp) {
        let Ok(files) = files(&self.options.folder) else {
            return;
        };
        let mut total: u64 = files.iter().map(|f| f.octets).sum();
        for (n, file) in files.iter().enumerate() {
            let being_written = self.current.iter().flatten().any(|c| c.path == file.path);
            if being_written {
                continue;
            }
            let next = next_alike(&files, n).map(|next| next.first);
            let full = file.first.plus(FILE_TIME + BEHIND);
            // All of it is older than this.
            let ended = next.map_or(full, |next| next.min(full));
            let old = now.since(ended) > self.options.retain;
            let too_many = total > self.options.max_octets && next.is_some();
            if !old && !too_many {
                continue;
            }
            match fs::remove_file(&file.path) {
                Ok(()) => total -= file.octets,
                Err(error) => {
                    tracing::warn!(%error, file = %file.path.display(), "an old recording stays");
                }
            }
        }
    }
}

/// A block with its header, as it lies in a file.
pub fn put_block(block: &Block, seals: Option<&Seals>, out: &mut Vec<u8>) -> io::Result<()> {
    let mut stored = lz4_flex::block::compress(&block.raw);
    if let Some(seals) = seals {
        let plain = std::mem::take(&mut stored);
        let place = place(block.kind, block.first, block.last);
        let sealed = seals.seal(&place, &plain, &mut stored);
        sealed.map_err(io::Error::other)?;
    }
    let start = out.len();
    out.reserve(HEADER + stored.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[block.kind.version(), u8::from(seals.is_some()), 0, 0]);
    out.extend_from_slice(&block.count.to_be_bytes());
    out.extend_from_slice(&block.first.0.to_be_bytes());
    out.extend_from_slice(&block.last.0.to_be_bytes());
    for length in [block.raw.len(), stored.len()] {
        let length = u32::try_from(length).map_err(io::Error::other)?;
        out.extend_from_slice(&length.to_be_bytes());
    }
    let sum = checksum(&out[start..], &stored);
    out.extend_from_slice(&sum.to_be_bytes());
    out.extend_from_slice(&stored);
    Ok(())
}

/// What a sealed block stands for.
fn place(kind: Kind, first: Timestamp, last: Timestamp) -> Vec<u8> {
    let mark = kind.mark().as_bytes();
    [
        &MAGIC[..],
        &first.0.to_be_bytes(),
        &last.0.to_be_bytes(),
        mark,
    ]
    .concat()
}

fn checksum(header: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(stored);
    hasher.finalize()
}

pub struct Found {
    pub path: PathBuf,
    kind: Kind,
    first: Timestamp,
    octets: u64,
}

/// Oldest first.
pub fn files(folder: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(|n| n.to_str());
        let first = name
            .and_then(|n| n.split('-').next())
            .and_then(|n| n.parse().ok());
        let kind = match name.is_some_and(|n| n.ends_with(INBOUND_MARK)) {
            true => Kind::Inbound,
            false => Kind::Messages,
        };
        if let (Some(first), true) = (first, path.extension().is_some_and(|e| e == ENDING)) {
            let octets = fs::metadata(&path).map_or(0, |m| m.len());
            found.push(Found {
                path,
                kind,
                first: Timestamp(first),
                octets,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// The file that was begun when the one at `n` was full.
fn next_alike(files: &[Found], n: usize) -> Option<&Found> {
    let kind = files.get(n)?.kind;
    files.iter().skip(n + 1).find(|f| f.kind == kind)
}

/// Where a block lies.
struct Place {
    path: PathBuf,
    kind: Kind,
    first: Timestamp,
    offset: u64,
    count: u32,
    raw: usize,
    stored: usize,
    /// What it is sealed for, where it is.
    sealed: Option<Vec<u8>>,
    header: [u8; HEADER],
}

/// How much there is of a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Decisions in the span.
    pub decisions: u64,
    /// Those that will be read: the newest ones.
    pub to_read: u64,
}

/// Decisions of a span, a block at a time, oldest first.
pub struct Cases {
    places: std::vec::IntoIter<Place>,
    since: Timestamp,
    until: Timestamp,
    /// Decisions before the newest ones that are wanted.
    skip: u64,
    pub recorded: Recorded,
    seals: Option<Seals>,
    /// Blocks that could not be read.
    pub damaged: u64,
}

/// The newest `limit` decisions that were made from `since` until before `until`.
pub fn cases(
    folder: &Path,
    seals: Option<Seals>,
    since: Timestamp,
    until: Timestamp,
    limit: u64,
) -> io::Result<Cases> {
    let mut places = Vec::new();
    let mut damaged = 0;
    let files = match files(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    for (n, file) in files.iter().enumerate() {
        let ended = next_alike(&files, n).is_some_and(|next| next.first.plus(FILE_TIME) < since);
        if file.first < until && !ended {
            damaged += u64::from(!scan(&file.path, since, until, &mut places)?);
        }
    }
    // Files of both kinds stand side by side; within a file the order is that of the blocks.
    places.sort_by_key(|p| p.first);
    let decisions: u64 = places.iter().map(|p| u64::from(p.count)).sum();
    let to_read = decisions.min(limit);
    Ok(Cases {
        places: places.into_iter(),
        since,
        until,
        skip: decisions - to_read,
        recorded: Recorded { decisions, to_read },
        damaged,
        seals,
    })
}

/// All decisions of one file.
pub fn cases_of(path: &Path, seals: Option<Seals>) -> io::Result<Cases> {
    let mut places = Vec::new();
    let (since, until) = (Timestamp(0), Timestamp::MAX);
    let damaged = u64::from(!scan(path, since, until, &mut places)?);
    let decisions = places.iter().map(|p| u64::from(p.count)).sum();
    Ok(Cases {
        places: places.into_iter(),
        since,
        until,
        skip: 0,
        recorded: Recorded {
            decisions,
            to_read: decisions,
        },
        damaged,
        seals,
    })
}

/// Reads the headers of one file. False where it ends in something that is no block.
fn scan(
    path: &Path,
    since: Timestamp,
    until: Timestamp,
    places: &mut Vec<Place>,
) -> io::Result<bool> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        // Dropped since the folder was read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    let mut offset = 0;
    while offset < length {
        let mut header = [0; HEADER];
        if length - offset < HEADER as u64 {
            return Ok(false);
        }
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut header)?;
        let mut reader = Reader::new(&header);
        let fields = (|| {
            let magic: [u8; 4] = reader.array()?;
            let [version, sealed, ..] = reader.array::<4>()?;
            let count = u32::from_be_bytes(reader.array()?);
            let first = Timestamp(u64::from_be_bytes(reader.array()?));
            let last = Timestamp(u64::from_be_bytes(reader.array()?));
            let raw = u32::from_be_bytes(reader.array()?) as usize;
            let stored = u32::from_be_bytes(reader.array()?) as usize;
            Ok::<_, super::super::bytes::Damage>((
                (magic, version),
                (count, first, last),
                (sealed != 0, raw, stored),
            ))
        })();
        let Ok(((MAGIC, version), span, lengths)) = fields else {
            return Ok(false);
        };
        let Some(kind) = Kind::of_version(version) else {
            return Ok(false);
        };
        let ((count, first, last), (sealed, raw, stored)) = (span, lengths);
        let end = offset + (HEADER + stored) as u64;
        if end > length || raw > RAW_MAX || stored > RAW_MAX {
            return Ok(false);
        }
        if last >= since && first < until {
            places.push(Place {
                path: path.to_owned(),
                kind,
                first,
                offset,
                count,
                raw,
                stored,
                sealed: sealed.then(|| place(kind, first, last)),
                header,
            });
        }
        offset = end;
    }
    Ok(true)
}

/// The decisions of one block.
pub enum RecordedBlock {
    Messages(Vec<Case>),
    /// About mobile-originated messages.
    Inbound(Vec<InboundCase>),
}

impl RecordedBlock {
    /// Without the first `skipped`, and without what was not decided from `since` until before `until`.
    fn narrow(&mut self, skipped: usize, since: Timestamp, until: Timestamp) {
        let span = since..until;
        match self {
            RecordedBlock::Messages(cases) => {
                cases.drain(..skipped.min(cases.len()));
                let at = |c: &Case| c.message.decisions.last().map_or(Timestamp(0), |d| d.at);
                cases.retain(|c| span.contains(&at(c)));
            }
            RecordedBlock::Inbound(cases) => {
                cases.drain(..skipped.min(cases.len()));
                cases.retain(|c| span.contains(&c.context.now));
            }
        }
    }
}

impl Cases {
    /// The next block's decisions, none at the end. A damaged block is counted and left out.
    pub fn next_block(&mut self) -> Option<RecordedBlock> {
        loop {
            let place = self.places.next()?;
            let count = u64::from(place.count);
            if self.skip >= count {
                self.skip -= count;
                continue;
            }
            let skipped = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(usize::MAX);
            let Some(mut block) = read_block(&place, self.seals.as_ref()) else {
                self.damaged += 1;
                continue;
            };
            block.narrow(skipped, self.since, self.until);
            return Some(block);
        }
    }
}

fn read_block(place: &Place, seals: Option<&Seals>) -> Option<RecordedBlock> {
    let mut file = File::open(&place.path).ok()?;
    file.seek(SeekFrom::Start(place.offset + HEADER as u64))
        .ok()?;
    let mut stored = vec![0; place.stored];
    file.read_exact(&mut stored).ok()?;
    let (fields, sum) = place.header.split_at(HEADER - 4);
    if checksum(fields, &stored).to_be_bytes() != sum {
        return None;
    }
    if let Some(sealed_for) = &place.sealed {
        stored = seals?.open(sealed_for, &stored).ok()?;
    }
    let raw = lz4_flex::block::decompress(&stored, place.raw).ok()?;
    let mut reader = Reader::new(&raw);
    Some(match place.kind {
        Kind::Messages => {
            let (mut said, mut cases) = (Said::default(), Vec::new());
            while !reader.is_empty() {
                cases.push(case_record::read(&mut reader, &mut said).ok()?);
            }
            RecordedBlock::Messages(cases)
        }
        Kind::Inbound => {
            let mut cases = Vec::new();
            while !reader.is_empty() {
                cases.push(inbound_record::read(&mut reader).ok()?);
            }
            RecordedBlock::Inbound(cases)
        }
    })
}

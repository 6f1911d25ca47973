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
use super::{Block, RecordingOptions};
use crate::clock::{Clock, Timestamp};
use crate::domain::Case;

const MAGIC: [u8; 4] = *b"HGRC";
/// Magic, version, whether it is sealed, two zero octets, count, first, last, raw length, stored length, checksum.
const HEADER: usize = 4 + 4 + 4 + 8 + 8 + 4 + 4 + 4;
const FILE_OCTETS: u64 = 64 << 20;
const FILE_TIME: Duration = Duration::from_secs(3_600);
/// A block is at most its limit and one decision more; a decision is bounded by its message.
const RAW_MAX: usize = 4 << 20;
const ENDING: &str = "rec";

pub struct Writer {
    options: RecordingOptions,
    clock: Clock,
    current: Option<Current>,
}

struct Current {
    file: File,
    octets: u64,
    begun: Timestamp,
}

impl Writer {
    pub fn new(options: RecordingOptions, clock: Clock) -> Writer {
        Writer {
            options,
            clock,
            current: None,
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
        let over = self.current.as_ref().is_none_or(|c| {
            c.octets >= FILE_OCTETS || now.since(c.begun) >= FILE_TIME || now < c.begun
        });
        if over {
            self.current = Some(self.begin(now, block.first)?);
            self.drop_old(now);
        }
        if let Some(current) = &mut self.current {
            if let Err(error) = current.file.write_all(&octets) {
                // What follows a torn block in its file would not be found: the next one begins anew.
                self.current = None;
                return Err(error);
            }
            current.octets += octets.len() as u64;
        }
        Ok(octets.len() as u64)
    }

    /// What follows begins a file of its own; those that there are do not change any more.
    pub fn close(&mut self) {
        self.current = None;
    }

    fn begin(&self, now: Timestamp, first: Timestamp) -> io::Result<Current> {
        fs::create_dir_all(&self.options.folder)?;
        for attempt in 0..1_000u32 {
            let name = format!("{:015}-{attempt:03}.{ENDING}", first.0);
            let mut options = OpenOptions::new();
            // Texts and numbers are in it.
            options.create_new(true).append(true).mode(0o600);
            match options.open(self.options.folder.join(name)) {
                Ok(file) => {
                    return Ok(Current {
                        file,
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

    /// Removes files whose time is over, and the oldest while all together are too large.
    fn drop_old(&self, now: Timestamp) {
        let Ok(files) = files(&self.options.folder) else {
            return;
        };
        let mut total: u64 = files.iter().map(|f| f.octets).sum();
        for (n, file) in files.iter().enumerate() {
            // All of it is older than what the next file begins with.
            let Some(next) = files.get(n + 1) else { return };
            let old = now.since(next.first) > self.options.retain;
            if !old && total <= self.options.max_octets {
                return;
            }
            if let Err(error) = fs::remove_file(&file.path) {
                tracing::warn!(%error, file = %file.path.display(), "an old recording stays");
            }
            total -= file.octets;
        }
    }
}

/// A block with its header, as it lies in a file.
pub fn put_block(block: &Block, seals: Option<&Seals>, out: &mut Vec<u8>) -> io::Result<()> {
    let mut stored = lz4_flex::block::compress(&block.raw);
    if let Some(seals) = seals {
        let plain = std::mem::take(&mut stored);
        let sealed = seals.seal(&place(block.first, block.last), &plain, &mut stored);
        sealed.map_err(io::Error::other)?;
    }
    let start = out.len();
    out.reserve(HEADER + stored.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[case_record::VERSION, u8::from(seals.is_some()), 0, 0]);
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
fn place(first: Timestamp, last: Timestamp) -> Vec<u8> {
    [&MAGIC[..], &first.0.to_be_bytes(), &last.0.to_be_bytes()].concat()
}

fn checksum(header: &[u8], stored: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(stored);
    hasher.finalize()
}

pub struct Found {
    pub path: PathBuf,
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
        if let (Some(first), true) = (first, path.extension().is_some_and(|e| e == ENDING)) {
            let octets = fs::metadata(&path).map_or(0, |m| m.len());
            found.push(Found {
                path,
                first: Timestamp(first),
                octets,
            });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Where a block lies.
struct Place {
    path: PathBuf,
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
        let ended = files
            .get(n + 1)
            .is_some_and(|next| next.first.plus(FILE_TIME) < since);
        if file.first < until && !ended {
            damaged += u64::from(!scan(&file.path, since, until, &mut places)?);
        }
    }
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
        let Ok(((MAGIC, case_record::VERSION), span, lengths)) = fields else {
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
                offset,
                count,
                raw,
                stored,
                sealed: sealed.then(|| place(first, last)),
                header,
            });
        }
        offset = end;
    }
    Ok(true)
}

impl Cases {
    /// The next block's decisions, none at the end. Blocks; a damaged one is counted and left out.
    pub fn next_block(&mut self) -> Option<Vec<Case>> {
        loop {
            let place = self.places.next()?;
            let count = u64::from(place.count);
            if self.skip >= count {
                self.skip -= count;
                continue;
            }
            let skipped = usize::try_from(std::mem::take(&mut self.skip)).unwrap_or(usize::MAX);
            let Some(mut cases) = read_block(&place, self.seals.as_ref()) else {
                self.damaged += 1;
                continue;
            };
            cases.drain(..skipped.min(cases.len()));
            let (since, until) = (self.since, self.until);
            let at = |c: &Case| c.message.decisions.last().map_or(Timestamp(0), |d| d.at);
            cases.retain(|c| (since..until).contains(&at(c)));
            return Some(cases);
        }
    }
}

fn read_block(place: &Place, seals: Option<&Seals>) -> Option<Vec<Case>> {
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
    let (mut reader, mut said) = (Reader::new(&raw), Said::default());
    let mut cases = Vec::new();
    while !reader.is_empty() {
        cases.push(case_record::read(&mut reader, &mut said).ok()?);
    }
    Some(cases)
}

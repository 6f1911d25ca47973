//! Recorded decisions, for replay: compressed blocks, appended to files of their own beside the
//! database. They are evidence and no truth: they are not synced, a crash may cost the last second of
//! them, and when disk or time is short they give way to messages. Knows bytes and files; what a
//! decision means is its readers' business.

mod case_record;
mod erase;
mod file;
mod inbound_record;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::sealing::Seals;
use crate::clock::{Clock, Timestamp};
use crate::domain::{CaseRef, InboundCaseRef};
use case_record::Said;

pub use erase::Forgotten;
pub use file::{Cases, Recorded, RecordedBlock, cases};

/// Octets of a block before it is compressed.
const BLOCK_OCTETS: usize = 256 << 10;
/// Blocks that may wait for the disk; what comes while all wait is counted and not kept.
const BLOCKS_WAITING_MAX: usize = 16;
/// A block that nobody fills is written after this.
const QUIET: Duration = Duration::from_millis(500);

/// How much is kept.
#[derive(Clone, Debug)]
pub struct RecordingOptions {
    /// False: nothing new is kept. What was recorded before is read, forgotten and dropped all the same.
    pub enabled: bool,
    pub folder: PathBuf,
    pub retain: Duration,
    /// All files together.
    pub max_octets: u64,
    /// Space on the disk below which nothing is recorded.
    pub free_octets_min: u64,
    pub seals: Option<Seals>,
}

/// Figures for operators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecordingStats {
    pub recorded: u64,
    /// Not kept, because the disk was slow, full or failing.
    pub dropped: u64,
    /// Octets written, compressed.
    pub octets: u64,
}

/// Takes decisions; one thread writes them. The thread ends with the last clone.
#[derive(Clone)]
pub struct Recorder(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    work: SyncSender<Work>,
}

struct Shared {
    /// By [`Kind`].
    filling: [Mutex<Filling>; Kind::ALL.len()],
    recorded: AtomicU64,
    dropped: AtomicU64,
    octets: AtomicU64,
    enabled: bool,
    folder: PathBuf,
    seals: Option<Seals>,
}

enum Work {
    Block(Block),
    Flush(oneshot::Sender<()>),
    /// The same, and the file is closed.
    Close(oneshot::Sender<()>),
}

/// What decisions are about. A block, and a file, holds one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    #[default]
    Messages = 0,
    /// Mobile-originated messages.
    Inbound = 1,
}

impl Kind {
    const ALL: [Kind; 2] = [Kind::Messages, Kind::Inbound];
}

/// The block that is being filled.
struct Filling {
    block: Block,
    said: Said,
}

/// Decisions in their octets.
#[derive(Default)]
struct Block {
    kind: Kind,
    raw: Vec<u8>,
    count: u32,
    first: Timestamp,
    last: Timestamp,
}

impl Block {
    fn empty(kind: Kind) -> Block {
        Block {
            kind,
            ..Block::default()
        }
    }
}

impl Filling {
    fn new(kind: Kind) -> Filling {
        Filling {
            block: Block::empty(kind),
            said: Said::default(),
        }
    }

    fn take(&mut self) -> Block {
        self.said = Said::default();
        let next = Block::empty(self.block.kind);
        std::mem::replace(&mut self.block, next)
    }
}

impl Recorder {
    /// Makes the folder and starts the writer.
    pub fn open(options: RecordingOptions, clock: Clock) -> std::io::Result<Recorder> {
        std::fs::create_dir_all(&options.folder)?;
        let shared = Arc::new(Shared {
            filling: Kind::ALL.map(|kind| Mutex::new(Filling::new(kind))),
            recorded: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            octets: AtomicU64::new(0),
            enabled: options.enabled,
            folder: options.folder.clone(),
            seals: options.seals.clone(),
        });
        let (work, received) = sync_channel(BLOCKS_WAITING_MAX);
        let theirs = shared.clone();
        std::thread::Builder::new()
            .name("recording".into())
            .spawn(move || write_all(&theirs, &received, file::Writer::new(options, clock)))?;
        Ok(Recorder(Arc::new(Inner { shared, work })))
    }

    /// Whether new decisions are kept.
    pub fn is_enabled(&self) -> bool {
        self.0.shared.enabled
    }

    /// Keeps one decision. Never waits for the disk.
    pub fn record(&self, case: &CaseRef<'_>, at: Timestamp) {
        self.add(Kind::Messages, at, BLOCK_OCTETS, |said, raw| {
            case_record::write(case, said, raw);
        });
    }

    /// Keeps one decision about a mobile-originated message.
    pub fn record_inbound(&self, case: &InboundCaseRef<'_>) {
        self.add(Kind::Inbound, case.context.now, 0, |_, raw| {
            inbound_record::write(case, raw);
        });
    }

    /// `room`: what a block that begins is given at once.
    fn add(
        &self,
        kind: Kind,
        at: Timestamp,
        room: usize,
        write: impl FnOnce(&mut Said, &mut Vec<u8>),
    ) {
        if !self.is_enabled() {
            return;
        }
        let full = {
            let mut filling = self.0.shared.filling[kind as usize].lock();
            let Filling { block, said } = &mut *filling;
            if block.count == 0 {
                block.raw.reserve(room + (room >> 4));
                (block.first, block.last) = (at, at);
            }
            write(said, &mut block.raw);
            block.count += 1;
            (block.first, block.last) = (block.first.min(at), block.last.max(at));
            (block.raw.len() >= BLOCK_OCTETS).then(|| filling.take())
        };
        self.0.shared.recorded.fetch_add(1, Relaxed);
        if let Some(block) = full {
            let count = u64::from(block.count);
            if self.0.work.try_send(Work::Block(block)).is_err() {
                self.0.shared.dropped.fetch_add(count, Relaxed);
            }
        }
    }

    /// When it returns, all that was recorded before can be read.
    pub async fn flush(&self) {
        self.told(Work::Flush).await;
    }

    /// The file behind `after` loses what speaks of `number`, which is an address's value; the first
    /// one where `after` is empty, and then what is being written is closed first.
    pub async fn forget(&self, after: &str, number: &str) -> std::io::Result<Forgotten> {
        if after.is_empty() {
            self.told(Work::Close).await;
        }
        let (folder, after) = (self.folder().to_owned(), after.to_owned());
        let (number, seals) = (number.to_owned(), self.seals());
        tokio::task::spawn_blocking(move || erase::forget(&folder, seals, &after, &number))
            .await
            .unwrap_or_else(|e| Err(std::io::Error::other(e)))
    }

    async fn told(&self, work: impl FnOnce(oneshot::Sender<()>) -> Work) {
        let inner = self.0.clone();
        let (done, written) = oneshot::channel();
        let work = work(done);
        // The channel may be full, and its writer behind.
        let sent = tokio::task::spawn_blocking(move || inner.work.send(work)).await;
        if matches!(sent, Ok(Ok(()))) {
            let _ = written.await;
        }
    }

    pub fn stats(&self) -> RecordingStats {
        let shared = &self.0.shared;
        RecordingStats {
            recorded: shared.recorded.load(Relaxed),
            dropped: shared.dropped.load(Relaxed),
            octets: shared.octets.load(Relaxed),
        }
    }

    /// What its files are sealed with.
    pub fn seals(&self) -> Option<Seals> {
        self.0.shared.seals.clone()
    }

    pub fn folder(&self) -> &Path {
        &self.0.shared.folder
    }
}

fn write_all(shared: &Shared, work: &Receiver<Work>, mut writer: file::Writer) {
    let write = |writer: &mut file::Writer, block: Block| {
        if block.count == 0 {
            return;
        }
        match writer.append(&block) {
            Ok(octets) => {
                shared.octets.fetch_add(octets, Relaxed);
            }
            Err(error) => {
                shared.dropped.fetch_add(block.count.into(), Relaxed);
                tracing::warn!(%error, decisions = block.count, "decisions were not recorded");
            }
        }
    };
    loop {
        let work = match work.recv_timeout(QUIET) {
            Ok(Work::Block(block)) => {
                write(&mut writer, block);
                continue;
            }
            other => other,
        };
        for filling in &shared.filling {
            let rest = filling.lock().take();
            write(&mut writer, rest);
        }
        match work {
            Ok(Work::Close(done)) => {
                writer.close();
                let _ = done.send(());
            }
            Ok(Work::Flush(done)) => {
                let _ = done.send(());
            }
            Ok(Work::Block(_)) | Err(RecvTimeoutError::Timeout) => writer.look_after(),
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

//! Files that are read again when they change: how one state of a file is told from another, and the
//! watch over their folders. Knows no file's meaning.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;

/// How long the file system must be quiet before a changed file is read.
pub const SETTLE: Duration = Duration::from_millis(100);

/// What tells one state of a file from another: inode, time of change, length. None: it is not there.
pub type Stamp = Option<(u64, SystemTime, u64)>;

pub async fn stamp(path: &Path) -> Stamp {
    stamp_of(&tokio::fs::metadata(path).await.ok()?)
}

/// The same, for who may block: taken before the file is read for the first time, it misses no change.
pub fn first_stamp(path: &Path) -> Stamp {
    stamp_of(&std::fs::metadata(path).ok()?)
}

fn stamp_of(metadata: &Metadata) -> Stamp {
    Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
}

/// The folders that are watched; never fewer than before.
pub struct Watch {
    what: &'static str,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<PathBuf>,
}

impl Watch {
    /// `what` is watched, for the log.
    pub fn new(what: &'static str, changed: Arc<Notify>) -> Watch {
        let handler = move |event: Result<notify::Event, notify::Error>| {
            if event.is_ok_and(|e| !e.kind.is_access()) {
                changed.notify_one();
            }
        };
        let watcher = notify::recommended_watcher(handler)
            .inspect_err(|error| {
                tracing::warn!(%error, what, "is not watched; SIGHUP still reads it again");
            })
            .ok();
        Watch {
            what,
            watcher,
            watched: Vec::new(),
        }
    }

    /// True where a folder is watched from now on.
    pub fn folders<'a>(&mut self, folders: impl Iterator<Item = &'a Path>) -> bool {
        let before = self.watched.len();
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        for folder in folders {
            if self.watched.iter().any(|w| w == folder) {
                continue;
            }
            if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
                tracing::warn!(%error, what = self.what, folder = %folder.display(), "is not watched; SIGHUP still reads it again");
            }
            // Tried once: a folder that cannot be watched is told of once.
            self.watched.push(folder.to_owned());
        }
        self.watched.len() > before
    }
}

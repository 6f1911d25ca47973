//! Saves what can be read of a damaged store into a new one, in its place, and keeps the originals beside
//! it. What follows from the messages (queues, awaited receipts, counts) is made anew.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::super::engine::{Engine, Opening, Value};
use super::super::journal::Journal;
use super::super::keys::{self, Key};
use super::super::manifest::Manifest;
use super::super::records::{self, Awaited, Ledger};
use super::super::sealing::Seals;
use super::super::types::{Probes, StoreError};
use super::contents::Contents;
use super::log::Depth;
use super::{
    Item, closed_is_refused, derived, lanes as lanes_of, lock, read_record, readable_manifest,
};
use crate::domain::{Lane, Message};

/// Records of one commit.
const BATCH: usize = 500;

/// What became of a store.
#[derive(Clone, Debug)]
pub struct Repaired {
    /// Where the original files are now.
    pub originals: PathBuf,
    pub messages: u64,
    pub inbound: u64,
    /// Entries that do not follow from messages: opt-outs, receipts, webhooks, plugin state and so on.
    pub entries: u64,
    /// Messages that are due and were in no queue.
    pub requeued: u64,
    /// Records and entries that cannot be read; they are in the originals alone.
    pub unreadable: u64,
    /// Pages and commits of the database that cannot be read: what they held is not known.
    pub unreadable_pages: u64,
    /// Commits at the end that the manifest knows of and that are gone.
    pub missing_commits: u64,
    /// Messages not yet in their last state that the ledger counts and that are not there.
    pub missing_live: u64,
}

/// `name`: of the folder, in the store's own, that keeps the originals. What was sealed is sealed again, under the
/// first of the keys.
pub fn repair(directory: &Path, name: &str, seals: Option<&Seals>) -> Result<Repaired, StoreError> {
    let io = |e: std::io::Error| StoreError::Io(format!("{}: {e}", directory.display()));
    let held = lock(directory)?;
    let manifest = readable_manifest(directory)?;
    let contents = Contents::read(directory, Depth::Whole, manifest, seals)?;
    let Some(mut contents) = contents else {
        return Err(StoreError::Lost(
            "the file sled/db is gone: there is nothing to repair. Restore a copy of the directory"
                .into(),
        ));
    };
    closed_is_refused(&contents)?;
    if contents.is_sealed && contents.names_key.is_none() {
        return Err(StoreError::Corrupt(
            "the header of its seal cannot be read, and with it what its names are hashed under: entries              could not be found by them any more. Restore a copy of the directory, or save the contents              with `heliograph store export`"
                .into(),
        ));
    }
    let (originals, fresh) = (directory.join(name), directory.join("sled.repaired"));
    if originals.exists() {
        return Err(StoreError::Limit(format!(
            "{} exists already",
            originals.display()
        )));
    }
    if fresh.exists() {
        // Of a repair that was cut off: it holds copies alone.
        fs::remove_dir_all(&fresh).map_err(io)?;
    }
    let sequence = contents.sequence.max(manifest.map_or(0, |m| m.sequence));
    let mut repaired = write(&mut contents, &fresh, sequence)?;
    repaired.missing_commits = sequence - contents.sequence;
    // From here to the end a cut leaves the manifest without its database, which refuses to start.
    fs::create_dir(&originals).map_err(io)?;
    if directory.join("manifest").exists() {
        fs::copy(directory.join("manifest"), originals.join("manifest")).map_err(io)?;
    }
    fs::rename(directory.join("sled"), originals.join("sled")).map_err(io)?;
    fs::rename(&fresh, directory.join("sled")).map_err(io)?;
    File::open(&originals)
        .and_then(|f| f.sync_all())
        .map_err(io)?;
    let accepted = contents.ledger().map_or(0, |l| l.accepted);
    let manifest = Manifest {
        sequence,
        accepted: accepted.max(manifest.map_or(0, |m| m.accepted)),
        clean: false,
    };
    manifest.write(directory).map_err(io)?;
    drop(held);
    repaired.originals = originals;
    Ok(repaired)
}

fn write(contents: &mut Contents, fresh: &Path, sequence: u64) -> Result<Repaired, StoreError> {
    let opening = Opening {
        seals: contents.seals.clone(),
        names_key: contents.names_key,
        ..Opening::new(Probes::default())
    };
    let (engine, journal) = Engine::open(fresh, opening)?;
    let mut new = Writer {
        engine,
        journal,
        waiting: 0,
    };
    new.journal.set_sequence(sequence);
    let old = contents.ledger().unwrap_or_default();
    let plain = contents.plain();
    let mut lanes = HashMap::from([(Lane::Decide, 0)]);
    let mut ledger = Ledger {
        accepted: old.accepted,
        claim: old.claim,
        ..Ledger::default()
    };
    let mut repaired = Repaired {
        originals: PathBuf::new(),
        messages: 0,
        inbound: 0,
        entries: 0,
        requeued: 0,
        unreadable: 0,
        unreadable_pages: 0,
        missing_commits: 0,
        missing_live: 0,
    };
    for (key, value) in &plain {
        match key.get(..1).unwrap_or_default() {
            // Made anew, from the messages.
            keys::DUE | keys::CORRELATION | keys::LEDGER | keys::LANE => continue,
            keys::ORPHAN => match records::decode_orphan(value) {
                Ok(orphan) => {
                    let first = orphan.keys.first().map(String::as_str);
                    ledger.orphans += u64::from(first == keys::correlated_id(key));
                }
                Err(_) => repaired.unreadable += 1,
            },
            keys::WEBHOOK | keys::DELIVERY | keys::DEAD => {
                if records::decode_outbox(value).is_err() {
                    repaired.unreadable += 1;
                    continue;
                }
                match key.starts_with(keys::DEAD) {
                    true => ledger.dead += 1,
                    false => ledger.outbox += 1,
                }
            }
            _ => {}
        }
        repaired.entries += 1;
        new.put(key.clone(), value.as_slice().into())?;
    }
    let were_queued = lanes_of(&plain);
    let mut awaited: BTreeMap<Key, Vec<Awaited>> = BTreeMap::new();
    // Damage may leave two versions of a record; the one that got further is the newer.
    let mut progress = HashMap::new();
    let mut failed = None;
    repaired.unreadable += contents.unopened as u64;
    let mut each = |item: Item, record: &[u8]| -> Result<(), StoreError> {
        match item {
            Item::Message(message) => {
                let got = (message.state.is_terminal(), message.events.len());
                if progress
                    .get(&message.id)
                    .is_some_and(|before| *before > got)
                {
                    return Ok(());
                }
                progress.insert(message.id, got);
                new.record(message.id, record.into())
            }
            Item::Inbound(inbound) => {
                repaired.inbound += 1;
                new.record(inbound.inbound.id, record.into())
            }
            _ => {
                repaired.unreadable += 1;
                Ok(())
            }
        }
    };
    contents.each_record(&mut |id, record| {
        if failed.is_none() {
            failed = each(read_record(id, &record), record.unwrap_or_default()).err();
        }
    });
    if let Some(error) = failed {
        return Err(error);
    }
    repaired.messages = progress.len() as u64;
    for id in progress.into_keys() {
        let Some(record) = new.engine.record(id)? else {
            continue;
        };
        let message = records::decode_message(&record).map_err(super::damage)?;
        let lane = new.lane_of(&message, &mut lanes)?;
        let (prepared, due) = derived(&message, lane);
        let (_, was) = derived(
            &message,
            message
                .due
                .as_ref()
                .and_then(|d| were_queued.get(&d.lane))
                .copied(),
        );
        if let (Some(key), Some(lane)) = (due, lane) {
            repaired.requeued += u64::from(!was.is_some_and(|was| plain.contains_key(&was)));
            *ledger.queued.entry(lane).or_default() += 1;
            new.put(key, prepared.due_value())?;
        }
        if !message.state.is_terminal() {
            *ledger.live.entry(id.timestamp().day()).or_default() += 1;
        }
        for (key, part) in &prepared.awaited {
            awaited.entry(key.clone()).or_default().push(Awaited {
                id,
                part: *part,
                deadline: prepared.receipt_deadline,
            });
        }
    }
    for (key, mut all) in awaited {
        all.sort_by_key(|a| (a.id, a.part));
        ledger.awaiting += all.len() as u64;
        new.put(key, records::encode_awaited(&all).into())?;
    }
    let (were, are): (u64, u64) = (old.live.values().sum(), ledger.live.values().sum());
    repaired.missing_live = were.saturating_sub(are);
    repaired.unreadable_pages = (contents.unreadable.len() + contents.unreadable_commits) as u64;
    ledger.accepted = ledger.accepted.max(repaired.messages);
    new.finish(ledger)?;
    Ok(repaired)
}

/// The new database: entries in batches, each in the trees before the next begins.
struct Writer {
    engine: std::sync::Arc<Engine>,
    journal: Journal,
    waiting: usize,
}

impl Writer {
    fn put(&mut self, key: Key, value: Value) -> Result<(), StoreError> {
        self.journal.put(key, value, false);
        self.count()
    }

    fn record(&mut self, id: crate::domain::MessageId, value: Value) -> Result<(), StoreError> {
        self.journal.put_record(id, value);
        self.count()
    }

    fn count(&mut self) -> Result<(), StoreError> {
        self.waiting += 1;
        match self.waiting < BATCH {
            true => Ok(()),
            false => self.commit(false),
        }
    }

    fn commit(&mut self, all: bool) -> Result<(), StoreError> {
        self.waiting = 0;
        self.journal.commit()?;
        if self.journal.freeze(all)
            && let Some(generation) = self.engine.frozen()
        {
            self.engine.write_behind(&generation, Vec::new())?;
        }
        Ok(())
    }

    /// The lane that the message waits in. Numbers are given anew, so that there is no gap.
    fn lane_of(
        &mut self,
        message: &Message,
        lanes: &mut HashMap<Lane, u16>,
    ) -> Result<Option<u16>, StoreError> {
        let Some(due) = &message.due else {
            return Ok(None);
        };
        if let Some(number) = lanes.get(&due.lane) {
            return Ok(Some(*number));
        }
        let next = lanes.values().max().map_or(0, |n| n.saturating_add(1));
        if let Lane::Carrier(carrier) = &due.lane {
            self.put(keys::lane_name(next), carrier.as_str().as_bytes().into())?;
        }
        lanes.insert(due.lane.clone(), next);
        Ok(Some(next))
    }

    fn finish(mut self, mut ledger: Ledger) -> Result<(), StoreError> {
        ledger.sequence = self.journal.sequence() + 1;
        let mut octets = Vec::new();
        records::encode_ledger(&ledger, &mut octets);
        self.journal.put(keys::LEDGER.into(), octets.into(), false);
        self.commit(true)
    }
}

//! A store whose server is not running, looked at from outside: [`check`] says what is wrong and changes
//! nothing, [`repair`] keeps the originals aside and saves what can be read, [`export`] hands it out. All
//! read sled's files themselves: opening them would be changing them.

mod contents;
mod log;
mod page;
mod repair;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::Path;

use fs2::FileExt as _;

use super::apply::damage;
use super::engine::wait_for_lock;
use super::keys::{self, Key};
use super::manifest::Manifest;
use super::optout;
use super::prepared::{self, Prepared};
use super::read::orphan_at;
use super::records::{self, Kind, Ledger};
use super::sealing::{Names, Seals};
use super::types::{InboundRecord, OptOut, OrphanReceipt, OutboxEntry, StoreError};
use crate::domain::{Message, MessageId};
use contents::{Contents, Found};

pub use log::Damage;
pub use repair::{Repaired, repair};

/// Notes where the pages of a database in use are, so that the next start reads its log from there on only. `directory`
/// is sled's.
pub(super) fn checkpoint(
    directory: &Path,
    least: u64,
    sync: impl FnOnce() -> Result<(), StoreError>,
    goes_on: impl FnMut() -> bool,
) -> Result<bool, StoreError> {
    log::Log::checkpoint(directory, least, sync, goes_on)
}

#[cfg(test)]
pub(super) use log::tests::SLOW;

/// Problems that are told one by one; the rest is counted.
const PROBLEMS_MAX: usize = 100;

/// What to do about a store that is refused.
pub(super) const ADVICE: &str = "Restore a copy of the directory, or save what can be read with \
                                 `heliograph store repair`; `heliograph store check` tells all, and \
                                 changes nothing";

/// What a store's files hold, and what is wrong with them.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The last commit that is there, and the last that the manifest knows of.
    pub sequence: u64,
    pub manifest_sequence: Option<u64>,
    pub closed_in_order: bool,
    pub is_sealed: bool,
    /// It is sealed and there were no keys: only its files were read, not what is in them.
    pub is_closed: bool,
    /// Octets of the database.
    pub octets: u64,
    pub messages: u64,
    /// Not yet in their last state.
    pub live_messages: u64,
    pub inbound: u64,
    /// Entries by what they are.
    pub entries: BTreeMap<&'static str, u64>,
    pub unreadable: u64,
    pub damage: Vec<Damage>,
    pub problems: Vec<String>,
}

impl Report {
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty() && self.problems.is_empty()
    }

    fn problem(&mut self, text: impl Into<String>) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text.into());
        } else if self.problems.len() == PROBLEMS_MAX {
            self.problems.push("there are more problems".to_owned());
        }
    }
}

/// Something that a store keeps for people.
#[derive(Clone, Debug)]
pub enum Item {
    Message(Box<Message>),
    Inbound(Box<InboundRecord>),
    /// A delivery receipt whose message is not known.
    Receipt(Box<OrphanReceipt>),
    OptOut(OptOut),
    /// A webhook or a deliver_sm that is owed.
    Owed(OutboxEntry),
    /// A record, or all of one millisecond's that lay together, or something that is no record.
    Unreadable(Option<MessageId>, String),
}

/// Refuses to start on files in which sled would silently lose what is there. Changes nothing, but that half-written
/// snapshots go.
pub(super) fn before_open(directory: &Path, manifest: Option<Manifest>) -> Result<(), StoreError> {
    // Of a running server the files are never at rest.
    let lock = lock(directory)?;
    remove_unfinished(&directory.join("sled"))?;
    drop(lock);
    as_sled_will(directory, manifest)
}

/// Who is killed as sled writes a snapshot leaves a part of one, which sled 0.34 then takes for the newest and refuses.
fn remove_unfinished(directory: &Path) -> Result<(), StoreError> {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return Ok(());
    };
    for entry in entries.filter_map(Result::ok) {
        let name = entry.file_name();
        let unfinished = |name: &str| name.starts_with("snap.") && name.ends_with(log::UNFINISHED);
        if name.to_str().is_some_and(unfinished) {
            let path = entry.path();
            std::fs::remove_file(&path)
                .map_err(|e| StoreError::Io(format!("{}: {e}", path.display())))?;
        }
    }
    Ok(())
}

/// Why what sled would make of the files is less than what is known to have been there.
fn as_sled_will(directory: &Path, manifest: Option<Manifest>) -> Result<(), StoreError> {
    let contents = Contents::read(directory, log::Depth::Start, manifest, None)?;
    let Some(contents) = contents else {
        return match manifest {
            Some(manifest) if manifest.sequence > 0 => Err(StoreError::Lost(format!(
                "its manifest knows commit {} ({} messages accepted), and the file sled/db is gone. {ADVICE}",
                manifest.sequence, manifest.accepted
            ))),
            _ => Ok(()),
        };
    };
    if let Some(first) = contents.log.damage.first() {
        return Err(StoreError::Corrupt(format!(
            "{} at octet {}: {} ({} such places). {ADVICE}",
            first.file,
            first.offset,
            first.what,
            contents.log.damage.len()
        )));
    }
    if contents.unreadable.len() + contents.unreadable_commits > 0 {
        return Err(StoreError::Corrupt(format!(
            "{} pages and {} commits cannot be read. {ADVICE}",
            contents.unreadable.len(),
            contents.unreadable_commits
        )));
    }
    match manifest {
        // The last commit of a sealed store is known once it is open.
        Some(manifest) if !contents.is_sealed => manifest.check(contents.sequence, ADVICE),
        _ => Ok(()),
    }
}

/// Reads everything; of a sealed store without `keys` its files alone.
pub fn check(directory: &Path, keys: Option<&Seals>) -> Result<Report, StoreError> {
    let _lock = lock(directory)?;
    let mut report = read_all(directory, keys)?;
    // What can be read and what a server would find are two things where the log is broken near its end.
    if report.is_sound()
        && let Err(refused) = as_sled_will(directory, Manifest::read(directory)?)
    {
        report.problem(refused.to_string());
    }
    Ok(report)
}

fn read_all(directory: &Path, keys: Option<&Seals>) -> Result<Report, StoreError> {
    let mut report = Report::default();
    let manifest = match Manifest::read(directory) {
        Ok(manifest) => manifest,
        Err(error @ StoreError::Format(_)) => return Err(error),
        Err(error) => {
            report.problem(error.to_string());
            None
        }
    };
    report.manifest_sequence = manifest.map(|m| m.sequence);
    report.closed_in_order = manifest.is_some_and(|m| m.clean);
    let contents = Contents::read(directory, log::Depth::Whole, manifest, keys)?;
    let Some(mut contents) = contents else {
        report.problem("the file sled/db is gone");
        return Ok(report);
    };
    report.octets = contents.log.octets;
    report.sequence = contents.sequence;
    report.is_sealed = contents.is_sealed;
    report.is_closed = contents.is_sealed && contents.seals.is_none();
    if report.is_closed {
        report.damage.clone_from(&contents.log.damage);
        if contents.unreadable.len() + contents.unreadable_commits > 0 {
            report.problem("pages or commits of the database cannot be read");
        }
        return Ok(report);
    }
    if let Some(manifest) = manifest
        && contents.sequence < manifest.sequence
    {
        report.problem(format!(
            "the manifest knows commit {}, the database ends at commit {}",
            manifest.sequence, contents.sequence
        ));
    }
    if contents.is_sealed && contents.names_key.is_none() {
        report.problem("the header of its seal cannot be read");
    }
    let plain = contents.plain();
    if contents.unopened > 0 {
        let n = contents.unopened;
        report.problem(format!("{n} sealed entries were changed or cut short"));
    }
    let due = check_plain(&plain, &contents.names(), &mut report);
    let lanes = lanes(&plain);
    let mut wanted = BTreeSet::new();
    let (mut messages, mut live) = (BTreeMap::new(), BTreeMap::new());
    contents.each_record(&mut |id, record| match read_record(id, &record) {
        Item::Message(message) => {
            let day = id.timestamp().day();
            messages.insert(id, day);
            if !message.state.is_terminal() {
                *live.entry(day).or_default() += 1_u64;
            }
            if let Some(due) = &message.due
                && let Some(lane) = lanes.get(&due.lane)
            {
                wanted.insert(keys::queue_key(&keys::lane_prefix(*lane), due.at, id.0));
            }
        }
        Item::Inbound(_) => report.inbound += 1,
        Item::Unreadable(id, why) => {
            report.unreadable += 1;
            let id = id.map_or(String::new(), |id| format!(" {id}"));
            report.problem(format!("record{id}: {why}"));
        }
        _ => {}
    });
    report.messages = messages.len() as u64;
    report.live_messages = live.values().sum();
    report.damage.clone_from(&contents.log.damage);
    if !contents.unreadable.is_empty() {
        let n = contents.unreadable.len();
        report.problem(format!("{n} pages of the database cannot be read"));
    }
    if contents.unreadable_commits > 0 {
        let n = contents.unreadable_commits;
        report.problem(format!("{n} commits of the journal cannot be read"));
    }
    let lost: Vec<_> = due.difference(&wanted).collect();
    if let Some(first) = lost.first() {
        let id = keys::due_entry(first).map_or(MessageId(0), |(_, _, id)| id);
        report.problem(format!(
            "{} entries of the queue have no message that is due then, the first is {id}'s",
            lost.len()
        ));
    }
    let queued = wanted.difference(&due).count();
    if queued > 0 {
        report.problem(format!("{queued} messages that are due are in no queue"));
    }
    match contents.ledger() {
        Some(ledger) => check_ledger(&ledger, &live, &due, &mut report),
        None if report.messages > 0 => report.problem("the ledger cannot be read"),
        None => {}
    }
    Ok(report)
}

fn check_ledger(
    ledger: &Ledger,
    live: &BTreeMap<u32, u64>,
    due: &BTreeSet<Key>,
    report: &mut Report,
) {
    let (counted, found): (u64, u64) = (ledger.live.values().sum(), live.values().sum());
    if counted != found {
        report.problem(format!(
            "the ledger counts {counted} messages that are not in their last state, {found} are there"
        ));
    }
    let queued: u64 = ledger.queued.values().sum();
    if queued != due.len() as u64 {
        report.problem(format!(
            "the ledger counts {queued} entries of queues, {} are there",
            due.len()
        ));
    }
}

/// Reads every plain entry; gives back those of the due index.
fn check_plain(
    plain: &BTreeMap<Key, Vec<u8>>,
    names: &Names,
    report: &mut Report,
) -> BTreeSet<Key> {
    let no_names = || Err("it has no legal shape".to_owned());
    let mut due = BTreeSet::new();
    for (key, value) in plain {
        let letter = key.get(..1).unwrap_or_default();
        let (name, read) = match letter {
            keys::DUE => {
                due.insert(key.clone());
                let whole = keys::due_entry(key).is_some();
                let whole = whole && prepared::due_expires_at(value).is_some();
                (
                    "queue entries",
                    whole
                        .then_some(())
                        .ok_or("it has no legal shape".to_owned()),
                )
            }
            keys::CORRELATION => ("awaited receipts", told(records::decode_awaited(value))),
            keys::ORPHAN => (
                "receipts without a message",
                told(records::decode_orphan(value)),
            ),
            keys::LESSONS => ("lessons on carriers", told(records::decode_lessons(value))),
            keys::CLAIM => ("claims", told(records::decode_claim(value))),
            keys::WEBHOOK => ("webhooks owed", told(records::decode_outbox(value))),
            keys::DELIVERY => ("deliveries owed", told(records::decode_outbox(value))),
            keys::DEAD => ("dead letters", told(records::decode_outbox(value))),
            keys::FRAGMENT => (
                "parts of inbound messages",
                told(records::decode_fragment(value)),
            ),
            keys::WISH => (
                "opt-outs",
                match keys::wish_parts(names, key, value) {
                    Some((.., wish)) => told(records::decode_wish(wish)),
                    None => no_names(),
                },
            ),
            keys::RECENT => ("recency counts", told(records::decode_recent(value))),
            keys::STATE => (
                "plugin state",
                match keys::state_parts(names, key, value) {
                    Some((.., state)) => told(records::decode_state(state)),
                    None => no_names(),
                },
            ),
            keys::INBOUND => ("inbound list", told(records::decode_parties(value))),
            keys::LEDGER => continue,
            [keys::IDEMPOTENCY] => ("idempotency keys", told(records::decode_fingerprint(value))),
            _ => ("other entries", Ok(())),
        };
        *report.entries.entry(name).or_default() += 1;
        if let Err(why) = read {
            report.unreadable += 1;
            report.problem(format!("one of the {name}: {why}"));
        }
    }
    due
}

fn told<T>(read: Result<T, super::bytes::Damage>) -> Result<(), String> {
    read.map(|_| ()).map_err(|e| e.to_string())
}

/// Numbers of lanes by the lane.
fn lanes(plain: &BTreeMap<Key, Vec<u8>>) -> std::collections::HashMap<crate::domain::Lane, u16> {
    use crate::domain::{CarrierId, Lane};
    let mut lanes = std::collections::HashMap::from([(Lane::Decide, 0)]);
    for (key, name) in plain.iter().filter(|(k, _)| k.starts_with(keys::LANE)) {
        let number = key.get(1..).and_then(|n| n.try_into().ok());
        if let (Some(number), Ok(name)) = (number, std::str::from_utf8(name)) {
            lanes.insert(
                Lane::Carrier(CarrierId::from(name)),
                u16::from_be_bytes(number),
            );
        }
    }
    lanes
}

fn read_record(id: MessageId, record: &Found<'_>) -> Item {
    let record = match record {
        Ok(record) => *record,
        Err(why) => return Item::Unreadable(Some(id), why.clone()),
    };
    let read = match records::kind_of(record) {
        Some(kind) if kind == Kind::Inbound as u8 => {
            records::decode_inbound(record).map(|r| Item::Inbound(Box::new(r)))
        }
        _ => records::decode_message(record).map(|m| Item::Message(Box::new(m))),
    };
    read.unwrap_or_else(|damage| Item::Unreadable(Some(id), damage.to_string()))
}

/// Hands out everything that a store keeps for people. Stops where `take` fails.
pub fn export<E>(
    directory: &Path,
    keys: Option<&Seals>,
    mut take: impl FnMut(Item) -> Result<(), E>,
) -> Result<Result<(), E>, StoreError> {
    let _lock = lock(directory)?;
    let manifest = readable_manifest(directory)?;
    let contents = Contents::read(directory, log::Depth::Whole, manifest, keys)?;
    let Some(mut contents) = contents else {
        return Err(StoreError::Lost("the file sled/db is gone".into()));
    };
    closed_is_refused(&contents)?;
    let mut done = Ok(());
    contents.each_record(&mut |id, record| {
        if done.is_ok() {
            done = take(read_record(id, &record));
        }
    });
    let (plain, names) = (contents.plain(), contents.names());
    if contents.unopened > 0 && done.is_ok() {
        let why = format!("{} sealed entries do not open", contents.unopened);
        done = take(Item::Unreadable(None, why));
    }
    for (key, value) in plain {
        if done.is_err() {
            break;
        }
        let item = match key.get(..1).unwrap_or_default() {
            keys::ORPHAN => orphan_at(&key, &value)?.map(|o| Item::Receipt(Box::new(o))),
            keys::WISH => optout::entry(&names, &key, &value).map(Item::OptOut),
            keys::WEBHOOK | keys::DELIVERY | keys::DEAD => {
                Some(Item::Owed(records::decode_outbox(&value).map_err(damage)?))
            }
            _ => None,
        };
        if let Some(item) = item {
            done = take(item);
        }
    }
    Ok(done)
}

/// A newer format is not read; a manifest that cannot be read is taken for none.
fn readable_manifest(directory: &Path) -> Result<Option<Manifest>, StoreError> {
    match Manifest::read(directory) {
        Err(error @ StoreError::Format(_)) => Err(error),
        read => Ok(read.ok().flatten()),
    }
}

fn closed_is_refused(contents: &Contents) -> Result<(), StoreError> {
    match contents.is_sealed && contents.seals.is_none() {
        false => Ok(()),
        true => Err(StoreError::Limit(
            "the store is sealed: give the configuration that names its keys (--config), under              store.encryption.keys"
                .into(),
        )),
    }
}

/// Keeps a server from starting meanwhile; refused where one runs and does not end soon.
fn lock(directory: &Path) -> Result<Option<File>, StoreError> {
    let path = directory.join("sled").join("db");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && directory.exists() => {
            return Ok(None);
        }
        Err(error) => return Err(StoreError::Io(format!("{}: {error}", path.display()))),
    };
    let locked = wait_for_lock(|| match file.try_lock_exclusive() {
        Err(error) if error.kind() == fs2::lock_contended_error().kind() => None,
        ended => Some(ended),
    });
    match locked {
        Some(Ok(())) => Ok(Some(file)),
        Some(Err(error)) => Err(StoreError::Io(format!("{}: {error}", path.display()))),
        None => Err(StoreError::Limit(format!(
            "{} is in use: stop the server first, or look at a copy of the directory",
            directory.display()
        ))),
    }
}

/// The entries that follow from a message.
fn derived(message: &Message, lane: Option<u16>) -> (Prepared, Option<Key>) {
    let prepared = Prepared::new(message, &mut Vec::new());
    let key = prepared
        .due
        .as_ref()
        .zip(lane)
        .map(|(due, lane)| keys::queue_key(&keys::lane_prefix(lane), due.at, message.id.0));
    (prepared, key)
}

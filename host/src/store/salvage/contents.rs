//! What a store holds, read from its files without opening it: plain entries and records, as they are
//! once the journal is replayed. What cannot be read is counted and passed over.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use super::super::blocks;
use super::super::engine::DAY;
use super::super::journal::{self, Replay};
use super::super::keys::{self, Key};
use super::super::manifest::Manifest;
use super::super::overlay::Generation;
use super::super::records::{self, Ledger};
use super::super::sealed::{self, Header, SEALED_ENTRIES};
use super::super::sealing::{Names, NamesKey, Seals};
use super::super::types::StoreError;
use super::log::{Depth, Log, META_PAGE, trees};
use super::page::{self, Data, Node};
use crate::domain::MessageId;

const MAIN: &[u8] = b"main";
const STEPS_MAX: usize = 10_000;

pub(super) struct Contents {
    pub log: Log,
    /// The journal, replayed: over the trees.
    overlay: Generation,
    /// Of the last commit.
    pub sequence: u64,
    main: Option<u64>,
    days: BTreeMap<u32, u64>,
    /// Its entries are sealed: without the keys only its files can be judged.
    pub is_sealed: bool,
    /// What opens what is sealed, where it is.
    pub seals: Option<Seals>,
    /// What hashed its names; none where they are as they are, and where that cannot be read any more.
    pub names_key: Option<NamesKey>,
    /// Leaves that no tree leads to any more, because damage took a node above them.
    loose: Vec<u64>,
    /// Pages of the trees that cannot be read.
    pub unreadable: HashSet<u64>,
    /// Commits of the journal that cannot be read.
    pub unreadable_commits: usize,
    /// Plain entries that no key opens.
    pub unopened: usize,
}

/// A record as it was written, or why it cannot be had.
pub(super) type Found<'a> = Result<&'a [u8], String>;

impl Contents {
    /// `None` where there is no database. `keys` open it where it is sealed; refused where one is missing.
    pub fn read(
        directory: &Path,
        depth: Depth,
        manifest: Option<Manifest>,
        keys: Option<&Seals>,
    ) -> Result<Option<Contents>, StoreError> {
        let durable = manifest.map_or(0, |m| m.sequence);
        let Some(log) = Log::open(&directory.join("sled"), depth, durable)? else {
            return Ok(None);
        };
        let mut contents = Contents {
            log,
            overlay: Generation::default(),
            sequence: 0,
            main: None,
            days: BTreeMap::new(),
            is_sealed: false,
            seals: None,
            names_key: None,
            loose: Vec::new(),
            unreadable: HashSet::new(),
            unreadable_commits: 0,
            unopened: 0,
        };
        let named = trees(&contents.log);
        if named.is_none() {
            // A log that was never written to has no trees.
            let pages = !contents.log.table.pages.is_empty();
            contents.unreadable.extend(pages.then_some(META_PAGE));
        }
        let trees = named.unwrap_or_default();
        let mut journals = BTreeMap::new();
        let (mut entries, mut seal) = (None, None);
        for (name, root) in &trees {
            match **name {
                [DAY, a, b, c, d] => {
                    contents
                        .days
                        .insert(u32::from_be_bytes([a, b, c, d]), *root);
                }
                _ if name == SEALED_ENTRIES.as_bytes() => entries = Some(*root),
                _ if name == sealed::TREE.as_bytes() => seal = Some(*root),
                _ if name == MAIN => contents.main = Some(*root),
                _ if journal::is_journal(name) => drop(journals.insert(name, *root)),
                _ => {}
            }
        }
        if !contents.unreadable.is_empty() || !contents.log.damage.is_empty() {
            contents.find_loose(trees.values());
        }
        contents.unlock(entries, seal, keys)?;
        contents.replay(journals.into_values());
        let ledger = contents.ledger();
        contents.sequence = contents.sequence.max(ledger.map_or(0, |l| l.sequence));
        Ok(Some(contents))
    }

    /// A store is sealed once its header says so: entries that were sealed before that are copies.
    fn unlock(
        &mut self,
        entries: Option<u64>,
        seal: Option<u64>,
        keys: Option<&Seals>,
    ) -> Result<(), StoreError> {
        let header = seal.and_then(|root| self.find(root, sealed::HEADER));
        let header = header.or_else(|| self.find_in_loose(sealed::HEADER));
        let header = header.map(|octets| Header::decode(&octets)).transpose()?;
        self.is_sealed = header.is_some() || (entries.is_some() && self.main.is_none());
        if !self.is_sealed {
            return Ok(());
        }
        self.main = entries;
        self.seals = keys.cloned();
        if let (Some(header), Some(seals)) = (header, keys) {
            self.names_key = Some(header.names_key(seals)?);
        }
        Ok(())
    }

    /// What stands for names in keys.
    pub fn names(&self) -> Names {
        match (&self.names_key, self.is_sealed) {
            (Some(key), _) => Names::hashed(key),
            // What is hashed cannot be looked up, and tells its name all the same.
            (None, true) => Names::hashed(&[]),
            (None, false) => Names::default(),
        }
    }

    /// Brings the journal's commits into the overlay.
    fn replay(&mut self, journals: impl Iterator<Item = u64>) {
        let mut chunks = Vec::new();
        for root in journals {
            let mut of_tree = BTreeMap::new();
            self.each(root, &mut |key, value| {
                of_tree.insert(key.to_vec(), value.to_vec());
            });
            chunks.extend(of_tree.into_values());
        }
        if !self.loose.is_empty() {
            self.each_loose(&mut |key, value| {
                if key.len() == 4 && journal::sequence_of(value).is_some() {
                    chunks.push(value.to_vec());
                }
            });
            chunks.sort_by_key(|chunk| journal::sequence_of(chunk));
        }
        let mut replay = Replay::default();
        for chunk in chunks {
            let sequence = journal::sequence_of(&chunk);
            self.sequence = self.sequence.max(sequence.unwrap_or(0));
            if self.is_sealed && self.seals.is_none() && sequence.is_some() {
                continue;
            }
            let taken = replay.take(&chunk, self.seals.as_ref(), &mut self.overlay);
            if taken.is_err() {
                self.unreadable_commits += 1;
                replay = Replay::default();
            }
        }
    }

    /// Leaves among all pages that these trees do not lead to.
    fn find_loose<'a>(&mut self, roots: impl Iterator<Item = &'a u64>) {
        let mut seen = HashSet::new();
        for root in roots {
            self.leaves(*root, &mut seen);
        }
        let pages = self.log.table.pages.keys().copied();
        let unseen: Vec<u64> = pages
            .filter(|pid| *pid > 1 && !seen.contains(pid))
            .collect();
        let mut leaves = Vec::new();
        for pid in unseen {
            if let Some((node, lsn)) = self.node(pid)
                && matches!(node.data, Data::Leaf(_))
            {
                leaves.push((lsn, pid));
            }
        }
        leaves.sort_unstable();
        self.loose = leaves.into_iter().map(|(_, pid)| pid).collect();
    }

    fn each_loose(&self, take: &mut dyn FnMut(&[u8], &[u8])) {
        for pid in &self.loose {
            self.entries(*pid, take);
        }
    }

    fn entries(&self, pid: u64, take: &mut dyn FnMut(&[u8], &[u8])) {
        if let Some((node, _)) = self.node(pid)
            && let Data::Leaf(leaf) = &node.data
        {
            for (end, value) in leaf {
                take(&node.key(end), value);
            }
        }
    }

    pub fn ledger(&self) -> Option<Ledger> {
        if self.is_sealed && self.seals.is_none() {
            return None;
        }
        let value = match self.overlay.plain.get(keys::LEDGER) {
            Some(entry) => entry.value.as_deref().map(<[u8]>::to_vec),
            None => {
                let found = self.main.and_then(|root| self.find(root, keys::LEDGER));
                let found = found.or_else(|| self.find_in_loose(keys::LEDGER));
                opened(self.seals.as_ref(), keys::LEDGER, &found?).ok()
            }
        };
        records::decode_ledger(&value?).ok()
    }

    fn find_in_loose(&self, wanted: &[u8]) -> Option<Vec<u8>> {
        let mut found = None;
        self.each_loose(&mut |key, value| {
            if key == wanted {
                found = Some(value.to_vec());
            }
        });
        found
    }

    /// Every plain entry, those of days among them. Counts what no key opens.
    pub fn plain(&mut self) -> BTreeMap<Key, Vec<u8>> {
        let mut all = BTreeMap::new();
        let seals = self.seals.clone();
        let mut unopened = HashSet::new();
        let mut take = |key: &[u8], value: &[u8]| match opened(seals.as_ref(), key, value) {
            Ok(value) => drop(all.insert(Key::from(key), value)),
            Err(_) => drop(unopened.insert(Key::from(key))),
        };
        self.each_loose(&mut |key, value| {
            let is_chunk = key.len() == 4 && journal::sequence_of(value).is_some();
            if !is_block(key) && !is_chunk && key != sealed::HEADER {
                take(key, value);
            }
        });
        let roots: Vec<u64> = self
            .main
            .into_iter()
            .chain(self.days.values().copied())
            .collect();
        for root in roots {
            self.each(root, &mut |key, value| {
                if !is_block(key) {
                    take(key, value);
                }
            });
        }
        for (key, entry) in &self.overlay.plain {
            match &entry.value {
                Some(value) => all.insert(key.clone(), value.to_vec()),
                None => all.remove(key),
            };
            unopened.remove(key);
        }
        self.unopened = unopened
            .iter()
            .filter(|key| !all.contains_key(*key))
            .count();
        all
    }

    /// Every record, and every block of records that no key opens. A record that damage left in two versions
    /// comes twice, the newer one later.
    pub fn each_record(&mut self, take: &mut dyn FnMut(MessageId, Found<'_>)) {
        let overlay = std::mem::take(&mut self.overlay);
        let seals = self.seals.clone();
        let mut of_block = |key: &[u8], value: &[u8]| {
            if !is_block(key) {
                return;
            }
            let records = match blocks::records(seals.as_ref(), key, value) {
                Ok(records) => records,
                Err(why) => return take(blocks::first_id(key), Err(why.to_string())),
            };
            blocks::each(&records, |id, record| {
                if !overlay.records.contains_key(&id) {
                    take(id, Ok(record));
                }
            });
        };
        self.each_loose(&mut of_block);
        for root in self.days.values().copied().collect::<Vec<_>>() {
            self.each(root, &mut of_block);
        }
        for (id, record) in &overlay.records {
            take(*id, Ok(record));
        }
        self.overlay = overlay;
    }

    /// One entry of a tree.
    fn find(&self, root: u64, wanted: &[u8]) -> Option<Vec<u8>> {
        let (mut pid, mut steps) = (root, 0);
        // A damaged tree may lead in circles.
        while steps < STEPS_MAX {
            steps += 1;
            let (node, _) = self.node(pid)?;
            if node.is_left_of(wanted) {
                pid = node.next?;
                continue;
            }
            match &node.data {
                Data::Index(children) => {
                    let at = children.partition_point(|(end, _)| *node.key(end) <= *wanted);
                    pid = children.get(at.checked_sub(1)?)?.1;
                }
                Data::Leaf(leaf) => {
                    let mut found = leaf.iter().filter(|(end, _)| *node.key(end) == *wanted);
                    return found.next().map(|(_, value)| value.clone());
                }
            }
        }
        None
    }

    /// The entries of a tree's leaves, the leaf that was changed last at the end.
    fn each(&mut self, root: u64, take: &mut dyn FnMut(&[u8], &[u8])) {
        for pid in self.leaves(root, &mut HashSet::new()) {
            self.entries(pid, take);
        }
    }

    fn leaves(&mut self, root: u64, seen: &mut HashSet<u64>) -> Vec<u64> {
        let mut leaves = Vec::new();
        let mut ahead = vec![root];
        while let Some(pid) = ahead.pop() {
            if !seen.insert(pid) {
                continue;
            }
            let Some((node, lsn)) = self.node(pid) else {
                self.unreadable.insert(pid);
                continue;
            };
            self.unreadable.extend(node.is_torn.then_some(pid));
            ahead.extend(node.next);
            match node.data {
                Data::Index(children) => ahead.extend(children.into_iter().map(|(_, pid)| pid)),
                // What is in the neighbour too is older here.
                Data::Leaf(_) => leaves.push((!node.merged, lsn, pid)),
            }
        }
        leaves.sort_unstable();
        leaves.into_iter().map(|(_, _, pid)| pid).collect()
    }

    /// A node with its changes, and when it changed last.
    fn node(&self, pid: u64) -> Option<(Node, u64)> {
        let page = self.log.table.pages.get(&pid)?;
        let mut node = Node::read(&self.log.payload(&page.base)?)?;
        let mut lsn = page.base.lsn;
        for place in &page.links {
            let payload = self.log.payload(place);
            match payload.as_deref().and_then(page::link) {
                Some(link) => node.apply(link),
                None => node.is_torn = true,
            }
            lsn = place.lsn;
        }
        Some((node, lsn))
    }
}

/// Whether this is the key of a block of records.
fn is_block(key: &[u8]) -> bool {
    key.len() == 8 && key.first() == Some(&blocks::LETTER)
}

/// A plain entry's value. Those of days are what they are: fingerprints under hashed keys.
fn opened(seals: Option<&Seals>, key: &[u8], value: &[u8]) -> Result<Vec<u8>, StoreError> {
    match seals {
        Some(seals) if keys::idempotency_day(key).is_none() => seals.open(key, value),
        _ => Ok(value.to_vec()),
    }
}

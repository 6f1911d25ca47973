//! A store that is sealed: what tells it from one that is not, how one becomes the other, and how what
//! old keys have sealed comes under the new one. All of it goes on in the thread that writes behind,
//! which alone writes to the trees.
//!
//! The tree `seal` has the header: which keys the store needs, and, sealed, the key of its hashed names.
//! Entries then lie in the tree `sealed` in the place of `main`; blocks of records and entries of the
//! journal say themselves whether they are sealed, because they may be from before.

use super::blocks;
use super::engine::{Engine, sled_error};
use super::keys;
use super::sealing::{Fingerprint, Names, NamesKey, Seals, missing};
use super::types::StoreError;

const VERSION: u8 = 1;
pub(super) const TREE: &str = "seal";
pub(super) const HEADER: &[u8] = b"header";
pub(super) const PLAIN_ENTRIES: &str = "main";
pub(super) const SEALED_ENTRIES: &str = "sealed";
/// What names' key is sealed for.
const PLACE: &[u8] = b"names";

/// Entries and octets that one step looks at.
const STEP_ENTRIES: usize = 500;
const STEP_OCTETS: usize = 2 << 20;

pub(super) struct Header {
    /// Whose seals there are, or may be.
    needed: Vec<Fingerprint>,
    /// Nothing is left that the newest of them has not sealed.
    complete: bool,
    names_key: Vec<u8>,
}

impl Header {
    pub fn read(db: &sled::Db) -> Result<Option<Header>, StoreError> {
        if !db
            .tree_names()
            .iter()
            .any(|name| **name == *TREE.as_bytes())
        {
            return Ok(None);
        }
        let tree = db.open_tree(TREE).map_err(sled_error)?;
        let octets = tree.get(HEADER).map_err(sled_error)?;
        octets.map(|octets| Header::decode(&octets)).transpose()
    }

    pub fn decode(octets: &[u8]) -> Result<Header, StoreError> {
        match octets {
            [VERSION, complete, count, rest @ ..] if rest.len() > 4 * usize::from(*count) => {
                let (needed, names_key) = rest.split_at(4 * usize::from(*count));
                Ok(Header {
                    needed: needed.as_chunks().0.to_vec(),
                    complete: *complete != 0,
                    names_key: names_key.to_vec(),
                })
            }
            [VERSION, ..] | [] => Err(StoreError::Corrupt("its seal's header is cut short".into())),
            [version, ..] => Err(StoreError::Format(format!(
                "its seal is of version {version}, which a newer release wrote"
            ))),
        }
    }

    fn write(&self, db: &sled::Db) -> Result<(), StoreError> {
        let count = u8::try_from(self.needed.len())
            .map_err(|_| StoreError::Limit("a store is sealed under 255 keys at most".into()))?;
        let mut octets = vec![VERSION, u8::from(self.complete), count];
        self.needed.iter().for_each(|f| octets.extend_from_slice(f));
        octets.extend_from_slice(&self.names_key);
        let tree = db.open_tree(TREE).map_err(sled_error)?;
        tree.insert(HEADER, octets).map_err(sled_error)?;
        Ok(())
    }

    /// Without keys nothing of it can be read.
    pub fn locked(&self) -> StoreError {
        match self.needed.first() {
            Some(fingerprint) => missing(fingerprint),
            None => StoreError::Corrupt("its seal names no key".into()),
        }
    }

    /// The key of its hashed names; refused where one of the keys that it needs is not there.
    pub fn names_key(&self, seals: &Seals) -> Result<NamesKey, StoreError> {
        if let Some(unknown) = self.needed.iter().find(|f| !seals.has(f)) {
            return Err(missing(unknown));
        }
        let octets = seals.open(PLACE, &self.names_key)?;
        octets.try_into().map_err(|_| {
            StoreError::Corrupt("the key of its hashed names has not 32 octets".into())
        })
    }
}

impl Engine {
    /// Reads and writes sealed octets from here on.
    pub(super) fn unlock(&mut self, mut header: Header, seals: Seals) -> Result<(), StoreError> {
        let names_key = header.names_key(&seals)?;
        if !header.needed.contains(&seals.newest()) {
            header.needed.insert(0, seals.newest());
            header.complete = false;
        }
        if !seals.is_newest(&header.names_key) {
            header.names_key.clear();
            seals.seal(PLACE, &names_key, &mut header.names_key)?;
        }
        header.write(&self.db)?;
        self.make_durable()?;
        seals.note_needed(&header.needed);
        self.main = self.db.open_tree(SEALED_ENTRIES).map_err(sled_error)?;
        // A crash may have come before that.
        self.db.drop_tree(PLAIN_ENTRIES).map_err(sled_error)?;
        self.names = Names::hashed(&names_key);
        self.seals = Some(seals);
        Ok(())
    }

    /// The journal of a store that was not sealed is in its trees. Begun again after a crash, it does
    /// no harm: the header comes last. `names_key`: of a store that this one is made of.
    pub(super) fn seal_all(
        &mut self,
        seals: Seals,
        names_key: Option<NamesKey>,
    ) -> Result<(), StoreError> {
        let names_key = names_key.map_or_else(Names::new_key, Ok)?;
        let names = Names::hashed(&names_key);
        self.db.drop_tree(SEALED_ENTRIES).map_err(sled_error)?;
        let sealed = self.db.open_tree(SEALED_ENTRIES).map_err(sled_error)?;
        let mut entries = 0u64;
        for item in self.main.iter() {
            let (key, value) = item.map_err(sled_error)?;
            let (key, value) = keys::hashed(&names, &key, &value)
                .unwrap_or_else(|| ((&*key).into(), value.to_vec()));
            let mut octets = Vec::new();
            seals.seal(&key, &value, &mut octets)?;
            sealed.insert(&*key, octets).map_err(sled_error)?;
            entries += 1;
        }
        if entries > 0 {
            tracing::info!(
                entries,
                "the store's entries are sealed; its records follow"
            );
        }
        self.make_durable()?;
        let mut header = Header {
            needed: vec![seals.newest()],
            complete: false,
            names_key: Vec::new(),
        };
        seals.seal(PLACE, &names_key, &mut header.names_key)?;
        header.write(&self.db)?;
        self.unlock(header, seals)
    }

    pub(super) fn make_durable(&self) -> Result<(), StoreError> {
        self.sync()?;
        self.sync_large_leaves()
    }
}

/// Brings what is not sealed by the newest key under it, a step at a time, until a whole pass finds
/// nothing any more.
#[derive(Default)]
pub(super) struct Resealing {
    started: bool,
    done: bool,
    /// None: the entries; then day by day.
    day: Option<u32>,
    after: Vec<u8>,
    rewritten: u64,
}

impl Resealing {
    pub fn step(&mut self, engine: &Engine) -> Result<(), StoreError> {
        let Some(seals) = engine.seals.as_ref().filter(|_| !self.done) else {
            return Ok(());
        };
        if !std::mem::replace(&mut self.started, true) {
            self.done = Header::read(&engine.db)?.is_none_or(|h| h.complete);
            return Ok(());
        }
        let tree = match self.day {
            None => Some(engine.main.clone()),
            Some(day) => engine.day(day, false)?,
        };
        let ended = match tree {
            Some(tree) => self.rewrite(&tree, seals)?,
            None => true,
        };
        if !ended {
            return Ok(());
        }
        self.after.clear();
        let mut days = engine.days();
        days.sort_unstable();
        let next = days.into_iter().find(|d| self.day.is_none_or(|at| *d > at));
        match next {
            Some(day) => self.day = Some(day),
            None => self.end_pass(engine, seals)?,
        }
        Ok(())
    }

    /// True where the tree has ended.
    fn rewrite(&mut self, tree: &sled::Tree, seals: &Seals) -> Result<bool, StoreError> {
        let mut octets = 0;
        let range = tree.range(self.after.clone()..);
        for (n, item) in range.enumerate() {
            let (key, value) = match item {
                // Its retention has ended meanwhile.
                Err(sled::Error::CollectionNotFound(_)) => return Ok(true),
                item => item.map_err(sled_error)?,
            };
            if n == STEP_ENTRIES || octets > STEP_OCTETS {
                self.after = key.to_vec();
                return Ok(false);
            }
            octets += value.len();
            let fresh = match self.day {
                None if seals.is_newest(&value) => None,
                None => {
                    let plain = seals.open(&key, &value)?;
                    let mut fresh = Vec::new();
                    seals.seal(&key, &plain, &mut fresh)?;
                    Some(fresh)
                }
                Some(_) => blocks::resealed(seals, &key, &value)?,
            };
            if let Some(fresh) = fresh {
                tree.insert(key, fresh).map_err(sled_error)?;
                self.rewritten += 1;
            }
        }
        Ok(true)
    }

    fn end_pass(&mut self, engine: &Engine, seals: &Seals) -> Result<(), StoreError> {
        self.day = None;
        let rewritten = std::mem::take(&mut self.rewritten);
        if rewritten > 0 || !engine.replayed_is_written() {
            return Ok(());
        }
        engine.make_durable()?;
        if let Some(mut header) = Header::read(&engine.db)? {
            header.needed = vec![seals.newest()];
            header.complete = true;
            header.write(&engine.db)?;
            engine.make_durable()?;
            seals.note_needed(&header.needed);
        }
        self.done = true;
        let unneeded: Vec<String> = seals
            .uses()
            .into_iter()
            .filter(|k| !k.needed)
            .map(|k| k.id)
            .collect();
        tracing::info!(?unneeded, "all of the store is sealed under its first key");
        Ok(())
    }
}

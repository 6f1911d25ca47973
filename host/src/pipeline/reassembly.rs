//! Mobile-originated messages in parts (3GPP TS 23.040, 9.2.3.24.1): parts in any order, several
//! times, from many handsets at once, some never complete, some with a reference that is used again.
//! Bounded in messages, octets and time; pure: the pipeline keeps the parts durable and passes the
//! time in.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

use crate::carrier::InboundPart;
use crate::clock::Timestamp;
use crate::domain::CarrierId;
use crate::domain::text::{Concat, join_contents};

/// How much may wait, and for how long.
#[derive(Clone, Debug)]
pub struct ReassemblyLimits {
    /// How long the parts of a message wait for each other.
    pub patience: Duration,
    /// Messages under assembly, of one handset at one carrier, and of all.
    pub per_source: usize,
    pub total: usize,
    /// Memory for their parts.
    pub octets: usize,
}

impl Default for ReassemblyLimits {
    fn default() -> ReassemblyLimits {
        ReassemblyLimits {
            patience: Duration::from_secs(24 * 3_600),
            per_source: 100,
            total: 100_000,
            octets: 64 << 20,
        }
    }
}

/// What a waiting part and a waiting message cost beside their octets.
const PART_OVERHEAD: usize = 48;
const ASSEMBLY_OVERHEAD: usize = 512;

/// A carrier that heard no answer sends a part again, even after it completed its message.
const REPEATS_WITHIN: Duration = Duration::from_secs(600);
const COMPLETED_MAX: usize = 10_000;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    carrier: CarrierId,
    originator: String,
    recipient: String,
    reference: u16,
    total: u8,
}

impl Key {
    fn of(carrier: &CarrierId, part: &InboundPart, concat: Concat) -> Key {
        Key {
            carrier: carrier.clone(),
            originator: part.originator.value.clone(),
            recipient: part.recipient.value.clone(),
            reference: concat.reference,
            total: concat.total,
        }
    }

    fn source(&self) -> (CarrierId, String) {
        (self.carrier.clone(), self.originator.clone())
    }
}

struct Piece {
    index: u8,
    data_coding: u8,
    /// Its own: each part names the shift tables that it was written with.
    udh: Vec<u8>,
    payload: Vec<u8>,
}

/// The parts of one message that are here, in order.
struct Assembly {
    since: Timestamp,
    /// The addresses of all parts.
    head: InboundPart,
    pieces: Vec<Piece>,
}

impl Assembly {
    fn octets(&self) -> usize {
        let pieces = self.pieces.iter();
        let octets = pieces.map(|p| PART_OVERHEAD + p.udh.len() + p.payload.len());
        ASSEMBLY_OVERHEAD + octets.sum::<usize>()
    }

    fn piece(&self, index: u8) -> Option<&Piece> {
        let at = self.pieces.binary_search_by_key(&index, |p| p.index);
        at.ok().and_then(|n| self.pieces.get(n))
    }

    fn insert(&mut self, index: u8, part: InboundPart) {
        let at = match self.pieces.binary_search_by_key(&index, |p| p.index) {
            Ok(_) => return,
            Err(at) => at,
        };
        let piece = Piece {
            index,
            data_coding: part.data_coding,
            udh: part.udh,
            payload: part.payload,
        };
        self.pieces.insert(at, piece);
    }
}

/// Parts of one message, taken out of the table: all of them, or as many as came.
pub struct Joined {
    pub carrier: CarrierId,
    /// In order.
    parts: Vec<InboundPart>,
    /// Every part that is in it.
    pub concats: Vec<Concat>,
    pub complete: bool,
    since: Timestamp,
}

impl Joined {
    /// The message that the parts make.
    pub fn whole(&self) -> Option<InboundPart> {
        let contents = self
            .parts
            .iter()
            .map(|p| (p.data_coding, p.udh.as_slice(), p.payload.as_slice()));
        let (data_coding, udh, payload) = join_contents(contents)?;
        Some(InboundPart {
            data_coding,
            udh,
            payload,
            concat: None,
            ..self.parts.first()?.clone()
        })
    }
}

/// What a part would do, asked before it is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prospect {
    /// It is here already, or its message was completed with it.
    Repeats,
    /// It is the last one.
    Completes,
    /// It waits for others.
    Waits,
    /// It begins another message where parts of one before still wait: see [`Reassembly::before`].
    Renews,
    /// There is no room for it.
    Alone,
}

/// What became of a part.
pub enum Added {
    /// Others are missing.
    Waiting,
    Repeated,
    /// All are here.
    Complete(Joined),
    /// The part begins another message under the same reference; what came of the one before.
    Renewed(Joined),
    /// The table is full, for this handset or for all: the part goes on alone.
    Alone(InboundPart),
}

/// Parts that wait for the others.
#[derive(Default)]
pub struct Reassembly {
    limits: ReassemblyLimits,
    table: HashMap<Key, Assembly>,
    per_source: HashMap<(CarrierId, String), usize>,
    octets: usize,
    completed: HashMap<Key, Vec<u64>>,
    completed_in_order: VecDeque<(Timestamp, Key)>,
}

impl Reassembly {
    pub fn new(limits: ReassemblyLimits) -> Reassembly {
        Reassembly {
            limits,
            ..Reassembly::default()
        }
    }

    /// What [`Reassembly::add`] would make of a part of several.
    pub fn prospect(&self, carrier: &CarrierId, part: &InboundPart, concat: Concat) -> Prospect {
        let key = Key::of(carrier, part, concat);
        let Some(assembly) = self.table.get(&key) else {
            return if self.was_completed_with(&key, concat.index, part) {
                Prospect::Repeats
            } else if self.has_room(&key, part, true) {
                Prospect::Waits
            } else {
                Prospect::Alone
            };
        };
        match assembly.piece(concat.index) {
            Some(piece) if piece.payload == part.payload => Prospect::Repeats,
            Some(_) => Prospect::Renews,
            None if assembly.pieces.len() + 1 == usize::from(concat.total) => Prospect::Completes,
            None if self.has_room(&key, part, false) => Prospect::Waits,
            None => Prospect::Alone,
        }
    }

    pub fn add(&mut self, carrier: &CarrierId, part: InboundPart, now: Timestamp) -> Added {
        let Some(concat) = part.concat.filter(|c| c.total > 1) else {
            return Added::Alone(part);
        };
        let key = Key::of(carrier, &part, concat);
        match self.prospect(carrier, &part, concat) {
            Prospect::Repeats => return Added::Repeated,
            Prospect::Alone => return Added::Alone(part),
            Prospect::Completes | Prospect::Waits | Prospect::Renews => {}
        }
        let taken = self.table.get(&key).and_then(|a| a.piece(concat.index));
        // Another text under the same place: the handset's reference has come round.
        let before = taken.is_some().then(|| self.take(&key)).flatten();
        self.put(&key, concat.index, part, now);
        if let Some(before) = before {
            return Added::Renewed(before);
        }
        let all = self.table.get(&key);
        if all.is_none_or(|a| a.pieces.len() < usize::from(concat.total)) {
            return Added::Waiting;
        }
        match self.take(&key) {
            Some(joined) => {
                self.remember(key, &joined.parts, now);
                Added::Complete(joined)
            }
            None => Added::Waiting,
        }
    }

    /// Takes out the parts of the message before, where this part begins another one under its reference: the
    /// handset's references have come round.
    pub fn before(
        &mut self,
        carrier: &CarrierId,
        part: &InboundPart,
        concat: Concat,
    ) -> Option<Joined> {
        match self.prospect(carrier, part, concat) {
            Prospect::Renews => self.take(&Key::of(carrier, part, concat)),
            _ => None,
        }
    }

    /// What could not be stored waits again, but for the part whose carrier sends it once more.
    pub fn put_back(&mut self, joined: Joined, without: Option<u8>) {
        for (part, concat) in joined.parts.into_iter().zip(joined.concats) {
            let key = Key::of(&joined.carrier, &part, concat);
            self.completed.remove(&key);
            if Some(concat.index) != without {
                self.put(&key, concat.index, part, joined.since);
            }
        }
    }

    /// What has waited too long, as far as it came, at most `max` messages, the oldest first: nothing is
    /// thrown away.
    pub fn overdue(&mut self, now: Timestamp, max: usize) -> Vec<Joined> {
        let late = |a: &Assembly| now.since(a.since) >= self.limits.patience;
        let late = self.table.iter().filter(|(_, a)| late(a));
        let mut late: Vec<(Timestamp, Key)> = late.map(|(k, a)| (a.since, k.clone())).collect();
        late.sort_unstable();
        late.truncate(max);
        late.into_iter()
            .filter_map(|(_, key)| self.take(&key))
            .collect()
    }

    /// Messages under assembly.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn has_room(&self, key: &Key, part: &InboundPart, fresh: bool) -> bool {
        let cost = PART_OVERHEAD
            + part.udh.len()
            + part.payload.len()
            + if fresh { ASSEMBLY_OVERHEAD } else { 0 };
        let used = self.per_source.get(&key.source()).copied().unwrap_or(0);
        self.octets + cost <= self.limits.octets
            && (!fresh || (self.table.len() < self.limits.total && used < self.limits.per_source))
    }

    fn put(&mut self, key: &Key, index: u8, part: InboundPart, now: Timestamp) {
        if !self.table.contains_key(key) {
            *self.per_source.entry(key.source()).or_default() += 1;
            let head = InboundPart {
                udh: Vec::new(),
                payload: Vec::new(),
                concat: None,
                ..part.clone()
            };
            let assembly = Assembly {
                since: now,
                head,
                pieces: Vec::new(),
            };
            self.octets += assembly.octets();
            self.table.insert(key.clone(), assembly);
        }
        if let Some(assembly) = self.table.get_mut(key) {
            let before = assembly.octets();
            assembly.since = assembly.since.min(now);
            assembly.insert(index, part);
            self.octets += assembly.octets() - before;
        }
    }

    fn take(&mut self, key: &Key) -> Option<Joined> {
        let assembly = self.table.remove(key)?;
        self.octets = self.octets.saturating_sub(assembly.octets());
        let source = key.source();
        if let Some(used) = self.per_source.get_mut(&source) {
            *used -= 1;
            if *used == 0 {
                self.per_source.remove(&source);
            }
        }
        Some(joined(key, assembly))
    }

    fn was_completed_with(&self, key: &Key, index: u8, part: &InboundPart) -> bool {
        let prints = self.completed.get(key);
        prints.and_then(|p| p.get(usize::from(index).checked_sub(1)?)) == Some(&print(part))
    }

    fn remember(&mut self, key: Key, parts: &[InboundPart], now: Timestamp) {
        let old = |(at, _): &(Timestamp, Key)| now.since(*at) >= REPEATS_WITHIN;
        while self.completed_in_order.front().is_some_and(old)
            || self.completed_in_order.len() >= COMPLETED_MAX
        {
            if let Some((_, key)) = self.completed_in_order.pop_front() {
                self.completed.remove(&key);
            }
        }
        self.completed_in_order.push_back((now, key.clone()));
        self.completed
            .insert(key, parts.iter().map(print).collect());
    }
}

fn print(part: &InboundPart) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&part.payload);
    hasher.finish()
}

fn joined(key: &Key, assembly: Assembly) -> Joined {
    let concat = |index| Concat {
        reference: key.reference,
        total: key.total,
        index,
    };
    let concats: Vec<Concat> = assembly.pieces.iter().map(|p| concat(p.index)).collect();
    let parts: Vec<InboundPart> = assembly
        .pieces
        .into_iter()
        .map(|piece| InboundPart {
            data_coding: piece.data_coding,
            udh: piece.udh,
            payload: piece.payload,
            concat: Some(concat(piece.index)),
            ..assembly.head.clone()
        })
        .collect();
    Joined {
        carrier: key.carrier.clone(),
        complete: parts.len() == usize::from(key.total),
        parts,
        concats,
        since: assembly.since,
    }
}

#[cfg(test)]
#[path = "reassembly_tests.rs"]
mod tests;

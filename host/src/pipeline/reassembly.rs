//! Mobile-originated messages in parts (3GPP TS 23.040, 9.2.3.24.1): parts in any order, several
//! times, from many handsets at once, some never complete. Bounded, pure; the pipeline keeps the
//! parts durable and passes the time in.

use std::collections::HashMap;
use std::time::Duration;

use crate::carrier::InboundPart;
use crate::clock::Timestamp;
use crate::domain::CarrierId;
use crate::domain::text::{Concat, join_contents};

/// Messages under assembly, all carriers together, and of one handset.
const TABLE_MAX: usize = 20_000;
const PER_SOURCE_MAX: usize = 32;

/// How long parts wait for each other.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    carrier: CarrierId,
    originator: String,
    recipient: String,
    reference: u16,
    total: u8,
}

struct Assembly {
    since: Timestamp,
    parts: Vec<Option<InboundPart>>,
}

/// What became of a part.
#[derive(Debug, PartialEq)]
pub enum Added {
    /// Others are missing.
    Waiting,
    /// All are here: the whole message.
    Complete(InboundPart),
    /// The table is full, for this handset or for all: the part goes on alone.
    Alone(InboundPart),
}

/// Parts that wait for the others.
#[derive(Default)]
pub struct Reassembly {
    table: HashMap<Key, Assembly>,
    per_source: HashMap<(CarrierId, String), usize>,
}

impl Reassembly {
    pub fn add(&mut self, carrier: &CarrierId, part: InboundPart, now: Timestamp) -> Added {
        let Some(concat) = part.concat.filter(|c| c.total > 1) else {
            return Added::Complete(part);
        };
        let key = Key {
            carrier: carrier.clone(),
            originator: part.originator.value.clone(),
            recipient: part.recipient.value.clone(),
            reference: concat.reference,
            total: concat.total,
        };
        let source = (carrier.clone(), part.originator.value.clone());
        if !self.table.contains_key(&key) {
            let used = self.per_source.get(&source).copied().unwrap_or(0);
            if self.table.len() >= TABLE_MAX || used >= PER_SOURCE_MAX {
                return Added::Alone(part);
            }
            *self.per_source.entry(source.clone()).or_default() += 1;
        }
        let assembly = self.table.entry(key.clone()).or_insert_with(|| Assembly {
            since: now,
            parts: vec![None; usize::from(concat.total)],
        });
        // Concat guarantees 1 <= index <= total.
        assembly.parts[usize::from(concat.index) - 1] = Some(part);
        if assembly.parts.iter().any(Option::is_none) {
            return Added::Waiting;
        }
        match self.take(&key, &source) {
            Some(whole) => Added::Complete(whole),
            None => Added::Waiting,
        }
    }

    /// What has waited too long, as far as it came: nothing is thrown away.
    pub fn overdue(&mut self, now: Timestamp) -> Vec<(CarrierId, Concat, InboundPart)> {
        let late: Vec<Key> = self
            .table
            .iter()
            .filter(|(_, a)| now.since(a.since) >= PATIENCE)
            .map(|(k, _)| k.clone())
            .collect();
        late.into_iter()
            .filter_map(|key| {
                let source = (key.carrier.clone(), key.originator.clone());
                let part = self.take(&key, &source)?;
                let concat = Concat {
                    reference: key.reference,
                    total: key.total,
                    index: 1,
                };
                Some((key.carrier, concat, part))
            })
            .collect()
    }

    fn take(&mut self, key: &Key, source: &(CarrierId, String)) -> Option<InboundPart> {
        let assembly = self.table.remove(key)?;
        if let Some(used) = self.per_source.get_mut(source) {
            *used -= 1;
            if *used == 0 {
                self.per_source.remove(source);
            }
        }
        join(assembly.parts)
    }
}

fn join(parts: Vec<Option<InboundPart>>) -> Option<InboundPart> {
    let parts: Vec<InboundPart> = parts.into_iter().flatten().collect();
    let contents = parts
        .iter()
        .map(|p| (p.data_coding, p.udh.as_slice(), p.payload.as_slice()));
    let joined = join_contents(contents)?;
    let mut whole = parts.into_iter().next()?;
    (whole.data_coding, whole.udh, whole.payload) = joined;
    whole.concat = None;
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Address;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn part(from: &str, text: &str, reference: u16, total: u8, index: u8) -> InboundPart {
        InboundPart {
            originator: Address::international(from).unwrap(),
            recipient: Address::originator("60777").unwrap(),
            data_coding: 0,
            udh: Vec::new(),
            payload: text.as_bytes().to_vec(),
            concat: Some(Concat::new(reference, total, index).unwrap()),
        }
    }

    fn north() -> CarrierId {
        CarrierId::from("north")
    }

    #[test]
    fn parts_meet_in_any_order_and_repeats_do_no_harm() {
        let mut table = Reassembly::default();
        let from = "+447700900123";
        assert_eq!(
            table.add(&north(), part(from, "c", 7, 3, 3), NOW),
            Added::Waiting
        );
        assert_eq!(
            table.add(&north(), part(from, "a", 7, 3, 1), NOW),
            Added::Waiting
        );
        assert_eq!(
            table.add(&north(), part(from, "a", 7, 3, 1), NOW),
            Added::Waiting
        );
        let Added::Complete(whole) = table.add(&north(), part(from, "b", 7, 3, 2), NOW) else {
            panic!("the message is complete");
        };
        assert_eq!(whole.payload, b"abc");
        assert!(table.table.is_empty() && table.per_source.is_empty());
    }

    #[test]
    fn the_same_reference_of_two_handsets_is_two_messages() {
        let mut table = Reassembly::default();
        table.add(&north(), part("+447700900123", "a", 7, 2, 1), NOW);
        let added = table.add(&north(), part("+447700900124", "b", 7, 2, 2), NOW);
        assert_eq!(added, Added::Waiting);
    }

    #[test]
    fn one_handset_cannot_fill_the_table() {
        let mut table = Reassembly::default();
        for reference in 0..1000 {
            table.add(&north(), part("+447700900123", "a", reference, 2, 1), NOW);
        }
        assert_eq!(table.table.len(), PER_SOURCE_MAX);
    }

    #[test]
    fn what_never_completes_is_passed_on_as_far_as_it_came() {
        let mut table = Reassembly::default();
        table.add(&north(), part("+447700900123", "b", 7, 3, 2), NOW);
        assert!(table.overdue(NOW).is_empty());
        let late = table.overdue(NOW.plus(PATIENCE));
        assert_eq!(late.len(), 1);
        assert_eq!(late[0].2.payload, b"b");
    }
}

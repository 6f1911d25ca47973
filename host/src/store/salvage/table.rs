//! sled's page table: where in the log the pieces of each page are. A snapshot file holds one up to a place in the
//! log; what the log has from there on is applied to it. Octet for octet as sled 0.34 does it (`pagecache/snapshot.rs`
//! and `serialization.rs` there).

use std::collections::BTreeMap;

use super::page::{self, Cursor};

/// Where a piece of a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub lsn: u64,
    pub at: u64,
    /// The file of its own that holds it.
    pub blob: Option<i64>,
    /// Octets that it takes in the log, its header among them.
    pub size: u64,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Page {
    pub base: Place,
    pub links: Vec<Place>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub pages: BTreeMap<u64, Page>,
    /// Pages that were given back, and where that is said.
    free: BTreeMap<u64, Place>,
    /// One more than the highest page that was ever replaced or given back.
    count: u64,
}

/// What a message of the log does to its page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Replace,
    Link,
    Free,
}

impl Table {
    /// In the order of the log. A link to nothing that is there is passed over, as sled does.
    pub fn apply(&mut self, change: Change, pid: u64, place: Place) {
        match change {
            Change::Link => {
                if let Some(page) = self.pages.get_mut(&pid)
                    && page.links.last().unwrap_or(&page.base).lsn < place.lsn
                {
                    page.links.push(place);
                }
                return;
            }
            Change::Replace => {
                self.free.remove(&pid);
                let links = Vec::new();
                self.pages.insert(pid, Page { base: place, links });
            }
            Change::Free => {
                self.pages.remove(&pid);
                self.free.insert(pid, place);
            }
        }
        self.count = self.count.max(pid + 1);
    }

    /// Of all pieces, those that give pages back among them.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        let pages = self.pages.values();
        let pieces = pages.flat_map(|page| [&page.base].into_iter().chain(&page.links));
        pieces.chain(self.free.values().filter(|place| **place != NOWHERE))
    }

    /// The table of a snapshot file, and the log sequence number that it goes up to. `None` where it fails its
    /// checksum, or is none.
    pub fn read(octets: &[u8]) -> Option<(u64, Table)> {
        let (rest, sum) = octets.split_last_chunk::<4>()?;
        let (content, _) = rest.split_last_chunk::<8>()?;
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return None;
        }
        let mut cursor = Cursor::new(content);
        let stable = cursor
            .i64()?
            .checked_sub(1)
            .and_then(|n| u64::try_from(n).ok());
        let _active_segment = cursor.number()?;
        let mut table = Table::default();
        while !cursor.is_empty() {
            let pieces = cursor.octet()?;
            let mut read = |sized: bool| {
                let lsn = u64::try_from(cursor.i64()?).ok()?;
                let is_blob = cursor.octet()? == 1;
                let at = cursor.number()?;
                let blob = match is_blob {
                    true => Some(cursor.i64()?),
                    false => None,
                };
                let size = if sized { cursor.number()? } else { 0 };
                Some(Place {
                    lsn,
                    at,
                    blob,
                    size,
                })
            };
            if pieces == 0 {
                table.free.insert(table.count, read(false)?);
            } else {
                let base = read(true)?;
                let links = (1..pieces).map(|_| read(true)).collect::<Option<_>>()?;
                table.pages.insert(table.count, Page { base, links });
            }
            table.count += 1;
        }
        Some((stable.unwrap_or(0), table))
    }

    /// A snapshot file up to `stable`, where a segment begins. `None` where sled could not write it: a page has
    /// more pieces than it ever makes.
    pub fn write(&self, stable: u64) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        out.extend((i64::try_from(stable).ok()? + 1).to_le_bytes());
        // No segment is begun at `stable`.
        page::put_number(&mut out, 0);
        for pid in 0..self.count {
            match (self.pages.get(&pid), self.free.get(&pid)) {
                (Some(page), _) => {
                    out.push(u8::try_from(page.links.len() + 1).ok()?);
                    for place in [&page.base].into_iter().chain(&page.links) {
                        put(&mut out, place)?;
                        page::put_number(&mut out, place.size);
                    }
                }
                (None, Some(place)) => {
                    out.push(0);
                    put(&mut out, place)?;
                }
                // All that told of this page was written over, which happens only once something newer does: behind
                // `stable`, whose replay puts that in the place of this.
                (None, None) => {
                    out.push(0);
                    put(&mut out, &NOWHERE)?;
                }
            }
        }
        let (length, sum) = (out.len() as u64, crc32fast::hash(&out));
        out.extend(length.to_le_bytes());
        out.extend(sum.to_le_bytes());
        Some(out)
    }
}

const NOWHERE: Place = Place {
    lsn: 0,
    at: 0,
    blob: None,
    size: 0,
};

fn put(out: &mut Vec<u8>, place: &Place) -> Option<()> {
    out.extend(i64::try_from(place.lsn).ok()?.to_le_bytes());
    out.push(u8::from(place.blob.is_some()));
    page::put_number(out, place.at);
    if let Some(id) = place.blob {
        out.extend(id.to_le_bytes());
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_change() -> impl Strategy<Value = (Change, u64, Option<i64>, u64)> {
        let change = prop_oneof![
            Just(Change::Replace),
            Just(Change::Link),
            Just(Change::Free)
        ];
        (change, 0_u64..20, any::<Option<i64>>(), 12..70_000_u64)
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(changes in prop::collection::vec(any_change(), 0..60)) {
            let mut table = Table::default();
            for (n, (change, pid, blob, size)) in changes.into_iter().enumerate() {
                let lsn = 1_000 * (n as u64 + 1);
                table.apply(change, pid, Place { lsn, at: lsn * 7, blob, size });
            }
            let (stable, read) = Table::read(&table.write(1 << 22).unwrap()).unwrap();
            prop_assert_eq!(stable, 1 << 22);
            prop_assert_eq!(&read.pages, &table.pages);
            prop_assert_eq!(read.count, table.count);
            for (pid, place) in &read.free {
                let known = table.free.get(pid).unwrap_or(&NOWHERE);
                prop_assert_eq!((place.lsn, place.at, place.blob), (known.lsn, known.at, known.blob));
            }
        }

        #[test]
        fn any_octets_are_read_without_a_panic(octets: Vec<u8>) {
            let mut whole = octets.clone();
            whole.extend((octets.len() as u64).to_le_bytes());
            whole.extend(crc32fast::hash(&octets).to_le_bytes());
            let _ = Table::read(&whole);
            let _ = Table::read(&octets);
        }
    }
}

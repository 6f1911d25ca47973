//! The shapes inside of sled's log: messages, nodes of its trees and changes to them. A reader is total: on
//! any input it ends with a value or nothing.

/// sled's own encoding: numbers of one to nine octets, strings behind their length.
pub(super) struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    pub fn new(octets: &'a [u8]) -> Cursor<'a> {
        Cursor(octets)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, n: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(n)?;
        self.0 = tail;
        Some(head)
    }

    pub fn octet(&mut self) -> Option<u8> {
        self.take(1).map(|o| o[0])
    }

    pub fn i64(&mut self) -> Option<i64> {
        let octets = self.take(8)?.first_chunk()?;
        Some(i64::from_le_bytes(*octets))
    }

    pub fn number(&mut self) -> Option<u64> {
        let first = self.octet()?;
        match first {
            0..=240 => Some(first.into()),
            241..=248 => Some(240 + 256 * u64::from(first - 241) + u64::from(self.octet()?)),
            249 => Some(2288 + 256 * u64::from(self.octet()?) + u64::from(self.octet()?)),
            _ => {
                let octets = self.take(usize::from(first) - 247)?;
                let mut number = [0; 8];
                number[..octets.len()].copy_from_slice(octets);
                Some(u64::from_le_bytes(number))
            }
        }
    }

    fn length(&mut self) -> Option<usize> {
        usize::try_from(self.number()?)
            .ok()
            .filter(|n| *n <= self.0.len())
    }

    pub fn octets(&mut self) -> Option<&'a [u8]> {
        let n = self.length()?;
        self.take(n)
    }
}

/// The same, written.
pub(super) fn put_number(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=240 => out.push(number as u8),
        241..=2287 => {
            let above = number - 240;
            out.extend([(above / 256 + 241) as u8, (above % 256) as u8]);
        }
        2288..=67_823 => {
            let above = number - 2_288;
            out.extend([249, (above / 256) as u8, (above % 256) as u8]);
        }
        _ => {
            let octets = (8 - number.leading_zeros() as usize / 8).max(3);
            out.push(247 + octets as u8);
            out.extend(&number.to_le_bytes()[..octets]);
        }
    }
}

pub(super) struct Header {
    sum: u32,
    pub kind: u8,
    pub length: usize,
    /// Of its segment.
    pub number: u64,
    pub pid: u64,
    /// Octets of the header itself.
    pub size: usize,
}

pub(super) struct Message<'a> {
    pub header: Header,
    pub payload: &'a [u8],
}

pub(super) fn header(octets: &[u8]) -> Option<Header> {
    let mut cursor = Cursor::new(octets);
    let sum = u32::from_le_bytes(*cursor.take(4)?.first_chunk()?);
    let kind = cursor.octet()?;
    let length = usize::try_from(cursor.number()?).ok()?;
    let number = cursor.number()?;
    let pid = cursor.number()?;
    let size = octets.len() - cursor.0.len();
    let known = is_kind(kind) && length <= super::super::engine::SEGMENT_OCTETS;
    known.then_some(Header {
        sum,
        kind,
        length,
        number,
        pid,
        size,
    })
}

/// Where in a message its kind stands.
pub(super) const KIND_AT: usize = 4;

pub(super) fn is_kind(octet: u8) -> bool {
    (1..=11).contains(&octet)
}

/// The message that begins here, if its checksum says so.
pub(super) fn message(octets: &[u8]) -> Option<Message<'_>> {
    let header = header(octets)?;
    let payload = octets.get(header.size..)?.get(..header.length)?;
    let mut sum = crc32fast::Hasher::new();
    sum.update(payload);
    sum.update(&octets[4..header.size]);
    (sum.finalize() ^ 0xFFFF_FFFF == header.sum).then_some(Message { header, payload })
}

/// A change to a node.
pub(super) enum Link<'a> {
    Set(&'a [u8], &'a [u8]),
    Remove(&'a [u8]),
    /// A child of this index begins to become one with its left neighbour, and the last that began has.
    ChildMerges(u64),
    ChildMerged,
    /// This node's entries are in its left neighbour.
    Merged,
}

pub(super) fn link(octets: &[u8]) -> Option<Link<'_>> {
    let mut cursor = Cursor::new(octets);
    Some(match cursor.octet()? {
        0 => Link::Set(cursor.octets()?, cursor.octets()?),
        1 => Link::Remove(cursor.octets()?),
        2 => Link::ChildMerges(cursor.number()?),
        3 => Link::ChildMerged,
        4 => Link::Merged,
        _ => return None,
    })
}

pub(super) struct Node {
    /// Its right neighbour.
    pub next: Option<u64>,
    pub merged: bool,
    /// A child of it whose entries are on their way into its left neighbour.
    merging_child: Option<u64>,
    /// A change to it cannot be read.
    pub is_torn: bool,
    prefix: Vec<u8>,
    /// The lowest key of its right neighbour; empty where there is none.
    high: Vec<u8>,
    pub data: Data,
}

pub(super) enum Data {
    Leaf(std::collections::BTreeMap<Vec<u8>, Vec<u8>>),
    /// Children by the end of their lowest key.
    Index(Vec<(Vec<u8>, u64)>),
}

impl Node {
    pub fn read(octets: &[u8]) -> Option<Node> {
        let mut cursor = Cursor::new(octets);
        let next = Some(cursor.number()?).filter(|n| *n != 0);
        let merging_child = Some(cursor.number()?).filter(|child| *child != 0);
        let merged = cursor.octet()? != 0;
        let prefix = usize::from(cursor.octet()?);
        let low = cursor.octets()?;
        let high = cursor.octets()?.to_vec();
        let is_index = cursor.octet()? == 1;
        // Each entry takes an octet at least.
        let n = cursor.length()?;
        let keys: Vec<&[u8]> = (0..n).map(|_| cursor.octets()).collect::<Option<_>>()?;
        let data = match is_index {
            true => {
                let mut children = Vec::with_capacity(n);
                for key in keys {
                    children.push((key.to_vec(), cursor.number()?));
                }
                Data::Index(children)
            }
            false => {
                let mut leaf = std::collections::BTreeMap::new();
                for key in keys {
                    leaf.insert(key.to_vec(), cursor.octets()?.to_vec());
                }
                Data::Leaf(leaf)
            }
        };
        Some(Node {
            next,
            merged,
            merging_child,
            is_torn: false,
            prefix: low.get(..prefix)?.to_vec(),
            high,
            data,
        })
    }

    pub fn apply(&mut self, link: Link<'_>) {
        match (link, &mut self.data) {
            (Link::Set(key, value), Data::Leaf(leaf)) => {
                leaf.insert(key.to_vec(), value.to_vec());
            }
            (Link::Remove(key), Data::Leaf(leaf)) => {
                leaf.remove(key);
            }
            (Link::Merged, _) => self.merged = true,
            (Link::ChildMerges(child), _) => self.merging_child = Some(child),
            (Link::ChildMerged, Data::Index(children)) => {
                let gone = self.merging_child.take();
                children.retain(|(_, child)| Some(*child) != gone);
            }
            (Link::Set(..) | Link::Remove(_), Data::Index(_))
            | (Link::ChildMerged, Data::Leaf(_)) => {}
        }
    }

    pub fn is_left_of(&self, key: &[u8]) -> bool {
        !self.high.is_empty() && *self.high <= *key
    }

    /// The whole of a key that a leaf holds the end of.
    pub fn key(&self, end: &[u8]) -> Vec<u8> {
        [&self.prefix, end].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_forgets_a_child_that_its_neighbour_took_in() {
        // No right neighbour, nothing merging, no prefix, no bounds; an index of two children.
        let octets = [0, 0, 0, 0, 0, 0, 1, 2, 0, 1, b'm', 7, 9];
        let mut node = Node::read(&octets).unwrap();
        node.apply(link(&[2, 9]).unwrap());
        let children = |node: &Node| match &node.data {
            Data::Index(children) => children.iter().map(|(_, child)| *child).collect(),
            Data::Leaf(_) => Vec::new(),
        };
        assert_eq!(children(&node), [7, 9], "its entries may still be there");
        node.apply(link(&[3]).unwrap());
        assert_eq!(children(&node), [7]);
    }

    #[test]
    fn numbers_come_back_at_each_edge() {
        let edges = [0, 240, 241, 2_287, 2_288, 67_823, 67_824, u64::MAX];
        let powers = (24..64).step_by(8).flat_map(|n| [(1_u64 << n) - 1, 1 << n]);
        for number in edges.into_iter().chain(powers) {
            let mut octets = Vec::new();
            put_number(&mut octets, number);
            let mut cursor = Cursor::new(&octets);
            assert_eq!(cursor.number(), Some(number));
            assert!(cursor.is_empty(), "{number}: {octets:?}");
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_a_panic(octets: Vec<u8>) {
            let _ = message(&octets);
            let _ = link(&octets);
            let _ = Node::read(&octets);
        }
    }
}

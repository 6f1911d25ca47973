//! How an input is changed: bits, octets, lengths, pieces of itself and of others, and the numbers that
//! the code compared it with. All randomness comes from one seed.

/// Numbers at which code goes wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    7,
    15,
    16,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x1_0000,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
];
/// Changes to one input at once, at most.
const STACK_MAX: u64 = 5;

pub struct Mutator {
    state: u64,
}

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator { state: seed }
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1; 0 where `n` is.
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }

    /// One of the kept inputs, new ones more often.
    pub fn choose<'a>(&mut self, kept: &'a [Vec<u8>]) -> Option<&'a Vec<u8>> {
        let (one, other) = (self.below(kept.len()), self.below(kept.len()));
        kept.get(one.max(other))
    }

    /// A changed copy of `base`.
    pub fn change(&mut self, base: &[u8], other: &[u8], compared: &[(u64, u64)]) -> Vec<u8> {
        let mut input = base.to_vec();
        for _ in 0..=self.next() % STACK_MAX {
            match self.next() % 12 {
                0 => self.flip(&mut input),
                1 => self.overwrite(&mut input),
                2 => self.insert(&mut input),
                3 => self.remove(&mut input),
                4 => self.repeat(&mut input),
                5 => self.edge(&mut input),
                6 => self.splice(&mut input, other),
                7 => self.length(&mut input),
                8 => self.truncate(&mut input),
                _ => self.answer(&mut input, compared),
            }
        }
        input
    }

    fn flip(&mut self, input: &mut [u8]) {
        let at = self.below(input.len());
        let bit = 1 << (self.next() % 8);
        if let Some(octet) = input.get_mut(at) {
            *octet ^= bit;
        }
    }

    fn overwrite(&mut self, input: &mut [u8]) {
        let at = self.below(input.len());
        let new = self.next() as u8;
        if let Some(octet) = input.get_mut(at) {
            *octet = new;
        }
    }

    fn insert(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len() + 1);
        let count = 1 + self.below(8);
        let new: Vec<u8> = (0..count).map(|_| self.next() as u8).collect();
        input.splice(at..at, new);
    }

    fn remove(&mut self, input: &mut Vec<u8>) {
        let at = self.below(input.len());
        let end = (at + 1 + self.below(16)).min(input.len());
        input.drain(at.min(end)..end);
    }

    fn repeat(&mut self, input: &mut Vec<u8>) {
        let from = self.below(input.len());
        let to = (from + 1 + self.below(32)).min(input.len());
        let piece = input[from.min(to)..to].to_vec();
        let at = self.below(input.len() + 1);
        for _ in 0..1 + self.below(3) {
            input.splice(at..at, piece.iter().copied());
        }
    }

    /// A number that is on the edge of something, in one, two or four octets.
    fn edge(&mut self, input: &mut [u8]) {
        let value = EDGES[self.below(EDGES.len())];
        let width = 1 << self.below(3);
        self.put(input, value, width);
    }

    fn splice(&mut self, input: &mut Vec<u8>, other: &[u8]) {
        let cut = self.below(other.len() + 1);
        let at = self.below(input.len() + 1);
        if self.next() % 2 == 0 {
            input.truncate(at);
        }
        let at = at.min(input.len());
        input.splice(at..at, other[cut..].iter().copied());
    }

    /// Makes the first four octets the whole length, as a PDU's do.
    fn length(&mut self, input: &mut [u8]) {
        let length = (input.len() as u32).to_be_bytes();
        if let Some(head) = input.first_chunk_mut() {
            *head = length;
        }
    }

    fn truncate(&mut self, input: &mut Vec<u8>) {
        input.truncate(self.below(input.len() + 1));
    }

    /// Where the input holds one side of a comparison, it is made to hold the other.
    fn answer(&mut self, input: &mut [u8], compared: &[(u64, u64)]) {
        let Some((left, right)) = compared.get(self.below(compared.len())).copied() else {
            return;
        };
        let (held, wanted) = match self.next() % 2 {
            0 => (left, right),
            _ => (right, left),
        };
        let least = match held.max(wanted) {
            0..=0xFF => 0,
            0x100..=0xFFFF => 1,
            0x1_0000..=0xFFFF_FFFF => 2,
            _ => 3,
        };
        let width: usize = 1 << (least + self.below(2)).min(3);
        let big_endian = self.next() % 4 != 0;
        let octets = |value: u64| -> Vec<u8> {
            let mut all = value.to_be_bytes()[8 - width..].to_vec();
            if !big_endian {
                all.reverse();
            }
            all
        };
        let (held, wanted) = (octets(held), octets(wanted));
        let places: Vec<usize> = (0..(input.len() + 1).saturating_sub(width))
            .filter(|at| input[*at..at + width] == held)
            .collect();
        match places.get(self.below(places.len())) {
            Some(at) => input[*at..at + width].copy_from_slice(&wanted),
            None => {
                let at = self.below(input.len());
                if let Some(place) = input.get_mut(at..at + width) {
                    place.copy_from_slice(&wanted);
                }
            }
        }
    }

    fn put(&mut self, input: &mut [u8], value: u64, width: usize) {
        let at = self.below(input.len());
        if let Some(place) = input.get_mut(at..at + width) {
            place.copy_from_slice(&value.to_be_bytes()[8 - width..]);
        }
    }
}

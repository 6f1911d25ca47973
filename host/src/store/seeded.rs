//! 64-bit hashes of strings under a secret seed, for tables that hold millions of numbers in memory
//! without holding the numbers. Not for anything that needs a cryptographic hash.

use std::hash::{BuildHasherDefault, Hasher};

/// Drawn once for a store and kept in it, so that persisted hashes stay valid.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seed(pub u64);

impl Seed {
    /// Parts are separated: ("ab", "c") differs from ("a", "bc").
    pub fn hash<P: AsRef<[u8]>>(self, parts: &[P]) -> u64 {
        let mut state = self.0 ^ 0x9E37_79B9_7F4A_7C15;
        for part in parts {
            let mut chunks = part.as_ref().chunks_exact(8);
            for chunk in &mut chunks {
                state = mix(state, chunk.try_into().map_or(0, u64::from_le_bytes));
            }
            let mut tail = [0; 8];
            let rest = chunks.remainder();
            tail[..rest.len()].copy_from_slice(rest);
            tail[7] = 0x80 | rest.len() as u8;
            state = mix(state, u64::from_le_bytes(tail));
        }
        mix(state, self.0.rotate_left(32))
    }
}

/// The folded multiplication of wyhash.
fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0xA076_1D64_78BD_642F) * u128::from(b ^ 0xE703_7ED1_A0B4_28DB);
    (product as u64) ^ ((product >> 64) as u64)
}

/// For tables whose keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct AsIs(u64);

pub(super) type BuildAsIs = BuildHasherDefault<AsIs>;

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_border_between_parts_counts() {
        let seed = Seed(7);
        assert_ne!(seed.hash(&["ab", "c"]), seed.hash(&["a", "bc"]));
        assert_ne!(seed.hash(&["12345678", ""]), seed.hash(&["12345678"]));
    }

    #[test]
    fn a_million_numbers_do_not_collide() {
        let seed = Seed(0x1234_5678_9ABC_DEF0);
        let mut seen = std::collections::HashSet::new();
        let distinct = (0..1_000_000u64)
            .all(|n| seen.insert(seed.hash(&["acme", &(447_700_000_000 + n).to_string()])));
        assert!(distinct);
    }

    #[test]
    fn another_seed_gives_other_hashes() {
        assert_ne!(Seed(1).hash(&["x"]), Seed(2).hash(&["x"]));
    }
}

//! Encryption at rest: octets are sealed (AES-256-GCM) as they go to disk and opened as they come back,
//! under keys that the operator gives; the first one seals, all of them open. Names that lookups need
//! are kept as a keyed hash. Knows octets and keys; which octets go where is the engine's business.
//!
//! Sealed octets are: the key's fingerprint (4), the nonce (12), the ciphertext with its tag (16). What
//! they stand for (a tree's key, a commit's number) is authenticated with them, so that nothing can be
//! put in another's place.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::types::StoreError;

const FINGERPRINT: usize = 4;
const TAG: usize = 16;
/// What sealing adds.
pub(super) const OVERHEAD: usize = FINGERPRINT + NONCE_LEN + TAG;
/// Octets that stand for a name in a key.
const HASH: usize = 16;

/// Tells one key from another without telling what it is.
pub(super) type Fingerprint = [u8; FINGERPRINT];

/// A key of the configuration.
#[derive(Clone)]
pub struct SealingKey {
    pub id: String,
    pub octets: [u8; 32],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingKey({})", self.id)
    }
}

/// How a key is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    pub id: String,
    /// The one that seals.
    pub seals: bool,
    /// Something on disk is, or may be, sealed under it.
    pub needed: bool,
}

/// All keys of a server. A clone is the same one.
#[derive(Clone)]
pub struct Seals(Arc<Inner>);

struct Inner {
    keys: Vec<Known>,
    /// Nonces count up from a random beginning (96 bits), so that two runs under one key do not meet.
    nonce_high: [u8; 4],
    nonce_low: AtomicU64,
}

struct Known {
    id: String,
    fingerprint: Fingerprint,
    key: LessSafeKey,
    needed: AtomicBool,
}

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ids = self.0.keys.iter().map(|k| &k.id);
        f.debug_list().entries(ids).finish()
    }
}

impl Seals {
    /// The first key seals. An error names the rule, for the operator.
    pub fn new(keys: &[SealingKey]) -> Result<Seals, String> {
        let mut known: Vec<Known> = Vec::with_capacity(keys.len());
        for key in keys {
            let digest = digest::digest(
                &digest::SHA256,
                &[b"heliograph sealing key ", &key.octets[..]].concat(),
            );
            let fingerprint: Fingerprint = digest
                .as_ref()
                .first_chunk()
                .copied()
                .ok_or("a digest is too short")?;
            if let Some(twin) = known.iter().find(|k| k.fingerprint == fingerprint) {
                return Err(format!("keys {:?} and {:?} are the same", twin.id, key.id));
            }
            if known.iter().any(|k| k.id == key.id) {
                return Err(format!("the id {:?} is used twice", key.id));
            }
            let unbound = UnboundKey::new(&AES_256_GCM, &key.octets);
            known.push(Known {
                id: key.id.clone(),
                fingerprint,
                key: LessSafeKey::new(unbound.map_err(|_| "a key has not 32 octets")?),
                needed: AtomicBool::new(false),
            });
        }
        let first = known.first().ok_or("names no key")?;
        first.needed.store(true, Ordering::Relaxed);
        let (mut nonce_high, mut low) = ([0; 4], [0; 8]);
        random(&mut nonce_high)?;
        random(&mut low)?;
        Ok(Seals(Arc::new(Inner {
            keys: known,
            nonce_high,
            nonce_low: AtomicU64::new(u64::from_be_bytes(low)),
        })))
    }

    /// Appends `plain`, sealed for `place`, to `out`.
    pub fn seal(&self, place: &[u8], plain: &[u8], out: &mut Vec<u8>) -> Result<(), StoreError> {
        let key = self.first();
        let mut nonce = [0; NONCE_LEN];
        let count = self.0.nonce_low.fetch_add(1, Ordering::Relaxed);
        nonce[..4].copy_from_slice(&self.0.nonce_high);
        nonce[4..].copy_from_slice(&count.to_be_bytes());
        out.reserve(OVERHEAD + plain.len());
        out.extend_from_slice(&key.fingerprint);
        out.extend_from_slice(&nonce);
        let start = out.len();
        out.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let sealed = key
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(place), &mut out[start..]);
        let tag = sealed.map_err(|_| StoreError::Io("octets could not be sealed".into()))?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, StoreError> {
        let damaged = || StoreError::Corrupt("sealed octets were changed or cut short".into());
        let (fingerprint, rest) = sealed
            .split_first_chunk::<FINGERPRINT>()
            .ok_or_else(damaged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let key = self
            .known(fingerprint)
            .ok_or_else(|| missing(fingerprint))?;
        let mut octets = rest.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = key.key.open_in_place(nonce, Aad::from(place), &mut octets);
        let length = opened.map_err(|_| damaged())?.len();
        octets.truncate(length);
        Ok(octets)
    }

    /// Whether these octets are sealed under the key that seals now.
    pub(super) fn is_newest(&self, sealed: &[u8]) -> bool {
        sealed.starts_with(&self.first().fingerprint)
    }

    pub(super) fn newest(&self) -> Fingerprint {
        self.first().fingerprint
    }

    pub(super) fn has(&self, fingerprint: &Fingerprint) -> bool {
        self.known(fingerprint).is_some()
    }

    /// Notes whose seals the disk holds.
    pub(super) fn note_needed(&self, fingerprints: &[Fingerprint]) {
        for key in &self.0.keys {
            let needed = fingerprints.contains(&key.fingerprint);
            key.needed.store(needed, Ordering::Relaxed);
        }
    }

    pub fn uses(&self) -> Vec<KeyUse> {
        let all = self.0.keys.iter().enumerate();
        all.map(|(n, key)| KeyUse {
            id: key.id.clone(),
            seals: n == 0,
            needed: key.needed.load(Ordering::Relaxed),
        })
        .collect()
    }

    fn known(&self, fingerprint: &Fingerprint) -> Option<&Known> {
        let mut keys = self.0.keys.iter();
        keys.find(|k| k.fingerprint == *fingerprint)
    }

    fn first(&self) -> &Known {
        // `new` refuses to make one without a key.
        &self.0.keys[0]
    }
}

/// What a store says whose key is not among those that it was given.
pub(super) fn missing(fingerprint: &Fingerprint) -> StoreError {
    let [a, b, c, d] = fingerprint;
    StoreError::Format(format!(
        "it is sealed under the key with fingerprint {a:02x}{b:02x}{c:02x}{d:02x}, which store.encryption.keys does not name"
    ))
}

fn random(out: &mut [u8]) -> Result<(), String> {
    let filled = SystemRandom::new().fill(out);
    filled.map_err(|_| "the operating system gives no random octets".to_owned())
}

/// What stands in keys for the names that they are made of: the names themselves, or a keyed hash. The
/// hash's key is the store's own, is sealed in it, and outlives the operator's keys.
#[derive(Clone, Default)]
pub(super) struct Names(Option<hmac::Key>);

pub(super) type NamesKey = [u8; 32];

impl Names {
    pub fn hashed(key: &[u8]) -> Names {
        Names(Some(hmac::Key::new(hmac::HMAC_SHA256, key)))
    }

    pub fn new_key() -> Result<NamesKey, StoreError> {
        let mut key = NamesKey::default();
        random(&mut key).map_err(StoreError::Io)?;
        Ok(key)
    }

    /// None where names stand for themselves.
    pub fn hash(&self, kind: &[u8], names: &[&str]) -> Option<[u8; HASH]> {
        let mut context = hmac::Context::with_key(self.0.as_ref()?);
        context.update(kind);
        for name in names {
            context.update(&(name.len() as u64).to_be_bytes());
            context.update(name.as_bytes());
        }
        context.sign().as_ref().first_chunk().copied()
    }

    pub fn are_hashed(&self) -> bool {
        self.0.is_some()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Names")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str, octet: u8) -> SealingKey {
        SealingKey {
            id: id.to_owned(),
            octets: [octet; 32],
        }
    }

    fn sealed(seals: &Seals, place: &[u8], plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        seals.seal(place, plain, &mut out).unwrap();
        out
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_alone_and_unchanged_alone() {
        let seals = Seals::new(&[key("a", 1)]).unwrap();
        for plain in [&b""[..], b"text", &[7; 70_000]] {
            let mut octets = sealed(&seals, b"here", plain);
            assert_eq!(octets.len(), plain.len() + OVERHEAD);
            assert_eq!(seals.open(b"here", &octets).as_deref(), Ok(plain));
            assert!(seals.open(b"there", &octets).is_err());
            for at in [4, 16, octets.len() - 1] {
                octets[at] ^= 1;
                assert!(seals.open(b"here", &octets).is_err(), "{at}");
                octets[at] ^= 1;
            }
            octets.pop();
            assert!(seals.open(b"here", &octets).is_err());
        }
        let twice = [sealed(&seals, b"x", b"same"), sealed(&seals, b"x", b"same")];
        assert_ne!(twice[0], twice[1]);
        for length in 0..OVERHEAD {
            assert!(seals.open(b"x", &twice[0][..length]).is_err());
        }
    }

    #[test]
    fn the_first_key_seals_and_all_open() {
        let old = Seals::new(&[key("old", 1)]).unwrap();
        let both = Seals::new(&[key("new", 2), key("old", 1)]).unwrap();
        let new = Seals::new(&[key("new", 2)]).unwrap();
        let before = sealed(&old, b"x", b"text");
        assert_eq!(both.open(b"x", &before).as_deref(), Ok(&b"text"[..]));
        assert!(!both.is_newest(&before));
        let after = sealed(&both, b"x", b"text");
        assert!(both.is_newest(&after) && new.open(b"x", &after).is_ok());
        let refused = new.open(b"x", &before).unwrap_err();
        assert!(matches!(&refused, StoreError::Format(why) if why.contains("fingerprint")));
        assert!(matches!(old.open(b"x", &after), Err(StoreError::Format(_))));
    }

    #[test]
    fn keys_that_cannot_be_told_apart_are_refused() {
        assert!(Seals::new(&[]).is_err());
        assert!(Seals::new(&[key("a", 1), key("b", 1)]).is_err());
        assert!(Seals::new(&[key("a", 1), key("a", 2)]).is_err());
    }

    #[test]
    fn names_are_hashed_under_a_key_and_apart() {
        let names = Names::hashed(&[1; 32]);
        let one = names.hash(b"u", &["ab", "c"]);
        assert_eq!(one, names.hash(b"u", &["ab", "c"]));
        for other in [
            names.hash(b"u", &["a", "bc"]),
            names.hash(b"s", &["ab", "c"]),
            Names::hashed(&[2; 32]).hash(b"u", &["ab", "c"]),
            Names::default().hash(b"u", &["ab", "c"]),
        ] {
            assert_ne!(one, other);
        }
    }
}

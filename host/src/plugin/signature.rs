//! Detached Ed25519 signatures (RFC 8032) over the exact bytes of a component: how keys and signatures
//! are written, and whether a component may be used by whom it is signed. Reads no file and keeps nothing.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first word of a signature's line.
const SIGNATURE_WORD: &str = "ed25519";
const PUBLIC_WORD: &str = "heliograph-ed25519";
const SECRET_WORD: &str = "heliograph-ed25519-secret";
/// What a file of signatures or of keys may hold.
pub const SIGNATURE_FILE_BYTES_MAX: usize = 16 << 10;
/// Signatures of one component, and trusted keys.
pub const SIGNATURES_MAX: usize = 16;
const TRUSTED_KEYS_MAX: usize = 64;
const KEY_NAME_CHARS_MAX: usize = 64;

/// Which key: the first 8 octets of the SHA-256 of the public key, written as 16 hexadecimal digits.
/// It finds a key and proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId([u8; 8]);

impl KeyId {
    fn of(public: &[u8; 32]) -> KeyId {
        let digest: [u8; 32] = Sha256::digest(public).into();
        let mut id = [0; 8];
        id.copy_from_slice(&digest[..8]);
        KeyId(id)
    }

    fn parse(text: &str) -> Option<KeyId> {
        let lower = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() != 16 || !text.bytes().all(lower) {
            return None;
        }
        let number = u64::from_str_radix(text, 16).ok()?;
        Some(KeyId(number.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What is wrong with a key or a signature as it is written. It never repeats a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FormatError(pub String);

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FormatError {}

fn bad(why: impl Into<String>) -> FormatError {
    FormatError(why.into())
}

/// A key that signatures are checked with, and what people call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    bytes: [u8; 32],
    name: String,
}

impl PublicKey {
    /// `heliograph-ed25519 BASE64 NAME`.
    pub fn parse(line: &str) -> Result<PublicKey, FormatError> {
        let (bytes, name) = key_line(line, PUBLIC_WORD)?;
        Ok(PublicKey { bytes, name })
    }

    /// Every line but empty ones and those that begin with `#`.
    pub fn parse_all(text: &str) -> Result<Vec<PublicKey>, FormatError> {
        let lines = text.lines().map(str::trim);
        let keys: Vec<PublicKey> = lines
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(PublicKey::parse)
            .collect::<Result<_, _>>()?;
        match keys.len() {
            0 => Err(bad("holds no key")),
            n if n > TRUSTED_KEYS_MAX => {
                Err(bad(format!("holds more than {TRUSTED_KEYS_MAX} keys")))
            }
            _ => Ok(keys),
        }
    }

    pub fn id(&self) -> KeyId {
        KeyId::of(&self.bytes)
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn line(&self) -> String {
        format!(
            "{PUBLIC_WORD} {} {}",
            STANDARD.encode(self.bytes),
            self.name
        )
    }

    /// Whether it made this signature over these very bytes.
    pub fn made(&self, signature: &Signature, bytes: &[u8]) -> bool {
        signature.key == self.id()
            && UnparsedPublicKey::new(&ED25519, &self.bytes)
                .verify(bytes, &signature.bytes)
                .is_ok()
    }
}

/// A key that signs.
pub struct SecretKey {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    name: String,
}

impl SecretKey {
    /// From 32 random octets.
    pub fn new(seed: [u8; 32], name: &str) -> Result<SecretKey, FormatError> {
        if !is_key_name(name) {
            return Err(bad(name_rule(name)));
        }
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed)
            .map_err(|_| bad("is no Ed25519 secret key"))?;
        Ok(SecretKey {
            seed,
            pair,
            name: name.to_owned(),
        })
    }

    /// `heliograph-ed25519-secret BASE64 NAME`.
    pub fn parse(text: &str) -> Result<SecretKey, FormatError> {
        let (seed, name) = key_line(text, SECRET_WORD)?;
        SecretKey::new(seed, &name)
    }

    pub fn line(&self) -> String {
        format!("{SECRET_WORD} {} {}", STANDARD.encode(self.seed), self.name)
    }

    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey {
            bytes,
            name: self.name.clone(),
        }
    }

    pub fn sign(&self, bytes: &[u8]) -> Signature {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(bytes).as_ref());
        Signature {
            key: self.public().id(),
            bytes: signature,
        }
    }
}

fn key_line(line: &str, word: &str) -> Result<([u8; 32], String), FormatError> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let [first, encoded, name] = words[..] else {
        return Err(bad(format!("is not `{word} BASE64 NAME`")));
    };
    if first != word {
        return Err(bad(format!("does not begin with {word}")));
    }
    let bytes = STANDARD
        .decode(encoded)
        .ok()
        .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
        .ok_or_else(|| bad("has no base64 of 32 octets as its second word"))?;
    if !is_key_name(name) {
        return Err(bad(name_rule(name)));
    }
    Ok((bytes, name.to_owned()))
}

fn is_key_name(name: &str) -> bool {
    (1..=KEY_NAME_CHARS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._@-".contains(&b))
}

fn name_rule(name: &str) -> String {
    let name: String = name.chars().take(KEY_NAME_CHARS_MAX).collect();
    format!("{name:?} is not 1 to {KEY_NAME_CHARS_MAX} of a-z, A-Z, 0-9, and . _ @ -")
}

/// One signature, as it was given: nothing is known of it until it is checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    key: KeyId,
    bytes: [u8; 64],
}

impl Signature {
    pub fn key(&self) -> KeyId {
        self.key
    }

    /// `KEYID:BASE64`, as a header has it.
    pub fn parse(text: &str) -> Result<Signature, FormatError> {
        let (key, encoded) = text.split_once(':').ok_or_else(|| bad(SIGNATURE_RULE))?;
        Signature::of(key, encoded)
    }

    fn of(key: &str, encoded: &str) -> Result<Signature, FormatError> {
        let key = KeyId::parse(key).ok_or_else(|| bad(SIGNATURE_RULE))?;
        let bytes = STANDARD
            .decode(encoded)
            .ok()
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| bad(SIGNATURE_RULE))?;
        Ok(Signature { key, bytes })
    }

    pub fn header(&self) -> String {
        format!("{}:{}", self.key, STANDARD.encode(self.bytes))
    }
}

const SIGNATURE_RULE: &str =
    "a signature is a key's id (16 hexadecimal digits) and the base64 of 64 octets";

/// The signatures of one component, one a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signatures(BTreeMap<KeyId, Signature>);

impl Signatures {
    /// One `ed25519 KEYID BASE64` a line. Lines that begin with another word are of a later format or
    /// for people, and are skipped; a line that begins so and goes on otherwise is an error, because
    /// damage must not make a signed component an unsigned one.
    pub fn parse(text: &str) -> Result<Signatures, FormatError> {
        if text.len() > SIGNATURE_FILE_BYTES_MAX {
            let max = SIGNATURE_FILE_BYTES_MAX;
            return Err(bad(format!("has more than {max} octets")));
        }
        let mut found = Signatures::default();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            if words.next() != Some(SIGNATURE_WORD) {
                continue;
            }
            let (Some(key), Some(encoded)) = (words.next(), words.next()) else {
                return Err(bad(format!("line {}: {SIGNATURE_RULE}", number + 1)));
            };
            let signature = Signature::of(key, encoded)
                .map_err(|e| bad(format!("line {}: {e}", number + 1)))?;
            found.add(signature)?;
        }
        Ok(found)
    }

    /// In place of one by the same key.
    pub fn add(&mut self, signature: Signature) -> Result<(), FormatError> {
        if self.0.len() >= SIGNATURES_MAX && !self.0.contains_key(&signature.key) {
            let rule = format!("a component has at most {SIGNATURES_MAX} signatures");
            return Err(bad(rule));
        }
        self.0.insert(signature.key, signature);
        Ok(())
    }

    /// All of `other`, and of these what it has not.
    pub fn merged(mut self, other: &Signatures) -> Result<Signatures, FormatError> {
        for signature in other.iter() {
            self.add(signature.clone())?;
        }
        Ok(self)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Signature> {
        self.0.values()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The lines of a file.
    pub fn text(&self) -> String {
        self.iter().fold(String::new(), |text, signature| {
            let encoded = STANDARD.encode(signature.bytes);
            format!("{text}{SIGNATURE_WORD} {} {encoded}\n", signature.key)
        })
    }
}

/// By whom a component is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The key's id.
    pub key: String,
    /// What the configuration calls it; none for a key that it does not name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The configuration trusts the key, and the signature is good. Otherwise it was not checked.
    pub trusted: bool,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) if self.trusted => write!(f, "{name} ({})", self.key),
            Some(_) | None => write!(f, "{} (not trusted)", self.key),
        }
    }
}

/// `signed by ops (00...)`, or `unsigned`: for logs and people.
pub fn signers_text(signers: &[Signer]) -> String {
    if signers.is_empty() {
        return "unsigned".to_owned();
    }
    let each: Vec<String> = signers.iter().map(Signer::to_string).collect();
    format!("signed by {}", each.join(", "))
}

/// Why a component is not taken for want of a good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untrusted {
    /// A trusted key's signature is not over these bytes.
    Bad { key: KeyId, name: String },
    /// A signature is required, and there is none.
    Unsigned,
    /// A signature is required, and all there are come from keys that are not trusted.
    Unknown { keys: Vec<KeyId> },
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Untrusted::Bad { key, name } => write!(
                f,
                "has a signature by {name} ({key}) that is not over these bytes: it was changed after it was signed; sign it again with `heliograph plugin sign`"
            ),
            Untrusted::Unsigned => write!(
                f,
                "is not signed, and plugins.require_signature asks for it: sign it with `heliograph plugin sign`"
            ),
            Untrusted::Unknown { keys } => {
                let keys: Vec<String> = keys.iter().map(KeyId::to_string).collect();
                let keys = keys.join(", ");
                write!(
                    f,
                    "is signed by {keys}, which plugins.trusted_keys does not name, and plugins.require_signature asks for a trusted key"
                )
            }
        }
    }
}

impl std::error::Error for Untrusted {}

/// Whose signatures count, and whether one is needed.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    keys: BTreeMap<KeyId, PublicKey>,
    required: bool,
}

impl Trust {
    pub fn new(keys: Vec<PublicKey>, required: bool) -> Result<Trust, FormatError> {
        if keys.len() > TRUSTED_KEYS_MAX {
            let rule = format!("at most {TRUSTED_KEYS_MAX} keys can be trusted");
            return Err(bad(rule));
        }
        let mut trust = Trust {
            keys: BTreeMap::new(),
            required,
        };
        for key in keys {
            let name = key.name.clone();
            if let Some(before) = trust.keys.insert(key.id(), key) {
                return Err(bad(format!("{name} is the same key as {}", before.name)));
            }
        }
        Ok(trust)
    }

    /// Who signed these bytes, or why they are refused. A trusted key's signature that does not fit
    /// is refused whether or not one is required.
    pub fn check(&self, bytes: &[u8], given: &Signatures) -> Result<Vec<Signer>, Untrusted> {
        let mut signers = Vec::new();
        for signature in given.iter() {
            let key = self.keys.get(&signature.key);
            if let Some(key) = key
                && !key.made(signature, bytes)
            {
                return Err(Untrusted::Bad {
                    key: signature.key,
                    name: key.name.clone(),
                });
            }
            signers.push(Signer {
                key: signature.key.to_string(),
                name: key.map(|k| k.name.clone()),
                trusted: key.is_some(),
            });
        }
        // Who counts stands first.
        signers.sort_by_key(|s| !s.trusted);
        if !self.required || signers.iter().any(|s| s.trusted) {
            return Ok(signers);
        }
        Err(match signers.is_empty() {
            true => Untrusted::Unsigned,
            false => Untrusted::Unknown {
                keys: given.iter().map(Signature::key).collect(),
            },
        })
    }

    /// How signers that were found under another configuration stand under this one: no more trusted
    /// than they were.
    pub fn again(&self, signers: &[Signer]) -> Vec<Signer> {
        let known = |signer: &Signer| KeyId::parse(&signer.key).and_then(|id| self.keys.get(&id));
        let stands = |signer: &Signer| {
            let key = known(signer).filter(|_| signer.trusted);
            Signer {
                key: signer.key.clone(),
                name: key.map(|k| k.name.clone()),
                trusted: key.is_some(),
            }
        };
        signers.iter().map(stands).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8, name: &str) -> SecretKey {
        SecretKey::new([seed; 32], name).unwrap()
    }

    fn signed(keys: &[&SecretKey], bytes: &[u8]) -> Signatures {
        let mut all = Signatures::default();
        for key in keys {
            all.add(key.sign(bytes)).unwrap();
        }
        all
    }

    fn trust(keys: &[&SecretKey], required: bool) -> Trust {
        Trust::new(keys.iter().map(|k| k.public()).collect(), required).unwrap()
    }

    /// RFC 8032, 7.1, TEST 2.
    #[test]
    fn the_algorithm_is_that_of_the_rfc() {
        let hex = |text: &str| -> Vec<u8> {
            let octet = |i: usize| u8::from_str_radix(&text[i..i + 2], 16).unwrap();
            (0..text.len()).step_by(2).map(octet).collect()
        };
        let seed = hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb");
        let key = SecretKey::new(seed.try_into().unwrap(), "rfc").unwrap();
        let public = hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert_eq!(key.public().bytes[..], public);
        let wanted = "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
            085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00";
        assert_eq!(key.sign(&[0x72]).bytes[..], hex(wanted));
    }

    #[test]
    fn a_good_signature_by_a_trusted_key_names_its_signer() {
        let ops = key(1, "ops");
        let signers = trust(&[&ops], true)
            .check(b"bytes", &signed(&[&ops], b"bytes"))
            .unwrap();
        assert_eq!(
            signers_text(&signers),
            format!("signed by ops ({})", ops.public().id())
        );
        assert!(signers[0].trusted);
    }

    #[test]
    fn a_wrong_signature_is_refused_even_where_none_is_required() {
        let (ops, dev) = (key(1, "ops"), key(2, "dev"));
        let mut given = signed(&[&ops], b"bytes");
        given.add(dev.sign(b"other bytes")).unwrap();
        for required in [false, true] {
            let why = trust(&[&ops, &dev], required).check(b"bytes", &given);
            assert!(matches!(why, Err(Untrusted::Bad { name, .. }) if name == "dev"));
        }
    }

    #[test]
    fn what_is_unsigned_or_signed_by_a_stranger_is_refused_where_a_signature_is_required() {
        let (ops, stranger) = (key(1, "ops"), key(9, "ops"));
        let by_stranger = signed(&[&stranger], b"bytes");
        let strict = trust(&[&ops], true);
        assert_eq!(
            strict.check(b"bytes", &Signatures::default()),
            Err(Untrusted::Unsigned)
        );
        let keys = vec![stranger.public().id()];
        assert_eq!(
            strict.check(b"bytes", &by_stranger),
            Err(Untrusted::Unknown { keys })
        );
        let easy = trust(&[&ops], false);
        assert_eq!(easy.check(b"bytes", &Signatures::default()), Ok(Vec::new()));
        let signers = easy.check(b"bytes", &by_stranger).unwrap();
        // Its own name for itself is not repeated: it calls itself ops.
        assert!(!signers[0].trusted && signers[0].name.is_none());
        assert!(signers_text(&signers).contains("not trusted"));
    }

    #[test]
    fn a_signature_under_another_keys_id_is_bad() {
        let (ops, other) = (key(1, "ops"), key(2, "other"));
        let forged = Signature {
            key: ops.public().id(),
            bytes: other.sign(b"bytes").bytes,
        };
        let mut given = Signatures::default();
        given.add(forged).unwrap();
        let why = trust(&[&ops], false).check(b"bytes", &given);
        assert!(matches!(why, Err(Untrusted::Bad { .. })));
    }

    #[test]
    fn lines_of_other_kinds_are_skipped_and_damaged_ones_are_errors() {
        let text = signed(&[&key(1, "ops")], b"bytes").text();
        let more = format!("# a comment\n\nmldsa 00 aa\n{text}trailing words\n");
        assert_eq!(Signatures::parse(&more), Signatures::parse(&text));
        for damaged in [
            "ed25519",
            "ed25519 0011223344556677",
            "ed25519 0011223344556677 AAAA",
            &text.replace(' ', " 0"),
            &text[..text.len() - 4],
        ] {
            let why = Signatures::parse(damaged).unwrap_err();
            assert!(why.0.starts_with("line 1:"), "{damaged}: {why}");
        }
    }

    #[test]
    fn keys_are_read_as_they_are_written_and_no_error_repeats_one() {
        let ops = key(1, "ops@acme");
        assert_eq!(PublicKey::parse(&ops.public().line()), Ok(ops.public()));
        let again = SecretKey::parse(&format!("{}\n", ops.line())).unwrap();
        assert_eq!(again.public(), ops.public());
        let file = format!(
            "# two\n{}\n\n{}\n",
            ops.public().line(),
            key(2, "b").public().line()
        );
        assert_eq!(PublicKey::parse_all(&file).map(|k| k.len()), Ok(2));
        // A secret key where a public one is expected.
        let why = PublicKey::parse(&ops.line()).unwrap_err();
        let secret = ops.line();
        let secret = secret.split(' ').nth(1).unwrap();
        assert!(!why.0.contains(secret), "{why}");
        assert!(PublicKey::parse_all("# nothing\n").is_err());
        assert!(SecretKey::new([0; 32], "two words").is_err());
    }

    #[test]
    fn the_same_key_cannot_be_trusted_under_two_names() {
        let keys = vec![key(1, "ops").public(), key(1, "dev").public()];
        let why = Trust::new(keys, false).unwrap_err();
        assert_eq!(why.0, "dev is the same key as ops");
    }

    #[test]
    fn a_signer_of_before_is_no_more_trusted_than_it_was() {
        let ops = key(1, "ops");
        let signer = |trusted| Signer {
            key: ops.public().id().to_string(),
            name: None,
            trusted,
        };
        let now = trust(&[&ops], false);
        assert_eq!(now.again(&[signer(true)])[0].name.as_deref(), Some("ops"));
        assert!(!now.again(&[signer(false)])[0].trusted);
        assert!(!Trust::default().again(&[signer(true)])[0].trusted);
    }

    proptest! {
        #[test]
        fn any_changed_bit_of_the_bytes_or_the_signature_is_found(
            bytes in proptest::collection::vec(any::<u8>(), 1..200),
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
        ) {
            let ops = key(1, "ops");
            let good = ops.sign(&bytes);
            prop_assert!(ops.public().made(&good, &bytes));
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(!ops.public().made(&good, &changed));
            let mut forged = good.clone();
            forged.bytes[at.index(64)] ^= 1 << bit;
            prop_assert!(!ops.public().made(&forged, &bytes));
        }

        #[test]
        fn what_is_written_is_read_again(seeds in proptest::collection::btree_set(any::<u8>(), 0..8)) {
            let keys: Vec<SecretKey> = seeds.iter().map(|s| key(*s, "k")).collect();
            let all = signed(&keys.iter().collect::<Vec<_>>(), b"bytes");
            prop_assert_eq!(Signatures::parse(&all.text()), Ok(all.clone()));
            for signature in all.iter() {
                prop_assert_eq!(&Signature::parse(&signature.header()).unwrap(), signature);
            }
        }

        #[test]
        fn no_text_breaks_the_readers(text in "(?s).{0,300}") {
            let _ = Signatures::parse(&text);
            let _ = Signatures::parse(&format!("ed25519 {text}"));
            let _ = Signature::parse(&text);
            let _ = PublicKey::parse_all(&text);
            let _ = SecretKey::parse(&text);
        }
    }
}

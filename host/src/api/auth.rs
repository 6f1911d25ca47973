//! Who is asking: bearer keys (RFC 6750), their account and scopes, and patience with wrong ones.
//! Holds digests only; a key's text is never kept. Knows headers, no routes.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::{Code, Problem};
use crate::domain::AccountId;
use crate::pipeline::{Account, Accounts};
use crate::smpp::server::network;

/// Wrong keys that one address may present in a minute before it is answered 429.
const BAD_KEYS_MAX: u32 = 20;
const BAD_KEYS_WINDOW: Duration = Duration::from_secs(60);
/// Addresses whose wrong keys are counted at once.
const BAD_KEYS_ADDRESSES_MAX: usize = 10_000;
/// Characters of a key at least and at most.
const KEY_MIN: usize = 16;
const KEY_MAX: usize = 256;

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    Send,
    Read,
    Admin,
}

impl Scope {
    pub fn name(self) -> &'static str {
        match self {
            Scope::Send => "send",
            Scope::Read => "read",
            Scope::Admin => "admin",
        }
    }
}

/// A key of the configuration.
#[derive(Clone)]
pub struct KeySpec {
    pub secret: String,
    pub account: AccountId,
    pub scopes: Vec<Scope>,
}

/// A set of keys that cannot be used. The texts name the account, never the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyError {
    /// Too short to be random, too long, or with characters that no header carries.
    Malformed(AccountId),
    /// Two keys are the same: whose would it be?
    Twice(AccountId, AccountId),
    UnknownAccount(AccountId),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeyError::Malformed(account) => write!(
                f,
                "a key of account {account} is malformed: a key has {KEY_MIN} to {KEY_MAX} visible ASCII characters, best hg_ and 64 random hexadecimal digits"
            ),
            KeyError::Twice(a, b) => write!(
                f,
                "accounts {a} and {b} have a key in common; each key has one account"
            ),
            KeyError::UnknownAccount(account) => {
                write!(f, "a key names account {account}, which is not configured")
            }
        }
    }
}

impl std::error::Error for KeyError {}

/// Whose request this is.
#[derive(Clone, Debug)]
pub struct Caller {
    pub account: Arc<Account>,
    scopes: u8,
    /// The first digits of the key's SHA-256: who did it, for histories.
    pub key_digest: [u8; 4],
}

impl Caller {
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes & bit(scope) != 0
    }

    /// `account` and a hint of the key, for the history of what was changed.
    pub fn name(&self) -> String {
        let [a, b, c, d] = self.key_digest;
        format!("{} (key {a:02x}{b:02x}{c:02x}{d:02x})", self.account.id)
    }

    pub fn require(&self, scope: Scope) -> Result<(), Problem> {
        if self.has(scope) {
            return Ok(());
        }
        let detail = format!("this key lacks the scope `{}`", scope.name());
        Err(Problem::new(Code::Forbidden, detail))
    }
}

/// All keys.
pub struct Keys {
    by_digest: HashMap<[u8; 32], (Caller, [u8; 32])>,
    bad: parking_lot::Mutex<HashMap<IpAddr, BadKeys>>,
}

struct BadKeys {
    since: Instant,
    count: u32,
}

impl Keys {
    pub fn new(
        keys: impl IntoIterator<Item = KeySpec>,
        accounts: &Accounts,
    ) -> Result<Keys, KeyError> {
        let mut by_digest: HashMap<[u8; 32], (Caller, [u8; 32])> = HashMap::new();
        for key in keys {
            if !well_formed(&key.secret) {
                return Err(KeyError::Malformed(key.account));
            }
            let Some(account) = accounts.get(&key.account).cloned() else {
                return Err(KeyError::UnknownAccount(key.account));
            };
            let digest: [u8; 32] = Sha256::digest(key.secret.as_bytes()).into();
            let [a, b, c, d, ..] = digest;
            let caller = Caller {
                account,
                scopes: key.scopes.iter().fold(0, |all, scope| all | bit(*scope)),
                key_digest: [a, b, c, d],
            };
            if let Some((other, _)) = by_digest.insert(digest, (caller, digest)) {
                return Err(KeyError::Twice(other.account.id.clone(), key.account));
            }
        }
        Ok(Keys {
            by_digest,
            bad: parking_lot::Mutex::default(),
        })
    }

    /// The caller behind the Authorization header. A good key always passes; wrong ones are counted.
    pub fn authenticate(
        &self,
        headers: &HeaderMap,
        from: IpAddr,
        now: Instant,
    ) -> Result<&Caller, Problem> {
        if !headers.contains_key(header::AUTHORIZATION) {
            let detail = "no API key: send the header `Authorization: Bearer KEY`";
            return Err(Problem::new(Code::Unauthorized, detail));
        }
        let known = self.known(headers);
        known.ok_or_else(|| self.count_bad(from, now))
    }

    /// Whose key this is, without judging anybody who has none.
    pub fn known(&self, headers: &HeaderMap) -> Option<&Caller> {
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else {
            return None;
        };
        let token = value
            .as_bytes()
            .split_at_checked(7)
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"Bearer "))
            .map(|(_, token)| token.trim_ascii())
            .filter(|token| (KEY_MIN..=KEY_MAX).contains(&token.len()))?;
        let digest: [u8; 32] = Sha256::digest(token).into();
        let (caller, stored) = self.by_digest.get(&digest)?;
        bool::from(stored.ct_eq(&digest)).then_some(caller)
    }

    fn count_bad(&self, from: IpAddr, now: Instant) -> Problem {
        let mut bad = self.bad.lock();
        if bad.len() >= BAD_KEYS_ADDRESSES_MAX {
            bad.retain(|_, b| now.duration_since(b.since) < BAD_KEYS_WINDOW);
            if bad.len() >= BAD_KEYS_ADDRESSES_MAX {
                bad.clear();
            }
        }
        let entry = bad.entry(network(from)).or_insert(BadKeys {
            since: now,
            count: 0,
        });
        if now.duration_since(entry.since) >= BAD_KEYS_WINDOW {
            *entry = BadKeys {
                since: now,
                count: 0,
            };
        }
        entry.count = entry.count.saturating_add(1);
        if entry.count > BAD_KEYS_MAX {
            let left = BAD_KEYS_WINDOW.saturating_sub(now.duration_since(entry.since));
            let detail = "too many wrong API keys from this address";
            return Problem::new(Code::TooManyBadKeys, detail).retry_after(left);
        }
        Problem::new(
            Code::Unauthorized,
            "the API key is not one of this server's",
        )
    }
}

/// A new key out of 32 random octets.
pub fn key_of(random: [u8; 32]) -> String {
    use std::fmt::Write as _;
    random.iter().fold(String::from("hg_"), |mut key, octet| {
        let _ = write!(key, "{octet:02x}");
        key
    })
}

fn well_formed(key: &str) -> bool {
    (KEY_MIN..=KEY_MAX).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

fn bit(scope: Scope) -> u8 {
    match scope {
        Scope::Send => 1,
        Scope::Read => 2,
        Scope::Admin => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TrafficClass;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn accounts() -> Accounts {
        Accounts::new([Account {
            id: AccountId::from("acme"),
            default_class: TrafficClass::Transactional,
            receipt_url: None,
            inbound_url: None,
            inbound_esme: None,
            webhook_secret: None,
            numbers: Vec::new(),
            throughput: None,
            text: crate::domain::text::TextWish::default(),
            silent: false,
        }])
    }

    fn spec(secret: &str, scopes: &[Scope]) -> KeySpec {
        KeySpec {
            secret: secret.to_owned(),
            account: AccountId::from("acme"),
            scopes: scopes.to_vec(),
        }
    }

    fn keys() -> (Keys, String) {
        let key = key_of([7; 32]);
        (
            Keys::new([spec(&key, &[Scope::Send])], &accounts()).unwrap(),
            key,
        )
    }

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, value.parse().unwrap());
        headers
    }

    fn status(result: Result<&Caller, Problem>) -> u16 {
        result.map_or_else(|p| p.status.as_u16(), |_| 200)
    }

    #[test]
    fn a_new_key_has_256_bits_and_its_prefix() {
        let key = key_of([0xAB; 32]);
        assert_eq!(key.len(), 3 + 64);
        assert!(key.starts_with("hg_abab"));
    }

    #[test]
    fn a_key_names_its_account_and_scopes() {
        let (keys, key) = keys();
        let headers = with(&format!("bearer {key}"));
        let caller = keys.authenticate(&headers, HERE, Instant::now()).unwrap();
        assert_eq!(caller.account.id.as_str(), "acme");
        assert!(caller.require(Scope::Send).is_ok());
        let problem = caller.require(Scope::Admin).unwrap_err();
        assert_eq!(problem.status.as_u16(), 403);
        assert!(problem.body.detail.contains("`admin`"));
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let (keys, key) = keys();
        let now = Instant::now();
        assert_eq!(status(keys.authenticate(&HeaderMap::new(), HERE, now)), 401);
        for value in [
            "",
            "Bearer",
            "Bearer ",
            "Basic dXNlcjpwYXNz",
            "Bearer hg_00",
            &key,
        ] {
            assert_eq!(
                status(keys.authenticate(&with(value), HERE, now)),
                401,
                "{value}"
            );
        }
        let mut twice = with(&format!("Bearer {key}"));
        twice.append(header::AUTHORIZATION, "Bearer hg_other".parse().unwrap());
        assert_eq!(status(keys.authenticate(&twice, HERE, now)), 401);
        let longer = format!("Bearer {key}0");
        assert_eq!(status(keys.authenticate(&with(&longer), HERE, now)), 401);
    }

    #[test]
    fn after_twenty_wrong_keys_an_address_waits_and_a_good_key_still_passes() {
        let (keys, key) = keys();
        let wrong = with("Bearer hg_wrong_wrong_wrong");
        let start = Instant::now();
        for _ in 0..BAD_KEYS_MAX {
            assert_eq!(status(keys.authenticate(&wrong, HERE, start)), 401);
        }
        let problem = keys.authenticate(&wrong, HERE, start).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.retry_after),
            (429, Some(BAD_KEYS_WINDOW))
        );
        let elsewhere = IpAddr::from([10, 0, 0, 1]);
        assert_eq!(status(keys.authenticate(&wrong, elsewhere, start)), 401);
        let good = with(&format!("Bearer {key}"));
        assert_eq!(status(keys.authenticate(&good, HERE, start)), 200);
        assert_eq!(
            status(keys.authenticate(&wrong, HERE, start + BAD_KEYS_WINDOW)),
            401
        );
    }

    #[test]
    fn addresses_of_one_ipv6_subscriber_count_as_one() {
        let a: IpAddr = "2001:db8:1:2::1".parse().unwrap();
        let b: IpAddr = "2001:db8:1:2:ffff::9".parse().unwrap();
        assert_eq!(network(a), network(b));
        assert_eq!(
            network("::ffff:10.0.0.1".parse().unwrap()),
            IpAddr::from([10, 0, 0, 1])
        );
    }

    #[test]
    fn a_set_of_keys_without_sense_is_refused() {
        let key = key_of([1; 32]);
        let refused = |specs: Vec<KeySpec>| Keys::new(specs, &accounts()).err();
        let acme = AccountId::from("acme");
        assert_eq!(
            refused(vec![spec("short", &[])]),
            Some(KeyError::Malformed(acme.clone()))
        );
        assert_eq!(
            refused(vec![spec(&key, &[]), spec(&key, &[])]),
            Some(KeyError::Twice(acme.clone(), acme))
        );
        let stranger = KeySpec {
            account: AccountId::from("x"),
            ..spec(&key, &[])
        };
        assert_eq!(
            refused(vec![stranger]),
            Some(KeyError::UnknownAccount(AccountId::from("x")))
        );
    }
}

//! The opt-out registry: who must not be written to. Answers from memory, because the host asks
//! after every decision; what is stored is in the main tree. Knows no keyword and no plugin.

use std::collections::HashSet;

use parking_lot::RwLock;

use super::keys::{self, Key};
use super::records;
use super::sealing::Names;
use super::seeded::{BuildAsIs, Seed};
use super::types::{OptOut, OptOutScope};
use crate::domain::{AccountId, WishScope};

pub(super) struct OptOuts {
    seed: Seed,
    opted: RwLock<HashSet<u64, BuildAsIs>>,
}

const SCOPES: [&str; 3] = ["number", "account", "everything"];

fn scope_parts(scope: &OptOutScope) -> (WishScope, &str) {
    match scope {
        OptOutScope::Number(number) => (WishScope::Number, number),
        OptOutScope::Account(account) => (WishScope::Account, account.as_str()),
        OptOutScope::Everything => (WishScope::Everything, ""),
    }
}

impl OptOuts {
    pub fn new(seed: Seed) -> OptOuts {
        OptOuts {
            seed,
            opted: RwLock::default(),
        }
    }

    pub fn set(&self, scope: &OptOutScope, recipient: &str, opted: bool) {
        let (kind, name) = scope_parts(scope);
        let hash = self.hash(kind, name, recipient);
        let mut set = self.opted.write();
        if opted {
            set.insert(hash);
        } else {
            set.remove(&hash);
        }
    }

    pub fn is_opted_out(&self, account: &AccountId, originator: &str, recipient: &str) -> bool {
        let set = self.opted.read();
        !set.is_empty()
            && (set.contains(&self.hash(WishScope::Number, originator, recipient))
                || set.contains(&self.hash(WishScope::Account, account.as_str(), recipient))
                || set.contains(&self.hash(WishScope::Everything, "", recipient)))
    }

    pub fn len(&self) -> usize {
        self.opted.read().len()
    }

    fn hash(&self, scope: WishScope, name: &str, recipient: &str) -> u64 {
        self.seed.hash(&[SCOPES[scope as usize], name, recipient])
    }
}

pub(super) fn key(names: &Names, scope: &OptOutScope, recipient: &str) -> Key {
    let (kind, name) = scope_parts(scope);
    keys::wish(names, kind as u8, name, recipient)
}

pub(super) fn value(names: &Names, scope: &OptOutScope, recipient: &str, wish: Vec<u8>) -> Vec<u8> {
    keys::named(names, scope_parts(scope).1, recipient, wish)
}

/// `None` where the entry records that somebody opted in again, or cannot be read.
pub(super) fn entry(names: &Names, key: &[u8], value: &[u8]) -> Option<OptOut> {
    let (scope, name, recipient, wish) = keys::wish_parts(names, key, value)?;
    let (opted, at, source) = records::decode_wish(wish).ok()?;
    let scope = match scope {
        0 => OptOutScope::Number(name),
        1 => OptOutScope::Account(AccountId::from(name.as_str())),
        2 => OptOutScope::Everything,
        _ => return None,
    };
    opted.then_some(OptOut {
        scope,
        recipient,
        at,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_reaches_as_far_as_it_says() {
        let registry = OptOuts::new(Seed(1));
        let (acme, bolt) = (AccountId::from("acme"), AccountId::from("bolt"));
        registry.set(&OptOutScope::Number("60777".into()), "1", true);
        registry.set(&OptOutScope::Account(acme.clone()), "2", true);
        registry.set(&OptOutScope::Everything, "3", true);
        let ask =
            |account: &AccountId, from: &str, to: &str| registry.is_opted_out(account, from, to);
        assert_eq!(
            [
                ask(&acme, "60777", "1"),
                ask(&acme, "Acme", "1"),
                ask(&bolt, "60777", "1")
            ],
            [true, false, true]
        );
        assert_eq!(
            [ask(&acme, "60777", "2"), ask(&bolt, "60777", "2")],
            [true, false]
        );
        assert_eq!(
            [
                ask(&acme, "Acme", "3"),
                ask(&bolt, "60777", "3"),
                ask(&bolt, "60777", "4")
            ],
            [true, true, false]
        );
    }

    #[test]
    fn opting_in_again_ends_it() {
        let registry = OptOuts::new(Seed(1));
        registry.set(&OptOutScope::Everything, "3", true);
        registry.set(&OptOutScope::Everything, "3", false);
        assert!(!registry.is_opted_out(&AccountId::from("acme"), "x", "3"));
    }
}

//! The sender registry: who may be the originator in a country. Knows the configured list only; that a name is
//! registered with the country's operators is for the operator of this platform to see to.

use std::collections::BTreeMap;

use heliograph_plugin::{Address, TypeOfNumber};

use crate::config::{Class, SenderPolicy, Senders};

/// One country's registry, ready to ask.
#[derive(Debug)]
pub struct Registry {
    policy: SenderPolicy,
    exempt: Vec<Class>,
    /// Originator in comparable form to the accounts that may use it; none listed means all.
    registered: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    NotRegistered,
    Alphanumeric,
}

impl Registry {
    /// The error names the entry.
    pub fn new(senders: &Senders) -> Result<Self, String> {
        if senders.registered.is_empty() && senders.policy == SenderPolicy::Registered {
            return Err(
                "policy `registered` without a `registered` originator refuses everything"
                    .to_owned(),
            );
        }
        let mut registered: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for sender in &senders.registered {
            let key = comparable(&sender.originator);
            if key.is_empty() {
                return Err("`registered` has an empty `originator`".to_owned());
            }
            let known = registered.contains_key(&key);
            let accounts = registered.entry(key).or_default();
            // Listed for all accounts once means for all.
            if sender.accounts.is_empty() || (known && accounts.is_empty()) {
                accounts.clear();
            } else {
                accounts.extend(sender.accounts.iter().cloned());
            }
        }
        Ok(Self {
            policy: senders.policy,
            exempt: senders.exempt.clone(),
            registered,
        })
    }

    pub fn fault(&self, originator: &Address, account: &str, class: Class) -> Option<Fault> {
        if self.exempt.contains(&class) {
            return None;
        }
        let is_name = originator.ton == TypeOfNumber::Alphanumeric;
        match self.policy {
            SenderPolicy::Any => None,
            SenderPolicy::NumericOnly => is_name.then_some(Fault::Alphanumeric),
            SenderPolicy::AlphanumericRegistered if !is_name => None,
            SenderPolicy::AlphanumericRegistered | SenderPolicy::Registered => {
                (!self.is_registered(&originator.value, account)).then_some(Fault::NotRegistered)
            }
        }
    }

    fn is_registered(&self, originator: &str, account: &str) -> bool {
        let accounts = self.registered.get(&comparable(originator));
        accounts.is_some_and(|accounts| {
            accounts.is_empty() || accounts.iter().any(|listed| listed == account)
        })
    }
}

/// Operators compare names without regard to case; digits come with and without '+'.
fn comparable(originator: &str) -> String {
    let trimmed = originator.trim();
    trimmed.strip_prefix('+').unwrap_or(trimmed).to_lowercase()
}

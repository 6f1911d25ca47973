//! Accounts: whose messages these are, what they may do, where their receipts go.

use std::collections::HashMap;
use std::sync::Arc;

use crate::domain::{AccountId, TrafficClass};

/// One account of the configuration.
#[derive(Clone, Debug)]
pub struct Account {
    pub id: AccountId,
    /// Class of messages that name none.
    pub default_class: TrafficClass,
    /// Where receipts go that name no `receipt_url` themselves.
    pub receipt_url: Option<String>,
    /// Where mobile-originated messages go.
    pub inbound_url: Option<String>,
    /// Signs webhooks (Standard Webhooks: `whsec_` and base64).
    pub webhook_secret: Option<WebhookSecret>,
    /// Numbers whose mobile-originated messages belong to this account.
    pub numbers: Vec<String>,
    /// Submissions per second; none: no limit.
    pub throughput: Option<u32>,
}

/// The key that signs an account's webhooks. Its text never reaches a log.
#[derive(Clone)]
pub struct WebhookSecret(pub Vec<u8>);

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WebhookSecret(..)")
    }
}

/// All accounts, and who owns which number.
#[derive(Debug, Default)]
pub struct Accounts {
    by_id: HashMap<AccountId, Arc<Account>>,
    by_number: HashMap<String, Arc<Account>>,
}

impl Accounts {
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Accounts {
        let mut all = Accounts::default();
        for account in accounts {
            let account = Arc::new(account);
            for number in &account.numbers {
                all.by_number
                    .insert(number.trim_start_matches('+').to_owned(), account.clone());
            }
            all.by_id.insert(account.id.clone(), account);
        }
        all
    }

    pub fn get(&self, id: &AccountId) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    /// The account that a mobile-originated message to `number` belongs to.
    pub fn owner_of(&self, number: &str) -> Option<&Arc<Account>> {
        self.by_number.get(number).or_else(|| {
            // With one account there is no doubt.
            let mut all = self.by_id.values();
            all.next().filter(|_| all.next().is_none())
        })
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.by_id.values()
    }
}

//! Accounts: whose messages these are, what they may do, where their receipts go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::inbound_routes::InboundRoutes;
use crate::domain::text::TextWish;
use crate::domain::{AccountId, Body, Inbound, TrafficClass};

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
    /// The system_id whose binds they are delivered to, beside the URL where there is one too.
    pub inbound_esme: Option<Arc<str>>,
    /// Signs webhooks (Standard Webhooks: `whsec_` and base64).
    pub webhook_secret: Option<WebhookSecret>,
    /// Numbers whose mobile-originated messages belong to this account, but for those that an inbound
    /// route gives to another.
    pub numbers: Vec<String>,
    /// Submissions per second; none: no limit.
    pub throughput: Option<u32>,
    /// In which encodings texts may travel whose messages do not say.
    pub text: TextWish,
    /// May send what its phone shows nobody.
    pub silent: bool,
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
    routes: Arc<InboundRoutes>,
    limiters: HashMap<AccountId, Limiter>,
}

/// A second's worth may come at once; beyond that, `throughput` a second (GCRA).
#[derive(Debug)]
pub struct Limiter {
    interval: Duration,
    /// When the bucket will be empty again.
    until: parking_lot::Mutex<Option<Instant>>,
}

impl Limiter {
    const BURST: Duration = Duration::from_secs(1);

    pub fn new(per_second: u32) -> Limiter {
        Limiter {
            interval: Duration::from_secs(1) / per_second.max(1),
            until: parking_lot::Mutex::new(None),
        }
    }

    /// Counts one; the error is how long to wait.
    pub fn admit(&self, now: Instant) -> Result<(), Duration> {
        let mut until = self.until.lock();
        let from = until.map_or(now, |u| u.max(now));
        let next = from + self.interval;
        let ahead = next.duration_since(now);
        if ahead > Limiter::BURST {
            return Err(ahead - Limiter::BURST);
        }
        *until = Some(next);
        Ok(())
    }
}

impl Accounts {
    pub fn new(accounts: impl IntoIterator<Item = Account>) -> Accounts {
        let mut all = Accounts::default();
        for account in accounts {
            let account = Arc::new(account);
            if let Some(throughput) = account.throughput {
                all.limiters
                    .insert(account.id.clone(), Limiter::new(throughput));
            }
            all.by_id.insert(account.id.clone(), account);
        }
        all
    }

    pub fn get(&self, id: &AccountId) -> Option<&Arc<Account>> {
        self.by_id.get(id)
    }

    /// Which texts are whose, beside what the accounts' own numbers say.
    pub fn with_routes(mut self, routes: Arc<InboundRoutes>) -> Accounts {
        self.routes = routes;
        self
    }

    /// The account that a mobile-originated message is for.
    pub fn owner_of(&self, inbound: &Inbound) -> Option<&Arc<Account>> {
        let text = match &inbound.body {
            Body::Text(text) => Some(text.as_str()),
            Body::Binary { .. } => None,
        };
        let number = &inbound.recipient.value;
        let routed = self.routes.find(&inbound.carrier, number, text);
        routed.and_then(|id| self.by_id.get(id)).or_else(|| {
            // With one account there is no doubt.
            let mut all = self.by_id.values();
            all.next().filter(|_| all.next().is_none())
        })
    }

    /// Counts one submission against the account's throughput; the error is how long to wait.
    pub fn admit(&self, id: &AccountId, now: Instant) -> Result<(), Duration> {
        self.limiters.get(id).map_or(Ok(()), |l| l.admit(now))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.by_id.values()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_never_exceeds_its_throughput_in_any_second_by_more_than_its_burst() {
        let limiter = Limiter::new(10);
        let start = Instant::now();
        let taken = (0..3000)
            .filter(|ms| limiter.admit(start + Duration::from_millis(*ms)).is_ok())
            .count();
        assert!((39..=41).contains(&taken), "{taken}");
    }

    fn account(id: &str) -> Account {
        Account {
            id: AccountId::from(id),
            default_class: TrafficClass::Transactional,
            receipt_url: None,
            inbound_url: None,
            inbound_esme: None,
            webhook_secret: None,
            numbers: Vec::new(),
            throughput: None,
            text: TextWish::default(),
            silent: false,
        }
    }

    fn text_to(number: &str) -> Inbound {
        Inbound {
            id: crate::domain::MessageId(1),
            carrier: "north".into(),
            originator: crate::domain::Address::international("+447700900123").unwrap(),
            recipient: crate::domain::Address::originator(number).unwrap(),
            body: Body::Text("win".to_owned()),
            received_at: crate::clock::Timestamp(0),
            opted_out: false,
        }
    }

    #[test]
    fn a_text_is_for_the_account_that_its_route_names() {
        use super::super::inbound_routes::{InboundRoute, Keyword, NumberPattern};
        let route = |number: &str, keyword: Option<&str>, account: &str| InboundRoute {
            number: NumberPattern::parse(number).unwrap(),
            keyword: keyword.map(|k| Keyword::parse(k).unwrap()),
            carrier: None,
            account: AccountId::from(account),
        };
        let routes = vec![route("60777", None, "a"), route("60777", Some("WIN"), "b")];
        let accounts = Accounts::new([account("a"), account("b")])
            .with_routes(Arc::new(InboundRoutes::new(routes).unwrap()));
        let owner = |n: &str| accounts.owner_of(&text_to(n)).map(|a| a.id.to_string());
        assert_eq!(owner("60777").as_deref(), Some("b"));
        assert_eq!(owner("12345"), None);
        let one = Accounts::new([account("a")]);
        assert!(one.owner_of(&text_to("12345")).is_some());
    }
}

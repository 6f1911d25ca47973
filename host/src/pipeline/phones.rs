//! Phones that were away and are back (alert_notification, SMPP 3.4, 4.12.1): what waits for its next
//! attempt to one is tried at once, and ESMEs that asked to hear of it (set_dpf) are told. Who asked
//! is kept until they were told, or for three days.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};

use super::{Pipeline, stopped};
use crate::carrier::Availability;
use crate::clock::Timestamp;
use crate::domain::receipt::{same_subscriber, subscriber_key};
use crate::domain::{
    Address, CarrierId, Message, MessageId, NumberingPlan, Returned, TypeOfNumber,
};
use crate::store::StoreError;

/// Wishes that are kept, of all ESMEs and of one.
const WISHES_MAX: usize = 100_000;
const WISHES_PER_ESME_MAX: usize = 10_000;
const WISH_AGE: Duration = Duration::from_secs(72 * 3_600);
/// A wish that is repeated is written again after that.
const WISH_RENEWED_AFTER: Duration = Duration::from_secs(3_600);
/// Phones that are back and have not been looked for yet.
const RETURNED_MAX: usize = 4_096;
/// Waiting messages that are looked at for all phones that came back meanwhile.
const LOOKS_MAX: usize = 50_000;
/// Between two searches.
const SEARCH_PAUSE: Duration = Duration::from_millis(500);
/// How often old wishes are forgotten.
const TIDY: Duration = Duration::from_secs(600);
/// Alerts on their way to ESMEs.
const FEED_MAX: usize = 1_024;
const META: &str = "phone/";

/// An ESME's wish to hear when a phone is back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub system_id: Arc<str>,
    pub handset: Address,
    /// What the ESME called itself.
    pub asker: Address,
}

/// What an ESME is to be told.
#[derive(Clone, Debug)]
pub struct Alert {
    pub wish: Wish,
    pub availability: Availability,
}

/// What is known of phones that are away. One per server.
pub struct Phones {
    wishes: Mutex<Wishes>,
    returned: Mutex<HashSet<Returned>>,
    wake: Notify,
    feed: broadcast::Sender<Alert>,
    pub counts: PhoneCounts,
}

/// Since the server started.
#[derive(Debug, Default)]
pub struct PhoneCounts {
    /// Messages whose next attempt was brought forward.
    pub hurried: AtomicU64,
    /// Wishes that found no room.
    pub wishes_dropped: AtomicU64,
    /// Phones for which there was no room among those to be looked for.
    pub returned_dropped: AtomicU64,
}

impl Default for Phones {
    fn default() -> Phones {
        Phones {
            wishes: Mutex::default(),
            returned: Mutex::default(),
            wake: Notify::new(),
            feed: broadcast::channel(FEED_MAX).0,
            counts: PhoneCounts::default(),
        }
    }
}

impl Phones {
    pub fn alerts(&self) -> broadcast::Receiver<Alert> {
        self.feed.subscribe()
    }

    /// Wishes that are kept just now.
    pub fn wishes(&self) -> usize {
        self.wishes.lock().count
    }
}

/// Looks for what waits for phones that came back, until `stop` turns true.
pub async fn run(pipeline: Arc<Pipeline>, mut stop: watch::Receiver<bool>) {
    let mut tidy = tokio::time::interval(TIDY);
    loop {
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            _ = tidy.tick() => {
                pipeline.forget_old_wishes().await;
                continue;
            }
            () = pipeline.phones.wake.notified() => {}
        }
        let returned = std::mem::take(&mut *pipeline.phones.returned.lock());
        if let Err(error) = pipeline.hurry(returned.into_iter().collect()).await {
            tracing::warn!(%error, "messages to phones that are back keep their time");
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(SEARCH_PAUSE) => {}
        }
    }
}

impl Pipeline {
    /// A carrier told of a handset.
    pub(super) fn heard_of_phone(
        &self,
        carrier: CarrierId,
        handset: String,
        availability: Availability,
    ) {
        let wishes = self.phones.wishes.lock().about(&handset);
        for wish in wishes {
            // Nobody listens where there is no SMPP server.
            let _ = self.phones.feed.send(Alert { wish, availability });
        }
        if availability != Availability::Available || subscriber_key(&handset).is_empty() {
            return;
        }
        let mut returned = self.phones.returned.lock();
        if returned.len() >= RETURNED_MAX {
            let dropped = &self.phones.counts.returned_dropped;
            dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        returned.insert(Returned { carrier, handset });
        drop(returned);
        self.phones.wake.notify_one();
    }

    /// Brings forward what waits for these phones.
    async fn hurry(&self, returned: Vec<Returned>) -> Result<(), StoreError> {
        let mut by_key: HashMap<String, Vec<Returned>> = HashMap::new();
        // The lanes of those who told come first, should there be too much to look at.
        let told: HashSet<CarrierId> = returned.iter().map(|r| r.carrier.clone()).collect();
        for phone in returned {
            let key = subscriber_key(&phone.handset);
            by_key.entry(key).or_default().push(phone);
        }
        let by_key = Arc::new(by_key);
        let mut lanes: Vec<CarrierId> = self.carriers.iter().map(|c| c.id().clone()).collect();
        lanes.sort_by_key(|lane| !told.contains(lane));
        let (now, mut left) = (self.clock.now(), LOOKS_MAX);
        for lane in lanes {
            let phones = by_key.clone();
            let waits = move |message: &Message| phone_of(&phones, message).is_some();
            let (ids, looks) = self.store.find_later(lane, now, left, waits).await?;
            left -= looks;
            for id in ids {
                self.hurry_one(id, by_key.clone()).await;
            }
            if left == 0 {
                tracing::info!("more messages wait than are looked at for phones that are back");
                break;
            }
        }
        Ok(())
    }

    async fn hurry_one(&self, id: MessageId, phones: Arc<HashMap<String, Vec<Returned>>>) {
        let now = self.clock.now();
        let change = move |message: &mut Message| {
            let phone = phone_of(&phones, message).cloned();
            phone.is_some_and(|phone| message.recipient_returned(now, &phone))
        };
        // What is gone or being sent just now needs no hurrying.
        if self.store.update(id, change).await == Ok(true) {
            self.phones.counts.hurried.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Keeps the wish of a message that found its handset away.
    pub(super) async fn keep_wish_for_alert(&self, message: &Message) {
        let Some(system_id) = message.source.system_id() else {
            return;
        };
        let wish = Wish {
            system_id: system_id.into(),
            handset: message.recipient.clone(),
            asker: message.originator.clone(),
        };
        let now = self.clock.now();
        let fresh = format!("{META}{:016x}{:016x}", now.0, self.random_u64());
        let kept = self.phones.wishes.lock().keep(wish.clone(), now, fresh);
        let key = match kept {
            Kept::Fresh(key) => key,
            Kept::Known => return,
            Kept::NoRoom => {
                let dropped = &self.phones.counts.wishes_dropped;
                dropped.fetch_add(1, Ordering::Relaxed);
                return;
            }
        };
        if let Err(error) = self.store.put_meta(&key, stored(&wish, now)).await {
            tracing::warn!(%error, "a wish to be alerted is kept in memory alone");
        }
    }

    /// The ESME was told.
    pub async fn wish_granted(&self, wish: &Wish) {
        let forgotten = self.phones.wishes.lock().forget(wish);
        if let Some(key) = forgotten {
            self.forget_stored_wish(&key).await;
        }
    }

    /// The number is to be forgotten.
    pub(super) async fn forget_wishes_about(&self, number: &str) {
        let wishes = self.phones.wishes.lock().about(number);
        for wish in wishes.iter().filter(|w| w.handset.value == number) {
            self.wish_granted(wish).await;
        }
    }

    async fn forget_old_wishes(&self) {
        let old = self.phones.wishes.lock().forget_old(self.clock.now());
        for key in old {
            self.forget_stored_wish(&key).await;
        }
    }

    async fn forget_stored_wish(&self, key: &str) {
        if let Err(error) = self.store.delete_meta(key).await {
            tracing::warn!(%error, "a wish to be alerted could not be forgotten");
        }
    }

    /// Wishes of before the restart.
    pub(super) async fn restore_wishes(&self) {
        let stored = match self.store.scan_meta(META, WISHES_MAX).await {
            Ok(stored) => stored,
            Err(error) => {
                tracing::error!(%error, "wishes to be alerted cannot be read");
                return;
            }
        };
        let mut wishes = self.phones.wishes.lock();
        for (key, value) in stored {
            if let Some((wish, at)) = wish_of(&value) {
                wishes.keep(wish, at, key);
            }
        }
    }
}

fn phone_of<'a>(
    phones: &'a HashMap<String, Vec<Returned>>,
    message: &Message,
) -> Option<&'a Returned> {
    let near = phones.get(&subscriber_key(&message.recipient.value))?;
    near.iter().find(|phone| message.waits_for(phone))
}

/// The value of a wish: its time, and names that end in NUL. Nothing of it stands in the key, which no
/// store seals.
fn stored(wish: &Wish, at: Timestamp) -> Vec<u8> {
    let (handset, asker) = (&wish.handset, &wish.asker);
    let [a, b] = [handset, asker].map(|address| {
        let (ton, npi) = (address.ton as u8, address.npi as u8);
        format!("{ton}\0{npi}\0{}", address.value)
    });
    let names = format!("{}\0{a}\0{b}", wish.system_id);
    [&at.0.to_be_bytes()[..], names.as_bytes()].concat()
}

fn wish_of(value: &[u8]) -> Option<(Wish, Timestamp)> {
    let (at, names) = value.split_first_chunk::<8>()?;
    let parts: Vec<&str> = std::str::from_utf8(names).ok()?.split('\0').collect();
    let address = |ton: &str, npi: &str, value: &str| {
        Some(Address {
            ton: TypeOfNumber::from_u8(ton.parse().ok()?),
            npi: NumberingPlan::from_u8(npi.parse().ok()?),
            value: value.to_owned(),
        })
    };
    let [system_id, ton, npi, handset, its_ton, its_npi, asker] = parts[..] else {
        return None;
    };
    let wish = Wish {
        system_id: system_id.into(),
        handset: address(ton, npi, handset)?,
        asker: address(its_ton, its_npi, asker)?,
    };
    Some((wish, Timestamp(u64::from_be_bytes(*at))))
}

/// Who wants to hear of which phone.
#[derive(Debug, Default)]
struct Wishes {
    by_subscriber: HashMap<String, Vec<Known>>,
    by_esme: HashMap<Arc<str>, usize>,
    count: usize,
}

#[derive(Debug)]
struct Known {
    wish: Wish,
    at: Timestamp,
    /// Under which it is stored.
    key: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kept {
    /// To be written under this key.
    Fresh(String),
    Known,
    NoRoom,
}

impl Wishes {
    /// `fresh`: the key of one that is not known yet.
    fn keep(&mut self, wish: Wish, now: Timestamp, fresh: String) -> Kept {
        let subscriber = subscriber_key(&wish.handset.value);
        let known = self.by_subscriber.get_mut(&subscriber);
        let known = known.and_then(|all| all.iter_mut().find(|k| k.wish == wish));
        if let Some(known) = known {
            if now.since(known.at) < WISH_RENEWED_AFTER {
                return Kept::Known;
            }
            known.at = now;
            return Kept::Fresh(known.key.clone());
        }
        let of_esme = self.by_esme.entry(wish.system_id.clone()).or_default();
        if *of_esme >= WISHES_PER_ESME_MAX || self.count >= WISHES_MAX || subscriber.is_empty() {
            return Kept::NoRoom;
        }
        *of_esme += 1;
        self.count += 1;
        let known = Known {
            wish,
            at: now,
            key: fresh.clone(),
        };
        self.by_subscriber
            .entry(subscriber)
            .or_default()
            .push(known);
        Kept::Fresh(fresh)
    }

    fn about(&self, handset: &str) -> Vec<Wish> {
        let near = self.by_subscriber.get(&subscriber_key(handset));
        let near = near.map_or(&[][..], Vec::as_slice).iter();
        near.filter(|known| same_subscriber(&known.wish.handset.value, handset))
            .map(|known| known.wish.clone())
            .collect()
    }

    /// The key under which it was stored.
    fn forget(&mut self, wish: &Wish) -> Option<String> {
        let subscriber = subscriber_key(&wish.handset.value);
        let all = self.by_subscriber.get_mut(&subscriber)?;
        let place = all.iter().position(|known| known.wish == *wish)?;
        let known = all.swap_remove(place);
        if all.is_empty() {
            self.by_subscriber.remove(&subscriber);
        }
        self.count -= 1;
        if let Some(of_esme) = self.by_esme.get_mut(&wish.system_id) {
            *of_esme -= 1;
        }
        Some(known.key)
    }

    /// The keys of those that are too old.
    fn forget_old(&mut self, now: Timestamp) -> Vec<String> {
        let all = self.by_subscriber.values().flatten();
        let old = all.filter(|known| now.since(known.at) >= WISH_AGE);
        let old: Vec<Wish> = old.map(|known| known.wish.clone()).collect();
        old.iter().filter_map(|wish| self.forget(wish)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn wish(system_id: &str, handset: &str) -> Wish {
        Wish {
            system_id: system_id.into(),
            handset: Address::international(handset).expect("a number"),
            asker: Address::originator("Acme").expect("a sender"),
        }
    }

    #[test]
    fn wishes_are_found_by_any_writing_of_the_number_and_granted_once() {
        let mut wishes = Wishes::default();
        let (mine, other) = (wish("app", "+447700900123"), wish("b", "+447700900123"));
        let key = |name: &str| name.to_owned();
        let fresh = |name: &str| Kept::Fresh(name.to_owned());
        assert_eq!(wishes.keep(mine.clone(), NOW, key("a")), fresh("a"));
        assert_eq!(wishes.keep(mine.clone(), NOW, key("b")), Kept::Known);
        let later = NOW.plus(WISH_RENEWED_AFTER);
        assert_eq!(wishes.keep(mine.clone(), later, key("c")), fresh("a"));
        assert_eq!(wishes.keep(other.clone(), NOW, key("d")), fresh("d"));
        for writing in ["447700900123", "+447700900123", "07700900123"] {
            assert_eq!(wishes.about(writing), [mine.clone(), other.clone()]);
        }
        assert!(wishes.about("447700900124").is_empty());
        assert!(wishes.about("").is_empty());
        assert_eq!(wishes.forget(&mine), Some(key("a")));
        assert_eq!(wishes.forget(&mine), None);
        assert_eq!(wishes.about("447700900123"), [other]);
        assert_eq!(wishes.count, 1);
    }

    #[test]
    fn wishes_are_bounded_for_each_esme_and_forgotten_with_age() {
        let mut wishes = Wishes::default();
        for n in 0..WISHES_PER_ESME_MAX + 5 {
            wishes.keep(wish("greedy", &format!("+4477{n:08}")), NOW, n.to_string());
        }
        assert_eq!(wishes.count, WISHES_PER_ESME_MAX);
        let kept = wishes.keep(wish("app", "+447700900123"), NOW, "app".to_owned());
        assert_eq!(kept, Kept::Fresh("app".to_owned()));
        assert!(wishes.forget_old(NOW.plus(WISH_AGE / 2)).is_empty());
        let old = wishes.forget_old(NOW.plus(WISH_AGE));
        assert_eq!(old.len(), WISHES_PER_ESME_MAX + 1);
        assert_eq!((wishes.count, wishes.by_subscriber.len()), (0, 0));
    }

    #[test]
    fn a_stored_wish_reads_back() {
        let wish = wish("app", "+447700900123");
        assert_eq!(wish_of(&stored(&wish, NOW)), Some((wish, NOW)));
        assert_eq!(wish_of(b"garbage"), None);
        assert_eq!(wish_of(b"more garbage of that kind"), None);
    }
}
